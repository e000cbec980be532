"""The stops of one symbol that wait for the last price (rules S1-S6).

Layout: buys and sells each in order of stop price, so that those which a price reaches are found without a search; trailing stops
besides in a dict, since every new extreme may move each of them; and `due`, in order of acceptance: by time, then by id, since
ids of several shards don't tell.
Becoming due is final (S2); firing is the engine's business. Adding, dropping and moving cost O(log n); a new last price costs
O(number of trailing stops) and O(log n) for each stop that it makes due.
"""

from __future__ import annotations

from collections.abc import Iterator

from sortedcontainers import SortedDict

from ome.domain.enums import Side
from ome.domain.errors import InvariantBroken
from ome.engine.order import Order


class StopBook:
    """Waiting stops; one that has become due is still in it until it fires."""

    __slots__ = ("_buys", "_sells", "_trailing", "_waiting", "due")

    def __init__(self) -> None:
        self._waiting: dict[int, Order] = {}
        self._trailing: dict[int, Order] = {}
        self._buys: SortedDict[tuple[int, int], Order] = SortedDict()
        self._sells: SortedDict[tuple[int, int], Order] = SortedDict()
        self.due: SortedDict[tuple[int, int], Order] = SortedDict()

    def add(self, order: Order) -> None:
        """Let an order wait; one that was due already (recovery, modify) stays due."""
        special = order.special
        if special is None:
            raise InvariantBroken(f"order {order.id} is no stop")
        self._waiting[order.id] = order
        if special.is_trailing:
            self._trailing[order.id] = order
        if special.is_due:
            self.due[order.acceptance] = order
        elif special.stop is not None:
            self._side(order)[special.stop, order.id] = order

    def remove(self, order: Order) -> None:
        """Take an order out: it fires, or ends."""
        special = order.special
        if special is None:
            raise InvariantBroken(f"order {order.id} is no stop")
        del self._waiting[order.id]
        self._trailing.pop(order.id, None)
        self.due.pop(order.acceptance, None)
        if special.stop is not None:
            self._side(order).pop((special.stop, order.id), None)

    def follow(self, lowest: int, highest: int) -> list[Order]:
        """Let every trail see the extremes of what has just traded, in ticks: the orders whose stop moved (S6)."""
        moved = []
        for order in self._trailing.values():
            special = order.special
            if special is None or special.is_due:
                continue
            side, before = self._side(order), special.stop
            if special.follow(order.side, highest if order.side is Side.SELL else lowest):
                if before is not None:
                    side.pop((before, order.id), None)
                if special.stop is not None:
                    side[special.stop, order.id] = order
                moved.append(order)
        return moved

    def make_due(self, last: int) -> list[Order]:
        """Note the stops that the last price, in ticks, has reached (S1): those that have just become due."""
        reached = []
        while self._buys and self._buys.peekitem(0)[0][0] <= last:
            reached.append(self._buys.popitem(0)[1])
        while self._sells and self._sells.peekitem(-1)[0][0] >= last:
            reached.append(self._sells.popitem(-1)[1])
        for order in reached:
            if order.special is not None:
                order.special.is_due = True
            self.due[order.acceptance] = order
        return reached

    def __iter__(self) -> Iterator[Order]:
        return iter(self._waiting.values())

    def __len__(self) -> int:
        return len(self._waiting)

    def check_invariants(self) -> None:
        """Every waiting stop is in exactly the one place where its state says it is."""
        due = {order.id for order in self.due.values()}
        placed = {order.id for orders in (self._buys, self._sells) for order in orders.values()} | due
        if len(placed) != len(self._buys) + len(self._sells) + len(self.due):
            raise InvariantBroken("a stop waits in two places")
        for order in self._waiting.values():
            special = order.special
            if special is None or (order.id in due) is not special.is_due:
                raise InvariantBroken(f"stop {order.id} is due and not due")
            if (order.id in placed) is not (special.is_due or special.stop is not None):
                raise InvariantBroken(f"stop {order.id} waits in no place")

    def _side(self, order: Order) -> SortedDict[tuple[int, int], Order]:
        return self._buys if order.side is Side.BUY else self._sells
