"""The first schema: engine, orders, trades, instruments, journal and events, and the views that people read.

The words of the views are those of the enums when this revision was made; a test says so as soon as an enum has grown.
"""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_Type = sa.types.TypeEngine[Any] | type[sa.types.TypeEngine[Any]]
BIG: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
SIDES: Final = ("BUY", "SELL")
STATUSES: Final = ("PENDING", "PARTIALLY_FILLED", "PENDING_TRIGGER", "FILLED", "CANCELLED", "EXPIRED", "REJECTED")
STATES: Final = ("OPEN", "POST_ONLY", "CANCEL_ONLY", "HALTED", "AUCTION")


def upgrade() -> None:
    """Make everything."""
    _engine_and_journal()
    _orders()
    _trades_and_instruments()
    _events()
    for view in _views(op.get_bind().dialect.name):
        op.execute(view)


def downgrade() -> None:
    """There is nothing before the first revision; going back would destroy orders."""
    raise NotImplementedError("the first revision can't be undone: drop the database instead")


def _column(name: str, kind: _Type, *, null: bool = False) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=null)


def _engine_and_journal() -> None:
    op.create_table(
        "engine",
        sa.Column("shard", sa.Integer, primary_key=True, autoincrement=False),
        _column("epoch", BIG),
        _column("incarnation", sa.Text),
        _column("position", BIG),
        _column("time", BIG),
        _column("trade_count", BIG),
        _column("priority_count", BIG),
        _column("settings", sa.LargeBinary),
        _column("state_hash", sa.Text, null=True),
        _column("chain_hash", sa.LargeBinary),
        _column("journal_format", sa.Integer),
    )
    op.create_table(
        "journal",
        _column("shard", sa.Integer),
        _column("first_position", BIG),
        _column("last_position", BIG),
        _column("epoch", BIG),
        _column("time", BIG),
        _column("journal_format", sa.Integer),
        _column("commands", sa.LargeBinary),
        _column("chain_before", sa.LargeBinary),
        _column("chain_hash", sa.LargeBinary),
        sa.PrimaryKeyConstraint("shard", "last_position"),
    )


def _orders() -> None:
    op.create_table(
        "stored_orders",
        sa.Column("id", BIG, primary_key=True, autoincrement=False),
        _column("user_id", sa.Text),
        _column("symbol", sa.Text),
        _column("side", sa.SmallInteger),
        _column("type", sa.SmallInteger),
        _column("time_in_force", sa.SmallInteger),
        _column("quantity", BIG),
        _column("price", BIG, null=True),
        _column("filled_quantity", BIG),
        _column("filled_value", sa.Text),
        _column("remaining_quantity", BIG),
        _column("status", sa.SmallInteger),
        _column("reason", sa.SmallInteger, null=True),
        _column("version", sa.Integer),
        _column("priority", BIG),
        _column("self_trade_prevention", sa.SmallInteger),
        _column("client_order_id", sa.Text, null=True),
        _column("expires_at", BIG, null=True),
        _column("created_at", BIG),
        _column("updated_at", BIG),
        _column("terms", sa.Text, null=True),
    )
    is_open, has_client_id = sa.text("status <= 2"), sa.text("client_order_id IS NOT NULL")
    op.create_index("ix_orders_user", "stored_orders", ["user_id", "id"])
    op.create_index("ix_orders_open_user", "stored_orders", ["user_id", "id"], sqlite_where=is_open, postgresql_where=is_open)
    op.create_index(
        "ix_orders_open_level",
        "stored_orders",
        ["symbol", "side", "price", "priority"],
        sqlite_where=is_open,
        postgresql_where=is_open,
    )
    op.create_index(
        "uq_orders_client_id",
        "stored_orders",
        ["user_id", "client_order_id", "symbol"],
        unique=True,
        sqlite_where=has_client_id,
        postgresql_where=has_client_id,
    )


def _trades_and_instruments() -> None:
    op.create_table(
        "stored_trades",
        sa.Column("id", BIG, primary_key=True, autoincrement=False),
        _column("symbol", sa.Text),
        _column("price", BIG),
        _column("quantity", BIG),
        _column("buy_order_id", BIG),
        _column("sell_order_id", BIG),
        _column("taker_side", sa.SmallInteger, null=True),
        _column("executed_at", BIG),
        _column("sequence", BIG),
        _column("position", BIG),
    )
    op.create_index("ix_trades_symbol", "stored_trades", ["symbol", "id"])
    op.create_table(
        "stored_instruments",
        sa.Column("symbol", sa.Text, primary_key=True),
        _column("tick_size", BIG),
        _column("lot_size", BIG),
        _column("state", sa.SmallInteger),
        _column("sequence", BIG),
        _column("last_price", BIG, null=True),
        _column("last_quantity", BIG, null=True),
        _column("last_trade_at", BIG, null=True),
        _column("listed_at", BIG),
        _column("rules", sa.Text, null=True),
        _column("shard", sa.Integer),
    )


def _events() -> None:
    op.create_table(
        "event_batches",
        _column("shard", sa.Integer),
        _column("first_position", BIG),
        _column("last_position", BIG),
        _column("events", sa.LargeBinary),
        sa.PrimaryKeyConstraint("shard", "last_position"),
    )
    op.create_table(
        "event_users",
        _column("user_id", sa.Text),
        _column("shard", sa.Integer),
        _column("last_position", BIG),
        _column("traded", sa.SmallInteger),
        sa.PrimaryKeyConstraint("user_id", "shard", "last_position"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "event_orders",
        _column("order_id", BIG),
        _column("last_position", BIG),
        sa.PrimaryKeyConstraint("order_id", "last_position"),
        sqlite_with_rowid=False,
    )


def _words(column: str, words: tuple[str, ...]) -> str:
    cases = " ".join(f"WHEN {number} THEN '{word}'" for number, word in enumerate(words))
    return f"CASE {column} {cases} END AS {column}"


def _sqlite_number(column: str) -> str:
    """The exact text of a packed number: the mantissa's digits with the point put in; NULL stays NULL."""
    digits = f"printf('%0*d', {column} % 10 + 1, {column} / 10)"
    whole = f"substr({digits}, 1, length({digits}) - {column} % 10)"
    point = f"{whole} || '.' || substr({digits}, -({column} % 10))"
    return f"CASE WHEN {column} % 10 > 0 THEN {point} ELSE CAST({column} / 10 AS TEXT) END AS {column}"


def _sqlite_time(column: str) -> str:
    return f"strftime('%Y-%m-%dT%H:%M:%S', {column} / 1000000, 'unixepoch') || printf('.%06dZ', {column} % 1000000) AS {column}"


def _postgresql_number(column: str) -> str:
    """A numeric with the number's own decimals: a product has the scales of both factors."""
    steps = ", ".join("1" if not decimals else f"0.{'1'.rjust(decimals, '0')}" for decimals in range(10))
    return f"({column} / 10)::numeric * (ARRAY[{steps}]::numeric[])[{column} % 10 + 1] AS {column}"


def _postgresql_time(column: str) -> str:
    """Seconds and microseconds apart: each is exact as the double that an interval is multiplied by."""
    seconds = f"({column} / 1000000) * interval '1 second'"
    return f"timestamptz 'epoch' + {seconds} + ({column} % 1000000) * interval '1 microsecond' AS {column}"


def _views(dialect: str) -> list[str]:
    number, time = (_sqlite_number, _sqlite_time) if dialect == "sqlite" else (_postgresql_number, _postgresql_time)
    orders = [
        "id",
        "user_id",
        "symbol",
        _words("side", SIDES),
        number("quantity"),
        number("price"),
        _words("status", STATUSES),
        number("filled_quantity"),
        time("created_at"),
        time("updated_at"),
    ]
    trades = ["id", "buy_order_id", "sell_order_id", "symbol", number("quantity"), number("price"), time("executed_at")]
    instruments = [
        "symbol",
        number("tick_size"),
        number("lot_size"),
        _words("state", STATES),
        number("last_price"),
        number("last_quantity"),
        time("last_trade_at"),
        time("listed_at"),
    ]
    views = {"orders": orders, "trades": trades, "instruments": instruments}
    return [f"CREATE VIEW {name} AS SELECT {', '.join(columns)} FROM stored_{name}" for name, columns in views.items()]  # noqa: S608  our own words
