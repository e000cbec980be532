"""What is derived from batches and kept beside them: candles, book snapshots, engine snapshots, and how far each has come."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the tables, empty: candles of older trades are made up for by whoever keeps them."""
    op.create_table(
        "stored_candles",
        sa.Column("symbol", sa.Text, nullable=False),
        sa.Column("seconds", sa.Integer, nullable=False),
        *(sa.Column(name, BIG, nullable=False) for name in ("open_time", "open", "high", "low", "close")),
        sa.Column("volume", sa.Text, nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.Column("trades", BIG, nullable=False),
        sa.Column("sequence", BIG, nullable=False),
        sa.PrimaryKeyConstraint("symbol", "seconds", "open_time"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "book_snapshots",
        sa.Column("symbol", sa.Text, nullable=False),
        *(sa.Column(name, BIG, nullable=False) for name in ("sequence", "position", "time")),
        *(sa.Column(name, sa.LargeBinary, nullable=False) for name in ("bids", "asks")),
        sa.PrimaryKeyConstraint("symbol", "sequence"),
    )
    op.create_table(
        "archive_marks",
        sa.Column("shard", sa.Integer, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("value", BIG, nullable=False),
        sa.PrimaryKeyConstraint("shard", "name"),
    )
    _engine_snapshots()


def _engine_snapshots() -> None:
    op.create_table(
        "engine_snapshots",
        sa.Column("shard", sa.Integer, nullable=False),
        *(sa.Column(name, BIG, nullable=False) for name in ("position", "time", "trade_count", "priority_count")),
        sa.Column("settings", sa.LargeBinary, nullable=False),
        sa.Column("state_hash", sa.Text, nullable=False),
        sa.Column("chain_hash", sa.LargeBinary, nullable=False),
        sa.Column("journal_format", sa.Integer, nullable=False),
        sa.Column("instruments", sa.LargeBinary, nullable=False),
        sa.Column("orders", BIG, nullable=False),
        sa.PrimaryKeyConstraint("shard", "position"),
    )
    op.create_table(
        "engine_snapshot_orders",
        sa.Column("shard", sa.Integer, nullable=False),
        sa.Column("position", BIG, nullable=False),
        sa.Column("part", sa.Integer, nullable=False),
        sa.Column("orders", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("shard", "position", "part"),
    )


def downgrade() -> None:
    """Drop them; they can be made again."""
    for table in ("engine_snapshot_orders", "engine_snapshots", "archive_marks", "book_snapshots", "stored_candles"):
        op.drop_table(table)
