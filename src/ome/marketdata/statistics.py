"""Rolling 24-hour statistics of one symbol, kept up trade by trade in minutes (N2).

The window is the minute that is running and the 1,440 before it, so figures are rolling to the minute. Layout: one bar for each
minute that had a trade, oldest first, and of the highest and the lowest prices those that can still become the window's, so that
it is always the first one (monotonic queues); at most 1,441 of each. A trade and a reading cost O(1) amortised: what leaves the
window does so once. Values are compared and summed in units of 10**-9, so a change of tick or lot within it does no harm.
"""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

from ome.domain.clock import MICROSECONDS
from ome.domain.numbers import MAX_DECIMALS, POWER_OF_TEN, canonical, pack
from ome.domain.records import TradeRecord

MINUTE_US: Final = 60 * MICROSECONDS
WINDOW_MINUTES: Final = 24 * 60


class Minute:
    """What a minute opened with, a number, and what traded in it, in units of 10**-9."""

    __slots__ = ("minute", "open", "volume")

    def __init__(self, minute: int, price: int) -> None:
        self.minute = minute
        self.open = price
        self.volume = 0


class Extremes:
    """The highest price of a window that moves on; the lowest, where `sign` is -1.

    Each entry is (minute, value, number), values never increasing: what is below a later one can't become the highest any more.
    """

    __slots__ = ("_entries", "_sign")

    def __init__(self, sign: int) -> None:
        self._sign = sign
        self._entries: deque[tuple[int, int, int]] = deque()

    def add(self, minute: int, price: int) -> None:
        """Count a price; the earlier one of two that are equal is kept."""
        entries, value = self._entries, self._sign * units(price)
        while entries and entries[-1][1] < value:
            entries.pop()
        if not entries or entries[-1][0] != minute:
            entries.append((minute, value, price))

    def forget_before(self, minute: int) -> None:
        """Move the window on."""
        while self._entries and self._entries[0][0] < minute:
            self._entries.popleft()

    @property
    def first(self) -> int | None:
        """The number, or None without a price."""
        return self._entries[0][2] if self._entries else None


class DayStatistics(NamedTuple):
    """Numbers over the window; None without a trade in it."""

    open: int | None
    high: int | None
    low: int | None
    volume: int


class RollingDay:
    """The last 24 hours of one symbol."""

    __slots__ = ("_bars", "_highest", "_lowest", "_volume")

    def __init__(self) -> None:
        self._bars: deque[Minute] = deque()
        self._highest = Extremes(1)
        self._lowest = Extremes(-1)
        self._volume = 0

    def add(self, trade: TradeRecord) -> None:
        """Count a trade; trades come in order of time."""
        minute, price = trade.executed_at // MINUTE_US, trade.price
        if not self._bars or self._bars[-1].minute != minute:
            self._bars.append(Minute(minute, price))
            self._forget_before(minute - WINDOW_MINUTES)
        quantity = units(trade.quantity)
        self._bars[-1].volume += quantity
        self._volume += quantity
        self._highest.add(minute, price)
        self._lowest.add(minute, price)

    def statistics(self, now_us: int) -> DayStatistics:
        """The figures of the 24 hours up to now."""
        self._forget_before(now_us // MINUTE_US - WINDOW_MINUTES)
        if not self._bars:
            return DayStatistics(None, None, None, 0)
        volume = canonical(pack(self._volume, MAX_DECIMALS))
        return DayStatistics(self._bars[0].open, self._highest.first, self._lowest.first, volume)

    def _forget_before(self, minute: int) -> None:
        bars = self._bars
        if bars and bars[0].minute < minute:
            while bars and bars[0].minute < minute:
                self._volume -= bars.popleft().volume
            self._highest.forget_before(minute)
            self._lowest.forget_before(minute)


def units(number: int) -> int:
    """A number's value in units of 10**-9, exact."""
    mantissa, decimals = divmod(number, 10)
    return mantissa * POWER_OF_TEN[MAX_DECIMALS - decimals]
