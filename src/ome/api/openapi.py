"""OpenAPI, made from the Structs that do the checking and the rendering: what /docs shows is what the code does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
from fastapi import FastAPI, Response

from ome.api import schemas
from ome.api.problems import CONTENT_TYPE, ProblemDocument

_REF: Final = "#/components/schemas/{name}"
_STRUCTS: Final = (
    schemas.OrderRequest,
    schemas.ModifyRequest,
    schemas.InstrumentRequest,
    schemas.OrderView,
    schemas.OrderAnswer,
    schemas.OrderList,
    schemas.TradeList,
    schemas.MarketView,
    schemas.MarketList,
    schemas.DepthView,
    schemas.InstrumentView,
    schemas.InstrumentList,
    schemas.HealthView,
    schemas.StatusView,
    ProblemDocument,
)
_GIVEN: Final[dict[str, Any]] = {"required": ["price"]}
_DATED: Final[dict[str, Any]] = {"required": ["expires_at"]}
_ORDER_RULES: Final[list[dict[str, Any]]] = [
    {
        "if": {"properties": {"type": {"const": "MARKET"}}, "required": ["type"]},
        "then": {"not": _GIVEN, "properties": {"time_in_force": {"enum": ["GTC", "IOC"]}}},
        "else": _GIVEN,
    },
    {
        "if": {"properties": {"time_in_force": {"const": "GTD"}}, "required": ["time_in_force"]},
        "then": _DATED,
        "else": {"not": _DATED},
    },
]
"""The rules between an order's fields (`decoding.order_rules`), as JSON Schema."""
_MODIFY_RULES: Final = [{"required": [field]} for field in ("quantity", "price", "expires_at")]

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
}
MODIFY_EXAMPLES: Final[dict[str, dict[str, Any]]] = {
    "smaller": {"summary": "A smaller total keeps the place in the queue", "value": {"quantity": 50}},
    "price": {"summary": "A new price goes to the back", "value": {"price": "150.75", "expected_version": 1}},
}
INSTRUMENT_EXAMPLES: Final[dict[str, dict[str, Any]]] = {
    "stock": {"summary": "Cents and whole shares", "value": {"tick_size": "0.01", "lot_size": "1"}},
    "coin": {"summary": "Finer quantities", "value": {"tick_size": "0.5", "lot_size": "0.0001"}},
}
KEYED: Final[dict[str, Any]] = {"security": [{}, {"ApiKey": []}]}
"""Of operations that need the key where one is set."""


def body(struct: type[msgspec.Struct], examples: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The `openapi_extra` of an operation whose body this Struct reads, and which needs the key."""
    content = {"application/json": {"schema": _ref(struct), "examples": examples}}
    return {"requestBody": {"required": True, "content": content}, **KEYED}


def answers(struct: type[msgspec.Struct], *statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of an operation that answers with this Struct, and with problems."""
    good: dict[int | str, dict[str, Any]] = {
        status: {"description": "Created" if status == 201 else "OK", "content": {"application/json": {"schema": _ref(struct)}}}
        for status in statuses or (200,)
    }
    return {**good, **PROBLEMS}


def _ref(struct: type[msgspec.Struct]) -> dict[str, str]:
    return {"$ref": _REF.format(name=struct.__name__)}


PROBLEMS: Final[dict[int | str, dict[str, Any]]] = {
    "default": {
        "description": "A problem (RFC 9457); /docs/problems lists every code",
        "content": {CONTENT_TYPE: {"schema": _ref(ProblemDocument)}},
    }
}


def declare(
    app: FastAPI,
    method: str,
    path: str,
    endpoint: Callable[..., Awaitable[Response]],
    tag: str,
    responses: dict[int | str, dict[str, Any]],
    **options: Any,
) -> None:
    """Add a route to the application; `options` are those of `add_api_route`."""
    app.add_api_route(path, endpoint, methods=[method], tags=[tag], responses=responses, **options)


def components() -> dict[str, Any]:
    """The schemas of all Structs by name, the rules between fields included."""
    _, found = msgspec.json.schema_components(_STRUCTS, ref_template=_REF)
    found["OrderRequest"]["allOf"] = _ORDER_RULES
    found["ModifyRequest"]["anyOf"] = _MODIFY_RULES
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
                    "description": "The operator's key, if one is set",
                }
            }
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
