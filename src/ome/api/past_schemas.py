"""What the past is answered with: candles and snapshots of books."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from ome.api.schemas import Decimal, LevelView, QuoteView, Time


class CandleView(Struct, frozen=True, kw_only=True, gc=False):
    """What traded from the open time, inclusive, to the close time, exclusive (D4)."""

    open_time: Time
    close_time: Time
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    vwap: Annotated[str | None, Meta(description="Volume-weighted average price, rounded half-even; null where nothing traded")]
    trades: int


class CandleList(Struct, frozen=True, kw_only=True):
    """Candles of one interval, oldest first."""

    symbol: str
    interval: str
    candles: list[CandleView]
    count: int
    next_cursor: Annotated[str | None, Meta(description="Where it goes on: later, or, without `start`, earlier; null at the end")]


class SnapshotView(Struct, frozen=True, kw_only=True, gc=False):
    """A snapshot of a book, at a glance."""

    snapshot_id: Annotated[str, Meta(description="The book's sequence when it was taken", examples=["17"])]
    sequence: int
    timestamp: Time
    best_bid: QuoteView | None
    best_ask: QuoteView | None
    bid_levels: int
    ask_levels: int


class SnapshotList(Struct, frozen=True, kw_only=True):
    """Snapshots of a symbol's book, newest first."""

    snapshots: list[SnapshotView]
    count: int
    next_cursor: str | None


class FullSnapshotView(Struct, frozen=True, kw_only=True):
    """Every level of a book at its sequence, best first."""

    snapshot_id: str
    symbol: str
    sequence: int
    timestamp: Time
    bids: list[LevelView]
    asks: list[LevelView]
