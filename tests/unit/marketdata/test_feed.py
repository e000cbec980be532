"""What the feed tells is enough to have the engine's own book, tape and ticker, at every sequence (D1)."""

from __future__ import annotations

import random

from market_flow import random_command
from ome.domain.commands import DefineInstrument, NewOrder, Stamped
from ome.domain.enums import MarketState, OrderType, Side, TimeInForce
from ome.domain.events import BookChanged, Event
from ome.domain.numbers import parse
from ome.domain.ports import Depth, Quote
from ome.domain.records import TradeRecord
from ome.engine.engine import Engine
from ome.marketdata.feed import Feed
from ome.marketdata.view import MarketView

Level = tuple[int, int, int]


class Follower:
    """A sink that keeps a book of one symbol from a snapshot and what it is told, as a client does; it checks every link."""

    def __init__(self, feed: Feed, view: MarketView, symbol: str) -> None:
        self.view, self.feed, self.symbol = view, feed, symbol
        self.trades: list[TradeRecord] = []
        self.quotes: list[Quote] = []
        self.candles = 0
        self.batches = 0
        depth = view.depth(symbol, 10**6)
        assert depth is not None
        self.sequence = self.trade_sequence = self.quote_sequence = depth.sequence
        self.sides: dict[Side, dict[int, Level]] = {
            Side.BUY: {level[0]: level for level in depth.bids},
            Side.SELL: {level[0]: level for level in depth.asks},
        }

    def depth_changed(self, change: BookChanged, previous_sequence: int) -> None:
        """Apply it, and compare with the view as it is right now."""
        if change.symbol != self.symbol or change.sequence <= self.sequence:
            return
        assert previous_sequence <= self.sequence, "a change is missing"
        for side, price, quantity, orders in change.levels:
            if orders:
                self.sides[side][price] = (price, quantity, orders)
            else:
                self.sides[side].pop(price, None)
        self.sequence = change.sequence
        now = self.view.depth(self.symbol, 10**6)
        assert now is not None
        assert (self.sequence, *self.book()) == (now.sequence, now.bids, now.asks)

    def traded(self, trade: TradeRecord, previous_sequence: int) -> None:
        """Keep it."""
        if trade.symbol == self.symbol:
            assert previous_sequence <= self.trade_sequence < trade.sequence
            self.trade_sequence = trade.sequence
            self.trades.append(trade)

    def quote_changed(self, quote: Quote, previous_sequence: int) -> None:
        """Keep it."""
        if quote.symbol == self.symbol:
            assert previous_sequence <= self.quote_sequence < quote.sequence
            self.quote_sequence = quote.sequence
            self.quotes.append(quote)

    def candles_changed(self, symbol: str) -> None:
        """Count it."""
        assert self.feed.candle(symbol, "1s") is not None
        self.candles += 1

    def batch_ended(self) -> None:
        """Count it."""
        self.batches += 1

    def book(self) -> tuple[list[Level], list[Level]]:
        """Bids and asks, best first."""
        bids, asks = self.sides[Side.BUY], self.sides[Side.SELL]
        return [bids[price] for price in sorted(bids, reverse=True)], [asks[price] for price in sorted(asks)]


class Followers:
    """A sink that passes everything on to several."""

    def __init__(self) -> None:
        self.all: list[Follower] = []

    def __getattr__(self, name: str) -> object:
        return lambda *told: [getattr(follower, name)(*told) for follower in self.all]


def test_a_follower_always_has_the_engines_book() -> None:
    """D1: whenever it joins, whatever the batches are, a snapshot and every change above it are the book at every sequence."""
    rng, engine, view = random.Random(5), Engine(), MarketView(clock_us=lambda: 0)
    followers = Followers()
    feed = Feed(view, followers)  # type: ignore[arg-type]
    tape: list[TradeRecord] = []
    batch: list[Event] = []
    for position in range(1, 4000):
        batch += engine.apply(Stamped(position, position * 40_000, random_command(rng, position)))
        if rng.random() < 0.7:
            continue
        feed.committed(batch)
        tape += [event.trade for event in batch if hasattr(event, "trade")]
        batch = []
        if rng.random() < 0.02 and feed.watch("AAA"):
            followers.all.append(Follower(feed, view, "AAA"))
            followers.all[-1].trades = [trade for trade in tape if trade.symbol == "AAA"]
    feed.committed(batch)
    tape += [event.trade for event in batch if hasattr(event, "trade")]
    book = next(book for book in engine.books() if book.instrument.symbol == "AAA")
    own: Depth = book.depth(0)
    quote = view.quote("AAA")
    assert len(followers.all) > 10
    for follower in followers.all:
        assert follower.book() == (own.bids, own.asks)
        assert follower.trades == [trade for trade in tape if trade.symbol == "AAA"]
    first = followers.all[0]
    assert quote is not None
    assert first.quotes[-1].says_the_same_as(quote)
    assert first.candles
    assert first.batches > first.candles


def test_nothing_is_told_of_a_symbol_that_nobody_watches() -> None:
    """Nor of one that isn't watched any more; one that isn't listed can't be watched. Candles go on all the same."""
    engine, view, followers = Engine(), MarketView(clock_us=lambda: 0), Followers()
    feed = Feed(view)
    feed.attach(followers)  # type: ignore[arg-type]
    assert not feed.watch("AAPL")
    feed.committed(engine.apply(Stamped(1, 1, _order("alice", Side.BUY))))
    assert feed.watch("AAPL")
    followers.all.append(Follower(feed, view, "AAPL"))
    feed.unwatch("AAPL")
    feed.committed(engine.apply(Stamped(2, 2, _order("bob", Side.SELL))))
    follower = followers.all[0]
    assert (follower.trades, follower.quotes, follower.batches) == ([], [], 0)
    candle = feed.candle("AAPL", "1d")
    assert candle is not None
    assert candle.trades == 1


def test_a_ticker_is_told_once_a_batch_and_only_when_it_is_another() -> None:
    """It says how things stand: what a batch did and undid isn't told; a change of state and an auction's prices are."""
    engine, view, followers = Engine(), MarketView(clock_us=lambda: 0), Followers()
    feed = Feed(view, followers)  # type: ignore[arg-type]
    feed.committed(engine.apply(Stamped(1, 1, _order("alice", Side.BUY))))
    feed.watch("AAPL")
    followers.all.append(follower := Follower(feed, view, "AAPL"))
    resting = engine.apply(Stamped(2, 2, _order("alice", Side.BUY, "9")))
    feed.committed(resting)
    assert follower.quotes == []
    feed.committed(engine.apply(Stamped(3, 3, DefineInstrument("AAPL", state=MarketState.AUCTION))))
    feed.committed(engine.apply(Stamped(4, 4, _order("bob", Side.SELL))))
    assert [quote.state for quote in follower.quotes] == [MarketState.AUCTION, MarketState.AUCTION]
    assert follower.quotes[-1].auction is not None
    assert follower.quotes[-1].auction.price == parse("10.00") or follower.quotes[-1].auction.volume


def _order(user_id: str, side: Side, price: str = "10") -> NewOrder:
    return NewOrder(user_id, "AAPL", side, OrderType.LIMIT, TimeInForce.GTC, parse("5"), parse(price))
