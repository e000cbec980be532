"""Changes of open orders (rules A1-A8): every check first, then all of the change."""

from __future__ import annotations

from ome.domain.commands import ModifyOrder
from ome.domain.enums import MarketState, OrderStatus
from ome.domain.events import OrderModified
from ome.domain.reasons import Reason
from ome.engine.admission import Change, check_change, only_lowers, refused
from ome.engine.cancelling import order_for
from ome.engine.limits import Ask
from ome.engine.market import Market
from ome.engine.order import Order
from ome.engine.order_book import OrderBook
from ome.engine.refusal import Refusal
from ome.engine.trading import match_and_settle


def modify(market: Market, command: ModifyOrder) -> None:
    """Carry out a change, or refuse it and leave the order exactly as it was (A6)."""
    try:
        order = order_for(market, command)
        book = market.books[order.instrument.symbol]
        symbol = book.instrument.symbol
        change = check_change(command, order, book, market.time, is_killed=market.controls.is_killed(order.user_id, symbol))
        if order.user_id in market.controls.limits and not only_lowers(command, order, change.price, change.quantity):
            market.check_limits(Ask.of_change(order, change), order.user_id, book)
        market.funds.change(order, change.price, change.quantity - order.filled - order.prevented)
    except Refusal as refusal:
        market.events.append(refused(command, refusal))
        return
    market.changed_orders[order.id] = order
    order.version += 1
    order.updated_at = market.time
    order.picture = None
    if change.expires_at != order.expires_at:
        market.deadlines.drop(order)
        order.expires_at = change.expires_at
        market.deadlines.add(order)
    if order.is_waiting:
        _change_waiting(market, book, order, change)
    elif change.quantity == order.filled + order.prevented:
        _reduce(market, book, order, change)
        book.remove(order)
        order.price = change.price
        market.end(order, OrderStatus.CANCELLED, Reason.REDUCED_TO_FILLED)
    elif change.price == order.price and change.quantity <= order.quantity:
        _reduce(market, book, order, change)
        market.events.append(OrderModified(order.record()))
    else:
        _requeue(market, book, order, change)


def _reduce(market: Market, book: OrderBook, order: Order, change: Change) -> None:
    """Lower the total, or what it shows, where it stands: the place in the queue is kept (A1, A3)."""
    shown, hidden = order.shown, order.hidden
    order.special = change.special
    lowered = order.quantity - change.quantity
    order.remaining -= lowered
    market.accounts.resized(order, -lowered)
    order.quantity = change.quantity
    now_shown = min(shown, order.remaining)
    if order.special is not None and order.special.display is not None:
        now_shown = min(now_shown, order.special.display)
    order.hidden = order.remaining - now_shown
    book.resized(order, shown, hidden)
    if book.has_changed or (book.state is MarketState.AUCTION and order.hidden != hidden):  # an auction counts what is hidden
        market.touch(book)


def _requeue(market: Market, book: OrderBook, order: Order, change: Change) -> None:
    """Take a new price or a larger quantity: out of the queue, trading where it crosses, to the back (A2, A4)."""
    book.remove(order)
    market.touch(book)
    market.deadlines.drop(order)
    order.priority = market.next_priority()
    order.price, order.special = change.price, change.special
    market.accounts.resized(order, change.quantity - order.quantity)
    order.quantity = change.quantity
    order.remaining = change.quantity - order.filled - order.prevented
    order.hidden = 0
    market.events.append(OrderModified(order.record()))
    if book.state is MarketState.AUCTION:
        market.rest(book, order)
    else:
        match_and_settle(market, book, order, *market.limit_of(book, order))


def _change_waiting(market: Market, book: OrderBook, order: Order, change: Change) -> None:
    """A waiting stop takes its new fields and keeps its turn; one that is now through fires at once (A8)."""
    book.stops.remove(order)
    order.special = change.special
    order.price = change.price
    market.accounts.resized(order, change.quantity - order.quantity)
    order.remaining = order.quantity = change.quantity
    book.stops.add(order)
    market.stirred_books[book.instrument.symbol] = book
    market.events.append(OrderModified(order.record()))
