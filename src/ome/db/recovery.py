"""From stored rows to the state that an engine starts from, with every check that needs no book.

What is checked: each value has its type; the journal's newest row is the one that the engine row names, and hashes to what it
says; the newest events and trade are those that were counted; no open order is from the future. Whether the orders are what the
state hash was made of is for the engine to say, which knows how.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby, pairwise
from operator import attrgetter
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
from msgspec import Struct

from ome.db.statements import Head
from ome.domain.batch import CHAIN_START, JOURNAL_FORMAT, Batch, chain_hash
from ome.domain.enums import OrderStatus
from ome.domain.errors import StateMismatch, StorageUnusable
from ome.domain.ids import make_id
from ome.domain.ports import OpenOrders, Recovered
from ome.domain.positions import Position, units_of_number
from ome.domain.records import (
    AssetRecord,
    BalanceRecord,
    ControlRecord,
    EngineSettings,
    EngineState,
    InstrumentRecord,
    OrderRecord,
    PositionRecord,
)

_JSON_LAST: Final = frozenset[type]({OrderRecord, InstrumentRecord, ControlRecord})
"""The records whose last field is stored as JSON, or as NULL where it has its default."""

_Record = TypeVar("_Record")
_symbol: Final = attrgetter("symbol")


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
    """What a shard's tables hold, of one moment: `journal` is its newest row, `orders` the open ones, unless these are many: then
    they are read when they are asked for, as `more`. `to_adopt` is as in `Recovered`.
    """

    engine: EngineRow
    journal: JournalRow | None
    extent: Extent
    instruments: list[InstrumentRecord]
    orders: list[OrderRecord]
    positions: list[PositionRecord] = []
    to_adopt: list[PositionRecord] = []
    balances: list[BalanceRecord] = []
    assets: list[AssetRecord] = []
    controls: list[ControlRecord] = []
    more: Iterator[OpenOrders] | None = None

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


class Read(NamedTuple):
    """What a session has read beside the open orders: rows as the database gives them."""

    engine: Sequence[Any] | None
    journal: Sequence[Any] | None
    extent: Extent
    instruments: Iterable[Sequence[Any]]
    positions: Iterable[Sequence[Any]]
    balances: Iterable[Sequence[Any]]
    assets: Iterable[Sequence[Any]]
    controls: Iterable[Sequence[Any]]


def stored_rows(
    read: Read,
    to_adopt: list[PositionRecord],
    orders: list[OrderRecord],
    more: Callable[[Head], Iterator[OpenOrders]] | None = None,
) -> Stored:
    """What a session has read, in records; `more` is given the head that the orders must belong to."""
    if read.engine is None:
        raise StateMismatch("The engine row has gone since the engine took its fence.")
    journal_rows = records([read.journal] if read.journal else [], JournalRow)
    row = records([read.engine], EngineRow)[0]
    return Stored(
        row,
        journal_rows[0] if journal_rows else None,
        read.extent,
        records(read.instruments, InstrumentRecord),
        orders,
        records(read.positions, PositionRecord),
        to_adopt,
        records(read.balances, BalanceRecord),
        records(read.assets, AssetRecord),
        records(read.controls, ControlRecord),
        None if more is None else more(Head(row.epoch, row.position, row.chain_hash)),
    )


def lacks_positions(engine: Sequence[Any] | None) -> bool:
    """Whether a shard's engine row is of a time when no positions were kept: then its trades have to tell them."""
    if engine is None:
        return False
    row = records([engine], EngineRow)[0]
    return bool(row.trade_count) and not _settings(row).keeps_positions


class PositionsOfTrades:
    """The positions that trades have made, from the first one on."""

    def __init__(self) -> None:
        self._positions: dict[tuple[str, str], Position] = {}

    def add(self, rows: Iterable[Sequence[Any]]) -> None:
        """Take in the next rows of `Loads.traders`."""
        for price, quantity, symbol, buyer, seller in rows:
            bought = units_of_number(quantity)
            for user_id, signed in ((buyer, bought), (seller, -bought)):
                self._positions.setdefault((user_id, symbol), Position()).fill(signed, units_of_number(price))

    def records(self) -> list[PositionRecord]:
        """All of them."""
        return [position.record(user_id, symbol) for (user_id, symbol), position in sorted(self._positions.items(), key=_place)]


def _place(item: tuple[tuple[str, str], Position]) -> tuple[str, str]:
    return item[0]


def _settings(row: EngineRow) -> EngineSettings:
    try:
        return msgspec.msgpack.decode(row.settings, type=EngineSettings)
    except (ValueError, msgspec.MsgspecError) as error:
        raise StateMismatch(f"The engine row can't be read: {error}. Restore a backup.") from error


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
    checks = _OrderChecks(shard, row)
    if stored.more is None:
        checks.look_at(stored.orders)
        checks.look_back()
    settings = _settings(row)
    try:
        state_hash = None if row.state_hash is None else int(row.state_hash, 16)
    except ValueError as error:
        raise StateMismatch(f"The engine row can't be read: {error}. Restore a backup.") from error
    state = EngineState(
        shard=shard,
        position=row.position,
        time=row.time,
        trade_count=row.trade_count,
        priority_count=row.priority_count,
        settings=settings,
        instruments=sorted(stored.instruments, key=lambda instrument: instrument.symbol),
        orders=sorted(stored.orders, key=lambda order: order.priority),
        positions=sorted(stored.positions, key=lambda position: (position.user_id, position.symbol)),
        balances=sorted(stored.balances, key=lambda balance: (balance.user_id, balance.asset)),
        assets=sorted(stored.assets, key=lambda asset: asset.asset),
        controls=sorted(stored.controls, key=lambda control: (control.kind, control.user_id, control.symbol)),
    )
    more = () if stored.more is None else checks.passing(stored.more)
    return Recovered(state, state_hash, more, stored.to_adopt)


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


class _OrderChecks:
    """What must hold of open orders whatever their books: none with an id of this shard is of a later position than the engine
    row, no two of one symbol share a place in the queue (of two symbols they may, where one has come from another shard), and
    each that waits for a price says for which.
    """

    def __init__(self, shard: int, row: EngineRow) -> None:
        self._newest_id = make_id(shard, row.position)
        self._next_shard = make_id(shard + 1, 0)
        self._position = row.position
        self._priority_count = row.priority_count
        self._without_terms: int | None = None
        self._ids = array("q")
        self._priorities = array("q")
        self._symbols = array("l")
        self._numbers: dict[str, int] = {}

    def look_at(self, orders: list[OrderRecord]) -> None:
        """Check each, and note its place."""
        ids, priorities = [order.id for order in orders], [order.priority for order in orders]
        newest = max(ids, default=0)
        if newest >= self._next_shard:
            newest = max((order_id for order_id in ids if order_id < self._next_shard), default=0)
        if newest > self._newest_id:
            raise StateMismatch(
                f"Order {newest} is newer than the engine row, which is at position {self._position}. Restore a backup."
            )
        last = max(priorities, default=0)
        if last > self._priority_count:
            order_id = ids[priorities.index(last)]
            raise StateMismatch(f"Order {order_id} has a priority beyond the engine row's count. Restore a backup.")
        waiting = OrderStatus.PENDING_TRIGGER
        for order_id in [order.id for order in orders if order.status is waiting and order.terms is None]:
            self._without_terms = order_id
        self._ids.extend(ids)
        self._priorities.extend(priorities)
        for symbol, run in groupby(orders, _symbol):
            number = self._numbers.setdefault(symbol, len(self._numbers))
            self._symbols.extend([number] * len(list(run)))

    def look_back(self) -> None:
        """Once all have been looked at: what is wrong with them together, and which one waits for nothing."""
        if len(set(self._priorities)) < len(self._priorities):
            for earlier, later in pairwise(sorted(zip(self._symbols, self._priorities, self._ids, strict=True))):
                if earlier[:2] == later[:2] and earlier[1]:
                    raise StateMismatch(f"Orders {earlier[2]} and {later[2]} have the same priority. Restore a backup.")
        if self._without_terms is not None:
            raise StateMismatch(f"Order {self._without_terms} waits for a price, and its terms are missing. Restore a backup.")

    def passing(self, parts: Iterable[OpenOrders]) -> Iterator[OpenOrders]:
        """The same parts, looked at on their way."""
        for part in parts:
            self.look_at(part.records)
            yield part
        self.look_back()


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
