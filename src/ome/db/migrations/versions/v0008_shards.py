"""How many shards there are, what the cluster is called, and which symbols were put on a shard: see `ome.db.shard_map`."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the tables; without a row there is one shard, and one process serves it."""
    op.create_table(
        "cluster",
        sa.Column("id", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("shards", sa.Integer, nullable=False),
        sa.Column("version", BIG, nullable=False),
    )
    op.create_table(
        "shard_map",
        sa.Column("symbol", sa.Text, primary_key=True),
        sa.Column("shard", sa.Integer, nullable=False),
        sa.Column("target", sa.Integer, nullable=True),
    )


def downgrade() -> None:
    """One process serves the one shard again; there must not be another one."""
    op.drop_table("shard_map")
    op.drop_table("cluster")
