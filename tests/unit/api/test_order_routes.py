"""The routes that carry orders, over an exchange in memory: statuses, headers and bodies, and every way to refuse."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.types import Message

from fakes import FakeExchange, MakeApp, client_of, order_record
from ome.api.dispatcher import SECURITY_HEADERS, Dispatcher
from ome.domain.enums import OrderStatus
from ome.domain.errors import NotAccepting, OutcomeUnknown, Overloaded
from ome.domain.events import OrderRejected
from ome.domain.numbers import pack
from ome.domain.reasons import TABLE, Reason

LIMIT: dict[str, Any] = {"user_id": "alice", "symbol": "AAPL", "side": "BUY", "quantity": 100, "price": "150.50"}
MARKET: dict[str, Any] = {"user_id": "bob", "symbol": "AAPL", "side": "SELL", "type": "MARKET", "quantity": "40"}


def problem(response: httpx.Response, reason: Reason) -> dict[str, Any]:
    """The document of a refusal, which must be one, and for this reason."""
    assert response.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    assert (document["code"], response.status_code) == (reason.code, TABLE[reason].status)
    assert document["status"] == response.status_code
    assert document["request_id"] == response.headers["x-request-id"]
    return document


async def test_an_order_rests_and_is_traded_with(client: httpx.AsyncClient) -> None:
    """The whole way of two orders: submit, trade, read, change, cancel."""
    resting = await client.post("/orders", json=LIMIT)
    assert resting.status_code == 201
    assert (resting.json()["status"], resting.json()["executed_trades"]) == ("PENDING", [])
    order_id = resting.json()["order_id"]

    taken = (await client.post("/orders", json=MARKET)).json()
    assert (taken["status"], taken["time_in_force"], taken["average_price"]) == ("FILLED", "IOC", "150.5")
    assert [trade["maker_order_id"] for trade in taken["executed_trades"]] == [order_id]

    read = await client.get(f"/orders/{order_id}", params={"symbol": "AAPL"})
    assert (read.status_code, read.json()["status"], read.json()["remaining_quantity"]) == (200, "PARTIALLY_FILLED", "60")
    assert "executed_trades" not in read.json()

    changed = await client.put(f"/orders/{order_id}", json={"quantity": 90})
    assert (changed.status_code, changed.json()["version"], changed.json()["executed_trades"]) == (200, 2, [])

    cancelled = await client.delete(f"/orders/{order_id}")
    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "CANCELLED")
    problem(await client.delete(f"/orders/{order_id}"), Reason.ORDER_NOT_OPEN)


async def test_a_retry_gets_the_first_answer_marked(client: httpx.AsyncClient) -> None:
    """I1: same id, same body: the first answer with its status, in body and header; another body is a conflict."""
    body = LIMIT | {"client_order_id": "mine-1"}
    first = await client.post("/orders", json=body)
    again = await client.post("/orders", json=body)
    assert again.json() == first.json() | {"replayed": True}
    assert (again.status_code, again.headers["idempotent-replayed"]) == (201, "true")
    assert "idempotent-replayed" not in first.headers
    problem(await client.post("/orders", json=body | {"quantity": 1}), Reason.CLIENT_ORDER_ID_CONFLICT)


async def test_a_rejected_order_is_answered_with_its_id(client: httpx.AsyncClient, exchange: FakeExchange) -> None:
    """The engine's refusal of a well-formed order is 422, names the order and the bound that was missed."""
    rejected = order_record(status=OrderStatus.REJECTED, reason=Reason.PRICE_OFF_TICK)
    exchange.script.append([OrderRejected(rejected, pack(5, 1))])
    document = problem(await client.post("/orders", json=LIMIT), Reason.PRICE_OFF_TICK)
    assert (document["order_id"], document["outcome"]) == (str(rejected.id), "not_executed")
    assert "0.5" in document["detail"]


@pytest.mark.parametrize(
    ("error", "reason", "outcome", "retry"),
    [
        (Overloaded(), Reason.OVERLOADED, "not_executed", "1"),
        (NotAccepting(), Reason.NOT_ACCEPTING, "not_executed", "1"),
        (OutcomeUnknown(), Reason.OUTCOME_UNKNOWN, "unknown", None),
    ],
)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_what_the_engine_raises_is_told_with_its_outcome(
    client: httpx.AsyncClient,
    exchange: FakeExchange,
    method: str,
    error: Exception,
    reason: Reason,
    outcome: str,
    retry: str | None,
) -> None:
    """DUR2: 503 is certain and says when to come back; 504 says that it isn't."""
    exchange.fail = error
    path, body = {"POST": ("/orders", LIMIT), "PUT": ("/orders/1", {"quantity": 1}), "DELETE": ("/orders/1", None)}[method]
    response = await client.request(method, path, json=body)
    assert problem(response, reason)["outcome"] == outcome
    assert response.headers.get("retry-after") == retry


async def test_a_bug_is_a_500_without_insides_and_is_logged(
    client: httpx.AsyncClient, exchange: FakeExchange, caplog: pytest.LogCaptureFixture
) -> None:
    """The client gets a request id; the log has it, and the error."""
    exchange.fail = ZeroDivisionError("the secret inside")
    response = await client.post("/orders", json=LIMIT, headers={"X-Request-ID": "find-me"})
    document = problem(response, Reason.INTERNAL_ERROR)
    assert document["outcome"] == "unknown"
    assert "secret" not in response.text
    [record] = [record for record in caplog.records if record.name == "ome.api"]
    assert record.__dict__["request_id"] == "find-me"
    assert record.exc_info is not None


@pytest.mark.parametrize(
    "order_id", ["0", "1", "01", "-1", "x", "1e3", "9" * 19, "9" * 400, "%00", "%0D%0A", "%D9%A1", "1%20", "é"]
)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_an_unknown_order_is_not_found(client: httpx.AsyncClient, method: str, order_id: str) -> None:
    """Whatever stands for the id: 404, never a failure."""
    body = {"quantity": 1} if method == "PUT" else None
    problem(await client.request(method, f"/orders/{order_id}", json=body), Reason.ORDER_NOT_FOUND)


@pytest.mark.parametrize(
    "given", [None, "", "text/plain", "application/x-www-form-urlencoded", "application", "application/jsonp"]
)
async def test_a_body_must_be_declared_as_json(client: httpx.AsyncClient, given: str | None) -> None:
    """415 with a hint, which also keeps other sites' forms out."""
    headers = {} if given is None else {"Content-Type": given}
    response = await client.post("/orders", content=json.dumps(LIMIT), headers=headers)
    assert "Content-Type: application/json" in problem(response, Reason.NOT_JSON)["detail"]


@pytest.mark.parametrize("given", ["application/json", "Application/JSON; charset=utf-8", "application/vnd.order+json"])
async def test_json_by_any_of_its_names_is_taken(client: httpx.AsyncClient, given: str) -> None:
    """Parameters and suffixes are fine."""
    response = await client.post("/orders", content=json.dumps(LIMIT), headers={"Content-Type": given})
    assert response.status_code == 201


@pytest.mark.parametrize("coding", ["gzip", "br", "", "identity, gzip"])
async def test_a_packed_body_is_refused_with_a_hint(client: httpx.AsyncClient, coding: str) -> None:
    """415, not a complaint about JSON."""
    headers = {"Content-Type": "application/json", "Content-Encoding": coding}
    response = await client.post("/orders", content=b"\x1f\x8b", headers=headers)
    assert "Content-Encoding" in problem(response, Reason.NOT_JSON)["detail"]
    response = await client.post("/orders", content=json.dumps(LIMIT), headers=headers | {"Content-Encoding": "identity"})
    assert response.status_code == 201


async def test_only_the_routes_of_one_order_take_a_symbol(client: httpx.AsyncClient, exchange: FakeExchange) -> None:
    """Accepted beside its id; elsewhere it would read as if it meant something."""
    exchange.orders[1] = order_record(id=1)
    assert (await client.get("/orders/1?symbol=AAPL")).status_code == 200
    assert (await client.put("/orders/1?symbol=AAPL", json={"quantity": 50})).status_code == 200
    assert (await client.delete("/orders/1?symbol=AAPL")).status_code == 200
    problem(await client.post("/orders?symbol=AAPL", json=LIMIT), Reason.INVALID_REQUEST)


async def test_the_body_limit_holds_by_header_and_by_count(make_app: MakeApp, exchange: FakeExchange) -> None:
    """A body of exactly the limit is read; one byte more is not, whether it was announced or came in pieces."""
    body = json.dumps(LIMIT).encode()
    app = make_app(max_body_bytes=len(body))

    async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
        for part in parts:
            yield part

    async with client_of(app) as client:
        headers = {"Content-Type": "application/json"}
        assert (await client.post("/orders", content=body, headers=headers)).status_code == 201
        halves = pieces(body[:20], body[20:])
        assert (await client.post("/orders", content=halves, headers=headers)).status_code == 201
        document = problem(await client.post("/orders", content=body + b" ", headers=headers), Reason.BODY_TOO_LARGE)
        assert str(len(body)) in document["detail"]
        problem(await client.post("/orders", content=pieces(body, b" "), headers=headers), Reason.BODY_TOO_LARGE)
        for length in ("99999999999999999999999", "-1", "abc"):
            announced = headers | {"Content-Length": length}
            problem(await client.post("/orders", content=body, headers=announced), Reason.BODY_TOO_LARGE)
    assert len(exchange.commands) == 2


@pytest.mark.parametrize("path", ["/orders", "/market"])
async def test_paths_and_headers_are_bounded(client: httpx.AsyncClient, path: str) -> None:
    """431 for one long header, for many short ones and for a long query; a browser's worth is fine."""
    many = {f"X-{number}": "x" * 20 for number in range(800)}
    problem(await client.get(path, headers={"X-Long": "x" * 20_000}), Reason.HEADERS_TOO_LARGE)
    problem(await client.get(path, headers=many), Reason.HEADERS_TOO_LARGE)
    problem(await client.post(f"{path}?q={'x' * 20_000}", json=LIMIT), Reason.HEADERS_TOO_LARGE)
    assert (await client.get(f"{path}?user_id=a", headers={"Cookie": "x" * 4000})).status_code != 431


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_writes_need_the_key(keyed: httpx.AsyncClient, exchange: FakeExchange, method: str) -> None:
    """No key, a wrong one and one that isn't ASCII are refused alike; the right one is let in."""
    path, body = {"POST": ("/orders", LIMIT), "PUT": ("/orders/1", {"quantity": 1}), "DELETE": ("/orders/1", None)}[method]
    for key in (b"", b"sesam", b"sesame ", b"\xff\xfe"):
        response = await keyed.request(method, path, json=body, headers={b"X-API-Key": key} if key else None)
        problem(response, Reason.UNAUTHORIZED)
        assert response.headers["www-authenticate"].startswith("ApiKey")
    assert exchange.commands == []
    await keyed.request(method, path, json=body, headers={"X-API-Key": "sesame"})
    assert len(exchange.commands) == 1


async def test_private_reads_need_the_key(keyed: httpx.AsyncClient, exchange: FakeExchange) -> None:
    """An order is read with the key only, where reads are private."""
    exchange.orders[1] = order_record(id=1)
    problem(await keyed.get("/orders/1"), Reason.UNAUTHORIZED)
    assert (await keyed.get("/orders/1", headers={"X-API-Key": "sesame"})).status_code == 200


async def test_reads_are_open_with_a_key_unless_they_are_private(make_app: MakeApp, exchange: FakeExchange) -> None:
    """A key alone closes the writes only."""
    exchange.orders[1] = order_record(id=1)
    async with client_of(make_app(api_key="sesame")) as client:
        assert (await client.get("/orders/1")).status_code == 200
        problem(await client.delete("/orders/1"), Reason.UNAUTHORIZED)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("sybmol=AAPL", "sybmol"),
        ("dry_run=maybe", "dry_run"),
        ("dry_run=", "dry_run"),
        ("dryrun=true", "dryrun"),
        ("%ff=%00", "\ufffd"),
    ],
)
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/orders", LIMIT),
        ("PUT", "/orders/1", {"quantity": 1}),
        ("DELETE", "/orders/1", None),
        ("POST", "/orders/batch", {"orders": [LIMIT]}),
    ],
)
async def test_a_query_never_turns_into_an_order(
    client: httpx.AsyncClient, exchange: FakeExchange, method: str, path: str, body: Any, query: str, field: str
) -> None:
    """What may have been meant as a dry run changes nothing."""
    document = problem(await client.request(method, f"{path}?{query}", json=body), Reason.INVALID_REQUEST)
    assert [error["field"] for error in document["errors"]] == [field]
    assert exchange.commands == []


async def test_a_cancel_has_no_dry_run(client: httpx.AsyncClient, exchange: FakeExchange) -> None:
    """What isn't there is refused, not ignored: the order would be gone."""
    exchange.orders[1] = order_record(id=1)
    for value in ("true", "false"):
        problem(await client.delete(f"/orders/1?dry_run={value}"), Reason.INVALID_REQUEST)
    assert exchange.orders[1].is_open


async def test_a_dry_run_of_a_bad_order_tells_what_is_bad(client: httpx.AsyncClient) -> None:
    """As the order itself would; dry_run=false is no dry run."""
    problem(await client.post("/orders?dry_run=true", json={}), Reason.INVALID_REQUEST)
    answer = await client.post("/orders?dry_run=false", json=LIMIT)
    assert (answer.status_code, "dry_run" in answer.json(), answer.json()["order_id"] is None) == (201, False, False)


@pytest.mark.parametrize(
    ("given", "kept"), [("abc-DEF_1.2", True), ("x" * 64, True), ("x" * 65, False), ("a b", False), ("", False)]
)
@pytest.mark.parametrize("path", ["/orders/1", "/market"])
async def test_a_request_id_is_echoed_if_it_is_sane(client: httpx.AsyncClient, path: str, given: str, kept: bool) -> None:
    """Any other is replaced by one of our own; no two are the same."""
    first = await client.get(path, headers={"X-Request-ID": given})
    second = await client.get(path, headers={"X-Request-ID": given})
    assert (first.headers["x-request-id"] == given) is kept
    assert (first.headers["x-request-id"] == second.headers["x-request-id"]) is kept


async def test_every_answer_has_the_security_headers(client: httpx.AsyncClient) -> None:
    """Hot and ordinary, good and bad, pages and data."""
    for method, path in [
        ("POST", "/orders"),
        ("GET", "/orders/1"),
        ("GET", "/market"),
        ("GET", "/nothing"),
        ("GET", "/docs"),
        ("GET", "/"),
    ]:
        response = await client.request(method, path)
        for name, value in SECURITY_HEADERS:
            assert response.headers.get_list(name.decode()) == [value.decode()]
        assert "cache-control" in response.headers


@pytest.mark.parametrize(("durability", "shown"), [("full", None), ("relaxed", "relaxed")])
async def test_a_commit_that_is_not_durable_says_so(make_app: MakeApp, durability: str, shown: str | None) -> None:
    """DUR1: each 2xx that changed something carries it, on the hot routes and the others; reads and refusals don't."""
    async with client_of(make_app(durability=durability)) as client:
        order = await client.post("/orders", json=LIMIT)
        path = f"/orders/{order.json()['order_id']}"
        changes = [
            order,
            await client.put(path, json={"quantity": 50}),
            await client.post("/orders/batch", json={"orders": [LIMIT]}),
            await client.delete(path),
            await client.delete("/orders?user_id=alice"),
            await client.put("/instruments/A", json={}),
        ]
        assert [answer.headers.get("x-durability") for answer in changes] == [shown] * 6
        others = [await client.get(path), await client.delete(path), await client.post("/orders", json={})]
        assert ["x-durability" in answer.headers for answer in others] == [False] * 3
        assert (await client.get("/health")).json()["durability"] == durability


async def test_the_declared_routes_answer_like_the_dispatcher(
    make_app: MakeApp, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What FastAPI declares for OpenAPI is the same handlers, should a request ever arrive there."""
    declared = make_app()
    monkeypatch.setattr(declared, "_hot_route", lambda _method, _path: (None, ""))
    async with client_of(declared) as ordinary:
        order = (await client.post("/orders", json=LIMIT)).json()
        other = (await ordinary.post("/orders", json=LIMIT)).json()
        assert other == order | {"order_id": other["order_id"]}
        batch = (await ordinary.post("/orders/batch", json={"orders": [LIMIT, {}]})).json()
        assert [result["status"] for result in batch["results"]] == [201, 422]
        path = f"/orders/{order['order_id']}"
        assert (await ordinary.get(path)).json() == (await client.get(path)).json()
        assert (await ordinary.put(path, json={"quantity": 50})).json()["version"] == 2
        assert (await ordinary.delete(path)).json()["status"] == "CANCELLED"
        problem(await ordinary.delete(path), Reason.ORDER_NOT_OPEN)
        problem(await ordinary.post("/orders", json={}), Reason.INVALID_REQUEST)


async def test_a_client_that_leaves_while_it_sends_gets_nothing(make_app: MakeApp, exchange: FakeExchange) -> None:
    """Half a body is no order, and nobody is answered."""
    messages: list[Message] = [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]
    sent: list[Message] = []

    async def receive() -> Message:
        return messages.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/orders", "query_string": b"", "headers": headers}
    await make_app()(scope, receive, send)
    assert (sent, exchange.commands) == ([], [])


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
MEMBERS = st.dictionaries(
    st.sampled_from(sorted({*LIMIT, "type", "expires_at", "client_order_id"})) | st.text(max_size=8), LEAVES
)


PATHS = st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).map(lambda text: quote(text, safe=""))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(members=MEMBERS, path=PATHS, noise=st.binary(max_size=50))
async def test_hostile_requests_never_fail(app: Dispatcher, members: dict[str, Any], path: str, noise: bytes) -> None:
    """Whatever body, path or query: an answer below 500."""
    headers = {"Content-Type": "application/json"}
    async with client_of(app) as client:
        answers = [
            await client.request(method, target, content=content, headers=headers)
            for content in (json.dumps(LIMIT | members).encode(errors="surrogatepass"), noise)
            for method, target in (
                ("POST", "/orders"),
                ("POST", "/orders/batch"),
                ("PUT", "/orders/1"),
                ("PUT", f"/instruments/{path}"),
                ("DELETE", f"/orders?user_id={path}&symbol={path}"),
            )
        ]
        targets = (
            f"/orders/{path}",
            f"/orders/user/{path}",
            f"/market/{path}/depth",
            f"/market/{path}/auction",
            f"/{path}",
            f"/trades?symbol={path}&cursor={path}",
        )
        answers += [await client.get(target) for target in targets]
    assert [answer.status_code for answer in answers if answer.status_code >= 500] == []
