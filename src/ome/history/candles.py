"""Candles in all intervals, made from the stored trades and stored: every trade counted once, crashes or not (D4).

The keeper reads the trades behind those that the stored candles hold, adds them up and puts the candles that changed, in one
transaction with the id of the last trade in them. So it can stop anywhere, and a database whose trades are older than its candles
is caught up with. Readers add what isn't stored yet themselves (`CandleHistory`): what they get is complete at any time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from ome.domain.clock import MICROSECONDS
from ome.domain.events import Event, SymbolAdmitted
from ome.domain.intervals import INTERVALS
from ome.domain.numbers import MAX_DECIMALS
from ome.domain.ports import Archive
from ome.domain.records import CandleRecord, TradeRecord
from ome.marketdata.candles import Bar

TRADES_AT_ONCE: Final = 1_000
LENGTHS: Final = tuple(INTERVALS.values())
"""Seconds that a candle may last."""

Key = tuple[str, int]
"""A symbol and a length in seconds."""


class CandleKeeper:
    """Keeps the stored candles up; used by one task at a time."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._running: dict[Key, Bar] = {}
        self._mark: int | None = None
        self._is_stale = False

    def committed(self, events: Sequence[Event]) -> None:
        """See EventListener: the candles of a symbol that has come were gone on with elsewhere."""
        if any(isinstance(event, SymbolAdmitted) for event in events):
            self._is_stale = True

    async def catch_up(self) -> int:
        """Store the candles of every trade so far; how many there were. Raises StorageUnusable, and may be called again."""
        counted = 0
        try:
            while True:
                if self._mark is None:
                    self._mark = await self._archive.last_trade_in_candles()
                trades = await self._archive.trades_after(self._mark, TRADES_AT_ONCE)
                if self._is_stale:
                    self._is_stale = False
                    self._forget()
                    continue
                if not trades:
                    return counted
                changed = await self._add(trades)
                if await self._archive.put_candles(changed, self._mark, trades[-1].id):
                    self._mark = trades[-1].id
                    counted += len(trades)
                else:
                    self._forget()
        except BaseException:
            self._forget()
            raise

    def _forget(self) -> None:
        """What is stored may be another than what was seen: look again."""
        self._mark = None
        self._running.clear()

    async def _add(self, trades: list[TradeRecord]) -> list[CandleRecord]:
        changed: dict[tuple[str, int, int], CandleRecord] = {}
        for symbol, second in seconds_of(trades):
            for length in LENGTHS:
                open_s = second.open_s // length * length
                before = await self._before(symbol, length, open_s)
                bar = second.opened_at(open_s) if before is None else before.followed_by(second)
                self._running[symbol, length] = bar
                changed[symbol, length, open_s] = record_of(bar, symbol, length)
        return list(changed.values())

    async def _before(self, symbol: str, length: int, open_s: int) -> Bar | None:
        """What the candle holds already: as it is known, or as it is stored where none of the symbol is known."""
        known = self._running.get((symbol, length))
        if known is not None:
            return known if known.open_s == open_s else None
        stored = await self._archive.candle(symbol, length, open_s * MICROSECONDS)
        return None if stored is None else bar_of(stored)


class CandleHistory:
    """The candles of the past and of now, as they are read: the stored ones and what has traded since."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    async def candles(
        self, symbol: str, seconds: int, start: int, end: int, limit: int, *, newest: bool = False
    ) -> list[CandleRecord]:
        """At most `limit` candles that open from `start` on and before `end`, oldest first: those nearest to `start`, or, if
        `newest`, to `end`. Intervals without a trade have none.
        """
        archive = self._archive
        while True:
            mark = await archive.last_trade_in_candles()
            stored = await archive.candles(symbol, seconds, start, end, limit, newest=newest)
            bars = {candle.open_time: bar_of(candle) for candle in stored}
            if not newest and len(stored) == limit:
                end = stored[-1].open_time + 1
            await self._add_unstored(bars, symbol, seconds, mark, start, end)
            if await archive.last_trade_in_candles() == mark:
                break
        found = [record_of(bars[time], symbol, seconds) for time in sorted(bars)]
        return found[-limit:] if newest else found[:limit]

    async def _add_unstored(self, bars: dict[int, Bar], symbol: str, seconds: int, mark: int, start: int, end: int) -> None:
        after = mark
        while True:
            trades = await self._archive.trades_after(after, TRADES_AT_ONCE, symbol)
            for _, second in seconds_of(trades):
                open_s = second.open_s // seconds * seconds
                time = open_s * MICROSECONDS
                if start <= time < end:
                    before = bars.get(time)
                    bars[time] = second.opened_at(open_s) if before is None else before.followed_by(second)
            if len(trades) < TRADES_AT_ONCE:
                return
            after = trades[-1].id


def seconds_of(trades: Iterable[TradeRecord]) -> list[tuple[str, Bar]]:
    """Trades, oldest first, added up by symbol and second, oldest first."""
    bars: dict[tuple[str, int], Bar] = {}
    for trade in trades:
        key = (trade.symbol, trade.executed_at // MICROSECONDS)
        bar = bars.get(key)
        if bar is None:
            bar = bars[key] = Bar(key[1], trade.price)
        bar.add(trade)
    return [(symbol, bar) for (symbol, _), bar in bars.items()]


def record_of(bar: Bar, symbol: str, length: int) -> CandleRecord:
    """The bar as it is stored."""
    return CandleRecord(
        symbol=symbol,
        seconds=length,
        open_time=bar.open_s * MICROSECONDS,
        open=bar.open,
        high=bar.high,
        low=bar.low,
        close=bar.close,
        volume=_text(bar.volume, MAX_DECIMALS),
        value=_text(bar.value, 2 * MAX_DECIMALS),
        trades=bar.trades,
        sequence=bar.sequence,
    )


def bar_of(record: CandleRecord) -> Bar:
    """The inverse of `record_of`."""
    bar = Bar(record.open_time // MICROSECONDS, record.open)
    bar.high, bar.low, bar.close = record.high, record.low, record.close
    bar.volume, bar.value = _units(record.volume, MAX_DECIMALS), _units(record.value, 2 * MAX_DECIMALS)
    bar.trades, bar.sequence = record.trades, record.sequence
    return bar


def _text(units: int, decimals: int) -> str:
    """An exact decimal text without trailing zeros."""
    whole, fraction = divmod(units, 10**decimals)
    digits = f"{fraction:0{decimals}d}".rstrip("0")
    return f"{whole}.{digits}" if digits else str(whole)


def _units(text: str, decimals: int) -> int:
    whole, _, fraction = text.partition(".")
    return int(whole + fraction.ljust(decimals, "0"))
