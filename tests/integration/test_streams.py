"""Streams of a real server: WebSockets and server-sent events over sockets, through load, kills and slow readers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
import sqlite3
import struct
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus

from ome.domain.events import UserEvent, decode_events, events_of
from servers import Server, running_server, sqlite_url
from streams import Book, Message, messages

PATIENCE_S = 30.0
SLOW_CONSUMER = bytes([0x88, 67]) + struct.pack("!H", 4008) + b"slow consumer: read faster, or ask for less; then subscribe again"
"""The close frame of a reader that has fallen too far behind."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server without a key."""
    with running_server(sqlite_url(tmp_path_factory.mktemp("streams"))) as server:
        yield server


def ws_url(server: Server) -> str:
    """Where its WebSockets are."""
    return f"ws://127.0.0.1:{server.port}/ws"


@contextlib.asynccontextmanager
async def joined(server: Server, **options: Any) -> AsyncIterator[ClientConnection]:
    """A WebSocket."""
    async with connect(ws_url(server), compression=None, ping_interval=None, max_queue=None, **options) as connection:
        yield connection


async def ask(connection: ClientConnection, **message: Any) -> Message:
    """Send a message and wait for the answer with its id."""
    await connection.send(json.dumps({"id": "ask", **message}))
    while True:
        answer = await hear(connection)
        if answer.get("id") == "ask":
            return answer


async def hear(connection: ClientConnection) -> Message:
    """The next message."""
    message: Message = json.loads(await asyncio.wait_for(connection.recv(), PATIENCE_S))
    return message


async def close_code(connection: ClientConnection) -> int | None:
    """With what the server closes it."""
    with contextlib.suppress(ConnectionClosed):
        while True:
            await asyncio.wait_for(connection.recv(), PATIENCE_S)
    return connection.close_code


def an_order(rng: random.Random, symbol: str, **more: Any) -> Message:
    """A limit order around 100, which trades now and then."""
    side, price = rng.choice(["BUY", "SELL"]), 100 + rng.randrange(-8, 9) / 10
    user = rng.choice(["alice", "bob", "carol"])
    return {"user_id": user, "symbol": symbol, "side": side, "quantity": rng.randrange(1, 9), "price": f"{price:.2f}", **more}


async def trade(server: Server, symbol: str, orders: int, seed: int = 1) -> None:
    """Send orders over REST, eight at a time."""
    rng = random.Random(seed)
    async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE_S) as client:
        for _ in range(orders // 8):
            bodies = [an_order(rng, symbol) for _ in range(8)]
            answers = await asyncio.gather(*(client.post("/orders", json=body) for body in bodies))
            assert {answer.status_code for answer in answers} == {201}


async def rest(server: Server, path: str) -> Any:
    """The JSON of a GET."""
    async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE_S) as client:
        return (await client.get(path)).raise_for_status().json()


async def follow(connection: ClientConnection, book: Book, trades: list[Message], until: int) -> None:
    """Take in depth and trades up to a sequence."""
    while (book.sequence or 0) < until:
        message = await hear(connection)
        if message.get("channel") == "depth":
            book.take(message)
        elif message.get("channel") == "trades":
            trades.append(message["trade"])


async def test_followers_that_join_during_load_end_with_the_servers_book_and_tape(server: Server) -> None:
    """D1: two WebSockets that join at different moments, and an event stream that is cut and resumed again and again."""
    await trade(server, "LOAD", 16)
    async with joined(server) as early, joined(server) as late:
        for channel in ("trades", "depth"):
            assert (await ask(early, op="subscribe", channel=channel, symbol="LOAD"))["status"] == 200
        load = asyncio.create_task(trade(server, "LOAD", 480))
        events = asyncio.create_task(stream_with_cuts(server, "LOAD"))
        await asyncio.sleep(0.2)
        await late.send(json.dumps({"op": "subscribe", "channel": "depth", "symbol": "LOAD"}))
        await load
        depth = await rest(server, "/market/LOAD/depth?levels=1000")
        last = depth["sequence"]
        books, tape = [Book(), Book()], list[Message]()
        await follow(early, books[0], tape, last)
        await follow(late, books[1], [], last)
        await trade(server, "LOAD", 8, seed=2)
        streamed, streamed_tape, snapshots = await events
    wanted = tuple([(level["price"], level["quantity"]) for level in depth[side]] for side in ("bids", "asks"))
    assert books[0].levels() == books[1].levels() == wanted
    trades = (await rest(server, "/trades?symbol=LOAD&limit=1000"))["trades"][::-1]
    first = tape[0]["sequence"]
    assert tape == [each for each in trades if first <= each["sequence"] <= last]
    first, end = streamed_tape[0]["sequence"], streamed_tape[-1]["sequence"]
    assert streamed_tape == [each for each in trades if first <= each["sequence"] <= end]
    assert streamed.sequence is not None
    assert snapshots == 1


async def stream_with_cuts(server: Server, symbol: str) -> tuple[Book, list[Message], int]:
    """Follow the event stream through ten connections: the book, the trades and how many snapshots there were."""
    book, trades, snapshots, last_id = Book(), list[Message](), 0, ""
    async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE_S) as client:
        for _ in range(10):
            seen = 0
            headers = {"Last-Event-ID": last_id} if last_id else {}
            async with client.stream("GET", f"/market/{symbol}/stream", headers=headers) as answer:
                assert answer.headers["content-type"] == "text/event-stream"
                event = dict[str, str]()
                async for line in answer.aiter_lines():
                    if line:
                        name, _, value = line.partition(": ")
                        event[name] = value
                        continue
                    message = json.loads(event.pop("data"))
                    last_id = event.get("id", last_id)
                    if event["event"] == "depth":
                        snapshots += message["type"] == "snapshot"
                        book.take(message)
                        seen += 1
                    elif event["event"] == "trade":
                        trades.append(message["trade"])
                    event = {}
                    if seen == 30:
                        break
    return book, trades, snapshots


async def test_orders_over_the_socket_are_pipelined_in_order(server: Server) -> None:
    """Five hundred without waiting: each is answered, ids of the engine in the order of sending; the same as REST shows."""
    rng = random.Random(5)
    async with joined(server) as connection:
        for number in range(500):
            own = {"client_order_id": f"pipe-{number}"} if number % 3 else {}
            await connection.send(json.dumps({"op": "submit", "id": number, **an_order(rng, "PIPE", **own)}))
        answers = [await hear(connection) for _ in range(500)]
        by_id = {answer["id"]: answer for answer in answers}
        assert sorted(by_id) == list(range(500))
        order_ids = [int(by_id[number]["order"]["order_id"]) for number in range(500)]
        assert order_ids == sorted(order_ids)
        again = await ask(connection, op="submit", **an_order(random.Random(6), "PIPE", client_order_id="pipe-1", user_id="x"))
        assert again["status"] == 201
        one = by_id[7]["order"]["order_id"]
        shown = await rest(server, f"/orders/{one}")
        assert shown["user_id"] == by_id[7]["order"]["user_id"]


async def test_cancel_on_disconnect(server: Server) -> None:
    """Open orders of the connection go when it is gone, however it goes; those of others stay."""
    async with joined(server) as other:
        stays = await ask(other, op="submit", user_id="dan", symbol="COD", side="BUY", quantity=1, price="1.00")
        async with joined(server) as connection:
            assert (await ask(connection, op="cancel_on_disconnect", enabled=True))["enabled"] is True
            ids = [
                (await ask(connection, op="submit", user_id="dan", symbol="COD", side="BUY", quantity=1, price=price))["order"][
                    "order_id"
                ]
                for price in ("1.01", "1.02")
            ]
            connection.transport.abort()
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            orders = (await rest(server, "/orders/user/dan"))["orders"]
            if sum(order["status"] == "PENDING" for order in orders) == 1:
                break
            await asyncio.sleep(0.02)
        statuses = {order["order_id"]: order["status"] for order in orders}
        assert statuses == {stays["order"]["order_id"]: "PENDING", ids[0]: "CANCELLED", ids[1]: "CANCELLED"}


async def test_binary_and_oversized_messages_close(server: Server) -> None:
    """1003 and 1009; a message that claims a terabyte too."""
    async with joined(server) as connection:
        await connection.send(b"\x00")
        assert await close_code(connection) == 1003
    async with joined(server) as connection:
        with contextlib.suppress(ConnectionClosed):
            await connection.send("x" * 1_100_000)
        assert await close_code(connection) == 1009
    with raw_socket(server) as connection:
        connection.sendall(b"\x81\xff" + struct.pack("!Q", 2**40) + b"mask")
        answer = connection.recv(4)
        assert (answer[0], answer[2:]) == (0x88, struct.pack("!H", 1009))


@contextlib.contextmanager
def raw_socket(server: Server, receive_buffer: int = 0) -> Iterator[socket.socket]:
    """A WebSocket after its handshake, as bytes."""
    with socket.socket() as connection:
        if receive_buffer:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connection.settimeout(PATIENCE_S)
        connection.connect(("127.0.0.1", server.port))
        key = b64encode(b"0123456789abcdef").decode()
        connection.sendall(
            f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += connection.recv(1)
        assert b" 101 " in head.splitlines()[0]
        yield connection


def masked(message: Message) -> bytes:
    """A message as a client's frame, its mask all zeros."""
    payload = json.dumps(message).encode()
    assert len(payload) < 126
    return bytes([0x81, 0x80 | len(payload)]) + bytes(4) + payload


async def test_shutting_down_tells_everything_and_says_so(tmp_path: Path) -> None:
    """What was taken is answered and told, then `shutdown` and 1012; an event stream ends; the process with status 0."""
    with running_server(sqlite_url(tmp_path)) as server:
        await trade(server, "STOP", 8)
        async with joined(server) as connection, httpx.AsyncClient(base_url=server.url, timeout=PATIENCE_S) as client:
            await ask(connection, op="subscribe", channel="depth", symbol="STOP")
            async with client.stream("GET", "/market/STOP/stream") as events:
                rng = random.Random(1)
                for number in range(100):
                    await connection.send(json.dumps({"op": "submit", "id": number, **an_order(rng, "STOP")}))
                while True:  # the server has read them when it has answered what came behind them
                    if (await ask(connection, op="ping"))["type"] == "pong":
                        break
                stopping = asyncio.create_task(asyncio.to_thread(server.terminate))
                said, book = list[Message](), Book()
                with contextlib.suppress(ConnectionClosed):
                    while True:
                        said.append(await hear(connection))
                assert connection.close_code == 1012
                assert said[-1]["type"] == "shutdown"
                for message in said:
                    if message.get("channel") == "depth" and book.sequence is not None:
                        book.take(message)
                assert (await events.aread()).count(b"event: depth") >= 1
                assert await stopping == 0


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a key and private reads."""
    with running_server(sqlite_url(tmp_path_factory.mktemp("keyed")), API_KEY="sesame", PRIVATE_READS="true") as server:
        list_symbol(server, "AAPL")
        yield server


def list_symbol(server: Server, symbol: str) -> None:
    """As the operator."""
    headers = {"X-API-Key": "sesame"}
    httpx.put(f"{server.url}/instruments/{symbol}", json={"tick_size": "0.01"}, headers=headers).raise_for_status()


async def test_keys_of_websockets(keyed: Server) -> None:
    """In the header or as a message, never in the URL; a wrong one never gets in; no key hears what is public."""
    order = {"op": "submit", "user_id": "alice", "symbol": "AAPL", "side": "BUY", "quantity": 1, "price": "10"}
    async with joined(keyed, additional_headers={"X-API-Key": "sesame"}) as connection:
        assert (await ask(connection, **order))["status"] == 201
    async with joined(keyed) as connection:
        assert (await ask(connection, op="subscribe", channel="depth", symbol="AAPL"))["status"] == 200
        assert (await ask(connection, **order))["status"] == 401
        assert (await ask(connection, op="subscribe", channel="orders", user_id="alice"))["status"] == 401
        assert (await ask(connection, op="auth", key="sesame"))["status"] == 200
        assert (await ask(connection, **order))["status"] == 201
    async with joined(keyed) as connection:
        assert (await ask(connection, op="auth", key="guess"))["status"] == 401
        assert await close_code(connection) == 4001
    for refused, status in (
        ({"additional_headers": {"X-API-Key": "guess"}}, 401),
        ({"origin": "http://evil.example"}, 403),
    ):
        with pytest.raises(InvalidStatus) as caught:
            await connect(ws_url(keyed), **refused)
        assert caught.value.response.status_code == status
    with pytest.raises(InvalidStatus) as caught:
        await connect(ws_url(keyed) + "?key=sesame")
    assert caught.value.response.status_code == 422
    async with joined(keyed, origin=f"http://127.0.0.1:{keyed.port}") as connection:
        assert (await ask(connection, op="ping"))["type"] == "pong"
    assert "sesame" not in keyed.output()
    assert "handshake" not in keyed.output()  # refusing one is no error of the service
    async with httpx.AsyncClient(base_url=keyed.url) as client:
        assert (await client.get("/orders/user/alice/events")).status_code == 401


async def test_who_says_nothing_is_closed_and_who_listens_gets_heartbeats(tmp_path: Path) -> None:
    """No key and no subscription in time: 4001. A quiet connection gets heartbeats, an event stream comments."""
    with running_server(sqlite_url(tmp_path), API_KEY="sesame", STREAM_HEARTBEAT_SEC="0.5") as server:
        list_symbol(server, "A")
        async with joined(server) as silent, joined(server) as listening, httpx.AsyncClient(base_url=server.url) as client:
            await ask(listening, op="subscribe", channel="trades", symbol="A")
            assert (await hear(listening))["type"] == "heartbeat"
            async with client.stream("GET", "/market/A/stream", timeout=PATIENCE_S) as events:
                async for line in events.aiter_lines():
                    if line == ": heartbeat":
                        break
            assert await close_code(silent) == 4001
            assert (await hear(listening))["type"] == "heartbeat"


async def test_streams_are_bounded(tmp_path: Path) -> None:
    """Beyond MAX_STREAMS a handshake and an event stream are refused in words, until one has gone."""
    with running_server(sqlite_url(tmp_path), MAX_STREAMS="2") as server:
        await trade(server, "A", 8)
        async with joined(server), joined(server), httpx.AsyncClient(base_url=server.url) as client:
            with pytest.raises(InvalidStatus) as caught:
                await connect(ws_url(server))
            assert caught.value.response.status_code == 503
            answer = await client.get("/market/A/stream")
            assert (answer.status_code, answer.json()["code"]) == (503, "too_many_connections")
            assert (await client.head("/market/NONE/stream")).status_code == 503
            assert "ome_streams 2.0" in (await client.get("/metrics")).text


async def trade_in_batches(server: Server, symbol: str, batches: int, seed: int) -> None:
    """Send orders fifty at a time, over a socket."""
    rng = random.Random(seed)
    async with joined(server) as connection:
        for _ in range(batches):
            answer = await ask(connection, op="batch", orders=[an_order(rng, symbol) for _ in range(50)])
            assert {result["status"] for result in answer["results"]} == {201}


async def test_a_reader_that_stops_is_closed_and_others_get_everything(tmp_path: Path) -> None:
    """D2: with 4008, when the system's buffers and its queue are full; others, one that reads in jerks too, feel nothing."""
    limits = {"STREAM_QUEUE_MESSAGES": "2000", "STREAM_QUEUE_BYTES": "131072"}
    with running_server(sqlite_url(tmp_path), **limits) as server:
        await trade_in_batches(server, "SLOW", 1, 1)
        with raw_socket(server, 4096) as stuck, raw_socket(server) as jerky:
            for reader in (stuck, jerky):
                for name in ("depth", "trades"):
                    reader.sendall(masked({"op": "subscribe", "channel": name, "symbol": "SLOW"}))
            async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE_S) as client:
                received, seed = b"", 2
                while 'ome_streams_closed_total{code="4008"} 1.0' not in (await client.get("/metrics")).text:
                    await trade_in_batches(server, "SLOW", 4, seed)
                    received += await read_what_is_there(jerky)
                    seed += 1
            assert (await read_what_is_there(stuck)).endswith(SLOW_CONSUMER)
            depth = await rest(server, "/market/SLOW/depth?levels=1000")
            book = Book()
            while book.sequence != depth["sequence"]:
                received += await read_what_is_there(jerky)
                book = book_of(received)
        wanted = tuple([(level["price"], level["quantity"]) for level in depth[side]] for side in ("bids", "asks"))
        assert book.levels() == wanted


async def read_what_is_there(connection: socket.socket) -> bytes:
    """Bytes, until none come for a moment."""
    connection.settimeout(0.2)
    received = b""
    with contextlib.suppress(TimeoutError):
        while piece := await asyncio.to_thread(connection.recv, 1 << 20):
            received += piece
    return received


def book_of(received: bytes) -> Book:
    """What whole frames make of a book, links and checksums looked at; the last frame may be cut."""
    book = Book()
    for message in messages(received):
        if message.get("channel") == "depth":
            book.take(message)
    return book


@pytest.mark.parametrize(("cuts", "kills"), [(20, 2), pytest.param(100, 5, marks=pytest.mark.long)])
async def test_private_events_through_disconnects_and_kills_equal_the_databases(tmp_path: Path, cuts: int, kills: int) -> None:
    """D2, HOLE9: a client that drops its connection again and again, and whose server is killed while it listens and orders
    trade, and that resumes from its cursor, has every event once; REST shows the same.
    """
    with running_server(sqlite_url(tmp_path)) as server:
        stop = asyncio.Event()
        load = asyncio.create_task(trade_through_kills(server, stop))
        heard: list[Message] = []
        ends = ["cut"] * cuts + ["kill"] * kills
        rng = random.Random(3)
        rng.shuffle(ends)
        for end in ends:
            events = rng.randrange(1, 100)
            if end == "cut":
                await listen(server, heard, events)
            else:
                await listen_until_killed(server, heard, events)
        stop.set()
        await load
        stored = stored_events(tmp_path / "ome.db", "alice")
        while len(heard) < len(stored):
            await listen(server, heard, len(stored) - len(heard))
        assert [event["position"] for event in heard] == [told.position for told in stored]
        assert len({event["cursor"] for event in heard}) == len(heard) > 500
        listed, cursor = list[Message](), ""
        while True:
            page = await rest(server, f"/orders/user/alice/events?limit=999{cursor}")
            listed += page["events"]
            if page["next_cursor"] is None:
                break
            cursor = f"&cursor={page['next_cursor']}"
        assert listed == heard


GONE = (OSError, ConnectionClosed, InvalidStatus, InvalidMessage, TimeoutError)
"""What a client sees of a server that is killed or not there."""


async def trade_through_kills(server: Server, stop: asyncio.Event) -> None:
    """Send orders for as long as it takes, whether the server is there or not."""
    seed = 0
    while not stop.is_set():
        seed += 1
        with contextlib.suppress(*GONE):
            await trade_in_batches(server, "KILL", 4, seed)
        await asyncio.sleep(0.05)


async def listen_until_killed(server: Server, heard: list[Message], events: int) -> None:
    """Listen, kill the server once so many more events are heard, and start it again."""
    wanted = len(heard) + events
    listening = asyncio.create_task(listen(server, heard, 10**9))
    while len(heard) < wanted:
        assert not listening.done(), listening
        await asyncio.sleep(0.01)
    await asyncio.to_thread(server.restart)
    with pytest.raises(GONE):
        await listening


async def listen(server: Server, heard: list[Message], events: int) -> None:
    """Hear so many more of alice's events, then drop the connection without a word."""
    async with joined(server, open_timeout=5) as connection:
        start = heard[-1]["cursor"] if heard else "start"
        await connection.send(json.dumps({"op": "subscribe", "channel": "orders", "user_id": "alice", "from": start}))
        wanted = len(heard) + events
        while len(heard) < wanted:
            message = json.loads(await asyncio.wait_for(connection.recv(), 5))
            if message.get("channel") == "orders":
                heard.append(message["event"])
        connection.transport.abort()


def stored_events(path: Path, user_id: str) -> list[UserEvent]:
    """A user's events as the database has them, read without the service."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        rows = database.execute("SELECT events FROM event_batches ORDER BY last_position").fetchall()
    return [told for (events,) in rows for command in decode_events(events) for told in events_of(user_id, command)]
