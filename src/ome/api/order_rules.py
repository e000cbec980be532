"""The rules between an order's fields: which belong together, and what is said where they don't.

An order has a limit when it is LIMIT, STOP_LIMIT, or TRAILING_STOP with a `limit_offset`; every other reaches the market as a
MARKET order: its time in force reads IOC, and it never rests. `openapi` tells the same rules as JSON Schema.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from ome.api.problems import FieldError
from ome.domain.enums import OrderType, TimeInForce

_PRICED: Final = frozenset({OrderType.LIMIT, OrderType.STOP_LIMIT})
_STOPS: Final = frozenset({OrderType.STOP, OrderType.STOP_LIMIT})
_MINIMUM: Final = frozenset({OrderType.LIMIT, OrderType.MARKET, OrderType.STOP_LIMIT})
_AT_ONCE: Final = frozenset({TimeInForce.IOC, TimeInForce.FOK})
_WITHOUT_LIMIT: Final = frozenset({TimeInForce.GTC, TimeInForce.IOC})
"""What may be sent with an order without a limit: the default, and what it reads."""
_TRAILING_FIELDS: Final = ("trail_amount", "trail_percent", "limit_offset")


def order_rules(values: Mapping[str, Any], given: Collection[str]) -> list[FieldError]:
    """What is wrong between fields: `values` are those that could be read, `given` all that were sent, bad ones too."""
    order_type: OrderType | None = values.get("type", None if "type" in given else OrderType.LIMIT)
    time_in_force: TimeInForce | None = values.get("time_in_force", None if "time_in_force" in given else TimeInForce.GTC)
    errors = [] if order_type is None else [*_price_rules(order_type, given), *_trail_rules(order_type, given)]
    return [*errors, *_time_rules(order_type, time_in_force, given), *_special_rules(order_type, time_in_force, values, given)]


def has_limit(order_type: OrderType, given: Collection[str]) -> bool:
    """Whether the order reaches the market with a limit."""
    return order_type in _PRICED or (order_type is OrderType.TRAILING_STOP and "limit_offset" in given)


def _price_rules(order_type: OrderType, given: Collection[str]) -> list[FieldError]:
    errors = []
    for field, types in (("price", _PRICED), ("stop_price", _STOPS)):
        if order_type in types and field not in given:
            errors.append(FieldError(field, f"is required for a {order_type.name} order"))
        elif order_type not in types and field in given:
            errors.append(FieldError(field, f"does not belong to a {order_type.name} order; leave it out"))
    return errors


def _trail_rules(order_type: OrderType, given: Collection[str]) -> list[FieldError]:
    if order_type is not OrderType.TRAILING_STOP:
        foreign = [field for field in _TRAILING_FIELDS if field in given]
        return [FieldError(field, "belongs to TRAILING_STOP orders only; leave it out") for field in foreign]
    if ("trail_amount" in given) == ("trail_percent" in given):
        return [FieldError("trail_amount", "or trail_percent is required, one of the two")]
    return []


def _time_rules(order_type: OrderType | None, time_in_force: TimeInForce | None, given: Collection[str]) -> list[FieldError]:
    errors = []
    if order_type is not None and time_in_force not in {*_WITHOUT_LIMIT, None} and not has_limit(order_type, given):
        kind = (
            "TRAILING_STOP order without a limit_offset" if order_type is OrderType.TRAILING_STOP else f"{order_type.name} order"
        )
        errors.append(
            FieldError(
                "time_in_force",
                f"must be IOC or GTC, which reads IOC, or left out, for a {kind}: it never rests and may fill in part",
            )
        )
    elif time_in_force is TimeInForce.GTD and "expires_at" not in given:
        errors.append(FieldError("expires_at", "is required with GTD"))
    if time_in_force not in {TimeInForce.GTD, None} and "expires_at" in given:
        errors.append(FieldError("expires_at", "belongs to GTD only; leave it out, or send time_in_force GTD"))
    return errors


def _special_rules(
    order_type: OrderType | None, time_in_force: TimeInForce | None, values: Mapping[str, Any], given: Collection[str]
) -> list[FieldError]:
    post_only = values.get("post_only", False)
    resting = [field for field, wanted in (("post_only", post_only), ("display_quantity", "display_quantity" in given)) if wanted]
    errors = []
    for field in resting:
        if order_type is not None and not has_limit(order_type, given):
            errors.append(FieldError(field, "belongs to orders with a limit, which can rest in the book; leave it out"))
        elif time_in_force in _AT_ONCE:
            errors.append(FieldError(field, f"contradicts {time_in_force.name}, which never rests; leave one of them out"))
    if "min_quantity" in given:
        if post_only:
            errors.append(FieldError("min_quantity", "contradicts post_only: it asks to trade at once; leave one of them out"))
        elif order_type not in {*_MINIMUM, None}:
            errors.append(FieldError("min_quantity", "belongs to LIMIT, MARKET and STOP_LIMIT orders only; leave it out"))
    if "max_slippage_bps" in given and order_type is not None and has_limit(order_type, given):
        errors.append(FieldError("max_slippage_bps", "belongs to orders without a limit only; leave it out"))
    return errors
