"""The only wiring: what a running service is made of, and how it starts and stops.

    edge (api) -> order entry -> runner -> engine
                                   |-> repository (database)
                                   |-> feed -> market view; metrics   (told of every committed batch)
    edge (api) -> market view, read models (database)

Starting takes the lock and then listens: while it recovers and verifies, or waits for a database that is away, it says so.
Whatever else stands against it ends the process with a sentence and an exit status of its own (see `domain.errors`).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import math
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from types import FrameType
from typing import Any, Final, Protocol

import structlog
import uvicorn

from ome.api.app import build_app
from ome.api.connections import ConnectionLimits, Connections
from ome.api.dispatcher import Dispatcher
from ome.api.protocol import Connection
from ome.api.services import Ports
from ome.api.settings import ApiSettings, RateSettings, StreamSettings
from ome.api.websocket import WebSocketConnection
from ome.config import Settings, load_settings
from ome.db.replica_reads import ReadReplica
from ome.db.shard_map import StoredShardMap
from ome.db.storage import open_storage
from ome.db.url import parse_url
from ome.demo.child import ChildDemo
from ome.domain.clock import MICROSECONDS, now_us
from ome.domain.errors import OmeError, StorageError, StorageUnusable
from ome.domain.keys import fold_keys
from ome.domain.ports import ReadModels
from ome.domain.records import EngineSettings
from ome.engine.engine import Engine
from ome.engine.funds_entry import FundsDesk
from ome.engine.order_entry import OrderEntryDesk
from ome.engine.runner import EngineRunner, RunnerLimits
from ome.history.archivist import Archivist, Kept, chores
from ome.history.past import StoredPast
from ome.marketdata.feed import Feed
from ome.marketdata.view import MarketView
from ome.observability import Figures, Metrics, configure_logging
from ome.telemetry import Errors, ExtraMissing, Traces

EXIT_SOFTWARE: Final = 70
"""Exit status after a bug: the engine stopped rather than guess (EX_SOFTWARE)."""
EXIT_NO_KEY: Final = 2
"""Exit status where an address that others can reach is to be listened on without any key: a setting is wrong."""
EXIT_USAGE: Final = 2
FIRST_KEY: Final = "make the first key: ome keys create --user YOU --scope operator; or set API_KEY"
EXIT_ADDRESS: Final = 69
"""Exit status when the address can't be listened on (EX_UNAVAILABLE)."""
EXIT_NOT_DRAINED: Final = 75
"""Exit status when it was stopped before everything taken was durable (EX_TEMPFAIL)."""
GC_THRESHOLDS: Final = (50_000, 5, 100)
"""When garbage is collected (`gc.set_threshold`): each time that many more objects exist than were freed. With CPython's 700 a
thousand requests that are worked on are walked through again and again. Cycles that are left behind wait longer to be freed."""
SEVERAL_WORKERS: Final = (
    "OME: several workers can't share one engine. Start one, or, on PostgreSQL, gateways in front of engines:"
    " ome engine --shard 0/1 and ome gateway --workers 4 (docs/design.md, Past one process)."
)
DEMO_SEED: Final = 1
"""Of the traders that DEMO starts."""
_MIB: Final = 1024 * 1024
_LEAST_DRAIN_S: Final = 0.5
DAY_US: Final = 24 * 3600 * MICROSECONDS
_FAREWELL_S: Final = 0.25
_BACKLOG: Final = 2048
_SPARE_FILES: Final = 128
"""Open files besides connections: the database's, the listener, the standard ones, and those that come and go."""

log = structlog.get_logger(__name__)


class Served(Protocol):
    """What listens on a port and can be stopped in order: the single process, or a gateway."""

    settings: Settings
    failure: BaseException | None
    halted: asyncio.Event
    demo: ChildDemo | None
    app: Dispatcher

    async def open(self) -> None:
        """What comes before listening. Raises an OmeError that says what stands against it."""

    async def start(self) -> None:
        """Get ready to take commands, while it listens already. Raises as `open`."""

    async def drain(self, within_s: float) -> bool:
        """Finish what was taken and refuse everything new; whether all of it is decided. What can be read still can be."""

    async def stop(self) -> bool:
        """`drain`, and give back what it holds."""

    @property
    def metrics(self) -> Metrics:
        """What counts."""

    @property
    def state(self) -> str:
        """As CommandBus."""

    @property
    def position(self) -> int:
        """As CommandBus."""


class Service:
    """One process: the edge, the engine and the database behind one ASGI application, `app`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.failure: BaseException | None = None
        self.halted = asyncio.Event()
        self._metrics = Metrics()
        self._storage = open_storage(
            settings.database_url,
            pool_size=settings.database_pool_size,
            lease_s=settings.lease_sec,
            standby=settings.standby,
            stalled=self._stalled,
            ballast_bytes=settings.disk_reserve_mb * _MIB,
            low_bytes=settings.disk_low_mb * _MIB,
            space_is_low=self._space_is_low,
            measured=self._metrics.disk_measured,
            failed=self._fail,
        )
        self._replica = read_replica(settings, self._metrics)
        self._runner = EngineRunner(
            self._storage.repository,
            settings=engine_settings(settings),
            limits=runner_limits(settings),
            metrics=self._metrics,
            on_halt=self._halt,
        )
        self._market = MarketView()
        self._feed = Feed(self._market)
        self.demo: ChildDemo | None = ChildDemo()
        self._metrics.figures = self._figures
        self._archivist = Archivist(chores(self._storage.archive, self._market, lambda: self._runner.position, kept(settings)))
        self.app = build_app(
            ports=Ports(
                entry=OrderEntryDesk(self._runner, self._storage.reads, wait_s=settings.client_wait_sec),
                funds=FundsDesk(self._runner, self._storage.reads),
                reads=self._replica.reads(self._storage.reads, shard=0),
                market=self._market,
                past=self._replica.past(StoredPast(self._storage.archive), lambda archives: StoredPast(archives[0])),
                feed=self._feed,
                bus=self._runner,
                demo=self.demo,
            ),
            settings=api_settings(settings),
            metrics=self._metrics,
            stream_settings=stream_settings(settings),
            durability=lambda: self._storage.repository.durability,
            lineage=lambda: (self._storage.repository.epoch, self._storage.repository.incarnation),
            lifespan=self._lifespan,
        )

    async def open(self) -> None:
        """Take the lock. Raises a StorageError that says what stands against it, but for a database that is away."""
        await self._runner.open()

    async def start(self) -> None:
        """Recover and begin to take commands. Raises a StorageError that says what stands against it."""
        await self._runner.recover(self._load_views)
        self._replica.start()
        await self._runner.run([self._feed, self._metrics], [self.app.streams.orders])
        self._archivist.start()

    async def _load_views(self, engine: Engine) -> None:
        await self._check_alone()
        self.app.gate.keys.load(fold_keys(await self._storage.reads.key_entries()).values())
        await load_views(engine, self._storage.reads, self._market, self._feed, now_us())

    async def _check_alone(self) -> None:
        """One process serves one shard: symbols of others would be listed twice."""
        if parse_url(self.settings.database_url).kind == "sqlite":
            return
        found = await StoredShardMap(self.settings.database_url).read()
        if found is not None and found.shards > 1:
            raise StorageUnusable(
                f"This database is a cluster of {found.shards} shards: start them, ome engine --shard 0/{found.shards} and so on,"
                " and ome gateway in front of them."
            )

    async def drain(self, within_s: float) -> bool:
        """Finish what was taken and refuse everything new; whether all of it is durable. What can be read still can be."""
        self.app.say_farewell()
        if self.app.refused_keys is not None:
            await self.app.refused_keys.flush()
        return await self._runner.drain(within_s)

    async def stop(self) -> bool:
        """Finish what was taken and give back the database; whether all of it is durable."""
        await self._archivist.stop()
        drained = await self._runner.stop()
        await self._replica.close()
        await self._storage.close()
        self.app.flush()
        return drained

    @contextlib.asynccontextmanager
    async def _lifespan(self, _app: object) -> AsyncIterator[None]:
        """For ASGI servers that are given `create_app`; `serve` starts and stops by itself."""
        try:
            await self.open()
            await self.start()
            yield
        finally:
            await self.stop()

    @property
    def metrics(self) -> Metrics:
        """What counts."""
        return self._metrics

    @property
    def state(self) -> str:
        """The engine's."""
        return self._runner.state

    @property
    def position(self) -> int:
        """The last committed position."""
        return self._runner.position

    def _figures(self) -> Figures:
        instruments, levels = self._market.size
        streams = self.app.streams
        return Figures(self._runner.open_orders, levels, instruments, streams.subscriptions(), streams.lag())

    def _stalled(self, stalled: bool) -> None:  # noqa: FBT001  the repository's callback
        self._runner.stalled(stalled)

    def _space_is_low(self, low: bool) -> None:  # noqa: FBT001  likewise
        self._runner.storage_low(low)

    def _fail(self, error: StorageError) -> None:
        self._runner.fail(error)

    def _halt(self, error: BaseException) -> None:
        self.failure = error
        self.halted.set()


def read_replica(settings: Settings, metrics: Metrics, shards: int = 1) -> ReadReplica:
    """What DATABASE_READ_URL names. Raises StorageUnusable for what can't be used."""
    url, read_url = settings.database_url, settings.database_read_url
    return ReadReplica(url, read_url, shards=shards, pool_size=settings.database_pool_size, told=metrics)


async def load_views(engine: Engine, reads: ReadModels, market: MarketView, feed: Feed, now: int) -> None:
    """Bring the views to where a recovered engine stands; `now`, in microseconds, ends the day that they remember."""
    market.load([(book.record(), book.depth(engine.time)) for book in engine.books()], engine.running_auctions())
    feed.load()
    async for page in reads.trades_since(now - DAY_US):
        # trades beyond the engine's position are those of another engine that has taken over since: this one will be fenced
        trades = [trade for trade in page if trade.position <= engine.position]
        market.remember(trades)
        feed.remember(trades)


def several_workers(arguments: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Whether uvicorn or gunicorn was told to start more than one process."""
    told = [environment.get("WEB_CONCURRENCY", "")]
    for place, argument in enumerate(arguments):
        name, _, value = argument.partition("=")
        if name in {"--workers", "-w"}:
            told.append(value or "".join(arguments[place + 1 : place + 2]))
    return any(each.isdigit() and int(each) > 1 for each in told)


def create_app() -> Any:
    """The ASGI application, for `uvicorn --factory ome.bootstrap:create_app`; settings come from the environment.

    Ends the process where uvicorn starts several of it: one engine alone can have the database.
    """
    if several_workers(sys.argv, os.environ):
        sys.stderr.write(f"{SEVERAL_WORKERS}\n")
        if multiprocessing.parent_process() is not None:  # it would start this one again and again
            os.kill(os.getppid(), signal.SIGTERM)
        raise SystemExit(EXIT_USAGE)
    return Service(load_settings()).app


async def serve(
    settings: Settings, signals: Signals, make: Callable[[Settings], Served] = Service, *, shares_port: bool = False
) -> int:
    """Run what `make` makes until it is told to stop or halts; the exit status. `shares_port`: others listen there too."""
    try:
        if not settings.is_loopback and not settings.api_key.get_secret_value() and not await _has_keys(settings):
            log.error("cannot_listen", host=settings.host, error="other machines can reach it, and no key", advice=FIRST_KEY)
            return EXIT_NO_KEY
    except OmeError as error:
        return cannot_start(error)
    try:
        listener = listen(settings.host, settings.port, shares_port=shares_port)
    except OSError as error:
        log.error(  # noqa: TRY400  the sentence says it; a traceback would not help
            "cannot_listen", host=settings.host, port=settings.port, error=error.strerror, advice=_address_advice(error)
        )
        return EXIT_ADDRESS
    with listener, contextlib.ExitStack() as elsewhere:
        try:
            service = make(settings)
            _send_elsewhere(service, elsewhere)
        except OmeError as error:
            return cannot_start(error)
        except ExtraMissing as error:
            log.critical("cannot_start", error=str(error), exit_status=EXIT_USAGE)
            return EXIT_USAGE
        return await _live(service, listener, signals)


def _send_elsewhere(service: Served, stack: contextlib.ExitStack) -> None:
    """Have errors and traces sent where settings ask for it, until the stack ends. Raises ExtraMissing."""
    if dsn := service.settings.sentry_dsn.get_secret_value():
        errors = Errors(dsn)
        logging.getLogger().addHandler(errors)
        stack.callback(errors.end)
    if service.settings.otel_traces:
        traces = service.metrics.spans = Traces()
        stack.callback(traces.end)


async def _live(service: Served, listener: socket.socket, signals: Signals) -> int:
    """From the lock to the last answer: STARTING, RECOVERING while it listens already, RUNNING, DRAINING."""
    settings = service.settings
    server = _Server(_uvicorn_config(service, settings))
    serving: asyncio.Task[None] | None = None
    status = 0
    try:
        await signals.unless_stopped(service.open())
        serving = asyncio.create_task(server.serve(sockets=[listener]), name="http")
        log.info("listening", url=_url_of(listener))
        if service.demo is not None:
            service.demo.url = _own_url(listener)
        await signals.unless_stopped(service.start())
        if not service.app.gate.needs_key:
            log.warning("no_keys", who_connects="is the operator", advice=FIRST_KEY)
        if settings.demo and service.demo is not None:
            await service.demo.start(DEMO_SEED, settings.api_key.get_secret_value())
        await signals.unless_stopped(_either(service.halted.wait(), serving))
    except Stopped:
        log.info("stopping", state=service.state)
    except OmeError as error:
        status = cannot_start(error)
    finally:
        if service.demo is not None:
            await service.demo.stop()
        drained = await service.drain(signals.left(settings.drain_sec))
        await service.app.streams.shutdown()
        if serving is not None:
            server.config.timeout_graceful_shutdown = math.ceil(signals.left(settings.drain_sec))
            server.should_exit = True
            await serving
        await service.stop()
    if status == 0:
        log.info("stopped", position=service.position, everything_durable=drained)
    if service.failure is not None:
        return service.failure.exit_code if isinstance(service.failure, StorageError) else EXIT_SOFTWARE
    return status if drained else status or EXIT_NOT_DRAINED


async def _has_keys(settings: Settings) -> bool:
    """Whether the database has a key. Raises StorageAway where it doesn't answer."""
    url = parse_url(settings.database_url)
    if url.kind == "sqlite" and not Path(url.target).exists():  # noqa: ASYNC240  nothing is served yet
        return False
    storage = open_storage(settings.database_url, pool_size=1)
    try:
        return bool(await storage.reads.key_entries())
    except StorageUnusable:  # there is no table of them yet, or nothing at all; starting will tell
        return False
    finally:
        await storage.close()


def cannot_start(error: OmeError) -> int:
    """Say why; the exit status to leave with."""
    status = error.exit_code if isinstance(error, StorageError) else StorageError.exit_code
    log.critical("cannot_start", error=str(error) or type(error).__name__, exit_status=status)
    return status


async def _either(first: Coroutine[Any, Any, Any], second: asyncio.Task[None]) -> None:
    """Wait until one of them has ended; `first` ends with this."""
    task = asyncio.create_task(first)
    try:
        await asyncio.wait({task, second}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        task.cancel()


class _Server(uvicorn.Server):
    """uvicorn's, without its signal handlers (`Signals` has them), and with a farewell."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let nobody new in, and answer a moment longer whoever came in just before: a request whose connection is closed
        unread has an unknown outcome, and need not have one.
        """
        waiting = [connection for listener in sockets or () for connection in _accepted(listener)]
        for server in self.servers:
            server.close()
        for listener in sockets or ():
            listener.close()
        for connection in waiting:
            await asyncio.get_running_loop().connect_accepted_socket(self._protocol, connection)
        await asyncio.sleep(_FAREWELL_S)
        await super().shutdown(sockets)

    def _protocol(self) -> asyncio.Protocol:
        """As uvicorn makes it for a connection that it accepts."""
        config = self.config
        return config.http_protocol_class(  # type: ignore[call-arg]
            config=config, server_state=self.server_state, app_state=self.lifespan.state
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to whoever has them."""
        yield


def _accepted(listener: socket.socket) -> Iterator[socket.socket]:
    """The connections that are made already and that nobody has looked at."""
    with contextlib.suppress(BlockingIOError):
        while True:
            connection, _ = listener.accept()
            connection.setblocking(False)  # noqa: FBT003  its name says what is false
            yield connection


class Stopped(Exception):
    """A signal came before what was waited for."""


class Signals:
    """SIGINT and SIGTERM: the first one asks the process to stop, whatever it is doing; the second ends it at once, as SIGKILL
    would, so that nobody has to wait for a database that doesn't answer.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._told = asyncio.Event()
        self._came_at: float | None = None

    def install(self) -> None:
        """Take the signals over from Python."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._came)

    def watch(self) -> None:
        """Wake up this event loop from now on."""
        self._loop = asyncio.get_running_loop()
        if self._came_at is not None:
            self._told.set()

    async def unless_stopped(self, work: Coroutine[Any, Any, None]) -> None:
        """Do the work, or cancel it and raise Stopped when a signal comes first."""
        task, told = asyncio.create_task(work), asyncio.create_task(self._told.wait())
        try:
            await asyncio.wait({task, told}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                task.cancel()
                await asyncio.wait({task})
                raise Stopped
        finally:
            told.cancel()
        task.result()

    def left(self, drain_s: float) -> float:
        """How many seconds of `drain_s` are left since the first signal came, if one came."""
        elapsed = 0.0 if self._came_at is None else time.monotonic() - self._came_at
        return max(_LEAST_DRAIN_S, drain_s - elapsed)

    def _came(self, number: int, _frame: FrameType | None) -> None:
        if self._came_at is not None:
            os._exit(128 + number)
        self._came_at = time.monotonic()
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._told.set)


async def _alone(settings: Settings, signals: Signals) -> int:
    configure_logging(settings.log_level, settings.log_format)
    signals.watch()
    return await serve(settings, signals)


def run(settings: Settings) -> int:
    """`ome serve`, until SIGINT or SIGTERM; the exit status."""
    return run_until_stopped(partial(_alone, settings))


def run_until_stopped(work: Callable[[Signals], Coroutine[Any, Any, int]]) -> int:
    """Do the work in an event loop of its own; it is given the signals that ask it to stop. The exit status."""
    signals = Signals()
    signals.install()
    gc.set_threshold(*GC_THRESHOLDS)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(work(signals))


def _loop_factory() -> Any:
    """Uvloop where there is one."""
    try:
        import uvloop  # noqa: PLC0415  not on every platform
    except ImportError:
        return None
    return uvloop.new_event_loop


def _uvicorn_config(service: Served, settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        service.app,
        http=partial(Connection, _connections(service, settings), direct=service.app.begin),  # type: ignore[arg-type]  # called as the class is
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=True,
        proxy_headers=False,
        ws=WebSocketConnection,
        ws_max_size=settings.ws_max_message_bytes,
        ws_ping_interval=None,
        ws_per_message_deflate=False,
    )


def engine_settings(settings: Settings) -> EngineSettings:
    """What reaches the engine as a journaled command."""
    return EngineSettings(settings.auto_list, settings.max_symbols, settings.max_cascade, keeps_positions=True)


def runner_limits(settings: Settings) -> RunnerLimits:
    """The bounds of the engine's queue and its batches."""
    return RunnerLimits(
        queue=settings.queue_size,
        cancel_slots=settings.queue_size // 10,
        batch=settings.batch_size,
        client_wait_s=settings.client_wait_sec,
        drain_s=settings.drain_sec,
    )


def kept(settings: Settings) -> Kept:
    """What is kept beside the batches, and for how long."""
    return Kept(
        snapshot_interval_s=settings.snapshot_interval_sec,
        journal_days=settings.journal_retention_days,
        snapshot_days=settings.snapshot_retention_days,
        second_candle_days=settings.candle_1s_retention_days,
    )


def api_settings(settings: Settings, *, forwarding_s: float = 0.0) -> ApiSettings:
    """What the edge is told; `forwarding_s` is how long a command may be on its way to its engine."""
    return ApiSettings(
        api_key=settings.api_key.get_secret_value(),
        private_reads=settings.private_reads,
        trusted_hosts=_listed(settings.trusted_hosts.lower()),
        rates=rate_settings(settings),
        max_body_bytes=settings.max_body_bytes,
        max_batch_bytes=settings.max_batch_bytes,
        max_head_bytes=settings.max_header_bytes,
        forwarding_seconds=forwarding_s,
    )


def stream_settings(settings: Settings) -> StreamSettings:
    """The bounds of streams."""
    return StreamSettings(
        max_connections=settings.max_streams,
        max_subscriptions=settings.ws_max_subscriptions,
        max_in_flight=settings.ws_max_in_flight,
        messages_per_second=settings.ws_messages_per_sec,
        queue_messages=settings.stream_queue_messages,
        queue_bytes=settings.stream_queue_bytes,
        heartbeat_seconds=settings.stream_heartbeat_sec,
        max_order_bytes=settings.max_body_bytes,
        allowed_origins=_listed(settings.allowed_origins),
    )


def rate_settings(settings: Settings) -> RateSettings:
    """How much a key may ask."""
    return RateSettings(
        orders_per_second=settings.rate_orders_per_sec,
        cancels_per_second=settings.rate_cancels_per_sec,
        reads_per_second=settings.rate_reads_per_sec,
        failed_keys_per_second=settings.rate_failed_keys_per_sec,
        trusted_proxies=_listed(settings.trusted_proxies),
    )


def _listed(text: str) -> tuple[str, ...]:
    """What stands between the commas of a setting."""
    return tuple(each.strip() for each in text.split(",") if each.strip())


def _connections(service: Served, settings: Settings) -> Connections:
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


def listen(host: str, port: int, *, shares_port: bool = False) -> socket.socket:
    """A listening socket; binding first means that a taken port costs no recovery. `shares_port`: with others."""
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shares_port:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)  # noqa: FBT003  its name says what is false
    return listener


def reserve(host: str, port: int) -> socket.socket:
    """A socket that is bound and doesn't listen: it keeps a port for those that share it. Raises OSError where it is taken."""
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    reserved = socket.socket(family, socket.SOCK_STREAM)
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        reserved.bind(address)
    except OSError:
        reserved.close()
        raise
    return reserved


def _url_of(listener: socket.socket) -> str:
    return _http_url(*listener.getsockname()[:2])


def _own_url(listener: socket.socket) -> str:
    """Where the service finds itself: an address that means every one is loopback from here."""
    host, port = listener.getsockname()[:2]
    if ip_address(host).is_unspecified:
        host = "::1" if ":" in host else "127.0.0.1"
    return _http_url(host, port)


def _http_url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _address_advice(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "something else listens there; take another port, such as PORT=5001"
    return "see HOST and PORT"
