"""What a batch leaves behind, as the database takes it in."""

from __future__ import annotations

from msgspec import Struct

from ome.domain.moves import MoveRecord
from ome.domain.records import AssetRecord, BalanceRecord, ControlRecord, InstrumentRecord, OrderRecord, PositionRecord


class Changes(Struct, frozen=True):
    """The last state of every order, instrument, position, balance and control that changed; `moves` and `released` as in
    `Batch`.
    """

    orders: list[OrderRecord]
    instruments: list[InstrumentRecord]
    positions: list[PositionRecord]
    balances: list[BalanceRecord]
    assets: list[AssetRecord]
    controls: list[ControlRecord]
    moves: list[MoveRecord]
    released: frozenset[str]
