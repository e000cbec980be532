"""The OpenAPI document: complete, and true about what the code does."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
import jsonschema  # type: ignore[import-untyped]
import pytest

from fakes import FakeExchange, order_record
from ome.api.decoding import read_batch, read_instrument, read_modify, read_new_order
from ome.api.openapi import BATCH_EXAMPLES, INSTRUMENT_EXAMPLES, MODIFY_EXAMPLES, ORDER_EXAMPLES, components
from ome.api.problems import Problem

BUILT = {
    ("POST", "/orders"), ("GET", "/orders"), ("GET", "/orders/{order_id}"), ("PUT", "/orders/{order_id}"),
    ("DELETE", "/orders"), ("POST", "/orders/batch"), ("GET", "/market/{symbol}/auction"),
    ("DELETE", "/orders/{order_id}"), ("GET", "/orders/user/{user_id}"), ("GET", "/trades"), ("GET", "/market"),
    ("GET", "/market/{symbol}/stream"), ("GET", "/orders/user/{user_id}/events"), ("GET", "/ws"),
    ("GET", "/market/{symbol}"), ("GET", "/market/{symbol}/depth"), ("GET", "/instruments"), ("GET", "/instruments/{symbol}"),
    ("GET", "/orders/{order_id}/history"), ("GET", "/orders/{order_id}/explain"),
    ("PUT", "/instruments/{symbol}"), ("GET", "/health"), ("GET", "/health/live"), ("GET", "/health/ready"), ("GET", "/metrics"),
    ("PUT", "/users/{user_id}/limits"), ("GET", "/users/{user_id}/limits"), ("GET", "/users/{user_id}/positions"),
    ("GET", "/users/{user_id}/risk"), ("POST", "/users/{user_id}/cancel_all_after"),
    ("PUT", "/admin/kill"), ("GET", "/admin/kill"),
    ("GET", "/market/{symbol}/candles"), ("GET", "/market/{symbol}/snapshots"),
    ("GET", "/market/{symbol}/snapshots/{snapshot_id}"), ("GET", "/keys"), ("POST", "/keys"), ("DELETE", "/keys/{key_id}"),
    ("POST", "/keys/{key_id}/rotate"), ("GET", "/admin/audit"), ("GET", "/admin/errors"),
    ("POST", "/admin/deposits"), ("POST", "/admin/withdrawals"), ("GET", "/users/{user_id}/balances"),
    ("GET", "/admin/demo"), ("PUT", "/admin/demo"),
}  # fmt: skip
LIMIT: dict[str, Any] = {"user_id": "alice", "symbol": "AAPL", "side": "BUY", "quantity": 100, "price": "150.50"}
MARKET: dict[str, Any] = {"user_id": "alice", "symbol": "AAPL", "side": "BUY", "quantity": 100, "type": "MARKET"}
STOP: dict[str, Any] = MARKET | {"type": "STOP", "stop_price": 160}
STOP_LIMIT: dict[str, Any] = LIMIT | {"type": "STOP_LIMIT", "stop_price": 149}
TRAIL: dict[str, Any] = MARKET | {"type": "TRAILING_STOP", "trail_amount": 2}
TRAIL_LIMIT: dict[str, Any] = TRAIL | {"limit_offset": "0.5"}
KINDS = (LIMIT, MARKET, STOP, STOP_LIMIT, TRAIL, TRAIL_LIMIT)
LATER = "2099-12-31T23:59:59Z"


@pytest.fixture
async def document(client: httpx.AsyncClient) -> dict[str, Any]:
    """The document as it is served."""
    answer: dict[str, Any] = (await client.get("/openapi.json")).json()
    return answer


def validator(document: dict[str, Any], name: str) -> jsonschema.Draft202012Validator:
    """Checks a value against one of the document's schemas."""
    return jsonschema.Draft202012Validator({"$ref": f"#/components/schemas/{name}", "components": document["components"]})


def test_every_route_of_the_contract_is_in_the_document(document: dict[str, Any]) -> None:
    """Built or not, and nothing else."""
    found = {(method.upper(), path) for path, operations in document["paths"].items() for method in operations}
    assert found == BUILT


def test_every_reference_leads_somewhere_and_every_operation_has_one_id(document: dict[str, Any]) -> None:
    """What generators stumble over."""
    references = {part.split('"')[0] for part in json.dumps(document).split('"$ref": "#/components/schemas/')[1:]}
    assert references - set(document["components"]["schemas"]) == set()
    assert "HTTPValidationError" not in json.dumps(document)
    ids = [operation["operationId"] for operations in document["paths"].values() for operation in operations.values()]
    assert len(ids) == len(set(ids))


def test_every_operation_says_what_it_answers(document: dict[str, Any]) -> None:
    """A shape for good answers, and a problem for all others."""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert "application/problem+json" in operation["responses"]["default"]["content"], (method, path)
            assert operation["summary"]
    for method, path in BUILT - {("GET", "/metrics"), ("GET", "/ws"), ("GET", "/market/{symbol}/stream")}:
        good = [code for code in document["paths"][path][method.lower()]["responses"] if code.startswith("2")]
        for code in good:
            content = document["paths"][path][method.lower()]["responses"][code]["content"]["application/json"]
            assert content["schema"]["$ref"], (method, path)


def test_every_parameter_of_a_path_is_declared_once(document: dict[str, Any]) -> None:
    """OpenAPI wants each, and as required; no operation declares one that isn't in its path."""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            declared = [each for each in operation.get("parameters", []) if each["in"] == "path"]
            assert sorted(each["name"] for each in declared) == sorted(re.findall(r"\{(\w+)\}", path)), (method, path)
            assert all(each["required"] and each["schema"] for each in declared)
            names = [(each["name"], each["in"]) for each in operation.get("parameters", [])]
            assert len(names) == len(set(names)), (method, path)


def test_only_the_statuses_that_an_operation_answers_are_declared(document: dict[str, Any]) -> None:
    """Success where it is built, 422 alone where it isn't; problems by `default`."""
    created = {
        ("POST", "/keys"): {"201"},
        ("POST", "/keys/{key_id}/rotate"): {"201"},
        ("POST", "/orders"): {"201"},
        ("POST", "/admin/deposits"): {"201"},
        ("POST", "/admin/withdrawals"): {"201"},
        ("PUT", "/instruments/{symbol}"): {"200", "201"},
        ("GET", "/ws"): {"101"},
    }
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            key = (method.upper(), path)
            expected = created.get(key, {"200"}) if key in BUILT else {"422"}
            assert set(operation["responses"]) == expected | {"default"}, key
    assert list(document["paths"]["/metrics"]["get"]["responses"]["200"]["content"]) == ["text/plain"]
    assert list(document["paths"]["/market/{symbol}/stream"]["get"]["responses"]["200"]["content"]) == ["text/event-stream"]


def test_the_symbol_beside_an_orders_id_is_declared(document: dict[str, Any]) -> None:
    """Accepted, never needed: of each route that takes it."""
    for path, method in (("", "get"), ("", "put"), ("", "delete"), ("/history", "get"), ("/explain", "get")):
        operation = document["paths"]["/orders/{order_id}" + path][method]
        assert "symbol" in [each["name"] for each in operation["parameters"] if each["in"] == "query"]


def test_writes_tell_of_the_key(document: dict[str, Any]) -> None:
    """Swagger's Authorize sends it where it is wanted."""
    assert document["components"]["securitySchemes"]["ApiKey"]["name"] == "X-API-Key"
    assert {"ApiKey": ["trade"]} in document["paths"]["/orders"]["post"]["security"]


@pytest.mark.parametrize("name", ORDER_EXAMPLES)
async def test_the_examples_of_an_order_work_when_tried(client: httpx.AsyncClient, document: dict[str, Any], name: str) -> None:
    """As shown in the document, each is accepted, and fits its schema; its answer fits its own."""
    shown = document["paths"]["/orders"]["post"]["requestBody"]["content"]["application/json"]["examples"][name]["value"]
    validator(document, "OrderRequest").validate(shown)
    answer = await client.post("/orders", json=shown)
    assert answer.status_code == 201
    validator(document, "OrderAnswer").validate(answer.json())


@pytest.mark.parametrize("name", MODIFY_EXAMPLES)
async def test_the_examples_of_a_change_work_when_tried(
    client: httpx.AsyncClient, exchange: FakeExchange, document: dict[str, Any], name: str
) -> None:
    """Likewise."""
    exchange.orders[1] = order_record(id=1)
    shown = document["paths"]["/orders/{order_id}"]["put"]["requestBody"]["content"]["application/json"]["examples"][name][
        "value"
    ]
    validator(document, "ModifyRequest").validate(shown)
    assert (await client.put("/orders/1", json=shown)).status_code == 200


@pytest.mark.parametrize("name", INSTRUMENT_EXAMPLES)
async def test_the_examples_of_an_instrument_work_when_tried(
    client: httpx.AsyncClient, document: dict[str, Any], name: str
) -> None:
    """Likewise."""
    shown = INSTRUMENT_EXAMPLES[name]["value"]
    validator(document, "InstrumentRequest").validate(shown)
    assert (await client.put(f"/instruments/{name.upper()}", json=shown)).status_code == 201


@pytest.mark.parametrize("name", BATCH_EXAMPLES)
async def test_the_examples_of_a_batch_work_when_tried(
    client: httpx.AsyncClient, exchange: FakeExchange, document: dict[str, Any], name: str
) -> None:
    """Likewise: each operation of them."""
    exchange.orders[1] = order_record(id=1)
    operation = document["paths"]["/orders/batch"]["post"]
    shown = operation["requestBody"]["content"]["application/json"]["examples"][name]["value"]
    validator(document, "BatchRequest").validate(shown)
    answer = (await client.post("/orders/batch", json=shown)).json()
    validator(document, "BatchAnswer").validate(answer)
    assert {result["status"] for result in answer["results"]} <= {200, 201}


async def test_dry_runs_and_refusals_fit_their_shapes(client: httpx.AsyncClient, document: dict[str, Any]) -> None:
    """Nulls for ids that nobody has; problems in the places of operations."""
    await client.post("/orders", json=LIMIT)
    dry = (await client.post("/orders?dry_run=true", json=MARKET | {"side": "SELL", "user_id": "bob"})).json()
    assert (dry["order_id"], dry["executed_trades"][0]["trade_id"]) == (None, None)
    validator(document, "OrderAnswer").validate(dry)
    mixed = (
        await client.post("/orders/batch?dry_run=true", json={"orders": [LIMIT, {}, {"op": "cancel", "order_id": "9"}]})
    ).json()
    assert [result["status"] for result in mixed["results"]] == [201, 422, 404]
    validator(document, "BatchAnswer").validate(mixed)
    gone = (await client.delete("/orders?user_id=alice")).json()
    validator(document, "MassCancelAnswer").validate(gone)


async def test_answers_fit_the_shapes_that_are_declared_for_them(client: httpx.AsyncClient, document: dict[str, Any]) -> None:
    """Every read, against its own schema, with something to show."""
    for example in ORDER_EXAMPLES.values():
        await client.post("/orders", json=example["value"])
    await client.put("/instruments/CALL", json={"state": "AUCTION"})
    order_id = (await client.get("/orders?user_id=alice")).json()["orders"][0]["order_id"]
    for path, concrete in {
        "/orders/{order_id}": f"/orders/{order_id}",
        "/orders/{order_id}/history": f"/orders/{order_id}/history",
        "/orders/{order_id}/explain": f"/orders/{order_id}/explain",
        "/orders": "/orders?user_id=alice",
        "/orders/user/{user_id}": "/orders/user/bob",
        "/trades": "/trades",
        "/market": "/market",
        "/market/{symbol}": "/market/AAPL",
        "/market/{symbol}/depth": "/market/AAPL/depth?detail=orders",
        "/market/{symbol}/auction": "/market/CALL/auction",
        "/instruments": "/instruments",
        "/instruments/{symbol}": "/instruments/AAPL",
        "/health": "/health",
        "/health/live": "/health/live",
        "/health/ready": "/health/ready",
    }.items():
        reference = document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]["$ref"]
        validator(document, reference.rpartition("/")[2]).validate((await client.get(concrete)).json())
    problem = (await client.post("/orders", json={})).json()
    validator(document, "ProblemDocument").validate(problem)


BODIES: list[dict[str, Any]] = [
    LIMIT,
    LIMIT
    | {"type": "LIMIT", "time_in_force": "FOK", "self_trade_prevention": "NONE", "client_order_id": "x y~", "post_only": False},
    LIMIT | {"quantity": "0.5", "price": 1e-7},
    LIMIT | {"time_in_force": "GTD", "expires_at": LATER},
    LIMIT | {"time_in_force": "GTD"},
    LIMIT | {"expires_at": LATER},
    LIMIT | {"type": "MARKET"},
    {**{k: v for k, v in LIMIT.items() if k != "price"}, "type": "MARKET"},
    {**{k: v for k, v in LIMIT.items() if k != "price"}, "type": "MARKET", "time_in_force": "FOK"},
    {**{k: v for k, v in LIMIT.items() if k != "price"}, "type": "MARKET", "time_in_force": "GTD", "expires_at": LATER},
    *({name: value for name, value in LIMIT.items() if name != missing} for missing in LIMIT),
    *(LIMIT | {name: None} for name in LIMIT),
    LIMIT | {"user_id": "a\n"},
    LIMIT | {"user_id": "a" * 65},
    LIMIT | {"symbol": "AAPL\n"},
    LIMIT | {"symbol": "$"},
    LIMIT | {"side": "HOLD"},
    LIMIT | {"quantity": 0},
    LIMIT | {"quantity": -1},
    LIMIT | {"quantity": True},
    LIMIT | {"quantity": "1e5"},
    LIMIT | {"quantity": "-1"},
    LIMIT | {"quantity": " 1"},
    LIMIT | {"quantity": "1\n"},
    LIMIT | {"quantity": []},
    LIMIT | {"client_order_id": ""},
    LIMIT | {"client_order_id": "é"},
    *KINDS,
    *(
        kind | {"time_in_force": time_in_force} | dated
        for kind in KINDS
        for time_in_force in ("GTC", "IOC", "FOK", "GTD", "DAY", "GFD")
        for dated in ({}, {"expires_at": LATER})
    ),
    *(
        kind | {"time_in_force": time_in_force} | special
        for kind in KINDS
        for time_in_force in ("GTC", "IOC", "FOK", "DAY")
        for special in (
            {"post_only": True},
            {"post_only": False},
            {"display_quantity": 1},
            {"min_quantity": 1},
            {"max_slippage_bps": 5},
            {"post_only": True, "min_quantity": 1},
            {"post_only": True, "display_quantity": 1},
        )
    ),
    *(kind | {field: 1} for kind in KINDS for field in ("price", "stop_price", "trail_amount", "trail_percent", "limit_offset")),
    *({name: value for name, value in kind.items() if name not in {"price", "stop_price", "trail_amount"}} for kind in KINDS),
    *(LIMIT | {"self_trade_prevention": mode} for mode in ("CANCEL_OLDEST", "CANCEL_BOTH", "DECREMENT", "OTHER")),
    *(MARKET | {"max_slippage_bps": sent} for sent in (0, 10_000, 10_001, -1, "5", True, 0.5)),
    *(
        {name: value for name, value in TRAIL.items() if name != "trail_amount"} | {"trail_percent": sent}
        for sent in ("99.99", 99.99, "100", 100, 0, "x", "1.5")
    ),
    LIMIT | {"type": "STOP"},
    LIMIT | {"post_only": 1},
    LIMIT | {"display_quantity": "0x"},
    LIMIT | {"surprise": 1},
]


def taken(read: Any, body: dict[str, Any]) -> bool:
    """Whether a body is read into a command."""
    try:
        read(json.dumps(body).encode())
    except Problem:
        return False
    return True


@pytest.mark.parametrize("body", BODIES)
def test_the_declared_order_is_the_order_that_is_read(body: dict[str, Any]) -> None:
    """Schema and decoder take the same bodies and refuse the same; case folding alone is more lenient than the schema."""
    schema = validator({"components": {"schemas": components()}}, "OrderRequest")
    assert schema.is_valid(body) is taken(read_new_order, body)


@pytest.mark.parametrize(
    "operation",
    [LIMIT, STOP | {"op": "submit"}, MARKET | {"post_only": True}, LIMIT | {"op": "buy"}, LIMIT | {"order_id": "1"},
     {"op": "modify", "order_id": "1", "price": 1}, {"op": "modify", "order_id": "1"}, {"op": "modify", "price": 1},
     {"op": "modify", "order_id": 1, "price": 1}, {"op": "cancel", "order_id": "1"}, {"op": "cancel"},
     {"op": "cancel", "order_id": "1", "price": 1}, {"order_id": "1"}, {}, 1, None],
)  # fmt: skip
def test_the_declared_operation_is_the_operation_that_is_read(operation: Any) -> None:
    """Likewise, in a batch."""
    schema = validator({"components": {"schemas": components()}}, "BatchRequest")
    [read] = read_batch(json.dumps({"orders": [operation]}).encode())
    assert schema.is_valid({"orders": [operation]}) is not isinstance(read, Problem)


@pytest.mark.parametrize(
    "body",
    [{}, {"quantity": 1}, {"price": "1.5"}, {"expires_at": LATER}, {"expected_version": 1},
     {"quantity": 1, "expected_version": 0},
     {"quantity": 1, "expected_version": 2**31}, {"quantity": 1, "expected_version": "1"}, {"quantity": 0}, {"side": "BUY"},
     {"quantity": None}, {"stop_price": 1}, {"display_quantity": "5"}, {"trail_amount": 1}, {"trail_percent": 1.5},
     {"trail_percent": 100}, {"trail_amount": 1, "trail_percent": 1}, {"limit_offset": 1}, {"stop_price": 0}],
)  # fmt: skip
def test_the_declared_change_is_the_change_that_is_read(body: dict[str, Any]) -> None:
    """Likewise."""
    schema = validator({"components": {"schemas": components()}}, "ModifyRequest")
    assert schema.is_valid(body) is taken(lambda body: read_modify(body, 1), body)


@pytest.mark.parametrize(
    "body",
    [{}, {"tick_size": "0.01"}, {"lot_size": 5}, {"tick_size": 0}, {"lot_size": "x"}, {"state": "OPEN"}, {"tick": 1},
     {"state": "CLOSED"}, {"state": None}, {"max_order_quantity": 0}, {"max_order_quantity": "0"}, {"max_order_quantity": -1},
     {"price_band_percent": "12.5"}, {"price_band_percent": 0.0}, {"price_band_percent": True}, {"band_halt_seconds": 0},
     {"band_halt_seconds": 604_800}, {"band_halt_seconds": 604_801}, {"band_halt_seconds": "1"}, {"session_close": "21:00"},
     {"session_close": "21:00:30"}, {"session_close": "24:00"}, {"session_close": 1}],
)  # fmt: skip
def test_the_declared_instrument_is_the_instrument_that_is_read(body: dict[str, Any]) -> None:
    """Likewise."""
    schema = validator({"components": {"schemas": components()}}, "InstrumentRequest")
    assert schema.is_valid(body) is taken(lambda body: read_instrument(body, "A"), body)
