"""Cancels: of one order, or of all that are named, in the order of acceptance (M3, I2, R3)."""

from __future__ import annotations

from typing import Final

from ome.domain.commands import CancelOrder, CancelOrders, ModifyOrder
from ome.domain.enums import OrderStatus
from ome.domain.reasons import Reason
from ome.engine.admission import refused
from ome.engine.market import Market
from ome.engine.order import Order
from ome.engine.refusal import Refusal
from ome.engine.withdrawals import Withdrawals, acceptance

_CANCELLED: Final = OrderStatus.CANCELLED
_BY_USER: Final = Reason.CANCELLED_BY_USER


def cancel(market: Market, command: CancelOrder) -> None:
    """Carry out a cancel."""
    try:
        order = order_for(market, command)
    except Refusal as refusal:
        market.events.append(refused(command, refusal))
        return
    market.end(order, _CANCELLED, _BY_USER)


def order_for(market: Market, command: CancelOrder | ModifyOrder) -> Order:
    """The open order that the command names, if it is the account's. Raises Refusal."""
    order = market.orders.get(command.order_id)
    if order is None:
        raise Refusal(Reason.ORDER_NOT_OPEN if command.exists else Reason.ORDER_NOT_FOUND)
    if command.account is not None and order.user_id != command.account:
        raise Refusal(Reason.ORDER_NOT_FOUND)
    return order


def cancel_orders(market: Market, withdrawals: Withdrawals, command: CancelOrders) -> None:
    """Cancel what the command names in the order of acceptance, waiting stops included, up to its limit (I2)."""
    orders = withdrawals.orders_in(command.user_id or "", command.symbol or "")
    named = (order for order in orders if _is_named(order, command))
    for order in sorted(named, key=acceptance)[: command.limit]:
        market.end(order, _CANCELLED, _BY_USER)


def _is_named(order: Order, command: CancelOrders) -> bool:
    symbol, side = command.symbol, command.side
    return (symbol is None or order.instrument.symbol == symbol) and (side is None or order.side is side)
