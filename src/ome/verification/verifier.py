"""The verifier: replays the journal in a fresh engine, batch by batch, beside every table, and collects the differences.

What is compared, of one moment of the database:

- SQLite's own check of the file, and the schema (on PostgreSQL both are the server's);
- the journal: no gap, the chain of hashes from its first row (a trimmed one begins with a snapshot of the engine, D6), positions
  and times as in the commands, epochs that don't fall;
- symbols that moved between shards: what one journal gave away is what the other took in, byte for byte, and what is on its way
  is stored as it was given; an order is compared where it has ended, or is open, whichever shard gave it its id;
- after each batch its events, byte for byte, its trades, its entries of the audit and the index rows of users and orders;
- each order, every column, when it has ended, and the open ones at the end;
- at the end the instruments, positions and controls, the engine row with its counters, settings and hashes, the invariants of
  the books, and that no table has a row more.

Every table is read once, in the order of the journal, beside the replay. What is held is the open orders: each as the engine has
it, and the bytes of its stored row. A wrong row doesn't end the verification; a journal that can't be followed does.

Not compared, because nothing in a database says what it should be: `incarnation`, but for its form, and the epochs beyond their
order. Nor is the table `lease`, which is no history, nor what is made from it for readers: candles, snapshots of
books, and snapshots of the engine that no replay begins with.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from msgspec import MsgspecError, Struct, msgpack, structs
from sqlalchemy import Table

from ome.db import schema
from ome.db.engine_snapshots import SnapshotRow, recovered
from ome.db.history import ORDERED_BY, Condition, History, Row, Unreadable, open_history
from ome.db.recovery import EngineRow, JournalRow, hash_of, records
from ome.db.statements import (
    Head,
    asset_rows,
    balance_rows,
    change_of,
    control_rows,
    instrument_rows,
    order_rows,
    position_rows,
    rows_by_table,
)
from ome.db.url import parse_url
from ome.domain.batch import CHAIN_START, JOURNAL_FORMAT, Batch, hash_text
from ome.domain.commands import Admit, AdvanceTime, NewOrder, Stamped, decode_commands
from ome.domain.enums import LAST_OPEN
from ome.domain.errors import InvariantBroken, StateMismatch
from ome.domain.events import UNSTORED_EVENTS, CommandEvents, decode_events
from ome.domain.ids import MAX_ID, SHARD_STEP, make_id
from ome.domain.moves import MoveRecord
from ome.domain.records import EngineSettings
from ome.engine.engine import Engine
from ome.engine.pending_batch import PendingBatch, Waiting
from ome.verification.findings import Findings, name_of
from ome.verification.moves import Moves
from ome.verification.report import Report, Shard
from ome.verification.words import first_unequal, shortened

Progress = Callable[[int, int], None]
"""Told now and then how many positions are done, of how many."""

_INCARNATION: Final = re.compile(r"[0-9a-f]{32}")
MAX_SHARD: Final = MAX_ID // SHARD_STEP - 1
_INDEXES: Final = (schema.event_users, schema.audit)
_NOBODY: Final = Waiting(AdvanceTime())
_STATUS: Final = list(schema.stored_orders.columns).index(schema.stored_orders.c.status)
_encode = msgpack.Encoder().encode


class CannotFollow(Exception):
    """The journal can't be followed beyond `position`; the message says why, `column` which one is to blame, if one is."""

    def __init__(self, position: int, table: str, text: str, column: str | None = None) -> None:
        super().__init__(text)
        self.position = position
        self.table = table
        self.column = column


class Counts(Struct):
    """What has been compared."""

    batches: int = 0
    positions: int = 0
    orders: int = 0
    open_orders: int = 0
    trades: int = 0
    events: int = 0


def verify(database_url: str, *, in_place: bool = False, progress: Progress | None = None) -> Report:
    """Compare a database, as it is now, with what its journal makes; an engine may be running on it.

    `in_place` spares the copy of an SQLite file that no engine is running on. Raises StorageUnusable for a database that can't be
    read at all. Called where no event loop is running: `await asyncio.to_thread(verify, url)` elsewhere.
    """
    started = time.perf_counter()
    with open_history(database_url, in_place=in_place) as history:
        return verify_history(history, parse_url(database_url).shown, started, progress)


def verify_history(history: History, database: str, started: float, progress: Progress | None = None) -> Report:
    """`verify`, of what is open already: `database` is what to call it, `started` when that was, on `time.perf_counter`."""
    findings, counts, shards, streams = Findings(), Counts(), list[Shard](), list[Stream]()
    is_complete, at, moves = True, 0, Moves()
    for sentence in history.damage():
        findings.say(None, "", "the file", sentence)
    try:
        for shard in history.shards():
            if not 0 <= shard <= MAX_SHARD:
                raise CannotFollow(0, schema.engine.name, f"The engine row is of shard {shard}; there are 0 to {MAX_SHARD}.")
            replay = ShardReplay(history, shard, findings, counts, moves, progress)
            for reached in replay.run():
                at = reached
            shards.append(replay.summary())
            streams += replay.streams
        moves.compare(history, findings)
        _compare_counts(history, streams, moves, findings)
    except CannotFollow as stop:
        findings.say(stop.position, stop.table, "the journal", str(stop), stop.column)
        is_complete = False
    except (Unreadable, StateMismatch) as error:
        findings.say(at, "", "the database", f"After position {at}: {error}")
        is_complete = False
    return Report(
        database=database,
        shards=shards,
        **structs.asdict(counts),
        differences=findings.first(),
        difference_count=findings.count,
        is_complete=is_complete,
        seconds=time.perf_counter() - started,
    )


class Stream:
    """A table's rows of one shard, taken in step with the replay."""

    def __init__(self, history: History, table: Table, shard: int, where: Sequence[Condition] = ()) -> None:
        self.table = table
        self.count = 0
        self._place = table.columns.keys().index(ORDERED_BY[table])
        self._rows = history.rows(table, shard, where)
        self._next = next(self._rows, None)

    def until(self, bound: int) -> list[Row]:
        """The next rows, up to those whose place is `bound`; one that has no place at all comes at once."""
        taken, row, place = list[Row](), self._next, self._place
        while row is not None and not (isinstance(row[place], int) and row[place] > bound):
            taken.append(row)
            row = next(self._rows, None)
        self._next = row
        self.count += len(taken)
        return taken

    def rest(self) -> Iterator[Row]:
        """All that is left."""
        while self._next is not None:
            self.count += 1
            yield self._next
            self._next = next(self._rows, None)


class ShardReplay:
    """One shard's replay, beside its tables."""

    def __init__(
        self, history: History, shard: int, findings: Findings, counts: Counts, moves: Moves, progress: Progress | None
    ) -> None:
        self._shard = shard
        self._ids = range(make_id(shard, 0), make_id(shard + 1, 0))
        self._all_moves = moves
        self._findings = findings
        self._counts = counts
        self._progress = progress or (lambda _done, _total: None)
        self._engine = Engine(shard)
        self._history = history
        self._chain = CHAIN_START
        self._begins_after = 0
        self._epoch = 0
        self._held: dict[int, bytes | None] = {}
        """The stored rows of the orders that are open in the replay; None for one that was missing."""
        self._stored_engine = next(history.rows(schema.engine, shard))
        self._journal = Stream(history, schema.journal, shard)
        self._orders = Stream(history, schema.stored_orders, shard)
        self._trades = Stream(history, schema.stored_trades, shard)
        self._events = Stream(history, schema.event_batches, shard)
        self._indexes = [Stream(history, table, shard) for table in _INDEXES]
        self._order_index = Stream(history, schema.event_orders, shard, [("last_position", "<", SHARD_STEP)])
        self._order_index_away = Stream(history, schema.event_orders, shard, [("last_position", ">=", SHARD_STEP)])
        self._moves = Stream(history, schema.symbol_moves, shard)
        self._instruments = Stream(history, schema.stored_instruments, shard)
        self._positions = Stream(history, schema.stored_positions, shard)
        self._balances = Stream(history, schema.stored_balances, shard)
        self._assets = Stream(history, schema.stored_assets, shard)
        self._transfers = Stream(history, schema.stored_transfers, shard)
        self._controls = Stream(history, schema.stored_controls, shard)
        self._control_rows: dict[Any, Any] = {}

    @property
    def streams(self) -> list[Stream]:
        """Every table's."""
        made = [self._journal, self._orders, self._trades, self._events, *self._by_position, self._transfers]
        return [*made, self._order_index_away, self._instruments, self._positions, self._balances, self._assets, self._controls]

    @property
    def _by_position(self) -> list[Stream]:
        return [*self._indexes, self._order_index, self._moves]

    def run(self) -> Iterator[int]:
        """Replay and compare, batch by batch: the position after each. Raises CannotFollow, Unreadable."""
        total = records([self._stored_engine], EngineRow)[0].position
        for row in self._journal.rest():
            if not self._engine.position:
                self._begin_after(records([row], JournalRow)[0].first_position - 1)
            self._follow(row)
            self._counts.batches += 1
            self._progress(self._engine.position, total)
            yield self._engine.position
        if self._engine.position < total:
            text = f"The journal ends with position {self._engine.position}, the engine row is at position {total}."
            raise CannotFollow(self._engine.position, schema.engine.name, text, "position")
        self._compare_end()

    def summary(self) -> Shard:
        """Where the replay stands."""
        row, engine = records([self._stored_engine], EngineRow)[0], self._engine
        return Shard(
            self._shard,
            self._begins_after,
            row.epoch,
            row.incarnation,
            engine.position,
            hash_text(engine.state_hash()),
            self._chain.hex(),
        )

    def _begin_after(self, position: int) -> None:
        """Start from the snapshot that a trimmed journal begins with (D6); without one the first position is missing."""
        row = self._snapshot_row(position) if position > 0 else None
        if row is None:
            return
        orders = (row[3] for row in self._history.rows(schema.engine_snapshot_orders, self._shard) if row[1] == position)
        start = recovered(row, orders)
        engine = Engine.restore(start.state)
        if engine.state_hash() != start.state_hash:
            text = f"The snapshot of the engine at position {position} is not what its state hash was made of."
            raise CannotFollow(position, schema.engine_snapshots.name, text, "state_hash")
        self._engine, self._chain, self._begins_after = engine, row.chain_hash, position
        self._put_controls(control_rows(start.state.controls, self._shard))
        is_open = {order.id for order in start.state.orders}
        for stored in self._orders.until(make_id(self._shard, position)):
            if stored[0] in is_open:
                self._held[stored[0]] = _encode(stored)
        self._trades.until(make_id(self._shard, engine.trade_count))
        self._transfers.until(make_id(self._shard, position))
        self._all_moves.begins(self._shard, position)
        self._all_moves.stored(self._moves.until(position))
        self._order_index_away.until(make_id(self._shard + 1, position))
        for stream in (self._events, *self._indexes, self._order_index):
            stream.until(position)

    def _snapshot_row(self, position: int) -> SnapshotRow | None:
        rows = self._history.rows(schema.engine_snapshots, self._shard)
        found = [row for row in records(rows, SnapshotRow) if row.position == position]
        return found[0] if found else None

    def _follow(self, row: Row) -> None:
        """One batch: check its place, apply its commands, compare what they led to."""
        journal = records([row], JournalRow)[0]
        stamped = self._checked(journal)
        pending = PendingBatch()
        for command in stamped:
            try:
                events = self._engine.apply(command)
            except Exception as error:  # whatever it is, this command can't have been committed as it stands
                text = f"The command of position {command.position} can't be carried out: {type(error).__name__}: {error}."
                raise CannotFollow(command.position, "journal", text) from error
            pending.add(command, events, _NOBODY)
            self._counts.events += sum(not isinstance(event, UNSTORED_EVENTS) for event in events)
        batch = structs.replace(pending.seal(self._engine), commands=journal.commands)
        self._compare(batch, journal, stamped)
        self._chain, self._epoch = journal.chain_hash, journal.epoch
        self._counts.positions += len(stamped)

    def _checked(self, journal: JournalRow) -> list[Stamped]:
        """The commands of a journal row that follows the one before it. Raises CannotFollow."""
        place, last = self._engine.position, journal.last_position
        which = f"the journal's row of positions {journal.first_position} to {last}"
        if journal.first_position != place + 1 or last < journal.first_position:
            raise CannotFollow(place + 1, "journal", f"Position {place + 1} is missing in the journal: next is {which}.")
        if journal.journal_format != JOURNAL_FORMAT:
            text = f"{which.capitalize()} is of format {journal.journal_format}; this version of OME reads {JOURNAL_FORMAT}."
            raise CannotFollow(last, "journal", text)
        if journal.chain_before != self._chain:
            text = (
                f"The chain breaks before {which}: it follows {journal.chain_before.hex()[:16]}...,"
                f" the row before it ends with {self._chain.hex()[:16]}...."
            )
            raise CannotFollow(last, "journal", text)
        if hash_of(journal) != journal.chain_hash:
            text = (
                f"{which.capitalize()} was changed: its place, time and commands hash to {hash_of(journal).hex()[:16]}...,"
                f" its chain_hash is {journal.chain_hash.hex()[:16]}...."
            )
            raise CannotFollow(last, "journal", text)
        if not self._epoch <= journal.epoch or journal.epoch > records([self._stored_engine], EngineRow)[0].epoch:
            self._findings.say(
                last,
                "journal",
                which,
                f"{which.capitalize()}, epoch: {journal.epoch} can't follow {self._epoch} in this database.",
            )
        try:
            stamped = decode_commands(journal.commands)
        except MsgspecError as error:
            raise CannotFollow(last, "journal", f"The commands of {which} can't be read: {error}.") from error
        if [each.position for each in stamped] != list(range(journal.first_position, last + 1)):
            raise CannotFollow(last, "journal", f"The commands of {which} have other positions than the row.")
        return stamped

    def _compare(self, batch: Batch, journal: JournalRow, stamped: list[Stamped]) -> None:
        """What a batch led to with what is stored."""
        last = batch.last_position
        change = change_of(self._shard, Head(journal.epoch, batch.first_position - 1, self._chain), batch)
        rows = rows_by_table(change)
        if batch.time != journal.time:
            self._findings.cell(
                last, schema.journal, name_of(schema.journal, rows[schema.journal][0]), "time", journal.time, batch.time
            )
        self._compare_events(batch)
        self._put_controls(rows[schema.stored_controls])
        trades = rows[schema.stored_trades]
        self._findings.rows(last, schema.stored_trades, self._trades.until(make_id(self._shard, batch.trade_count)), trades)
        self._counts.trades += len(trades)
        self._findings.rows(
            last, schema.stored_transfers, self._transfers.until(make_id(self._shard, last)), rows[schema.stored_transfers]
        )
        for index in self._indexes:
            self._findings.rows(last, index.table, index.until(last), rows[index.table])
        named = [*self._order_index.until(last), *self._order_index_away.until(make_id(self._shard + 1, last))]
        self._findings.rows(last, schema.event_orders, named, rows[schema.event_orders])
        self._take_in([make_id(self._shard, each.position) for each in stamped if isinstance(each.command, NewOrder)], last)
        self._all_moves.stored(self._moves.until(last))
        self._note_moves(batch.moves, stamped)
        self._compare_orders(last, (row for row in rows[schema.stored_orders] if row[_STATUS] > LAST_OPEN))

    def _note_moves(self, moves: Sequence[MoveRecord], stamped: list[Stamped]) -> None:
        """The symbols that a batch has given away and taken in, in its order."""
        for move in moves:
            if move.admitted_position is None:
                self._all_moves.gives(move, self._held, self._ids)
            else:
                command = stamped[move.admitted_position - stamped[0].position].command
                if isinstance(command, Admit):
                    self._all_moves.takes(move, command.state, self._held, self._ids)

    def _put_controls(self, rows: Iterable[Any]) -> None:
        """Rows of controls as a batch leaves them: those that are lifted stay, and the engine knows nothing of them."""
        self._control_rows.update((tuple(row[:3]), row) for row in rows)

    def _compare_events(self, batch: Batch) -> None:
        last = batch.last_position
        replayed = (self._shard, batch.first_position, last, batch.events)
        stored = self._events.until(last)
        if stored == [replayed]:
            return
        same = [row for row in stored if row[:3] == replayed[:3]]
        if len(stored) == len(same) == 1:
            position, text = _first_event_that_differs(last, same[0][3], decode_events(batch.events))
            self._findings.say(position, schema.event_batches.name, f"the events of position {position}", text)
        else:
            self._findings.rows(last, schema.event_batches, stored, [replayed])

    def _take_in(self, new_ids: list[int], last: int) -> None:
        """The stored rows of the orders that a batch submitted, held until they have ended."""
        stored = {row[0]: row for row in self._orders.until(make_id(self._shard, last))}
        for order_id in new_ids:
            row = stored.pop(order_id, None)
            self._held[order_id] = None if row is None else _encode(row)
            if row is None:
                position = order_id - make_id(self._shard, 0)
                self._findings.say(
                    position, "stored_orders", f"order {order_id}", f"Order {order_id} is missing in stored_orders."
                )
        for row in stored.values():
            self._findings.unexpected(last, schema.stored_orders, row)
        self._counts.orders += len(new_ids)

    def _compare_orders(self, position: int, rows: Iterable[Any]) -> None:
        """Orders as they stand in the replay, and will stand, with what is stored of them."""
        for row in rows:
            if row[0] not in self._ids:
                self._all_moves.stands(position, [row])
                continue
            held = self._held.pop(row[0], None)
            if held is not None and held != _encode(row):
                self._findings.cells(position, schema.stored_orders, msgpack.decode(held), row)

    def _compare_end(self) -> None:
        """What only the end shows: open orders, instruments, counters, and rows that nothing led to."""
        engine, position = self._engine, self._engine.position
        try:
            engine.check_invariants()
        except InvariantBroken as error:
            self._findings.say(position, "", "the books", f"The books that the replay makes contradict themselves: {error}.")
        state = engine.state()
        self._counts.open_orders += len(state.orders)
        for order in state.orders:
            if order.id in self._ids and order.id not in self._held:
                self._findings.say(
                    position, "", f"order {order.id}", f"Order {order.id} is open in the replay, and had ended in it."
                )
            self._compare_orders(position, order_rows([order]))
        for order_id in self._held:
            self._findings.say(position, "", f"order {order_id}", f"Order {order_id} ended in the replay, and no batch says so.")
        self._findings.rows(
            position, schema.stored_instruments, self._instruments.rest(), instrument_rows(state.instruments, self._shard)
        )
        positions = position_rows(state.positions, self._shard)
        self._findings.rows(position, schema.stored_positions, self._positions.rest(), positions)
        self._findings.rows(position, schema.stored_controls, self._controls.rest(), self._control_rows.values())
        balances, assets = balance_rows(state.balances, self._shard), asset_rows(state.assets, self._shard)
        self._findings.rows(position, schema.stored_balances, self._balances.rest(), balances)
        self._findings.rows(position, schema.stored_assets, self._assets.rest(), assets)
        for stream in (self._orders, self._trades, self._events, *self._by_position, self._order_index_away, self._transfers):
            for row in stream.rest():
                self._findings.unexpected(position, stream.table, row)
        self._compare_engine_row()

    def _compare_engine_row(self) -> None:
        engine, table = self._engine, schema.engine
        row, settings = records([self._stored_engine], EngineRow)[0], msgpack.encode(engine.settings)
        replayed = structs.replace(
            row,
            position=engine.position,
            time=engine.time,
            trade_count=engine.trade_count,
            priority_count=engine.priority_count,
            settings=row.settings if _says(row.settings, engine.settings) else settings,
            state_hash=hash_text(engine.state_hash()) if engine.position else None,
            chain_hash=self._chain,
            journal_format=JOURNAL_FORMAT,
        )
        stored, wanted = structs.astuple(row), structs.astuple(replayed)
        for column, left, right in zip(table.columns, stored, wanted, strict=True):
            if left != right:
                self._findings.cell(engine.position, table, "the engine row", column.name, left, right)
        if not _INCARNATION.fullmatch(row.incarnation):
            text = f"The engine row, incarnation: {shortened(row.incarnation)} isn't 32 hexadecimal digits."
            self._findings.say(engine.position, table.name, "the engine row", text)
        if row.epoch < max(self._epoch, 1):
            text = f"The engine row, epoch: stored is {row.epoch}, the journal's last is {self._epoch}."
            self._findings.say(engine.position, table.name, "the engine row", text)


def _says(stored: bytes, settings: EngineSettings) -> bool:
    """Whether stored settings are these, whichever fields their writer knew."""
    try:
        return msgpack.decode(stored, type=EngineSettings) == settings
    except MsgspecError:  # no longer what any engine writes
        return False


def _first_event_that_differs(last: int, stored: bytes, replayed: list[CommandEvents]) -> tuple[int, str]:
    """The position of the first command whose stored events aren't the replay's, and a sentence."""
    try:
        found = decode_events(stored)
    except MsgspecError as error:
        return last, f"The stored events of the batch that ends with position {last} can't be read: {error}."
    for left, right in zip(found, replayed, strict=False):
        if left != right:
            field, one, other = first_unequal(left, right)
            sides = f"stored is {shortened(str(one))}, the replay gives {shortened(str(other))}"
            return right.position, f"The events of position {right.position}, {field}: {sides}."
    if len(found) == len(replayed):
        return last, f"The stored events of the batch that ends with position {last} aren't written as the engine writes them."
    return (
        last,
        f"Stored are the events of {len(found)} commands up to position {last}, the replay gives those of {len(replayed)}.",
    )


def _compare_counts(history: History, streams: list[Stream], moves: Moves, findings: Findings) -> None:
    """No table has rows of a shard that has no engine; those of symbols in transit are of none."""
    in_transit = moves.in_transit(history)
    for table in ORDERED_BY:
        known = sum(stream.count for stream in streams if stream.table is table) + in_transit.get(table.name, 0)
        if table is not schema.engine and (found := history.count(table)) != known:
            text = f"{table.name} has {found} rows, {known} of them of a shard that has an engine row."
            findings.say(None, table.name, table.name, text)
