"""The verifier: follows what every row of a flow led to and compares it with what the files beside the flow say.

What is compared, row by row:

- EXECUTE fills exactly the order that it names, at its price, for its quantity;
- TAKE makes exactly its tape rows, in order; without a tape, fills that add up to its quantity and end at its price;
- a mismatch row makes exactly the fills that its file names instead; all other rows make none;
- what is added or replaced rests with the row's quantity; a cancel, reduce or replace of an order that has ended is refused;
- at a checkpoint, live orders, best bid and ask, five best levels, the digest of the book, the trades and the digest of the
  tape are those of the checkpoint. Checkpoints are a price-time engine's own results, so mismatch rows excuse nothing here.

It holds no book of its own. Disagreements are collected, never raised: the first `KEPT` in words, all in number.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct, field

from ome.replay.digest import Book, TapeDigest, best_levels, book_sha
from ome.replay.flow import Checkpoint, Fill, Op, Row, companions, read_checkpoints, read_mismatches, read_tape

KEPT: Final = 100
"""How many disagreements are kept in words; one wrong fill can lead to thousands."""

_TAKING: Final = frozenset({Op.EXECUTE, Op.TAKE})


class Disagreement(Struct, frozen=True):
    """Where the result was another than the file's: `row` is the data row, from 1."""

    row: int
    what: str
    expected: str
    actual: str

    def __str__(self) -> str:
        return f"row {self.row}: {self.what}: expected {self.expected or 'nothing'}, got {self.actual or 'nothing'}"


class Expected(Struct, frozen=True):
    """What the files beside a flow say. `tape` is None where there is no tape: then TAKE rows are compared by their sums."""

    tape: dict[int, list[Fill]] | None = None
    checkpoints: dict[int, Checkpoint] = field(default_factory=dict)
    mismatches: dict[int, list[Fill]] = field(default_factory=dict)


def read_expected(path: Path) -> Expected:
    """What the files beside a flow say; nothing at all where there are none. FlowError for one that can't be read."""
    beside = companions(path)
    return Expected(
        tape=None if beside.tape is None else read_tape(beside.tape),
        checkpoints={} if beside.checkpoints is None else read_checkpoints(beside.checkpoints),
        mismatches={} if beside.mismatch is None else read_mismatches(beside.mismatch),
    )


class Verifier:
    """Told of each row's result in the file's order; `rows`, `trades` and the other counts are what it has seen so far."""

    def __init__(self, expected: Expected) -> None:
        self._expected = expected
        self._tape = TapeDigest()
        self.rows = 0
        self.fill_rows = 0
        self.mismatch_rows = 0
        self.checkpoints = 0
        self.checkpoints_agreed = 0
        self.disagreements: list[Disagreement] = []
        self.disagreement_count = 0

    @property
    def trades(self) -> int:
        """All fills so far."""
        return self._tape.trades

    @property
    def traded_quantity(self) -> int:
        """The sum of their quantities, in lots."""
        return self._tape.traded_quantity

    def row(self, number: int, row: Row, fills: Sequence[Fill]) -> None:
        """A row has been carried out, and made these fills. Every row comes here once."""
        self.rows += 1
        if row.op in _TAKING:
            self._compare_fills(number, row, fills)
        elif fills:
            self.disagree(number, f"{row.op} of order {row.order_id} traded", "", _text(fills))
        self._tape.add(number, fills)

    def rests(self, number: int, row: Row, remaining: int) -> None:
        """The row's order rests with `remaining` lots, 0 for not at all; it must be the row's quantity."""
        if remaining != row.quantity:
            self.disagree(number, f"{row.op} of order {row.order_id} rests with", str(row.quantity), str(remaining))

    def answered(self, number: int, row: Row, *, live: bool, refused: str | None) -> None:
        """The row's order was `live` when it was named, and the engine `refused` (None: it did not)."""
        if live and refused is not None:
            self.disagree(number, f"{row.op} of live order {row.order_id}", "it to be done", f"refused with {refused}")
        if not live and refused is None:
            self.disagree(number, f"{row.op} of ended order {row.order_id}", "a refusal", "it done")

    def checkpoint_due(self, number: int) -> bool:
        """Whether there is a checkpoint at this row; then `checkpoint` is owed."""
        return number in self._expected.checkpoints

    def checkpoint(self, number: int, book: Book) -> None:
        """Compare the book after this row, in the file's ids, and the tape so far, with the checkpoint."""
        expected = self._expected.checkpoints[number]
        actual = checkpoint_of(number, book, self._tape)
        differing = [name for name in Checkpoint.__struct_fields__ if getattr(expected, name) != getattr(actual, name)]
        for name in differing:
            self.disagree(number, f"checkpoint's {name}", str(getattr(expected, name)), str(getattr(actual, name)))
        self.checkpoints += 1
        self.checkpoints_agreed += not differing

    def disagree(self, number: int, what: str, expected: str, actual: str) -> None:
        """Note a disagreement."""
        self.disagreement_count += 1
        if len(self.disagreements) < KEPT:
            self.disagreements.append(Disagreement(number, what, expected, actual))

    def _compare_fills(self, number: int, row: Row, fills: Sequence[Fill]) -> None:
        self.fill_rows += 1
        expected = self._expected.mismatches.get(number)
        if expected is not None:
            self.mismatch_rows += 1
        elif row.op is Op.EXECUTE:
            expected = [Fill(row.order_id, row.price, row.quantity)]
        elif self._expected.tape is not None:
            expected = self._expected.tape.get(number, [])
        else:
            self._compare_sums(number, row, fills)
            return
        if list(fills) != expected:
            self.disagree(number, f"fills of {row.op}", _text(expected), _text(fills))

    def _compare_sums(self, number: int, row: Row, fills: Sequence[Fill]) -> None:
        quantity = sum(fill.quantity for fill in fills)
        last_price = fills[-1].price if fills else None
        if (quantity, last_price) != (row.quantity, row.price):
            self.disagree(number, f"fills of {row.op}", f"{row.quantity} down to price {row.price}", _text(fills))


def checkpoint_of(row: int, book: Book, tape: TapeDigest) -> Checkpoint:
    """The checkpoint that a book and a tape make."""
    return Checkpoint(
        row=row,
        live_orders=book.live_orders,
        best_bid=best_levels(book.bids, 1),
        best_ask=best_levels(book.asks, 1),
        bids5=best_levels(book.bids),
        asks5=best_levels(book.asks),
        book_sha=book_sha(book),
        trades=tape.trades,
        traded_quantity=tape.traded_quantity,
        tape_sha=tape.hexdigest(),
    )


def _text(fills: Sequence[Fill]) -> str:
    """Fills as mismatch files write them: ORDER=QUANTITY@PRICE."""
    return " ".join(f"{maker_id}={quantity}@{price}" for maker_id, price, quantity in fills)
