"""The tables hold exactly what the records hold, in their order."""

import pytest
from sqlalchemy import Table

from ome.db import schema
from ome.db.recovery import EngineRow, JournalRow
from ome.domain.records import (
    AssetRecord,
    AuditEntry,
    BalanceRecord,
    ControlRecord,
    InstrumentRecord,
    OrderRecord,
    PositionRecord,
    TradeRecord,
    TransferRecord,
)

PAIRS = [
    (schema.stored_orders, OrderRecord, []),
    (schema.stored_trades, TradeRecord, []),
    (schema.stored_instruments, InstrumentRecord, ["shard"]),
    (schema.stored_positions, PositionRecord, ["shard"]),
    (schema.stored_balances, BalanceRecord, ["shard"]),
    (schema.stored_assets, AssetRecord, ["shard"]),
    (schema.stored_transfers, TransferRecord, []),
    (schema.stored_controls, ControlRecord, ["shard"]),
    (schema.engine, EngineRow, []),
    (schema.journal, JournalRow, []),
    (schema.audit, AuditEntry, []),
]


@pytest.mark.parametrize(("table", "record", "more"), PAIRS, ids=lambda value: getattr(value, "__name__", ""))
def test_columns_are_the_records_fields(table: Table, record: type, more: list[str]) -> None:
    """A field that is added to a record needs a column and a migration."""
    assert [column.name for column in table.columns] == [*record.__struct_fields__, *more]  # type: ignore[attr-defined]
