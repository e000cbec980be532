"""Symbols that moved, as the replays of several journals tell it: what one gave is what another took, and where each order is.

A shard's replay says here what it gives and takes, and of orders that are elsewhere than the rows of their ids are read: those of
its own ids that leave, and how those of other shards' ids stand when they end, or at the end. What none of the journals tells any
more, because it was trimmed, is passed over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import msgpack, structs

from ome.db import schema
from ome.db.history import History
from ome.db.statements import instrument_rows, order_rows, position_rows
from ome.domain.moves import IN_TRANSIT, MoveRecord, SymbolState, decode_state
from ome.verification.findings import Findings

Place = tuple[int, int]
"""A shard, and the position of the command there that gave a symbol away."""
Row = Sequence[Any]
_TARGET, _ADMITTED = 3, 7
"""Columns of `symbol_moves`."""


class Moves:
    """What the replays have told so far."""

    def __init__(self) -> None:
        self._given: dict[Place, MoveRecord] = {}
        self._taken: dict[Place, MoveRecord] = {}
        self._stored: dict[Place, Row] = {}
        self._begins_after: dict[int, int] = {}
        self._away: dict[int, bytes | None] = {}
        self._standing: dict[int, tuple[int, Row]] = {}

    def begins(self, shard: int, position: int) -> None:
        """A shard's journal was trimmed up to a position."""
        self._begins_after[shard] = position

    def stored(self, rows: Sequence[Row]) -> None:
        """Rows of `symbol_moves`."""
        self._stored.update(((row[0], row[1]), row) for row in rows)

    def gives(self, move: MoveRecord, held: dict[int, bytes | None], ids: range) -> None:
        """A replay gives a symbol: of its own `ids` the stored rows that it has `held` until now wait here."""
        self._given[move.shard, move.position] = move
        for order in _state(move).orders:
            if order.id in ids:
                self._away[order.id] = held.pop(order.id, None)

    def takes(self, move: MoveRecord, state: bytes, held: dict[int, bytes | None], ids: range) -> None:
        """A replay takes a symbol: the stored rows of its own `ids` are its to hold again."""
        self._taken[move.shard, move.position] = move
        for order in decode_state(state).orders:
            if order.id in ids:
                held[order.id] = self._away.pop(order.id, None)

    def stands(self, position: int, rows: Sequence[Row]) -> None:
        """How orders of other shards' ids stand, for good or at the end."""
        self._standing.update((row[0], (position, row)) for row in rows)

    def compare(self, history: History, findings: Findings) -> None:
        """At the end: what was given with what was taken, with what is stored of it, and each order that left its shard."""
        expected = []
        for place in sorted({*self._given, *self._taken}):
            given, taken = self._given.get(place), self._taken.get(place)
            if given is None and place[1] > self._begins_after.get(place[0], 0):
                findings.say(place[1], "journal", *_sentence(place, "was taken in, and never given away"))
            if given is not None and taken is not None and given.state_hash != taken.state_hash:
                findings.say(place[1], "journal", *_sentence(place, "was taken in otherwise than it was given away"))
            if given is not None and self._is_forgotten(place):
                given = structs.replace(given, state=None, admitted_position=self._stored[place][_ADMITTED])
            expected += [structs.astuple(move) for move in (taken or given,) if move is not None]
        known = [row for place, row in self._stored.items() if place in self._given or place in self._taken]
        unknown = [row for place, row in self._stored.items() if place not in self._given and place not in self._taken]
        findings.rows(0, schema.symbol_moves, known, expected)
        for row in unknown:
            if row[1] > self._begins_after.get(row[0], 0):
                findings.unexpected(row[1], schema.symbol_moves, row)
        self._compare_in_transit(history, findings)
        self._compare_orders(findings)

    def _is_forgotten(self, place: Place) -> bool:
        """Whether a symbol was taken in by a command that is trimmed from the journal: then its row alone says so."""
        row = self._stored.get(place)
        if row is None or place in self._taken or row[_ADMITTED] is None:
            return False
        is_forgotten: bool = row[_ADMITTED] <= self._begins_after.get(row[_TARGET], 0)
        return is_forgotten

    def _compare_in_transit(self, history: History, findings: Findings) -> None:
        moves = [move for place, move in self._given.items() if place not in self._taken and not self._is_forgotten(place)]
        states = [_state(move) for move in moves]
        symbols = frozenset(move.symbol for move in moves)
        for move, state in zip(moves, states, strict=True):
            self.stands(move.position, order_rows(state.orders))
        instruments = instrument_rows([state.instrument for state in states], IN_TRANSIT, symbols)
        positions = position_rows([each for state in states for each in state.positions], IN_TRANSIT, symbols)
        for table, rows in ((schema.stored_instruments, instruments), (schema.stored_positions, positions)):
            findings.rows(0, table, list(history.rows(table, IN_TRANSIT)), rows)

    def _compare_orders(self, findings: Findings) -> None:
        forgotten = [move for place, move in self._given.items() if self._is_forgotten(place)]
        untold = {order.id for move in forgotten for order in _state(move).orders}
        for order_id, stored in self._away.items():
            position, row = self._standing.get(order_id, (0, ()))
            if not row and order_id in untold:
                continue  # it ended in what was trimmed
            if not row:
                text = f"Order {order_id} has left the shard of its id, and is neither open nor ended anywhere."
                findings.say(None, "", f"order {order_id}", text)
            elif stored is not None and stored != msgpack.encode(row):
                findings.cells(position, schema.stored_orders, msgpack.decode(stored), row)

    def in_transit(self, history: History) -> dict[str, int]:
        """How many rows of each table are of symbols on their way, by its name."""
        tables = (schema.stored_instruments, schema.stored_positions)
        return {table.name: sum(1 for _ in history.rows(table, IN_TRANSIT)) for table in tables}


def _state(move: MoveRecord) -> SymbolState:
    if move.state is None:
        raise AssertionError  # it is there until the symbol has arrived
    return decode_state(move.state)


def _sentence(place: Place, what: str) -> tuple[str, str]:
    name = f"the symbol that left shard {place[0]} with position {place[1]}"
    return name, f"{name[0].upper()}{name[1:]} {what}."
