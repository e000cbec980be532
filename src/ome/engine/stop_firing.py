"""Stops wait, become due and fire (rules S1-S6); what each book keeps of them is `stop_book`'s."""

from __future__ import annotations

from ome.domain.enums import OrderStatus, Side
from ome.domain.errors import InvariantBroken
from ome.domain.events import OrderAccepted, OrderTriggered
from ome.domain.reasons import Reason
from ome.engine.market import Market
from ome.engine.matching import would_take
from ome.engine.order import Order
from ome.engine.order_book import OrderBook
from ome.engine.trading import enter


def wait(market: Market, book: OrderBook, order: Order) -> None:
    """A new stop waits for its price; a trail starts from the last price (S5, S6). One already through fires at once (S2)."""
    order.status = OrderStatus.PENDING_TRIGGER
    special = order.special
    if special is not None and special.is_trailing and book.last_ticks is not None:
        special.follow(order.side, book.last_ticks)
    book.stops.add(order)
    market.deadlines.add(order)
    market.stirred_books[book.instrument.symbol] = book
    market.events.append(OrderAccepted(order.record()))


def run_stops(market: Market) -> None:
    """Fire what has become due, of all symbols the one accepted first, until nothing is or the bound is reached (S1-S3)."""
    stirred = market.stirred_books
    for book in stirred.values():
        _look_at_stops(market, book)
    left = market.settings.max_cascade
    while left and (ready := [book for book in stirred.values() if book.has_due_stop]):
        book = min(ready, key=_first_due)
        _fire(market, book, book.stops.due.peekitem(0)[1])
        _look_at_stops(market, book)
        left -= 1
    market.stirred_books = {symbol: book for symbol, book in stirred.items() if book.has_due_stop}


def _look_at_stops(market: Market, book: OrderBook) -> None:
    """After a command, or a stop, has been dealt with completely: trails follow what traded, reached stops become due."""
    traded = book.take_traded()
    stops = book.stops
    if not len(stops) or book.last_ticks is None:
        return
    moved = [] if traded is None else stops.follow(*traded)
    for order in (*moved, *stops.make_due(book.last_ticks)):
        order.picture = None
        market.changed_orders[order.id] = order


def _fire(market: Market, book: OrderBook, order: Order) -> None:
    """A stop becomes a MARKET or LIMIT order with new time priority, the same id and type (S4)."""
    special = order.special
    if special is None or special.stop is None:
        raise InvariantBroken(f"order {order.id} fires without a stop price")
    if market.controls.is_killed(order.user_id, order.instrument.symbol):
        market.end(order, OrderStatus.CANCELLED, Reason.CANCELLED_BY_KILL_SWITCH)
        return
    book.stops.remove(order)
    market.deadlines.drop(order)
    special.is_due = False
    special.triggered_at = market.time
    if special.limit_offset is not None:
        offset = special.limit_offset
        order.price = max(1, special.stop + (offset if order.side is Side.BUY else -offset))
    order.status = OrderStatus.PENDING
    order.priority = market.next_priority()
    order.updated_at = market.time
    order.picture = None
    market.changed_orders[order.id] = order
    market.events.append(OrderTriggered(order.record()))
    if not market.funds.fire(book, order):
        market.end(order, OrderStatus.CANCELLED, Reason.INSUFFICIENT_FUNDS, holds=False)
    elif special.post_only and order.price is not None and would_take(book, order.side, order.price):
        market.end(order, OrderStatus.CANCELLED, Reason.POST_ONLY_WOULD_TAKE)
    else:
        enter(market, book, order)


def _first_due(book: OrderBook) -> tuple[int, int]:
    first: tuple[int, int] = book.stops.due.peekitem(0)[0]
    return first
