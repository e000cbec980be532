"""The shapes of an order's history and explanation, as msgspec Structs like those of `schemas`."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import UNSET, Meta, Struct, UnsetType

from ome.api.schemas import Decimal, Id, OrderView, Time, TradeView

EVENT_TYPES: Final = (
    "ACCEPTED",
    "REJECTED",
    "FILLED",
    "MODIFIED",
    "TRIGGERED",
    "SELF_TRADE_PREVENTED",
    "CANCELLED",
    "EXPIRED",
    "REFUSED",
)
STATUSES: Final = ("PENDING", "PARTIALLY_FILLED", "PENDING_TRIGGER", "FILLED", "CANCELLED", "EXPIRED", "REJECTED")

Status = Annotated[str, Meta(extra_json_schema={"enum": list(STATUSES)})]
Position = Annotated[int, Meta(description="The place of its command in the one order of all commands")]


class ReasonView(Struct, frozen=True, kw_only=True):
    """Why: a row of the table at /docs/problems."""

    code: Annotated[str, Meta(description="Stable, lower snake case", examples=["cancelled_by_user"])]
    rule: Annotated[str | None, Meta(description="The rule it comes from", examples=["M3"])]
    title: str
    advice: str


class OrderEventView(Struct, frozen=True, kw_only=True):
    """One thing that happened to an order, and where that left it.

    FILLED is one trade, of a part or of all of it (see `status`); REFUSED a modify or cancel that changed nothing.
    """

    number: Annotated[int, Meta(description="1 for its first event, without gaps")]
    position: Position
    time: Time
    type: Annotated[str, Meta(extra_json_schema={"enum": list(EVENT_TYPES)})]
    version: Annotated[int, Meta(description="The order's version right after, as the next four")]
    status: Status
    quantity: Decimal
    filled_quantity: Decimal
    remaining_quantity: Decimal
    reason: Annotated[ReasonView | UnsetType, Meta(description="Why it was refused, or what is left of it cancelled")] = UNSET
    role: Annotated[
        str | UnsetType, Meta(description="Which of the two it was", extra_json_schema={"enum": ["MAKER", "TAKER"]})
    ] = UNSET
    trade: Annotated[TradeView | UnsetType, Meta(description="Of FILLED")] = UNSET
    other_order_id: Annotated[Id | UnsetType, Meta(description="Of SELF_TRADE_PREVENTED: the user's other order")] = UNSET
    prevented_quantity: Annotated[Decimal | UnsetType, Meta(description="Of SELF_TRADE_PREVENTED: what would have traded")] = (
        UNSET
    )
    prevented_price: Annotated[Decimal | UnsetType, Meta(description="Of SELF_TRADE_PREVENTED: at which price")] = UNSET


class VersionView(OrderView, frozen=True, kw_only=True):
    """The order right after the command that made this version: its terms are these from then on."""

    position: Position


class HistoryView(Struct, frozen=True, kw_only=True):
    """What happened to an order, oldest first: events, and the versions that they made."""

    order_id: Id
    versions: list[VersionView]
    events: list[OrderEventView]
    count: Annotated[int, Meta(description="How many events")]
    next_cursor: str | None


class QueuePlaceView(Struct, frozen=True, kw_only=True):
    """What stands before a resting order at its own price."""

    orders_ahead: int
    quantity_ahead: Annotated[str, Meta(description="What those show: of an iceberg its shown part alone", examples=["300"])]


class ExplainView(Struct, frozen=True, kw_only=True):
    """Where an order stands, and why."""

    order_id: Id
    status: Status
    queue: Annotated[QueuePlaceView | None, Meta(description="null unless it rests in the book")]
    would_fill_when: Annotated[
        str | None,
        Meta(
            description="Completes the sentence that starts so; null once it has ended",
            examples=["a sell order of more than 300 at 150.50 or lower arrives"],
        ),
    ]
    reason: Annotated[ReasonView | None, Meta(description="Why it was rejected, or what was left of it cancelled")]
    rules: Annotated[list[str], Meta(description="The rules that made it so, by id", examples=[["M1", "T1"]])]
    events: Annotated[list[OrderEventView], Meta(description="The first of its history, at most 1000")]
    next_cursor: Annotated[str | None, Meta(description="Where the order's history goes on; null where this is all of it")]
