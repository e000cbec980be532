"""What WebSockets leave behind: nothing that only a garbage collection would free, since many are frozen out of these."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import uvicorn
from websockets.asyncio.client import connect

from fakes import FakeExchange
from ome.api.app import build_app
from ome.api.connections import ConnectionLimits, Connections
from ome.api.protocol import Connection
from ome.api.services import Ports
from ome.api.settings import ApiSettings
from ome.api.websocket import WebSocketConnection
from ome.observability import Metrics

OURS = {"WebSocketConnection", "Connection", "HttpRequestParser", "Session", "Outlet", "OrderLane"}


@contextlib.asynccontextmanager
async def serving(exchange: FakeExchange) -> AsyncIterator[int]:
    """An application over this exchange, behind uvicorn in this very process: its port."""
    ports = Ports(
        entry=exchange, funds=exchange, reads=exchange, market=exchange, past=exchange.past, feed=exchange, bus=exchange
    )
    metrics = Metrics()
    app = build_app(ports=ports, settings=ApiSettings(), metrics=metrics)
    http: Any = partial(Connection, Connections(ConnectionLimits(), metrics))  # called as the class is
    options: dict[str, Any] = {"lifespan": "off", "log_config": None, "ws_ping_interval": None}
    config = uvicorn.Config(app, port=0, http=http, ws=WebSocketConnection, **options)
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext  # type: ignore[assignment, method-assign]
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        port: int = server.servers[0].sockets[0].getsockname()[1]
        yield port
    finally:
        await app.streams.shutdown()
        server.should_exit = True
        await task


async def test_a_websocket_that_has_ended_is_freed_at_once() -> None:
    """With its session, its parser and the HTTP connection that it was before; whichever side ended it, and how."""
    async with serving(FakeExchange()) as port:
        gc.collect()
        gc.disable()
        try:
            for number in range(6):
                connection = await connect(f"ws://127.0.0.1:{port}/ws", compression=None, ping_interval=None)
                order = {"user_id": "alice", "symbol": "AAPL", "side": "BUY", "quantity": 1, "price": "10"}
                await connection.send(json.dumps({"op": "submit", **order}))
                await connection.recv()
                for channel in ("depth", "candles"):
                    await connection.send(json.dumps({"op": "subscribe", "channel": channel, "symbol": "AAPL"}))
                    await connection.recv()
                if number % 3 == 0:
                    await connection.close()
                elif number % 3 == 1:
                    connection.transport.abort()
                else:
                    await connection.send(b"binary")
                await connection.wait_closed()
            await asyncio.sleep(0.1)
            gc.set_debug(gc.DEBUG_SAVEALL)
            gc.collect()
            left = {type(found).__name__ for found in gc.garbage}
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
    assert left & OURS == set()
