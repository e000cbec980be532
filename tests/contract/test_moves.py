"""Symbols that move between the shards of one database: what is stored is what each engine knows, and each journal makes it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from random import Random
from typing import Any

import pytest
from msgspec import structs

from databases import Database
from ome.db.cluster_reads import ClusterReads
from ome.db.shard_map import StoredShardMap
from ome.db.storage import Storage, open_storage
from ome.domain.commands import (
    Admit,
    CancelAllAfter,
    CancelOrder,
    Command,
    Configure,
    ModifyOrder,
    NewOrder,
    Release,
    SetKill,
    SetLimits,
    Stamped,
)
from ome.domain.enums import OrderType, Side, TimeInForce
from ome.domain.errors import Evicted, Fenced
from ome.domain.ids import SHARD_STEP
from ome.domain.moves import MoveRecord, TimerChange, decode_state, timers_on_the_way
from ome.domain.numbers import pack
from ome.domain.ports import Depth, Page
from ome.domain.records import EngineSettings, Limits, OrderRecord, SpecialTerms, TradeRecord
from ome.engine.engine import Engine
from ome.engine.pending_batch import PendingBatch, Waiting
from ome.history.cluster_past import ClusterPast
from ome.history.past import StoredPast
from ome.verification import Report, verify

SHARDS = (0, 1, 2)
USERS = ("ann", "bob", "cat", "dan")
START_US = 1_795_341_600_000_000
STEP_US = 1_000


class Shards:
    """Three engines on one database, each its own session, and where each symbol is."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.storages: dict[int, Storage] = {}
        self.engines: dict[int, Engine] = {}
        self.home: dict[str, int] = {}
        self.time = START_US

    async def start(self, shard: int) -> None:
        """Start an engine as a process does, after any end of the one before: what it finds is what that one had."""
        before = self.engines.get(shard)
        await self.stop(shard)
        storage = self.storages[shard] = open_storage(self.url, shard=shard)
        await storage.repository.start()
        found = await storage.repository.load()
        engine = self.engines[shard] = Engine.restore(found.state, found.more)
        engine.check_invariants()
        assert found.state_hash in {None, engine.state_hash()}
        assert before is None or before.state_hash() == engine.state_hash()

    async def stop(self, shard: int) -> None:
        """End its session."""
        if shard in self.storages:
            await self.storages.pop(shard).close()

    async def send(self, shard: int, *commands: Command) -> None:
        """Carry out commands in one batch."""
        engine, pending = self.engines[shard], PendingBatch()
        for command in commands:
            self.time += STEP_US
            stamped = Stamped(engine.position + 1, self.time, command)
            pending.add(stamped, engine.apply(stamped), Waiting(command))
        await self.storages[shard].repository.commit(pending.seal(engine))

    async def arriving(self, shard: int) -> list[MoveRecord]:
        """What is on its way to a shard."""
        return await StoredShardMap(self.url).arriving(shard)

    async def move(self, symbol: str, target: int, *, starts_anew: bool = False) -> None:
        """From its shard to another one; where asked for, both engines start anew while it is on its way."""
        source = self.home[symbol]
        await self.send(source, Release(symbol, target))
        if starts_anew:
            await self.start(source)
            await self.start(target)
        [move] = await self.arriving(target)
        assert move.state is not None
        await self.send(target, Admit(symbol, source, move.position, move.time, move.state))
        assert await self.arriving(target) == []
        self.home[symbol] = target

    async def verified(self) -> Report:
        """What the journals make of it."""
        report = await asyncio.to_thread(verify, self.url)
        assert report.ok, report.problems()
        return report


@pytest.fixture
async def shards(database: Database) -> Shards:
    """Started, on an empty database, with a symbol each."""
    if database.kind == "sqlite":
        pytest.skip("an SQLite file has one engine")
    shards = Shards(database.url)
    for shard in SHARDS:
        await shards.start(shard)
        await shards.send(shard, Configure(EngineSettings(keeps_positions=True)))
    return shards


def an_order(symbol: str, random: Random) -> NewOrder:
    """Somebody's, near where all others are; a stop or an iceberg now and then."""
    order = NewOrder(
        random.choice(USERS),
        symbol,
        random.choice([Side.BUY, Side.SELL]),
        OrderType.LIMIT,
        TimeInForce.GTC,
        pack(random.randrange(1, 20), 0),
        pack(random.randrange(990, 1011), 2),
    )
    kind = random.random()
    if kind < 0.1:
        stop = SpecialTerms(stop_price=pack(random.randrange(980, 1021), 2))
        return structs.replace(order, type=OrderType.STOP_LIMIT, terms=stop)
    if kind < 0.2:
        return structs.replace(order, quantity=pack(20, 0), terms=SpecialTerms(display_quantity=pack(5, 0)))
    return order


async def flow(shards: Shards, symbol: str, count: int, random: Random) -> None:
    """Orders, changes and cancels in a symbol, wherever it is; ids of any shard."""
    home = shards.home[symbol]
    for _ in range(count):
        commands: list[Command] = [an_order(symbol, random) for _ in range(random.randrange(1, 4))]
        mine = [each.id for each in shards.engines[home].state().orders if each.symbol == symbol]
        if mine:
            commands.append(CancelOrder(random.choice(mine), exists=True))
            commands.append(ModifyOrder(random.choice(mine), exists=True, quantity=pack(3, 0)))
        await shards.send(home, *commands)


async def test_symbols_that_move_are_whole_wherever_they_are(shards: Shards) -> None:
    """Moved to and fro among three shards, between starts: every engine finds what the one before it had, and every journal makes
    what is stored; one symbol is on its way at the end.
    """
    random = Random(2)
    shards.home = {f"S{shard}": shard for shard in SHARDS}
    await shards.send(0, SetLimits("ann", "S0", Limits(max_open_orders=30)), SetKill("zed", "", is_active=True))
    for number in range(7):
        for symbol in shards.home:
            await flow(shards, symbol, 3, random)
        symbol = random.choice(sorted(shards.home))
        await shards.move(
            symbol, random.choice([shard for shard in SHARDS if shard != shards.home[symbol]]), starts_anew=number % 3 == 1
        )
    report = await shards.verified()
    assert report.trades > 20
    orders = [(engine.shard, each.id) for engine in shards.engines.values() for each in engine.state().orders]
    assert any(order_id // SHARD_STEP != shard for shard, order_id in orders), "some have ids of shards that they have left"
    symbol, home = next(iter(shards.home.items()))
    await shards.send(home, Release(symbol, (home + 1) % 3))
    await shards.start(home)
    await shards.verified()
    known = await StoredShardMap(shards.url).read()
    assert known is None, "no engine of a cluster has started on this database"
    for shard in SHARDS:
        await shards.stop(shard)


async def test_what_happened_to_an_order_is_told_whole(shards: Shards) -> None:
    """Its history has the events of every shard that it was on, and so have its trades."""
    shards.home = {"S0": 0}
    sell = NewOrder("ann", "S0", Side.SELL, OrderType.LIMIT, TimeInForce.GTC, pack(10, 0), pack(1000, 2))
    buy = NewOrder("bob", "S0", Side.BUY, OrderType.LIMIT, TimeInForce.GTC, pack(1, 0), pack(1000, 2))
    await shards.send(0, sell)
    await shards.send(0, buy)
    for target in (1, 0, 2):
        await shards.move("S0", target)
        await shards.send(target, buy)
        await shards.send(target, buy)
    reads = shards.storages[0].reads
    events = await reads.events_of_order(2, (0, 0), 100)
    assert [type(event).__name__ for each in events for event in each.events] == ["OrderAccepted", *["Traded"] * 7]
    parts = [each async for each in pages(shards, 2)]
    assert parts == [(each.position, event) for each in events for event in each.events]
    trades = await reads.trades(Page(), order_id=2)
    assert len(trades) == len({trade.id for trade in trades}) == 7
    paged, before = list[int](), None
    while found := await reads.trades(Page(before, 2), order_id=2):
        paged += [trade.id for trade in found]
        before = paged[-1]
    assert paged == [trade.id for trade in trades]
    await shards.verified()
    for shard in SHARDS:
        await shards.stop(shard)


async def check_tape(shards: Shards) -> None:
    """D5: the trades of a symbol come by its sequence, newest first, from whichever shard."""
    reads = ClusterReads(shards.url, shards=len(SHARDS), pool_size=1)
    found, before = list[TradeRecord](), None
    while page := await reads.trades(Page(before, 3), symbol="S0"):
        found += page
        before = page[-1].id
    await reads.close()
    assert [trade.sequence for trade in found] == sorted((trade.sequence for trade in found), reverse=True)
    assert len({trade.id for trade in found}) == len(found) == (await shards.verified()).trades
    assert len({trade.id // SHARD_STEP for trade in found}) > 1


async def check_lists(shards: Shards, users: Sequence[str]) -> None:
    """Everybody's trades, a user's, and a user's orders: newest first, each once, from more than one shard."""
    reads = ClusterReads(shards.url, shards=len(SHARDS), pool_size=1)

    async def listed(ask: Callable[[Page], Awaitable[Sequence[TradeRecord | OrderRecord]]]) -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = []
        while page := await ask(Page(found[-1][1] if found else None, 3)):
            found += [(each.executed_at if isinstance(each, TradeRecord) else each.created_at, each.id) for each in page]
        assert found == sorted(set(found), reverse=True)
        return found

    assert len(await listed(reads.trades)) == (await shards.verified()).trades
    for user_id in users:
        found = await listed(partial(reads.orders_of_user, user_id))
        assert len(found) == len(await reads.orders_of_user(user_id, Page(None, 1_000)))
        assert len({order_id // SHARD_STEP for _, order_id in found}) > 1
        await listed(partial(reads.trades, user_id=user_id))
    await reads.close()


async def test_only_the_engine_of_a_shard_cedes_its_symbols(shards: Shards) -> None:
    """One that was overtaken changes nothing: its successor knows the map as it was."""
    stored = StoredShardMap(shards.url)
    await stored.join(len(SHARDS))
    await stored.put("S9", 1, by=0, epoch=1)
    await shards.start(0)
    with pytest.raises(Fenced):
        await stored.put("S9", 2, by=0, epoch=1)
    assert (await stored.join(len(SHARDS))).placed == {"S9": 1}
    for shard in SHARDS:
        await shards.stop(shard)


def past_of(shards: Shards) -> ClusterPast:
    """A gateway's."""
    pasts = [StoredPast(shards.storages[shard].archive, shard=shard, clock_us=lambda: shards.time) for shard in SHARDS]
    return ClusterPast(pasts, lambda symbol: shards.home[symbol], lambda _: True)


async def test_a_book_is_told_as_it_was_wherever_its_symbol_was(shards: Shards) -> None:
    """Before, between and after moves, there and back; the journals trimmed to a snapshot are verified from there on."""
    random, was = Random(5), list[tuple[int, Depth]]()
    shards.home = {"S0": 0}
    for target in (1, 0, 2, 1):
        await flow(shards, "S0", 4, random)
        engine = shards.engines[shards.home["S0"]]
        was.append((shards.time, next(book.depth(engine.time) for book in engine.books())))
        await shards.move("S0", target)
    past = past_of(shards)
    for time, depth in was:
        told = await past.depth_at_time("S0", time)
        assert told is not None
        assert (told.sequence, told.bids, told.asks) == (depth.sequence, depth.bids, depth.asks)
    assert len({depth.sequence for _, depth in was}) == 4
    await check_tape(shards)
    await check_lists(shards, USERS)
    assert await past.depth_at_time("S0", START_US) is None
    for shard in (0, 1):
        assert await shards.storages[shard].archive.take_engine_snapshot(1) is not None
        assert await shards.storages[shard].archive.trim_journal(shards.time) > 0
    await flow(shards, "S0", 4, random)
    await shards.move("S0", 0)
    await flow(shards, "S0", 2, random)
    await shards.verified()
    with pytest.raises(Evicted):
        await past_of(shards).depth_at_time("S0", was[0][0])
    for shard in SHARDS:
        await shards.stop(shard)


async def test_what_became_of_timers_is_found_where_a_symbol_has_left(shards: Shards) -> None:
    """I3: a timer that was set anew and disarmed, two that came; of users that weren't asked for, nothing."""
    for user_id in ("ann", "bob", "cat", "dan"):
        await shards.send(0, structs.replace(an_order("S0", Random(1)), user_id=user_id), CancelAllAfter(user_id, 10))
    await shards.send(0, Release("S0", 1))
    [move] = await shards.arriving(1)
    left = shards.time
    await shards.send(0, CancelAllAfter("ann", 20), CancelAllAfter("dan", 0), CancelAllAfter("eve", 5))
    await shards.send(0, CancelAllAfter("ann", 0))
    shards.time += 10_000_000
    await shards.send(0, SetKill("zed", "", is_active=True))
    changes = await StoredShardMap(shards.url).timers_since(move, {"ann", "bob", "cat"})
    assert changes == [
        TimerChange("ann", left + STEP_US, left + STEP_US + 20_000_000),
        TimerChange("ann", left + 4 * STEP_US, None),
    ]
    assert move.state is not None
    missed, _ = timers_on_the_way(decode_state(move.state).timers, changes, shards.time)
    assert missed == ["bob", "cat", "dan"]  # dan's is as it was when the symbol left: nobody asked
    for shard in SHARDS:
        await shards.stop(shard)


async def pages(shards: Shards, order_id: int) -> AsyncIterator[tuple[int, Any]]:
    """The events of an order, two at a time."""
    place = (0, 0)
    while found := await shards.storages[0].reads.events_of_order(order_id, place, 2):
        for each in found:
            for event in each.events:
                seen = place[1] if place[0] == each.position else 0
                place = (each.position, seen + 1)
                yield each.position, event


DAMAGE = [
    (
        "symbol_moves",
        "UPDATE symbol_moves SET state_hash = state_hash || 'x'",
        "UPDATE symbol_moves SET state_hash = left(state_hash, 64)",
    ),
    ("symbol_moves", "UPDATE symbol_moves SET admitted_position = 77", "UPDATE symbol_moves SET admitted_position = 2"),
    ("stored_orders", "UPDATE stored_orders SET version = version + 1", "UPDATE stored_orders SET version = version - 1"),
    ("stored_positions", "UPDATE stored_positions SET shard = 0", "UPDATE stored_positions SET shard = 1"),
    ("stored_instruments", "UPDATE stored_instruments SET shard = 0", "UPDATE stored_instruments SET shard = 1"),
    ("event_orders", "DELETE FROM event_orders WHERE last_position > 1000000", ""),
]
"""A table, what is done to it behind the engines' backs, and what undoes it."""


async def test_what_is_wrong_with_a_moved_symbol_is_found(shards: Shards, database: Database) -> None:
    """By the table that it is in; an order's row too, whose id is of the shard that it left."""
    shards.home = {"S0": 0}
    sell = NewOrder("ann", "S0", Side.SELL, OrderType.LIMIT, TimeInForce.GTC, pack(10, 0), pack(1000, 2))
    buy = NewOrder("bob", "S0", Side.BUY, OrderType.LIMIT, TimeInForce.GTC, pack(1, 0), pack(1000, 2))
    await shards.send(0, sell, buy)
    await shards.move("S0", 1)
    await shards.send(1, buy)
    for shard in SHARDS:
        await shards.stop(shard)
    for table, damage, repair in DAMAGE:
        await shards.verified()
        await database.fetch(damage)
        report = await asyncio.to_thread(verify, shards.url)
        assert table in {found.table for found in report.differences}, (damage, report.problems())
        if not repair:
            break
        await database.fetch(repair)
