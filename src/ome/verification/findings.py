"""What has been found so far, and the sentences for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from sqlalchemy import Table

from ome.db import schema
from ome.verification.report import Difference
from ome.verification.words import shown

KEPT: Final = 1_000
"""How many differences are kept in words: one mistake may show in every row."""

_INDEX: Final = "for the batch that ends with position {last_position}"
_NAMES: Final = {
    schema.engine: "the engine row",
    schema.stored_orders: "order {id}",
    schema.stored_trades: "trade {id}",
    schema.stored_instruments: "instrument {symbol}",
    schema.stored_positions: "the position of user {user_id} in {symbol}",
    schema.stored_balances: "the balance of user {user_id} in {asset}",
    schema.stored_assets: "the venue's accounts of {asset}",
    schema.stored_transfers: "transfer {id}",
    schema.stored_controls: "the control of kind {kind} for user {user_id!r} and symbol {symbol!r}",
    schema.event_users: f"the index row of user {{user_id}} {_INDEX}",
    schema.event_orders: f"the index row of order {{order_id}} {_INDEX}",
    schema.event_batches: "the row of events of the batch that ends with position {last_position}",
    schema.audit: "the audit's entry of position {position}",
    schema.symbol_moves: "the row of the symbol that left shard {shard} with position {position}",
    schema.journal: "the journal's row of positions {first_position} to {last_position}",
}

Row = Sequence[Any]


class Findings:
    """The differences found, counted."""

    def __init__(self) -> None:
        self.count = 0
        self._kept: list[Difference] = []

    def first(self) -> list[Difference]:
        """Those that were kept, by position, those without one before all."""
        return sorted(self._kept, key=lambda each: -1 if each.position is None else each.position)

    def say(self, position: int | None, table: str, what: str, text: str, column: str | None = None) -> None:
        """Something that is no matter of two values."""
        self._add(Difference(position, str(table), what, column, "", "", text))

    def missing(self, position: int, table: Table, row: Row) -> None:
        """The replay gives a row, and it isn't stored."""
        what = name_of(table, row)
        self._add(Difference(position, str(table.name), what, None, "", what, f"{_begin(what)} is missing in {table.name}."))

    def unexpected(self, position: int, table: Table, row: Row) -> None:
        """A row is stored, and the replay doesn't give it."""
        what = name_of(table, row)
        text = f"{_begin(what)} is stored in {table.name}, and the replay doesn't give it."
        self._add(Difference(position, str(table.name), what, None, what, "", text))

    def cells(self, position: int, table: Table, stored: Row, replayed: Row) -> None:
        """A row is stored with other values than the replay gives it."""
        what = name_of(table, replayed)
        for column, left, right in zip(table.columns, stored, replayed, strict=True):
            if left != right or type(left) is not type(right):
                self.cell(position, table, what, column.name, left, right)

    def cell(self, position: int, table: Table, what: str, column: str, stored: object, replayed: object) -> None:
        """One value is stored as another than the replay gives."""
        left, right = shown(column, stored), shown(column, replayed)
        text = f"{_begin(what)}, {column}: stored is {left}, the replay gives {right}."
        self._add(Difference(position, str(table.name), what, str(column), left, right, text))

    def rows(self, position: int, table: Table, stored: Iterable[Row], replayed: Iterable[Row]) -> None:
        """Compare two sets of rows by the table's key."""
        left, right = _by_key(table, stored), _by_key(table, replayed)
        if left == right:
            return
        for key, row in right.items():
            if key not in left:
                self.missing(position, table, row)
            elif left[key] != row:
                self.cells(position, table, left[key], row)
        for key, row in left.items():
            if key not in right:
                self.unexpected(position, table, row)

    def _add(self, difference: Difference) -> None:  # names of the schema's are made str: theirs is a kind that JSON doesn't know
        self.count += 1
        if len(self._kept) < KEPT:
            self._kept.append(difference)


def name_of(table: Table, row: Row) -> str:
    """A row, as people would call it."""
    values = dict(zip(table.columns.keys(), row, strict=True))
    keys = ", ".join(f"{column.name} {values[column.name]}" for column in table.primary_key)
    return _NAMES.get(table, f"the row of {table.name} with {keys}").format_map(values)


def _by_key(table: Table, rows: Iterable[Row]) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    places = [index for index, column in enumerate(table.columns) if column.primary_key]
    return {tuple(row[place] for place in places): tuple(row) for row in rows}


def _begin(what: str) -> str:
    return what[:1].upper() + what[1:]
