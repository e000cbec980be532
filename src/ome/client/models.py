"""What the service answers, with exact decimals and times that know their zone. Fields that a newer service adds are ignored.

Prices and quantities are `Decimal` with the decimals of their tick or lot; times are UTC; words (side, status, ...) are text as
the service writes it, so that a new one doesn't break a reader.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, Required, TypedDict

from msgspec import Struct

from ome.client.errors import Problem

Number = Decimal | str | int
"""A price or quantity on the way to the service; text and Decimal are taken exactly as they are."""
SideName = Literal["BUY", "SELL"]
TypeName = Literal["LIMIT", "MARKET", "STOP", "STOP_LIMIT", "TRAILING_STOP"]
TimeInForceName = Literal["GTC", "IOC", "FOK", "GTD", "DAY"]
SelfTradePreventionName = Literal["CANCEL_NEWEST", "CANCEL_OLDEST", "CANCEL_BOTH", "DECREMENT", "NONE"]
IntervalName = Literal["1s", "1m", "5m", "15m", "1h", "4h", "1d"]
ChannelName = Literal["depth", "trades", "ticker", "candles"]


class NewOrder(TypedDict, total=False):
    """What an order may have; a `client_order_id` is made where none is given."""

    user_id: str
    symbol: Required[str]
    side: Required[SideName]
    quantity: Required[Number]
    type: TypeName
    price: Number
    stop_price: Number
    trail_amount: Number
    trail_percent: Number
    limit_offset: Number
    time_in_force: TimeInForceName
    expires_at: datetime | str
    post_only: bool
    display_quantity: Number
    min_quantity: Number
    max_slippage_bps: int
    self_trade_prevention: SelfTradePreventionName
    client_order_id: str
    valid_for_ms: int


class Change(TypedDict, total=False):
    """What can be changed about an open order; `quantity` is the new total."""

    quantity: Number
    price: Number
    stop_price: Number
    display_quantity: Number
    expires_at: datetime | str
    trail_amount: Number
    trail_percent: Number
    expected_version: int
    valid_for_ms: int


class SubmitOperation(NewOrder, total=False):
    """A new order in a batch."""

    op: Literal["submit"]


class ModifyOperation(Change, total=False):
    """A change of an open order in a batch."""

    op: Required[Literal["modify"]]
    order_id: Required[str]


class CancelOperation(TypedDict):
    """The end of an open order in a batch."""

    op: Literal["cancel"]
    order_id: str


Operation = SubmitOperation | ModifyOperation | CancelOperation


class Trade(Struct, frozen=True, kw_only=True):
    """A trade, at the maker's price; ids are None in a dry run, `taker_side` is None in an auction."""

    trade_id: str | None
    symbol: str
    price: Decimal
    quantity: Decimal
    buy_order_id: str | None
    sell_order_id: str | None
    maker_order_id: str | None
    taker_side: str | None
    executed_at: datetime
    sequence: int


class Order(Struct, frozen=True, kw_only=True):
    """An order as it stands. `executed_trades` are those that the call made which it answers.

    `replayed`: this is the answer to an earlier request with the same client_order_id. `dry_run`: nothing has happened.
    """

    order_id: str | None
    client_order_id: str | None
    user_id: str
    symbol: str
    side: str
    type: str
    time_in_force: str
    quantity: Decimal
    filled_quantity: Decimal
    remaining_quantity: Decimal
    price: Decimal | None
    average_price: Decimal | None
    status: str
    reason: str | None
    version: int
    created_at: datetime
    updated_at: datetime
    self_trade_prevention: str
    stop_price: Decimal | None = None
    trail_amount: Decimal | None = None
    trail_percent: Decimal | None = None
    limit_offset: Decimal | None = None
    post_only: bool = False
    display_quantity: Decimal | None = None
    min_quantity: Decimal | None = None
    max_slippage_bps: int | None = None
    prevented_quantity: Decimal | None = None
    expires_at: datetime | None = None
    triggered_at: datetime | None = None
    executed_trades: list[Trade] = []
    replayed: bool = False
    dry_run: bool = False

    @property
    def is_open(self) -> bool:
        """Whether it can still trade, change or be cancelled."""
        return self.status in {"PENDING", "PARTIALLY_FILLED", "PENDING_TRIGGER"}


class OrderList(Struct, frozen=True, kw_only=True):
    """Orders, newest first; `next_cursor` goes on, None at the end."""

    orders: list[Order]
    count: int
    next_cursor: str | None
    watermark: datetime | None = None


class TradeList(Struct, frozen=True, kw_only=True):
    """Trades, newest first; `next_cursor` goes on, None at the end."""

    trades: list[Trade]
    count: int
    next_cursor: str | None


class OperationResult(Struct, frozen=True, kw_only=True):
    """What one operation of a batch was answered: an order, or a problem."""

    status: int
    order: Order | None = None
    problem: Problem | None = None


class BatchAnswer(Struct, frozen=True, kw_only=True):
    """The results of a batch, one for each operation, in their order."""

    results: list[OperationResult]
    dry_run: bool = False


class MassCancel(Struct, frozen=True, kw_only=True):
    """What a mass cancel has cancelled; where `is_complete` is False, an attempt that got no answer may have cancelled more."""

    cancelled: int
    order_ids: list[str]
    is_complete: bool = True


class Quote(Struct, frozen=True, kw_only=True):
    """The best price of a side and what is there."""

    price: Decimal
    quantity: Decimal


class Market(Struct, frozen=True, kw_only=True):
    """A symbol at a glance; open to change_percent are those of the last 24 hours."""

    symbol: str
    state: str
    best_bid: Quote | None
    best_ask: Quote | None
    spread: Decimal | None
    mid_price: Decimal | None
    last_price: Decimal | None
    last_quantity: Decimal | None
    open: Decimal | None
    high: Decimal | None
    low: Decimal | None
    volume: Decimal
    change_percent: Decimal | None
    sequence: int
    timestamp: datetime


class MarketList(Struct, frozen=True, kw_only=True):
    """Every symbol, by name."""

    markets: list[Market]
    count: int
    next_cursor: str | None


class QueuedOrder(Struct, frozen=True, kw_only=True):
    """An order in the queue of its level."""

    order_id: str
    user_id: str
    quantity: Decimal
    created_at: datetime


class Level(Struct, frozen=True, kw_only=True):
    """What stands at a price, and in how many orders; `queue` only where it was asked for."""

    price: Decimal
    quantity: Decimal
    orders: int
    queue: list[QueuedOrder] = []


class Depth(Struct, frozen=True, kw_only=True):
    """A book's levels at a sequence, best first."""

    symbol: str
    sequence: int
    timestamp: datetime
    bids: list[Level]
    asks: list[Level]


class Snapshot(Struct, frozen=True, kw_only=True):
    """A stored snapshot of a book, at a glance."""

    snapshot_id: str
    sequence: int
    timestamp: datetime
    best_bid: Quote | None
    best_ask: Quote | None
    bid_levels: int
    ask_levels: int


class SnapshotList(Struct, frozen=True, kw_only=True):
    """Snapshots of a symbol's book, newest first; `next_cursor` goes on, None at the end."""

    snapshots: list[Snapshot]
    count: int
    next_cursor: str | None


class Auction(Struct, frozen=True, kw_only=True):
    """What an uncross would give now; no price where nothing would trade, no side where both are even."""

    symbol: str
    state: str
    indicative_price: Decimal | None
    indicative_volume: Decimal
    imbalance: Decimal
    imbalance_side: str | None
    sequence: int
    timestamp: datetime


class Candle(Struct, frozen=True, kw_only=True):
    """What traded from `open_time`, inclusive, to `close_time`, exclusive; `vwap` is None where nothing did."""

    open_time: datetime
    close_time: datetime
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    vwap: Decimal | None
    trades: int


class CandleList(Struct, frozen=True, kw_only=True):
    """Candles, oldest first; `next_cursor` goes on, None at the end."""

    candles: list[Candle]
    count: int
    next_cursor: str | None


class Instrument(Struct, frozen=True, kw_only=True):
    """What a symbol trades in, and how."""

    symbol: str
    tick_size: Decimal
    lot_size: Decimal
    max_order_quantity: Decimal | None
    price_band_percent: Decimal | None
    band_halt_seconds: int
    session_close: str
    state: str
    halted_until: datetime | None
    last_price: Decimal | None
    sequence: int
    listed_at: datetime


class InstrumentList(Struct, frozen=True, kw_only=True):
    """Every listed symbol, by name."""

    instruments: list[Instrument]
    count: int
    next_cursor: str | None


class Reason(Struct, frozen=True, kw_only=True):
    """Why: a row of the service's table."""

    code: str
    rule: str | None
    title: str
    advice: str


class HistoryEvent(Struct, frozen=True, kw_only=True):
    """One thing that happened to an order, and where that left it."""

    number: int
    position: int
    time: datetime
    type: str
    version: int
    status: str
    quantity: Decimal
    filled_quantity: Decimal
    remaining_quantity: Decimal
    reason: Reason | None = None
    role: str | None = None
    trade: Trade | None = None
    other_order_id: str | None = None
    prevented_quantity: Decimal | None = None
    prevented_price: Decimal | None = None


class OrderVersion(Order, frozen=True, kw_only=True):
    """The order right after the command, at `position`, that made this version."""

    position: int


class History(Struct, frozen=True, kw_only=True):
    """Everything that ever happened to an order, oldest first."""

    order_id: str
    versions: list[OrderVersion]
    events: list[HistoryEvent]
    next_cursor: str | None = None


class QueuePlace(Struct, frozen=True, kw_only=True):
    """What stands before a resting order at its own price."""

    orders_ahead: int
    quantity_ahead: Decimal


class Explanation(Struct, frozen=True, kw_only=True):
    """Where an order stands, and why; `would_fill_when` completes the sentence that starts so."""

    order_id: str
    status: str
    queue: QueuePlace | None
    would_fill_when: str | None
    reason: Reason | None
    rules: list[str]
    events: list[HistoryEvent]


class _Sequenced(Struct, frozen=True, kw_only=True):
    """`type` is "snapshot" (start anew from here; `previous_sequence` is None) or "update"."""

    channel: str
    type: str
    symbol: str
    sequence: int
    previous_sequence: int | None


class DepthMessage(_Sequenced, frozen=True, kw_only=True):
    """All levels in a snapshot, those that changed in an update; quantity 0 is gone."""

    timestamp: datetime
    bids: list[Level]
    asks: list[Level]
    checksum: int


class TradeMessage(_Sequenced, frozen=True, kw_only=True):
    """A trade."""

    trade: Trade


class TickerMessage(_Sequenced, frozen=True, kw_only=True):
    """Best prices and the last trade; `auction` is what a running auction would give."""

    timestamp: datetime
    state: str
    best_bid: Quote | None
    best_ask: Quote | None
    last_price: Decimal | None
    last_quantity: Decimal | None
    auction: dict[str, Any] | None = None


class CandleMessage(_Sequenced, frozen=True, kw_only=True):
    """The running candle of an interval; None before the first trade."""

    interval: str
    candle: Candle | None


Message = DepthMessage | TradeMessage | TickerMessage | CandleMessage


class OrderEvent(Struct, frozen=True, kw_only=True):
    """One of a user's own events; what follows it is read from its `cursor`.

    ACCEPTED, REJECTED, MODIFIED, TRIGGERED, CANCELLED, EXPIRED and UPDATED (a taker after its trades) have the `order` as it was
    right after. Each trade is a FILLED with the `role` of `order_id` in it. SELF_TRADE_PREVENTED names both orders.
    """

    cursor: str
    position: int
    time: datetime
    type: str
    order: Order | None = None
    order_id: str | None = None
    role: str | None = None
    trade: Trade | None = None
    filled_quantity: Decimal | None = None
    remaining_quantity: Decimal | None = None
    other_order_id: str | None = None
    prevented_price: Decimal | None = None
    prevented_quantity: Decimal | None = None


class OrderEventList(Struct, frozen=True, kw_only=True):
    """A user's own events, oldest first; `next_cursor` goes on, None at the end: then the last event's `cursor` does, later."""

    events: list[OrderEvent]
    count: int
    next_cursor: str | None
