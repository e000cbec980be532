"""What must hold of everything that an engine knows, between two commands (INV1, INV3 to INV5)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ome.domain.enums import LAST_OPEN
from ome.domain.errors import InvariantBroken
from ome.engine.accounts import Accounts
from ome.engine.expiry import Deadlines
from ome.engine.order import Order
from ome.engine.order_book import OrderBook


def check(books: Iterable[OrderBook], orders: Mapping[int, Order], accounts: Accounts, deadlines: Deadlines) -> None:
    """InvariantBroken says what doesn't hold. Slow: for tests and recovery."""
    found = watched = 0
    for book in books:
        book.check_invariants()
        for order in (*book.orders(), *book.stops):
            found += 1
            watched += order.expires_at is not None
            _check_order(order, orders, accounts)
    if len(orders) != found:  # a level holds an order once, and none that waits: nothing was counted twice
        raise InvariantBroken("the open orders are not those in the books")
    if accounts.open_orders != found:
        raise InvariantBroken("the users' open orders are not those in the books")
    if watched != len(deadlines):
        raise InvariantBroken(f"{len(deadlines)} deadlines are watched for {watched} orders that have one")
    accounts.check_invariants()


def _check_order(order: Order, orders: Mapping[int, Order], accounts: Accounts) -> None:
    held = orders.get(order.id)
    if held is None or order is not held:
        raise InvariantBroken(f"order {order.id} is in a book and not open")
    if not accounts.holds(order):
        raise InvariantBroken(f"order {order.id} is in a book and not among its user's open orders")
    remaining = order.remaining
    if order.filled + order.prevented + remaining != order.quantity or not 0 <= order.hidden < remaining:
        raise InvariantBroken(f"order {order.id}: {order.filled} filled and {remaining} open of {order.quantity}")
    if order.status > LAST_OPEN or order.is_waiting is (order.level is not None):
        raise InvariantBroken(f"order {order.id} is {order.status.name} in a book")
