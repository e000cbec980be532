"""A gateway: the whole HTTP and WebSocket edge over engines elsewhere. Any number of them run side by side; none keeps anything.

    edge (api) -> gateway entry -> NATS -> the shard's engine
    edge (api) -> views of all shards, fed over NATS (gateway_views); read models (PostgreSQL)

Starting waits for the cluster's row in the database, for NATS, and for the books of the shards: of one at least, and of every one
whose engine is there. An engine that is away costs its own symbols alone; its books are taken in when it comes.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
from collections.abc import Sequence
from functools import partial
from typing import Final

import structlog

from ome.api.app import build_app
from ome.api.dispatcher import Dispatcher
from ome.api.services import Ports
from ome.bootstrap import (
    EXIT_ADDRESS,
    Signals,
    Stopped,
    api_settings,
    cannot_start,
    read_replica,
    reserve,
    run_until_stopped,
    serve,
    stream_settings,
)
from ome.cluster.cluster_market import ClusterMarket
from ome.cluster.connection import NatsConnection
from ome.cluster.event_log import EventLog
from ome.cluster.follower import ShardFollower
from ome.cluster.gateway_bus import DRAINING, GatewayBus
from ome.cluster.gateway_entry import GatewayEntry
from ome.cluster.places import Places
from ome.cluster.shard_link import AWAY, RUNNING, ShardLink
from ome.cluster.subjects import Subjects
from ome.cluster.wire import State, read_state
from ome.config import Settings
from ome.db.archive import StoredArchive
from ome.db.cluster_reads import ClusterStorage
from ome.db.shard_map import Head, StoredShardMap
from ome.demo.child import ChildDemo
from ome.domain.errors import OmeError, StorageAway, StorageError
from ome.domain.keys import fold_keys
from ome.domain.ports import Page
from ome.domain.shards import ShardMap
from ome.gateway_views import GatewayViews
from ome.history.cluster_past import ClusterPast
from ome.history.past import StoredPast
from ome.observability import Metrics, configure_logging
from ome.processes import Child, Children, ome

PAUSE_S: Final = 0.5
"""Seconds between two looks for the cluster's row."""
LOOKS_BEFORE_ADVICE: Final = 10
"""Looks in vain before it is said what is waited for."""
OTHERS_S: Final = 1.0
"""How long the books of other shards are waited for once those of one are there: an engine that runs answers at once."""
KEYS_EVERY_S: Final = 0.5
"""Seconds between two looks for keys that have changed, where nobody says so over NATS."""

log = structlog.get_logger(__name__)


class GatewayService:
    """One gateway process, as `bootstrap.serve` runs it; `shard_map` is the cluster's."""

    def __init__(self, settings: Settings, shard_map: ShardMap) -> None:
        self.settings = settings
        self.failure: BaseException | None = None
        self.halted = asyncio.Event()
        self.demo: ChildDemo | None = None
        self._stored_map = StoredShardMap(settings.database_url)
        self._places = places = Places(shard_map, self._stored_map)
        self._metrics = Metrics()
        self._subjects = subjects = Subjects(shard_map.cluster)
        self._storage = ClusterStorage(settings.database_url, shards=shard_map.shards, pool_size=settings.database_pool_size)
        self._replica = read_replica(settings, self._metrics, shard_map.shards)
        of_shard = [self._replica.reads(reads, shard) for shard, reads in enumerate(self._storage.reads.of_shard)]
        name = f"gateway-{secrets.token_hex(6)}"
        self._nats = nats = NatsConnection(settings.nats_url, name)
        shards = range(shard_map.shards)
        self._links = [ShardLink(shard, name, nats, subjects, settings.client_wait_sec) for shard in shards]
        views = GatewayViews(of_shard, places, lambda: self.app.streams)
        self._followers = views.followers = [
            ShardFollower(
                shard, nats, subjects, of_one, self._links[shard].catch_up, EventLog(shard, nats, subjects), self._metrics
            )
            for shard, of_one in enumerate(views.shards)
        ]
        entry = GatewayEntry(self._links, places, self._symbol_of, settings.client_wait_sec)
        self._bus = GatewayBus(self._links, entry)
        market = ClusterMarket(views.view, views.feed, views.shards, places.shard_of)

        def past(archives: Sequence[StoredArchive]) -> ClusterPast:
            of_shards = [StoredPast(archive, shard=shard) for shard, archive in enumerate(archives)]
            return ClusterPast(of_shards, places.shard_of, lambda symbol: symbol in places.moved)

        self.app: Dispatcher = build_app(
            ports=Ports(
                entry=entry,
                funds=entry,
                reads=self._replica.reads(self._storage.reads),
                market=market,
                past=self._replica.past(past(self._storage.archives), past),
                feed=market,
                bus=self._bus,
                shards=of_shard,
            ),
            settings=api_settings(settings, forwarding_s=settings.client_wait_sec + settings.clock_skew_sec),
            metrics=self._metrics,
            stream_settings=stream_settings(settings),
            durability=self._durability,
            lineage=self._lineage,
        )
        self._tasks: list[asyncio.Task[None]] = []
        self._keys_changed = asyncio.Event()
        self._audited = 0
        self._heads: dict[int, Head] = {}

    async def _symbol_of(self, order_id: int) -> str | None:
        order = await self._storage.reads.order(order_id)
        return None if order is None else order.symbol

    async def open(self) -> None:
        """Connect to NATS."""
        self._bus.enter("RECOVERING")
        await self._nats.open()

    async def start(self) -> None:
        """Wait for the keys and the books, and begin to take commands."""
        await self._read_stored()
        self._replica.start()
        await self._replica.looked()
        for link, follower in zip(self._links, self._followers, strict=True):
            await link.open()
            link.follows = True
            await follower.start()
        await self._nats.hear(self._subjects.states, lambda _, data: self._heard(read_state(data)))
        await self._nats.hear(self._subjects.keys, lambda _subject, _data: self._keys_changed.set())
        self._nats.send(self._subjects.hello, b"?")
        keys = asyncio.create_task(self._follow_keys(), name="keys")
        keys.add_done_callback(self._ended)
        self._tasks.append(keys)
        if self.settings.demo:
            log.warning("not_supported", setting="DEMO", advice="a gateway is one of many: run ome demo --url with its address")
        await self._wait_for_books()
        self._bus.enter(RUNNING)
        self._metrics.state_changed(RUNNING)
        log.info("serving", shards=len(self._links), without=self._bus.reason)

    async def drain(self, within_s: float) -> bool:
        """Refuse everything new, and wait for the answers that are still to come."""
        self.app.say_farewell()
        if self.app.refused_keys is not None:
            await self.app.refused_keys.flush()
        self._bus.enter(DRAINING)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await asyncio.gather(*(link.idle() for link in self._links))
        return not self._bus.waiting

    async def stop(self) -> bool:
        """Give back the connections; whether everything was answered."""
        is_answered = not self._bus.waiting
        for task in self._tasks:
            task.cancel()
        for follower in self._followers:
            follower.stop()
        for link in self._links:
            link.close()
        await self._nats.close()
        await self._replica.close()
        await self._storage.close()
        self.app.flush()
        return is_answered

    @property
    def metrics(self) -> Metrics:
        """What counts."""
        return self._metrics

    @property
    def state(self) -> str:
        """The gateway's."""
        return self._bus.state

    @property
    def position(self) -> int:
        """The commands that were committed, of all shards together."""
        return self._bus.position

    def _heard(self, state: State) -> None:
        if state.shard >= len(self._links):
            return
        link = self._links[state.shard]
        link.heard(state)
        if link.last is state:
            self._followers[state.shard].notice(state.position, state.incarnation)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """What goes on for ever has ended: a gateway that doesn't follow its keys would go on taking those that were revoked."""
        if not task.cancelled():
            self.failure = task.exception()
            self.halted.set()

    def _durability(self) -> str:
        known = {link.last.durability for link in self._links if link.last is not None}
        return "relaxed" if "relaxed" in known else "full"

    def _lineage(self) -> tuple[int, str]:
        """Shard 0's; until it is heard, as the database has it."""
        last = self._links[0].last or self._heads.get(0)
        return (0, "") if last is None else (last.epoch, last.incarnation)

    async def _wait_for_books(self) -> None:
        """Until the books of a shard are there, and those of all others whose engines are."""
        waits = [asyncio.create_task(follower.loaded.wait()) for follower in self._followers]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait(waits, timeout=OTHERS_S)
            while any(link.state != AWAY and not wait.done() for link, wait in zip(self._links, waits, strict=True)):
                await asyncio.wait(waits, timeout=PAUSE_S)
        finally:
            for wait in waits:
                wait.cancel()

    # What is stored

    async def _read_stored(self) -> None:
        """The keys, and how far each shard has come: whoever listens to users' events before its engine is heard begins there."""
        while True:
            try:
                self._heads = await self._stored_map.heads()
                self.app.gate.keys.load(fold_keys(await self._storage.reads.key_entries()).values())
            except StorageAway as error:
                log.warning("waiting_for_database", error=str(error))
                await asyncio.sleep(PAUSE_S)
            else:
                break
        if self.app.streams.sharded is not None:
            for shard, head in self._heads.items():
                self.app.streams.sharded.missed(shard, head.position)

    async def _follow_keys(self) -> None:
        """Take in what was done to keys elsewhere, as soon as that is said, and by looking for it every so often."""
        is_away = False
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(KEYS_EVERY_S):
                    await self._keys_changed.wait()
            self._keys_changed.clear()
            try:
                newest = await self._storage.reads.of_shard[0].audit(Page(limit=1))
                if newest and newest[0].position != self._audited:
                    self.app.gate.keys.follow(fold_keys(await self._storage.reads.key_entries()).values())
                    self._audited = newest[0].position
            except StorageError as error:  # the next look will tell
                if not is_away:
                    log.warning("keys_not_read", error=str(error))
                is_away = True
            else:
                is_away = False


async def _map_of(settings: Settings) -> ShardMap:
    """The cluster's map; an engine that hasn't started yet, and a database that is away, are waited for."""
    stored = StoredShardMap(settings.database_url)
    for looks in itertools.count():
        try:
            found = await stored.read()
        except StorageAway as error:
            found, why = None, str(error)
        else:
            why = "no engine of a cluster has started on this database yet"
        if found is not None:
            return found
        if looks == LOOKS_BEFORE_ADVICE:  # engines that were started with it need a moment
            log.warning(
                "waiting_for_cluster", error=why, advice="start its engines: ome engine --shard 0/2, ome engine --shard 1/2"
            )
        await asyncio.sleep(PAUSE_S)
    raise AssertionError  # `count` has no end


async def _live(settings: Settings, signals: Signals) -> int:
    """Wait for the cluster's row, then serve."""
    configure_logging(settings.log_level, settings.log_format, process="gateway")
    signals.watch()
    found: list[ShardMap] = []

    async def look() -> None:
        found.append(await _map_of(settings))

    try:
        await signals.unless_stopped(look())
    except Stopped:
        return 0
    except OmeError as error:
        return cannot_start(error)
    return await serve(settings, signals, partial(GatewayService, shard_map=found[0]), shares_port=settings.share_port)


async def _supervise(settings: Settings, signals: Signals) -> int:
    """Keep `workers` gateways running on one port, which stays reserved while one of them is started again."""
    configure_logging(settings.log_level, settings.log_format)
    signals.watch()
    try:
        reserved = reserve(settings.host, settings.port)
    except OSError as error:
        log.error("cannot_listen", host=settings.host, port=settings.port, error=error.strerror)  # noqa: TRY400  the sentence says it
        return EXIT_ADDRESS
    with reserved:
        port = {"PORT": str(reserved.getsockname()[1]), "SHARE_PORT": "true", "WORKERS": "1"}
        environment = {name: str(value) for name, value in settings.given().items()} | port
        children = Children([Child(f"gateway {number}", ome("gateway"), environment) for number in range(settings.workers)])
        return await supervise(children, signals)


async def supervise(children: Children, signals: Signals) -> int:
    """Keep them running until a signal comes, or one of them has ended for good; the exit status."""
    status = 0

    async def run() -> None:
        nonlocal status
        await children.start()
        status = await children.ended()

    try:
        await signals.unless_stopped(run())
    except Stopped:
        log.info("stopping")
    finally:
        await children.stop()
    return status


def run_gateway(settings: Settings) -> int:
    """Serve HTTP and WebSockets until SIGINT or SIGTERM; the exit status."""
    return run_until_stopped(partial(_supervise if settings.workers > 1 else _live, settings))
