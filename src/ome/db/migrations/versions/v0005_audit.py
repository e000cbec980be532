"""The audit trail: what operators did, and what happened to keys."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the table, empty: before this there were no such commands."""
    op.create_table(
        "audit",
        sa.Column("shard", sa.Integer, nullable=False),
        *(sa.Column(name, BIG, nullable=False) for name in ("position", "time")),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("actor", "action", "subject", "detail")),
        sa.PrimaryKeyConstraint("shard", "position"),
    )
    op.create_index("ix_audit_action", "audit", ["action", "position"])


def downgrade() -> None:
    """Drop it; the commands stay in the journal."""
    op.drop_table("audit")
