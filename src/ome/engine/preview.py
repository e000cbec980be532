"""Dry runs: what commands would lead to, carried out on an excerpt of the engine that is thrown away afterwards.

The excerpt holds what the commands can reach: of each book concerned the best levels up to the quantity that could trade, every
waiting stop, and the orders that are named. It costs in proportion to that, not to the book.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from msgspec import structs

from ome.domain.commands import CancelOrder, Command, ModifyOrder, NewOrder, Stamped
from ome.domain.enums import Side
from ome.domain.events import Event
from ome.domain.records import EngineState, OrderRecord
from ome.engine.engine import Engine
from ome.engine.order import Order
from ome.engine.order_book import OrderBook

_ROOM: Final = 1_000_000_000


def preview(engine: Engine, commands: Sequence[Command], time: int) -> list[list[Event]]:
    """The events that each command would have if they were applied now, one after the other. The engine stays as it is."""
    scratch = Engine.restore(_excerpt(engine, commands))
    scratch.copy_accounts(engine, {command.user_id for command in commands if isinstance(command, NewOrder)})
    time = max(time, engine.time)
    return [scratch.apply(Stamped(scratch.position + 1, time, command)) for command in commands]


def _excerpt(engine: Engine, commands: Sequence[Command]) -> EngineState:
    orders: dict[int, OrderRecord] = {}
    named: dict[str, list[Order]] = {}
    asking: dict[str, list[NewOrder | ModifyOrder]] = {}
    for command in commands:
        if isinstance(command, NewOrder):
            asking.setdefault(command.symbol, []).append(command)
        elif isinstance(command, ModifyOrder | CancelOrder) and (order := engine.open_order(command.order_id)) is not None:
            symbol = order.instrument.symbol
            named.setdefault(symbol, []).append(order)
            if isinstance(command, ModifyOrder):
                asking.setdefault(symbol, []).append(command)
    books = [book for book in engine.books() if book.instrument.symbol in asking.keys() | named.keys()]
    for book in books:
        symbol = book.instrument.symbol
        theirs = named.get(symbol, [])
        for order in (*theirs, *_reachable(book, asking.get(symbol, []), theirs)):
            orders[order.id] = _record(order)
    has_room = len(engine.books()) < engine.settings.max_symbols
    return EngineState(
        engine.shard,
        engine.position,
        engine.time,
        engine.trade_count,
        engine.priority_count,
        structs.replace(engine.settings, max_symbols=_ROOM if has_room else 0),
        [book.record() for book in books],
        list(orders.values()),
        balances=engine.balances(frozenset({order.user_id for order in orders.values()} | _users(asking))),
        controls=engine.controls_of({order.user_id for order in orders.values()} | _users(asking)),
    )


def _reachable(book: OrderBook, asking: Sequence[NewOrder | ModifyOrder], named: Sequence[Order]) -> Iterable[Order]:
    """The waiting stops, and of each side the orders that all that is asked for, stops included, could trade with."""
    quantities = book.instrument.quantities
    wanted = sum(quantities.floor(command.quantity) for command in asking if command.quantity is not None)
    wanted += sum(order.quantity for order in (*named, *book.stops))
    users = _users({"": asking})
    users |= {order.user_id for order in (*named, *book.stops)}
    yield from book.stops
    for side in (Side.BUY, Side.SELL):
        left = wanted
        for level in book.side(side).best_first():
            yield from level
            left -= sum(order.remaining for order in level if order.user_id not in users)
            if left <= 0:
                break


def _users(asking: Mapping[str, Sequence[NewOrder | ModifyOrder]]) -> set[str]:
    """Those who submit something."""
    return {command.user_id for commands in asking.values() for command in commands if isinstance(command, NewOrder)}


def _record(order: Order) -> OrderRecord:
    """The order's picture, without leaving one behind on it."""
    kept = order.picture
    record = order.record()
    order.picture = kept
    return record
