"""An order comes to the market: it trades what it can and rests, ends or is filled (M2, T1-T3, T7, H2, H3).

The order is one that isn't in the book: a new one, a stop that has fired, or one that a change has taken out.
"""

from __future__ import annotations

from typing import Final

from ome.domain.clock import MICROSECONDS
from ome.domain.enums import MarketState, OrderStatus
from ome.domain.events import OrderFilled
from ome.domain.reasons import Reason
from ome.engine import time_in_force
from ome.engine.instruments import set_state, tell_instrument
from ome.engine.market import Market
from ome.engine.matching import Outcome, reachable
from ome.engine.order import Order
from ome.engine.order_book import OrderBook
from ome.engine.reach import is_stopped_by_bound

_AUCTION: Final = MarketState.AUCTION
_CANCELLED: Final = OrderStatus.CANCELLED
_PREVENTED: Final = Outcome.PREVENTED


def enter(market: Market, book: OrderBook, order: Order) -> None:
    """Bring an order that is new, or a stop that has fired, to the market: all or a minimum at once, if it asks for that."""
    if book.state is _AUCTION:
        market.rest(book, order)
        return
    limit, reason = market.limit_of(book, order)
    special = order.special
    must_fill = time_in_force.must_fill_at_once(order)
    wanted = order.remaining if must_fill else 0
    if special is not None and special.min_quantity is not None:
        wanted = max(wanted, special.min_quantity)
    if wanted and reachable(book, order, limit, wanted) < wanted:
        unfillable = Reason.FOK_UNFILLABLE if must_fill else Reason.MIN_QUANTITY_UNFILLABLE
        market.end(order, _CANCELLED, unfillable)
        return
    match_and_settle(market, book, order, limit, reason)


def match_and_settle(market: Market, book: OrderBook, order: Order, limit: int | None, bound: Reason | None) -> None:
    """Trade an order that is not in the book, then rest, end or leave filled what it has become.

    `bound` says why what is left is cancelled where something other than the order's own price limits it (H2, T3).
    """
    matcher = market.matcher
    trades = matcher.trade_count
    outcome = matcher.match(book, order, limit, market.position, market.time, market.events)
    if matcher.trade_count != trades:
        market.events.append(OrderFilled(order.record()))
        market.stirred_books[book.instrument.symbol] = book
    if book.has_changed:
        market.touch(book)
    if outcome is _PREVENTED:
        market.end(order, _CANCELLED, Reason.SELF_TRADE_PREVENTED)
    elif not order.remaining:
        market.forget(order)
    elif bound is not None and is_stopped_by_bound(book, order):
        market.end(order, _CANCELLED, bound)
        _halt_at_band(market, book, bound)
    elif time_in_force.rests(order):
        market.rest(book, order)
    else:
        market.end(order, _CANCELLED, time_in_force.remainder_reason(order))


def _halt_at_band(market: Market, book: OrderBook, reason: Reason) -> None:
    """A taker that the band has stopped halts the symbol, where the instrument says for how long (H2)."""
    if reason is Reason.PRICE_BAND_REACHED and book.rules.band_halt_s:
        set_state(market, book, MarketState.HALTED, market.time + book.rules.band_halt_s * MICROSECONDS)
        tell_instrument(market, book)
