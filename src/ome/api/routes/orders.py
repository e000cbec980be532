"""Orders and trades: the hot routes as OpenAPI shows them, and the lists."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, Final

from fastapi import FastAPI, Path, Request, Response
from msgspec import UNSET, UnsetType

from ome.api.auth import caller_of, user_for
from ome.api.openapi import BATCH_EXAMPLES, MODIFY_EXAMPLES, ORDER_EXAMPLES, answers, body, declare
from ome.api.orders import HOT_ACCESS, OrderRoutes
from ome.api.paging import cut, page_after
from ome.api.problems import FieldError, Header, Problem
from ome.api.routes.queries import (
    ClientOrdersParameters,
    MassCancelParameters,
    TradesParameters,
    UserIdPath,
    UserOrdersParameters,
)
from ome.api.schemas import (
    ORDER_ID,
    BatchAnswer,
    BatchRequest,
    MassCancelAnswer,
    ModifyRequest,
    OrderAnswer,
    OrderList,
    OrderRequest,
    OrderView,
    TradeList,
    whole,
)
from ome.api.services import JsonAnswer, Services, headers_of
from ome.api.views import order_view, trade_view
from ome.domain.access import Access
from ome.domain.clock import MICROSECONDS, format_time, now_us
from ome.domain.enums import Side
from ome.domain.ids import parse_id
from ome.domain.reasons import Reason
from ome.domain.records import OrderRecord

TAG: Final = "Orders"
OrderIdPath = Annotated[str, Path(description="Digits", examples=["1"], json_schema_extra={"pattern": whole(ORDER_ID)})]
DRY_RUN: Final[dict[str, Any]] = {
    "name": "dry_run",
    "in": "query",
    "schema": {"type": "boolean"},
    "description": "true: only tell what would happen; nothing changes and no id is used",
}

SYMBOL_HINT: Final[dict[str, Any]] = {
    "name": "symbol",
    "in": "query",
    "schema": {"type": "string"},
    "description": "Accepted, never needed: an order is named by its id alone",
}


class DeclaredOrders:
    """The routes that the dispatcher serves: declared for OpenAPI, and the same handlers should a request arrive here."""

    def __init__(self, orders: OrderRoutes) -> None:
        self._orders = orders

    def add_to(self, app: FastAPI) -> None:
        """Declare the routes."""
        new = {**body(OrderRequest, ORDER_EXAMPLES), "parameters": [DRY_RUN]}
        change = {**body(ModifyRequest, MODIFY_EXAMPLES), "parameters": [DRY_RUN, SYMBOL_HINT]}
        one = {"parameters": [SYMBOL_HINT]}
        _declare(app, "POST", "/orders", self.submit_order, answers(OrderAnswer, 201), new, status_code=201)
        many = {**body(BatchRequest, BATCH_EXAMPLES), "parameters": [DRY_RUN]}
        _declare(app, "POST", "/orders/batch", self.batch_orders, answers(BatchAnswer), many)
        path = "/orders/{order_id}"
        _declare(app, "GET", path, self.read_order, answers(OrderView), one)
        _declare(app, "PUT", path, self.modify_order, answers(OrderAnswer), change)
        _declare(app, "DELETE", path, self.cancel_order, answers(OrderView), one)

    async def submit_order(self, request: Request) -> Response:
        """Submit an order.

        It is matched by price and time, and durable when this answers. A well-formed order that the engine refuses is kept with
        status REJECTED and answered 422 with its `order_id`. With a `client_order_id` the request is safe to send again.
        """
        status, content, headers = await self._orders.submit(request.scope, headers_of(request), request.receive)
        return _plain(status, content, headers)

    async def batch_orders(self, request: Request) -> Response:
        """Submit, modify and cancel up to 1000 orders in one request.

        The operations are carried out in their order; one that is refused, or that can't be read, does not stop the rest. Each
        gets the status and the answer that it would have got by itself.
        """
        return _plain(*await self._orders.batch(request.scope, headers_of(request), request.receive))

    async def read_order(self, order_id: OrderIdPath, request: Request) -> Response:  # noqa: ARG002  the handler reads the path
        """Read an order as it stands."""
        return _plain(*await self._orders.read(request.scope, headers_of(request), request.receive))

    async def modify_order(self, order_id: OrderIdPath, request: Request) -> Response:  # noqa: ARG002
        """Change an open order.

        A smaller total keeps the place in the queue; a larger one or another price goes to the back and may trade at once.
        `quantity` is the new total, what is filled included. A waiting stop can be changed in everything and keeps its turn.
        """
        return _plain(*await self._orders.modify(request.scope, headers_of(request), request.receive))

    async def cancel_order(self, order_id: OrderIdPath, request: Request) -> Response:  # noqa: ARG002
        """Cancel what is left of an open order."""
        return _plain(*await self._orders.cancel(request.scope, headers_of(request), request.receive))


def _declare(
    app: FastAPI,
    method: str,
    path: str,
    endpoint: Callable[..., Awaitable[Response]],
    responses: dict[int | str, dict[str, Any]],
    extra: dict[str, Any],
    **options: Any,
) -> None:
    """With the scope that the dispatcher asks for; the handlers count what they are asked for themselves."""
    access = HOT_ACCESS[method, path]
    declare(app, method, path, endpoint, TAG, responses, access=access, weight=0, openapi_extra=extra, **options)


def _plain(status: int, content: bytes, headers: Sequence[Header]) -> Response:
    response = Response(content, status, media_type="application/json")
    response.raw_headers.extend(headers)
    return response


class MassCancel:
    """Many orders at once."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def add_to(self, app: FastAPI) -> None:
        """Declare the route."""
        declare(app, "DELETE", "/orders", self.cancel_orders, TAG, answers(MassCancelAnswer), access=Access.TRADE)

    async def cancel_orders(self, query: MassCancelParameters, request: Request) -> Response:
        """Cancel all open orders of a user, of a symbol, or of a user in a symbol; with `side`, those of one side.

        Waiting stops are among them. They are cancelled in the order of their acceptance.
        """
        caller = caller_of(request.scope)
        user_id = query.user_id if caller.account is None else user_for(caller, query.user_id)
        if user_id is None and query.symbol is None:
            raise Problem(Reason.INVALID_REQUEST, errors=[FieldError("user_id", "or symbol is required, or both")])
        side = None if query.side is None else Side[query.side]
        cancelled = await self._services.entry.cancel_all(user_id, query.symbol, side)
        return JsonAnswer(MassCancelAnswer(cancelled=len(cancelled), order_ids=[str(order_id) for order_id in cancelled]))


class Lists:
    """Lists of orders and trades, newest first."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def add_to(self, app: FastAPI) -> None:
        """Declare the routes."""
        declare(app, "GET", "/orders", self.find_orders, TAG, answers(OrderList), access=Access.READ, weight=2)
        declare(app, "GET", "/orders/user/{user_id}", self.list_orders, TAG, answers(OrderList), access=Access.READ, weight=2)
        declare(
            app,
            "GET",
            "/trades",
            self.list_trades,
            "Trades",
            answers(TradeList),
            access=Access.PUBLIC,
            raised={"user_id": Access.READ},
            weight=2,
        )

    async def find_orders(self, query: ClientOrdersParameters, request: Request) -> Response:
        """Find a user's orders by client id; without one, list them all.

        While a request with this client id is still being worked on, this waits for its fate: the answer is definite for every
        request that the service had taken before `watermark`. Where the fate stays open: 503 `pending`, ask again.
        """
        reads, user_id = self._services.reads, user_for(caller_of(request.scope), query.user_id)
        if query.client_order_id is not None:
            on_their_way_us = int(self._services.settings.forwarding_seconds * MICROSECONDS)
            watermark = format_time(now_us() - on_their_way_us)
            await self._services.entry.wait_for_fate(user_id, query.client_order_id, query.symbol)
            found = await reads.orders_by_client_id(user_id, query.client_order_id, query.symbol)
            return _orders(found, query.limit, watermark)
        page = page_after("orders", query.cursor, query.limit)
        return _orders(await reads.orders_of_user(user_id, page, symbol=query.symbol), query.limit)

    async def list_orders(self, user_id: UserIdPath, query: UserOrdersParameters, request: Request) -> Response:
        """List a user's orders."""
        user_id = user_for(caller_of(request.scope), user_id)
        page = page_after("orders", query.cursor, query.limit)
        found = await self._services.reads.orders_of_user(user_id, page, symbol=query.symbol, statuses=query.statuses)
        return _orders(found, query.limit)

    async def list_trades(self, query: TradesParameters, request: Request) -> Response:
        """List trades. Whose they are is private: a filter by user needs the scope `read`."""
        services = self._services
        user_id = None if query.user_id is None else user_for(caller_of(request.scope), query.user_id)
        if query.symbol is not None and services.market.instrument(query.symbol) is None:
            raise Problem(Reason.SYMBOL_NOT_FOUND)
        order_id = None if query.order_id is None else parse_id(query.order_id)
        page = page_after("trades", query.cursor, query.limit)
        found = await services.reads.trades(page, symbol=query.symbol, user_id=user_id, order_id=order_id)
        trades, next_cursor = cut("trades", found, query.limit)
        return JsonAnswer(TradeList(trades=[trade_view(trade) for trade in trades], count=len(trades), next_cursor=next_cursor))


def _orders(found: list[OrderRecord], limit: int, watermark: str | UnsetType = UNSET) -> Response:
    orders, next_cursor = cut("orders", found, limit)
    shown = [order_view(order) for order in orders]
    return JsonAnswer(OrderList(orders=shown, count=len(shown), next_cursor=next_cursor, watermark=watermark))
