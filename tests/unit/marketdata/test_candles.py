"""Running candles are folds of trades: always what the trades of their interval, all at once, come to (D4)."""

from __future__ import annotations

import random
from decimal import ROUND_HALF_EVEN, Decimal

from ome.domain.clock import MICROSECONDS
from ome.domain.enums import Side
from ome.domain.intervals import INTERVALS
from ome.domain.numbers import format_number, pack, value_of
from ome.domain.ports import Candle
from ome.domain.records import TradeRecord
from ome.marketdata.candles import RunningCandles

START_US = 1_795_341_600 * MICROSECONDS


def a_trade(number: int, moment_us: int, price: int, quantity: int) -> TradeRecord:
    """A trade of AAPL."""
    return TradeRecord(number, "AAPL", price, quantity, 1, 2, Side.BUY, moment_us, number, number)


def recomputed(trades: list[TradeRecord], interval: str) -> tuple[object, ...]:
    """The candle of the last trade, from every trade in its interval."""
    length = INTERVALS[interval] * MICROSECONDS
    opened = trades[-1].executed_at // length * length
    inside = [trade for trade in trades if opened <= trade.executed_at < opened + length]
    prices = [value_of(trade.price) for trade in inside]
    volume = sum(value_of(trade.quantity) for trade in inside)
    worth = sum(value_of(trade.price) * value_of(trade.quantity) for trade in inside)
    vwap = (Decimal(worth) / Decimal(volume)).quantize(Decimal("1e-9"), ROUND_HALF_EVEN)
    figures = (prices[0], max(prices), min(prices), prices[-1], volume, vwap, len(inside))
    return opened, opened + length, *figures, trades[-1].sequence


def shown(candle: Candle | None) -> tuple[object, ...]:
    """What a candle says, as values."""
    assert candle is not None
    prices = (value_of(price) for price in (candle.open, candle.high, candle.low, candle.close, candle.volume))
    return (candle.open_time, candle.close_time, *prices, Decimal(candle.vwap), candle.trades, candle.sequence)


def test_candles_equal_their_trades() -> None:
    """D4: open time inclusive, close time exclusive, in every interval, over gaps and changes of tick and lot."""
    rng, running, trades, moment = random.Random(3), RunningCandles(), list[TradeRecord](), START_US
    assert running.candle("AAPL", "1m") is None
    for number in range(1, 1500):
        moment += rng.choice([0, 1, 300_000, MICROSECONDS, 7 * MICROSECONDS, 611 * MICROSECONDS])
        decimals = rng.choice([1, 2, 4])
        price = pack(rng.randrange(90, 110) * 10**decimals + rng.randrange(10**decimals), decimals)
        trades.append(a_trade(number, moment, price, pack(rng.randrange(1, 900), rng.randrange(3))))
        running.add(trades[-1])
        for interval in INTERVALS:
            assert shown(running.candle("AAPL", interval)) == recomputed(trades, interval)


def test_it_says_when_a_trade_ends_candles() -> None:
    """A trade in the same second goes on with every candle; one in another second ends that of a second at least."""
    running = RunningCandles()
    assert not running.ends_with(a_trade(1, START_US, 10, 10))
    running.add(a_trade(1, START_US, 10, 10))
    assert not running.ends_with(a_trade(2, START_US + 999_999, 10, 10))
    assert running.ends_with(a_trade(2, START_US + 1_000_000, 10, 10))


def test_a_candle_shows_plain_numbers() -> None:
    """Volume has no trailing zeros; the VWAP is rounded half-even to nine decimals (N1)."""
    running = RunningCandles()
    running.add(a_trade(1, START_US, pack(1000, 2), pack(10, 1)))
    running.add(a_trade(2, START_US, pack(1001, 2), pack(20, 1)))
    candle = running.candle("AAPL", "1d")
    assert candle is not None
    assert (format_number(candle.volume), candle.vwap) == ("3", "10.006666667")
