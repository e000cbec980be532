"""What a gateway shows of symbols that go from shard to shard: their sequence goes on, whoever tells first (D1)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec import Raw, structs

from factories import an_instrument
from ome.cluster.wire import Books, MarketEvent, Told, encode
from ome.domain.clock import now_us
from ome.domain.enums import Side
from ome.domain.events import BookChanged, InstrumentChanged, SymbolAdmitted, Traded
from ome.domain.numbers import pack
from ome.domain.ports import Depth
from ome.domain.records import InstrumentRecord, TradeRecord
from ome.gateway_views import GatewayViews

PRICE, LOT = pack(100, 0), pack(1, 0)


def instrument(symbol: str, sequence: int) -> InstrumentRecord:
    """A symbol that has come so far."""
    return structs.replace(an_instrument(symbol), sequence=sequence)


def level(symbol: str, sequence: int) -> BookChanged:
    """A change that leaves as much at the price as its sequence says."""
    return BookChanged(symbol, sequence, sequence, [(Side.BUY, PRICE, pack(sequence, 0), 1)])


def trade(symbol: str, sequence: int, shard: int = 0) -> TradeRecord:
    """A trade of a lot, just now."""
    return TradeRecord(shard * 10**15 + sequence, symbol, PRICE, LOT, 1, 2, Side.BUY, now_us(), sequence, sequence)


def books(shard: int, *listed: tuple[str, int], position: int = 0) -> Books:
    """What an engine has: symbols with their sequences."""
    return Books(*(shard, position, [(instrument(symbol, last), Depth(symbol, last, 0, [], [])) for symbol, last in listed], []))


class Trades:
    """What a shard has stored."""

    def __init__(self) -> None:
        self.stored: list[TradeRecord] = []

    async def trades_since(self, _moment_us: int) -> AsyncIterator[list[TradeRecord]]:
        """See ReadModels."""
        yield self.stored


class Follower:
    """Counts how often it is had go on."""

    def __init__(self) -> None:
        self.is_waiting = True
        self.resumed = 0

    def resume(self) -> None:
        """See ShardFollower."""
        self.resumed += 1


class Gateway:
    """Views of two shards, and what becomes of their streams."""

    def __init__(self) -> None:
        self.trades = [Trades(), Trades()]
        self.cut: list[set[str]] = []
        self.places = SimpleNamespace(moved=frozenset({"MOVE"}), read=self._read, shard_of=lambda _: 0)
        streams: Any = SimpleNamespace(interrupt=self.cut.append, sharded=None)
        reads: Any = self.trades
        places: Any = self.places
        self.views = GatewayViews(reads, places, lambda: streams)

    async def _read(self) -> None:
        await asyncio.sleep(0)

    async def load(self, shard: int, *listed: tuple[str, int], anew: bool = False) -> None:
        """A shard's books have come."""
        await self.views.shards[shard].load(books(shard, *listed), anew=anew)

    def tell(self, shard: int, *events: MarketEvent) -> bool:
        """A shard tells a batch."""
        return self.views.shards[shard].committed(Told(shard, 1, 1, 1, list(events), Raw(encode([]))))

    def sequences(self, *symbols: str) -> Sequence[int | None]:
        """How far they are shown."""
        return [self.views.view.sequence(symbol) for symbol in symbols]


@pytest.fixture
def gateway() -> Gateway:
    """Which has heard nothing yet."""
    return Gateway()


async def test_a_symbol_goes_on_where_it_was_when_it_comes_to_another_shard(gateway: Gateway) -> None:
    """Nobody's stream ends, the day's trades go on; what the shard that it left tells once more is passed over."""
    await gateway.load(0, ("MOVE", 1), ("STAY", 1))
    await gateway.load(1)
    assert gateway.tell(0, level("MOVE", 2), Traded(trade("MOVE", 3), "a", "b", 0, 0))
    assert gateway.tell(1, SymbolAdmitted(instrument("MOVE", 3), 0, 0, [], []), level("MOVE", 4))
    assert gateway.tell(1, Traded(trade("MOVE", 5, 1), "a", "b", 0, 0))
    assert gateway.tell(0, level("MOVE", 2), level("STAY", 2))
    assert gateway.sequences("MOVE", "STAY") == [5, 2]
    ticker = gateway.views.view.ticker("MOVE")
    assert ticker is not None
    assert (ticker.volume, gateway.cut) == (pack(2, 0), [])
    candle = gateway.views.feed.candle("MOVE", "1d")
    assert candle is not None
    assert candle.trades == 2


async def test_the_shard_that_took_it_waits_for_the_one_that_gave_it(gateway: Gateway) -> None:
    """Whichever is heard first; nothing of such a batch is taken in, and the follower is had go on once the rest is there."""
    await gateway.load(0, ("MOVE", 1))
    await gateway.load(1, ("OTHER", 1))
    admitted = SymbolAdmitted(instrument("MOVE", 2), 0, 0, [], [])
    follower: Any = Follower()
    gateway.views.followers = [follower]
    assert not gateway.tell(1, level("OTHER", 2), admitted)
    assert not gateway.tell(1, level("OTHER", 2), level("MOVE", 3))
    assert gateway.sequences("OTHER", "MOVE") == [1, 1]
    assert gateway.tell(0, level("MOVE", 2))
    await asyncio.sleep(0)
    assert follower.resumed == 1
    assert gateway.tell(1, level("OTHER", 2), admitted, level("MOVE", 3))
    assert gateway.sequences("OTHER", "MOVE") == [2, 3]


async def test_a_symbol_that_was_never_shown_needs_books(gateway: Gateway) -> None:
    """One that is listed begins with that; of any other it isn't known what it was."""
    await gateway.load(0)
    assert gateway.tell(0, InstrumentChanged(instrument("NEW", 1)), level("NEW", 2))
    assert not gateway.tell(0, level("MOVE", 7))
    assert not gateway.tell(0, SymbolAdmitted(instrument("MOVE", 7), 1, 0, [], []))
    assert gateway.sequences("NEW", "MOVE") == [2, None]


async def test_books_change_only_what_is_further_there(gateway: Gateway) -> None:
    """The streams of that end; a symbol that has come further elsewhere, and one that is as far, go on."""
    await gateway.load(0, ("MOVE", 1), ("STAY", 1), ("MISSED", 1))
    gateway.trades[0].stored = [trade("MISSED", 2), trade("MISSED", 4), trade("MOVE", 3)]
    gateway.trades[1].stored = [trade("MISSED", 1, 1)]
    assert gateway.tell(1, level("MOVE", 2))
    await gateway.load(0, ("MOVE", 1), ("STAY", 1), ("MISSED", 3))
    assert (gateway.sequences("MOVE", "STAY", "MISSED"), gateway.cut) == ([2, 1, 3], [{"MISSED"}])
    ticker = gateway.views.view.ticker("MISSED")
    assert ticker is not None
    assert ticker.volume == pack(2, 0)  # of any shard, and none beyond the books
    assert not gateway.views.shards[1].is_loaded


async def test_another_history_is_taken_in_whatever_was_shown(gateway: Gateway) -> None:
    """A database that was put back has come less far, and doesn't list what was listed since (HOLE12)."""
    await gateway.load(0, ("MOVE", 5), ("LATER", 1))
    await gateway.load(0, ("MOVE", 2), anew=True)
    assert gateway.sequences("MOVE", "LATER") == [2, None]
    assert gateway.cut == [{"MOVE", "LATER"}]
