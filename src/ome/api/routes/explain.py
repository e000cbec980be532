"""What happened to an order, and why it stands where it does: committed events, and its place in the queue."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Final

from fastapi import FastAPI, Query, Request, Response

from ome.api.audit_schemas import ExplainView, HistoryView
from ome.api.auth import caller_of
from ome.api.explanation import Standing, explain_view, rests, shown_at_better_prices
from ome.api.history import BEGINNING, Modes, Place, cut_events, history_view, place_after, prevented_takers
from ome.api.openapi import answers, declare
from ome.api.paging import MAX_LIMIT, bad_cursor, decode_cursor, encode_cursor
from ome.api.problems import Problem
from ome.api.routes.orders import TAG, OrderIdPath
from ome.api.routes.queries import MAX_LEVELS, PageQuery, Strict, SymbolText
from ome.api.services import JsonAnswer, Services
from ome.domain.access import Access
from ome.domain.enums import MarketState
from ome.domain.events import CommandEvents
from ome.domain.ids import parse_id
from ome.domain.reasons import Reason
from ome.domain.records import OrderRecord

MAX_READS: Final = 3
"""How often an explanation is begun anew because its order has changed while its parts were read; the last one stands."""


class OrderQuery(Strict):
    """An order is named by its id alone."""

    symbol: SymbolText | None = None


class HistoryQuery(PageQuery):
    """A part of an order's history."""

    symbol: SymbolText | None = None


OrderParameters = Annotated[OrderQuery, Query()]
HistoryParameters = Annotated[HistoryQuery, Query()]


class ExplainRoutes:
    """As private as the order itself."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._reads = services.reads

    def add_to(self, app: FastAPI) -> None:
        """Declare the routes."""
        path = "/orders/{order_id}"
        declare(app, "GET", f"{path}/history", self.read_history, TAG, answers(HistoryView), access=Access.READ, weight=5)
        declare(app, "GET", f"{path}/explain", self.explain_order, TAG, answers(ExplainView), access=Access.READ, weight=5)

    async def read_history(self, order_id: OrderIdPath, query: HistoryParameters, request: Request) -> Response:
        """Read the versions and events of an order, oldest first.

        Its fills are here from either side, each with its trade; so are the changes and cancels that were refused.
        """
        order = await self._order(order_id, caller_of(request.scope).account)
        place = BEGINNING if query.cursor is None else _place(order, query.cursor)
        commands, next_cursor, modes = await self._part(order, place, query.limit)
        return JsonAnswer(history_view(order, commands, modes, place, next_cursor))

    async def explain_order(self, order_id: OrderIdPath, query: OrderParameters, request: Request) -> Response:  # noqa: ARG002
        """Explain where an order stands: its place in the queue, what would fill it, why it was refused or cancelled, by which
        rules.
        """
        account = caller_of(request.scope).account
        for _ in range(MAX_READS):
            order = await self._order(order_id, account)
            commands, next_cursor, modes = await self._part(order, BEGINNING, MAX_LIMIT)
            standing = await self._standing(order)
            if await self._order(order_id, account) == order:
                break
        return JsonAnswer(explain_view(order, commands, modes, standing, next_cursor))

    async def _part(self, order: OrderRecord, place: Place, limit: int) -> tuple[Sequence[CommandEvents], str | None, Modes]:
        """At most `limit` stored events of an order from a place on, the cursor of what follows, and the modes that they need."""
        found = await self._reads.events_of_order(order.id, (place.position, place.seen), limit + 1)
        commands, more = cut_events(found, limit)
        modes = await self._modes(order, commands)
        if not more:
            return commands, None, modes
        return commands, encode_cursor(_kind(order), place_after(order, commands, modes, place).text), modes

    async def _order(self, text: str, account: str | None) -> OrderRecord:
        order_id = parse_id(text)
        order = None if order_id is None else await self._reads.order(order_id, account)
        if order is None:
            raise Problem(Reason.ORDER_NOT_FOUND)
        return order

    async def _standing(self, order: OrderRecord) -> Standing:
        market = self._services.market
        instrument = market.instrument(order.symbol)
        state = MarketState.OPEN if instrument is None else instrument.state
        if not rests(order):
            return Standing(state)
        queue = await self._reads.queue_ahead(order)
        depth = market.depth(order.symbol, MAX_LEVELS)
        return Standing(state, queue, 0 if depth is None else shown_at_better_prices(order, depth))

    async def _modes(self, order: OrderRecord, commands: Sequence[CommandEvents]) -> Modes:
        takers = await asyncio.gather(*(self._reads.order(taker) for taker in prevented_takers(order.id, commands)))
        return {taker.id: taker.self_trade_prevention for taker in takers if taker is not None}


def _kind(order: OrderRecord) -> str:
    return f"history {order.id}"


def _place(order: OrderRecord, cursor: str) -> Place:
    try:
        return Place.of_text(decode_cursor(_kind(order), cursor))
    except ValueError:  # digits, but not those of a place
        raise bad_cursor() from None
