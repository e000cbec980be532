"""Driving a server over HTTP gives the same results as in process, whatever becomes of requests and answers on their way."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import Enum, auto
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit

import pytest

from ome.domain.enums import Side
from ome.domain.numbers import format_number, parse, value_of
from ome.replay import http_driver
from ome.replay.driver import Entry, Market
from ome.replay.errors import ReplayError
from ome.replay.flow import Fill, read_rows
from ome.replay.generate import generate
from ome.replay.http_connection import ConnectionLost, HttpConnection
from ome.replay.http_driver import HttpDriver
from ome.replay.replayer import replay
from ome.replay.verify import read_expected
from unit.replay.naive_driver import ListDriver, ListedOrder

MARKET = Market.of_text("TEST", "0.25", "1")
STATUS_TEXT = {200: "OK", 201: "Created"}
Answer = tuple[int, dict[str, Any]]


class Fault(Enum):
    """What can become of a request and its answer."""

    NONE = auto()
    LOST_REQUEST = auto()
    LOST_ANSWER = auto()
    LATE_REQUEST = auto()
    """The connection breaks, and the request is carried out after the next one."""
    OVERLOADED = auto()
    UNKNOWN_DONE = auto()
    CLOSES = auto()
    CHUNKED = auto()


class _SmallVenue:
    """A venue over HTTP, as small as can be: the interface's answers from a `ListDriver`, with `fault(path)` for each request."""

    def __init__(self, fault: Callable[[str], Fault]) -> None:
        self.book = ListDriver()
        self.fault = fault
        self.answers: dict[str, tuple[Any, Answer]] = {}
        self.trades: list[dict[str, Any]] = []
        self.late: list[tuple[str, str, bytes]] = []
        self.faults: list[Fault] = []
        self.keys: set[str | None] = set()
        self.silent = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while not self.silent and await self.exchange(reader, writer):
                pass
            await reader.read(1 if self.silent else 0)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    async def exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        request_line, *lines = head.rstrip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        method, target, _ = request_line.split(" ")
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        self.keys.add(headers.get("x-api-key"))
        fault = self.fault(target)
        self.faults.append(fault)
        if fault is Fault.LATE_REQUEST:
            self.late.append((method, target, body))
        if fault in {Fault.LOST_REQUEST, Fault.LATE_REQUEST}:
            return False
        answer = (503, {"code": "overloaded"}) if fault is Fault.OVERLOADED else await self.carry_out(method, target, body)
        while self.late:
            await self.carry_out(*self.late.pop())
        if fault is Fault.LOST_ANSWER:
            return False
        if fault is Fault.UNKNOWN_DONE:
            answer = (504, {"code": "outcome_unknown"})
        writer.write(self.bytes_of(answer, fault))
        await writer.drain()
        return fault is not Fault.CLOSES

    def bytes_of(self, answer: Answer, fault: Fault) -> bytes:
        content = json.dumps(answer[1]).encode()
        length = f"Content-Length: {len(content)}\r\n"
        if fault is Fault.CHUNKED:
            length = "Transfer-Encoding: chunked\r\n"
            content = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (content[:7], content[7:], b""))
        if fault is Fault.CLOSES:
            length += "Connection: close\r\n"
        return f"HTTP/1.1 {answer[0]} {STATUS_TEXT.get(answer[0], 'Problem')}\r\n{length}\r\n".encode() + content

    async def carry_out(self, method: str, target: str, body: bytes) -> Answer:  # noqa: PLR0911  one for each route
        url = urlsplit(target)
        fields: dict[str, Any] = json.loads(body) if body else {}
        match method, url.path.strip("/").split("/"):
            case "POST", ["orders"]:
                return await self.submit(fields)
            case "PUT", ["orders", order_id]:
                return await self.modify(int(order_id), fields)
            case "DELETE", ["orders", order_id]:
                outcome = await self.book.cancel(int(order_id))
                return (409, {"code": outcome.refused}) if outcome.refused else (200, self.shown(int(order_id)))
            case "GET", ["orders", order_id]:
                return 200, self.shown(int(order_id))
            case "GET", ["trades"]:
                wanted = url.query.partition("order_id=")[2].partition("&")[0]
                return 200, {"trades": [trade for trade in self.trades[::-1] if wanted in trade["orders"]]}
            case "GET", ["market", _, "depth"]:
                return 200, {"bids": self.levels(Side.BUY), "asks": self.levels(Side.SELL)}
        return 200, {}

    async def submit(self, fields: dict[str, Any]) -> Answer:
        first = self.answers.get(fields["client_order_id"])
        if first is not None:
            return first[1] if first[0] == fields else (409, {"code": "client_order_id_conflict"})
        price, quantity = int(value_of(parse(fields["price"])) * 4), int(fields["quantity"])
        rests = fields["time_in_force"] == "GTC"
        assert fields["user_id"] == ("replay.resting" if rests else "replay.taking")
        outcome = self.book.enter(Side[fields["side"]], price, quantity, rests=rests)
        answer = (201, self.shown(outcome.order_id) | {"executed_trades": self.print(outcome.order_id, outcome.fills)})
        self.answers[fields["client_order_id"]] = (fields, answer)
        return answer

    async def modify(self, order_id: int, fields: dict[str, Any]) -> Answer:
        order = self.book.orders[order_id]
        if order.is_open and fields.get("expected_version", order.version) != order.version:
            return 409, {"code": "version_conflict"}
        outcome = await self.book.modify(order_id, int(fields["quantity"]), int(value_of(parse(fields["price"])) * 4))
        if outcome.refused:
            return 409, {"code": outcome.refused}
        return 200, self.shown(order_id) | {"executed_trades": self.print(order_id, outcome.fills)}

    def print(self, taker_id: int, fills: tuple[Fill, ...]) -> list[dict[str, Any]]:
        printed = []
        for maker_id, price, quantity in fills:
            trade = {"trade_id": str(len(self.trades) + 1), "maker_order_id": str(maker_id), "price": self.price(price)}
            printed.append(trade | {"quantity": str(quantity), "orders": [str(taker_id), str(maker_id)]})
            self.trades.append(printed[-1])
        return printed

    def shown(self, order_id: int) -> dict[str, Any]:
        order = self.book.orders[order_id]
        open_quantity = order.remaining if order.is_open else 0
        return {
            "order_id": str(order_id),
            "status": self.status(order),
            "price": self.price(order.price),
            "quantity": str(order.quantity),
            "filled_quantity": str(order.quantity - order.remaining),
            "remaining_quantity": str(open_quantity),
            "version": order.version,
        }

    def status(self, order: ListedOrder) -> str:
        if order.cancelled:
            return "CANCELLED"
        return "PENDING" if order.is_open else "FILLED"

    def levels(self, side: Side) -> list[dict[str, Any]]:
        return [
            {"price": self.price(price), "queue": [{"order_id": str(order), "quantity": str(left)} for order, left in queue]}
            for price, queue in self.book.levels(side)
        ]

    def price(self, ticks: int) -> str:
        return format_number(MARKET.grids()[0].number(ticks))


@asynccontextmanager
async def _serving(venue: _SmallVenue) -> AsyncIterator[str]:
    """The URL of a venue on a free port of this machine; every connection has ended when this has."""
    connections: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        await venue.serve(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    finally:
        server.close()
        await asyncio.gather(*connections)


def _no_fault(_path: str) -> Fault:
    return Fault.NONE


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts follow at once."""
    monkeypatch.setattr(http_driver, "FIRST_PAUSE_SECONDS", 0.0)


@pytest.mark.parametrize("seed", range(4))
async def test_a_replay_survives_every_kind_of_fault(tmp_path: Path, seed: int) -> None:
    """Requests and answers that are lost, late, refused or cut change nothing of what comes out."""
    path = generate(tmp_path / "TEST.csv", rows=600, seed=seed).path
    random = Random(seed)
    venue = _SmallVenue(lambda _path: random.choice(list(Fault)) if random.random() < 0.4 else Fault.NONE)
    async with _serving(venue) as url:
        driver = HttpDriver(MARKET, url, api_key="secret")
        report = await replay(read_rows(path), driver, read_expected(path))
        await driver.close()
    assert report.disagreements == []
    assert report.checkpoints_agreed == report.checkpoints == 20
    assert report.trades == len(venue.trades) > 5
    assert set(venue.faults) == set(Fault)
    assert venue.keys == {"secret"}


@pytest.mark.parametrize("fault", [fault for fault in Fault if fault is not Fault.NONE])
async def test_a_change_takes_effect_once(fault: Fault) -> None:
    """A modify that crosses, a cancel and a cancel of an ended order come out the same after each fault."""
    faults = {"/orders/1002": [fault, fault], "/orders/1001": [fault], "/orders": [fault]}

    def next_fault(path: str) -> Fault:
        waiting = faults.get(path, [])
        return waiting.pop() if waiting else Fault.NONE

    venue = _SmallVenue(next_fault)
    async with _serving(venue) as url:
        driver = HttpDriver(MARKET, url)
        await driver.open()
        ask = await driver.submit(Entry("r1", Side.SELL, 101, 5, taking=False))
        bid = await driver.submit(Entry("r2", Side.BUY, 99, 3, taking=False))
        assert (ask.order_id, bid.order_id) == (1001, 1002)
        crossed = await driver.modify(bid.order_id, 8, 101)
        assert (crossed.fills, crossed.remaining, crossed.refused) == ((Fill(1001, 101, 5),), 3, None)
        assert (await driver.cancel(ask.order_id)).refused == "order_not_open"
        assert (await driver.modify(ask.order_id, 9, 101)).refused == "order_not_open"
        assert (await driver.cancel(bid.order_id)).refused is None
        assert (await driver.book()).live_orders == 0
        await driver.close()
    assert len(venue.trades) == 1


async def test_a_server_that_stays_away_ends_the_replay() -> None:
    """After its time of patience the driver says what it met last."""
    venue = _SmallVenue(_no_fault)
    async with _serving(venue) as url:
        pass
    driver = HttpDriver(MARKET, url, patience_seconds=0.05)
    with pytest.raises(ReplayError, match="given up"):
        await driver.open()


async def test_a_book_that_is_not_empty_is_not_replayed_into() -> None:
    """Orders of others would be in the way: that is said before the first row."""
    venue = _SmallVenue(_no_fault)
    venue.book.enter(Side.BUY, 1, 1, rests=True)
    async with _serving(venue) as url:
        driver = HttpDriver(MARKET, url)
        with pytest.raises(ReplayError, match="another symbol"):
            await driver.open()
        await driver.close()


@pytest.mark.parametrize("url", ["127.0.0.1:5000", "ftp://127.0.0.1/", "http://", "http://127.0.0.1:99999/", ""])
def test_what_is_no_address_is_refused(url: str) -> None:
    """The address must be http or https with a host."""
    with pytest.raises(ReplayError, match="is no address"):
        HttpConnection(url)


async def test_an_answer_that_is_not_http_is_a_lost_connection() -> None:
    """Whatever else listens there, no answer is made up."""

    async def babble(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail ready\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    connection = HttpConnection(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    with pytest.raises(ConnectionLost):
        await connection.request("GET", "/health")
    server.close()


async def test_a_request_that_takes_too_long_is_given_up() -> None:
    """A server that says nothing costs the connection, not for ever."""
    venue = _SmallVenue(_no_fault)
    venue.silent = True
    async with _serving(venue) as url:
        connection = HttpConnection(url, request_seconds=0.05)
        with pytest.raises(ConnectionLost):
            await connection.request("GET", "/health")
