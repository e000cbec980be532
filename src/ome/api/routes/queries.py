"""Query parameters: pydantic models that refuse what they don't know, and the path parameters' patterns."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

from fastapi import Path, Query
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from ome.api.paging import MAX_CURSOR, MAX_LIMIT
from ome.api.schemas import CLIENT_ORDER_ID, CLIENT_ORDER_ID_WORDS, SYMBOL, USER_ID
from ome.domain.enums import OrderStatus
from ome.domain.ids import parse_id

MAX_LEVELS: Final = 1000
"""Most levels of a side in one depth answer."""
_PRINTABLE: Final = re.compile(CLIENT_ORDER_ID, re.ASCII)
_DIGITS: Final = re.compile(r"[0-9]{1,9}", re.ASCII)


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

SymbolPath = Annotated[str, Path(description="Lower case is folded", examples=["AAPL"])]
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
        default=None, max_length=128, description="One status, or several with commas", examples=["PENDING,PARTIALLY_FILLED"]
    )

    @property
    def statuses(self) -> list[OrderStatus]:
        """The statuses asked for; empty for all."""
        return [OrderStatus[name] for name in self.status.split(",")] if self.status else []


class ClientOrdersQuery(PageQuery):
    """A user's orders by client id."""

    user_id: UserIdText
    client_order_id: Annotated[str, AfterValidator(_client_order_id)] | None = Field(default=None, examples=["my-order-1"])
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
    order_id: Annotated[str, AfterValidator(_order_id)] | None = Field(default=None, description="Digits", examples=["1"])


class DepthQuery(Strict):
    """How much of a book."""

    levels: PlainInt = Field(default=10, ge=1, le=MAX_LEVELS, description="Most levels of each side")
    detail: Literal["levels", "orders"] = Field(default="levels", description="orders: the queue of each level (operator)")
    as_of_sequence: str | None = Field(default=None, description="Not built yet")
    as_of: str | None = Field(default=None, description="Not built yet")


NoParameters = Annotated[Strict, Query()]
"""Of a route that has none."""
PageParameters = Annotated[PageQuery, Query()]
UserOrdersParameters = Annotated[UserOrdersQuery, Query()]
ClientOrdersParameters = Annotated[ClientOrdersQuery, Query()]
TradesParameters = Annotated[TradesQuery, Query()]
MassCancelParameters = Annotated[MassCancelQuery, Query()]
DepthParameters = Annotated[DepthQuery, Query()]
