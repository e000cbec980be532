"""Symbols that were moved from one shard to another: what was handed over, until it has arrived, and its hash for ever."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the table; no symbol has ever moved."""
    op.create_table(
        "symbol_moves",
        sa.Column("shard", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("position", BIG, nullable=False, autoincrement=False),
        sa.Column("symbol", sa.Text, nullable=False),
        sa.Column("target", sa.Integer, nullable=False),
        sa.Column("time", BIG, nullable=False),
        sa.Column("state_hash", sa.Text, nullable=False),
        sa.Column("state", sa.LargeBinary, nullable=True),
        sa.Column("admitted_position", BIG, nullable=True),
        sa.PrimaryKeyConstraint("shard", "position"),
    )


def downgrade() -> None:
    """Drop it; no symbol may be on its way."""
    op.drop_table("symbol_moves")
