"""What becomes of an order that matching has not filled: the one place that knows what rests and what doesn't (T1-T3)."""

from __future__ import annotations

from typing import Final

from ome.domain.clock import MICROSECONDS
from ome.domain.enums import TimeInForce
from ome.domain.reasons import Reason
from ome.engine.order import Order

_FOK: Final = TimeInForce.FOK
_IOC_REMAINDER: Final = Reason.IOC_REMAINDER


def must_fill_at_once(order: Order) -> bool:
    """Whether it fills wholly or not at all (T2)."""
    return order.time_in_force is _FOK


def rests(order: Order) -> bool:
    """Whether what is left of it becomes part of the book (M2); IOC, FOK and whatever has no price never do."""
    return order.price is not None and order.time_in_force in _RESTING


def remainder_reason(order: Order) -> Reason:
    """Why what is left of an order that doesn't rest is cancelled."""
    if order.price is None:
        return Reason.MARKET_REMAINDER if order.filled else Reason.NO_LIQUIDITY
    return _IOC_REMAINDER


def next_session_close(session_close_s: int, now_us: int) -> int:
    """When a DAY order that is accepted now ends: the next time of day that the session closes, in microseconds (T5)."""
    into_day = now_us % _DAY_US
    close = session_close_s * MICROSECONDS
    return now_us - into_day + close + (_DAY_US if close <= into_day else 0)


_RESTING: Final = frozenset({TimeInForce.GTC, TimeInForce.GTD, TimeInForce.DAY})
_DAY_US: Final = 86_400 * MICROSECONDS
