"""One side of a book: its price levels in order of price, the best always at hand.

Prices are natural integers on both sides; the best bid is the highest key and the best ask the lowest. Finding the best is
O(1), adding or dropping a level O(log levels), adding to or leaving a level that stays O(1).
"""

from __future__ import annotations

from collections.abc import Iterator

from sortedcontainers import SortedDict

from ome.domain.enums import Side
from ome.domain.errors import InvariantBroken
from ome.engine.order import Order
from ome.engine.price_level import PriceLevel


class BookSide:
    """The resting orders of one side. `best` is the first level to trade with, None when the side is empty."""

    __slots__ = ("_best_index", "_levels", "best", "side")

    def __init__(self, side: Side) -> None:
        self.side = side
        self._levels: SortedDict[int, PriceLevel] = SortedDict()
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
            best = self.best
            if best is None or (price > best.price if self._best_index else price < best.price):
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
                self.best = self._levels.peekitem(self._best_index)[1] if self._levels else None

    def level(self, price: int) -> PriceLevel | None:
        """The level at a price, or None."""
        return self._levels.get(price)

    def best_first(self) -> Iterator[PriceLevel]:
        """The levels from the best price on."""
        return reversed(self._levels.values()) if self._best_index else iter(self._levels.values())

    def __len__(self) -> int:
        return len(self._levels)

    def check_invariants(self) -> list[Order]:
        """INV4: every level is sound, none is empty, and `best` is the best. Its orders."""
        orders: list[Order] = []
        for price, level in self._levels.items():
            if level.price != price:
                raise InvariantBroken(f"level {level.price} is kept at {price}")
            orders += level.check_invariants()
        if self.best is not next(self.best_first(), None):
            raise InvariantBroken(f"the best {self.side.name} level is not the best")
        return orders
