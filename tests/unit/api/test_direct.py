"""Requests for single orders that are served without ASGI: over real connections, and a client can't tell."""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import uvicorn

from fakes import FakeExchange, MakeApp, order_record
from ome.api import plain_requests
from ome.api.connections import REMEMBERED_S, ConnectionLimits, Connections
from ome.api.dispatcher import Dispatcher
from ome.api.plain_requests import MAX_HEAD_BYTES, plain_request
from ome.api.protocol import Connection
from ome.domain.errors import NotAccepting, OutcomeUnknown, Overloaded
from ome.observability import Metrics

ID = "1000000000000001"
BODY = b'{"user_id":"alice","symbol":"AAPL","side":"BUY","quantity":"100","price":"150.50"}'
JSON = "Content-Type: application/json\r\n"
KEY = JSON + "X-API-Key: sesame\r\n"


def request(method: str = "POST", path: str = "/orders", body: bytes = BODY, head: str = KEY) -> bytes:
    """The bytes of a request."""
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


@asynccontextmanager
async def served(
    app: Dispatcher, direct: Callable[..., bool] | None, connections: Connections | None = None
) -> AsyncIterator[int]:
    """A server of this application in this loop, which is asked directly first; its port."""
    watch = Connections(ConnectionLimits(), Metrics()) if connections is None else connections
    http: Any = partial(Connection, watch, direct=direct)
    config = uvicorn.Config(app, port=0, http=http, lifespan="off", log_config=None, ws="none", date_header=False)
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        await server.shutdown()


async def exchanged(port: int, *pieces: bytes) -> bytes:
    """All that is answered to what is sent in these pieces, without the request ids of the service."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0)
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return re.sub(rb"[0-9a-f]{8}-r?[0-9]+", b"ID", answer)


REQUESTS = {
    "order": (request(), True),
    "order with a client id": (request(body=BODY[:-1] + b',"client_order_id":"c"}'), True),
    "the same client id twice": (request(body=BODY[:-1] + b',"client_order_id":"c"}') * 2, False),
    "bad fields": (request(body=b'{"symbol":"AAPL","side":"UP"}'), True),
    "no JSON": (request(body=b"{"), True),
    "not declared as JSON": (request(head="X-API-Key: sesame\r\n"), True),
    "encoded": (request(head=KEY + "Content-Encoding: gzip\r\n"), True),
    "too large": (request(body=b"x" * 1025), True),
    "no key": (request(head=JSON), True),
    "wrong key": (request(head=JSON + "X-API-Key: mellon\r\n"), True),
    "empty body": (request(body=b""), True),
    "change": (request("PUT", f"/orders/{ID}", b'{"quantity":"50"}'), True),
    "change of nothing": (request("PUT", f"/orders/{ID}", b"{}"), True),
    "change of an order that isn't": (request("PUT", "/orders/7", b'{"quantity":"50"}'), True),
    "cancel": (request("DELETE", f"/orders/{ID}", b"", KEY), True),
    "cancel of an order that isn't": (f"DELETE /orders/7 HTTP/1.1\r\nHost: x\r\n{KEY}\r\n".encode(), True),
    "an id that can't be one": (request("DELETE", "/orders/9999999999999999999", b"", KEY), True),
    "wrong method": (request("PUT", "/orders"), False),
    "another route": (request("DELETE", "/orders?symbol=AAPL", b""), False),
    "dry run": (request(path="/orders?dry_run=true"), False),
    "request id of the client's": (request(head=KEY + "X-Request-Id: mine\r\n"), False),
    "last request": (request(head=KEY + "Connection: close\r\n"), False),
    "two at once": (request() + request("DELETE", f"/orders/{ID}", b"", KEY), False),
    "expects a word": (request(head=KEY + "Expect: 100-continue\r\n"), False),
}


async def test_an_answer_is_the_same_bytes(make_app: MakeApp, exchange: FakeExchange) -> None:
    """As over ASGI, for orders, changes and cancels, good and bad, with and without keys; and only what is plain passes it by."""
    app, twin = [make_app(api_key="sesame", max_body_bytes=1024) for _ in range(2)]
    begun = []

    def begin(*asked: Any) -> bool:
        begun.append(app.begin(*asked))
        return begun[-1]

    async with served(app, begin) as directly, served(twin, None) as over_asgi:
        for name, (sent, is_plain) in REQUESTS.items():
            begun.clear()
            answers = []
            for port in (directly, over_asgi):
                exchange.reset()
                exchange.orders[int(ID)] = order_record()
                answers.append(await exchanged(port, sent))
            assert answers[0] == answers[1], name
            assert answers[0].startswith(b"HTTP/1.1 "), name
            assert any(begun) is is_plain, name


@pytest.mark.parametrize("where", ["behind the head", "in the body"])
async def test_a_body_that_comes_later_is_waited_for(make_app: MakeApp, exchange: FakeExchange, where: str) -> None:
    """As many clients send it: the answer is the same bytes, without ASGI."""
    app, twin = [make_app(api_key="sesame") for _ in range(2)]
    begun = []

    def begin(*asked: Any) -> bool:
        begun.append(app.begin(*asked))
        return begun[-1]

    async with served(app, begin) as directly, served(twin, None) as over_asgi:
        for name in ("order", "bad fields", "no key", "change"):
            sent, _ = REQUESTS[name]
            cut = sent.index(b"\r\n\r\n") + (4 if where == "behind the head" else 9)
            answers = []
            for port in (directly, over_asgi):
                exchange.reset()
                exchange.orders[int(ID)] = order_record()
                answers.append(await exchanged(port, sent[:cut], sent[cut:]))
            assert answers[0] == answers[1], name
            assert begun.pop() is True, name


@pytest.mark.parametrize("rest", [b"", BODY[9:] + request(), b"}" * 5000])
async def test_what_is_no_single_request_after_all_is_the_parsers(make_app: MakeApp, exchange: FakeExchange, rest: bytes) -> None:
    """Whatever comes behind half a body, and if nothing does: the answer is the same bytes as without the direct way."""
    app, twin = [make_app(api_key="sesame") for _ in range(2)]
    half = request()[: len(request()) - len(BODY) + 9]
    async with served(app, app.begin) as directly, served(twin, None) as over_asgi:
        answers = []
        for port in (directly, over_asgi):
            exchange.reset()
            answers.append(await exchanged(port, half, *([rest] if rest else [])))
    assert answers[0] == answers[1]


async def test_half_a_body_has_no_longer_to_come(make_app: MakeApp) -> None:
    """Its time counts from its first byte, and then the client is told, as it is of one that the parser reads."""
    answers = []
    for direct in (True, False):
        app = make_app(api_key="sesame")
        connections = Connections(ConnectionLimits(receive_timeout_s=0.05), Metrics())
        async with served(app, app.begin if direct else None, connections) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request()[:-9])
            answers.append(re.sub(rb"[0-9a-f]{8}-r?[0-9]+", b"ID", await reader.read()))
            writer.close()
    assert answers[0] == answers[1]
    assert answers[0].startswith(b"HTTP/1.1 408 ")


async def test_a_refusal_of_the_engine_is_the_same_bytes(make_app: MakeApp, exchange: FakeExchange) -> None:
    """Known before the command is queued, or later; and a bug is a 500, not a connection that hangs."""
    app, twin = [make_app(api_key="sesame") for _ in range(2)]
    async with served(app, app.begin) as directly, served(twin, None) as over_asgi:
        for error in (Overloaded(), NotAccepting("stalled"), OutcomeUnknown("gone"), ZeroDivisionError()):
            exchange.reset()
            exchange.fail = error
            answers = [await exchanged(port, request()) for port in (directly, over_asgi)]
            assert answers[0] == answers[1], error
            assert answers[0].startswith(b"HTTP/1.1 50"), error


async def test_requests_behind_each_other_are_answered_in_their_order(make_app: MakeApp) -> None:
    """Also where what follows comes, in pieces and with the end behind it, before the first, served directly, is answered."""
    app = make_app(api_key="sesame")
    orders = [request(body=BODY.replace(b"alice", b"user-%d" % number)) for number in range(4)]
    async with served(app, app.begin) as port:
        answer = await exchanged(port, orders[0], orders[1] + orders[2][:9], orders[2][9:] + orders[3])
    assert re.findall(rb'"user_id":"(user-[0-9])"', answer) == [b"user-0", b"user-1", b"user-2", b"user-3"]


async def test_an_answer_after_its_client_has_left_is_dropped(make_app: MakeApp, exchange: FakeExchange) -> None:
    """The order is carried out; its slot is free again, and nothing holds the connection."""
    app = make_app(api_key="sesame")
    begun: list[Any] = []
    connections = Connections(ConnectionLimits(), Metrics())

    def keep(*asked: Any) -> bool:
        begun.append(asked)
        return True

    async with served(app, keep, connections) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request())
        while not begun:
            await asyncio.sleep(0)
        assert connections.requests == 1
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()  # with a reset: an end alone would wait for the answer
        while len(connections):
            await asyncio.sleep(0)
        assert connections.requests == 1, "it is worked on"
        assert app.begin(*begun[0])
        while not exchange.orders or connections.requests:
            await asyncio.sleep(0)


@pytest.mark.parametrize(
    "head",
    [
        "Transfer-Encoding: chunked\r\n",
        "Content-Length: 2\r\n",
        "Upgrade: websocket\r\n",
        "Connection: close\r\n",
        "Connection: keep-alive, upgrade\r\n",
        "Expect: 100-continue\r\n",
        "X : y\r\n",
        " X: y\r\n",
        "X: \x00\r\n",
        "X: ä\r\n",
        f"X: {'y' * MAX_HEAD_BYTES}\r\n",
    ],
)
def test_a_head_that_changes_how_a_request_is_read_is_not_plain(head: str) -> None:
    """Whatever could make two readers see two requests is the parser's affair."""
    assert plain_request(request()) is not None
    assert plain_request(request(head=KEY + head)) is None


@pytest.mark.parametrize("change", [slice(None, -1), slice(1, None)])
def test_half_a_request_is_not_plain(change: slice) -> None:
    """Nor is one with something behind it."""
    assert plain_request(request()[change]) is None
    assert plain_request(request() + b"x") is None


def remembered() -> int:
    """How many heads are in memory."""
    return plain_requests._head.cache_info().currsize


async def test_a_key_is_remembered_for_a_minute_at_most(make_app: MakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads are forgotten once a minute while somebody is connected, with the last connection, and when a key is revoked."""
    app = make_app(api_key="sesame")
    connections = Connections(ConnectionLimits(), Metrics())
    async with served(app, app.begin, connections) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        while not len(connections):
            await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        real, late_s = loop.time, [0.0]
        monkeypatch.setattr(loop, "time", lambda: real() + late_s[0])
        connections._sweep(loop)
        plain_request(request())
        for late_s[0] in (1.0, REMEMBERED_S - 1):
            connections._sweep(loop)
            assert remembered() == 1
        late_s[0] = REMEMBERED_S
        connections._sweep(loop)
        assert remembered() == 0
        late_s[0] = 0
        plain_request(request())
        app.gate.keys.revoked("k")
        assert remembered() == 0
        plain_request(request())
        writer.close()
        await writer.wait_closed()
        while len(connections):
            await asyncio.sleep(0)
        connections._sweep(loop)
        assert remembered() == 0
