"""Public views are folds of committed events: they always equal the engine's own books (D1) and recomputed statistics."""

from __future__ import annotations

import random

import pytest
from msgspec import structs

from factories import a_trade, an_order
from market_flow import random_command
from ome.domain.commands import Stamped
from ome.domain.enums import Side
from ome.domain.errors import StateMismatch
from ome.domain.events import BookChanged, Traded
from ome.domain.numbers import parse, value_of
from ome.domain.records import TradeRecord
from ome.engine.engine import Engine
from ome.marketdata.statistics import MINUTE_US, RollingDay
from ome.marketdata.view import MarketView

DAY_US = 24 * 60 * MINUTE_US


def test_the_view_always_equals_the_book() -> None:
    """D1: after every command depth, sequence, last trade and instrument are the engine's; a sequence never skips."""
    rng, engine, view = random.Random(11), Engine(), MarketView(clock_us=lambda: 0)
    last: dict[str, int] = {}
    for position in range(1, 3000):
        events = engine.apply(Stamped(position, position, random_command(rng, position)))
        view.committed(events)
        for event in events:
            if isinstance(event, Traded):
                assert event.trade.sequence == last.get(event.trade.symbol, 0) + 1
                last[event.trade.symbol] = event.trade.sequence
            elif isinstance(event, BookChanged):
                assert event.sequence == last[event.symbol] + 1
                last[event.symbol] = event.sequence
            elif type(event).__name__ == "InstrumentChanged":
                last[event.instrument.symbol] = event.instrument.sequence  # type: ignore[union-attr]
        for book in engine.books():
            symbol, record = book.instrument.symbol, book.record()
            seen, own = view.depth(symbol, 1000), book.depth(0)
            ticker = view.ticker(symbol)
            assert seen is not None
            assert ticker is not None
            assert (seen.bids, seen.asks) == (own.bids, own.asks)
            assert (ticker.sequence, ticker.last_price, ticker.last_quantity) == (
                record.sequence,
                record.last_price,
                record.last_quantity,
            )
            assert ticker.best_bid == (own.bids[0][:2] if own.bids else None)
            assert ticker.best_ask == (own.asks[0][:2] if own.asks else None)
    assert engine.trade_count > 100


def test_a_view_loaded_from_books_goes_on_as_one_that_saw_everything() -> None:
    """After a restart the views start from the recovered books and the day's trades."""
    rng, engine, seen_all = random.Random(12), Engine(), MarketView(clock_us=lambda: 0)
    trades: list[TradeRecord] = []
    loaded = MarketView(clock_us=lambda: 0)
    for position in range(1, 1000):
        if position == 500:
            loaded.load([(book.record(), book.depth(engine.time)) for book in engine.books()])
            for start in range(0, len(trades), 7):
                loaded.remember(trades[start : start + 7])
        events = engine.apply(Stamped(position, position, random_command(rng, position)))
        trades += [event.trade for event in events if isinstance(event, Traded)]
        seen_all.committed(events)
        if position >= 500:
            loaded.committed(events)
    for instrument in seen_all.instruments():
        symbol = instrument.symbol
        for read in (MarketView.ticker, lambda view, name: view.depth(name, 1000)):
            one, other = read(loaded, symbol), read(seen_all, symbol)
            assert one is not None
            assert other is not None
            # The time of the last change is not kept across a restart: it starts at the engine's.
            assert structs.replace(one, time=0) == structs.replace(other, time=0)


def test_reading_an_unlisted_symbol_lists_nothing() -> None:
    """A symbol exists once it is listed, not because somebody asked for it."""
    view = MarketView()
    assert view.ticker("NONE") is None
    assert view.depth("NONE", 10) is None
    assert view.instrument("NONE") is None
    assert view.instruments() == []


def trade(moment_us: int, price: str, quantity: str) -> TradeRecord:
    """A trade at a moment, as far as statistics look at it."""
    return TradeRecord(1, "ABC", parse(price), parse(quantity), 1, 2, Side.BUY, moment_us, 1, 1)


def test_statistics_are_those_of_the_last_day() -> None:
    """N2: open, high, low and volume equal those computed from the trades of the window, whatever has left it."""
    rng, day, trades = random.Random(13), RollingDay(), list[TradeRecord]()
    moment = 0
    for _ in range(2000):
        moment += rng.choice((0, 1, MINUTE_US // 3, rng.randrange(20 * MINUTE_US)))
        trades.append(trade(moment, f"{rng.randrange(900, 1100)}.{rng.randrange(1, 10)}", f"0.{rng.randrange(1, 100):02}"))
        day.add(trades[-1])
        window = [item for item in trades if item.executed_at // MINUTE_US >= moment // MINUTE_US - 24 * 60]
        figures = day.statistics(moment)
        assert figures.open == window[0].price
        assert figures.high is not None
        assert figures.low is not None
        assert value_of(figures.high) == max(value_of(item.price) for item in window)
        assert value_of(figures.low) == min(value_of(item.price) for item in window)
        assert value_of(figures.volume) == sum(value_of(item.quantity) for item in window)
    assert len(trades) > len(window) > 10


def test_a_day_that_only_moves_on_forgets_its_extremes_one_by_one() -> None:
    """N2: read again and again without a new trade, open, high and low are those of what is left in the window."""
    rng, day = random.Random(14), RollingDay()
    trades = [trade(minute * MINUTE_US, f"{rng.randrange(90, 110)}", "1") for minute in range(300)]
    for item in trades:
        day.add(item)
    for minute in range(300):
        prices = [value_of(item.price) for item in trades[minute:]]
        open_, high, low, volume = day.statistics((24 * 60 + minute) * MINUTE_US)
        assert (open_, value_of(high or 0), value_of(low or 0)) == (trades[minute].price, max(prices), min(prices))
        assert value_of(volume) == len(prices)


def test_a_day_without_trades_has_no_figures() -> None:
    """What has left the window is forgotten, without a new trade."""
    day = RollingDay()
    day.add(trade(0, "10", "1"))
    assert day.statistics(DAY_US).volume == parse("1")
    assert day.statistics(DAY_US + MINUTE_US) == (None, None, None, 0)


def test_a_trade_of_no_listed_symbol_is_a_contradiction() -> None:
    """DUR7: what is stored doesn't go together; it is said, not passed over."""
    buy, sell = an_order(1), an_order(2, side=Side.SELL)
    with pytest.raises(StateMismatch, match="isn't listed"):
        MarketView(clock_us=lambda: 0).remember([a_trade(1, buy, sell, taker=Side.SELL)])
