"""NASDAQ TotalView-ITCH 5.0 files: binary messages, each behind its length in two bytes, big-endian throughout; may be `.gz`.

Time is nanoseconds after midnight in New York; prices have four decimals. One symbol's messages are read, those that move visible
orders:

| message | row |
| --- | --- |
| A, F: an order is added | ADD |
| E: an order is executed | EXECUTE |
| C: an order is executed at a price given | EXECUTE at the order's own price; not printable (in a cross): REDUCE |
| X: a part of an order is cancelled | REDUCE |
| D: an order is deleted | CANCEL |
| U: an order is replaced | REPLACE under the number that the order was added with |

Trades of hidden orders (P), crosses (Q), broken trades (B) and all else move nothing that is visible.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from struct import Struct
from typing import Final

from ome.domain.enums import Side
from ome.replay.driver import Market
from ome.replay.errors import FlowError
from ome.replay.flow import Op, Row
from ome.replay.formats.source import Named, RestingOrders, Units, midnight_ns, opened

PRICE_DECIMALS: Final = 4

DAY_FILE: Final = re.compile(r"s(?P<month>\d\d)(?P<day>\d\d)(?P<year>\d\d)-v50", re.ASCII)
"""How NASDAQ names a day's file, as S013019-v50.txt.gz; also 01302019.NASDAQ_ITCH50.gz."""
_DAY_FIRST: Final = re.compile(r"(?P<month>\d\d)(?P<day>\d\d)(?P<year>20\d\d)\.", re.ASCII)

_CHUNK_BYTES: Final = 1 << 20
_HEADER: Final = Struct(">cHH6s")
"""Type, stock locate, tracking number, time: how every message begins."""
_DIRECTORY: Final = Struct(">8s")
_ADD: Final = Struct(">Q1sI8sI")
_EXECUTED: Final = Struct(">QIQ")
_EXECUTED_AT: Final = Struct(">QIQ1sI")
_CANCELLED: Final = Struct(">QI")
_DELETED: Final = Struct(">Q")
_REPLACED: Final = Struct(">QQII")
_LENGTHS: Final = {b"R": 39, b"A": 36, b"F": 40, b"E": 31, b"C": 36, b"X": 23, b"D": 19, b"U": 35}
_SIDES: Final = {b"B": Side.BUY, b"S": Side.SELL}


def named(path: Path) -> Named:
    """The day in the file's name. A file holds every symbol of the venue, so that one has to be given."""
    match = DAY_FILE.search(path.name.lower()) or _DAY_FIRST.match(path.name)
    if match is None:
        return Named(None, None)
    try:
        return Named(None, date(int(match["year"]) % 100 + 2000, int(match["month"]), int(match["day"])))
    except ValueError as error:
        raise FlowError(f"{path.name}: {error}") from error


def read(path: Path, market: Market, day: date | None) -> Iterator[Row]:
    """The rows of the market's symbol. FlowError, with the message's number, where the file is not in the format."""
    reader = _Reader(market, midnight_ns(path, day))
    number = 0
    try:
        for number, message in enumerate(_messages(path), start=1):
            row = reader.row(number, message)
            if row is not None:
                yield row
    except (ValueError, KeyError) as error:
        raise FlowError(f"{path}, message {number}: {error}") from error
    if not reader.is_listed:
        raise FlowError(f"{path}: holds no symbol {market.symbol}")


def _messages(path: Path) -> Iterator[bytes]:
    """The messages, without their lengths."""
    with opened(path) as file:
        buffer, at = b"", 0
        while True:
            end = at + 2 + int.from_bytes(buffer[at : at + 2], "big") if at + 2 <= len(buffer) else len(buffer) + 1
            if end <= len(buffer):
                if end - at > 2:
                    yield buffer[at + 2 : end]
                at = end
                continue
            more = file.read(_CHUNK_BYTES)
            if not more:
                break
            buffer, at = buffer[at:] + more, 0
        if at < len(buffer):
            raise FlowError(f"{path}: ends within a message, {len(buffer) - at} bytes of it are there")


class _Reader:
    """Turns the messages of one symbol into rows."""

    def __init__(self, market: Market, midnight: int) -> None:
        self._units = Units(market, PRICE_DECIMALS)
        self._midnight_ns = midnight
        self._stock = market.symbol.encode().ljust(8)
        self._locate: int | None = None
        self._resting = RestingOrders()
        self._first_numbers: dict[int, int] = {}
        """The number that a replaced order was added with, by the one that it has now."""

    @property
    def is_listed(self) -> bool:
        """Whether the file has told of the symbol."""
        return self._locate is not None

    def row(self, number: int, message: bytes) -> Row | None:
        """The row of a message; None if it moves no visible order of the symbol. ValueError where it can't be read."""
        kind = message[:1]
        length = _LENGTHS.get(kind)
        if length is None:
            return None
        if len(message) != length:
            raise ValueError(f"a message of type {kind.decode()} has {length} bytes, not {len(message)}")
        _, locate, _, time = _HEADER.unpack_from(message)
        if kind == b"R":
            if _DIRECTORY.unpack_from(message, _HEADER.size)[0] == self._stock:
                self._locate = locate
            return None
        if locate != self._locate:
            return None
        moved = self._moved(kind, message)
        if moved is None:
            return None
        op, order_id, side, price, quantity = moved
        return Row(number, self._midnight_ns + int.from_bytes(time, "big"), op, order_id, side, price, quantity)

    def _moved(self, kind: bytes, message: bytes) -> tuple[Op, int, Side, int, int] | None:
        at = _HEADER.size
        match kind:
            case b"A" | b"F":
                order_id, side, shares, _stock, price = _ADD.unpack_from(message, at)
                return self._added(order_id, _SIDES[side], self._units.ticks(price), self._units.lots(shares))
            case b"E":
                order_id, shares, _match = _EXECUTED.unpack_from(message, at)
                return self._taken(Op.EXECUTE, order_id, shares)
            case b"C":
                order_id, shares, _match, printable, _price = _EXECUTED_AT.unpack_from(message, at)
                return self._taken(Op.EXECUTE if printable == b"Y" else Op.REDUCE, order_id, shares)
            case b"X":
                return self._taken(Op.REDUCE, *_CANCELLED.unpack_from(message, at))
            case b"D":
                return self._deleted(*_DELETED.unpack_from(message, at))
            case _:
                return self._replaced(*_REPLACED.unpack_from(message, at))

    def _added(self, order_id: int, side: Side, price: int, quantity: int) -> tuple[Op, int, Side, int, int]:
        self._resting.add(order_id, side, price, quantity)
        return Op.ADD, order_id, side, price, quantity

    def _taken(self, op: Op, order_id: int, shares: int) -> tuple[Op, int, Side, int, int] | None:
        number = self._first_numbers.get(order_id, order_id)
        order = self._resting.get(number)
        if order is None:  # entered before this file begins: there is no telling what of it is left
            return None
        quantity = min(self._units.lots(shares), order.remaining)
        self._resting.take(number, quantity)
        return op, number, order.side, order.price, quantity

    def _deleted(self, order_id: int) -> tuple[Op, int, Side, int, int] | None:
        number = self._first_numbers.pop(order_id, order_id)
        order = self._resting.get(number)
        if order is None:
            return None
        self._resting.remove(number)
        return Op.CANCEL, number, order.side, order.price, order.remaining

    def _replaced(self, order_id: int, new_id: int, shares: int, price: int) -> tuple[Op, int, Side, int, int] | None:
        number = self._first_numbers.pop(order_id, order_id)
        order = self._resting.get(number)
        if order is None:
            return None
        self._resting.remove(number)
        self._resting.add(number, order.side, self._units.ticks(price), self._units.lots(shares))
        self._first_numbers[new_id] = number
        order = self._resting.get(number) or order
        return Op.REPLACE, number, order.side, order.price, order.remaining
