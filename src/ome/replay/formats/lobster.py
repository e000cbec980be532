"""LOBSTER message files: `TICKER_YYYY-MM-DD_START_END_message_LEVELS.csv`, six columns without a header.

Time (seconds after midnight in New York), type, order id, size, price (dollars times 10,000), direction (1 buy, -1 sell, always
the resting order's). Types: 1 a new order, 2 a part of one cancelled, 3 the rest of one deleted, 4 a visible order executed;
5 (a hidden order executed), 6 (a cross) and 7 (a halt) move nothing that is visible and are left out.

Such a file shows the best levels of the book only. What it leaves out is inferred:

- An order that is named without having been entered was there before, or was entered where the file can't show it. NASDAQ numbers
  orders in the order of their arrival: it is a SEED right before the first new order with a larger number, of the quantity
  that the file takes from it later on.
- An order that would have to trade first, were it still there (at a better price than an execution, or crossed by a new
  order), was deleted out of sight: it is a PURGE.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Final, NamedTuple

from ome.domain.enums import Side
from ome.replay.driver import Market
from ome.replay.errors import FlowError
from ome.replay.flow import Op, Row
from ome.replay.formats.source import NANOSECONDS, Named, RestingOrders, Units, midnight_ns, opened

PRICE_DECIMALS: Final = 4

_NAME: Final = re.compile(r"(?P<symbol>[^_]+)_(?P<day>\d{4}-\d{2}-\d{2})_", re.ASCII)
_NEW, _REDUCED, _DELETED, _EXECUTED = 1, 2, 3, 4
_UNSEEN_TYPES: Final = frozenset({5, 6, 7})
_TAKING: Final = {_REDUCED: Op.REDUCE, _DELETED: Op.CANCEL, _EXECUTED: Op.EXECUTE}
_SIDES: Final = {"1": Side.BUY, "-1": Side.SELL}
_LEAST_COLUMNS: Final = 6


def named(path: Path) -> Named:
    """The symbol and the day in the file's name."""
    match = _NAME.match(path.name)
    if match is None:
        return Named(None, None)
    try:
        return Named(match["symbol"], date.fromisoformat(match["day"]))
    except ValueError as error:
        raise FlowError(f"{path.name}: {error}") from error


def read(path: Path, market: Market, day: date | None) -> Iterator[Row]:
    """The file's rows. It is read twice: first for the orders that were there before."""
    units = Units(market, PRICE_DECIMALS)
    midnight = midnight_ns(path, day)
    seeds = _seeds(path, units)
    resting = RestingOrders()
    for message in _messages(path, units):
        yield from _rows(message._replace(ts_ns=midnight + message.ts_ns), seeds, resting)


class _Message(NamedTuple):
    """A line that moves a visible order: `ts_ns` from midnight, the price in ticks, the quantity in lots."""

    number: int
    ts_ns: int
    kind: int
    order_id: int
    quantity: int
    price: int
    side: Side

    def row(self, op: Op) -> Row:
        return Row(self.number, self.ts_ns, op, self.order_id, self.side, self.price, self.quantity)


class _Seed(NamedTuple):
    """An order that the file never enters, of all that it takes from it."""

    order_id: int
    side: Side
    price: int
    quantity: int


def _messages(path: Path, units: Units) -> Iterator[_Message]:
    with opened(path) as file:
        for number, line in enumerate(file, start=1):
            try:
                message = _message(number, line.decode("ascii").split(","), units)
            except (ValueError, KeyError) as error:
                raise FlowError(f"{path}, line {number}: {line[:100]!r} can't be read: {error}") from error
            if message is not None:
                yield message


def _message(number: int, columns: list[str], units: Units) -> _Message | None:
    if len(columns) < _LEAST_COLUMNS:
        raise ValueError(f"there must be {_LEAST_COLUMNS} columns")
    seconds, kind, order_id, size, price, direction = columns[:_LEAST_COLUMNS]
    if int(kind) in _UNSEEN_TYPES:
        return None
    if int(kind) != _NEW and int(kind) not in _TAKING:
        raise ValueError(f"there is no type {kind}")
    whole, _, fraction = seconds.partition(".")
    ts_ns = int(whole) * NANOSECONDS + int(fraction[:9].ljust(9, "0"))
    side = _SIDES[direction.strip()]
    return _Message(number, ts_ns, int(kind), int(order_id), units.lots(int(size)), units.ticks(int(price)), side)


def _seeds(path: Path, units: Units) -> list[_Seed]:
    """The orders that the file takes from without having entered them, largest number first: the next one is the last."""
    entered: set[int] = set()
    found: dict[int, _Seed] = {}
    for message in _messages(path, units):
        if message.kind == _NEW:
            entered.add(message.order_id)
        elif message.order_id not in entered:
            before = found.get(message.order_id)
            quantity = message.quantity + (before.quantity if before else 0)
            found[message.order_id] = _Seed(message.order_id, message.side, message.price, quantity)
    return sorted(found.values(), reverse=True)


def _rows(message: _Message, seeds: list[_Seed], resting: RestingOrders) -> Iterator[Row]:
    """The message's rows: first of what must have been entered, then of what must have gone before it, then its own."""
    while seeds and seeds[-1].order_id <= message.order_id:
        seed = seeds.pop()
        yield from _entered(message._replace(**seed._asdict()), Op.SEED, resting)
    if message.kind == _NEW:
        yield from _entered(message, Op.ADD, resting)
        return
    order = resting.get(message.order_id)
    if order is None:  # deleted out of sight, as was inferred from another order; what is said of it now comes too late
        return
    if message.kind == _EXECUTED:
        yield from _purged(resting.in_the_way(order.side, order.price, at_price=False), message, resting)
    quantity = min(message.quantity, order.remaining)
    if message.kind == _DELETED:
        resting.remove(message.order_id)
    else:
        resting.take(message.order_id, quantity)
    yield message._replace(quantity=quantity, price=order.price).row(_TAKING[message.kind])


def _entered(message: _Message, op: Op, resting: RestingOrders) -> Iterator[Row]:
    against = Side.SELL if message.side is Side.BUY else Side.BUY
    yield from _purged(resting.in_the_way(against, message.price, at_price=True), message, resting)
    resting.add(message.order_id, message.side, message.price, message.quantity)
    yield message.row(op)


def _purged(order_ids: list[int], message: _Message, resting: RestingOrders) -> Iterator[Row]:
    for order_id in order_ids:
        order = resting.get(order_id)
        if order is not None:
            resting.remove(order_id)
            yield Row(message.number, message.ts_ns, Op.PURGE, order_id, order.side, order.price, order.remaining)
