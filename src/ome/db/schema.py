"""The tables, for SQLite and PostgreSQL alike. The migrations make them; a test compares the two.

Prices and quantities are packed as in `domain.numbers`, times are microseconds since 1970 UTC, words are the numbers of
`domain.enums`. What few rows have (an order's special terms, an instrument's rules) is one column of JSON with what differs from
the defaults, NULL where there is none. People read the views `orders`, `trades`, `instruments`, `positions`, `balances` and
`transfers`, which show the same rows in human units.

- engine: one row per shard, the compare-and-set row: place, hashes and settings after the last batch
- stored_orders: an order as it stands; by id, by user, by user and client id, the open ones by user,
  and by symbol, side and price in order of priority: the queue of each level
- stored_trades: by id, by symbol
- stored_instruments: the listed symbols
- stored_positions: what each user holds of each symbol, in decimal text
- stored_balances, stored_assets: what each user, and the venue, has of each asset, in decimal text
- stored_transfers: every deposit and withdrawal; by id, by user and client id
- stored_controls: limits, kill switches and dead-man timers as they stand, lifted ones too
- cluster: one row where there is more than one process: how many shards there are; shard_map: which symbols were put on one
- symbol_moves: which symbols went from which shard to which, with what was handed over while it is on its way; their instrument
  and positions are of shard -1 then
- lease: on PostgreSQL one row per shard, who holds it and when the holder last said so
- journal: one row per batch, its commands, chained
- event_batches: one row per batch, its events
- event_users: which batches have an event of a user; `traded` says whether one of them is a trade
- event_orders: which batches, after the one that it came in with, have an event of an order. That first one needs no row: it
  holds the order's position, `id % 10**15`. A batch of another shard than the id's (the symbol was moved) has its `last_position`
  plus (shard + 1) * 10**15 there: see `batch_place`
- audit: what operators did and what happened to keys, by position, and by action; each row is a command of the journal
- stored_candles: trades added up, by symbol, length and time
- book_snapshots: the levels of a book now and then, by symbol and sequence
- engine_snapshots, engine_snapshot_orders: all that an engine knew after a batch, its open orders in parts: where a replay of
  the journal can start
- archive_marks: how far each kind of derived row has come; candles: the id of the last trade in them; what was trimmed: the time
  from before which it was

The last five are derived, written beside the batches.

The batch that holds a position is the one with the smallest `last_position` that is not below it. Blobs stand apart from the
index rows, so that looking one up reads no blob.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnClause,
    DateTime,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    literal_column,
)
from sqlalchemy.schema import SchemaItem

metadata: Final = MetaData()

_BIG: Final = BigInteger().with_variant(Integer(), "sqlite")
OPEN: Final[ColumnClause[bool]] = literal_column("status <= 2")
"""The open orders, written as the partial indexes have it: SQLite uses them only for the same words."""


def _id(name: str) -> Column[int]:
    return Column(name, _BIG, primary_key=True, autoincrement=False)


def _big(name: str, *, null: bool = False) -> Column[int]:
    return Column(name, _BIG, nullable=null)


def _small(name: str, *, null: bool = False) -> Column[int]:
    return Column(name, SmallInteger, nullable=null)


def _text(name: str, *, null: bool = False) -> Column[str]:
    return Column(name, Text, nullable=null)


def _bytes(name: str) -> Column[bytes]:
    return Column(name, LargeBinary, nullable=False)


def _shard(*, key: bool = True) -> SchemaItem:
    return Column("shard", Integer, primary_key=key, nullable=False, autoincrement=False)


engine: Final = Table(
    "engine",
    metadata,
    _shard(),
    _big("epoch"),
    _text("incarnation"),
    _big("position"),
    _big("time"),
    _big("trade_count"),
    _big("priority_count"),
    _bytes("settings"),
    _text("state_hash", null=True),
    _bytes("chain_hash"),
    Column("journal_format", Integer, nullable=False),
)

lease: Final = Table("lease", metadata, _shard(), _text("holder"), Column("renewed_at", DateTime(timezone=True), nullable=False))

cluster: Final = Table(
    "cluster",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False),
    _text("name"),
    Column("shards", Integer, nullable=False),
    _big("version"),
)

shard_map: Final = Table(
    "shard_map",
    metadata,
    Column("symbol", Text, primary_key=True),
    _shard(key=False),
    Column("target", Integer, nullable=True),
)

stored_orders: Final = Table(
    "stored_orders",
    metadata,
    _id("id"),
    _text("user_id"),
    _text("symbol"),
    _small("side"),
    _small("type"),
    _small("time_in_force"),
    _big("quantity"),
    _big("price", null=True),
    _big("filled_quantity"),
    _text("filled_value"),
    _big("remaining_quantity"),
    _small("status"),
    _small("reason", null=True),
    Column("version", Integer, nullable=False),
    _big("priority"),
    _small("self_trade_prevention"),
    _text("client_order_id", null=True),
    _big("expires_at", null=True),
    _big("created_at"),
    _big("updated_at"),
    _text("terms", null=True),
    Index("ix_orders_user", "user_id", "id"),
    Index("ix_orders_open_user", "user_id", "id", sqlite_where=OPEN, postgresql_where=OPEN),
    Index("ix_orders_open_level", "symbol", "side", "price", "priority", sqlite_where=OPEN, postgresql_where=OPEN),
    Index(
        "uq_orders_client_id",
        "user_id",
        "client_order_id",
        "symbol",
        unique=True,
        sqlite_where=literal_column("client_order_id IS NOT NULL"),
        postgresql_where=literal_column("client_order_id IS NOT NULL"),
    ),
)

stored_trades: Final = Table(
    "stored_trades",
    metadata,
    _id("id"),
    _text("symbol"),
    _big("price"),
    _big("quantity"),
    _big("buy_order_id"),
    _big("sell_order_id"),
    _small("taker_side", null=True),
    _big("executed_at"),
    _big("sequence"),
    _big("position"),
    Index("ix_trades_symbol", "symbol", "id"),
)

stored_instruments: Final = Table(
    "stored_instruments",
    metadata,
    Column("symbol", Text, primary_key=True),
    _big("tick_size"),
    _big("lot_size"),
    _small("state"),
    _big("sequence"),
    _big("last_price", null=True),
    _big("last_quantity", null=True),
    _big("last_trade_at", null=True),
    _big("listed_at"),
    _text("rules", null=True),
    _shard(key=False),
)

stored_positions: Final = Table(
    "stored_positions",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("symbol", Text, primary_key=True),
    _text("quantity"),
    _text("cost"),
    _text("realised"),
    _text("volume"),
    _shard(key=False),
    sqlite_with_rowid=False,
)

stored_balances: Final = Table(
    "stored_balances",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("asset", Text, primary_key=True),
    _text("total"),
    _text("reserved"),
    _shard(),
)

stored_assets: Final = Table(
    "stored_assets",
    metadata,
    Column("asset", Text, primary_key=True),
    _text("external"),
    _text("fees"),
    _shard(),
)

stored_transfers: Final = Table(
    "stored_transfers",
    metadata,
    _id("id"),
    _small("kind"),
    _text("user_id"),
    _text("asset"),
    _big("amount"),
    _text("client_transfer_id"),
    _big("created_at"),
    Index("uq_transfers_client_id", "user_id", "client_transfer_id", unique=True),
)

stored_controls: Final = Table(
    "stored_controls",
    metadata,
    Column("kind", SmallInteger, primary_key=True, autoincrement=False),
    Column("user_id", Text, primary_key=True),
    Column("symbol", Text, primary_key=True),
    _small("switch"),
    _big("changed_at"),
    _big("until", null=True),
    _text("limits", null=True),
    _shard(),
)

symbol_moves: Final = Table(
    "symbol_moves",
    metadata,
    _shard(),
    _id("position"),
    _text("symbol"),
    Column("target", Integer, nullable=False),
    _big("time"),
    _text("state_hash"),
    Column("state", LargeBinary, nullable=True),
    _big("admitted_position", null=True),
)

journal: Final = Table(
    "journal",
    metadata,
    _shard(),
    _big("first_position"),
    _id("last_position"),
    _big("epoch"),
    _big("time"),
    Column("journal_format", Integer, nullable=False),
    _bytes("commands"),
    _bytes("chain_before"),
    _bytes("chain_hash"),
)

event_batches: Final = Table(
    "event_batches",
    metadata,
    _shard(),
    _big("first_position"),
    _id("last_position"),
    _bytes("events"),
)

event_users: Final = Table(
    "event_users",
    metadata,
    Column("user_id", Text, primary_key=True),
    _shard(),
    _id("last_position"),
    _small("traded"),
    sqlite_with_rowid=False,
)

event_orders: Final = Table(
    "event_orders",
    metadata,
    _id("order_id"),
    _id("last_position"),
    sqlite_with_rowid=False,
)

audit: Final = Table(
    "audit",
    metadata,
    _shard(),
    _id("position"),
    _big("time"),
    _text("actor"),
    _text("action"),
    _text("subject"),
    _text("detail"),
    Index("ix_audit_action", "action", "position"),
)

stored_candles: Final = Table(
    "stored_candles",
    metadata,
    Column("symbol", Text, primary_key=True),
    Column("seconds", Integer, primary_key=True, autoincrement=False),
    _id("open_time"),
    _big("open"),
    _big("high"),
    _big("low"),
    _big("close"),
    _text("volume"),
    _text("value"),
    _big("trades"),
    _big("sequence"),
    sqlite_with_rowid=False,
)

book_snapshots: Final = Table(
    "book_snapshots",
    metadata,
    Column("symbol", Text, primary_key=True),
    _id("sequence"),
    _big("position"),
    _big("time"),
    _bytes("bids"),
    _bytes("asks"),
)

archive_marks: Final = Table(
    "archive_marks",
    metadata,
    _shard(),
    Column("name", Text, primary_key=True),
    _big("value"),
)

engine_snapshots: Final = Table(
    "engine_snapshots",
    metadata,
    _shard(),
    _id("position"),
    _big("time"),
    _big("trade_count"),
    _big("priority_count"),
    _bytes("settings"),
    _text("state_hash"),
    _bytes("chain_hash"),
    Column("journal_format", Integer, nullable=False),
    _bytes("instruments"),
    _big("orders"),
    Column("positions", LargeBinary, nullable=True),
    Column("funds", LargeBinary, nullable=True),
    Column("controls", LargeBinary, nullable=True),
)

engine_snapshot_orders: Final = Table(
    "engine_snapshot_orders",
    metadata,
    _shard(),
    _id("position"),
    Column("part", Integer, primary_key=True, autoincrement=False),
    _bytes("orders"),
)
