"""Requests beyond what may be worked on: real connections to an application that answers when the test says so."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from ome.api.connections import ConnectionLimits, Connections
from ome.api.protocol import Connection
from ome.observability import Metrics

REQUESTS = 20
SPARE = REQUESTS // 10 + 8
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Gated:
    """Answers 200 to every request, once the gate is open; counts those that have come in."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.arrived = asyncio.Semaphore(0)

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """One request."""
        self.arrived.release()
        await self.gate.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    async def wait_for(self, count: int) -> None:
        """Until so many more requests have come in."""
        for _ in range(count):
            await self.arrived.acquire()


@asynccontextmanager
async def served(app: Gated) -> AsyncIterator[int]:
    """A server of this application in this loop; its port."""
    watch = Connections(ConnectionLimits(requests=REQUESTS), Metrics())
    http: Any = partial(Connection, watch)
    config = uvicorn.Config(app, port=0, http=http, lifespan="off", log_config=None, access_log=False, ws="none")
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        app.gate.set()
        await server.shutdown()


class Clients:
    """Connections, all closed at the end."""

    def __init__(self) -> None:
        self._streams: list[Stream] = []

    async def send(self, port: int, method: str, path: str, *, times: int = 1) -> Stream:
        """Requests on a connection of their own, unanswered yet."""
        stream = await asyncio.open_connection("127.0.0.1", port)
        self._streams.append(stream)
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nX-Request-Id: mine\r\nContent-Length: 2\r\n\r\n{{}}"
        stream[1].write(head.encode() * times)
        return stream

    async def all_answers(self, port: int, data: bytes, step: int) -> list[bytes]:
        """The statuses of all that is answered to these bytes, sent so many at a time."""
        reader, writer = stream = await asyncio.open_connection("127.0.0.1", port)
        self._streams.append(stream)
        with contextlib.suppress(ConnectionError):
            for start in range(0, len(data), step):
                writer.write(data[start : start + step])
                await writer.drain()
                await asyncio.sleep(0)
            writer.write_eof()
        return [part[:3] for part in (await reader.read()).split(b"HTTP/1.1 ")[1:]]

    async def close(self) -> None:
        """The client's end of them."""
        for _, writer in self._streams:
            writer.close()
            await writer.wait_closed()


async def answer(stream: Stream) -> tuple[int, dict[str, str], bytes]:
    """The status, the headers and the body of the next answer."""
    head = (await stream[0].readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
    return int(head[0].split()[1]), headers, await stream[0].readexactly(int(headers["content-length"]))


@pytest.fixture
async def app() -> Gated:
    """An application that waits."""
    return Gated()


@pytest.fixture
async def clients() -> AsyncIterator[Clients]:
    """Whoever asks it."""
    made = Clients()
    yield made
    await made.close()


async def test_beyond_the_limit_orders_are_refused_and_cancels_are_not(app: Gated, clients: Clients) -> None:
    """An order too many is 503 at once, with Retry-After, its request id and a certain outcome; cancels and kills have slots of
    their own, and all that was admitted is answered.
    """
    async with served(app) as port:
        admitted = [await clients.send(port, "POST", "/orders") for _ in range(REQUESTS)]
        await app.wait_for(REQUESTS)
        refused = await clients.send(port, "POST", "/orders")
        status, headers, body = await answer(refused)
        assert (status, headers["retry-after"], headers["x-request-id"]) == (503, "1", "mine")
        assert headers["content-type"] == "application/problem+json"
        document = json.loads(body)
        assert (document["code"], document["outcome"], document["instance"]) == ("overloaded", "not_executed", "/orders")
        cancels = [await clients.send(port, "DELETE", "/orders/7") for _ in range(SPARE - 1)]
        kill = await clients.send(port, "POST", "/orders")
        assert (await answer(kill))[0] == 503
        kill[1].write(b"PUT /admin/kill HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
        await app.wait_for(SPARE)
        last = await clients.send(port, "DELETE", "/orders/7")
        assert (await answer(last))[0] == 503
        app.gate.set()
        assert [(await answer(each))[0] for each in (*admitted, *cancels, kill)] == [200] * (REQUESTS + SPARE)
        refused[1].write(b"POST /orders HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
        assert (await answer(refused))[0] == 200, "the connection of a refused request stays, and there is room again"


async def test_refusals_keep_the_order_of_pipelined_requests(app: Gated, clients: Clients) -> None:
    """A request behind one that is worked on is refused only when its turn comes, and each gets an answer of its own."""
    async with served(app) as port:
        pipelined = await clients.send(port, "POST", "/orders", times=5)
        await app.wait_for(1)
        others = [await clients.send(port, "POST", "/orders") for _ in range(REQUESTS - 1)]
        await app.wait_for(REQUESTS - 1)
        refused = await clients.send(port, "POST", "/orders", times=40)
        assert [(await answer(refused))[0] for _ in range(40)] == [503] * 40
        app.gate.set()
        assert [(await answer(each))[0] for each in others] == [200] * (REQUESTS - 1)
        assert [(await answer(pipelined))[0] for _ in range(5)] == [200] * 5


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 2",
        b"content-length:2\r\nConnection: keep-alive",
        b"Content-Length: 2\r\nConnection: close",
        b"Content-Length: 2\r\nX-Request-Id: mine",
        b"Content-Length: 2\r\nExpect: 100-continue",
        b"Content-Length: 2\r\nContent-Length: 2",
        b"Content-Length: 2\r\nContent-Length: 3",
        b"Content-Length : 2",
        b"Content-Length: 2\r\nTransfer-Encoding: chunked",
        b"Content-Length: 02",
        b"Content-Length: 1",
        b"Content-Length: 3",
        b"X: y",
    ],
)
async def test_a_request_is_refused_unparsed_only_where_a_parser_sees_the_same_one(
    app: Gated, clients: Clients, head: bytes
) -> None:
    """While all slots are taken: whatever comes, cut anywhere, has the answers that it has in one piece and in single bytes."""
    sent = b"POST /orders HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n\r\n{}"
    async with served(app) as port:
        for _ in range(REQUESTS):
            await clients.send(port, "POST", "/orders")
        await app.wait_for(REQUESTS)
        answers = [await clients.all_answers(port, sent, step) for step in (len(sent), 1)]
    assert answers[0] == answers[1]


async def test_a_stream_takes_no_slot(app: Gated, clients: Clients) -> None:
    """Answers that last as long as their readers don't keep orders out."""
    async with served(app) as port:
        for _ in range(REQUESTS):
            await clients.send(port, "GET", "/market/A/stream")
        await app.wait_for(REQUESTS)
        order = await clients.send(port, "POST", "/orders")
        await app.wait_for(1)
        app.gate.set()
        assert (await answer(order))[0] == 200
