"""What was stored becomes a market again: every order back in its place in the queue (DUR6)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain

from ome.domain.digests import digest
from ome.domain.enums import OrderStatus
from ome.domain.errors import InvariantBroken
from ome.domain.ports import OpenOrders
from ome.domain.records import EngineState, PositionRecord
from ome.engine.market import Market
from ome.engine.order import Order
from ome.engine.order_book import OrderBook


def restore_market(market: Market, state: EngineState, more: Iterable[OpenOrders]) -> None:
    """Fill an empty market with what `state` pictures and the orders of `more`; its controls are for `Withdrawals.restore`.

    Raises InvariantBroken for what can't be put anywhere.
    """
    market.position, market.time = state.position, state.time
    market.configure(state.settings)
    market.priority_count = state.priority_count
    market.matcher.trade_count = state.trade_count
    _restore_books(market, state)
    _restore_positions(market, state.positions)
    market.digest_sum += market.funds.restore(state.balances, state.assets, market.books.values())
    orders = sorted(state.orders, key=lambda order: order.priority)
    waiting: list[Order] = []
    for part in chain([OpenOrders(orders, list(map(digest, orders)))], more):
        restore_orders(market, part, waiting)
    for order in sorted(waiting, key=lambda order: order.priority):
        market.books[order.instrument.symbol].stops.add(order)
    market.stirred_books = {symbol: book for symbol, book in market.books.items() if book.has_due_stop}


def _restore_books(market: Market, state: EngineState) -> None:
    for instrument in state.instruments:
        book = market.books[instrument.symbol] = OrderBook.restored(instrument)
        book.digest = digest(instrument)
        if instrument.rules.halted_until is not None:
            market.halts[instrument.symbol] = instrument.rules.halted_until
        market.digest_sum += book.digest


def _restore_positions(market: Market, positions: Iterable[PositionRecord]) -> None:
    for record in positions:
        try:
            market.digest_sum += market.accounts.put_position(record)
        except ValueError as error:
            name = f"{record.user_id} in {record.symbol}"
            raise InvariantBroken(f"the position of {name} can't be restored: {error}") from error


def restore_orders(market: Market, part: OpenOrders, waiting: list[Order]) -> None:
    """Put orders into their levels, those that wait for a price into `waiting`.

    Most of the time of a start is spent here, and less where each step is taken for all of them before the next one is.
    """
    restored, opened, standing = Order.restored, market.accounts.opened, list[Order]()
    instruments = {symbol: book.instrument for symbol, book in market.books.items()}
    for record in part.records:
        try:
            standing.append(restored(record, instruments[record.symbol]))
        except (LookupError, ValueError) as error:
            raise InvariantBroken(f"order {record.id} of {record.symbol} can't be restored: {error!r}") from error
    for order, counted in zip(standing, part.digests, strict=True):
        order.digest = counted
    market.digest_sum += sum(part.digests)
    market.orders.update((order.id, order) for order in standing)
    for order in standing:
        opened(order)
    _line_up(market.books, standing, waiting)


def _line_up(books: Mapping[str, OrderBook], orders: Iterable[Order], waiting: list[Order]) -> None:
    """Let each order join the back of its level. Those of one level come together, mostly: it is looked up for the first."""
    pending_trigger = OrderStatus.PENDING_TRIGGER
    instrument = side = level = None
    for order in orders:
        if order.status is pending_trigger:
            waiting.append(order)
        elif level is None or order.price != level.price or order.side is not side or order.instrument is not instrument:
            instrument, side = order.instrument, order.side
            books[instrument.symbol].side(side).add(order)
            level = order.level
        else:
            level.append(order)
