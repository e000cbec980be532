"""What an engine process answers by HTTP where METRICS_PORT asks for it: `/metrics`, `/health`, `/health/live`, `/health/ready`.

Orders don't come this way. It is answered by the event loop that trades, so that a process that hangs doesn't answer; by a
standby, too, which is alive and not ready. There are no keys: nothing here says who trades, or what.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Final, Protocol

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ome.observability import METRICS_CONTENT_TYPE, Metrics

RUNNING: Final = "RUNNING"
MOST_AT_ONCE: Final = 64
"""Connections; beyond it 503."""
STOP_S: Final = 1
"""How long an answer on its way may take when the engine stops."""


class Watched(Protocol):
    """The engine that is watched."""

    shard: int
    metrics: Metrics

    @property
    def state(self) -> str:
        """As CommandBus."""

    @property
    def reason(self) -> str:
        """As CommandBus."""

    @property
    def position(self) -> int:
        """As CommandBus."""

    @property
    def waiting(self) -> int:
        """As CommandBus."""


class EngineHttp:
    """The port of an engine process; nothing is answered before `start`, nor without a listener."""

    def __init__(self, engine: Watched, listener: socket.socket | None) -> None:
        self._engine = engine
        self._listener = listener
        self._serving: asyncio.Task[None] | None = None
        routes = {"/metrics": self._metrics, "/health": self._health, "/health/live": self._live, "/health/ready": self._ready}
        app = Starlette(routes=[Route(path, answer) for path, answer in routes.items()])
        self._server = _Server(
            uvicorn.Config(
                app,
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                ws="none",
                limit_concurrency=MOST_AT_ONCE,
                timeout_graceful_shutdown=STOP_S,
            )
        )

    def start(self) -> None:
        """Begin to answer."""
        if self._listener is not None:
            self._serving = asyncio.create_task(self._server.serve(sockets=[self._listener]), name="metrics")

    async def stop(self) -> None:
        """Finish the answers that are on their way."""
        if self._serving is not None:
            self._server.should_exit = True
            await self._serving

    async def _metrics(self, _request: Request) -> Response:
        """Prometheus metrics."""
        return Response(self._engine.metrics.render(self._engine.position, self._engine.waiting), media_type=METRICS_CONTENT_TYPE)

    async def _health(self, _request: Request) -> Response:
        """How it stands: 200 where orders are taken, else 503 with the reason."""
        engine, is_well = self._engine, self._engine.state == RUNNING
        told = {
            "status": "healthy" if is_well else "unhealthy",
            "shard": engine.shard,
            "state": engine.state,
            "reason": engine.reason,
            "position": engine.position,
            "waiting": engine.waiting,
        }
        return JSONResponse(told, 200 if is_well else 503)

    async def _live(self, _request: Request) -> Response:
        """Whether the process answers at all: 200, a standby's too."""
        return JSONResponse({"status": "alive"})

    async def _ready(self, _request: Request) -> Response:
        """Whether it trades: 200, or 503."""
        is_ready = self._engine.state == RUNNING
        return JSONResponse({"status": "ready" if is_ready else "not ready"}, 200 if is_ready else 503)


class _Server(uvicorn.Server):
    """uvicorn's, without its signal handlers."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the engine."""
        yield
