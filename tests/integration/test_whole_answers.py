"""Answers that are sent at once, head and body together, over real connections: a client must not be able to tell."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from ome.api.connections import ConnectionLimits, Connections
from ome.api.dispatcher import WHOLE_ANSWER
from ome.api.protocol import Connection
from ome.observability import Metrics

BODY = b'{"order_id":"1"}'
HEADERS = [(b"content-length", b"%d" % len(BODY)), (b"x-request-id", b"mine")]
ORDER = b"POST /orders HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n"


class App:
    """Answers every request with 201: at once, or in ASGI's two messages; with `last` it ends the connection."""

    def __init__(self, *, whole: bool, last: bool) -> None:
        self._whole = whole
        self._headers = [*HEADERS, (b"connection", b"close")] if last else HEADERS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        await receive()
        if self._whole:
            await scope["extensions"][WHOLE_ANSWER]["send"](201, self._headers, BODY)
            return
        await send({"type": "http.response.start", "status": 201, "headers": self._headers})
        await send({"type": "http.response.body", "body": BODY})


async def all_bytes(app: App, sent: bytes) -> bytes:
    """All that a client gets that sends this and then no more."""
    http: Any = partial(Connection, Connections(ConnectionLimits(), Metrics()))
    config = uvicorn.Config(
        app,
        port=0,
        http=http,
        lifespan="off",
        log_config=None,
        access_log=False,
        ws="none",
        date_header=False,
        server_header=False,
    )
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.servers[0].sockets[0].getsockname()[1])
        writer.write(sent)
        writer.write_eof()
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
    finally:
        await server.shutdown()
    return answer


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize(
    ("sent", "answers"),
    [
        (ORDER + b"\r\n{}", 1),
        (ORDER + b"Connection: close\r\n\r\n{}", 1),
        (ORDER.replace(b"1.1", b"1.0") + b"\r\n{}", 1),
        (ORDER.replace(b"1.1", b"1.0") + b"Connection: keep-alive\r\n\r\n{}", 1),
        (ORDER + b"Expect: 100-continue\r\n\r\n{}", 1),
        ((ORDER + b"\r\n{}") * 20, 20),
        ((ORDER + b"\r\n{}") * 2 + ORDER + b"Connection: close\r\n\r\n{}" + ORDER + b"\r\n{}", 3),
    ],
)
async def test_an_answer_sent_at_once_is_the_same_bytes(sent: bytes, answers: int, last: bool) -> None:
    """As in two messages, with the same end of the connection, and behind each other in the order of their requests."""
    whole, parts = [await all_bytes(App(whole=whole, last=last), sent) for whole in (True, False)]
    assert whole == parts
    assert whole.count(b"HTTP/1.1 201 Created\r\n") == whole.count(BODY) == (1 if last else answers)
