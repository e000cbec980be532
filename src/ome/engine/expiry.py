"""Deadlines of open orders, the soonest first (T5)."""

from __future__ import annotations

from collections.abc import Iterable

from sortedcontainers import SortedDict

from ome.engine.order import Order


class Deadlines:
    """Open GTD orders by deadline, then by id. Adding and dropping is O(log n), the next one O(1).

    `soonest` is the next deadline, in microseconds, or None.
    """

    __slots__ = ("_orders", "soonest")

    def __init__(self) -> None:
        self._orders: SortedDict[tuple[int, int], Order] = SortedDict()
        self.soonest: int | None = None

    def add(self, order: Order) -> None:
        """Watch an order's `expires_at`, if it has one."""
        expires_at = order.expires_at
        if expires_at is not None:
            self._orders[expires_at, order.id] = order
            if self.soonest is None or expires_at < self.soonest:
                self.soonest = expires_at

    def restore(self, orders: Iterable[Order]) -> None:
        """Watch all of these that have an `expires_at`, and none else (recovery)."""
        watched = {(order.expires_at, order.id): order for order in orders if order.expires_at is not None}
        self._orders = SortedDict(watched)
        self._look()

    def drop(self, order: Order) -> None:
        """Stop watching an order, if it was watched."""
        expires_at = order.expires_at
        if expires_at is not None:
            self._orders.pop((expires_at, order.id), None)
            if expires_at == self.soonest:
                self._look()

    def pop_due(self, time: int) -> Order | None:
        """Take out the order whose deadline came first, if it has come by `time`."""
        if not self._orders or self._orders.peekitem(0)[0][0] > time:
            return None
        order: Order = self._orders.popitem(0)[1]
        self._look()
        return order

    def has_due(self, time: int, more_than: int) -> bool:
        """Whether more than so many deadlines have come by `time`."""
        return len(self._orders) > more_than and self._orders.peekitem(more_than)[0][0] <= time

    def _look(self) -> None:
        self.soonest = self._orders.peekitem(0)[0][0] if self._orders else None

    def __len__(self) -> int:
        return len(self._orders)
