"""The only wiring: what a running service is made of, and how it starts and stops.

    edge (api) -> order entry -> runner -> engine
                                   |-> repository (database)
                                   |-> market view, metrics   (told of every committed batch)
    edge (api) -> market view, read models (database)

Starting takes the lock and the fence, recovers, verifies, and only then listens; whatever stands against it ends the process
with a sentence and an exit status of its own (see `domain.errors`).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import signal
import socket
from collections.abc import AsyncIterator
from typing import Any, Final

import structlog
import uvicorn

from ome.api.app import build_app
from ome.api.settings import ApiSettings
from ome.config import Settings, load_settings
from ome.db import open_storage
from ome.domain.clock import MICROSECONDS, now_us
from ome.domain.errors import StorageError
from ome.domain.records import EngineSettings
from ome.engine.order_entry import OrderEntryDesk
from ome.engine.runner import EngineRunner, RunnerLimits
from ome.marketdata.view import MarketView
from ome.observability import Metrics, configure_logging

EXIT_SOFTWARE: Final = 70
"""Exit status after a bug: the engine stopped rather than guess (EX_SOFTWARE)."""
EXIT_ADDRESS: Final = 69
"""Exit status when the address can't be listened on (EX_UNAVAILABLE)."""
DAY_US: Final = 24 * 3600 * MICROSECONDS
_BACKLOG: Final = 2048
_KEEP_ALIVE_S: Final = 75

log = structlog.get_logger(__name__)


class Service:
    """One process: the edge, the engine and the database behind one ASGI application, `app`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.failure: BaseException | None = None
        self.halted = asyncio.Event()
        self._metrics = Metrics()
        self._storage = open_storage(settings.database_url, pool_size=settings.database_pool_size, stalled=self._stalled)
        self._runner = EngineRunner(
            self._storage.repository,
            settings=EngineSettings(settings.auto_list, settings.max_symbols, settings.max_cascade),
            limits=RunnerLimits(
                queue=settings.queue_size,
                cancel_slots=settings.queue_size // 10,
                batch=settings.batch_size,
                client_wait_s=settings.client_wait_sec,
                drain_s=settings.drain_sec,
            ),
            metrics=self._metrics,
            on_halt=self._halt,
        )
        self._market = MarketView()
        self.app = build_app(
            entry=OrderEntryDesk(self._runner, self._storage.reads),
            reads=self._storage.reads,
            market=self._market,
            bus=self._runner,
            settings=ApiSettings(
                api_key=settings.api_key.get_secret_value(),
                private_reads=settings.private_reads,
                max_body_bytes=settings.max_body_bytes,
            ),
            metrics=self._metrics,
            lifespan=self._lifespan,
        )

    async def start(self) -> None:
        """Recover and begin to take commands. Raises a StorageError that says what stands against it."""
        try:
            engine = await self._runner.recover()
            trades = await self._storage.reads.trades_since(now_us() - DAY_US)
        except BaseException:
            await self.stop()
            raise
        self._market.load(
            [(book.record(), book.depth(engine.time)) for book in engine.books()], trades, engine.running_auctions()
        )
        await self._runner.run([self._market, self._metrics])

    async def stop(self) -> None:
        """Finish what was taken and give back the database."""
        await self._runner.stop()
        await self._storage.close()
        self.app.flush()

    @contextlib.asynccontextmanager
    async def _lifespan(self, _app: object) -> AsyncIterator[None]:
        """For ASGI servers that are given `create_app`; `serve` starts and stops by itself."""
        await self.start()
        try:
            yield
        finally:
            await self.stop()

    @property
    def position(self) -> int:
        """The last committed position."""
        return self._runner.position

    def _stalled(self, stalled: bool) -> None:  # noqa: FBT001  the repository's callback
        self._runner.stalled(stalled)

    def _halt(self, error: BaseException) -> None:
        self.failure = error
        self.halted.set()


def create_app() -> Any:
    """The ASGI application, for `uvicorn --factory ome.bootstrap:create_app`; settings come from the environment."""
    return Service(load_settings()).app


async def serve(settings: Settings) -> int:
    """Run the service until it is told to stop (SIGINT, SIGTERM) or halts; the exit status."""
    configure_logging(settings.log_level, settings.log_format)
    try:
        listener = _listen(settings.host, settings.port)
    except OSError as error:
        log.error(  # noqa: TRY400  the sentence says it; a traceback would not help
            "cannot_listen", host=settings.host, port=settings.port, error=error.strerror, advice=_address_advice(error)
        )
        return EXIT_ADDRESS
    service = Service(settings)
    try:
        await service.start()
    except StorageError as error:
        log.critical("cannot_start", error=str(error), exit_status=error.exit_code)
        listener.close()
        return error.exit_code
    server = uvicorn.Server(_uvicorn_config(service, settings))
    watch = asyncio.create_task(_stop_when_halted(service, server))
    host, port = listener.getsockname()[:2]
    log.info(
        "listening",
        url=f"http://{f'[{host}]' if ':' in host else host}:{port}",
        key_needed=bool(settings.api_key.get_secret_value()),
    )
    try:
        await server.serve(sockets=[listener])
    finally:
        watch.cancel()
        await service.stop()
    log.info("stopped", position=service.position)
    if service.failure is None:
        return 0
    return service.failure.exit_code if isinstance(service.failure, StorageError) else EXIT_SOFTWARE


def run(settings: Settings) -> int:
    """`serve` in an event loop of its own; a signal ends it with status 0 once everything taken is durable."""
    for number in (signal.SIGINT, signal.SIGTERM):
        # uvicorn raises the signal that stopped it once more when it has stopped; by then all is done.
        signal.signal(number, lambda *_: None)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(serve(settings))


def _loop_factory() -> Any:
    """Uvloop where there is one."""
    try:
        import uvloop  # noqa: PLC0415  not on every platform
    except ImportError:
        return None
    return uvloop.new_event_loop


def _uvicorn_config(service: Service, settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        service.app,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=True,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=int(settings.drain_sec) or 1,
        ws="none",
    )


async def _stop_when_halted(service: Service, server: uvicorn.Server) -> None:
    await service.halted.wait()
    server.should_exit = True


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket; binding first means that a taken port costs no recovery."""
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)  # noqa: FBT003  its name says what is false
    return listener


def _address_advice(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "something else listens there; take another port, such as PORT=5001"
    return "see HOST and PORT"
