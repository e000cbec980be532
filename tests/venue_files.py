"""Writes order flow as venues' files do, from the formats' specifications: what the readers are tested with.

Prices come in ticks of 0.01 and quantities in lots of 1, as a flow's rows have them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime
from types import SimpleNamespace

import databento_dbn as dbn

from ome.domain.enums import Side
from ome.replay.flow import Op, Row

DAY = date(2024, 1, 2)
MIDNIGHT_NS = int(datetime(2024, 1, 2, 5, tzinfo=UTC).timestamp()) * 1_000_000_000
"""Midnight in New York, which is five hours behind in January."""
LOCATE = 7
_LETTERS = {Side.BUY: b"B", Side.SELL: b"S"}


def itch_message(kind: bytes, body: bytes, *, ns: int = 0, locate: int = LOCATE) -> bytes:
    """A message behind its length."""
    message = struct.pack(">cHH", kind, locate, 0) + ns.to_bytes(6, "big") + body
    return len(message).to_bytes(2, "big") + message


def itch_directory(stock: str, locate: int = LOCATE) -> bytes:
    """That a stock is traded, and as which number."""
    return itch_message(b"R", stock.encode().ljust(8) + bytes(20), locate=locate)


def itch_add(order_id: int, side: Side, shares: int, cents: int, *, ns: int = 0, stock: str = "X", locate: int = LOCATE) -> bytes:
    """An order is added."""
    body = struct.pack(">Q1sI8sI", order_id, _LETTERS[side], shares, stock.encode().ljust(8), cents * 100)
    return itch_message(b"A", body, ns=ns, locate=locate)


def itch_file(rows: Iterable[Row], stock: str = "X") -> bytes:
    """A flow as an ITCH file, with another stock's order and a system event among it."""
    other = itch_directory("OTHER", 8) + itch_add(1, Side.BUY, 5, 100, stock="OTHER", locate=8)
    return itch_message(b"S", b"O", locate=0) + other + itch_directory(stock) + b"".join(_itch_rows(rows, stock))


def _itch_rows(rows: Iterable[Row], stock: str) -> Iterator[bytes]:
    numbers: dict[int, int] = {}
    fresh = 1 << 50
    for row in rows:
        ns, number = row.ts_ns - MIDNIGHT_NS, numbers.get(row.order_id, row.order_id)
        match row.op:
            case Op.ADD | Op.SEED:
                yield itch_add(number, row.side, row.quantity, row.price, ns=ns, stock=stock)
            case Op.EXECUTE:
                yield itch_message(b"E", struct.pack(">QIQ", number, row.quantity, 1), ns=ns)
            case Op.REDUCE:
                yield itch_message(b"X", struct.pack(">QI", number, row.quantity), ns=ns)
            case Op.REPLACE:
                fresh += 1
                numbers[row.order_id] = fresh
                yield itch_message(b"U", struct.pack(">QQII", number, fresh, row.quantity, row.price * 100), ns=ns)
            case _:
                yield itch_message(b"D", struct.pack(">Q", number), ns=ns)


_LOBSTER_TYPES = {Op.ADD: 1, Op.REDUCE: 2, Op.CANCEL: 3, Op.EXECUTE: 4}


def lobster_line(row: Row) -> str:
    """A row as a line of a LOBSTER message file."""
    seconds, ns = divmod(row.ts_ns - MIDNIGHT_NS, 1_000_000_000)
    direction = 1 if row.side is Side.BUY else -1
    return f"{seconds}.{ns:09d},{_LOBSTER_TYPES[row.op]},{row.order_id},{row.quantity},{row.price * 100},{direction}\n"


def mbo(
    action: str, order_id: int, side: Side, price_ticks: int, size: int, *, ns: int = 0, last: bool = True, flags: int = 0
) -> bytes:
    """An MBO record of instrument 2."""
    return bytes(
        dbn.MBOMsg(
            1,
            2,
            ns,
            order_id,
            price_ticks * 10_000_000,
            size,
            dbn.Action(action),
            dbn.Side("B" if side is Side.BUY else "A"),
            ns,
            flags | (int(dbn.F_LAST) if last else 0),
        )
    )


def dbn_metadata(symbols: dict[str, int]) -> bytes:
    """The head of a file of these symbols, each with its instrument's number."""
    mappings = [
        SimpleNamespace(
            raw_symbol=symbol, intervals=[SimpleNamespace(start_date=DAY, end_date=date(2024, 1, 3), symbol=str(instrument))]
        )
        for symbol, instrument in symbols.items()
    ]
    raw, number = dbn.SType("raw_symbol"), dbn.SType("instrument_id")
    metadata = dbn.Metadata("GLBX.MDP3", MIDNIGHT_NS, raw, number, dbn.Schema("mbo"), symbols=list(symbols), mappings=mappings)
    return bytes(metadata)


def dbn_file(rows: Iterable[Row]) -> bytes:
    """A flow as an MBO file, its fills told as a trade, a fill, and what that leaves."""
    return dbn_metadata({"X": 2}) + b"".join(_mbo_rows(rows))


def _mbo_rows(rows: Iterable[Row]) -> Iterator[bytes]:
    left: dict[int, int] = {}
    for row in rows:
        side, price, ns = row.side, row.price, row.ts_ns
        match row.op:
            case Op.ADD | Op.SEED:
                left[row.order_id] = row.quantity
                yield mbo("A", row.order_id, side, price, row.quantity, ns=ns, flags=int(dbn.F_SNAPSHOT) * (row.op is Op.SEED))
            case Op.EXECUTE:
                left[row.order_id] -= row.quantity
                taker = Side.SELL if side is Side.BUY else Side.BUY
                yield mbo("T", 0, taker, price, row.quantity, ns=ns, last=False)
                yield mbo("F", row.order_id, side, price, row.quantity, ns=ns, last=False)
                if left[row.order_id] and row.order_id % 2:
                    yield mbo("M", row.order_id, side, price, left[row.order_id], ns=ns)
                else:
                    yield mbo("C", row.order_id, side, price, row.quantity, ns=ns)
            case Op.REDUCE:
                left[row.order_id] -= row.quantity
                if left[row.order_id] and row.order_id % 2:
                    yield mbo("M", row.order_id, side, price, left[row.order_id], ns=ns)
                else:
                    yield mbo("C", row.order_id, side, price, row.quantity, ns=ns)
            case Op.REPLACE:
                left[row.order_id] = row.quantity
                yield mbo("M", row.order_id, side, price, row.quantity, ns=ns)
            case _:
                yield mbo("C", row.order_id, side, price, left.pop(row.order_id), ns=ns)
