"""Query parameters: pydantic models that refuse what they don't know, and the path parameters' patterns."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

from fastapi import Path, Query
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from ome.api.paging import MAX_CURSOR, MAX_LIMIT
from ome.api.problems import FieldError, Problem
from ome.api.schemas import CLIENT_ORDER_ID, CLIENT_ORDER_ID_WORDS, SYMBOL, USER_ID, whole
from ome.domain.clock import parse_time
from ome.domain.enums import OrderStatus
from ome.domain.ids import parse_id
from ome.domain.reasons import Reason

MAX_LEVELS: Final = 1000
"""Most levels of a side in one depth answer."""
MAX_SEQUENCE: Final = 10**18 - 1
"""The largest public sequence that can be asked for; `_DIGITS` has room for no more."""
_MOMENT: Final[dict[str, Any]] = {"format": "date-time"}
_STATUS: Final = "|".join(status.name for status in OrderStatus)
_PRINTABLE: Final = re.compile(CLIENT_ORDER_ID, re.ASCII)
_DIGITS: Final = re.compile(r"[0-9]{1,18}", re.ASCII)


def _plain_digits(value: Any) -> Any:
    if isinstance(value, str) and _DIGITS.fullmatch(value) is None:
        raise ValueError("must be a whole number in plain digits")
    return value


def _statuses(text: str) -> str:
    unknown = [name for name in text.upper().split(",") if name not in OrderStatus.__members__]
    if unknown:
        raise ValueError(f"must be one or more of {', '.join(OrderStatus.__members__)}, with commas between them")
    return text.upper()


def _order_id(text: str) -> str:
    if parse_id(text) is None:
        raise ValueError("must be an order id, as answers show it")
    return text


def _client_order_id(text: str) -> str:
    if _PRINTABLE.fullmatch(text) is None:
        raise ValueError(CLIENT_ORDER_ID_WORDS)
    return text


def _upper(value: Any) -> Any:
    return value.upper() if isinstance(value, str) and value.isascii() else value


PlainInt = Annotated[int, BeforeValidator(_plain_digits)]
SymbolText = Annotated[
    str, Field(pattern=f"^{SYMBOL}$", description="Lower case is folded", examples=["AAPL"]), AfterValidator(str.upper)
]
UserIdText = Annotated[str, Field(pattern=f"^{USER_ID}$", examples=["alice"])]

SymbolPath = Annotated[
    str, Path(description="Lower case is folded", examples=["AAPL"], json_schema_extra={"pattern": whole(SYMBOL)})
]
UserIdPath = Annotated[str, Path(pattern=f"^{USER_ID}$", examples=["alice"])]


class Strict(BaseModel):
    """Parameters of one route; others are refused, so that a misspelt filter doesn't read as none."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PageQuery(Strict):
    """Where a list goes on and how much of it is wanted."""

    limit: PlainInt = Field(default=100, ge=1, le=MAX_LIMIT, description="Most items in the answer")
    cursor: str | None = Field(default=None, max_length=MAX_CURSOR, description="The next_cursor of the answer before")


class UserOrdersQuery(PageQuery):
    """A user's orders."""

    symbol: SymbolText | None = None
    status: Annotated[str, AfterValidator(_statuses)] | None = Field(
        default=None,
        max_length=128,
        description="One status, or several with commas",
        examples=["PENDING,PARTIALLY_FILLED"],
        json_schema_extra={"pattern": whole(f"(?:{_STATUS})(?:,(?:{_STATUS}))*")},
    )

    @property
    def statuses(self) -> list[OrderStatus]:
        """The statuses asked for; empty for all."""
        return [OrderStatus[name] for name in self.status.split(",")] if self.status else []


class ClientOrdersQuery(PageQuery):
    """A user's orders by client id; the user may be left out where the key belongs to one."""

    user_id: UserIdText | None = None
    client_order_id: Annotated[str, AfterValidator(_client_order_id)] | None = Field(
        default=None, examples=["my-order-1"], json_schema_extra={"pattern": whole(CLIENT_ORDER_ID)}
    )
    symbol: SymbolText | None = None


class MassCancelQuery(Strict):
    """Whose orders are cancelled: a user's, a symbol's, or a user's in a symbol; of one side or of both."""

    user_id: UserIdText | None = None
    symbol: SymbolText | None = None
    side: Annotated[Literal["BUY", "SELL"], BeforeValidator(_upper)] | None = None


class TradesQuery(PageQuery):
    """Trades of a symbol, a user, an order, or all of these at once."""

    symbol: SymbolText | None = None
    user_id: UserIdText | None = None
    order_id: Annotated[str, AfterValidator(_order_id)] | None = Field(
        default=None, description="Digits", examples=["1"], json_schema_extra={"pattern": whole("[1-9][0-9]{0,18}")}
    )


class DepthQuery(Strict):
    """How much of a book."""

    levels: PlainInt = Field(default=10, ge=1, le=MAX_LEVELS, description="Most levels of each side")
    detail: Literal["levels", "orders"] = Field(default="levels", description="orders: the queue of each level (operator)")
    as_of_sequence: Annotated[int, Field(ge=1, le=MAX_SEQUENCE), BeforeValidator(_plain_digits)] | None = Field(
        default=None, description="The book right after this public sequence"
    )
    as_of: str | None = Field(
        default=None,
        max_length=40,
        description="The book at this time, RFC 3339",
        examples=["2026-11-22T10:00:00Z"],
        json_schema_extra=_MOMENT,
    )


Interval = Literal["1s", "1m", "5m", "15m", "1h", "4h", "1d"]


class StreamQuery(Strict):
    """What a stream has beside depth, trades and ticker."""

    interval: Interval = Field(default="1m", description="How long one of its candles lasts")


class CandleQuery(PageQuery):
    """Which candles: of an interval, that open from `start` on, inclusive, and before `end`."""

    interval: Interval = Field(default="1m", description="How long a candle lasts")
    start: str | None = Field(
        default=None, max_length=40, description="RFC 3339; without it the latest candles", json_schema_extra=_MOMENT
    )
    end: str | None = Field(default=None, max_length=40, description="RFC 3339; without it up to now", json_schema_extra=_MOMENT)
    empty: bool = Field(default=False, description="Whether intervals without a trade are filled in")


def moment(field: str, text: str) -> int:
    """The time that a parameter names, in microseconds. Raises Problem."""
    try:
        return parse_time(text)
    except ValueError as error:
        raise Problem(Reason.INVALID_REQUEST, errors=[FieldError(field, str(error))]) from None


def optional_moment(field: str, text: str | None) -> int | None:
    """As `moment`, of a parameter that may be left out."""
    return None if text is None else moment(field, text)


NoParameters = Annotated[Strict, Query()]
"""Of a route that has none."""
PageParameters = Annotated[PageQuery, Query()]
UserOrdersParameters = Annotated[UserOrdersQuery, Query()]
ClientOrdersParameters = Annotated[ClientOrdersQuery, Query()]
TradesParameters = Annotated[TradesQuery, Query()]
MassCancelParameters = Annotated[MassCancelQuery, Query()]
CandleParameters = Annotated[CandleQuery, Query()]
DepthParameters = Annotated[DepthQuery, Query()]
