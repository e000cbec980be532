"""The shapes of what concerns a user's risk: limits, positions, headroom, the dead-man timer and kill switches."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from ome.api.schemas import Decimal, Symbol, Time, number

MAX_OPEN_ORDERS: Final = 10_000_000
"""Largest `max_open_orders`; a larger one is none."""
MAX_TIMER_SECONDS: Final = 86_400
"""Longest `cancel_all_after`: a day."""

_Number = Annotated[str | None, Meta(description="null: no limit", examples=["1000"])]


class LimitsRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """All limits of a user in a symbol, or in every symbol; what is left out is no limit. 0 allows nothing."""

    symbol: Symbol | UnsetType = UNSET
    max_order_quantity: Annotated[Raw, number("Largest quantity of an order.", "1000", minimum=0)] | UnsetType = UNSET
    max_order_notional: Annotated[Raw, number("Largest price times quantity of an order.", "100000", minimum=0)] | UnsetType = (
        UNSET
    )
    max_open_orders: (
        Annotated[
            int,
            Meta(
                description="Most open orders: in the symbol, or, without one, in all together.",
                ge=0,
                le=MAX_OPEN_ORDERS,
                examples=[100],
            ),
        ]
        | UnsetType
    ) = UNSET
    max_position: Annotated[Raw, number("How long or short open orders may make it at worst.", "5000", minimum=0)] | UnsetType = (
        UNSET
    )
    price_collar_percent: (
        Annotated[
            Raw,
            number("How far above the last price a buy may be, and below it a sell, in percent.", "5", minimum=0),
        ]
        | UnsetType
    ) = UNSET


class LimitsView(Struct, frozen=True, kw_only=True, gc=False):
    """The limits of a user in a symbol; `symbol` null: in every symbol that has none of its own."""

    symbol: str | None
    max_order_quantity: _Number
    max_order_notional: _Number
    max_open_orders: Annotated[int | None, Meta(description="null: no limit")]
    max_position: _Number
    price_collar_percent: _Number


class LimitsList(Struct, frozen=True, kw_only=True, gc=False):
    """All that is laid down for a user."""

    user_id: str
    limits: list[LimitsView]


class PositionView(Struct, frozen=True, kw_only=True, gc=False):
    """What a user holds of a symbol; below zero: short. The mark is the last price."""

    symbol: str
    quantity: Decimal
    average_price: Annotated[str | None, Meta(description="What is open cost on average; null: nothing is open")]
    mark_price: Annotated[str | None, Meta(description="The last price; null before the first trade")]
    realised_profit: Decimal
    unrealised_profit: Annotated[str | None, Meta(description="Of what is open, at the mark")]
    volume: Annotated[str, Meta(description="Bought and sold so far", examples=["1000"])]


class PositionList(Struct, frozen=True, kw_only=True, gc=False):
    """By symbol, those that are closed too."""

    user_id: str
    positions: list[PositionView]


class SymbolRiskView(Struct, frozen=True, kw_only=True, gc=False):
    """What a user may still do in a symbol. null: no limit."""

    symbol: str
    killed: Annotated[bool, Meta(description="Only cancels are taken")]
    position: Decimal
    open_buy_quantity: Annotated[str, Meta(description="Of all open orders, waiting stops too", examples=["10"])]
    open_sell_quantity: Annotated[str, Meta(description="Likewise", examples=["0"])]
    open_orders: int
    open_orders_left: Annotated[int | None, Meta(description="null: no limit in this symbol")]
    max_order_quantity: _Number
    max_order_notional: _Number
    buy_quantity_left: Annotated[str | None, Meta(description="What the position limit leaves; below zero: it is passed")]
    sell_quantity_left: Annotated[str | None, Meta(description="Likewise")]
    highest_buy_price: Annotated[str | None, Meta(description="The collar's edge now; null: no collar, or no price yet")]
    lowest_sell_price: Annotated[str | None, Meta(description="Likewise")]


class RiskView(Struct, frozen=True, kw_only=True, gc=False):
    """What a user may still do, after everything that was taken before the request."""

    user_id: str
    killed: Annotated[bool, Meta(description="The user, or everybody, is stopped")]
    cancel_at: Annotated[str | None, Meta(description="When all orders are cancelled; null: the timer is not armed")]
    open_orders: int
    open_orders_left: Annotated[int | None, Meta(description="null: no limit over all symbols")]
    symbols: Annotated[list[SymbolRiskView], Meta(description="With a position, an open order or a limit, by name")]


class TimerRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """When all open orders are to be cancelled; sent again before, it counts anew."""

    seconds: Annotated[int, Meta(description="From now; 0 disarms", ge=0, le=MAX_TIMER_SECONDS, examples=[30])]


class TimerView(Struct, frozen=True, kw_only=True, gc=False):
    """The dead-man timer as it is set."""

    user_id: str
    seconds: int
    cancel_at: Annotated[str | None, Meta(description="RFC 3339, UTC, microseconds; null: disarmed")]


class KillRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """Stop trading, or let it go on."""

    scope: Annotated[str, Meta(description="Who or what", extra_json_schema={"enum": ["all", "user", "symbol"]})]
    active: Annotated[bool, Meta(description="true: only cancels are taken, and what is open is cancelled; false: lifts it")]
    id: Annotated[str, Meta(description="The user or the symbol; left out for all", examples=["alice"])] | UnsetType = UNSET


class KillView(Struct, frozen=True, kw_only=True, gc=False):
    """A kill switch as it stands."""

    scope: str
    id: str | None
    active: bool
    changed_at: Time


class KillAnswer(Struct, frozen=True, kw_only=True, gc=False):
    """A kill switch as it was set; `open_orders` is how many orders it found: they are cancelled from here on, in chunks."""

    scope: str
    id: str | None
    active: bool
    changed_at: Time
    open_orders: int


class KillList(Struct, frozen=True, kw_only=True, gc=False):
    """The switches that are on."""

    kills: list[KillView]
