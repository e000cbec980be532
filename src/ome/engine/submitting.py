"""A new order: checked in the order of rule R1, accepted with its place, brought to the market; or rejected, and kept as such."""

from __future__ import annotations

from ome.domain.commands import NewOrder
from ome.domain.events import OrderAccepted, OrderRejected
from ome.domain.ids import make_id
from ome.domain.reasons import Reason
from ome.engine.admission import admit, rejected
from ome.engine.instruments import list_symbol, unlisted_book
from ome.engine.limits import Ask
from ome.engine.market import Market
from ome.engine.order import Order
from ome.engine.refusal import Refusal
from ome.engine.special import STOP_TYPES
from ome.engine.stop_firing import wait
from ome.engine.trading import enter


def new_order(market: Market, command: NewOrder) -> None:
    """Carry out a submit."""
    order_id, controls = make_id(market.shard, market.position), market.controls
    try:
        if controls.kills and controls.is_killed(command.user_id, command.symbol):
            raise Refusal(Reason.KILL_SWITCH)
        listed = market.books.get(command.symbol)
        book = unlisted_book(market, command.symbol) if listed is None else listed
        price, quantity, expires_at, special = admitted = admit(command, book, market.time)
        if controls.limits and command.user_id in controls.limits:
            market.check_limits(Ask.of_new(command, admitted), command.user_id, book)
        order = Order(
            order_id,
            book.instrument,
            command.user_id,
            command.side,
            command.type,
            command.time_in_force,
            quantity,
            price,
            0,
            market.time,
            command.self_trade_prevention,
            command.client_order_id,
            expires_at,
            special,
        )
        if market.funds.terms:
            market.funds.open(book, order)
    except Refusal as refusal:
        _reject(market, order_id, command, refusal)
        return
    if listed is None:
        list_symbol(market, book)
    order.priority = market.next_priority()
    market.orders[order_id] = market.changed_orders[order_id] = order
    market.accounts.opened(order)
    if order.type in STOP_TYPES:
        wait(market, book, order)
    else:
        market.events.append(OrderAccepted(order.record()))
        enter(market, book, order)


def _reject(market: Market, order_id: int, command: NewOrder, refusal: Refusal) -> None:
    """Record a refused order as it was sent: the audit trail has it (HOLE25)."""
    record = rejected(order_id, command, refusal.reason, market.time)
    market.order_pictures[order_id] = record
    market.events.append(OrderRejected(record, refusal.limit))
