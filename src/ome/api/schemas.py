"""The shapes of bodies, in and out, as msgspec Structs: they check, they render, and OpenAPI's schemas are made from them.

What comes in: numbers are kept as their raw JSON text, so that `domain.numbers` reads their exact digits; names are read with
any case. Fields of the contract that aren't built yet are unknown to these Structs and told apart in `decoding`.
What goes out: decimals are strings always, times RFC 3339 in UTC with microseconds.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

USER_ID: Final = r"[A-Za-z0-9._:@-]{1,64}"
SYMBOL: Final = r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}"
CLIENT_ORDER_ID: Final = r"[ -~]{1,64}"
MAX_VERSION: Final = 2**31 - 1
"""Largest `expected_version`; an order that changed so often would have outlived its exchange."""


def whole(pattern: str) -> str:
    """The pattern, anchored at both ends. Python's `$` also matches before a last line feed, which the look-ahead refuses."""
    return f"^{pattern}$(?!\\n)"


def _number(description: str, example: str) -> Meta:
    schema: dict[str, Any] = {
        "anyOf": [
            {"type": "string", "pattern": whole(r"(?:0|[1-9][0-9]*)(?:\.[0-9]+)?"), "maxLength": 40},
            {"type": "number", "exclusiveMinimum": 0},
        ]
    }
    return Meta(
        description=f"{description} Above zero, at most 15 significant digits and 9 decimals, as a string or a number.",
        examples=[example],
        extra_json_schema=schema,
    )


def _names(description: str, *names: str) -> Meta:
    return Meta(description=f"{description} Lower case is folded.", extra_json_schema={"enum": list(names)})


UserId = Annotated[str, Meta(description="Whose order it is.", pattern=whole(USER_ID), examples=["alice"])]
Symbol = Annotated[str, Meta(description="What is traded. Lower case is folded.", pattern=whole(SYMBOL), examples=["AAPL"])]
ClientOrderId = Annotated[
    str,
    Meta(
        description="Your own id, unique per user and symbol, for ever: the same request sent again gets the first answer again.",
        pattern=whole(CLIENT_ORDER_ID),
        examples=["my-order-1"],
    ),
]
SideName = Annotated[str, _names("Which side of the book.", "BUY", "SELL")]
TypeName = Annotated[str, _names("How it is priced. STOP, STOP_LIMIT and TRAILING_STOP are not built yet.", "LIMIT", "MARKET")]
TimeInForceName = Annotated[
    str,
    _names(
        "How long it stays: GTC rests until it is filled or cancelled; IOC fills what it can at once; FOK fills wholly at once "
        "or not at all; GTD rests until `expires_at`. A MARKET order's reads IOC; FOK and GTD are refused with it. "
        "DAY is not built yet.",
        "GTC",
        "IOC",
        "FOK",
        "GTD",
    ),
]
SelfTradePreventionName = Annotated[
    str,
    _names(
        "What happens when it would trade with an order of its own user: CANCEL_NEWEST cancels what is left of this one, NONE "
        "lets them trade. CANCEL_OLDEST, CANCEL_BOTH and DECREMENT are not built yet.",
        "CANCEL_NEWEST",
        "NONE",
    ),
]
Quantity = Annotated[Raw, _number("The total quantity, a whole number of lots.", "100")]
Price = Annotated[Raw, _number("The limit, a whole number of ticks.", "150.50")]
ExpiresAt = Annotated[
    str,
    Meta(
        description="When a GTD order expires: RFC 3339 with its zone, in the future.",
        examples=["2099-12-31T23:59:59Z"],
        extra_json_schema={"format": "date-time"},
    ),
]
PostOnly = Annotated[bool, Meta(description="Only false: true is not built yet.", extra_json_schema={"enum": [False]})]
Version = Annotated[int, Meta(description="Change it only if it still has this version.", ge=1, le=MAX_VERSION, examples=[1])]


class OrderRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """A new order."""

    user_id: UserId
    symbol: Symbol
    side: SideName
    type: TypeName = "LIMIT"
    quantity: Quantity
    price: Price | UnsetType = UNSET
    time_in_force: TimeInForceName = "GTC"
    expires_at: ExpiresAt | UnsetType = UNSET
    self_trade_prevention: SelfTradePreventionName = "CANCEL_NEWEST"
    client_order_id: ClientOrderId | UnsetType = UNSET
    post_only: PostOnly = False


class ModifyRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """A change of an open order: at least one of `quantity`, `price` and `expires_at`. What is left out stays."""

    quantity: Quantity | UnsetType = UNSET
    price: Price | UnsetType = UNSET
    expires_at: ExpiresAt | UnsetType = UNSET
    expected_version: Version | UnsetType = UNSET


class InstrumentRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """What a symbol trades in. What is left out stays, or has its default on a new symbol: tick 0.01, lot 1."""

    tick_size: Annotated[Raw, _number("Prices are whole multiples of it.", "0.01")] | UnsetType = UNSET
    lot_size: Annotated[Raw, _number("Quantities are whole multiples of it.", "1")] | UnsetType = UNSET


Decimal = Annotated[str, Meta(description="An exact decimal", examples=["150.50"])]
Time = Annotated[str, Meta(description="RFC 3339, UTC, microseconds", examples=["2026-11-22T10:00:00.000000Z"])]
Id = Annotated[str, Meta(description="Digits", examples=["1000000000000001"])]


class OrderView(Struct, frozen=True, kw_only=True, gc=False):
    """An order as it stands."""

    order_id: Id
    client_order_id: str | None
    user_id: str
    symbol: str
    side: str
    type: str
    time_in_force: str
    quantity: Decimal
    filled_quantity: Decimal
    remaining_quantity: Annotated[str, Meta(description="What is still open; 0 once it has ended")]
    price: Decimal | None
    average_price: Annotated[str | None, Meta(description="Of its fills, rounded half-even to 9 decimals")]
    stop_price: Decimal | None = None
    self_trade_prevention: str
    expires_at: Time | UnsetType = UNSET
    status: Annotated[
        str,
        Meta(
            extra_json_schema={
                "enum": ["PENDING", "PARTIALLY_FILLED", "PENDING_TRIGGER", "FILLED", "CANCELLED", "EXPIRED", "REJECTED"]
            }
        ),
    ]
    reason: Annotated[str | None, Meta(description="Why it was cancelled or rejected, else null")]
    version: int
    created_at: Time
    updated_at: Time
    triggered_at: Time | None = None


class TradeView(Struct, frozen=True, kw_only=True, gc=False):
    """A trade, at the maker's price."""

    trade_id: Id
    symbol: str
    price: Decimal
    quantity: Decimal
    buy_order_id: Id
    sell_order_id: Id
    maker_order_id: Id
    taker_side: str | None
    executed_at: Time
    sequence: int


class OrderAnswer(OrderView, frozen=True, kw_only=True):
    """The order after its command, and the trades that the command made, in order."""

    executed_trades: list[TradeView]
    replayed: Annotated[
        bool | UnsetType, Meta(description="true: the answer to an earlier request with this client_order_id")
    ] = UNSET


class OrderList(Struct, frozen=True, kw_only=True):
    """Orders, newest first."""

    orders: list[OrderView]
    count: int
    next_cursor: str | None


class TradeList(Struct, frozen=True, kw_only=True):
    """Trades, newest first."""

    trades: list[TradeView]
    count: int
    next_cursor: str | None


class QuoteView(Struct, frozen=True, kw_only=True, gc=False):
    """The best price of a side and what is there."""

    price: Decimal
    quantity: Decimal


class MarketView(Struct, frozen=True, kw_only=True):
    """A symbol at a glance; the statistics are those of the 24 hours up to now, null without trades."""

    symbol: str
    state: str
    best_bid: QuoteView | None
    best_ask: QuoteView | None
    spread: Decimal | None
    mid_price: Decimal | None
    last_price: Decimal | None
    last_quantity: Decimal | None
    open: Decimal | None
    high: Decimal | None
    low: Decimal | None
    volume: Decimal
    change_percent: Annotated[str | None, Meta(description="Of last against open", examples=["-1.25"])]
    sequence: int
    timestamp: Time


class MarketList(Struct, frozen=True, kw_only=True):
    """Every symbol, by name."""

    markets: list[MarketView]
    count: int
    next_cursor: str | None


class QueuedOrderView(Struct, frozen=True, kw_only=True, gc=False):
    """An order in the queue of its level."""

    order_id: Id
    user_id: str
    quantity: Annotated[str, Meta(description="What is left of it")]
    created_at: Time


class LevelView(Struct, frozen=True, kw_only=True):
    """A price level; `queue` with detail=orders alone, first in line first."""

    price: Decimal
    quantity: Decimal
    orders: Annotated[int, Meta(description="How many orders stand there")]
    queue: list[QueuedOrderView] | UnsetType = UNSET


class DepthView(Struct, frozen=True, kw_only=True):
    """A book's levels at a sequence, best first."""

    symbol: str
    sequence: int
    timestamp: Time
    bids: list[LevelView]
    asks: list[LevelView]


class InstrumentView(Struct, frozen=True, kw_only=True, gc=False):
    """What a symbol trades in."""

    symbol: str
    tick_size: Decimal
    lot_size: Decimal
    state: str
    last_price: Decimal | None
    sequence: int
    listed_at: Time


class InstrumentList(Struct, frozen=True, kw_only=True):
    """Every listed symbol, by name."""

    instruments: list[InstrumentView]
    count: int
    next_cursor: str | None


class HealthView(Struct, frozen=True, kw_only=True):
    """The service is well."""

    status: str
    state: Annotated[str, Meta(description="STARTING, RECOVERING, RUNNING, STALLED, DRAINING or HALTED")]
    position: Annotated[int, Meta(description="The last committed position")]
    database: str
    version: str
    uptime_seconds: float


class StatusView(Struct, frozen=True, kw_only=True):
    """One word."""

    status: str
