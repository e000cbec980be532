"""What a batch leaves behind, as the database takes it in."""

from __future__ import annotations

from msgspec import Struct

from ome.domain.records import AssetRecord, BalanceRecord, ControlRecord, InstrumentRecord, OrderRecord, PositionRecord


class Changes(Struct, frozen=True):
    """The last state of every order, instrument, position, balance and control that changed."""

    orders: list[OrderRecord]
    instruments: list[InstrumentRecord]
    positions: list[PositionRecord]
    balances: list[BalanceRecord]
    assets: list[AssetRecord]
    controls: list[ControlRecord]
