"""How far an order may trade at the moment: its own limit, its slippage bound or a bound of its symbol, whichever is nearest."""

from __future__ import annotations

from ome.domain.enums import Side
from ome.domain.reasons import Reason
from ome.engine.matching import would_take
from ome.engine.order import Order
from ome.engine.order_book import OrderBook
from ome.engine.price_bounds import slippage_bound


def limit_of(book: OrderBook, order: Order) -> tuple[int | None, Reason | None]:
    """The furthest price, in ticks; None for no bound (T3, H2).

    With it the reason to cancel what a bound leaves over; None where that is the order's own limit.
    """
    limit, reason = order.price, None
    best = book.opposite(order.side).best
    bounds: list[tuple[int, Reason]] = []
    special = order.special
    if special is not None and special.max_slippage_bps is not None and best is not None:
        bounds.append((slippage_bound(best.price, order.side, special.max_slippage_bps), Reason.SLIPPAGE_BOUND))
    band = book.band
    if band is not None:
        bounds.append((band.worst(order.side), Reason.PRICE_BAND_REACHED))
    for bound, its_reason in bounds:
        if limit is None or (bound < limit if order.side is Side.BUY else bound > limit):
            limit, reason = bound, its_reason
    return limit, reason


def is_stopped_by_bound(book: OrderBook, order: Order) -> bool:
    """Whether it could have gone on trading but for a bound that isn't its own price."""
    best = book.opposite(order.side).best
    return best is not None and (order.price is None or would_take(book, order.side, order.price))
