"""A driver over a list of orders, searched from end to end: right in all that a replay asks, and easy to make wrong."""

from __future__ import annotations

from dataclasses import dataclass

from ome.domain.enums import Side
from ome.replay.digest import Book, Level, Resting
from ome.replay.driver import Entry, Outcome
from ome.replay.flow import Fill


@dataclass(slots=True)
class ListedOrder:
    order_id: int
    side: Side
    price: int
    quantity: int
    remaining: int
    version: int = 1
    cancelled: bool = False

    @property
    def is_open(self) -> bool:
        """Whether it can trade."""
        return self.remaining > 0 and not self.cancelled


class ListDriver:
    """`resting` is in order of arrival; engine ids start at 1001, so that none is by chance the file's."""

    def __init__(self) -> None:
        self.orders: dict[int, ListedOrder] = {}
        self.resting: list[ListedOrder] = []

    async def open(self) -> None:
        """Nothing to list."""

    async def close(self) -> None:
        """Nothing to close."""

    async def submit(self, entry: Entry) -> Outcome:
        """See `Driver`."""
        return self.enter(entry.side, entry.price, entry.quantity, rests=not entry.taking)

    def enter(self, side: Side, price: int, quantity: int, *, rests: bool) -> Outcome:
        """Match an order; what is left of it rests or is cancelled."""
        order = ListedOrder(1001 + len(self.orders), side, price, quantity, quantity)
        self.orders[order.order_id] = order
        fills = self.match(order)
        if not rests:
            order.cancelled = order.remaining > 0
            return Outcome(order.order_id, 0, fills)
        if order.remaining:
            self.resting.append(order)
        return Outcome(order.order_id, order.remaining, fills)

    async def modify(self, order_id: int, quantity: int, price: int) -> Outcome:
        """Rules A1, A2 and A4."""
        order = self.orders[order_id]
        if not order.is_open:
            return Outcome(order_id, refused="order_not_open")
        keeps_place = price == order.price and quantity <= order.quantity
        order.remaining += quantity - order.quantity
        order.price, order.quantity, order.version = price, quantity, order.version + 1
        if keeps_place:
            return Outcome(order_id, order.remaining)
        self.resting = [other for other in self.resting if other is not order]
        fills = self.match(order)
        if order.remaining:
            self.resting.append(order)
        return Outcome(order_id, order.remaining, fills)

    async def cancel(self, order_id: int) -> Outcome:
        """See `Driver`."""
        order = self.orders[order_id]
        if not order.is_open:
            return Outcome(order_id, refused="order_not_open")
        order.cancelled = True
        self.resting = [other for other in self.resting if other is not order]
        return Outcome(order_id)

    async def book(self) -> Book:
        """See `Driver`."""
        return Book(self.levels(Side.BUY), self.levels(Side.SELL))

    def levels(self, side: Side) -> list[Level]:
        """A side's levels, best first."""
        prices = sorted({order.price for order in self.resting if order.side is side}, reverse=side is Side.BUY)
        return [Level(price, [Resting(order.order_id, order.remaining) for order in self.queue(side, price)]) for price in prices]

    def queue(self, side: Side, price: int) -> list[ListedOrder]:
        """The orders of one price, in order of arrival."""
        return [order for order in self.resting if order.side is side and order.price == price]

    def candidates(self, taker: ListedOrder) -> list[ListedOrder]:
        """The resting orders that a taker may trade with, in the order in which it does."""
        sign = 1 if taker.side is Side.BUY else -1
        opposite = [order for order in self.resting if order.side is not taker.side and sign * order.price <= sign * taker.price]
        return sorted(opposite, key=lambda order: sign * order.price)

    def match(self, taker: ListedOrder) -> tuple[Fill, ...]:
        """Trade with one candidate after the other."""
        fills = []
        for maker in self.candidates(taker):
            traded = min(maker.remaining, taker.remaining)
            if not traded:
                break
            maker.remaining -= traded
            taker.remaining -= traded
            fills.append(Fill(maker.order_id, maker.price, traded))
            if not maker.remaining:
                self.resting.remove(maker)
        return tuple(fills)
