"""OpenAPI, made from the Structs that do the checking and the rendering: what /docs shows is what the code does."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec
from fastapi import Depends, FastAPI, Response
from starlette.types import ASGIApp

from ome.api import audit_schemas, demo_schemas, fund_schemas, key_schemas, past_schemas, risk_schemas, schemas
from ome.api.access import NOTHING, Declaration, access_table
from ome.api.decoding import CONDITIONS, MODIFY_FORM
from ome.api.problems import CONTENT_TYPE, ProblemDocument
from ome.api.streams.order_events import UserEventList
from ome.domain.access import Access

_REF: Final = "#/components/schemas/{name}"
_STRUCTS: Final = (
    schemas.OrderRequest,
    schemas.ModifyRequest,
    schemas.BatchRequest,
    schemas.SubmitOperation,
    schemas.ModifyOperation,
    schemas.CancelOperation,
    schemas.InstrumentRequest,
    schemas.OrderView,
    schemas.OrderAnswer,
    schemas.BatchAnswer,
    schemas.MassCancelAnswer,
    schemas.OrderList,
    schemas.TradeList,
    schemas.MarketView,
    schemas.MarketList,
    schemas.DepthView,
    schemas.AuctionView,
    schemas.InstrumentView,
    schemas.InstrumentList,
    schemas.HealthView,
    schemas.StatusView,
    risk_schemas.LimitsRequest,
    risk_schemas.LimitsList,
    risk_schemas.PositionList,
    risk_schemas.RiskView,
    risk_schemas.TimerRequest,
    risk_schemas.TimerView,
    risk_schemas.KillRequest,
    risk_schemas.KillAnswer,
    risk_schemas.KillList,
    past_schemas.CandleList,
    past_schemas.SnapshotList,
    past_schemas.FullSnapshotView,
    audit_schemas.HistoryView,
    audit_schemas.ExplainView,
    key_schemas.KeyRequest,
    key_schemas.RotationRequest,
    key_schemas.KeyView,
    key_schemas.NewKeyView,
    key_schemas.KeyList,
    key_schemas.AuditList,
    key_schemas.ErrorList,
    demo_schemas.DemoRequest,
    demo_schemas.DemoView,
    fund_schemas.TransferRequest,
    fund_schemas.TransferView,
    fund_schemas.BalanceList,
    UserEventList,
    ProblemDocument,
)


def _given(*fields: str) -> dict[str, Any]:
    return {"required": list(fields)}


def _none_of(*fields: str) -> dict[str, Any]:
    return {"not": {"anyOf": [_given(field) for field in fields]}}


def _is(field: str, *values: str) -> dict[str, Any]:
    """The field has one of these values; one that is left out has its default."""
    condition: dict[str, Any] = {"properties": {field: {"enum": list(values)}}}
    return condition if _DEFAULTS[field] in values else {**condition, **_given(field)}


_DEFAULTS: Final = {"type": "LIMIT", "time_in_force": "GTC"}
_HAS_LIMIT: Final = {"anyOf": [_is("type", "LIMIT", "STOP_LIMIT"), _given("limit_offset")]}
_CAN_REST: Final = {"allOf": [_HAS_LIMIT, _is("time_in_force", "GTC", "GTD", "DAY")]}
_IS_POST_ONLY: Final[dict[str, Any]] = {"properties": {"post_only": {"const": True}}, **_given("post_only")}
_ORDER_RULES: Final[list[dict[str, Any]]] = [
    {"if": _is("type", "LIMIT", "STOP_LIMIT"), "then": _given("price"), "else": _none_of("price")},
    {"if": _is("type", "STOP", "STOP_LIMIT"), "then": _given("stop_price"), "else": _none_of("stop_price")},
    {
        "if": _is("type", "TRAILING_STOP"),
        "then": {"oneOf": [_given("trail_amount"), _given("trail_percent")]},
        "else": _none_of("trail_amount", "trail_percent", "limit_offset"),
    },
    {"if": _HAS_LIMIT, "then": _none_of("max_slippage_bps"), "else": _is("time_in_force", "GTC", "IOC")},
    {"if": _is("time_in_force", "GTD"), "then": _given("expires_at"), "else": _none_of("expires_at")},
    {"if": _IS_POST_ONLY, "then": {"allOf": [_CAN_REST, _none_of("min_quantity")]}},
    {"if": _given("display_quantity"), "then": _CAN_REST},
    {"if": _given("min_quantity"), "then": _is("type", "LIMIT", "MARKET", "STOP_LIMIT")},
]
"""The rules between an order's fields (`order_rules`), as JSON Schema."""
_MODIFY_RULES: Final = [_given(field) for field in MODIFY_FORM.readers if field not in CONDITIONS]
_NOT_BOTH_TRAILS: Final = {"not": _given("trail_amount", "trail_percent")}
_ASSETS: Final = ("base_asset", "quote_asset")
_INSTRUMENT_RULES: Final = {
    "dependentRequired": {asset: [other for other in _ASSETS if other != asset] for asset in _ASSETS},
    "anyOf": [{"properties": dict.fromkeys(_ASSETS, bound)} for bound in ({"minLength": 1}, {"maxLength": 0})],
}
"""Both assets are named, or both are empty; that they differ no schema can say."""

ORDER_EXAMPLES: Final[dict[str, dict[str, Any]]] = {
    "limit": {
        "summary": "Buy 100 at 150.50 or better, and wait",
        "value": {"user_id": "alice", "symbol": "AAPL", "side": "BUY", "type": "LIMIT", "quantity": 100, "price": "150.50"},
    },
    "market": {
        "summary": "Sell 40 at the best prices there are",
        "value": {"user_id": "bob", "symbol": "AAPL", "side": "SELL", "type": "MARKET", "quantity": 40},
    },
    "immediate": {
        "summary": "Sell what can be sold at once at 150.00 or better",
        "value": {
            "user_id": "bob",
            "symbol": "AAPL",
            "side": "SELL",
            "quantity": "10",
            "price": "150.00",
            "time_in_force": "IOC",
        },
    },
    "good till date": {
        "summary": "Wait until the end of the century, safe to send again",
        "value": {
            "user_id": "alice",
            "symbol": "AAPL",
            "side": "BUY",
            "quantity": 5,
            "price": 149.75,
            "time_in_force": "GTD",
            "expires_at": "2099-12-31T23:59:59Z",
            "client_order_id": "century-1",
        },
    },
    "post only": {
        "summary": "Wait at 149.00, and rather be refused than take",
        "value": {"user_id": "carol", "symbol": "AAPL", "side": "BUY", "quantity": 20, "price": "149.00", "post_only": True},
    },
    "iceberg": {
        "summary": "Sell 1000 while showing 50 at a time",
        "value": {
            "user_id": "carol",
            "symbol": "AAPL",
            "side": "SELL",
            "quantity": 1000,
            "price": "155.00",
            "display_quantity": 50,
            "time_in_force": "DAY",
        },
    },
    "stop": {
        "summary": "Sell at the best prices once the last price is 140.00 or less",
        "value": {"user_id": "alice", "symbol": "AAPL", "side": "SELL", "type": "STOP", "quantity": 50, "stop_price": "140.00"},
    },
    "stop limit": {
        "summary": "Buy at 161.00 or better once the last price is 160.00 or more",
        "value": {
            "user_id": "bob",
            "symbol": "AAPL",
            "side": "BUY",
            "type": "STOP_LIMIT",
            "quantity": 10,
            "stop_price": "160.00",
            "price": "161.00",
        },
    },
    "trailing stop": {
        "summary": "Sell once the last price is 5 percent below the best one since, at half a dollar less or better",
        "value": {
            "user_id": "alice",
            "symbol": "AAPL",
            "side": "SELL",
            "type": "TRAILING_STOP",
            "quantity": 50,
            "trail_percent": "5",
            "limit_offset": "0.50",
        },
    },
}
MODIFY_EXAMPLES: Final[dict[str, dict[str, Any]]] = {
    "smaller": {"summary": "A smaller total keeps the place in the queue", "value": {"quantity": 50}},
    "price": {"summary": "A new price goes to the back", "value": {"price": "150.75", "expected_version": 1}},
}
BATCH_EXAMPLES: Final[dict[str, dict[str, Any]]] = {
    "mixed": {
        "summary": "Two new orders and a cancel",
        "value": {
            "orders": [
                {"user_id": "alice", "symbol": "AAPL", "side": "BUY", "quantity": 10, "price": "148.00"},
                {"op": "submit", "user_id": "alice", "symbol": "AAPL", "side": "BUY", "quantity": 10, "price": "147.00"},
                {"op": "cancel", "order_id": "1"},
            ]
        },
    },
}
INSTRUMENT_EXAMPLES: Final[dict[str, dict[str, Any]]] = {
    "stock": {"summary": "Cents and whole shares", "value": {"tick_size": "0.01", "lot_size": "1"}},
    "coin": {"summary": "Finer quantities", "value": {"tick_size": "0.5", "lot_size": "0.0001"}},
    "guarded": {
        "summary": "At most 5000 an order, within 10 percent of the last price, else a halt of five minutes",
        "value": {"max_order_quantity": 5000, "price_band_percent": "10", "band_halt_seconds": 300, "session_close": "21:00"},
    },
    "funded": {
        "summary": "Orders are paid for from accounts; makers are paid 0.02 percent, takers pay 0.05",
        "value": {"base_asset": "ACME", "quote_asset": "USD", "maker_fee_bps": -2, "taker_fee_bps": 5},
    },
    "auction": {"summary": "Collect orders for an auction; OPEN trades at its price", "value": {"state": "AUCTION"}},
}
TRANSFER_EXAMPLES: Final[dict[str, dict[str, Any]]] = {
    "dollars": {
        "summary": "A thousand dollars, safe to send again",
        "value": {"user_id": "alice", "asset": "USD", "amount": "1000", "client_transfer_id": "wire-2026-11-22-1"},
    },
}


def body(struct: type[msgspec.Struct], examples: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The `openapi_extra` of an operation whose body this Struct reads."""
    content = {"application/json": {"schema": _ref(struct), "examples": examples}}
    return {"requestBody": {"required": True, "content": content}}


def answers(struct: type[msgspec.Struct], *statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of an operation that answers with this Struct, and with problems."""
    good: dict[int | str, dict[str, Any]] = {
        status: {"description": "Created" if status == 201 else "OK", "content": {"application/json": {"schema": _ref(struct)}}}
        for status in statuses or (200,)
    }
    return {**good, **PROBLEMS}


def path_parameters(path: str) -> list[dict[str, Any]]:
    """The parameters in a path, for an endpoint that doesn't take them one by one."""
    names = re.findall(r"\{([a-z_]+)\}", path)
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]


def _ref(struct: type[msgspec.Struct]) -> dict[str, str]:
    return {"$ref": _REF.format(name=struct.__name__)}


_PROBLEM: Final = {CONTENT_TYPE: {"schema": _ref(ProblemDocument)}}
PROBLEMS: Final[dict[int | str, dict[str, Any]]] = {
    "default": {"description": "A problem (RFC 9457); /docs/problems lists every code", "content": _PROBLEM}
}
REFUSED: Final[dict[int | str, dict[str, Any]]] = {
    422: {"description": "`not_supported`: not built yet", "content": _PROBLEM},
    **PROBLEMS,
}
"""The `responses` of an operation that isn't built yet."""


def declare(  # noqa: PLR0913  what a route is
    app: FastAPI,
    method: str,
    path: str,
    endpoint: Callable[..., Awaitable[Response]],
    tag: str,
    responses: dict[int | str, dict[str, Any]],
    *,
    access: Access,
    raised: Mapping[str, Access] = NOTHING,
    audited: bool | None = None,
    policy: str = "",
    weight: int = 1,
    openapi_extra: Mapping[str, Any] | None = None,
    **options: Any,
) -> None:
    """Add a route to the application, behind a guard that asks for `access`; for `raised`, see `ome.api.access`.

    What asks for the operator and isn't a GET is audited, unless it says otherwise (it writes its own entry). `responses` are
    all that it can answer; `options` are those of `add_api_route`.
    """
    is_audited = access is Access.OPERATOR and method != "GET" if audited is None else audited
    policy = policy or {"GET": "reads", "DELETE": "mass_cancels"}.get(method, "orders")
    declaration = Declaration(method, path, access, raised, is_audited, policy, weight)
    table = access_table(app)
    app.add_api_route(
        path,
        endpoint,
        methods=[method],
        tags=[tag],
        responses=responses,
        response_class=Response,
        dependencies=[Depends(table.guard(declaration))],
        openapi_extra={**_security(declaration), **(openapi_extra or {})},
        **options,
    )
    table.declare(app.routes[-1], declaration)


def _security(declaration: Declaration) -> dict[str, Any]:
    """How OpenAPI says which scope a key needs; that there may be no key at all, too."""
    wanted = max(declaration.access, *declaration.raised.values(), Access.PUBLIC)
    return {} if wanted is Access.PUBLIC else {"security": [{}, {"ApiKey": [wanted.scope]}]}


def declare_page(app: FastAPI, path: str, page: Callable[[], Awaitable[Response]]) -> None:
    """Add a page that everybody may see and that OpenAPI doesn't show."""
    app.add_api_route(path, page, methods=["GET"], include_in_schema=False)
    access_table(app).declare(app.routes[-1], Declaration("GET", path, Access.PUBLIC))


def declare_files(app: FastAPI, path: str, files: ASGIApp) -> None:
    """Likewise files."""
    app.mount(path, files)
    access_table(app).declare(app.routes[-1], Declaration("GET", f"{path}/{{file}}", Access.PUBLIC))


def components() -> dict[str, Any]:
    """The schemas of all Structs by name, the rules between fields included."""
    _, found = msgspec.json.schema_components(_STRUCTS, ref_template=_REF)
    for name in ("OrderRequest", "SubmitOperation"):
        found[name]["allOf"] = _ORDER_RULES
        found[name]["required"] = ["user_id", *found[name]["required"]]  # may be left out with a user's key alone
    for name in ("ModifyRequest", "ModifyOperation"):
        found[name] |= {"anyOf": _MODIFY_RULES, **_NOT_BOTH_TRAILS}
    found["InstrumentRequest"] |= _INSTRUMENT_RULES
    return found


def describe(app: FastAPI) -> None:
    """Give the application an OpenAPI document with these components; it is made once, when it is first asked for."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = generate()
            parts = document.setdefault("components", {})
            parts["schemas"] = {**parts.get("schemas", {}), **components()}
            parts["securitySchemes"] = {
                "ApiKey": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "X-API-Key",
                    "description": "A key, where there is one; the scope that it needs is named with each operation",
                }
            }
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
