"""The writer's SQL, made from the schema's columns, and the rows of a batch that go with it.

Row layout: a row is a list of plain values in the order of its table's columns; enums are plain integers in it, because binding
an IntEnum costs SQLite's driver twice as much. Whatever a batch holds, the statements are the same, so that they stay prepared.

A commit is a compare-and-set of the engine row and, only where that row was as expected, everything else of the batch. On SQLite
each table has its statement; on PostgreSQL one statement does all of it, in one round trip and by itself atomic.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from msgspec import Struct, json, msgpack, structs, to_builtins
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Dialect,
    Integer,
    Select,
    SmallInteger,
    Table,
    and_,
    bindparam,
    cast,
    column,
    func,
    literal_column,
    select,
    true,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql import Executable
from sqlalchemy.sql.selectable import CTE

from ome.db import schema
from ome.domain.batch import CHAIN_START, JOURNAL_FORMAT, Batch, chain_hash, hash_text
from ome.domain.enums import (
    Switch,
)
from ome.domain.ids import SHARD_STEP, make_id
from ome.domain.moves import IN_TRANSIT
from ome.domain.records import (
    AssetRecord,
    BalanceRecord,
    ControlRecord,
    EngineSettings,
    InstrumentRecord,
    OrderRecord,
    PositionRecord,
)

Row = Sequence[Any]
"""Plain values, one for each column."""

FEW: Final = 20_000
"""Open orders that recovery reads itself; more are read by a second process beside it."""

SQLITE: Final[Dialect] = sqlite.dialect(paramstyle="qmark")
POSTGRESQL: Final[Dialect] = postgresql.dialect(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]

_ORDER_CHANGES: Final = (
    "quantity",
    "price",
    "filled_quantity",
    "filled_value",
    "remaining_quantity",
    "status",
    "reason",
    "version",
    "priority",
    "expires_at",
    "updated_at",
    "terms",
)
"""The columns of an order that can change; naming no others spares the indexes over them."""
_INSTRUMENT_CHANGES: Final = (
    *("tick_size", "lot_size", "state", "sequence", "last_price", "last_quantity", "last_trade_at"),
    *("rules", "shard"),
)
_WRITES: Final[tuple[tuple[Table, Sequence[str]], ...]] = (
    (schema.stored_orders, _ORDER_CHANGES),
    (schema.stored_trades, ()),
    (schema.stored_instruments, _INSTRUMENT_CHANGES),
    (schema.stored_positions, ("quantity", "cost", "realised", "volume", "shard")),
    (schema.stored_balances, ("total", "reserved")),
    (schema.stored_assets, ("external", "fees")),
    (schema.stored_transfers, ()),
    (schema.stored_controls, ("switch", "changed_at", "until", "limits")),
    (schema.event_users, ()),
    (schema.event_orders, ()),
    (schema.event_batches, ()),
    (schema.journal, ()),
    (schema.audit, ()),
    (schema.symbol_moves, ("state", "admitted_position")),
)
"""What a batch writes besides the engine row, in order, with the columns that are replaced where the row is there already."""


class Head(Struct, frozen=True):
    """Where a shard's history stands: what the compare-and-set compares."""

    epoch: int
    position: int
    chain_hash: bytes


class Change(Struct, frozen=True):
    """A batch on its way into the database: the head that it follows and the head that it makes."""

    shard: int
    before: Head
    after: Head
    batch: Batch


def change_of(shard: int, before: Head, batch: Batch) -> Change:
    """The change that a batch makes to a shard whose head is `before`."""
    after = Head(before.epoch, batch.last_position, chain_hash(before.chain_hash, batch))
    return Change(shard, before, after, batch)


def engine_values(change: Change) -> tuple[Any, ...]:
    """The parameters of the compare-and-set: what the engine row becomes, then what it must be."""
    before, batch = change.before, change.batch
    return (
        batch.last_position,
        batch.time,
        batch.trade_count,
        batch.priority_count,
        msgpack.encode(batch.settings),
        hash_text(batch.state_hash),
        change.after.chain_hash,
        JOURNAL_FORMAT,
        change.shard,
        before.epoch,
        before.position,
        before.chain_hash,
    )


def rows_of(change: Change) -> list[list[Row]]:
    """The rows of a change for each of `sqlite_writes`, in their order."""
    shard, batch = change.shard, change.batch
    last = batch.last_position
    traded = _users_who_traded(batch)
    return [
        order_rows(batch.orders),
        to_builtins(batch.trades),
        instrument_rows(batch.instruments, shard, batch.released),
        position_rows(batch.positions, shard, batch.released),
        balance_rows(batch.balances, shard),
        asset_rows(batch.assets, shard),
        to_builtins(batch.transfers),
        control_rows(batch.controls, shard),
        [(user_id, shard, last, int(user_id in traded)) for user_id in batch.user_ids],
        [(order_id, batch_place(order_id, shard, last)) for order_id in batch.touched_order_ids],
        [(shard, batch.first_position, last, batch.events)],
        [_journal_row(change)],
        to_builtins(batch.audit),
        [structs.astuple(move) for move in batch.moves],
    ]


def batch_place(order_id: int, shard: int, last: int) -> int:
    """What an order's index row has for the batch of `shard` that ends with position `last`: that, where the id is of the same
    shard; else a number that no position reaches and that tells the shard too.
    """
    return last if order_id // SHARD_STEP == shard else make_id(shard + 1, last)


def rows_by_table(change: Change) -> dict[Table, list[Row]]:
    """The rows of a change by the table that they go to; an order's or instrument's row replaces the one before it."""
    return {table: rows for (table, _), rows in zip(_WRITES, rows_of(change), strict=True)}


def order_rows(orders: list[OrderRecord]) -> list[Row]:
    """The rows of `stored_orders` for orders as they stand."""
    return [row if row[-1] is None else [*row[:-1], _json(row[-1])] for row in to_builtins(orders)]


def instrument_rows(instruments: list[InstrumentRecord], shard: int, released: frozenset[str] = frozenset()) -> list[Row]:
    """The rows of `stored_instruments` for a shard's instruments; those that were `released` are on their way."""
    return [
        [*row, _json(rules) if rules else None, IN_TRANSIT if row[0] in released else shard]
        for *row, rules in to_builtins(instruments)
    ]


def position_rows(positions: Sequence[PositionRecord], shard: int, released: frozenset[str] = frozenset()) -> list[Row]:
    """The rows of `stored_positions` for a shard's positions; those in symbols that were `released` are on their way."""
    return [
        (
            *(each.user_id, each.symbol, each.quantity, each.cost, each.realised, each.volume),
            IN_TRANSIT if each.symbol in released else shard,
        )
        for each in positions
    ]


def balance_rows(balances: Sequence[BalanceRecord], shard: int) -> list[Row]:
    """The rows of `stored_balances` for a shard's balances."""
    return [(each.user_id, each.asset, each.total, each.reserved, shard) for each in balances]


def asset_rows(assets: Sequence[AssetRecord], shard: int) -> list[Row]:
    """The rows of `stored_assets` for the venue's accounts of a shard."""
    return [(each.asset, each.external, each.fees, shard) for each in assets]


def control_rows(controls: Sequence[ControlRecord], shard: int) -> list[Row]:
    """The rows of `stored_controls` for a shard's limits, kills and timers."""
    return [[*row, None if limits is None else _json(limits), shard] for *row, limits in to_builtins(list(controls))]


def columns_of(change: Change) -> list[list[Any]]:
    """The rows of a change column by column, table after table: the array parameters of `postgresql_commit`."""
    arrays: list[list[Any]] = []
    for (table, _), rows in zip(_WRITES, rows_of(change), strict=True):
        arrays.extend(map(list, zip(*rows, strict=True)) if rows else ([] for _ in table.columns))
    return arrays


def _json(fields: dict[str, Any]) -> str:
    """Those fields of an order's terms or an instrument's rules that differ from the defaults, as they are stored."""
    return json.encode(fields).decode()


def _journal_row(change: Change) -> Row:
    batch, before = change.batch, change.before
    place = (change.shard, batch.first_position, batch.last_position, before.epoch, batch.time, JOURNAL_FORMAT)
    return (*place, batch.commands, before.chain_hash, change.after.chain_hash)


def _users_who_traded(batch: Batch) -> set[str]:
    """The users of the batch's trades; both orders of a trade have changed, so the batch holds them."""
    if not batch.trades:
        return set()
    users = {order.id: order.user_id for order in batch.orders}
    return {users[order_id] for trade in batch.trades for order_id in (trade.buy_order_id, trade.sell_order_id)}


class Loads(NamedTuple):
    """What recovery reads. The first ten take the shard, the others the lowest id of the shard and of the next one; open
    orders are those in its symbols.

    `journal` gives the newest row first, and only that one is read; `journaled` counts the positions that the journal holds.
    `open_orders_by_level` gives those of a price together, in order of priority; `traders` the price, the quantity, the symbol,
    the buyer and the seller of each trade, oldest first.
    """

    engine: str
    journal: str
    journaled: str
    journal_start: str
    event_batches: str
    instruments: str
    positions: str
    balances: str
    assets: str
    controls: str
    last_trade: str
    trade_count: str
    open_orders: str
    open_orders_by_level: str
    open_order_count: str
    traders: str


def sqlite_writes() -> list[str]:
    """The statements for `rows_of`, one for each table."""
    return [_sqlite_write(table, changes) for table, changes in _WRITES]


def postgresql_commit() -> str:
    """The one statement that commits a change and counts the engine rows that were as expected: 1, or 0 and nothing was written.

    Its parameters are `engine_values`, then `columns_of`.
    """
    head = _compare_and_set().returning(schema.engine.c.shard).cte("head")
    writes = [_postgresql_write(table, changes, head) for table, changes in _WRITES]
    return _sql(select(func.count()).select_from(head).add_cte(*writes), POSTGRESQL)


def compare_and_set(dialect: Dialect) -> str:
    """The compare-and-set alone; its parameters are `engine_values`."""
    return _sql(_compare_and_set(), dialect)


def fence(dialect: Dialect) -> str:
    """One more epoch, or the first where the shard has no row yet: then with the parameters, `first_engine_row`, as its row."""
    statement = (sqlite if dialect is SQLITE else postgresql).insert(schema.engine)
    more = {"epoch": schema.engine.c.epoch + literal_column("1")}
    return _sql(statement.on_conflict_do_update(index_elements=["shard"], set_=more), dialect)


def first_engine_row(shard: int) -> tuple[Any, ...]:
    """The engine row of a shard that has no history yet; its incarnation tells it from every other history, for ever."""
    settings = msgpack.encode(EngineSettings())
    return (shard, 1, secrets.token_hex(16), 0, 0, 0, 0, settings, None, CHAIN_START, JOURNAL_FORMAT)


def head(dialect: Dialect, *, locked: bool = True) -> str:
    """The head of a shard, its parameter; on PostgreSQL under the row's lock (on SQLite a transaction is the lock)."""
    row = schema.engine.c
    query = select(row.epoch, row.position, row.chain_hash).where(_of_shard(schema.engine))
    return _sql(query.with_for_update() if locked else query, dialect)


def loads(dialect: Dialect) -> Loads:
    """The statements of recovery."""
    journal, batches, trades, orders = schema.journal, schema.event_batches, schema.stored_trades, schema.stored_orders
    open_ones = owned_open_orders(dialect)
    return Loads(
        engine=_sql(select(schema.engine).where(_of_shard(schema.engine)), dialect),
        journal=_sql(select(journal).where(_of_shard(journal)).order_by(journal.c.last_position.desc()), dialect),
        event_batches=_sql(select(func.max(batches.c.last_position)).where(_of_shard(batches)), dialect),
        instruments=_sql(select(*list(schema.stored_instruments.c)[:-1]).where(_of_shard(schema.stored_instruments)), dialect),
        positions=_sql(select(*list(schema.stored_positions.c)[:-1]).where(_of_shard(schema.stored_positions)), dialect),
        balances=_sql(select(*list(schema.stored_balances.c)[:-1]).where(_of_shard(schema.stored_balances)), dialect),
        assets=_sql(select(*list(schema.stored_assets.c)[:-1]).where(_of_shard(schema.stored_assets)), dialect),
        controls=_sql(
            select(*list(schema.stored_controls.c)[:-1]).where(_of_shard(schema.stored_controls), _is_on()),
            dialect,
        ),
        last_trade=_sql(select(func.max(trades.c.id)).where(*_between(trades.c.id)), dialect),
        journaled=_sql(
            select(_sum(journal.c.last_position - journal.c.first_position + literal_column("1"))).where(_of_shard(journal)),
            dialect,
        ),
        journal_start=_sql(
            select(journal.c.first_position, journal.c.chain_before, schema.engine_snapshots.c.chain_hash)
            .select_from(journal.outerjoin(schema.engine_snapshots, _snapshot_before(journal)))
            .where(_of_shard(journal))
            .order_by(journal.c.last_position),
            dialect,
        ),
        trade_count=_sql(select(func.count()).select_from(trades).where(*_between(trades.c.id)), dialect),
        open_orders=_sql(select(orders).where(*open_ones), dialect),
        open_orders_by_level=_sql(
            select(orders).where(*open_ones).order_by(orders.c.symbol, orders.c.side, orders.c.price, orders.c.priority), dialect
        ),
        open_order_count=_sql(select(func.count()).select_from(orders).where(*open_ones), dialect),
        traders=_sql(_traders(), dialect),
    )


def owned_open_orders(dialect: Dialect) -> tuple[ColumnElement[bool], ...]:
    """The open orders of the shard whose ids begin with `low`: those in its symbols, whichever shard gave them their ids. Where
    there is only one shard, as on SQLite, all that are open.
    """
    orders, instruments = schema.stored_orders.c, schema.stored_instruments.c
    if dialect is SQLITE:
        # as a sum, so that SQLite doesn't prefer the range of ids, every order there ever was, to the index of the open ones
        return (schema.OPEN, *_between(orders.id + literal_column("0")))
    first_id = cast(instruments.shard, BigInteger) * literal_column(str(SHARD_STEP))
    return (schema.OPEN, orders.symbol.in_(select(instruments.symbol).where(*_between(first_id))))


def _sql(statement: Executable, dialect: Dialect) -> str:
    """The text of a statement, with placeholders in the order in which its parameters were made."""
    return str(statement.compile(dialect=dialect))  # type: ignore[attr-defined]  # every one of ours compiles


def _sum(numbers: ColumnElement[int]) -> ColumnElement[int]:
    """The sum, 0 of nothing, as an integer on both databases."""
    return cast(func.coalesce(func.sum(numbers), literal_column("0")), BigInteger)


def _traders() -> Select[Any]:
    trades, buys, sells = schema.stored_trades, schema.stored_orders.alias("buys"), schema.stored_orders.alias("sells")
    return (
        select(trades.c.price, trades.c.quantity, trades.c.symbol, buys.c.user_id, sells.c.user_id)
        .select_from(trades.join(buys, buys.c.id == trades.c.buy_order_id).join(sells, sells.c.id == trades.c.sell_order_id))
        .where(*_between(trades.c.id))
        .order_by(trades.c.id)
    )


def _is_on() -> ColumnElement[bool]:
    return schema.stored_controls.c.switch == literal_column(str(int(Switch.ON)), SmallInteger)


def _snapshot_before(journal: Table) -> ColumnElement[bool]:
    """The engine snapshot that a row of the journal follows."""
    snapshot = schema.engine_snapshots.c
    return and_(snapshot.shard == journal.c.shard, snapshot.position == journal.c.first_position - literal_column("1"))


def _of_shard(table: Table) -> ColumnElement[bool]:
    return table.c.shard == bindparam("shard", type_=Integer)


def _between(identity: ColumnElement[int]) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    low, high = bindparam("low", type_=BigInteger), bindparam("high", type_=BigInteger)
    return (identity >= low, identity < high)


def _compare_and_set() -> Any:
    row = schema.engine.c
    changed = ("position", "time", "trade_count", "priority_count", "settings", "state_hash", "chain_hash", "journal_format")
    expected = ("shard", "epoch", "position", "chain_hash")
    return (
        update(schema.engine)
        .values({row[name]: bindparam(f"new_{name}", type_=row[name].type) for name in changed})
        .where(*(row[name] == bindparam(f"old_{name}", type_=row[name].type) for name in expected))
    )


def _sqlite_write(table: Table, changes: Sequence[str]) -> str:
    statement = sqlite.insert(table)
    if changes:
        replaced = {name: statement.excluded[name] for name in changes}
        statement = statement.on_conflict_do_update(index_elements=list(table.primary_key), set_=replaced)
    return _sql(statement, SQLITE)


def _postgresql_write(table: Table, changes: Sequence[str], head: CTE) -> CTE:
    names = [each.name for each in table.columns]
    rows = (
        func.unnest(*(bindparam(f"{table.name}_{each.name}", type_=postgresql.ARRAY(each.type)) for each in table.columns))
        .table_valued(*(column(each.name, each.type) for each in table.columns), name=f"new_{table.name}")
        .render_derived()
    )
    source = select(*(rows.c[name] for name in names)).select_from(head.join(rows, true()))
    statement = postgresql.insert(table).from_select(names, source)
    if changes:
        replaced = {name: statement.excluded[name] for name in changes}
        statement = statement.on_conflict_do_update(index_elements=list(table.primary_key), set_=replaced)
    return statement.cte(f"put_{table.name}")
