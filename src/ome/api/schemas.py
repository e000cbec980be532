"""The shapes of bodies, in and out, as msgspec Structs: they check, they render, and OpenAPI's schemas are made from them.

What comes in: numbers are kept as their raw JSON text, so that `domain.numbers` reads their exact digits; names are read with
any case.
What goes out: decimals are strings always, times RFC 3339 in UTC with microseconds.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from ome.api.problems import ProblemDocument
from ome.domain.amounts import MAX_FEE_BPS

USER_ID: Final = r"[A-Za-z0-9._:@-]{1,64}"
SYMBOL: Final = r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}"
CLIENT_ORDER_ID: Final = r"(?! *$)[ -~]{1,64}"
USER_ID_WORDS: Final = "must be 1 to 64 of the characters A-Z a-z 0-9 . _ : @ -"
SYMBOL_WORDS: Final = "must be 1 to 32 of the characters A-Z 0-9 . _ - and start with a letter or digit"
CLIENT_ORDER_ID_WORDS: Final = "must be 1 to 64 printable ASCII characters, not only blanks"
TIME_OF_DAY: Final = r"(?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9])?"
NO_ASSET: Final = rf"(?:{SYMBOL})?"
ASSET_WORDS: Final = f"{SYMBOL_WORDS}; empty takes funds away"
ORDER_ID: Final = r"[0-9]{1,19}"
MAX_OPERATIONS: Final = 1000
"""Operations in one batch: as many as fit one commit comfortably, and some milliseconds of reading."""
MAX_HALT_SECONDS: Final = 7 * 86_400
"""Longest halt at the price band; what should last longer is the operator's `state`."""
MAX_VALID_FOR_MS: Final = 60_000
"""Longest `valid_for_ms`; an answer takes no longer than CLIENT_WAIT_SEC, so more would say nothing."""
MAX_VERSION: Final = 2**31 - 1
"""Largest `expected_version`; an order that changed so often would have outlived its exchange."""


def whole(pattern: str) -> str:
    """The pattern, anchored at both ends. Python's `$` also matches before a last line feed, which the look-ahead refuses."""
    return f"^{pattern}$(?!\\n)"


def number(description: str, example: str, *, whole_digits: str = "[1-9][0-9]*", **bounds: int) -> Meta:
    """A decimal as text or as a number; above zero where no `bounds` are given."""
    above_zero = rf"(?:{whole_digits}(?:\.[0-9]+)?|0\.0*[1-9][0-9]*)"
    pattern = r"(?:0|[1-9][0-9]*)(?:\.[0-9]+)?" if "minimum" in bounds else above_zero
    schema: dict[str, Any] = {
        "anyOf": [
            {"type": "string", "pattern": whole(pattern), "maxLength": 40},
            {"type": "number", **(bounds or {"exclusiveMinimum": 0})},
        ]
    }
    above = "" if "minimum" in bounds else " Above zero."
    return Meta(
        description=f"{description}{above} At most 15 significant digits and 9 decimals, as a string or a number.",
        examples=[example],
        extra_json_schema=schema,
    )


def _asset(description: str, example: str) -> Meta:
    return Meta(
        description=f"{description} Lower case is folded; empty, with the other one, takes funds away.",
        examples=[example],
        extra_json_schema={"pattern": whole(NO_ASSET)},
    )


def _fee(description: str) -> Meta:
    return Meta(
        description=f"{description}, in hundredths of a percent of its worth, in the quote asset; below zero: is paid.",
        ge=-MAX_FEE_BPS,
        le=MAX_FEE_BPS,
        examples=[10],
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
OrderId = Annotated[str, Meta(description="Digits", pattern=whole(ORDER_ID), examples=["1"])]
StateName = Annotated[
    str,
    _names(
        "What the symbol takes: OPEN everything; POST_ONLY orders that rest; CANCEL_ONLY and HALTED cancels; AUCTION orders that "
        "wait for its one price, at which it trades when it is left.",
        "OPEN",
        "POST_ONLY",
        "CANCEL_ONLY",
        "HALTED",
        "AUCTION",
    ),
]
SideName = Annotated[str, _names("Which side of the book.", "BUY", "SELL")]
TypeName = Annotated[
    str,
    _names(
        "How it is priced: LIMIT at `price` or better; MARKET at the best prices there are. STOP, STOP_LIMIT and TRAILING_STOP "
        "wait until the last price reaches their stop price, then go on as MARKET (STOP), as LIMIT (STOP_LIMIT), or as LIMIT "
        "that far from the trigger where there is a `limit_offset`, else as MARKET (TRAILING_STOP).",
        "LIMIT",
        "MARKET",
        "STOP",
        "STOP_LIMIT",
        "TRAILING_STOP",
    ),
]
TimeInForceName = Annotated[
    str,
    _names(
        "How long it stays: GTC rests until it is filled or cancelled; IOC fills what it can at once; FOK fills wholly at once "
        "or not at all; GTD rests until `expires_at`, DAY until the symbol's session closes. An order without a limit reads IOC: "
        "FOK, GTD and DAY are refused with it.",
        "GTC",
        "IOC",
        "FOK",
        "GTD",
        "DAY",
    ),
]
SelfTradePreventionName = Annotated[
    str,
    _names(
        "What happens when it would trade with an order of its own user: CANCEL_NEWEST cancels what is left of this one, "
        "CANCEL_OLDEST the other, CANCEL_BOTH both; DECREMENT takes the smaller quantity off both; NONE lets them trade.",
        "CANCEL_NEWEST",
        "CANCEL_OLDEST",
        "CANCEL_BOTH",
        "DECREMENT",
        "NONE",
    ),
]
Quantity = Annotated[Raw, number("The total quantity, a whole number of lots.", "100")]
Price = Annotated[Raw, number("The limit, a whole number of ticks.", "150.50")]
StopPrice = Annotated[Raw, number("The last price that sets it off: a buy at or above it, a sell at or below it.", "149.00")]
TrailAmount = Annotated[Raw, number("How far the stop follows the best last price, in price.", "1.50")]
TrailPercent = Annotated[
    Raw,
    number(
        "How far the stop follows the best last price, in percent of it, below 100.",
        "2.5",
        whole_digits="[1-9][0-9]?",
        exclusiveMinimum=0,
        exclusiveMaximum=100,
    ),
]
LimitOffset = Annotated[Raw, number("How far its limit is from the trigger, on the far side.", "0.25")]
DisplayQuantity = Annotated[Raw, number("What the book shows of it at a time, at most its quantity.", "10")]
MinQuantity = Annotated[Raw, number("At least so much fills at once, or it is cancelled without a trade.", "10")]
MaxSlippageBps = Annotated[
    int,
    Meta(
        description="How far from the best price at its entry it may trade, in hundredths of a percent.",
        ge=0,
        le=10_000,
        examples=[50],
    ),
]
PostOnly = Annotated[bool, Meta(description="true: refuse it rather than let any of it take.")]
ExpiresAt = Annotated[
    str,
    Meta(
        description="When a GTD order expires: RFC 3339 with its zone, in the future.",
        examples=["2099-12-31T23:59:59Z"],
        extra_json_schema={"format": "date-time"},
    ),
]
ValidForMs = Annotated[
    int,
    Meta(
        description="Execute it within so many milliseconds of its arrival, or not at all: then it is refused with "
        "`too_late`, leaves nothing, and its client_order_id is free.",
        ge=1,
        le=MAX_VALID_FOR_MS,
        examples=[500],
    ),
]
Version = Annotated[int, Meta(description="Change it only if it still has this version.", ge=1, le=MAX_VERSION, examples=[1])]


class PlainOrderRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """What most orders have; the fast way of reading knows these fields alone."""

    user_id: UserId | UnsetType = UNSET
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


class OrderRequest(PlainOrderRequest, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """A new order."""

    stop_price: StopPrice | UnsetType = UNSET
    trail_amount: TrailAmount | UnsetType = UNSET
    trail_percent: TrailPercent | UnsetType = UNSET
    limit_offset: LimitOffset | UnsetType = UNSET
    display_quantity: DisplayQuantity | UnsetType = UNSET
    min_quantity: MinQuantity | UnsetType = UNSET
    max_slippage_bps: MaxSlippageBps | UnsetType = UNSET
    valid_for_ms: ValidForMs | UnsetType = UNSET


class ModifyRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """A change of an open order: at least one field besides `expected_version`. What is left out stays."""

    quantity: Quantity | UnsetType = UNSET
    price: Price | UnsetType = UNSET
    stop_price: StopPrice | UnsetType = UNSET
    display_quantity: DisplayQuantity | UnsetType = UNSET
    expires_at: ExpiresAt | UnsetType = UNSET
    trail_amount: TrailAmount | UnsetType = UNSET
    trail_percent: TrailPercent | UnsetType = UNSET
    expected_version: Version | UnsetType = UNSET
    valid_for_ms: ValidForMs | UnsetType = UNSET


class SubmitOperation(OrderRequest, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """A new order in a batch."""

    op: Literal["submit"] = "submit"


class ModifyOperation(ModifyRequest, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """A change of an open order in a batch."""

    op: Literal["modify"]
    order_id: OrderId


class CancelOperation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """The end of an open order in a batch."""

    op: Literal["cancel"]
    order_id: OrderId


_OPERATIONS: Final[dict[str, Any]] = {
    "anyOf": [{"$ref": f"#/components/schemas/{kind}Operation"} for kind in ("Submit", "Modify", "Cancel")]
}


class BatchRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Operations, carried out in their order; one refusal does not stop the rest."""

    orders: Annotated[list[Annotated[Raw, Meta(extra_json_schema=_OPERATIONS)]], Meta(max_length=MAX_OPERATIONS)]


class InstrumentRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """What a symbol trades in, and how. What is left out stays, or has its default on a new symbol: tick 0.01, lot 1."""

    tick_size: Annotated[Raw, number("Prices are whole multiples of it.", "0.01")] | UnsetType = UNSET
    lot_size: Annotated[Raw, number("Quantities are whole multiples of it.", "1")] | UnsetType = UNSET
    max_order_quantity: Annotated[Raw, number("Largest quantity of an order; 0: no limit.", "10000", minimum=0)] | UnsetType = (
        UNSET
    )
    price_band_percent: (
        Annotated[Raw, number("How far from the last price orders may be and trade, in percent; 0: no band.", "10", minimum=0)]
        | UnsetType
    ) = UNSET
    band_halt_seconds: (
        Annotated[int, Meta(description="How long the band's edge halts the symbol; 0: not at all.", ge=0, le=MAX_HALT_SECONDS)]
        | UnsetType
    ) = UNSET
    session_close: (
        Annotated[
            str,
            Meta(
                description="When DAY orders end, UTC: HH:MM or HH:MM:SS.",
                pattern=whole(TIME_OF_DAY),
                examples=["21:00", "00:00:00"],
            ),
        ]
        | UnsetType
    ) = UNSET
    state: StateName | UnsetType = UNSET
    base_asset: Annotated[str, _asset("What a quantity is of. With both, orders need funds.", "BTC")] | UnsetType = UNSET
    quote_asset: Annotated[str, _asset("What a price is in; another than the base asset.", "USD")] | UnsetType = UNSET
    maker_fee_bps: Annotated[int, _fee("What the maker of a trade pays")] | UnsetType = UNSET
    taker_fee_bps: Annotated[int, _fee("What the taker of a trade pays")] | UnsetType = UNSET


Decimal = Annotated[str, Meta(description="An exact decimal", examples=["150.50"])]
Time = Annotated[str, Meta(description="RFC 3339, UTC, microseconds", examples=["2026-11-22T10:00:00.000000Z"])]
Id = Annotated[str, Meta(description="Digits", examples=["1"])]


class _Order(Struct, frozen=True, kw_only=True, gc=False):
    """What every picture of an order shows."""

    order_id: str | None
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
    stop_price: Annotated[str | None, Meta(description="What sets a stop off; of a trailing stop, where it stands now")] = None
    trail_amount: Decimal | UnsetType = UNSET
    trail_percent: Decimal | UnsetType = UNSET
    limit_offset: Decimal | UnsetType = UNSET
    post_only: bool | UnsetType = UNSET
    display_quantity: Decimal | UnsetType = UNSET
    min_quantity: Decimal | UnsetType = UNSET
    max_slippage_bps: int | UnsetType = UNSET
    self_trade_prevention: str
    prevented_quantity: Annotated[
        str | UnsetType, Meta(description="What self-trade prevention took off it without a trade (DECREMENT)")
    ] = UNSET
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
    triggered_at: Annotated[str | None, Meta(description="When a stop was set off: RFC 3339, UTC, microseconds")] = None


class OrderView(_Order, frozen=True, kw_only=True, gc=False):
    """An order as it stands."""

    order_id: Id


class ExecutedTrade(Struct, frozen=True, kw_only=True, gc=False):
    """A trade that a call made, or in a dry run would make: then ids that nobody has are null."""

    trade_id: Id | None
    symbol: str
    price: Decimal
    quantity: Decimal
    buy_order_id: Id | None
    sell_order_id: Id | None
    maker_order_id: Id | None
    taker_side: str | None
    executed_at: Time
    sequence: int


class TradeView(ExecutedTrade, frozen=True, kw_only=True, gc=False):
    """A trade, at the maker's price, or at an auction's: then nobody took, and `taker_side` is null."""

    trade_id: Id
    buy_order_id: Id
    sell_order_id: Id
    maker_order_id: Id


class OrderAnswer(_Order, frozen=True, kw_only=True):
    """The order after its command, and the trades that it made as taker, in order."""

    order_id: Annotated[str | None, Meta(description="Digits; null for a new order in a dry run", examples=["1"])]
    executed_trades: list[ExecutedTrade]
    replayed: Annotated[
        bool | UnsetType, Meta(description="true: the answer to an earlier request with this client_order_id")
    ] = UNSET
    dry_run: Annotated[bool | UnsetType, Meta(description="true: what would have happened; nothing has")] = UNSET


class OperationResult(Struct, frozen=True, kw_only=True):
    """What one operation of a batch was answered: an order, or a problem. `status` is what it would have been by itself."""

    status: Annotated[int, Meta(examples=[201])]
    order: OrderAnswer | UnsetType = UNSET
    problem: ProblemDocument | UnsetType = UNSET


class BatchAnswer(Struct, frozen=True, kw_only=True):
    """The results of a batch, one for each operation, in their order."""

    results: list[OperationResult]
    dry_run: Annotated[bool | UnsetType, Meta(description="true: what would have happened; nothing has")] = UNSET


class MassCancelAnswer(Struct, frozen=True, kw_only=True):
    """The orders that a mass cancel has cancelled, in the order of their acceptance."""

    cancelled: Annotated[int, Meta(description="How many")]
    order_ids: list[Id]


class OrderList(Struct, frozen=True, kw_only=True):
    """Orders, newest first."""

    orders: list[OrderView]
    count: int
    next_cursor: str | None
    watermark: Annotated[
        str | UnsetType,
        Meta(
            description="Asked by client_order_id: what the service had taken before this moment (RFC 3339, its own clock) is "
            "decided, so that an order that isn't here never will be",
            examples=["2026-11-22T10:00:00.000000Z"],
        ),
    ] = UNSET


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


class AuctionView(Struct, frozen=True, kw_only=True, gc=False):
    """What an uncross would give now: the one price with the most volume, and what could not trade at it."""

    symbol: str
    state: str
    indicative_price: Annotated[str | None, Meta(description="null where nothing would trade", examples=["150.50"])]
    indicative_volume: Decimal
    imbalance: Annotated[str, Meta(description="How much more there is of one side at that price")]
    imbalance_side: Annotated[str | None, Meta(description="BUY, SELL, or null where the sides are even")]
    sequence: int
    timestamp: Time


class InstrumentView(Struct, frozen=True, kw_only=True, gc=False):
    """What a symbol trades in, and how."""

    symbol: str
    tick_size: Decimal
    lot_size: Decimal
    max_order_quantity: Annotated[str | None, Meta(description="Largest quantity of an order; null: no limit")]
    price_band_percent: Annotated[str | None, Meta(description="How far from the last price orders may be; null: no band")]
    band_halt_seconds: Annotated[int, Meta(description="How long the band's edge halts the symbol; 0: not at all")]
    session_close: Annotated[str, Meta(description="When DAY orders end, UTC", examples=["00:00:00"])]
    state: str
    halted_until: Annotated[str | None, Meta(description="When a halt at the band ends: RFC 3339, UTC, microseconds")]
    last_price: Decimal | None
    sequence: int
    listed_at: Time
    base_asset: Annotated[str | None, Meta(description="What a quantity is of; null: orders need no funds")]
    quote_asset: Annotated[str | None, Meta(description="What a price is in; null: orders need no funds")]
    maker_fee_bps: Annotated[int, Meta(description="Of a trade's worth, in hundredths of a percent; below zero: a rebate")]
    taker_fee_bps: int


class InstrumentList(Struct, frozen=True, kw_only=True):
    """Every listed symbol, by name."""

    instruments: list[InstrumentView]
    count: int
    next_cursor: str | None


class HealthView(Struct, frozen=True, kw_only=True):
    """The service is well."""

    status: str
    state: Annotated[str, Meta(description="STARTING, RECOVERING, RUNNING, STALLED, DRAINING or HALTED")]
    reason: Annotated[
        str | UnsetType, Meta(description="Of a gateway: which shards have no engine; their symbols are refused")
    ] = UNSET
    position: Annotated[int, Meta(description="The last committed position")]
    epoch: Annotated[int, Meta(description="Counted up by each start of an engine")]
    incarnation: Annotated[str, Meta(description="Drawn once for a database: positions of another one are of another history")]
    database: str
    durability: Annotated[
        str,
        Meta(
            description="relaxed: the database doesn't flush, so that a power cut can lose what was answered",
            extra_json_schema={"enum": ["full", "relaxed"]},
        ),
    ]
    version: str
    core: Annotated[
        str,
        Meta(
            description="compiled: the engine's core is extension modules, made of the same sources",
            extra_json_schema={"enum": ["python", "compiled"]},
        ),
    ]
    uptime_seconds: float


class StatusView(Struct, frozen=True, kw_only=True):
    """One word."""

    status: str
