"""What the service is measured against: a FastAPI route that does nothing, with models of the same fields.

FastAPI's own defaults throughout: the request is validated by pydantic, the answer is serialised by it; no book, no database,
no durability. `bench.py` runs it under the uvicorn flags of the service: `uvicorn --factory loadtests.baseline:create_app`.
"""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Literal

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field

Number = Annotated[Decimal, Field(gt=0, max_digits=15, decimal_places=9)]


class OrderRequest(BaseModel):
    """The fields of POST /orders."""

    model_config = ConfigDict(extra="forbid")

    user_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9._:@-]{1,64}$")]
    symbol: Annotated[str, Field(pattern=r"^[A-Z0-9][A-Z0-9._-]{0,31}$")]
    side: Literal["BUY", "SELL"]
    type: Literal["LIMIT", "MARKET", "STOP", "STOP_LIMIT", "TRAILING_STOP"] = "LIMIT"
    quantity: Number
    price: Number | None = None
    time_in_force: Literal["GTC", "IOC", "FOK", "GTD", "DAY"] = "GTC"
    expires_at: datetime | None = None
    self_trade_prevention: Literal["CANCEL_NEWEST", "CANCEL_OLDEST", "CANCEL_BOTH", "DECREMENT", "NONE"] = "CANCEL_NEWEST"
    client_order_id: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    post_only: bool = False
    stop_price: Number | None = None
    trail_amount: Number | None = None
    trail_percent: Number | None = None
    limit_offset: Number | None = None
    display_quantity: Number | None = None
    min_quantity: Number | None = None
    max_slippage_bps: Annotated[int, Field(ge=0, le=10_000)] | None = None
    valid_for_ms: Annotated[int, Field(ge=1, le=60_000)] | None = None


class Trade(BaseModel):
    """A trade in the answer."""

    trade_id: str
    symbol: str
    price: Decimal
    quantity: Decimal
    buy_order_id: str
    sell_order_id: str
    maker_order_id: str
    taker_side: str | None
    executed_at: datetime
    sequence: int


class OrderAnswer(BaseModel):
    """The fields of the answer to a plain POST /orders."""

    order_id: str
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
    stop_price: Decimal | None
    self_trade_prevention: str
    status: str
    reason: str | None
    version: int
    created_at: datetime
    updated_at: datetime
    triggered_at: datetime | None
    executed_trades: list[Trade]


def create_app() -> FastAPI:
    """The application with its one route."""
    app = FastAPI()

    @app.post("/orders", status_code=201)
    async def submit(order: OrderRequest) -> OrderAnswer:
        now = datetime.now(UTC)
        return OrderAnswer(
            order_id="1",
            client_order_id=order.client_order_id,
            user_id=order.user_id,
            symbol=order.symbol,
            side=order.side,
            type=order.type,
            time_in_force=order.time_in_force,
            quantity=order.quantity,
            filled_quantity=Decimal(0),
            remaining_quantity=order.quantity,
            price=order.price,
            average_price=None,
            stop_price=None,
            self_trade_prevention=order.self_trade_prevention,
            status="PENDING",
            reason=None,
            version=1,
            created_at=now,
            updated_at=now,
            triggered_at=None,
            executed_trades=[],
        )

    return app
