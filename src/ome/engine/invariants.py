"""What must hold of everything that an engine knows, between two commands (INV1, INV3 to INV5)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from ome.domain.enums import LAST_OPEN, OrderStatus
from ome.domain.errors import InvariantBroken
from ome.engine.accounts import Accounts
from ome.engine.expiry import Deadlines
from ome.engine.order import Order
from ome.engine.order_book import OrderBook


def check(books: Collection[OrderBook], orders: Mapping[int, Order], accounts: Accounts, deadlines: Deadlines) -> None:
    """InvariantBroken says what doesn't hold. Slow: for tests and recovery."""
    found = watched = 0
    for book in books:
        standing = book.check_invariants()
        found += len(standing)
        watched += _check_orders(standing, orders)
    if len(orders) != found:  # a level holds an order once, and none that waits: nothing was counted twice
        raise InvariantBroken("the open orders are not those in the books")
    accounts.check_invariants(orders)
    if watched != len(deadlines):
        raise InvariantBroken(f"{len(deadlines)} deadlines are watched for {watched} orders that have one")


def _check_orders(standing: Iterable[Order], orders: Mapping[int, Order]) -> int:
    """Each order of a book is open, and its own fields agree with each other and with its being there; how many of them have a
    deadline. One loop without calls: a start waits for it.
    """
    waiting, watched = OrderStatus.PENDING_TRIGGER, 0
    for order in standing:
        status, remaining, used, special = order.status, order.remaining, order.filled, order.special
        if special is not None:
            used += special.prevented
        if (
            orders.get(order.id) is not order
            or used + remaining != order.quantity
            or not 0 <= order.hidden < remaining
            or status > LAST_OPEN
            or (status is waiting) is not (order.level is None)
        ):
            raise InvariantBroken(_complaint(order, orders))
        if order.expires_at is not None:
            watched += 1
    return watched


def _complaint(order: Order, orders: Mapping[int, Order]) -> str:
    """What is wrong with an order."""
    if orders.get(order.id) is not order:
        return f"order {order.id} is in a book and not open"
    remaining = order.remaining
    if order.filled + order.prevented + remaining != order.quantity or not 0 <= order.hidden < remaining:
        return f"order {order.id}: {order.filled} filled and {remaining} open of {order.quantity}"
    return f"order {order.id} is {order.status.name} in a book"
