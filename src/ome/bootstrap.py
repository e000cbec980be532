"""The only wiring: what a running service is made of, and how it starts and stops.

    edge (api) -> order entry -> runner -> engine
                                   |-> repository (database)
                                   |-> feed -> market view; metrics   (told of every committed batch)
    edge (api) -> market view, read models (database)

Starting takes the lock and the fence, recovers, verifies, and only then listens; whatever stands against it ends the process
with a sentence and an exit status of its own (see `domain.errors`).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import math
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from functools import partial
from types import FrameType
from typing import Any, Final

import structlog
import uvicorn

from ome.api.app import build_app
from ome.api.connections import ConnectionLimits, Connections
from ome.api.protocol import Connection
from ome.api.settings import ApiSettings
from ome.config import Settings, load_settings, not_built
from ome.db import open_storage
from ome.domain.clock import MICROSECONDS, now_us
from ome.domain.errors import OmeError, StorageError
from ome.domain.records import EngineSettings
from ome.engine.order_entry import OrderEntryDesk
from ome.engine.runner import EngineRunner, RunnerLimits
from ome.marketdata.feed import Feed
from ome.marketdata.view import MarketView
from ome.observability import Metrics, configure_logging

EXIT_SOFTWARE: Final = 70
"""Exit status after a bug: the engine stopped rather than guess (EX_SOFTWARE)."""
EXIT_ADDRESS: Final = 69
"""Exit status when the address can't be listened on (EX_UNAVAILABLE)."""
EXIT_NOT_DRAINED: Final = 75
"""Exit status when it was stopped before everything taken was durable (EX_TEMPFAIL)."""
_LEAST_DRAIN_S: Final = 0.5
DAY_US: Final = 24 * 3600 * MICROSECONDS
_BACKLOG: Final = 2048
_SPARE_FILES: Final = 128
"""Open files besides connections: the database's, the listener, the standard ones, and those that come and go."""

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
        self._feed = Feed(self._market)
        self.app = build_app(
            entry=OrderEntryDesk(self._runner, self._storage.reads, wait_s=settings.client_wait_sec),
            reads=self._storage.reads,
            market=self._market,
            bus=self._runner,
            settings=ApiSettings(
                api_key=settings.api_key.get_secret_value(),
                private_reads=settings.private_reads,
                max_body_bytes=settings.max_body_bytes,
                max_batch_bytes=settings.max_batch_bytes,
                max_head_bytes=settings.max_header_bytes,
            ),
            metrics=self._metrics,
            durability=lambda: self._storage.repository.durability,
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
        self._feed.load(trades)
        await self._runner.run([self._feed, self._metrics])

    async def stop(self, within_s: float | None = None) -> bool:
        """Finish what was taken and give back the database; whether all of it is durable."""
        drained = await self._runner.stop(within_s)
        await self._storage.close()
        self.app.flush()
        return drained

    @contextlib.asynccontextmanager
    async def _lifespan(self, _app: object) -> AsyncIterator[None]:
        """For ASGI servers that are given `create_app`; `serve` starts and stops by itself."""
        await self.start()
        try:
            yield
        finally:
            await self.stop()

    @property
    def metrics(self) -> Metrics:
        """What counts."""
        return self._metrics

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


async def serve(settings: Settings, signals: Signals) -> int:
    """Run the service until it is told to stop or halts; the exit status."""
    configure_logging(settings.log_level, settings.log_format)
    for name in not_built():
        log.warning("not_supported", setting=name, advice="it does nothing yet; leave it out")
    try:
        listener = _listen(settings.host, settings.port)
    except OSError as error:
        log.error(  # noqa: TRY400  the sentence says it; a traceback would not help
            "cannot_listen", host=settings.host, port=settings.port, error=error.strerror, advice=_address_advice(error)
        )
        return EXIT_ADDRESS
    with listener:
        try:
            service = Service(settings)
            with _collections_put_off():
                await signals.until_stopped(service.start())
        except OmeError as error:
            status = error.exit_code if isinstance(error, StorageError) else StorageError.exit_code
            log.critical("cannot_start", error=str(error) or type(error).__name__, exit_status=status)
            return status
        except asyncio.CancelledError:
            log.info("stopped_while_starting")
            return 0
        return await _serve(service, listener, signals)


@contextlib.contextmanager
def _collections_put_off() -> Iterator[None]:
    """No garbage is collected meanwhile, and what is there afterwards is never looked at again: walking through a million open
    orders, again and again while they are made, takes longer than making them, and later it would stop the engine for a second
    each time. They are freed by their reference counts all the same.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


async def _serve(service: Service, listener: socket.socket, signals: Signals) -> int:
    settings = service.settings
    server = uvicorn.Server(_uvicorn_config(service, settings))
    watch = asyncio.create_task(_stop_when_halted(service, server))
    host, port = listener.getsockname()[:2]
    address = f"[{host}]" if ":" in host else host
    log.info("listening", url=f"http://{address}:{port}", key_needed=bool(settings.api_key.get_secret_value()))
    drained = False
    try:
        await server.serve(sockets=[listener])
    finally:
        watch.cancel()
        drained = await service.stop(within_s=signals.stopping(settings.drain_sec))
    log.info("stopped", position=service.position, everything_durable=drained)
    if service.failure is not None:
        return service.failure.exit_code if isinstance(service.failure, StorageError) else EXIT_SOFTWARE
    return 0 if drained else EXIT_NOT_DRAINED


class Signals:
    """SIGINT and SIGTERM in the three phases of a process's life.

    While it starts, one ends the start. While it serves, they are uvicorn's, which raises them once more when it has stopped.
    While it stops, another one ends the process at once, as SIGKILL would.
    """

    def __init__(self) -> None:
        self._starting: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._came_at: float | None = None
        self._is_stopping = False

    def install(self) -> None:
        """Take the signals over from Python."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._came)

    async def until_stopped(self, start: Coroutine[Any, Any, None]) -> None:
        """Run the start; a signal cancels it (CancelledError)."""
        self._loop = asyncio.get_running_loop()
        self._starting = asyncio.create_task(start)
        try:
            await self._starting
        finally:
            self._starting = None

    def stopping(self, drain_s: float) -> float:
        """From here on a signal ends the process. How many seconds of `drain_s` are left since the first one came."""
        self._is_stopping = True
        elapsed = 0.0 if self._came_at is None else time.monotonic() - self._came_at
        return max(_LEAST_DRAIN_S, drain_s - elapsed)

    def _came(self, number: int, _frame: FrameType | None) -> None:
        if self._is_stopping:
            os._exit(128 + number)
        if self._came_at is None:
            self._came_at = time.monotonic()
        if self._starting is not None and self._loop is not None:
            self._loop.call_soon_threadsafe(self._starting.cancel)


def run(settings: Settings) -> int:
    """`serve` in an event loop of its own."""
    signals = Signals()
    signals.install()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(serve(settings, signals))


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
        http=partial(Connection, _connections(service, settings)),  # type: ignore[arg-type]  # called as the class is
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=True,
        proxy_headers=False,
        timeout_graceful_shutdown=math.ceil(settings.drain_sec),
        ws="none",
    )


def _connections(service: Service, settings: Settings) -> Connections:
    limits = ConnectionLimits(
        connections=_affordable(settings.max_connections),
        connections_per_address=settings.max_connections_per_address,
        requests=settings.max_requests,
        head_bytes=settings.max_header_bytes,
        message_bytes=settings.max_header_bytes + 2 * max(settings.max_body_bytes, settings.max_batch_bytes),
        receive_timeout_s=settings.receive_timeout_sec,
        send_timeout_s=settings.send_timeout_sec,
        keep_alive_s=settings.keep_alive_sec,
    )
    return Connections(limits, service.metrics)


def _affordable(connections: int) -> int:
    """So many connections as this process may open files for, after asking for as many: beyond it they are refused in words."""
    try:
        import resource  # noqa: PLC0415  not on every platform
    except ImportError:
        return connections
    wanted = connections + _SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return connections
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    if most < wanted:
        log.warning("few_open_files", limit=most, connections=max(1, most - _SPARE_FILES), advice="raise ulimit -n")
    return min(connections, max(1, most - _SPARE_FILES))


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
