"""Databento's MBO files (`.dbn`, `.dbn.zst`), read by Databento's own library: the extra `ome[dbn]`.

Prices have nine decimals. A venue's event is the records up to one that says it is the last. Within it a fill is told twice: as
what was filled (F), and as what it leaves of the resting order (C or M), which is therefore no row of its own:

| action | row |
| --- | --- |
| A: an order is added | ADD; SEED in a snapshot |
| F: a resting order is filled | EXECUTE at the order's own price, of what was visible of it |
| C: an order is cancelled, or a part of it | CANCEL or REDUCE of what the event's fills did not take |
| M: an order is modified | none where the event's fills account for it; REDUCE where only its quantity falls; else REPLACE |
| R: the book is cleared | PURGE of every order |

T (the incoming side of a trade) and N move nothing that is visible. A modification of an unknown order adds it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from ome.domain.enums import Side
from ome.replay.driver import Market
from ome.replay.errors import FlowError
from ome.replay.flow import Op, Row
from ome.replay.formats.source import NANOSECONDS, Named, RestingOrder, RestingOrders, Units, opened

try:
    from databento_dbn import F_LAST, F_SNAPSHOT, Compression, DBNDecoder, DBNError, MBOMsg, Metadata
except ImportError as error:
    raise FlowError("Databento's files are read by a library of theirs: pip install 'ome[dbn]'") from error

PRICE_DECIMALS: Final = 9

_CHUNK_BYTES: Final = 1 << 20
_SIDES: Final = {"B": Side.BUY, "A": Side.SELL}


def named(path: Path) -> Named:
    """The symbol and the first day, if the file is of one symbol only."""
    metadata = _Stream(path).metadata()
    symbols = list(metadata.mappings)
    return Named(symbols[0] if len(symbols) == 1 else None, datetime.fromtimestamp(metadata.start // NANOSECONDS, UTC).date())


def read(path: Path, market: Market) -> Iterator[Row]:
    """The rows of the market's symbol. FlowError where the file is not in the format, or holds no such symbol."""
    stream = _Stream(path)
    instruments = _instruments(path, stream.metadata(), market.symbol)
    reader = _Reader(market)
    for number, record in stream.records():
        if record.instrument_id in instruments:
            try:
                yield from reader.rows(number, record)
            except (ValueError, KeyError) as error:
                raise FlowError(f"{path}, record {number}: {error}") from error


class _Stream:
    """A file as its metadata, and then its MBO records."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._left = self._items()

    def metadata(self) -> Metadata:
        """What the file begins with; to be asked for first, once."""
        first = next(self._left, None)
        if isinstance(first, Metadata):
            return first
        raise FlowError(f"{self._path}: does not begin with DBN metadata")

    def records(self) -> Iterator[tuple[int, MBOMsg]]:
        """(number, record), from 1."""
        for number, item in enumerate(self._left, 1):
            if isinstance(item, MBOMsg):
                yield number, item

    def _items(self) -> Iterator[object]:
        is_packed = self._path.name.endswith(".zst")
        decoder = DBNDecoder(compression=Compression("zstd" if is_packed else "none"))
        try:
            with opened(self._path) as file:
                while chunk := file.read(_CHUNK_BYTES):
                    yield from decoder.write_and_decode(chunk)
            rest = len(decoder.buffer())
        except DBNError as error:
            raise FlowError(f"{self._path}: {error}") from error
        if rest:
            raise FlowError(f"{self._path}: ends within a record, {rest} bytes of it are there")


def _instruments(path: Path, metadata: Metadata, symbol: str) -> set[int]:
    intervals = next((intervals for name, intervals in metadata.mappings.items() if name.upper() == symbol), None)
    if intervals is None:
        known = ", ".join(sorted(metadata.mappings)[:10])
        raise FlowError(f"{path}: holds no symbol {symbol}, but {known or 'none with a name'}; give --symbol")
    return {int(interval["symbol"]) for interval in intervals}


class _Reader:
    """Turns the records of one symbol into rows."""

    def __init__(self, market: Market) -> None:
        self._units = Units(market, PRICE_DECIMALS)
        self._resting = RestingOrders()
        self._filled: defaultdict[int, int] = defaultdict(int)
        """What this event's fills took of each order and no C or M has told of yet, in lots."""

    def rows(self, number: int, record: MBOMsg) -> Iterator[Row]:
        """The rows of a record, if it moves a visible order. ValueError where it can't be read."""
        for op, order_id, order, quantity in self._moved(record):
            yield Row(number, record.ts_event, op, order_id, order.side, order.price, quantity)
        if int(record.flags) & int(F_LAST):
            self._filled.clear()

    def _moved(self, record: MBOMsg) -> Iterator[tuple[Op, int, RestingOrder, int]]:
        match str(record.action):
            case "A":
                yield self._added(record, Op.SEED if int(record.flags) & int(F_SNAPSHOT) else Op.ADD)
            case "F":
                yield from self._executed(record)
            case "C":
                yield from self._cancelled(record)
            case "M":
                yield from self._modified(record)
            case "R":
                for order_id in self._resting.ids():
                    yield Op.PURGE, order_id, *self._gone(order_id)

    def _added(self, record: MBOMsg, op: Op) -> tuple[Op, int, RestingOrder, int]:
        order = RestingOrder(_SIDES[str(record.side)], self._units.ticks(record.price), self._units.lots(record.size))
        self._resting.add(record.order_id, order.side, order.price, order.remaining)
        return op, record.order_id, order, order.remaining

    def _executed(self, record: MBOMsg) -> Iterator[tuple[Op, int, RestingOrder, int]]:
        order = self._resting.get(record.order_id)
        if order is None:
            return
        size = self._units.lots(record.size)
        self._filled[record.order_id] += size
        quantity = min(size, order.remaining)
        self._resting.take(record.order_id, quantity)
        yield Op.EXECUTE, record.order_id, order, quantity

    def _cancelled(self, record: MBOMsg) -> Iterator[tuple[Op, int, RestingOrder, int]]:
        size = self._units.lots(record.size)
        told = min(size, self._filled[record.order_id])
        self._filled[record.order_id] -= told
        order = self._resting.get(record.order_id)
        if order is None or size == told:
            return
        if size - told >= order.remaining:
            yield Op.CANCEL, record.order_id, *self._gone(record.order_id)
        else:
            self._resting.take(record.order_id, size - told)
            yield Op.REDUCE, record.order_id, order, size - told

    def _modified(self, record: MBOMsg) -> Iterator[tuple[Op, int, RestingOrder, int]]:
        order = self._resting.get(record.order_id)
        if order is None:
            yield self._added(record, Op.ADD)
            return
        self._filled.pop(record.order_id, None)
        price, size = self._units.ticks(record.price), self._units.lots(record.size)
        if price == order.price and size <= order.remaining:
            if size < order.remaining:
                lost = order.remaining - size
                self._resting.take(record.order_id, lost)
                yield Op.REDUCE, record.order_id, order, lost
            return
        self._resting.remove(record.order_id)
        self._resting.add(record.order_id, order.side, price, size)
        yield Op.REPLACE, record.order_id, RestingOrder(order.side, price, size), size

    def _gone(self, order_id: int) -> tuple[RestingOrder, int]:
        order = self._resting.get(order_id)
        if order is None:
            raise ValueError(f"order {order_id} does not rest")
        self._resting.remove(order_id)
        return order, order.remaining
