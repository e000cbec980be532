"""How far an order may trade now: its own limit, its slippage bound, its symbol's band or its user's collar, the nearest."""

from __future__ import annotations

from typing import Final

from ome.domain.enums import Side
from ome.domain.reasons import Reason
from ome.engine.matching import would_take
from ome.engine.order import Order
from ome.engine.order_book import OrderBook
from ome.engine.price_bounds import Band, price_band, slippage_bound
from ome.engine.special import Special

# An enum's member is slow to reach by its class
_BUY: Final = Side.BUY
_SLIPPAGE_BOUND: Final = Reason.SLIPPAGE_BOUND
_PRICE_BAND_REACHED: Final = Reason.PRICE_BAND_REACHED
_PRICE_COLLAR_REACHED: Final = Reason.PRICE_COLLAR_REACHED


def limit_of(
    book: OrderBook, side: Side, price: int | None, special: Special | None, collar_percent: int | None
) -> tuple[int | None, Reason | None]:
    """The furthest price, in ticks; None for no bound (T3, H2, R1). `price` is the order's own limit.

    With it the reason to cancel what a bound leaves over; None where that is the order's own limit.
    """
    if special is None and collar_percent is None and book.rules.price_band_percent is None:
        return price, None
    limit, reason = price, None
    bounds: list[tuple[int, Reason]] = []
    if special is not None and special.max_slippage_bps is not None and (best := book.opposite(side).best) is not None:
        bounds.append((slippage_bound(best.price, side, special.max_slippage_bps), _SLIPPAGE_BOUND))
    if (band := book.band) is not None:
        bounds.append((band.worst(side), _PRICE_BAND_REACHED))
    if collar_percent is not None and (own := collar(book, collar_percent)) is not None:
        bounds.append((own.worst(side), _PRICE_COLLAR_REACHED))
    for bound, its_reason in bounds:
        if limit is None or (bound < limit if side is _BUY else bound > limit):
            limit, reason = bound, its_reason
    return limit, reason


def collar(book: OrderBook, percent: int) -> Band | None:
    """The prices within so many percent of the reference that bands have, too; None where there is none (H2, R1)."""
    reference_twice = book.reference_twice
    if reference_twice is None:
        return None
    band, most = price_band(reference_twice, percent), book.instrument.prices.most_steps
    return band if band.highest <= most else Band(band.lowest, most)


def is_stopped_by_bound(book: OrderBook, order: Order) -> bool:
    """Whether it could have gone on trading but for a bound that isn't its own price."""
    best = book.opposite(order.side).best
    return best is not None and (order.price is None or would_take(book, order.side, order.price))
