"""Rolling 24-hour statistics of one symbol, kept up trade by trade in minutes (N2).

Layout: one bar for each minute that had a trade, oldest first, at most 1,441 of them. The window is the minute that is running
and the 1,440 before it, so figures are rolling to the minute. A trade costs O(1), a reading O(bars). Values are compared and
summed in units of 10**-9, so a change of tick or lot within the window does no harm.
"""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

from ome.domain.clock import MICROSECONDS
from ome.domain.numbers import MAX_DECIMALS, POWER_OF_TEN, canonical, pack
from ome.domain.records import TradeRecord

MINUTE_US: Final = 60 * MICROSECONDS
WINDOW_MINUTES: Final = 24 * 60


class Bar:
    """What traded in one minute: prices are numbers, `volume` is in units of 10**-9."""

    __slots__ = ("high", "low", "minute", "open", "volume")

    def __init__(self, minute: int, price: int) -> None:
        self.minute = minute
        self.open = self.high = self.low = price
        self.volume = 0

    def add(self, price: int, quantity: int) -> None:
        """Count a trade."""
        value = units(price)
        if value > units(self.high):
            self.high = price
        if value < units(self.low):
            self.low = price
        self.volume += units(quantity)


class DayStatistics(NamedTuple):
    """Numbers over the window; None without a trade in it."""

    open: int | None
    high: int | None
    low: int | None
    volume: int


class RollingDay:
    """The last 24 hours of one symbol."""

    __slots__ = ("_bars",)

    def __init__(self) -> None:
        self._bars: deque[Bar] = deque()

    def add(self, trade: TradeRecord) -> None:
        """Count a trade; trades come in order of time."""
        minute = trade.executed_at // MINUTE_US
        if not self._bars or self._bars[-1].minute != minute:
            self._bars.append(Bar(minute, trade.price))
            self._forget_before(minute - WINDOW_MINUTES)
        self._bars[-1].add(trade.price, trade.quantity)

    def statistics(self, now_us: int) -> DayStatistics:
        """The figures of the 24 hours up to now."""
        self._forget_before(now_us // MINUTE_US - WINDOW_MINUTES)
        bars = self._bars
        if not bars:
            return DayStatistics(None, None, None, 0)
        return DayStatistics(
            bars[0].open,
            max((bar.high for bar in bars), key=units),
            min((bar.low for bar in bars), key=units),
            canonical(pack(sum(bar.volume for bar in bars), MAX_DECIMALS)),
        )

    def _forget_before(self, minute: int) -> None:
        while self._bars and self._bars[0].minute < minute:
            self._bars.popleft()


def units(number: int) -> int:
    """A number's value in units of 10**-9, exact."""
    mantissa, decimals = divmod(number, 10)
    return mantissa * POWER_OF_TEN[MAX_DECIMALS - decimals]
