"""What became of an order in its command, read from the events of its answer: the order, and the trades that it made.

Most events about an order carry the whole of it; the last one counts. Two things are told otherwise, and folded in here: a trade
in which it was the maker, as happens to an order that has come to rest when its own trades set off a stop that meets it; and a
quantity that self-trade prevention took off it (P1, DECREMENT).
"""

from __future__ import annotations

from typing import Any, Final

from msgspec import structs

from ome.api.problems import Problem
from ome.domain.enums import OrderStatus, SelfTradePrevention
from ome.domain.events import ORDER_EVENTS, CommandRefused, OrderRejected, OrderTriggered, SelfTradePrevented, Traded
from ome.domain.numbers import POWER_OF_TEN, pack, unpack
from ome.domain.ports import Answer
from ome.domain.reasons import Reason
from ome.domain.records import OrderRecord, SpecialTerms, TradeRecord

_REJECTED: Final = OrderStatus.REJECTED


def order_after(answer: Answer) -> tuple[OrderRecord, list[TradeRecord]]:
    """The order after its command, and the trades in which it was the taker, in order.

    Raises Problem when the command was refused: with the order's id where the order was recorded as REJECTED. Events about
    other orders, such as expiries that became due with the same command, are passed over.
    """
    order_id, order, trades = answer.order_id, None, []
    event: Any
    for event in answer.events:
        kind = type(event)
        if kind in ORDER_EVENTS:
            if event.order.id == order_id:
                order = event.order
        elif kind is Traded:
            trade = event.trade
            if trade.taker_order_id == order_id:
                trades.append(trade)
            elif order is not None and trade.maker_order_id == order_id:
                order = _filled_as_maker(order, event)
        elif kind is CommandRefused and event.order_id in {order_id, None}:
            raise refused(event, replayed=answer.replayed)
        elif kind is SelfTradePrevented and order is not None:
            order = _after_prevention(order, event, answer)
    return _accepted(order, answer), trades


def refused(event: CommandRefused, *, replayed: bool = False) -> Problem:
    """The refusal of a command that left nothing."""
    return Problem(event.reason, limit=event.limit, replayed=replayed)


def _accepted(order: OrderRecord | None, answer: Answer) -> OrderRecord:
    """The order, unless it was rejected; that its events say nothing of it would be a bug."""
    if order is None:
        raise LookupError(f"no event tells what became of order {answer.order_id}")
    if order.status is not _REJECTED:
        return order
    limit = next(event.limit for event in answer.events if isinstance(event, OrderRejected) and event.order is order)
    reason = order.reason or Reason.INVALID_REQUEST
    raise Problem(reason, limit=limit, order_id=order.id, replayed=answer.replayed)


def _filled_as_maker(order: OrderRecord, event: Traded) -> OrderRecord:
    trade = event.trade
    return structs.replace(
        order,
        filled_quantity=event.maker_filled,
        filled_value=_value_after(order.filled_value, trade),
        remaining_quantity=event.maker_remaining,
        status=OrderStatus.PARTIALLY_FILLED if unpack(event.maker_remaining)[0] else OrderStatus.FILLED,
        updated_at=trade.executed_at,
    )


def _value_after(filled_value: str, trade: TradeRecord) -> str:
    """The exact text of a value of fills with one more trade; both have the instrument's decimals, or the value is "0"."""
    (price, price_decimals), (quantity, quantity_decimals) = unpack(trade.price), unpack(trade.quantity)
    decimals = price_decimals + quantity_decimals
    whole, _, fraction = filled_value.partition(".")
    total = int(whole + fraction) * POWER_OF_TEN[decimals - len(fraction)] + price * quantity
    digits = str(total).rjust(decimals + 1, "0")
    return f"{digits[:-decimals]}.{digits[-decimals:]}" if decimals else digits


def _after_prevention(order: OrderRecord, event: SelfTradePrevented, answer: Answer) -> OrderRecord:
    """The order without what DECREMENT took off it; the other modes end an order, and say so by an event of their own."""
    if order.id not in {event.maker_order_id, event.taker_order_id} or not order.is_open:
        return order
    if _mode_of(event.taker_order_id, order, answer) is not SelfTradePrevention.DECREMENT:
        return order
    quantity, decimals = unpack(event.quantity)
    terms = order.terms or SpecialTerms()
    prevented = quantity + unpack(terms.prevented_quantity or 0)[0]
    return structs.replace(
        order,
        remaining_quantity=pack(unpack(order.remaining_quantity)[0] - quantity, decimals),
        terms=structs.replace(terms, prevented_quantity=pack(prevented, decimals)),
    )


def _mode_of(taker_order_id: int, order: OrderRecord, answer: Answer) -> SelfTradePrevention | None:
    """The mode of a taker of this command: of the order itself, or of a stop that the command has set off."""
    if taker_order_id == order.id:
        return order.self_trade_prevention
    stops = (event.order for event in answer.events if isinstance(event, OrderTriggered))
    return next((stop.self_trade_prevention for stop in stops if stop.id == taker_order_id), None)
