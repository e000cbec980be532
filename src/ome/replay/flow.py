"""Files of order flow: `NAME.csv` or `NAME.csv.gz`, read row by row, and the files beside them that say what must come out.

The flow's columns are `seq,ts_ns,op,order_id,side,price,quantity`: integers but for `op` and `side` (B or S). Rows are in the
order in which they happened; `ts_ns` is UTC nanoseconds since 1970. A price is a count of ticks, a quantity a count of lots.
Row numbers everywhere are those of the data rows, from 1. Beside `NAME.csv[.gz]`, each of them optional and each as `.csv` or
`.csv.gz`:

- `NAME.tape`: `row,taker_id,maker_id,price,quantity`, the fills of every TAKE row, in order;
- `NAME.checkpoints`: the state after given rows (`Checkpoint`);
- `NAME.mismatch`: rows where an engine of price-time priority does not do what the venue did, and what it does instead.
"""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Final, NamedTuple, TextIO, TypeVar

from msgspec import Struct

from ome.domain.enums import Side
from ome.replay.errors import FlowError

FLOW_HEADER: Final = "seq,ts_ns,op,order_id,side,price,quantity"
TAPE_HEADER: Final = "row,taker_id,maker_id,price,quantity"
CHECKPOINT_HEADER: Final = (
    "row,seq,ts_ns,live_orders,best_bid,best_ask,bids5,asks5,book_sha,trades,traded_quantity,tape_sha,venue_book_sha,"
    "venue_depth_equal"
)
_SUFFIXES: Final = (".csv", ".csv.gz")
_SIDES: Final = {"B": Side.BUY, "S": Side.SELL}
SIDE_LETTER: Final = ("B", "S")
"""The letter of each `Side` in files and digests."""

_Parsed = TypeVar("_Parsed")


class Op(StrEnum):
    """What a row does; its price and quantity mean what is said here."""

    ADD = "ADD"
    """A new order comes to rest."""
    SEED = "SEED"
    """As ADD, for an order of the starting book or one that came into view later."""
    CANCEL = "CANCEL"
    """The order goes; quantity is what the venue had left of it."""
    PURGE = "PURGE"
    """As CANCEL, inferred: the source never reported it."""
    REDUCE = "REDUCE"
    """The order loses `quantity` and keeps its place; an amount that is all of it or more cancels it."""
    REPLACE = "REPLACE"
    """The order gets a new price and a new open quantity and goes to the back of its level."""
    EXECUTE = "EXECUTE"
    """This resting order was hit for `quantity` at `price`; `side` is its own."""
    TAKE = "TAKE"
    """One whole incoming order: `side` is its own, `price` the worst that it traded at, `quantity` all that it traded."""


_OPS: Final = {str(op): op for op in Op}


class Row(Struct, frozen=True, gc=False):
    """One row of a flow; the fields are those of the file."""

    seq: int
    ts_ns: int
    op: Op
    order_id: int
    side: Side
    price: int
    quantity: int


class Fill(NamedTuple):
    """One trade of an incoming order, in the file's ids, ticks and lots."""

    maker_id: int
    price: int
    quantity: int


class Checkpoint(Struct, frozen=True):
    """The state that must hold after `row`. Levels are text: `PRICE:TOTAL`, best first, apart by spaces; "" without any.

    `book_sha` and `tape_sha` are as `digest.book_sha` and `digest.TapeDigest` make them; trades are all fills so far.
    """

    row: int
    live_orders: int
    best_bid: str
    best_ask: str
    bids5: str
    asks5: str
    book_sha: str
    trades: int
    traded_quantity: int
    tape_sha: str


class Companions(Struct, frozen=True):
    """The files beside a flow, None where there is none."""

    tape: Path | None
    checkpoints: Path | None
    mismatch: Path | None


def flow_name(path: Path) -> str:
    """The file's name without `.csv` or `.csv.gz`. FlowError if it has neither."""
    for suffix in _SUFFIXES:
        if path.name.endswith(suffix) and path.name != suffix:
            return path.name.removesuffix(suffix)
    raise FlowError(f"{path}: order flow is in files called NAME.csv or NAME.csv.gz")


def companion_path(path: Path, kind: str) -> Path:
    """Where a flow's `tape`, `checkpoints` or `mismatch` file is written: beside it, compressed if it is and is long."""
    suffix = ".csv.gz" if kind == "tape" and path.name.endswith(".gz") else ".csv"
    return path.with_name(f"{flow_name(path)}.{kind}{suffix}")


def companions(path: Path) -> Companions:
    """The files beside a flow that exist."""
    name = flow_name(path)

    def beside(kind: str) -> Path | None:
        candidates = (path.with_name(f"{name}.{kind}{suffix}") for suffix in _SUFFIXES)
        return next((candidate for candidate in candidates if candidate.is_file()), None)

    return Companions(beside("tape"), beside("checkpoints"), beside("mismatch"))


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a flow, one at a time. FlowError, with the line, where the file is not in the format."""
    flow_name(path)
    for line, text in _lines(path, FLOW_HEADER):
        yield _parsed(parse_row, path, line, text)


def count_rows(path: Path) -> int:
    """How many rows a flow has: one quick pass, for a progress bar."""
    return sum(1 for _ in _lines(path, FLOW_HEADER))


def parse_row(text: str) -> Row:
    """The row that a line holds. ValueError if it holds none."""
    seq, ts_ns, op, order_id, side, price, quantity = text.split(",")
    row = Row(int(seq), int(ts_ns), _OPS[op], int(order_id), _SIDES[side], int(price), int(quantity))
    if row.price < 0 or row.quantity < 0:
        raise ValueError("a price or quantity below zero")
    return row


def format_row(row: Row) -> str:
    """The line of a row, without its end."""
    side = SIDE_LETTER[row.side]
    return f"{row.seq},{row.ts_ns},{row.op},{row.order_id},{side},{row.price},{row.quantity}"


def write_rows(path: Path, rows: Iterable[Row]) -> int:
    """Write a flow, row by row; how many there were. Equal rows make equal bytes, compressed or not."""
    flow_name(path)
    count = 0
    with open_for_writing(path) as file:
        file.write(FLOW_HEADER + "\n")
        for count, row in enumerate(rows, start=1):  # noqa: B007  the count is the result
            file.write(format_row(row) + "\n")
    return count


def read_tape(path: Path) -> dict[int, list[Fill]]:
    """The fills of each row that has some, in order."""
    fills: dict[int, list[Fill]] = {}
    for line, text in _lines(path, TAPE_HEADER):
        row, _taker, *fill = _parsed(_integers, path, line, text)
        fills.setdefault(row, []).append(Fill(*fill))
    return fills


def read_checkpoints(path: Path) -> dict[int, Checkpoint]:
    """The checkpoints by row."""
    found = (_parsed(_checkpoint, path, line, text) for line, text in _lines(path, CHECKPOINT_HEADER))
    return {checkpoint.row: checkpoint for checkpoint in found}


def read_mismatches(path: Path) -> dict[int, list[Fill]]:
    """The mismatch rows, each with the fills that an engine of price-time priority makes there instead."""
    header = "row,seq,order_id,price,quantity,fills_by_price_time"
    return dict(_parsed(_mismatch, path, line, text) for line, text in _lines(path, header))


@contextmanager
def open_for_writing(path: Path) -> Iterator[TextIO]:
    """A text file with single line feeds, compressed for `.gz` without name or time in it: equal text makes equal bytes."""
    with ExitStack() as stack:
        if path.name.endswith(".gz"):
            raw = stack.enter_context(path.open("wb"))
            packed = stack.enter_context(gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=raw, mtime=0))
            yield stack.enter_context(io.TextIOWrapper(packed, encoding="ascii", newline="\n"))
        else:
            yield stack.enter_context(path.open("w", encoding="ascii", newline="\n"))


def _lines(path: Path, header: str) -> Iterator[tuple[int, str]]:
    """(line number, text) of the data lines, once the first line has proved to be the header."""
    try:
        with gzip.open(path, "rt", encoding="ascii") if path.name.endswith(".gz") else path.open(encoding="ascii") as file:
            first = file.readline().rstrip("\r\n")
            if first != header:
                raise FlowError(f"{path}, line 1: must be {header!r}, and is {first[:100]!r}")
            for line, text in enumerate(file, start=2):
                yield line, text.rstrip("\r\n")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise FlowError(f"{path}: {error}") from error


def _parsed(parse: Callable[[str], _Parsed], path: Path, line: int, text: str) -> _Parsed:
    try:
        return parse(text)
    except (ValueError, KeyError, TypeError) as error:
        raise FlowError(f"{path}, line {line}: {text[:100]!r} can't be read: {error}") from error


def _integers(text: str) -> list[int]:
    values = [int(part) for part in text.split(",")]
    if len(values) != 5:
        raise ValueError("there must be five columns")
    return values


def _checkpoint(text: str) -> Checkpoint:
    row, _seq, _ts, live, bid, ask, bids5, asks5, book, trades, traded, tape, _venue_book, _venue_depth = text.split(",")
    return Checkpoint(int(row), int(live), bid, ask, bids5, asks5, book, int(trades), int(traded), tape)


def _mismatch(text: str) -> tuple[int, list[Fill]]:
    row, _seq, _order_id, _price, _quantity, fills = text.split(",")
    return int(row), [_fill_of_text(fill) for fill in fills.split()]


def _fill_of_text(text: str) -> Fill:
    """`ID=QUANTITY@PRICE`."""
    maker_id, _, rest = text.partition("=")
    quantity, _, price = rest.partition("@")
    return Fill(int(maker_id), int(price), int(quantity))
