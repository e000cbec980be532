"""Dry runs, batches and mass cancels over an exchange in memory: what is answered, and what is left as it was."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from fakes import FakeExchange, MakeApp, client_of, order_record
from ome.domain.commands import CancelOrders, ModifyOrder, NewOrder
from ome.domain.enums import OrderStatus, Side
from ome.domain.errors import NotAccepting, OutcomeUnknown, Overloaded, StorageError
from ome.domain.events import CommandRefused, OrderRejected
from ome.domain.numbers import pack
from ome.domain.reasons import Reason

LIMIT: dict[str, Any] = {"user_id": "alice", "symbol": "AAPL", "side": "BUY", "quantity": 100, "price": "150.50"}
MARKET: dict[str, Any] = {"user_id": "bob", "symbol": "AAPL", "side": "SELL", "type": "MARKET", "quantity": "40"}
KEY = {"X-API-Key": "sesame"}


def code(response: httpx.Response) -> str:
    """The code of a problem."""
    assert response.headers["content-type"] == "application/problem+json"
    return str(response.json()["code"])


async def batch(client: httpx.AsyncClient, *operations: Any, query: str = "") -> list[dict[str, Any]]:
    """The results of a batch of these operations, which must be answered."""
    response = await client.post(f"/orders/batch{query}", json={"orders": operations})
    assert response.status_code == 200, response.text
    results: list[dict[str, Any]] = response.json()["results"]
    assert len(results) == len(operations)
    return results


# Dry runs


async def test_a_dry_run_answers_as_the_order_would_and_changes_nothing(
    client: httpx.AsyncClient, exchange: FakeExchange
) -> None:
    """The same status and fields; ids that nobody has are null, those of real orders stay."""
    maker = (await client.post("/orders", json=LIMIT)).json()["order_id"]
    orders, trades = dict(exchange.orders), list(exchange.trade_records)
    dry = await client.post("/orders?dry_run=true", json=MARKET)
    assert (exchange.orders, exchange.trade_records) == (orders, trades)
    wet = await client.post("/orders", json=MARKET)
    assert (dry.status_code, wet.status_code) == (201, 201)
    [trade] = dry.json()["executed_trades"]
    assert (trade["trade_id"], trade["sell_order_id"], trade["buy_order_id"], trade["maker_order_id"]) == (
        None,
        None,
        maker,
        maker,
    )
    [real] = wet.json()["executed_trades"]
    assert trade == real | {"trade_id": None, "sell_order_id": None}
    assert dry.json() == wet.json() | {"order_id": None, "executed_trades": [trade], "dry_run": True}


async def test_a_dry_change_names_its_order(client: httpx.AsyncClient, exchange: FakeExchange) -> None:
    """The order is real, what would become of it isn't."""
    order_id = (await client.post("/orders", json=LIMIT)).json()["order_id"]
    dry = await client.put(f"/orders/{order_id}?dry_run=true", json={"quantity": 50})
    assert (dry.status_code, dry.json()["order_id"], dry.json()["version"], dry.json()["dry_run"]) == (200, order_id, 2, True)
    assert exchange.orders[int(order_id)].version == 1
    assert (await client.put("/orders/1?dry_run=true", json={"quantity": 50})).json()["dry_run"] is True


async def test_a_dry_run_that_would_be_refused_names_no_order(client: httpx.AsyncClient, exchange: FakeExchange) -> None:
    """Nothing was recorded, so there is nothing to look up."""
    rejected = order_record(status=OrderStatus.REJECTED, reason=Reason.PRICE_OFF_TICK)
    exchange.script.append([OrderRejected(rejected, pack(5, 1))])
    response = await client.post("/orders?dry_run=true", json=LIMIT)
    assert (code(response), response.status_code, response.json()["dry_run"]) == ("price_off_tick", 422, True)
    assert "order_id" not in response.json()


async def test_a_dry_run_of_a_used_client_order_id_gets_the_first_answer(client: httpx.AsyncClient) -> None:
    """I1 holds in a dry run too, and that order is real."""
    first = (await client.post("/orders", json=LIMIT | {"client_order_id": "mine"})).json()
    again = await client.post("/orders?dry_run=true", json=LIMIT | {"client_order_id": "mine"})
    assert again.json() == first | {"replayed": True, "dry_run": True}
    assert again.headers["idempotent-replayed"] == "true"
    other = await client.post("/orders?dry_run=true", json=LIMIT | {"client_order_id": "mine", "quantity": 1})
    assert (code(other), other.json()["dry_run"]) == ("client_order_id_conflict", True)


@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_a_dry_run_needs_the_key_and_room_like_the_order(
    keyed: httpx.AsyncClient, exchange: FakeExchange, method: str
) -> None:
    """It asks the engine, so it is refused as the engine's commands are."""
    path, body = {"POST": ("/orders", LIMIT), "PUT": ("/orders/1", {"quantity": 1})}[method]
    assert code(await keyed.request(method, f"{path}?dry_run=true", json=body)) == "unauthorized"
    exchange.fail = Overloaded()
    response = await keyed.request(method, f"{path}?dry_run=true", json=body, headers=KEY)
    assert (code(response), response.headers["retry-after"]) == ("overloaded", "1")


# Batches


async def test_a_batch_answers_each_operation_as_if_it_were_alone(client: httpx.AsyncClient, exchange: FakeExchange) -> None:
    """I4: in its order, each with its own status; a malformed one in the middle stops nobody."""
    resting = (await client.post("/orders", json=LIMIT)).json()["order_id"]
    results = await batch(
        client,
        MARKET,
        LIMIT | {"quantity": 0},
        {"op": "modify", "order_id": resting, "quantity": 90},
        {"op": "cancel", "order_id": "77"},
        {"op": "cancel", "order_id": resting},
        {"op": "cancel", "order_id": resting},
        LIMIT | {"op": "submit", "price": "149"},
        7,
    )
    assert [result["status"] for result in results] == [201, 422, 200, 404, 200, 409, 201, 422]
    assert [trade["maker_order_id"] for trade in results[0]["order"]["executed_trades"]] == [resting]
    assert (results[2]["order"]["version"], results[2]["order"]["executed_trades"]) == (2, [])
    assert results[4]["order"]["status"] == "CANCELLED"
    assert [result["problem"]["code"] for result in results if "problem" in result] == [
        "invalid_request", "order_not_found", "order_not_open", "invalid_request",
    ]  # fmt: skip
    assert all(("order" in result) != ("problem" in result) for result in results)
    assert exchange.orders[int(results[6]["order"]["order_id"])].is_open


async def test_a_problem_in_a_batch_is_a_whole_one(client: httpx.AsyncClient, exchange: FakeExchange) -> None:
    """With fields, outcome, and the batch's own path and request id; a rejected order is named."""
    rejected = order_record(status=OrderStatus.REJECTED, reason=Reason.PRICE_OFF_TICK)
    exchange.script.append([OrderRejected(rejected, pack(5, 1))])
    response = await client.post("/orders/batch", json={"orders": [LIMIT, {"op": "modify", "order_id": "1"}]})
    first, second = (result["problem"] for result in response.json()["results"])
    assert (first["code"], first["order_id"], first["outcome"], first["status"]) == (
        "price_off_tick",
        str(rejected.id),
        "not_executed",
        422,
    )
    assert [error["field"] for error in second["errors"]] == ["quantity"]
    for problem in (first, second):
        assert (problem["instance"], problem["request_id"]) == ("/orders/batch", response.headers["x-request-id"])


async def test_a_batch_hands_on_what_could_be_read_in_one_go(client: httpx.AsyncClient, exchange: FakeExchange) -> None:
    """One call, the operations in their order; none at all where nothing could be read."""
    await batch(client, LIMIT, {}, {"op": "modify", "order_id": "5", "price": 1}, {"op": "cancel", "order_id": "6"})
    assert [type(command) for command in exchange.commands] == [NewOrder, ModifyOrder, int]
    assert await batch(client) == []
    await batch(client, {}, {})
    assert len(exchange.commands) == 3


async def test_a_retry_within_a_batch_is_marked(client: httpx.AsyncClient) -> None:
    """I1: the same client order id twice is one order; another body with it is refused."""
    mine = LIMIT | {"client_order_id": "mine"}
    first, again, other = await batch(client, mine, mine, mine | {"quantity": 7})
    assert again["order"] == first["order"] | {"replayed": True}
    assert (first["status"], again["status"], other["problem"]["code"]) == (201, 201, "client_order_id_conflict")


@pytest.mark.parametrize(
    ("error", "status", "outcome"),
    [
        (Overloaded(), 503, "not_executed"),
        (NotAccepting(), 503, "not_executed"),
        (OutcomeUnknown(), 504, "unknown"),
        (StorageError("the secret inside"), 500, "unknown"),
    ],
)
async def test_what_happens_to_one_operation_is_told_in_its_place(
    client: httpx.AsyncClient, exchange: FakeExchange, error: Exception, status: int, outcome: str
) -> None:
    """DUR2 in each result; what nobody foresaw says nothing of its inside."""
    exchange.fail = error
    results = await batch(client, LIMIT, {})
    assert [result["status"] for result in results] == [status, 422]
    assert results[0]["problem"]["outcome"] == outcome
    assert "secret" not in json.dumps(results)


async def test_a_dry_batch_is_one_story(client: httpx.AsyncClient, exchange: FakeExchange) -> None:
    """Later operations meet the earlier ones, none of which has an id; nothing is left."""
    response = await client.post("/orders/batch?dry_run=true", json={"orders": [LIMIT, MARKET, {"side": "BUY"}]})
    assert response.json()["dry_run"] is True
    first, second, bad = response.json()["results"]
    assert (first["order"]["order_id"], second["order"]["order_id"], bad["status"]) == (None, None, 422)
    [trade] = second["order"]["executed_trades"]
    assert {trade[name] for name in ("trade_id", "buy_order_id", "sell_order_id", "maker_order_id")} == {None}
    assert (exchange.orders, exchange.trade_records, exchange.listed) == ({}, [], {})


async def test_a_batch_needs_the_key_and_json(keyed: httpx.AsyncClient, exchange: FakeExchange) -> None:
    """It is a write like any other."""
    assert code(await keyed.post("/orders/batch", json={"orders": [LIMIT]})) == "unauthorized"
    assert code(await keyed.post("/orders/batch", content=b"{}", headers=KEY)) == "not_json"
    assert code(await keyed.post("/orders/batch", json={"orders": 1}, headers=KEY)) == "invalid_request"
    assert exchange.commands == []


async def test_a_batch_has_a_body_limit_of_its_own(make_app: MakeApp, exchange: FakeExchange) -> None:
    """Larger than an order's, and a limit all the same; the other routes keep theirs."""
    body = json.dumps({"orders": [LIMIT] * 10}).encode()
    headers = {"Content-Type": "application/json"}
    async with client_of(make_app(max_body_bytes=200, max_batch_bytes=len(body))) as client:
        assert (await client.post("/orders/batch", content=body, headers=headers)).status_code == 200
        refused = await client.post("/orders/batch", content=body + b" ", headers=headers)
        assert (code(refused), str(len(body)) in refused.json()["detail"]) == ("body_too_large", True)
        assert code(await client.post("/orders", content=body, headers=headers)) == "body_too_large"
    assert len(exchange.commands) == 10


async def test_a_thousand_operations_fit_the_default_limit(client: httpx.AsyncClient, exchange: FakeExchange) -> None:
    """And one more is refused as a whole."""
    operation = {"op": "cancel", "order_id": "9" * 18}
    assert len(await batch(client, *[operation] * 1000)) == 1000
    response = await client.post("/orders/batch", json={"orders": [operation] * 1001})
    assert (code(response), [error["field"] for error in response.json()["errors"]]) == ("invalid_request", ["orders"])
    assert len(exchange.commands) == 1000


async def test_the_engines_refusals_come_in_their_places(client: httpx.AsyncClient, exchange: FakeExchange) -> None:
    """A refused change has the bound that it missed in its words, as by itself."""
    exchange.script.append([CommandRefused(5, Reason.VERSION_CONFLICT, pack(3, 0))])
    [result] = await batch(client, {"op": "modify", "order_id": "5", "price": 1, "expected_version": 2})
    assert (result["status"], "version 3" in result["problem"]["detail"]) == (409, True)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_a_batch_is_no_order(client: httpx.AsyncClient, method: str) -> None:
    """Its path takes POST alone."""
    body = {"quantity": 1} if method == "PUT" else None
    assert code(await client.request(method, "/orders/batch", json=body)) == "method_not_allowed"


# Mass cancel


@pytest.mark.parametrize(
    ("query", "cancelled", "command"),
    [
        ("user_id=alice", ["1", "2", "4"], CancelOrders("alice", None, None, 0)),
        ("symbol=msft", ["4", "5"], CancelOrders(None, "MSFT", None, 0)),
        ("user_id=alice&symbol=AAPL", ["1", "2"], CancelOrders("alice", "AAPL", None, 0)),
        ("user_id=alice&side=sell", ["2"], CancelOrders("alice", None, Side.SELL, 0)),
        ("symbol=AAPL&side=BUY", ["1"], CancelOrders(None, "AAPL", Side.BUY, 0)),
        ("symbol=NONE", [], CancelOrders(None, "NONE", None, 0)),
        ("user_id=nobody", [], CancelOrders("nobody", None, None, 0)),
    ],
)
async def test_a_mass_cancel_cancels_what_is_named(
    client: httpx.AsyncClient, exchange: FakeExchange, query: str, cancelled: list[str], command: CancelOrders
) -> None:
    """I2: by user, symbol and side, in the order of acceptance; nothing to cancel is no failure."""
    exchange.orders = {
        1: order_record(id=1),
        2: order_record(id=2, side=Side.SELL, status=OrderStatus.PENDING_TRIGGER),
        3: order_record(id=3, status=OrderStatus.FILLED),
        4: order_record(id=4, symbol="MSFT"),
        5: order_record(id=5, symbol="MSFT", user_id="bob"),
    }
    response = await client.delete(f"/orders?{query}")
    assert (response.status_code, response.json()) == (200, {"cancelled": len(cancelled), "order_ids": cancelled})
    assert exchange.commands[0] == command


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("", "user_id"),
        ("side=BUY", "user_id"),
        ("user_id=", "user_id"),
        ("user_id=a%0A", "user_id"),
        ("symbol=%2F", "symbol"),
        ("user_id=a&side=HOLD", "side"),
        ("user_id=a&sied=BUY", "sied"),
        ("user_id=a&dry_run=true", "dry_run"),
    ],
)
async def test_a_mass_cancel_without_a_name_cancels_nothing(
    client: httpx.AsyncClient, exchange: FakeExchange, query: str, field: str
) -> None:
    """A misspelt filter must not read as none: a user or a symbol is required."""
    response = await client.delete(f"/orders?{query}")
    assert (code(response), [error["field"] for error in response.json()["errors"]]) == ("invalid_request", [field])
    assert exchange.commands == []


async def test_a_mass_cancel_needs_the_key(keyed: httpx.AsyncClient, exchange: FakeExchange) -> None:
    """A write like any other; what the engine raises is told."""
    assert code(await keyed.delete("/orders?user_id=alice")) == "unauthorized"
    assert exchange.commands == []
    exchange.fail = OutcomeUnknown()
    response = await keyed.delete("/orders?user_id=alice", headers=KEY)
    assert (code(response), response.json()["outcome"]) == ("outcome_unknown", "unknown")
