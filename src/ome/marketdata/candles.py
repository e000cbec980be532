"""The candles of one symbol that are still running, one for each interval, kept up trade by trade (D4).

A candle holds the trades from its open time, inclusive, to its close time, exclusive; open times are multiples of the interval
since 1970 UTC. Layout: the running second, and for each longer interval what the seconds before it made. A trade costs O(1): it
changes the running second alone; a second that ends is folded into the six longer ones. Prices are compared and quantities
summed in units of 10**-9, so a change of tick or lot in the middle does no harm. Trades come in order of time.
"""

from __future__ import annotations

from copy import copy
from typing import Final

from ome.domain.clock import MICROSECONDS
from ome.domain.intervals import INTERVALS
from ome.domain.numbers import MAX_DECIMALS, canonical, pack, ratio_text
from ome.domain.ports import Candle
from ome.domain.records import TradeRecord
from ome.marketdata.statistics import units

_LONGER: Final = tuple(seconds for seconds in INTERVALS.values() if seconds > 1)


class Bar:
    """Trades added up: prices are numbers; `volume` is in units of 10**-9, `value`, of prices times quantities, of 10**-18."""

    __slots__ = ("close", "high", "low", "open", "open_s", "sequence", "trades", "value", "volume")

    def __init__(self, open_s: int, price: int) -> None:
        self.open_s = open_s
        self.open = self.high = self.low = self.close = price
        self.volume = self.value = self.trades = self.sequence = 0

    def add(self, trade: TradeRecord) -> None:
        """Count a trade."""
        price, quantity = units(trade.price), units(trade.quantity)
        if price > units(self.high):
            self.high = trade.price
        if price < units(self.low):
            self.low = trade.price
        self.close = trade.price
        self.volume += quantity
        self.value += price * quantity
        self.trades += 1
        self.sequence = trade.sequence

    def followed_by(self, later: Bar) -> Bar:
        """This bar and a later one as one."""
        both = Bar(self.open_s, self.open)
        both.high = max(self.high, later.high, key=units)
        both.low = min(self.low, later.low, key=units)
        both.close, both.sequence = later.close, later.sequence
        both.volume, both.value = self.volume + later.volume, self.value + later.value
        both.trades = self.trades + later.trades
        return both

    def opened_at(self, open_s: int) -> Bar:
        """The same trades as the beginning of a longer bar."""
        bar = copy(self)
        bar.open_s = open_s
        return bar

    def candle(self, symbol: str, interval: str) -> Candle:
        """The candle that it is; the VWAP is rounded half-even to 9 decimals (N1)."""
        open_time = self.open_s * MICROSECONDS
        return Candle(
            symbol=symbol,
            interval=interval,
            open_time=open_time,
            close_time=open_time + INTERVALS[interval] * MICROSECONDS,
            open=self.open,
            high=self.high,
            low=self.low,
            close=self.close,
            volume=canonical(pack(self.volume, MAX_DECIMALS)),
            vwap=ratio_text(self.value, self.volume * 10**MAX_DECIMALS),
            trades=self.trades,
            sequence=self.sequence,
        )


class RunningCandles:
    """The running candles of one symbol."""

    __slots__ = ("_before", "_second")

    def __init__(self) -> None:
        self._second: Bar | None = None
        self._before: dict[int, Bar] = {}

    def ends_with(self, trade: TradeRecord) -> bool:
        """Whether candles end before this trade, which must not have been added yet."""
        return self._second is not None and self._second.open_s != trade.executed_at // MICROSECONDS

    def add(self, trade: TradeRecord) -> None:
        """Count a trade."""
        open_s = trade.executed_at // MICROSECONDS
        second = self._second
        if second is None or second.open_s != open_s:
            if second is not None:
                self._fold(second)
            second = self._second = Bar(open_s, trade.price)
        second.add(trade)

    def candle(self, symbol: str, interval: str) -> Candle | None:
        """The candle of an interval with the latest trade in it; None before the first trade."""
        second, length = self._second, INTERVALS[interval]
        if second is None:
            return None
        if length == 1:
            return second.candle(symbol, interval)
        return self._with(second, length).candle(symbol, interval)

    def _fold(self, second: Bar) -> None:
        for length in _LONGER:
            self._before[length] = self._with(second, length)

    def _with(self, second: Bar, length: int) -> Bar:
        """The bar of this length that the second is the end of, so far."""
        open_s = second.open_s // length * length
        before = self._before.get(length)
        if before is None or before.open_s != open_s:
            return second.opened_at(open_s)
        return before.followed_by(second)
