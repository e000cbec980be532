"""Who holds each shard, and since when it has said nothing: see `ome.db.lease`. Empty on SQLite, whose lock file is enough."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "lease",
        sa.Column("shard", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("renewed_at", sa.DateTime(timezone=True), nullable=False),
    )


def downgrade() -> None:
    """Without it a holder that says nothing is never taken for gone."""
    op.drop_table("lease")
