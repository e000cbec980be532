"""A batch: the commands that one transaction makes durable, with everything that they changed.

The journal's chain: `chain_hash` of a batch covers the chain hash of the batch before it, the batch's place and its commands, so
that a changed, lost or reordered row shows. The state hash covers all that the engine knows after the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Final

from msgspec import Struct

from ome.domain.moves import MoveRecord
from ome.domain.records import (
    AssetRecord,
    AuditEntry,
    BalanceRecord,
    ControlRecord,
    EngineSettings,
    InstrumentRecord,
    OrderRecord,
    PositionRecord,
    TradeRecord,
    TransferRecord,
)

JOURNAL_FORMAT: Final = 1
"""The meaning of the journal's bytes and of the rules they were decided by. A change of either is a new number."""
CHAIN_START: Final = bytes(32)
"""The chain hash before the first batch."""


class Batch(Struct, frozen=True):
    """One transaction's worth: positions `first_position` to `last_position`, all or nothing.

    `orders`, `instruments`, `positions`, `balances`, `assets` and `controls` hold the last state in the batch of each that
    changed; `user_ids` everybody who has an event in it; `touched_order_ids` the orders from before this batch that have one (a
    new order's batch is known by its id); `audit` what was written down of operators; `moves` what symbols were given or
    taken, and `released` those of them that are no longer this shard's: their instruments and positions are as they were handed
    over.
    """

    first_position: int
    last_position: int
    time: int
    trade_count: int
    priority_count: int
    settings: EngineSettings
    state_hash: int
    commands: bytes
    events: bytes
    orders: list[OrderRecord]
    trades: list[TradeRecord]
    instruments: list[InstrumentRecord]
    user_ids: list[str]
    touched_order_ids: list[int]
    positions: Sequence[PositionRecord] = ()
    audit: Sequence[AuditEntry] = ()
    balances: Sequence[BalanceRecord] = ()
    assets: Sequence[AssetRecord] = ()
    transfers: Sequence[TransferRecord] = ()
    controls: Sequence[ControlRecord] = ()
    moves: Sequence[MoveRecord] = ()
    released: frozenset[str] = frozenset()


def chain_hash(before: bytes, batch: Batch) -> bytes:
    """The chain's new head: 32 bytes over the head before it, the batch's place, its time and its commands."""
    place = f"{JOURNAL_FORMAT}:{batch.first_position}:{batch.last_position}:{batch.time}:".encode()
    return sha256(before + place + batch.commands).digest()


def hash_text(state_hash: int) -> str:
    """A state hash as it is stored and shown: 16 hex digits."""
    return f"{state_hash:016x}"
