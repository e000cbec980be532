"""What a user holds and may do, and what stops it: positions, limits, headroom, dead-man timers, kill switches (R1, R2, I3)."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI, Request, Response

from ome.api.auth import caller_of, user_for
from ome.api.bodies import read_json
from ome.api.decoding import read_kill, read_limits, read_timer
from ome.api.openapi import answers, body, declare
from ome.api.risk_schemas import (
    KillAnswer,
    KillList,
    KillRequest,
    KillView,
    LimitsList,
    LimitsRequest,
    LimitsView,
    PositionList,
    PositionView,
    RiskView,
    SymbolRiskView,
    TimerRequest,
    TimerView,
)
from ome.api.routes.queries import NoParameters, UserIdPath
from ome.api.services import JsonAnswer, Services, headers_of
from ome.domain.access import Access
from ome.domain.clock import format_time
from ome.domain.enums import ControlKind, Switch
from ome.domain.numbers import format_number, ratio_text
from ome.domain.ports import SymbolRisk
from ome.domain.positions import MONEY_DECIMALS, PRICE_UNITS, QUANTITY_DECIMALS, text_of, units_of, units_of_number
from ome.domain.records import ControlRecord, Limits, PositionRecord

LIMITS_EXAMPLES: Final[dict[str, dict[str, Any]]] = {
    "symbol": {
        "summary": "In one symbol",
        "value": {"symbol": "AAPL", "max_order_quantity": "1000", "max_position": "5000", "price_collar_percent": "5"},
    },
    "user": {"summary": "In every symbol", "value": {"max_order_notional": "100000", "max_open_orders": 100}},
    "none": {"summary": "No limits in every symbol any more", "value": {}},
}
TIMER_EXAMPLES: Final[dict[str, dict[str, Any]]] = {
    "arm": {"summary": "Cancel all in half a minute", "value": {"seconds": 30}},
    "disarm": {"summary": "Leave all as it is", "value": {"seconds": 0}},
}
KILL_EXAMPLES: Final[dict[str, dict[str, Any]]] = {
    "user": {"summary": "Stop a user", "value": {"scope": "user", "id": "alice", "active": True}},
    "lift": {"summary": "Let the user go on", "value": {"scope": "user", "id": "alice", "active": False}},
}


class RiskRoutes:
    """A user's own key reads what is the user's, and sets its timer; the rest is the operator's."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def add_to(self, app: FastAPI) -> None:
        """Declare the routes."""
        tag, path, read, policy = "Risk", "/users/{user_id}", Access.READ, "mass_cancels"
        extra = body(LimitsRequest, LIMITS_EXAMPLES)
        shape = answers(LimitsList)
        declare(app, "PUT", f"{path}/limits", self.set_limits, tag, shape, access=Access.OPERATOR, openapi_extra=extra)
        declare(app, "GET", f"{path}/limits", self.read_limits, tag, shape, access=read)
        declare(app, "GET", f"{path}/positions", self.read_positions, tag, answers(PositionList), access=read)
        declare(app, "GET", f"{path}/risk", self.read_risk, tag, answers(RiskView), access=read)
        extra = body(TimerRequest, TIMER_EXAMPLES)
        shape = answers(TimerView)
        timer = f"{path}/cancel_all_after"
        declare(app, "POST", timer, self.set_timer, tag, shape, access=Access.TRADE, policy=policy, openapi_extra=extra)
        extra = body(KillRequest, KILL_EXAMPLES)
        shape = answers(KillAnswer)
        operator = Access.OPERATOR
        declare(app, "PUT", "/admin/kill", self.set_kill, tag, shape, access=operator, policy=policy, openapi_extra=extra)
        declare(app, "GET", "/admin/kill", self.list_kills, tag, answers(KillList), access=operator)

    async def set_limits(self, user_id: UserIdPath, query: NoParameters, request: Request) -> Response:  # noqa: ARG002
        """Set all limits of a user in a symbol, or, without one, in every symbol that has none of its own.

        They hold for orders to come, and for changes that do more than lower a quantity; what is open stays.
        """
        await self._services.entry.control(read_limits(await self._body(request), user_id))
        return JsonAnswer(await self._limits(user_id))

    async def read_limits(self, user_id: UserIdPath, query: NoParameters, request: Request) -> Response:  # noqa: ARG002
        """Read a user's limits: those for every symbol first, then those of single ones."""
        return JsonAnswer(await self._limits(user_for(caller_of(request.scope), user_id)))

    async def _limits(self, user_id: str) -> LimitsList:
        found = await self._services.reads.controls(ControlKind.LIMITS, user_id)
        return LimitsList(user_id=user_id, limits=[_limits_view(each.symbol, each.limits or Limits()) for each in found])

    async def read_positions(self, user_id: UserIdPath, query: NoParameters, request: Request) -> Response:  # noqa: ARG002
        """Read what a user holds of each symbol, at what cost, and what it has won or lost, at the last price."""
        user_id = user_for(caller_of(request.scope), user_id)
        found = await self._services.reads.positions_of_user(user_id)
        return JsonAnswer(PositionList(user_id=user_id, positions=[self._position(each) for each in found]))

    def _position(self, record: PositionRecord) -> PositionView:
        instrument = self._services.market.instrument(record.symbol)
        last = None if instrument is None else instrument.last_price
        quantity, cost = units_of(record.quantity, QUANTITY_DECIMALS), units_of(record.cost, MONEY_DECIMALS)
        worth = None if last is None else quantity * units_of_number(last)
        return PositionView(
            symbol=record.symbol,
            quantity=record.quantity,
            average_price=ratio_text(abs(cost), abs(quantity) * PRICE_UNITS) if quantity else None,
            mark_price=None if last is None else format_number(last),
            realised_profit=record.realised,
            unrealised_profit=None if worth is None else text_of(worth - cost, MONEY_DECIMALS),
            volume=record.volume,
        )

    async def read_risk(self, user_id: UserIdPath, query: NoParameters, request: Request) -> Response:  # noqa: ARG002
        """Read what each limit still leaves a user, in its turn behind the orders that were taken before."""
        risk = await self._services.bus.risk(user_for(caller_of(request.scope), user_id))
        view = RiskView(
            user_id=risk.user_id,
            killed=risk.is_killed,
            cancel_at=None if risk.cancel_at is None else format_time(risk.cancel_at),
            open_orders=risk.open_orders,
            open_orders_left=risk.open_orders_left,
            symbols=[_symbol_view(each) for each in risk.symbols],
        )
        return JsonAnswer(view)

    async def set_timer(self, user_id: UserIdPath, query: NoParameters, request: Request) -> Response:  # noqa: ARG002
        """Have all of a user's orders cancelled in so many seconds, unless this is sent again before; 0 disarms.

        It survives a restart: a deadline that passed while the service was away is kept at its start, before any order.
        """
        command = read_timer(await self._body(request), user_for(caller_of(request.scope), user_id))
        until = (await self._services.entry.control(command)).control.until
        cancel_at = None if until is None else format_time(until)
        return JsonAnswer(TimerView(user_id=command.user_id, seconds=command.seconds, cancel_at=cancel_at))

    async def set_kill(self, query: NoParameters, request: Request) -> Response:  # noqa: ARG002
        """Stop everybody, a user or a symbol at once, ahead of all that waits, and cancel what is open; or let it go on.

        Until it is lifted only cancels are taken, and changes that only lower a quantity.
        """
        changed = await self._services.entry.control(read_kill(await self._body(request)))
        view = _kill_view(changed.control)
        return JsonAnswer(
            KillAnswer(
                scope=view.scope, id=view.id, active=view.active, changed_at=view.changed_at, open_orders=changed.open_orders
            )
        )

    async def list_kills(self, query: NoParameters) -> Response:  # noqa: ARG002
        """List the kill switches that are on."""
        found = await self._services.reads.controls(ControlKind.KILL)
        return JsonAnswer(KillList(kills=[_kill_view(each) for each in found]))

    async def _body(self, request: Request) -> bytes:
        return await read_json(headers_of(request), request.receive, self._services.settings.max_body_bytes)


def _limits_view(symbol: str, limits: Limits) -> LimitsView:
    return LimitsView(
        symbol=symbol or None,
        max_order_quantity=_text(limits.max_order_quantity),
        max_order_notional=_text(limits.max_order_notional),
        max_open_orders=limits.max_open_orders,
        max_position=_text(limits.max_position),
        price_collar_percent=_text(limits.price_collar_percent),
    )


def _symbol_view(risk: SymbolRisk) -> SymbolRiskView:
    return SymbolRiskView(
        symbol=risk.symbol,
        killed=risk.is_killed,
        position=risk.position,
        open_buy_quantity=risk.bought,
        open_sell_quantity=risk.sold,
        open_orders=risk.open_orders,
        open_orders_left=risk.open_orders_left,
        max_order_quantity=_text(risk.limits.max_order_quantity),
        max_order_notional=_text(risk.limits.max_order_notional),
        buy_quantity_left=risk.room_to_buy,
        sell_quantity_left=risk.room_to_sell,
        highest_buy_price=_text(risk.highest_buy),
        lowest_sell_price=_text(risk.lowest_sell),
    )


def _kill_view(record: ControlRecord) -> KillView:
    scope = "user" if record.user_id else "symbol" if record.symbol else "all"
    return KillView(
        scope=scope,
        id=record.user_id or record.symbol or None,
        active=record.switch is Switch.ON,
        changed_at=format_time(record.changed_at),
    )


def _text(number: int | None) -> str | None:
    return None if number is None else format_number(number)
