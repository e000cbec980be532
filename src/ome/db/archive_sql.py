"""The SQL of what is kept beside the batches: candles, snapshots of books and of the engine, and what they are made from."""

from __future__ import annotations

from functools import cache
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    BigInteger,
    BindParameter,
    Dialect,
    Integer,
    Select,
    Table,
    Text,
    bindparam,
    delete,
    func,
    literal_column,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite

from ome.db.queries import Query
from ome.db.schema import (
    archive_marks,
    book_snapshots,
    engine,
    engine_snapshot_orders,
    engine_snapshots,
    journal,
    stored_assets,
    stored_balances,
    stored_candles,
    stored_controls,
    stored_instruments,
    stored_orders,
    stored_positions,
    stored_trades,
)
from ome.db.statements import SQLITE, owned_open_orders

CANDLE_CHANGES: Final = ("high", "low", "close", "volume", "value", "trades", "sequence")
"""What a later trade changes of a candle."""


class SnapshotSources(NamedTuple):
    """What an engine snapshot is made from. Those up to `assets` take the shard, `open_orders` (how many) and
    `orders` the lowest id of the shard and of the next one.
    """

    engine: str
    newest: str
    instruments: str
    positions: str
    balances: str
    assets: str
    controls: str
    open_orders: str
    orders: str


@cache
def snapshot_sources(dialect: Dialect) -> SnapshotSources:
    """See `SnapshotSources`."""
    of_shard = owned_open_orders(dialect)
    statements = (
        select(engine).where(engine.c.shard == _int("shard")),
        select(func.max(engine_snapshots.c.position)).where(engine_snapshots.c.shard == _int("shard")),
        select(*list(stored_instruments.c)[:-1]).where(stored_instruments.c.shard == _int("shard")),
        select(*list(stored_positions.c)[:-1]).where(stored_positions.c.shard == _int("shard")),
        select(*list(stored_balances.c)[:-1]).where(stored_balances.c.shard == _int("shard")),
        select(*list(stored_assets.c)[:-1]).where(stored_assets.c.shard == _int("shard")),
        select(*list(stored_controls.c)[:-1]).where(stored_controls.c.shard == _int("shard")),
        select(func.count()).select_from(stored_orders).where(*of_shard),
        select(stored_orders).where(*of_shard),
    )
    return SnapshotSources(*(str(statement.compile(dialect=dialect)) for statement in statements))


@cache
def put(dialect: Dialect, table: Table, changes: tuple[str, ...] = ()) -> str:
    """Insert a row of `table`, one parameter a column; where its key is there already replace `changes`, if any."""
    statement = (sqlite if dialect is SQLITE else postgresql).insert(table)
    key = list(table.primary_key)
    if changes:
        statement = statement.on_conflict_do_update(index_elements=key, set_={name: statement.excluded[name] for name in changes})
    else:
        statement = statement.on_conflict_do_nothing(index_elements=key)
    return str(statement.compile(dialect=dialect))


@cache
def move_mark(dialect: Dialect) -> str:
    """Put a mark (shard, name, value) where there is none, or in the place of the value that is the last parameter."""
    statement = (sqlite if dialect is SQLITE else postgresql).insert(archive_marks)
    moved = statement.on_conflict_do_update(
        index_elements=["shard", "name"],
        set_={"value": statement.excluded.value},
        where=archive_marks.c.value == _big("old"),
    )
    return str(moved.compile(dialect=dialect))


@cache
def mark(dialect: Dialect) -> Query:
    """The value of the mark `name` of `shard`, or no row."""
    table = archive_marks.c
    return _query(dialect, select(table.value).where(table.shard == _int("shard"), table.name == _text("name")))


@cache
def trades_after(dialect: Dialect, *, symbol: bool) -> Query:
    """At most `limit` trades with an id above `after` and below `high`, of a `symbol`, oldest first."""
    table = stored_trades.c
    query = select(stored_trades).where(table.id > _big("after"), table.id < _big("high"))
    if symbol:
        query = query.where(table.symbol == _text("symbol"))
    return _query(dialect, query.order_by(table.id).limit(_int("limit")))


@cache
def candle(dialect: Dialect) -> Query:
    """The candle of `symbol` of `seconds` from `open_time` on."""
    table = stored_candles.c
    query = select(stored_candles).where(table.symbol == _text("symbol"), table.seconds == _int("seconds"))
    return _query(dialect, query.where(table.open_time == _big("open_time")))


@cache
def candles(dialect: Dialect, *, newest: bool) -> Query:
    """At most `limit` candles of `symbol` of `seconds` that open from `start` on and before `end`; from the oldest, or the
    newest on.
    """
    table = stored_candles.c
    query = select(stored_candles).where(table.symbol == _text("symbol"), table.seconds == _int("seconds"))
    query = query.where(table.open_time >= _big("start"), table.open_time < _big("end"))
    return _query(dialect, query.order_by(table.open_time.desc() if newest else table.open_time).limit(_int("limit")))


@cache
def books(dialect: Dialect) -> Query:
    """At most `limit` snapshots of the book of `symbol` with a sequence below `before`, newest first."""
    table = book_snapshots.c
    query = select(book_snapshots).where(table.symbol == _text("symbol"), table.sequence < _big("before"))
    return _query(dialect, query.order_by(table.sequence.desc()).limit(_int("limit")))


@cache
def position_of_book_after(dialect: Dialect) -> Query:
    """The position of the oldest snapshot of the book of `symbol` with a sequence above `sequence`."""
    table = book_snapshots.c
    query = select(table.position).where(table.symbol == _text("symbol"), table.sequence > _big("sequence"))
    return _query(dialect, query.order_by(table.sequence).limit(1))


@cache
def engine_snapshot(dialect: Dialect, *, by: str) -> Query:
    """The newest engine snapshot of `shard` whose `position` or `time` (that is `by`) isn't above `most`."""
    table = engine_snapshots.c
    query = select(engine_snapshots).where(table.shard == _int("shard"), table[by] <= _big("most"))
    return _query(dialect, query.order_by(table.position.desc()).limit(1))


@cache
def engine_snapshot_part(dialect: Dialect) -> Query:
    """The orders in `part` of the engine snapshot of `shard` at `position`."""
    table = engine_snapshot_orders.c
    query = select(table.orders).where(table.shard == _int("shard"), table.position == _big("position"))
    return _query(dialect, query.where(table.part == _int("part")))


@cache
def journal_after(dialect: Dialect) -> Query:
    """At most `limit` (first position, last position, commands) of `shard` that end above `after`, oldest first."""
    table = journal.c
    query = select(table.first_position, table.last_position, table.commands)
    query = query.where(table.shard == _int("shard"), table.last_position > _big("after"))
    return _query(dialect, query.order_by(table.last_position).limit(_int("limit")))


@cache
def journal_begins(dialect: Dialect) -> Query:
    """The first position that the journal of `shard` holds, NULL where it is empty."""
    table = journal.c
    return _query(dialect, select(func.min(table.first_position)).where(table.shard == _int("shard")))


@cache
def newest_snapshot(dialect: Dialect) -> Query:
    """(position, chain hash) of the newest engine snapshot of `shard` that is of no later time than `time`."""
    table = engine_snapshots.c
    query = select(table.position, table.chain_hash).where(table.shard == _int("shard"), table.time <= _big("time"))
    return _query(dialect, query.order_by(table.position.desc()).limit(1))


@cache
def chain_at(dialect: Dialect) -> Query:
    """The chain hash of the batch of `shard` that ends at `position`."""
    table = journal.c
    return _query(dialect, select(table.chain_hash).where(table.shard == _int("shard"), table.last_position == _big("position")))


@cache
def trim(dialect: Dialect, what: str) -> str:
    """Delete what is older than asked for; the parameters are the names in this order: the `journal` of a shard up to a position,
    `engine_snapshots` and their `engine_snapshot_orders` of a shard before a position, `book_snapshots` before a time, and
    `stored_candles` of a length before a time.
    """
    shard = _int("shard")
    statements = {
        "journal": delete(journal).where(journal.c.shard == shard, journal.c.last_position <= _big("position")),
        **{
            table.name: delete(table).where(table.c.shard == shard, table.c.position < _big("position"))
            for table in (engine_snapshots, engine_snapshot_orders)
        },
        "book_snapshots": delete(book_snapshots).where(book_snapshots.c.time < _big("time")),
        "stored_candles": delete(stored_candles).where(
            stored_candles.c.seconds == _int("seconds"), stored_candles.c.open_time < _big("time")
        ),
    }
    compiled: Any = statements[what].compile(dialect=dialect)
    return str(compiled)


@cache
def any_older(dialect: Dialect, what: str) -> Query:
    """A row where `trim` of `book_snapshots` or `stored_candles` would delete something."""
    table = stored_candles if what == "stored_candles" else book_snapshots
    query: Select[Any] = select(literal_column("1")).select_from(table)
    if table is stored_candles:
        query = query.where(table.c.seconds == _int("seconds"), table.c.open_time < _big("time"))
    else:
        query = query.where(table.c.time < _big("time"))
    return _query(dialect, query.limit(1))


def _query(dialect: Dialect, query: Select[Any]) -> Query:
    compiled: Any = query.compile(dialect=dialect)  # an SQLCompiler, whose attributes these are
    return Query(str(compiled), tuple(compiled.positiontup), dict(compiled.params))


def _big(name: str) -> BindParameter[int]:
    return bindparam(name, type_=BigInteger)


def _int(name: str) -> BindParameter[int]:
    return bindparam(name, type_=Integer)


def _text(name: str) -> BindParameter[str]:
    return bindparam(name, type_=Text)
