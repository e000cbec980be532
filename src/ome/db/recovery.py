"""From stored rows to the state that an engine starts from, with every check that needs no book.

What is checked: each value has its type; the journal's newest row is the one that the engine row names, and hashes to what it
says; the newest events and trade are those that were counted; no open order is from the future. Whether the orders are what the
state hash was made of is for the engine to say, which knows how.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
from msgspec import Struct

from ome.domain.batch import CHAIN_START, JOURNAL_FORMAT, Batch, chain_hash
from ome.domain.enums import OrderStatus
from ome.domain.errors import StateMismatch, StorageUnusable
from ome.domain.ids import make_id
from ome.domain.ports import Recovered
from ome.domain.records import EngineSettings, EngineState, InstrumentRecord, OrderRecord

CHUNK: Final = 20_000
"""Rows that are turned into records at once, so that a large book isn't held twice."""

_JSON_LAST: Final = frozenset[type]({OrderRecord, InstrumentRecord})
"""The records whose last field is stored as JSON, or as NULL where it has its default."""

_Record = TypeVar("_Record")


class EngineRow(Struct, frozen=True, array_like=True):
    """A row of `engine`, in the order of its columns."""

    shard: int
    epoch: int
    incarnation: str
    position: int
    time: int
    trade_count: int
    priority_count: int
    settings: bytes
    state_hash: str | None
    chain_hash: bytes
    journal_format: int


class JournalRow(Struct, frozen=True, array_like=True):
    """A row of `journal`, in the order of its columns."""

    shard: int
    first_position: int
    last_position: int
    epoch: int
    time: int
    journal_format: int
    commands: bytes
    chain_before: bytes
    chain_hash: bytes


class Extent(NamedTuple):
    """How far a shard's tables go: the last position with events, the last trade's id, how many positions the journal holds, how
    many trades there are; and of the journal's oldest row its first position, its chain hash before, and the chain hash of the
    engine snapshot right before it (None where there is none).
    """

    last_events: int | None
    last_trade: int | None
    journaled: int
    trades: int
    begins: tuple[int, bytes, bytes | None] | None


class Stored(Struct, frozen=True):
    """What a shard's tables hold, of one moment: `journal` is its newest row, `orders` the open ones."""

    engine: EngineRow
    journal: JournalRow | None
    extent: Extent
    instruments: list[InstrumentRecord]
    orders: list[OrderRecord]

    @property
    def epoch(self) -> int:
        """Whose turn it is."""
        return self.engine.epoch


def records(rows: Iterable[Sequence[Any]], kind: type[_Record]) -> list[_Record]:
    """Rows as records, enums and all. Raises StateMismatch for a value that isn't of its field's type."""
    values = map(_with_json_read, rows) if kind in _JSON_LAST else map(tuple, rows)
    try:
        return msgspec.convert(list(values), list[kind])  # type: ignore[valid-type]
    except msgspec.DecodeError as error:
        raise StateMismatch(f"A stored {kind.__name__} can't be read: {error}. Restore a backup.") from error


def _with_json_read(row: Sequence[Any]) -> Sequence[Any]:
    """A row whose last value is JSON; without one the field has its default."""
    text = row[-1]
    return tuple(row[:-1]) if text is None else (*row[:-1], msgspec.json.decode(text))


def stored_rows(
    engine: Sequence[Any] | None,
    journal: Sequence[Any] | None,
    extent: Extent,
    instruments: Iterable[Sequence[Any]],
    orders: list[OrderRecord],
) -> Stored:
    """What a session has read, in records."""
    if engine is None:
        raise StateMismatch("The engine row has gone since the engine took its fence.")
    journal_rows = records([journal] if journal else [], JournalRow)
    return Stored(
        records([engine], EngineRow)[0],
        journal_rows[0] if journal_rows else None,
        extent,
        records(instruments, InstrumentRecord),
        orders,
    )


def recovered(shard: int, stored: Stored) -> Recovered:
    """The state that the stored rows make. Raises StateMismatch, naming what disagrees, or StorageUnusable for another format."""
    row = stored.engine
    if row.journal_format != JOURNAL_FORMAT:
        raise StorageUnusable(
            f"The database is of journal format {row.journal_format}; this version of OME reads {JOURNAL_FORMAT}."
            " Run the version that wrote it."
        )
    _check_journal(row, stored.journal)
    extent = stored.extent
    _agree("the newest batch of events", extent.last_events or 0, "the engine row", row.position)
    _agree("the newest trade", extent.last_trade or make_id(shard, 0), "the engine row's count", make_id(shard, row.trade_count))
    _check_beginning(row, extent)
    _agree("the trades", extent.trades, "the engine row's count", row.trade_count)
    orders = sorted(stored.orders, key=lambda order: order.priority)
    _check_orders(shard, row, orders)
    try:
        settings = msgspec.msgpack.decode(row.settings, type=EngineSettings)
        state_hash = None if row.state_hash is None else int(row.state_hash, 16)
    except (ValueError, msgspec.MsgspecError) as error:
        raise StateMismatch(f"The engine row can't be read: {error}. Restore a backup.") from error
    state = EngineState(
        shard=shard,
        position=row.position,
        time=row.time,
        trade_count=row.trade_count,
        priority_count=row.priority_count,
        settings=settings,
        instruments=sorted(stored.instruments, key=lambda instrument: instrument.symbol),
        orders=orders,
    )
    return Recovered(state, state_hash)


def shard_ids(shard: int) -> tuple[int, int]:
    """The lowest id of a shard and that of the next one."""
    return make_id(shard, 0), make_id(shard + 1, 0)


def _check_journal(row: EngineRow, journal: JournalRow | None) -> None:
    if journal is None:
        _agree("the journal, which is empty,", 0, "the engine row", row.position)
        _agree("the start of the chain", CHAIN_START.hex(), "the engine row's chain hash", row.chain_hash.hex())
        return
    _agree("the journal's last position", journal.last_position, "the engine row", row.position)
    _agree("the journal's last time", journal.time, "the engine row", row.time)
    _agree("the journal's chain hash", journal.chain_hash.hex(), "the engine row", row.chain_hash.hex())
    _agree("the hash of the journal's last row", hash_of(journal).hex(), "its chain hash", journal.chain_hash.hex())


def _check_beginning(row: EngineRow, extent: Extent) -> None:
    """The journal holds every position, or, where it was trimmed, every one behind a snapshot of the engine (D6)."""
    first, chain_before, snapshot = extent.begins or (1, CHAIN_START, None)
    if first > 1 and snapshot != chain_before:
        raise StateMismatch(
            f"The journal begins at position {first}, and there is no snapshot of the engine at position {first - 1} that it"
            " continues. Restore a backup."
        )
    _agree("the positions in the journal", first - 1 + extent.journaled, "the engine row", row.position)


def _check_orders(shard: int, row: EngineRow, orders: list[OrderRecord]) -> None:
    """None is of a later position than the engine row, no two share a place in the queue, and each that waits for a price says
    for which. `orders` are by priority.
    """
    newest = max((order.id for order in orders), default=0)
    if newest > make_id(shard, row.position):
        raise StateMismatch(
            f"Order {newest} is newer than the engine row, which is at position {row.position}. Restore a backup."
        )
    if orders and orders[-1].priority > row.priority_count:
        raise StateMismatch(f"Order {orders[-1].id} has a priority beyond the engine row's count. Restore a backup.")
    for earlier, later in pairwise(orders):
        if earlier.priority == later.priority and earlier.priority:
            raise StateMismatch(f"Orders {earlier.id} and {later.id} have the same priority. Restore a backup.")
    for order in orders:
        if order.terms is None and order.status is OrderStatus.PENDING_TRIGGER:
            raise StateMismatch(f"Order {order.id} waits for a price, and its terms are missing. Restore a backup.")


def hash_of(journal: JournalRow) -> bytes:
    """What a journal row's chain hash has to be, by what else is in it."""
    batch = Batch(
        first_position=journal.first_position,
        last_position=journal.last_position,
        time=journal.time,
        trade_count=0,
        priority_count=0,
        settings=EngineSettings(),
        state_hash=0,
        commands=journal.commands,
        events=b"",
        orders=[],
        trades=[],
        instruments=[],
        user_ids=[],
        touched_order_ids=[],
    )
    return chain_hash(journal.chain_before, batch)


def _agree(what: str, value: object, other: str, expected: object) -> None:
    if value != expected:
        raise StateMismatch(f"What is stored contradicts itself: {what} says {value}, {other} says {expected}. Restore a backup.")
