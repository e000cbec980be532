"""What is kept: one flat record for each order, trade and instrument, in the order of the database's columns.

Prices and quantities are numbers as in `domain.numbers`, times microseconds since 1970 UTC, ids 64-bit integers. Records are
immutable pictures; the engine's own orders live in `ome.engine`.
"""

from __future__ import annotations

from msgspec import Struct

from ome.domain.enums import (
    LAST_OPEN,
    ControlKind,
    MarketState,
    OrderStatus,
    OrderType,
    SelfTradePrevention,
    Side,
    Switch,
    TimeInForce,
    TransferKind,
)
from ome.domain.reasons import Reason


class SpecialTerms(Struct, frozen=True, omit_defaults=True, gc=False):
    """What an order may ask for beyond side, price, quantity and time, and where that stands; a plain order has none of it.

    Prices and quantities are numbers, `trail_percent` is one too (1.5 is one and a half percent), `max_slippage_bps` a count of
    basis points. What stands below the line is the engine's: `shown_quantity` is an iceberg's slice in the book now,
    `prevented_quantity` what DECREMENT took off, `trail_extreme` the best last price seen, `triggered_at` when a stop fired, and
    `is_due` says that it has become due and waits for its turn (S2, S3).
    """

    stop_price: int | None = None
    trail_amount: int | None = None
    trail_percent: int | None = None
    limit_offset: int | None = None
    post_only: bool = False
    display_quantity: int | None = None
    min_quantity: int | None = None
    max_slippage_bps: int | None = None
    # ---
    shown_quantity: int | None = None
    prevented_quantity: int | None = None
    trail_extreme: int | None = None
    triggered_at: int | None = None
    is_due: bool = False


class InstrumentRules(Struct, frozen=True, omit_defaults=True, gc=False):
    """What an operator may set on an instrument beyond tick and lot; None and 0 mean none.

    `max_order_quantity` and `price_band_percent` are numbers; a taker stopped by the band halts the symbol for `band_halt_s`
    seconds (H2), `halted_until` says until when; DAY orders end `session_close_s` seconds after midnight UTC (T5).

    With `base_asset`, what a quantity is of, and `quote_asset`, what a price is in, orders are paid for from the users' accounts
    (F1); a fee, in basis points of what a trade is worth, is below zero for a rebate, and means nothing without them.
    """

    max_order_quantity: int | None = None
    price_band_percent: int | None = None
    band_halt_s: int = 0
    session_close_s: int = 0
    halted_until: int | None = None
    base_asset: str | None = None
    quote_asset: str | None = None
    maker_fee_bps: int = 0
    taker_fee_bps: int = 0

    @property
    def funding(self) -> tuple[str | None, str | None, int, int]:
        """What orders are paid with, and at which fees."""
        return self.base_asset, self.quote_asset, self.maker_fee_bps, self.taker_fee_bps


class OrderRecord(Struct, frozen=True, array_like=True, gc=False):
    """An order as it stands after some command.

    `filled_value` is the exact decimal text of the sum of price times quantity over its fills ("0" before the first);
    `remaining_quantity` is 0 once it has ended (N3); `priority` says where it stands among orders of one price: lower is
    earlier, unique in its symbol, 0 for an order that never rested.
    """

    id: int
    user_id: str
    symbol: str
    side: Side
    type: OrderType
    time_in_force: TimeInForce
    quantity: int
    price: int | None
    filled_quantity: int
    filled_value: str
    remaining_quantity: int
    status: OrderStatus
    reason: Reason | None
    version: int
    priority: int
    self_trade_prevention: SelfTradePrevention
    client_order_id: str | None
    expires_at: int | None
    created_at: int
    updated_at: int
    terms: SpecialTerms | None = None

    @property
    def is_open(self) -> bool:
        """Whether it can still trade, change or be cancelled."""
        return self.status <= LAST_OPEN


class TradeRecord(Struct, frozen=True, array_like=True, gc=False):
    """One trade, at the maker's price (M1), or at the auction's: then `taker_side` is None, the older order is the maker (H3).

    `sequence` is the symbol's public sequence (D1), `position` its command's.
    """

    id: int
    symbol: str
    price: int
    quantity: int
    buy_order_id: int
    sell_order_id: int
    taker_side: Side | None
    executed_at: int
    sequence: int
    position: int

    @property
    def maker_order_id(self) -> int:
        """The order that rested."""
        if self.taker_side is None:
            return min(self.buy_order_id, self.sell_order_id)
        return self.sell_order_id if self.taker_side is Side.BUY else self.buy_order_id

    @property
    def taker_order_id(self) -> int:
        """The order that came in."""
        if self.taker_side is None:
            return max(self.buy_order_id, self.sell_order_id)
        return self.buy_order_id if self.taker_side is Side.BUY else self.sell_order_id


class InstrumentRecord(Struct, frozen=True, array_like=True, gc=False):
    """A listed symbol: what it trades in, its state, its public sequence (D1) and its last trade (None before the first)."""

    symbol: str
    tick_size: int
    lot_size: int
    state: MarketState
    sequence: int
    last_price: int | None
    last_quantity: int | None
    last_trade_at: int | None
    listed_at: int
    rules: InstrumentRules = InstrumentRules()


class PositionRecord(Struct, frozen=True, array_like=True, gc=False):
    """What a user holds of a symbol after all trades so far, in exact decimal text: see `domain.positions`.

    `quantity` is what was bought less what was sold, `cost` what the open part of it cost (both below zero for a short position),
    `realised` the profit of what was closed, `volume` the quantity bought and sold.
    """

    user_id: str
    symbol: str
    quantity: str
    cost: str
    realised: str
    volume: str


class Limits(Struct, frozen=True, omit_defaults=True, gc=False):
    """What an operator allows a user; None for no limit. Numbers, but for `max_open_orders`, which is a count (R1, R2)."""

    max_order_quantity: int | None = None
    max_order_notional: int | None = None
    max_open_orders: int | None = None
    max_position: int | None = None
    price_collar_percent: int | None = None


class ControlRecord(Struct, frozen=True, array_like=True, gc=False):
    """Limits, a kill switch or a dead-man timer as it stands; `switch` says whether it is in force.

    `user_id` "" is everybody, `symbol` "" every symbol. `until` is a timer's deadline, `limits` what LIMITS allow.
    """

    kind: ControlKind
    user_id: str
    symbol: str
    switch: Switch
    changed_at: int
    until: int | None = None
    limits: Limits | None = None


class CandleRecord(Struct, frozen=True, array_like=True, gc=False):
    """What a symbol traded in the `seconds` from `open_time` on, its first microsecond included, its last excluded (D4).

    Prices are numbers; `volume`, and `value`, the sum of price times quantity, are exact decimal texts, because a sum may have
    more digits than a number. `sequence` is that of the last trade.
    """

    symbol: str
    seconds: int
    open_time: int
    open: int
    high: int
    low: int
    close: int
    volume: str
    value: str
    trades: int
    sequence: int


class BookSnapshot(Struct, frozen=True, array_like=True, gc=False):
    """A book's levels as they were at `sequence`: (price, quantity, orders) each, best first.

    `position` is a committed one at which they stood so, `time` that of the book's last change.
    """

    symbol: str
    sequence: int
    position: int
    time: int
    bids: list[tuple[int, int, int]]
    asks: list[tuple[int, int, int]]


class BalanceRecord(Struct, frozen=True, array_like=True, gc=False):
    """What a user has of an asset, in texts of amounts (`domain.amounts`): `reserved` is what open orders hold of `total`."""

    user_id: str
    asset: str
    total: str
    reserved: str


class AssetRecord(Struct, frozen=True, array_like=True, gc=False):
    """The venue's own side of an asset: amounts as texts (`domain.amounts`), negative ones too.

    `fees` is what trades have paid less what they were paid in rebates. `external` is the contra account: minus all deposits,
    plus all withdrawals. Both and what all users have add up to zero, always.
    """

    asset: str
    external: str
    fees: str


class TransferRecord(Struct, frozen=True, array_like=True, gc=False):
    """A deposit or withdrawal that was made. `amount` is a number, `client_transfer_id` unique among the user's."""

    id: int
    kind: TransferKind
    user_id: str
    asset: str
    amount: int
    client_transfer_id: str
    created_at: int


class EngineSettings(Struct, frozen=True, array_like=True, gc=False):
    """Settings that change outcomes; they reach the engine as a journaled command, so that a replay has them too (M6)."""

    auto_list: bool = True
    max_symbols: int = 10_000
    max_cascade: int = 100
    """Stops that fire in one command at most; what is over it fires with the next (S3)."""
    keeps_positions: bool = False
    """Whether the engine keeps positions: once it was given those from before (`AdoptPositions`), and from then on."""


class EngineState(Struct, frozen=True, array_like=True):
    """All that an engine knows, as recovery loads it: `orders` holds the open ones, in any order."""

    shard: int
    position: int
    time: int
    trade_count: int
    priority_count: int
    settings: EngineSettings
    instruments: list[InstrumentRecord]
    orders: list[OrderRecord]
    positions: list[PositionRecord] = []
    balances: list[BalanceRecord] = []
    assets: list[AssetRecord] = []
    controls: list[ControlRecord] = []


class AuditEntry(Struct, frozen=True, array_like=True, gc=False):
    """Something that an operator did, or that happened to keys: the command at `position` of a shard that says so.

    `actor` is the id of the key that was used, "operator" for API_KEY, "" where there was none; `detail` is a JSON object.
    """

    shard: int
    position: int
    time: int
    actor: str
    action: str
    subject: str
    detail: str
