"""What users and the venue have of each asset, every transfer, the views of them that people read, and room in snapshots.

The words of the views are those of the enums when this revision was made; a test says so as soon as an enum has grown.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

BIG: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
KINDS: Final = ("DEPOSIT", "WITHDRAWAL")
TEN_POWERS: Final = ", ".join("1" if not decimals else f"0.{'1'.rjust(decimals, '0')}" for decimals in range(10))
NUMBER: Final = {
    "sqlite": (
        "CASE WHEN amount % 10 > 0 THEN substr({digits}, 1, length({digits}) - amount % 10) || '.' || "
        "substr({digits}, -(amount % 10)) ELSE CAST(amount / 10 AS TEXT) END"
    ).format(digits="printf('%0*d', amount % 10 + 1, amount / 10)"),
    "postgresql": f"(amount / 10)::numeric * (ARRAY[{TEN_POWERS}]::numeric[])[amount % 10 + 1]",
}
"""The exact text, or numeric, of a packed number."""
TIME: Final = {
    "sqlite": ("strftime('%Y-%m-%dT%H:%M:%S', created_at / 1000000, 'unixepoch') || printf('.%06dZ', created_at % 1000000)"),
    "postgresql": (
        "timestamptz 'epoch' + (created_at / 1000000) * interval '1 second' + (created_at % 1000000) * interval '1 microsecond'"
    ),
}


def upgrade() -> None:
    """Make the tables, empty: no instrument had funds before."""
    for name, keys, amounts in (
        ("stored_balances", ("user_id", "asset"), ("total", "reserved")),
        ("stored_assets", ("asset",), ("external", "fees")),
    ):
        op.create_table(
            name,
            *(sa.Column(column, sa.Text, nullable=False) for column in (*keys, *amounts)),
            sa.Column("shard", sa.Integer, nullable=False),
            sa.PrimaryKeyConstraint(*keys, "shard"),
        )
    op.create_table(
        "stored_transfers",
        sa.Column("id", BIG, primary_key=True, autoincrement=False),
        sa.Column("kind", sa.SmallInteger, nullable=False),
        sa.Column("user_id", sa.Text, nullable=False),
        sa.Column("asset", sa.Text, nullable=False),
        sa.Column("amount", BIG, nullable=False),
        sa.Column("client_transfer_id", sa.Text, nullable=False),
        sa.Column("created_at", BIG, nullable=False),
    )
    op.create_index("uq_transfers_client_id", "stored_transfers", ["user_id", "client_transfer_id"], unique=True)
    op.add_column("engine_snapshots", sa.Column("funds", sa.LargeBinary, nullable=True))
    _make_views(op.get_bind().dialect.name)


def _make_views(dialect: str) -> None:
    cast = "::numeric" if dialect == "postgresql" else ""
    kinds = " ".join(f"WHEN {number} THEN '{word}'" for number, word in enumerate(KINDS))
    for name, columns in (
        ("balances", ("user_id", "asset", f"total{cast} AS total", f"reserved{cast} AS reserved")),
        (
            "transfers",
            (
                *("id", f"CASE kind {kinds} END AS kind", "user_id", "asset", f"{NUMBER[dialect]} AS amount"),
                *("client_transfer_id", f"{TIME[dialect]} AS created_at"),
            ),
        ),
    ):
        op.execute(f"CREATE VIEW {name} AS SELECT {', '.join(columns)} FROM stored_{name}")  # noqa: S608  our own words


def downgrade() -> None:
    """Going back would destroy what users have."""
    raise NotImplementedError("the revision of funds can't be undone: restore a backup from before it instead")
