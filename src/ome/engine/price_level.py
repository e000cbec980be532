"""A price level: the orders waiting at one price, first come first served (M1).

Layout: a doubly linked list through the orders themselves, so that joining the back, leaving from anywhere and finding the
first are O(1) and no order is ever moved. `quantity` is the sum of what its orders show, in lots: icebergs hide the rest (T6),
which `hidden` sums.
"""

from __future__ import annotations

from collections.abc import Iterator

from ome.domain.errors import InvariantBroken
from ome.engine.order import Order


class PriceLevel:
    """The queue at `price` ticks. Called by `BookSide` only. Once its last order has left it counts for nothing (M4)."""

    __slots__ = ("count", "head", "hidden", "price", "quantity", "tail")

    def __init__(self, price: int) -> None:
        self.price = price
        self.head: Order | None = None
        self.tail: Order | None = None
        self.quantity = 0
        self.hidden = 0
        self.count = 0

    def append(self, order: Order) -> None:
        """Join the back of the queue."""
        tail = self.tail
        order.level = self
        order.previous = tail
        if tail is None:
            self.head = order
        else:
            tail.next = order
        self.tail = order
        self.quantity += order.remaining - order.hidden
        self.hidden += order.hidden
        self.count += 1

    def remove(self, order: Order) -> None:
        """Leave the queue from wherever it is, with what it shows."""
        before, after = order.previous, order.next
        if before is None:
            self.head = after
        else:
            before.next = after
        if after is None:
            self.tail = before
        else:
            after.previous = before
        order.level = order.previous = order.next = None
        self.quantity -= order.remaining - order.hidden
        self.hidden -= order.hidden
        self.count -= 1

    def __iter__(self) -> Iterator[Order]:
        order = self.head
        while order is not None:
            yield order
            order = order.next

    def check_invariants(self) -> list[Order]:
        """INV4 and INV5: sums agree, links agree both ways, priority strictly increases. Its orders, first to last."""
        orders: list[Order] = []
        total = hidden = 0
        before: Order | None = None
        order, price = self.head, self.price
        while order is not None:
            if order.level is not self or order.previous is not before or order.price != price:
                raise InvariantBroken(f"order {order.id} is linked wrongly at {self.price}")
            if before is not None and before.priority >= order.priority:
                raise InvariantBroken(f"order {order.id} stands behind {before.id} with an earlier priority")
            total += order.remaining - order.hidden
            hidden += order.hidden
            orders.append(order)
            before, order = order, order.next
        count = len(orders)
        if self.tail is not before or (total, hidden, count) != (self.quantity, self.hidden, self.count) or not count:
            raise InvariantBroken(f"level {self.price} counts {self.quantity} in {self.count}, its orders are {total} in {count}")
        return orders
