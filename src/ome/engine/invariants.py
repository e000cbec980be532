"""What must hold of everything that an engine knows, between two commands (INV1, INV3 to INV5)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from ome.domain.enums import LAST_OPEN, OrderStatus
from ome.domain.errors import InvariantBroken
from ome.engine.accounts import Accounts
from ome.engine.expiry import Deadlines
from ome.engine.order import Order
from ome.engine.order_book import OrderBook


def check(books: Collection[OrderBook], orders: Mapping[int, Order], accounts: Accounts, deadlines: Deadlines) -> None:
    """InvariantBroken says what doesn't hold. Slow: for tests and recovery."""
    found = watched = 0
    for order in _all_orders(books):
        found += 1
        watched += order.expires_at is not None
        if orders.get(order.id) is not order or not _is_sound(order):
            raise InvariantBroken(_complaint(order, orders))
    if len(orders) != found:  # a level holds an order once, and none that waits: nothing was counted twice
        raise InvariantBroken("the open orders are not those in the books")
    if accounts.count_held(orders) != found:
        for order in _all_orders(books):
            if not accounts.holds(order):
                raise InvariantBroken(f"order {order.id} is in a book and not among its user's open orders")
        raise InvariantBroken("the users' open orders are not those in the books")
    if watched != len(deadlines):
        raise InvariantBroken(f"{len(deadlines)} deadlines are watched for {watched} orders that have one")
    accounts.check_invariants()


def _all_orders(books: Iterable[OrderBook]) -> Iterator[Order]:
    """Those in the books, each of which is sound."""
    for book in books:
        book.check_invariants()
        yield from book.orders()
        yield from book.stops


def _is_sound(order: Order) -> bool:
    """Whether an order's own fields agree with each other, and with its being in a book."""
    status, remaining, used, special = order.status, order.remaining, order.filled, order.special
    if special is not None:
        used += special.prevented
    return (
        used + remaining == order.quantity
        and 0 <= order.hidden < remaining
        and status <= LAST_OPEN
        and (status is OrderStatus.PENDING_TRIGGER) is (order.level is None)
    )


def _complaint(order: Order, orders: Mapping[int, Order]) -> str:
    """What is wrong with an order."""
    if orders.get(order.id) is not order:
        return f"order {order.id} is in a book and not open"
    remaining = order.remaining
    if order.filled + order.prevented + remaining != order.quantity or not 0 <= order.hidden < remaining:
        return f"order {order.id}: {order.filled} filled and {remaining} open of {order.quantity}"
    return f"order {order.id} is {order.status.name} in a book"
