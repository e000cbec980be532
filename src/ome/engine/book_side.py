"""One side of a book: its price levels in order of price, the best always at hand.

Prices are natural integers on both sides; the best bid is the highest key and the best ask the lowest. Finding the best is
O(1), adding or dropping a level O(log levels), adding to or leaving a level that stays O(1).

An emptied level is gone at once (M4): nobody is shown it. Its place is kept for the next order at its price, which is what most
new levels of a real day are, until it would be the best one, or until such places are more than the levels there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from sortedcontainers import SortedDict

from ome.domain.enums import Side
from ome.domain.errors import InvariantBroken
from ome.engine.order import Order
from ome.engine.price_level import PriceLevel

MOST_EMPTIED: Final = 64
"""Places of emptied levels that are kept however few levels there are."""


class BookSide:
    """The resting orders of one side. `best` is the first level to trade with, None when the side is empty."""

    __slots__ = ("_best_index", "_emptied", "_levels", "best", "side")

    def __init__(self, side: Side) -> None:
        self.side = side
        self._levels: SortedDict[int, PriceLevel] = SortedDict()
        self._emptied = 0
        self._best_index = -1 if side is Side.BUY else 0
        self.best: PriceLevel | None = None

    def add(self, order: Order) -> None:
        """Put an order at the back of the level of its price, which is made if it isn't there."""
        price = order.price
        if price is None:
            raise InvariantBroken(f"order {order.id} has no price and cannot rest")
        level = self._levels.get(price)
        if level is None:
            level = self._levels[price] = PriceLevel(price)
            self._appear(level)
        elif level.head is None:
            self._emptied -= 1
            self._appear(level)
        else:
            order.price = level.price  # one number for all of the level, in the place of an equal one for each order
        level.append(order)

    def remove(self, order: Order) -> None:
        """Take an order out of its level; an emptied level is gone at once (M4)."""
        level = order.level
        if level is None:
            raise InvariantBroken(f"order {order.id} is in no level")
        level.remove(order)
        if level.head is None:
            self._emptied += 1
            if level is self.best:
                self._find_best()
            elif self._emptied > MOST_EMPTIED and 2 * self._emptied > len(self._levels):
                self._levels = SortedDict({price: level for price, level in self._levels.items() if level.head is not None})
                self._emptied = 0

    def _appear(self, level: PriceLevel) -> None:
        """A level is about to have its first order."""
        best, price = self.best, level.price
        if best is None or (price > best.price if self._best_index else price < best.price):
            self.best = level

    def _find_best(self) -> None:
        """The best level has been emptied: forget it, and whatever was emptied behind it."""
        levels, index = self._levels, self._best_index
        while levels:
            level = levels.peekitem(index)[1]
            if level.head is not None:
                self.best = level
                return
            levels.popitem(index)
            self._emptied -= 1
        self.best = None

    def best_first(self) -> Iterator[PriceLevel]:
        """The levels from the best price on."""
        for level in reversed(self._levels.values()) if self._best_index else self._levels.values():
            if level.head is not None:
                yield level

    def __len__(self) -> int:
        return len(self._levels) - self._emptied

    def check_invariants(self) -> list[Order]:
        """INV4: every level is sound, those that are emptied are empty, and `best` is the best. Its orders."""
        orders: list[Order] = []
        emptied = 0
        for price, level in self._levels.items():
            if level.price != price:
                raise InvariantBroken(f"level {level.price} is kept at {price}")
            if level.head is not None:
                orders += level.check_invariants()
            elif level.tail is None and not (level.quantity or level.hidden or level.count):
                emptied += 1
            else:
                raise InvariantBroken(f"level {price} is empty and counts {level.quantity} in {level.count}")
        if emptied != self._emptied:
            raise InvariantBroken(f"{emptied} {self.side.name} levels are empty, {self._emptied} are counted")
        if self.best is not next(self.best_first(), None):
            raise InvariantBroken(f"the best {self.side.name} level is not the best")
        return orders
