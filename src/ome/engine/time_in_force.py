"""What becomes of an order that matching has not filled: the one place that knows what rests and what doesn't (T1-T3)."""

from __future__ import annotations

from ome.domain.enums import OrderType, TimeInForce
from ome.domain.reasons import Reason
from ome.engine.order import Order


def must_fill_at_once(order: Order) -> bool:
    """Whether it fills wholly or not at all (T2)."""
    return order.time_in_force is TimeInForce.FOK


def rests(order: Order) -> bool:
    """Whether what is left of it becomes part of the book (M2); IOC, FOK and MARKET never do."""
    return order.type is not OrderType.MARKET and order.time_in_force in {TimeInForce.GTC, TimeInForce.GTD}


def remainder_reason(order: Order) -> Reason:
    """Why what is left of an order that doesn't rest is cancelled."""
    if order.type is OrderType.MARKET:
        return Reason.MARKET_REMAINDER if order.filled else Reason.NO_LIQUIDITY
    return Reason.IOC_REMAINDER
