"""What each user holds of each symbol, the view of it that people read, and room for it in snapshots of the engine.

The table stays empty here: positions of trades that are there already are made by the first start, under the fence.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

TEXTS: Final = ("quantity", "cost", "realised", "volume")


def upgrade() -> None:
    """Make the table and the view; a snapshot from before has no positions."""
    op.create_table(
        "stored_positions",
        *(sa.Column(name, sa.Text, nullable=False) for name in ("user_id", "symbol", *TEXTS)),
        sa.Column("shard", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("user_id", "symbol"),
        sqlite_with_rowid=False,
    )
    op.add_column("engine_snapshots", sa.Column("positions", sa.LargeBinary, nullable=True))
    cast = "::numeric" if op.get_bind().dialect.name == "postgresql" else ""
    columns = ", ".join(("user_id", "symbol", *(f"{name}{cast} AS {name}" for name in TEXTS)))
    op.execute(f"CREATE VIEW positions AS SELECT {columns} FROM stored_positions")  # noqa: S608  our own words


def downgrade() -> None:
    """Drop them; the trades that they are made of stay."""
    op.execute("DROP VIEW positions")
    op.drop_column("engine_snapshots", "positions")
    op.drop_table("stored_positions")
