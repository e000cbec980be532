"""Stored values as people read them: a number with its point, a status by its name, bytes by their first few."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from msgspec import Struct

from ome.domain.enums import MarketState, OrderStatus, OrderType, SelfTradePrevention, Side, TimeInForce
from ome.domain.numbers import format_number
from ome.domain.reasons import Reason

_LONGEST: Final = 120
_BYTES_SHOWN: Final = 16
_NUMBERS: Final = (
    "quantity",
    "price",
    "filled_quantity",
    "remaining_quantity",
    "tick_size",
    "lot_size",
    "last_price",
    "last_quantity",
)


def _word_of(kind: type[Any]) -> Callable[[int], str]:
    return lambda value: str(kind(value).name)


_READINGS: Final[dict[str, Callable[[int], str]]] = {
    **dict.fromkeys(_NUMBERS, format_number),
    "side": _word_of(Side),
    "taker_side": _word_of(Side),
    "type": _word_of(OrderType),
    "time_in_force": _word_of(TimeInForce),
    "status": _word_of(OrderStatus),
    "state": _word_of(MarketState),
    "reason": _word_of(Reason),
    "self_trade_prevention": _word_of(SelfTradePrevention),
}


def shown(column: str, value: object) -> str:
    """A stored value, and in brackets what it means where the stored form isn't what people write."""
    if value is None:
        return "nothing"
    if isinstance(value, bytes):
        more = "..." if len(value) > _BYTES_SHOWN else ""
        return f"{value[:_BYTES_SHOWN].hex()}{more} ({len(value)} bytes)"
    text = shortened(repr(value) if isinstance(value, str) else str(value))
    reading = _READINGS.get(column)
    if reading is None or not isinstance(value, int) or value < 0:
        return text
    try:
        return f"{text} ({reading(value)})"
    except ValueError:
        return text


def first_unequal(left: Any, right: Any, place: str = "") -> tuple[str, Any, Any]:
    """Where two unequal structures differ first: the place, as `events[1].order.price`, and what is there in each."""
    if type(left) is not type(right):
        return place, left, right
    if isinstance(left, Struct):
        pairs = [
            (f"{place}.{name}" if place else name, getattr(left, name), getattr(right, name)) for name in left.__struct_fields__
        ]
    elif isinstance(left, list) and len(left) == len(right):
        pairs = [(f"{place}[{index}]", *pair) for index, pair in enumerate(zip(left, right, strict=True))]
    else:
        return place, left, right
    return first_unequal(*next((one, other, where) for where, one, other in pairs if one != other))


def shortened(text: str) -> str:
    """Text of a length that fits a sentence."""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
