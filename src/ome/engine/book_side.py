"""One side of a book: its price levels in order of price, the best always at hand.

Prices are natural integers on both sides. Layout: a dict of levels by price, and a list of their prices in order, the best at its
end (those of sells negated), so that a level near the market is made and dropped at the end of a list. Finding the best is O(1),
adding to or leaving a level that stays O(1); making or dropping one is a binary search and moves 8 bytes for each level that is
better: near the market nothing, halfway into 100,000 levels 13 microseconds (CPython 3.11).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator

from ome.domain.enums import Side
from ome.domain.errors import InvariantBroken
from ome.engine.order import Order
from ome.engine.price_level import PriceLevel


class BookSide:
    """The resting orders of one side. `best` is the first level to trade with, None when the side is empty."""

    __slots__ = ("_levels", "_ordered", "_sign", "best", "side")

    def __init__(self, side: Side) -> None:
        self.side = side
        self._levels: dict[int, PriceLevel] = {}
        self._sign = 1 if side is Side.BUY else -1
        self._ordered: list[int] = []
        self.best: PriceLevel | None = None

    def add(self, order: Order) -> None:
        """Put an order at the back of the level of its price, which is made if it isn't there."""
        price = order.price
        if price is None:
            raise InvariantBroken(f"order {order.id} has no price and cannot rest")
        level = self._levels.get(price)
        if level is None:
            level = self._levels[price] = PriceLevel(price)
            insort(self._ordered, price * self._sign)
            best = self.best
            if best is None or (price > best.price if self._sign > 0 else price < best.price):
                self.best = level
        level.append(order)

    def remove(self, order: Order) -> None:
        """Take an order out of its level; an emptied level is gone at once (M4)."""
        level = order.level
        if level is None:
            raise InvariantBroken(f"order {order.id} is in no level")
        level.remove(order)
        if level.head is None:
            del self._levels[level.price]
            if level is self.best:
                self._ordered.pop()
                self.best = self._levels[self._ordered[-1] * self._sign] if self._ordered else None
            else:
                del self._ordered[bisect_left(self._ordered, level.price * self._sign)]

    def level(self, price: int) -> PriceLevel | None:
        """The level at a price, or None."""
        return self._levels.get(price)

    def best_first(self) -> Iterator[PriceLevel]:
        """The levels from the best price on."""
        levels, sign = self._levels, self._sign
        return (levels[place * sign] for place in reversed(self._ordered))

    def __len__(self) -> int:
        return len(self._levels)

    def check_invariants(self) -> None:
        """INV4: every level is sound, none is empty, all are in order, and `best` is the best."""
        for price, level in self._levels.items():
            if level.price != price:
                raise InvariantBroken(f"level {level.price} is kept at {price}")
            level.check_invariants()
        if self._ordered != sorted(price * self._sign for price in self._levels):
            raise InvariantBroken(f"the {self.side.name} levels are not in order")
        if self.best is not next(self.best_first(), None):
            raise InvariantBroken(f"the best {self.side.name} level is not the best")
