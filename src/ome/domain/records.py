"""What is kept: one flat record for each order, trade and instrument, in the order of the database's columns.

Prices and quantities are numbers as in `domain.numbers`, times microseconds since 1970 UTC, ids 64-bit integers. Records are
immutable pictures; the engine's own orders live in `ome.engine`.
"""

from __future__ import annotations

from msgspec import Struct

from ome.domain.enums import LAST_OPEN, MarketState, OrderStatus, OrderType, SelfTradePrevention, Side, TimeInForce
from ome.domain.reasons import Reason


class OrderRecord(Struct, frozen=True, array_like=True, gc=False):
    """An order as it stands after some command.

    `filled_value` is the exact decimal text of the sum of price times quantity over its fills ("0" before the first);
    `remaining_quantity` is 0 once it has ended (N3); `priority` says where it stands among orders of one price: lower is
    earlier, unique in its shard, 0 for an order that never rested.
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

    @property
    def is_open(self) -> bool:
        """Whether it can still trade, change or be cancelled."""
        return self.status <= LAST_OPEN


class TradeRecord(Struct, frozen=True, array_like=True, gc=False):
    """One trade, at the maker's price (M1). `sequence` is the symbol's public sequence (D1), `position` its command's."""

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
        return self.sell_order_id if self.taker_side is Side.BUY else self.buy_order_id

    @property
    def taker_order_id(self) -> int:
        """The order that came in."""
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


class EngineSettings(Struct, frozen=True, array_like=True, gc=False):
    """Settings that change outcomes; they reach the engine as a journaled command, so that a replay has them too (M6)."""

    auto_list: bool = True
    max_symbols: int = 10_000


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
