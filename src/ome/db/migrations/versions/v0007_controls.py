"""Limits, kill switches and dead-man timers, and room for them in snapshots of the engine."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the table; nobody is limited, and a snapshot from before knows of no limit."""
    op.create_table(
        "stored_controls",
        sa.Column("kind", sa.SmallInteger, nullable=False),
        sa.Column("user_id", sa.Text, nullable=False),
        sa.Column("symbol", sa.Text, nullable=False),
        sa.Column("switch", sa.SmallInteger, nullable=False),
        sa.Column("changed_at", BIG, nullable=False),
        sa.Column("until", BIG, nullable=True),
        sa.Column("limits", sa.Text, nullable=True),
        sa.Column("shard", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("kind", "user_id", "symbol", "shard"),
    )
    op.add_column("engine_snapshots", sa.Column("controls", sa.LargeBinary, nullable=True))


def downgrade() -> None:
    """Drop them, and with them every limit."""
    op.drop_column("engine_snapshots", "controls")
    op.drop_table("stored_controls")
