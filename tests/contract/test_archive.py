"""What is kept beside the batches, on every database: complete candles, and books as they were at any sequence and time."""

from __future__ import annotations

import asyncio
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from decimal import Decimal
from random import Random

import pytest

from databases import Database
from ome.db.archive import StoredArchive
from ome.db.storage import Storage, open_storage
from ome.domain.clock import MICROSECONDS
from ome.domain.commands import Stamped
from ome.domain.enums import Side
from ome.domain.errors import Evicted, NotYet, StorageUnusable
from ome.domain.events import Event
from ome.domain.numbers import value_of
from ome.domain.ports import Depth
from ome.domain.records import CandleRecord, TradeRecord
from ome.engine.engine import Engine
from ome.engine.pending_batch import PendingBatch, Waiting
from ome.history import candles as candles_module
from ome.history.books import BookKeeper
from ome.history.candles import LENGTHS, CandleHistory, CandleKeeper
from ome.history.past import StoredPast
from ome.marketdata.view import MarketView
from ome.verification import verify
from properties.flow import SYMBOLS, Flow
from properties.pair import START
from reference.pictures import Level, exact
from reference.twin import Twin

EVER = 2**62
DAY = 86_400 * MICROSECONDS


class Market:
    """A storage that a seeded flow of commands is committed to, and what the public was told meanwhile."""

    def __init__(self, storage: Storage, seed: int, *, funded: bool = False) -> None:
        self.storage = storage
        self.view = MarketView(lambda: START)
        self.told: dict[str, dict[int, Depth]] = defaultdict(dict)
        self.twin_saw: dict[tuple[str, int], dict[Side, list[Level]]] = {}
        self.trades: list[TradeRecord] = []
        self._twin = Twin()
        self._random = Random(seed)
        self._flow = Flow(self._random, funded=funded)
        self._engine = Engine()
        self._time = START
        self._listing = self._flow.listing()

    @property
    def position(self) -> int:
        """The last committed position."""
        return self._engine.position

    @property
    def time(self) -> int:
        """The engine's time."""
        return self._engine.time

    async def go_on(self, commands: int) -> None:
        """Commit so many more commands, in batches of all sizes."""
        end = self._engine.position + commands
        while self._engine.position < end:
            batch = PendingBatch()
            for _ in range(min(self._random.randrange(1, 40), end - self._engine.position)):
                self._apply(batch)
            sealed = batch.seal(self._engine)
            await self.storage.repository.commit(sealed)
            self.trades += sealed.trades

    def _apply(self, batch: PendingBatch) -> None:
        self._time += self._random.choice([0, 1000, MICROSECONDS // 2, 90 * MICROSECONDS])
        position = self._engine.position + 1
        command = self._listing.pop() if self._listing else self._flow.next(position, self._time)
        stamped = Stamped(position, self._time, command)
        events = self._engine.apply(stamped)
        batch.add(stamped, events, Waiting(command))
        self._tell(events)
        self._twin.apply(stamped)
        for symbol in SYMBOLS:
            if symbol in self.told:
                self.twin_saw[symbol, max(self.told[symbol])] = {side: self._levels(symbol, side) for side in Side}

    def _levels(self, symbol: str, side: Side) -> list[Level]:
        """The twin's levels of a side, best first."""
        prices = dict.fromkeys(order.price for order in self._twin.queue(symbol, side))
        return [self._twin.level(symbol, side, price) for price in prices if price is not None]

    def _tell(self, events: Sequence[Event]) -> None:
        for event in events:
            self.view.committed((event,))
            for symbol in SYMBOLS:
                depth = self.view.depth(symbol, sys.maxsize)
                if depth is not None:
                    self.told[symbol].setdefault(depth.sequence, depth)


@pytest.fixture
async def market(storage: Storage) -> AsyncIterator[Market]:
    """A thousand commands in."""
    await storage.repository.load()
    market = Market(storage, seed=20)
    await market.go_on(1000)
    return market  # type: ignore[return-value]  # an async fixture's value


def added_up(trades: Sequence[TradeRecord], symbol: str, seconds: int) -> list[tuple[object, ...]]:
    """Candles as one would make them by hand, with exact decimals: open time, OHLC, volume, value, trades, sequence."""
    groups: dict[int, list[TradeRecord]] = defaultdict(list)
    for trade in trades:
        if trade.symbol == symbol:
            groups[trade.executed_at // (seconds * MICROSECONDS)].append(trade)
    made: list[tuple[object, ...]] = []
    for number, group in sorted(groups.items()):
        prices = [value_of(trade.price) for trade in group]
        quantities = [value_of(trade.quantity) for trade in group]
        value = sum((price * quantity for price, quantity in zip(prices, quantities, strict=True)), Decimal())
        ends = (prices[0], max(prices), min(prices), prices[-1])
        made.append((number * seconds * MICROSECONDS, *ends, sum(quantities), value, len(group), group[-1].sequence))
    return made


def figures(candles: Sequence[CandleRecord]) -> list[tuple[object, ...]]:
    """Candles in the form of `added_up`."""
    return [
        (
            candle.open_time,
            *(value_of(number) for number in (candle.open, candle.high, candle.low, candle.close)),
            Decimal(candle.volume),
            Decimal(candle.value),
            candle.trades,
            candle.sequence,
        )
        for candle in candles
    ]


async def test_candles_are_complete_at_any_time(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    """D4: in every interval the candles are those of the trades, whether they are stored yet or not, each trade counted once."""
    monkeypatch.setattr(candles_module, "TRADES_AT_ONCE", 40)
    archive = market.storage.archive
    keeper, history = CandleKeeper(archive), CandleHistory(archive)
    assert market.trades
    for _ in range(3):
        for symbol in SYMBOLS:
            for seconds in LENGTHS:
                wanted = added_up(market.trades, symbol, seconds)
                assert figures(await history.candles(symbol, seconds, 0, EVER, 5000)) == wanted
                assert figures(await history.candles(symbol, seconds, 0, EVER, 3, newest=True)) == wanted[-3:]
                if len(wanted) > 4:
                    start, end = int(str(wanted[1][0])), int(str(wanted[-1][0]))
                    assert figures(await history.candles(symbol, seconds, start, end, 2)) == wanted[1:-1][:2]
        assert await keeper.catch_up() > 0
        assert await keeper.catch_up() == 0
        await market.go_on(150)


class Failing:
    """An archive whose writes fail now and then: before they happen, or after."""

    def __init__(self, archive: StoredArchive, random: Random) -> None:
        self._archive = archive
        self._random = random
        self.failed = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._archive, name)

    async def put_candles(self, candles: Sequence[CandleRecord], before: int, after: int) -> bool:
        """Put them, or not, and say that it isn't known."""
        draw = self._random.random()
        if draw > 0.3:
            await self._archive.put_candles(candles, before, after)
        if draw < 0.6:
            self.failed += 1
            raise StorageUnusable("the connection was lost")
        return True


async def test_a_trade_is_counted_once_however_often_a_write_is_repeated(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that failed, or that happened and wasn't known to have, is made up for exactly."""
    monkeypatch.setattr(candles_module, "TRADES_AT_ONCE", 5)
    failing = Failing(market.storage.archive, Random(3))
    keeper = CandleKeeper(failing)  # type: ignore[arg-type]  # all of it, by __getattr__
    while True:
        try:
            await keeper.catch_up()
            break
        except StorageUnusable:
            continue
    assert failing.failed > 3
    for seconds in LENGTHS:
        stored = await market.storage.archive.candles("AAA", seconds, 0, EVER, 5000)
        assert figures(stored) == added_up(market.trades, "AAA", seconds)


async def test_a_second_keeper_changes_nothing(market: Market) -> None:
    """Candles that were made from others than the stored ones aren't put."""
    archive = market.storage.archive
    await CandleKeeper(archive).catch_up()
    before = await archive.candles("AAA", 60, 0, EVER, 5000)
    assert not await archive.put_candles([before[0]], 0, market.trades[-1].id + 1)
    assert await archive.last_trade_in_candles() == market.trades[-1].id
    assert await archive.candles("AAA", 60, 0, EVER, 5000) == before


async def keep_all(market: Market) -> None:
    """What is done every so often: snapshots of the books and of the engine."""
    await BookKeeper(market.storage.archive, market.view, lambda: market.position).keep()
    assert await market.storage.archive.take_engine_snapshot(1) == market.position


async def test_a_book_is_read_as_it_was_at_any_sequence(market: Market) -> None:
    """D1: at every sequence that was told the levels are those that were told, from whichever snapshot they are rebuilt."""
    await keep_all(market)
    await market.go_on(300)
    await keep_all(market)
    await market.go_on(50)
    random = Random(5)
    for symbol in SYMBOLS:
        told = market.told[symbol]
        for sequence in [*random.sample(sorted(told), 12), min(told), max(told)]:
            past = StoredPast(market.storage.archive)
            assert await past.depth_at_sequence(symbol, sequence) == told[sequence]
        with pytest.raises(NotYet):
            await past.depth_at_sequence(symbol, max(told) + 1)


async def test_a_book_is_read_as_the_naive_twin_had_it(storage: Storage) -> None:
    """At a hundred random points of a history the rebuilt book is that of the twin, which shares no code with the engine."""
    await storage.repository.load()
    market = Market(storage, seed=20)
    for commands in (150, 50, 200, 100, 150, 150, 200):  # snapshots near enough that a point is soon reached
        await market.go_on(commands)
        await keep_all(market)
    await market.go_on(200)
    past = StoredPast(market.storage.archive)
    for (symbol, sequence), sides in Random(7).sample(list(market.twin_saw.items()), 100):
        depth = await past.depth_at_sequence(symbol, sequence)
        for side, levels in ((Side.BUY, depth.bids), (Side.SELL, depth.asks)):
            found = [(side, exact(price), exact(quantity), orders) for price, quantity, orders in levels]
            assert found == sides[side], (symbol, sequence)


async def test_a_book_is_read_as_it_was_at_any_time(market: Market) -> None:
    """The last that was told up to that time, or nothing of a symbol that wasn't listed yet."""
    await keep_all(market)
    await market.go_on(100)
    past, told = StoredPast(market.storage.archive), market.told["AAA"]
    assert await past.depth_at_time("AAA", START - 1) is None
    for depth in Random(6).sample(list(told.values()), 8):
        at = await past.depth_at_time("AAA", depth.time)
        assert at in [other for other in told.values() if other.time == depth.time]  # a change of rules moves no book's time


async def test_what_was_trimmed_is_said_to_be_gone(market: Market, database: Database) -> None:
    """D6: behind a snapshot the journal can be trimmed; what is later is still read, and the engine still starts."""
    await keep_all(market)
    kept_from = {symbol: max(told) for symbol, told in market.told.items()}
    await market.go_on(200)
    archive = market.storage.archive
    assert await archive.trim_journal(START - 1) == 0
    assert await archive.trim_journal(market.time) == 1000
    assert await archive.trim_journal(market.time) == 1000 or await archive.first_position() == 1001
    past = StoredPast(archive)
    for symbol, first in kept_from.items():
        assert await past.depth_at_sequence(symbol, first) == market.told[symbol][first]
        last = max(market.told[symbol])
        assert await past.depth_at_sequence(symbol, last) == market.told[symbol][last]
        with pytest.raises(Evicted):
            await past.depth_at_sequence(symbol, first - 1)
    with pytest.raises(Evicted):
        await past.depth_at_time("AAA", START)
    assert await database.scalar("SELECT min(first_position) FROM journal") == 1001
    await market.storage.close()
    again = open_storage(database.url)
    try:
        await again.repository.start()
        assert (await again.repository.load()).state.position == market.position
    finally:
        await again.close()
    report = await asyncio.to_thread(verify, database.url)
    assert report.problems() == []
    assert (report.shards[0].begins_after, report.positions) == (1000, 200)


async def test_a_snapshot_of_the_engine_has_all_money(storage: Storage, database: Database) -> None:
    """D6, F2: balances and the venue's accounts are in it, so that a trimmed journal is verified and read from it on."""
    await storage.repository.load()
    market = Market(storage, seed=7, funded=True)
    await market.go_on(600)
    assert await storage.archive.take_engine_snapshot(1) == 600
    await market.go_on(200)
    start = await storage.archive.engine_at(position=800)
    assert start is not None
    restored = Engine.restore(start.state)
    restored.check_invariants()
    assert restored.state_hash() == start.state_hash
    assert len(start.state.balances) > 4 <= len(start.state.assets)
    assert await storage.archive.trim_journal(market.time) == 600
    await storage.close()
    report = await asyncio.to_thread(verify, database.url)
    assert report.problems() == []
    assert (report.shards[0].begins_after, report.positions) == (600, 200)


async def test_a_snapshot_that_was_tampered_with_is_no_beginning(market: Market, database: Database) -> None:
    """D6: verification of a trimmed journal starts from a snapshot that is what its state hash says, and continues the chain."""
    await keep_all(market)
    await market.go_on(20)
    await market.storage.archive.trim_journal(market.time)
    await market.storage.close()
    await database.fetch("UPDATE engine_snapshots SET trade_count = trade_count + 1")
    report = await asyncio.to_thread(verify, database.url)
    assert report.problems() == ["The snapshot of the engine at position 1000 is not what its state hash was made of."]
    await database.fetch("DELETE FROM engine_snapshots")
    report = await asyncio.to_thread(verify, database.url)
    assert report.problems()[0].startswith("Position 1 is missing in the journal")


async def test_snapshots_of_books_are_listed_and_trimmed(market: Market) -> None:
    """Newest first, each once, with every level."""
    archive = market.storage.archive
    keeper = BookKeeper(archive, market.view, lambda: market.position)
    assert await keeper.keep() == 3
    assert await keeper.keep() == 0
    await market.go_on(60)
    await keeper.keep()
    await BookKeeper(archive, market.view, lambda: market.position).keep()
    newest, oldest = await archive.books("AAA", EVER, 10)
    assert newest.sequence > oldest.sequence
    for book in (newest, oldest):
        told = market.told["AAA"][book.sequence]
        assert (book.bids, book.asks, book.time) == (told.bids, told.asks, told.time)
    assert await archive.books("AAA", newest.sequence, 10) == [oldest]
    await archive.trim_books(oldest.time - DAY)
    assert await archive.books_trimmed_before() == 0
    await archive.trim_books(newest.time)
    assert await archive.books("AAA", EVER, 10) == [newest]
    await archive.trim_books(newest.time - 1)
    assert await archive.books_trimmed_before() == newest.time


async def test_old_candles_of_a_second_can_be_trimmed(market: Market) -> None:
    """D6: those of a length before a time, and no others."""
    archive = market.storage.archive
    await CandleKeeper(archive).catch_up()
    seconds, minutes = [await archive.candles("AAA", length, 0, EVER, 5000) for length in (1, 60)]
    await archive.trim_candles(1, seconds[5].open_time)
    assert await archive.candles("AAA", 1, 0, EVER, 5000) == seconds[5:]
    assert await archive.candles("AAA", 60, 0, EVER, 5000) == minutes
    assert await archive.candles_trimmed_before(1) == seconds[5].open_time
    assert await archive.candles_trimmed_before(60) == 0
    await archive.trim_candles(1, seconds[7].open_time)
    assert await archive.candles_trimmed_before(1) == seconds[7].open_time
