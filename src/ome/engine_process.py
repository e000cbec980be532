"""The engine of one shard, as a process of its own: `ome engine --shard i/n`. Gateways ask it over NATS.

    NATS -> shard server -> order entry -> runner -> engine
                                             |-> repository (PostgreSQL)
                                             |-> market view; publisher -> NATS   (told of every committed batch)

Starting takes the shard's lock, or, with STANDBY, waits for it; then it recovers, and only then it is heard on NATS. With
METRICS_PORT it answers `/metrics` and `/health` from the first moment on, and nothing else (`engine_http`).
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from functools import partial

import structlog

from ome.bootstrap import (
    EXIT_ADDRESS,
    EXIT_NOT_DRAINED,
    EXIT_SOFTWARE,
    Signals,
    Stopped,
    cannot_start,
    engine_settings,
    kept,
    listen,
    run_until_stopped,
    runner_limits,
)
from ome.cluster.connection import NatsConnection
from ome.cluster.places import Places
from ome.cluster.publisher import Publisher
from ome.cluster.shard_server import ShardServer
from ome.cluster.subjects import Subjects
from ome.config import Settings
from ome.db.shard_map import StoredShardMap
from ome.db.storage import open_storage
from ome.domain.errors import OmeError, StorageError
from ome.domain.shards import ShardMap
from ome.engine.engine import Engine
from ome.engine.funds_entry import FundsDesk
from ome.engine.order_entry import OrderEntryDesk
from ome.engine.runner import EngineRunner
from ome.engine_http import EngineHttp
from ome.history.archivist import Archivist, chores
from ome.history.candles import CandleKeeper
from ome.marketdata.view import MarketView
from ome.observability import Figures, Metrics, configure_logging

log = structlog.get_logger(__name__)


class EngineProcess:
    """One shard's engine, its database and its ear and voice on NATS."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.shard, self._shards = settings.shard_of
        self.failure: BaseException | None = None
        self.halted = asyncio.Event()
        self.metrics = Metrics()
        self._stored_map = StoredShardMap(settings.database_url)
        self._map: ShardMap | None = None
        self._storage = open_storage(
            settings.database_url,
            shard=self.shard,
            pool_size=settings.database_pool_size,
            lease_s=settings.lease_sec,
            standby=settings.standby,
            stalled=self._stalled,
            failed=self._fail,
        )
        self._runner = EngineRunner(
            self._storage.repository,
            settings=engine_settings(settings),
            limits=runner_limits(settings),
            metrics=self.metrics,
            on_halt=self._halt,
        )
        self._market = MarketView()
        self.metrics.figures = self._figures
        self._nats = NatsConnection(settings.nats_url, f"engine-{self.shard}-{secrets.token_hex(4)}")
        self._server: ShardServer | None = None
        self._publisher: Publisher | None = None
        archive = self._storage.archive
        self._candles = CandleKeeper(archive)
        self._archivist = Archivist(chores(archive, self._market, lambda: self._runner.position, kept(settings), self._candles))

    async def open(self) -> None:
        """Connect to NATS and take the lock. Raises what stands against it, but for a database that is away."""
        await self._nats.open()
        await self._runner.open()

    async def start(self) -> None:
        """Recover, begin to take commands and be heard. Raises a StorageError that says what stands against it."""
        await self._runner.recover(self._load)
        shard_map = self._shard_map
        subjects = Subjects(shard_map.cluster)
        log_bytes = self.settings.event_log_mb * 1024 * 1024
        self._publisher = publisher = Publisher(self.shard, self._nats, subjects, self._market, self._lineage, log_bytes)
        await publisher.start(self._runner.position)
        self._server = ShardServer(
            shard=self.shard,
            nats=self._nats,
            subjects=subjects,
            entry=OrderEntryDesk(self._runner, self._storage.reads, wait_s=self.settings.client_wait_sec),
            funds=FundsDesk(self._runner, self._storage.reads),
            bus=self._runner,
            lineage=self._lineage,
            durability=lambda: self._storage.repository.durability,
            places=Places(shard_map, self._stored_map),
            is_listed=lambda symbol: self._market.instrument(symbol) is not None,
            why_it_stays=self._runner.why_it_stays,
            symbol_of=self._symbol_of,
            stored=CandleKeeper(self._storage.archive).catch_up,
            skew_s=self.settings.clock_skew_sec,
        )
        await self._runner.run([self._market, publisher, self.metrics, self._candles], [publisher])
        await self._server.start()
        self._archivist.start()

    async def _load(self, engine: Engine) -> None:
        self._map = await self._stored_map.join(self._shards)
        self._market.load([(book.record(), book.depth(engine.time)) for book in engine.books()], engine.running_auctions())

    async def _symbol_of(self, order_id: int) -> str | None:
        order = await self._storage.reads.order(order_id)
        return None if order is None else order.symbol

    async def stop(self, within_s: float) -> bool:
        """Hear nothing more, finish what was taken, answer it, and give everything back; whether all of it is durable."""
        await self._archivist.stop()
        if self._server is not None:
            await self._server.stop()
        drained = await self._runner.drain(within_s)
        if self._server is not None:
            await asyncio.sleep(0)  # the last answers are on their way to the connection
            self._server.tell_state()
            await self._nats.flushed()
        if self._publisher is not None:
            self._publisher.stop()
        drained = await self._runner.stop() and drained
        await self._storage.close()
        await self._nats.close()
        return drained

    @property
    def state(self) -> str:
        """The engine's."""
        return self._runner.state

    @property
    def reason(self) -> str:
        """See CommandBus."""
        return self._runner.reason

    @property
    def position(self) -> int:
        """The last committed position."""
        return self._runner.position

    @property
    def waiting(self) -> int:
        """See CommandBus."""
        return self._runner.waiting

    def _figures(self) -> Figures:
        instruments, levels = self._market.size
        return Figures(self._runner.open_orders, levels, instruments)

    @property
    def _shard_map(self) -> ShardMap:
        if self._map is None:
            raise AssertionError  # it is read by `recover`
        return self._map

    def _lineage(self) -> tuple[int, str]:
        return self._storage.repository.epoch, self._storage.repository.incarnation

    def _stalled(self, stalled: bool) -> None:  # noqa: FBT001  the repository's callback
        self._runner.stalled(stalled)

    def _fail(self, error: StorageError) -> None:
        self._runner.fail(error)

    def _halt(self, error: BaseException) -> None:
        self.failure = error
        if self._server is not None:
            self._server.tell_state()
        self.halted.set()


async def _live(settings: Settings, signals: Signals) -> int:
    """Run the engine until it is told to stop or halts; the exit status."""
    configure_logging(settings.log_level, settings.log_format, process=f"engine {settings.shard_of[0]}")
    signals.watch()
    try:
        listener = listen(settings.host, settings.metrics_port) if settings.metrics_port else None
    except OSError as error:
        log.error("cannot_listen", host=settings.host, port=settings.metrics_port, error=error.strerror)  # noqa: TRY400  it is said
        return EXIT_ADDRESS
    with listener or contextlib.nullcontext():
        try:
            engine = EngineProcess(settings)
        except OmeError as error:
            return cannot_start(error)
        http = EngineHttp(engine, listener)
        if listener is not None:
            http.start()
            log.info("listening", url=f"http://{settings.host}:{settings.metrics_port}/metrics")
        try:
            return await _trade(engine, settings, signals)
        finally:
            await http.stop()


async def _trade(engine: EngineProcess, settings: Settings, signals: Signals) -> int:
    """From the lock to the last answer; the exit status."""
    status = 0
    try:
        await signals.unless_stopped(engine.open())
        await signals.unless_stopped(engine.start())
        log.info("serving", shard=settings.shard, position=engine.position)
        await signals.unless_stopped(_until(engine.halted))
    except Stopped:
        log.info("stopping", state=engine.state)
    except OmeError as error:
        status = cannot_start(error)
    finally:
        drained = await engine.stop(signals.left(settings.drain_sec))
    if status == 0:
        log.info("stopped", position=engine.position, everything_durable=drained)
    if engine.failure is not None:
        return engine.failure.exit_code if isinstance(engine.failure, StorageError) else EXIT_SOFTWARE
    return status if drained else status or EXIT_NOT_DRAINED


async def _until(event: asyncio.Event) -> None:
    await event.wait()


def run_engine(settings: Settings) -> int:
    """Serve one shard until SIGINT or SIGTERM; the exit status."""
    return run_until_stopped(partial(_live, settings))
