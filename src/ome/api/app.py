"""The one way into the HTTP edge: `build_app` puts the dispatcher in front of a FastAPI application over the ports it is given.

Nothing is built at import. Errors of the ordinary routes become problem documents here; those of the hot ones in the
dispatcher, by the same table.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from importlib.metadata import version
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match
from starlette.types import Scope

from ome.api.access import AccessTable, Declaration
from ome.api.audit import Audit
from ome.api.auth import Gate
from ome.api.bodies import ClientGone
from ome.api.dispatcher import Dispatcher
from ome.api.failures import problem_of
from ome.api.keys import Keys
from ome.api.openapi import describe
from ome.api.orders import OrderRoutes
from ome.api.plain_requests import forget_heads
from ome.api.problems import CONTENT_TYPE, FieldError, Problem
from ome.api.rate_limits import RateLimits
from ome.api.refused_keys import RefusedKeys
from ome.api.routes.admin import AdminRoutes
from ome.api.routes.demo import DemoRoutes
from ome.api.routes.explain import ExplainRoutes
from ome.api.routes.funds import FundsRoutes
from ome.api.routes.keys import KeyRoutes
from ome.api.routes.market import MarketRoutes
from ome.api.routes.orders import DeclaredOrders, Lists, MassCancel
from ome.api.routes.past import PastRoutes
from ome.api.routes.risk import RiskRoutes
from ome.api.routes.service import ServiceRoutes
from ome.api.routes.streams import StreamRoutes
from ome.api.schemas import SYMBOL, SYMBOL_WORDS, USER_ID, USER_ID_WORDS
from ome.api.services import FULL, Durability, Lineage, Ports, Services
from ome.api.settings import ApiSettings, StreamSettings
from ome.api.streams.hub import Streams
from ome.domain.access import Access
from ome.domain.errors import OmeError
from ome.domain.numbers import pack
from ome.domain.reasons import Reason
from ome.observability import Metrics, RequestLog

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[Any]]

DESCRIPTION: Final = """\
Limit order books with price-time priority. Every answer is durable when it is given.

Decimals may be sent as strings or numbers and come back as strings, always. Times are RFC 3339, UTC, microseconds. Errors are
RFC 9457 problem documents with a stable `code` ([all of them](/docs/problems)) and an `outcome`. Lists take `limit` and `cursor`.
"""


def build_app(
    *,
    ports: Ports,
    settings: ApiSettings,
    metrics: Metrics,
    stream_settings: StreamSettings | None = None,
    durability: Durability = lambda: FULL,
    lineage: Lineage = lambda: (0, ""),
    lifespan: Lifespan | None = None,
) -> Dispatcher:
    """An ASGI application over these ports; `lifespan` is FastAPI's, for whoever starts and stops what is behind them.

    `durability` tells how far commits can be relied on now, "full" or "relaxed" (DUR1), `lineage` the engine's epoch and its
    history's incarnation.
    """
    keys = Keys(ports.bus)
    gate, audit = Gate(settings, keys), Audit(ports.bus)
    limits, refused = RateLimits(settings.rates, lambda: gate.needs_key), RefusedKeys(audit)
    gate.failed = partial(_key_failed, limits, refused)
    request_log = RequestLog(metrics, settings.request_log_seconds)
    services = Services(
        entry=ports.entry,
        funds=ports.funds,
        reads=ports.reads,
        market=ports.market,
        past=ports.past,
        bus=ports.bus,
        settings=settings,
        metrics=metrics,
        request_log=request_log,
        gate=gate,
        keys=keys,
        durability=durability,
        lineage=lineage,
        demo=ports.demo,
    )
    orders = OrderRoutes(ports.entry, ports.reads, limits, settings)
    streams = Streams(ports, gate, limits, orders, settings, stream_settings or StreamSettings(), metrics, lineage)
    app = _bare_app(lifespan)
    access = app.state.access = AccessTable(gate, limits, audit, settings.max_body_bytes)
    for route in app.routes:  # FastAPI's own: the OpenAPI document
        access.declare(route, Declaration("GET", app.openapi_url or "", Access.PUBLIC))
    for routes in (
        Lists(services),
        DeclaredOrders(orders),
        MassCancel(services),
        ExplainRoutes(services),
        MarketRoutes(services),
        PastRoutes(services),
        StreamRoutes(streams),
        FundsRoutes(services),
        ServiceRoutes(services),
        KeyRoutes(services),
        AdminRoutes(services),
        RiskRoutes(services),
        DemoRoutes(services),
    ):
        routes.add_to(app)
    access.check(app)
    describe(app)
    keys.revoked = partial(_key_revoked, streams)
    dispatcher = Dispatcher(app, orders, streams, gate, ports.bus, request_log, settings, durability)
    dispatcher.refused_keys = refused
    _answer_errors(app, settings)
    return dispatcher


def _bare_app(lifespan: Lifespan | None) -> FastAPI:
    """FastAPI's application, without a route of ours."""
    return FastAPI(
        title="OME",
        summary="An order matching engine service",
        description=DESCRIPTION,
        version=version("ome"),
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # costs a fifth of a request, even with no exporter
    )


def _key_revoked(streams: Streams, key_id: str) -> None:
    """A key was revoked: what it opened ends, and nothing that was read keeps it."""
    streams.close_key(key_id)
    forget_heads()


def _key_failed(limits: RateLimits, refused: RefusedKeys, scope: Scope) -> None:
    """A request's key was refused; raises RATE_LIMITED where that happens too often."""
    refused.note(limits.address(scope))
    limits.key_failed(scope)


def _answer_errors(app: FastAPI, settings: ApiSettings) -> None:
    """Render whatever the ordinary routes raise."""

    async def answer(request: Request, error: Exception) -> Response:
        match error:
            case RequestValidationError():
                problem = _of_parameters(error)
            case HTTPException():
                problem = _of_status(error, app.routes, request, settings)
            case ClientGone():
                return Response(status_code=400)  # nobody reads it
            case _:
                problem = problem_of(error, request.scope["ome.request_id"], settings.retry_after_seconds)
        request.scope["ome.code"] = problem.reason.code
        body = problem.render(request.method, request.scope["path"], request.scope["ome.request_id"])
        response = Response(body, problem.status, media_type=CONTENT_TYPE)
        response.raw_headers.extend(problem.headers)
        return response

    for kind in (Problem, OmeError, RequestValidationError, HTTPException, ClientGone, Exception):
        app.add_exception_handler(kind, answer)


_MESSAGES: Final = {
    "extra_forbidden": "is no parameter of this route",
    "missing": "is required",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "string_too_long": "must be at most {max_length} characters long",
    "literal_error": "must be {expected}",
}
"""What is said for each of pydantic's complaints, from what it knows of it."""
_PATTERNS: Final = {f"^{USER_ID}$": USER_ID_WORDS, f"^{SYMBOL}$": SYMBOL_WORDS}


def _in_words(found: dict[str, Any]) -> str:
    """One of pydantic's complaints, as a sentence that starts with the parameter's name."""
    kind, about = found["type"], found.get("ctx", {})
    if kind == "value_error":
        return str(about["error"])
    if kind == "string_pattern_mismatch":
        return _PATTERNS.get(about["pattern"], "has characters that it can't have, or too many")
    return _MESSAGES.get(kind, "is not as /docs says").format_map(about).replace("'", "")


def _of_parameters(error: RequestValidationError) -> Problem:
    errors = []
    for found in error.errors():
        field = ".".join(str(part) for part in found["loc"][1:])[:64]
        errors.append(FieldError(field, _in_words(found)))
    return Problem(Reason.INVALID_REQUEST, errors=errors)


def _of_status(error: HTTPException, routes: list[BaseRoute], request: Request, settings: ApiSettings) -> Problem:
    """What Starlette and FastAPI refuse by themselves."""
    if error.status_code == 405:
        methods = _methods_of(routes, request) or {"GET"}
        allowed = ", ".join(sorted(methods | {"HEAD"} if "GET" in methods else methods))
        return Problem(Reason.METHOD_NOT_ALLOWED, headers=((b"allow", allowed.encode()),))
    if error.status_code == 413:
        return Problem(Reason.BODY_TOO_LARGE, limit=pack(settings.max_body_bytes, 0))
    return Problem(Reason.ROUTE_NOT_FOUND)


def _methods_of(routes: list[BaseRoute], request: Request) -> set[str]:
    """Every method that some route takes at the request's path."""
    found: set[str] = set()
    for route in routes:
        if route.matches(request.scope)[0] is not Match.NONE:
            found |= getattr(route, "methods", None) or set()
    return found
