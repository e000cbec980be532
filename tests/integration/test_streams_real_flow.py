"""A real day's flow, followed by three kinds of clients while `ome replay` drives the service as fast as it can: each ends with
exactly the engine's book and tape (D1), and the candles are those of the trades (D4).

The files belong to others and are not part of the project: `OME_TEST_DATA` names the folder whose `data/` holds them.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from candles import FREQUENCIES, check_candles
from ome.client import BlockingClient, Client
from servers import Server, running_server, sqlite_url
from streams import Book, Message

if "OME_TEST_DATA" not in os.environ:
    pytest.skip("real order flow: OME_TEST_DATA doesn't name the folder that has it", allow_module_level=True)

DATA = Path(os.environ["OME_TEST_DATA"]) / "data"
SYMBOL, TICK = "GOOG", "0.01"
LIFE_S = 1.0
"""How long a connection of the client lives that is killed again and again."""

Tape = list[tuple[int, str, str, str]]
Sides = tuple[list[tuple[str, str]], list[tuple[str, str]]]


def of_trade(trade: Message) -> tuple[int, str, str, str]:
    """Sequence, id, price and quantity."""
    return trade["sequence"], trade["trade_id"], trade["price"], trade["quantity"]


async def everything_traded(client: httpx.AsyncClient, after: int = 0) -> Tape:
    """Every trade above a sequence, oldest first, page by page."""
    found: Tape = []
    cursor = ""
    while True:
        page = (await client.get(f"/trades?symbol={SYMBOL}&limit=1000{cursor}")).raise_for_status().json()
        found += [of_trade(trade) for trade in page["trades"] if trade["sequence"] > after]
        if page["next_cursor"] is None or page["trades"][-1]["sequence"] <= after:
            return found[::-1]
        cursor = f"&cursor={page['next_cursor']}"


class PlainSocket:
    """A script over a bare WebSocket that is cut off every second and joins again."""

    def __init__(self, server: Server) -> None:
        self.book = Book()
        self.tape: Tape = []
        self.connections = 0
        self.begins = 0
        """The sequence behind which the present connection hears every trade."""
        self._server = server

    async def run(self, last: asyncio.Future[int]) -> None:
        """Follow up to the last sequence, once it is known."""
        while not last.done():
            await self._connection(None)
        await self._connection(last.result())

    async def _connection(self, until: int | None) -> None:
        """One connection: trades first, then what was missed of them, then the book from a new snapshot."""
        self.connections += 1
        self.begins = 0
        async with connect(f"ws://127.0.0.1:{self._server.port}/ws", compression=None, max_queue=None) as socket:
            for channel in ("trades", "depth"):
                await socket.send(json.dumps({"op": "subscribe", "channel": channel, "symbol": SYMBOL}))
            heard: Tape = []
            try:
                async with asyncio.timeout(LIFE_S if until is None else 60):
                    while until is None or (self.book.sequence or 0) < until:
                        self._take(json.loads(await socket.recv()), heard)
            except (TimeoutError, ConnectionClosed):
                assert until is None
            socket.transport.abort()
        await self._add(heard)

    def _take(self, message: Message, heard: Tape) -> None:
        if message.get("channel") == "depth":
            self.book.take(message)
        elif message.get("channel") == "trades" and message["type"] == "update":
            heard.append(of_trade(message["trade"]))
        elif message.get("type") == "subscribed" and message["subscription"]["channel"] == "trades":
            self.begins = message["sequence"]

    async def _add(self, heard: Tape) -> None:
        """What was heard, behind what was missed before the connection began to hear."""
        last = self.tape[-1][0] if self.tape else 0
        if self.begins > last:
            async with httpx.AsyncClient(base_url=self._server.url, timeout=60) as client:
                self.tape += [trade for trade in await everything_traded(client, last) if trade[0] <= self.begins]
        self.tape += [trade for trade in heard if not self.tape or trade[0] > self.tape[-1][0]]


class EventStream:
    """A reader of server-sent events on one connection."""

    def __init__(self, server: Server) -> None:
        self.book = Book()
        self.tape: Tape = []
        self._server = server

    async def run(self, last: asyncio.Future[int]) -> None:
        """Follow up to the last sequence, once it is known."""
        reading = asyncio.create_task(self._read())
        while (self.book.sequence or 0) < await last:
            assert not reading.done(), reading
            await asyncio.sleep(0.05)
        reading.cancel()

    async def _read(self) -> None:
        url = f"{self._server.url}/market/{SYMBOL}/stream"
        async with httpx.AsyncClient(timeout=60) as client, client.stream("GET", url) as answer:
            async for name, message in self._events(answer):
                if name == "depth":
                    self.book.take(message)
                elif name == "trade":
                    self.tape.append(of_trade(message["trade"]))

    @staticmethod
    async def _events(answer: httpx.Response) -> AsyncIterator[tuple[str, Message]]:
        event: dict[str, str] = {}
        async for line in answer.aiter_lines():
            name, _, value = line.partition(": ")
            event[name] = value
            if not line and "data" in event:
                yield event["event"], json.loads(event["data"])
                event = {}


async def follow_with_the_client(server: Server, last: asyncio.Future[int]) -> tuple[Sides, Tape]:
    """The Python client's book and its stream of trades."""
    tape: Tape = []

    async with Client(server.url) as client, client.book(SYMBOL) as book:

        async def listen() -> None:
            async with aclosing(client.stream("trades", SYMBOL)) as stream:
                async for message in stream:
                    trade: Any = getattr(message, "trade", None)
                    if trade is not None:
                        tape.append((trade.sequence, trade.trade_id, str(trade.price), str(trade.quantity)))

        listening = asyncio.create_task(listen())
        end = await last
        await book.wait_for(lambda book: book.sequence >= end)
        sides = tuple([(str(level.price), str(level.quantity)) for level in side] for side in (book.bids(), book.asks()))
        listening.cancel()
        return sides, tape  # type: ignore[return-value]  # two sides


async def replay(server: Server, rows: int) -> None:
    """`ome replay` in a process of its own; its exit status says whether every fill and checkpoint was as the files have it."""
    command = [sys.executable, "-m", "ome", "replay", str(DATA / f"{SYMBOL}.sweeps.csv.gz"), "--url", server.url]
    options = ["--symbol", SYMBOL, "--tick", TICK, "--rows", str(rows)]
    process = await asyncio.create_subprocess_exec(*command, *options, stdout=PIPE, stderr=STDOUT)
    told, _ = await process.communicate()
    assert process.returncode == 0, told.decode()


async def check_followers(server: Server, rows: int) -> None:
    """Replay so many rows, or with 0 all, and compare what each of the three has at the end with what the engine has."""
    last: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
        (await client.put(f"/instruments/{SYMBOL}", json={"tick_size": TICK, "lot_size": "1"})).raise_for_status()
        plain, events = PlainSocket(server), EventStream(server)
        following = asyncio.gather(follow_with_the_client(server, last), plain.run(last), events.run(last))
        await replay(server, rows)
        depth = (await client.get(f"/market/{SYMBOL}/depth?levels=1000")).json()
        last.set_result(depth["sequence"])
        (sides, tape), _, _ = await following
        trades = await everything_traded(client)
    wanted = tuple([(level["price"], level["quantity"]) for level in depth[side]] for side in ("bids", "asks"))
    assert len(trades) > 0
    assert sides == plain.book.levels() == events.book.levels() == wanted
    assert plain.tape == events.tape == trades
    assert tape == trades
    assert plain.connections > 1


async def test_followers_of_the_first_rows_end_with_the_engines_book_and_tape(tmp_path: Path) -> None:
    """The Python client, a plain WebSocket that is cut off every second, and an event stream."""
    with running_server(sqlite_url(tmp_path)) as server:
        await check_followers(server, 1000)


@pytest.mark.long
@pytest.mark.timeout(3600)
async def test_followers_of_a_whole_day_end_with_the_engines_book_and_tape(tmp_path: Path) -> None:
    """The same over every row of the day; then in every interval the candles are those of the exported trades."""
    asyncio.get_running_loop().set_debug(False)  # it takes as long again as all three clients
    with running_server(sqlite_url(tmp_path)) as server:
        await check_followers(server, 0)
        await asyncio.to_thread(check_all_candles, server, tmp_path)


def check_all_candles(server: Server, folder: Path) -> None:
    """Every interval."""
    with BlockingClient(server.url) as client:
        for interval in FREQUENCIES:
            assert check_candles(server.database_url, client, folder, interval) > 0
