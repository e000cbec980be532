"""A symbol's levels, kept up by `BookChanged` events: what the public sees of the book (D1)."""

from __future__ import annotations

from itertools import islice
from typing import Final

from sortedcontainers import SortedDict

from ome.domain.enums import Side
from ome.domain.events import BookChanged
from ome.domain.ports import Depth

_BUY: Final = Side.BUY
Level = tuple[int, int, int]
"""Price, quantity and number of orders."""


class DepthView:
    """Levels by price number; all numbers of a side share their decimals, so that they sort as their values do.

    Applying a change costs O(log levels) for each level in it; the best level is O(1), the best n are O(n), at the pace of a
    copy: milliseconds for a hundred thousand levels.
    """

    __slots__ = ("_asks", "_bids")

    def __init__(self, depth: Depth) -> None:
        """Start from every level that there is."""
        self._bids: SortedDict[int, Level] = SortedDict(_by_price(depth.bids))
        self._asks: SortedDict[int, Level] = SortedDict(_by_price(depth.asks))

    def apply(self, change: BookChanged) -> None:
        """Take in the levels that a command changed; no orders means that a level is gone."""
        for side, price, quantity, orders in change.levels:
            levels = self._bids if side is _BUY else self._asks
            if orders:
                levels[price] = (price, quantity, orders)
            else:
                levels.pop(price, None)

    def __len__(self) -> int:
        """How many price levels there are."""
        return len(self._bids) + len(self._asks)

    def best(self, side: Side) -> tuple[int, int] | None:
        """(price, quantity) of the best level of a side, or None."""
        levels, index = (self._bids, -1) if side is Side.BUY else (self._asks, 0)
        if not levels:
            return None
        price, quantity, _ = levels.peekitem(index)[1]
        return price, quantity

    def bids(self, levels: int) -> list[Level]:
        """The best bids, at most `levels`: (price, quantity, orders) each."""
        return list(map(self._bids.__getitem__, islice(reversed(self._bids), levels)))

    def asks(self, levels: int) -> list[Level]:
        """The best asks, at most `levels`: (price, quantity, orders) each."""
        return list(map(self._asks.__getitem__, islice(self._asks, levels)))


def _by_price(levels: list[Level]) -> dict[int, Level]:
    return {level[0]: level for level in levels}
