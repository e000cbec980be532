"""The HTTP edge on a real server: real sockets, the real engine, SQLite."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from servers import Server, running_server, sqlite_url

ANSWER_SECONDS = 10.0
SYMBOLS = iter(f"H{number}" for number in range(10_000))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One service for this module; each test takes a symbol of its own."""
    with running_server(sqlite_url(tmp_path_factory.mktemp("http"))) as server:
        yield server


@pytest.fixture
def symbol() -> str:
    """A symbol that nobody has used."""
    return next(SYMBOLS)


@pytest.fixture
def http(server: Server) -> Iterator[httpx.Client]:
    """A client of the service."""
    with httpx.Client(base_url=server.url, timeout=ANSWER_SECONDS) as client:
        yield client


def limit(symbol: str, **changes: object) -> dict[str, Any]:
    """Alice buys 100 at 150.50, or otherwise."""
    return {"user_id": "alice", "symbol": symbol, "side": "BUY", "quantity": 100, "price": "150.50"} | changes


def raw(server: Server, request: bytes) -> bytes:
    """The status of the answer to these very bytes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=ANSWER_SECONDS) as connection:
        connection.sendall(request)
        answer = b""
        while b"\r\n" not in answer and (piece := connection.recv(65536)):
            answer += piece
    return answer.split(b" ", 2)[1]


def test_two_users_trade_and_everything_tells_of_it(http: httpx.Client, symbol: str) -> None:
    """The main job from end to end: order, trade, order as it stands, tape, market, depth with its queue."""
    order = http.post("/orders", json=limit(symbol)).json()
    answer = http.post("/orders", json=limit(symbol, user_id="bob", side="SELL", quantity="40", price=150.5))
    assert answer.status_code == 201
    [trade] = answer.json()["executed_trades"]
    assert (trade["price"], trade["quantity"], trade["maker_order_id"]) == ("150.50", "40", order["order_id"])
    now = http.get(f"/orders/{order['order_id']}").json()
    assert (now["status"], now["remaining_quantity"], now["average_price"]) == ("PARTIALLY_FILLED", "60", "150.5")
    assert http.get("/trades", params={"symbol": symbol}).json()["trades"] == [trade]
    market = http.get(f"/market/{symbol}").json()
    assert (market["best_bid"], market["last_price"], market["volume"]) == ({"price": "150.50", "quantity": "60"}, "150.50", "40")
    depth = http.get(f"/market/{symbol}/depth", params={"detail": "orders"}).json()
    assert [queued["order_id"] for queued in depth["bids"][0]["queue"]] == [order["order_id"]]
    assert depth["sequence"] == http.get(f"/market/{symbol}/depth").json()["sequence"]


def test_every_refusal_of_the_engine_is_a_problem_with_its_reason(http: httpx.Client, symbol: str) -> None:
    """Rejected orders are recorded and named; refused changes leave the order as it was."""
    rejected = http.post("/orders", json=limit(symbol, price="0.001"))
    assert (rejected.status_code, rejected.json()["code"]) == (422, "price_off_tick")
    assert http.get(f"/orders/{rejected.json()['order_id']}").json()["status"] == "REJECTED"
    order_id = http.post("/orders", json=limit(symbol)).json()["order_id"]
    refused = http.put(f"/orders/{order_id}", json={"price": "151", "expected_version": 7})
    assert (refused.status_code, refused.json()["code"]) == (409, "version_conflict")
    assert "version 1" in refused.json()["detail"]
    assert http.put(f"/orders/{order_id}", json={"quantity": "0.5"}).json()["code"] == "quantity_off_lot"
    assert http.put(f"/instruments/{symbol}", json={"tick_size": 1}).json()["code"] == "instrument_in_use"
    assert http.delete("/orders/999").json()["code"] == "order_not_found"
    assert http.get(f"/orders/{order_id}").json()["version"] == 1


def order(symbol: str, kind: str, **changes: object) -> dict[str, Any]:
    """Alice buys 100 with an order of this type."""
    return {"user_id": "alice", "symbol": symbol, "side": "BUY", "type": kind, "quantity": 100} | changes


def trade_at(http: httpx.Client, symbol: str, price: str) -> None:
    """Let one be traded at a price, by two who do nothing else."""
    http.post("/orders", json=limit(symbol, user_id="yan", side="SELL", quantity=1, price=price))
    assert http.post("/orders", json=limit(symbol, user_id="zoe", quantity=1, price=price)).json()["status"] == "FILLED"


def test_a_stop_waits_is_changed_fires_and_tells_of_it(http: httpx.Client, symbol: str) -> None:
    """S1, S4, S5, A8: from PENDING_TRIGGER to its own trades, by a change of its stop price."""
    trade_at(http, symbol, "150")
    http.post("/orders", json=limit(symbol, user_id="bob", side="SELL", price="151"))
    waiting = http.post("/orders", json=order(symbol, "STOP", stop_price="155"))
    assert (waiting.status_code, waiting.json()["status"], waiting.json()["time_in_force"]) == (201, "PENDING_TRIGGER", "IOC")
    assert (waiting.json()["stop_price"], waiting.json()["triggered_at"]) == ("155.00", None)
    path = f"/orders/{waiting.json()['order_id']}"
    assert [each["order_id"] for each in http.get("/orders/user/alice?status=PENDING_TRIGGER").json()["orders"]][:1] == [path[8:]]
    fired = http.put(path, json={"stop_price": "149", "quantity": 60, "expected_version": 1}).json()
    assert (fired["status"], fired["filled_quantity"], len(fired["executed_trades"])) == ("FILLED", "60", 1)
    now = http.get(path).json()
    assert now == {name: value for name, value in fired.items() if name != "executed_trades"}
    assert now["triggered_at"] is not None


def test_a_stop_that_is_through_fires_at_once(http: httpx.Client, symbol: str) -> None:
    """S2: 201 with its own trades and as it ended."""
    trade_at(http, symbol, "150")
    http.post("/orders", json=limit(symbol, user_id="bob", side="SELL", quantity=30, price="151"))
    answer = http.post("/orders", json=order(symbol, "STOP_LIMIT", stop_price="150", price="151"))
    fired = answer.json()
    assert (answer.status_code, fired["status"], fired["remaining_quantity"]) == (201, "PARTIALLY_FILLED", "70")
    assert [trade["quantity"] for trade in fired["executed_trades"]] == ["30"]
    assert {name: value for name, value in fired.items() if name != "executed_trades"} == http.get(
        f"/orders/{fired['order_id']}"
    ).json()


def test_a_trailing_stop_shows_where_it_stands(http: httpx.Client, symbol: str) -> None:
    """S6: from last at its entry, then with the best last since."""
    trade_at(http, symbol, "100")
    trail = http.post("/orders", json=order(symbol, "TRAILING_STOP", side="SELL", trail_percent="5", limit_offset=1)).json()
    assert (trail["stop_price"], trail["trail_percent"], trail["limit_offset"], trail["time_in_force"]) == (
        "95.00",
        "5",
        "1.00",
        "GTC",
    )
    trade_at(http, symbol, "120")
    assert http.get(f"/orders/{trail['order_id']}").json()["stop_price"] == "114.00"
    closer = http.put(f"/orders/{trail['order_id']}", json={"trail_amount": "2"}).json()
    assert (closer["stop_price"], closer["trail_amount"], "trail_percent" in closer) == ("118.00", "2.00", False)


def test_what_an_order_asks_for_beyond_its_price_is_kept_and_shown(http: httpx.Client, symbol: str) -> None:
    """Iceberg, post-only, bounds and prevention: in the answer, in reads, and in the book."""
    hidden = http.post(
        "/orders", json=limit(symbol, side="SELL", display_quantity=10, post_only=True, time_in_force="DAY")
    ).json()
    assert (hidden["display_quantity"], hidden["post_only"], hidden["time_in_force"]) == ("10", True, "DAY")
    assert http.get(f"/market/{symbol}/depth").json()["asks"] == [{"price": "150.50", "quantity": "10", "orders": 1}]
    would_take = http.post("/orders", json=limit(symbol, user_id="bob", post_only=True))
    assert (would_take.status_code, would_take.json()["code"], "150.50" in would_take.json()["detail"]) == (
        422,
        "post_only_would_take",
        True,
    )
    assert http.get(f"/orders/{would_take.json()['order_id']}").json()["post_only"] is True
    minimum = http.post("/orders", json=limit(symbol, user_id="bob", quantity=200, min_quantity=101)).json()
    assert (minimum["status"], minimum["reason"], minimum["min_quantity"]) == ("CANCELLED", "min_quantity_unfillable", "101")
    bounded = http.post("/orders", json=order(symbol, "MARKET", user_id="bob", quantity=5, max_slippage_bps=0)).json()
    assert (bounded["status"], bounded["max_slippage_bps"]) == ("FILLED", 0)
    met = http.post("/orders", json=limit(symbol, quantity=15, self_trade_prevention="DECREMENT")).json()
    assert (met["prevented_quantity"], met["status"], met["executed_trades"]) == ("15", "CANCELLED", [])
    assert http.get(f"/orders/{hidden['order_id']}").json()["prevented_quantity"] == "15"


def test_a_dry_run_leaves_no_trace(http: httpx.Client, symbol: str) -> None:
    """What it tells is what then happens; nobody has seen it, and no id was used."""
    resting = http.post("/orders", json=limit(symbol, user_id="bob", side="SELL", quantity=30)).json()["order_id"]
    before = http.get(f"/market/{symbol}").json()
    dry = http.post("/orders?dry_run=true", json=limit(symbol, client_order_id="once"))
    assert http.get(f"/market/{symbol}").json() == before
    assert http.get("/orders", params={"user_id": "alice", "client_order_id": "once", "symbol": symbol}).json()["count"] == 0
    assert http.put(f"/orders/{resting}?dry_run=true", json={"quantity": 10}).json()["version"] == 2
    assert http.get(f"/orders/{resting}").json()["version"] == 1
    wet = http.post("/orders", json=limit(symbol, client_order_id="once"))
    assert (dry.status_code, wet.status_code, dry.json()["dry_run"], dry.json()["order_id"]) == (201, 201, True, None)
    assert int(wet.json()["order_id"]) == int(resting) + 1
    for field in ("status", "filled_quantity", "remaining_quantity", "average_price"):
        assert dry.json()[field] == wet.json()[field]
    [told], [made] = dry.json()["executed_trades"], wet.json()["executed_trades"]
    assert (told["price"], told["quantity"], told["maker_order_id"]) == (made["price"], made["quantity"], resting)
    refused = http.post("/orders?dry_run=true", json=limit(symbol, price="0.001"))
    assert (refused.json()["code"], "order_id" in refused.json()) == ("price_off_tick", False)


def test_a_batch_and_a_mass_cancel(http: httpx.Client, symbol: str) -> None:
    """I2, I4: in order, each with its own answer; then everything of a symbol is gone, waiting stops included."""
    first = http.post("/orders", json=limit(symbol)).json()["order_id"]
    operations = [
        limit(symbol, user_id="bob", side="SELL", quantity=40),
        limit(symbol, price="0.001"),
        {"op": "modify", "order_id": first, "quantity": 50},
        {"op": "cancel", "order_id": "999"},
        order(symbol, "STOP", user_id="bob", stop_price="200"),
        limit(symbol, user_id="bob", side="SELL", price="160"),
        {"nonsense": True},
    ]
    dry = http.post("/orders/batch?dry_run=true", json={"orders": operations}).json()
    results = http.post("/orders/batch", json={"orders": operations}).json()["results"]
    assert [result["status"] for result in results] == [201, 422, 200, 404, 201, 201, 422]
    assert [result["status"] for result in dry["results"]] == [result["status"] for result in results]
    assert results[0]["order"]["executed_trades"][0]["maker_order_id"] == first
    assert (results[1]["problem"]["code"], results[2]["order"]["remaining_quantity"]) == ("price_off_tick", "10")
    sells = http.delete("/orders", params={"symbol": symbol, "side": "SELL"}).json()
    assert sells == {"cancelled": 1, "order_ids": [results[5]["order"]["order_id"]]}
    rest = http.delete("/orders", params={"symbol": symbol}).json()
    assert rest == {"cancelled": 2, "order_ids": [first, results[4]["order"]["order_id"]]}
    assert http.delete("/orders", params={"symbol": symbol, "user_id": "alice"}).json() == {"cancelled": 0, "order_ids": []}
    assert http.get(f"/orders/{first}").json()["reason"] == "cancelled_by_user"


def test_an_auction_collects_tells_and_trades(http: httpx.Client, symbol: str) -> None:
    """H1, H3: the state is the operator's; what it would give is public; leaving it trades at one price, nobody as taker."""
    assert http.put(f"/instruments/{symbol}", json={"state": "AUCTION"}).json()["state"] == "AUCTION"
    assert http.get(f"/market/{symbol}/auction").json()["indicative_price"] is None
    buy = http.post("/orders", json=limit(symbol, price="151")).json()
    sell = http.post("/orders", json=limit(symbol, user_id="bob", side="SELL", quantity=40, price="149")).json()
    assert (buy["executed_trades"], sell["status"]) == ([], "PENDING")
    assert http.post("/orders", json=order(symbol, "MARKET")).json()["code"] == "market_in_auction"
    indicated = http.get(f"/market/{symbol}/auction").json()
    assert (indicated["indicative_volume"], indicated["imbalance"], indicated["imbalance_side"]) == ("40", "60", "BUY")
    assert http.put(f"/instruments/{symbol}", json={"state": "OPEN"}).json()["state"] == "OPEN"
    [trade] = http.get("/trades", params={"symbol": symbol}).json()["trades"]
    assert (trade["taker_side"], trade["maker_order_id"], trade["price"]) == (
        None,
        buy["order_id"],
        indicated["indicative_price"],
    )
    assert http.get(f"/market/{symbol}/auction").json()["code"] == "not_in_auction"
    assert http.get(f"/market/{symbol}").json()["state"] == "OPEN"


def test_the_rules_of_an_instrument_hold(http: httpx.Client, symbol: str) -> None:
    """H1, H2, R1: a maximum, a band and a halt, each refused with its own code, and taken away again."""
    trade_at(http, symbol, "100")
    http.put(f"/instruments/{symbol}", json={"max_order_quantity": 50, "price_band_percent": "10", "session_close": "21:00"})
    assert http.post("/orders", json=limit(symbol, price="100")).json()["code"] == "quantity_above_maximum"
    assert http.post("/orders", json=limit(symbol, quantity=50, price="110.01")).json()["code"] == "price_outside_band"
    shown = http.put(
        f"/instruments/{symbol}", json={"max_order_quantity": 0, "price_band_percent": "0", "state": "HALTED"}
    ).json()
    assert (shown["max_order_quantity"], shown["price_band_percent"], shown["session_close"]) == (None, None, "21:00:00")
    assert http.post("/orders", json=limit(symbol)).json()["code"] == "market_halted"
    http.put(f"/instruments/{symbol}", json={"state": "OPEN"})
    assert http.post("/orders", json=limit(symbol, price="500")).status_code == 201


async def test_a_hundred_retries_at_once_are_one_order(server: Server, symbol: str) -> None:
    """I1: same id, same body, in flight together: one execution, one answer, the others marked as replays."""
    limits = httpx.Limits(max_connections=100)
    async with httpx.AsyncClient(base_url=server.url, timeout=ANSWER_SECONDS, limits=limits) as client:
        body = limit(symbol, client_order_id="once")
        answers = await asyncio.gather(*(client.post("/orders", json=body) for _ in range(100)))
        found = (await client.get("/orders", params={"user_id": "alice", "client_order_id": "once", "symbol": symbol})).json()
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["order_id"] for answer in answers}) == 1
    assert sum("replayed" not in answer.json() for answer in answers) == 1
    assert found["count"] == 1


def test_the_examples_of_the_documentation_work(http: httpx.Client) -> None:
    """Each as shown, against the real engine."""
    paths = http.get("/openapi.json").json()["paths"]

    def examples(method: str, path: str) -> dict[str, Any]:
        found: dict[str, Any] = paths[path][method]["requestBody"]["content"]["application/json"]["examples"]
        return {name: example["value"] for name, example in found.items()}

    for name, body in examples("post", "/orders").items():
        assert http.post("/orders", json=body).status_code == 201, name
    for body in examples("post", "/orders/batch").values():
        assert [each["status"] for each in http.post("/orders/batch", json=body).json()["results"][:2]] == [201, 201]
    for number, body in enumerate(examples("put", "/instruments/{symbol}").values()):
        assert http.put(f"/instruments/EXAMPLE{number}", json=body).status_code == 201


def test_a_connection_lives_on_after_refusals(http: httpx.Client, symbol: str) -> None:
    """Answering before the body is read doesn't confuse the next request on the same connection."""
    for _ in range(3):
        assert http.post("/orders", content=b"x" * 200_000, headers={"Content-Type": "application/json"}).status_code == 413
        assert http.post("/orders", content=b"x" * 30_000).status_code == 415
        assert http.post("/orders", json=limit(symbol)).status_code == 201


@pytest.mark.parametrize(
    ("request_bytes", "statuses"),
    [
        (b"GET /orders/%00%ff%0d%0a HTTP/1.1\r\nHost: x\r\n\r\n", {b"404"}),
        (b"GET /orders/1?%zz=\xff HTTP/1.1\r\nHost: x\r\n\r\n", {b"404", b"400"}),
        (b"GET /market/\xf0\x9f\x92\xa5 HTTP/1.1\r\nHost: x\r\n\r\n", {b"404", b"400"}),
        (b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", {b"404"}),
        (b"GET /static/..%2f..%2fapp.py HTTP/1.1\r\nHost: x\r\n\r\n", {b"404"}),
        (b"POST /orders HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99999999\r\n\r\n{", {b"413"}),
        (b"POST /orders HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: abc\r\n\r\n", {b"400"}),
        (b"NONSENSE\r\n\r\n", {b"400"}),
    ],
)
def test_hostile_bytes_never_get_a_500(server: Server, request_bytes: bytes, statuses: set[bytes]) -> None:
    """Straight onto the socket: what the server itself refuses, it refuses; the rest is a problem document."""
    assert raw(server, request_bytes) in statuses


def test_a_chunked_body_is_counted(server: Server) -> None:
    """Without a length to trust, the limit holds by what arrives."""
    head = b"POST /orders HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"8000\r\n" + b" " * 0x8000 + b"\r\n"
    assert raw(server, head + chunk * 3 + b"0\r\n\r\n") == b"413"


def test_requests_show_in_metrics_and_in_the_log(tmp_path: Path) -> None:
    """Counts by route, orders by outcome, state and position; one line per request, those before SIGTERM included."""
    with running_server(sqlite_url(tmp_path), LOG_LEVEL="INFO") as server:
        with httpx.Client(base_url=server.url, timeout=ANSWER_SECONDS) as client:
            client.post("/orders", json=limit("A"), headers={"X-Request-ID": "first-order"})
            client.post("/orders", json=limit("A", user_id="bob", side="SELL"))
            metrics = client.get("/metrics").text.splitlines()
            client.get("/orders/user/alice", headers={"X-Request-ID": "last-read"})
        server.terminate()
        lines = [json.loads(line) for line in server.output().splitlines()]
    assert 'ome_http_requests_total{method="POST",route="/orders",status="201"} 2.0' in metrics
    assert 'ome_orders_total{outcome="filled",type="LIMIT"} 2.0' in metrics
    assert "ome_trades_total 1.0" in metrics
    assert 'ome_engine_state{state="RUNNING"} 1.0' in metrics
    requests = {line["request_id"]: line for line in lines if line["event"] == "request"}
    assert requests["first-order"]["status"] == 201
    assert requests["last-read"]["route"] == "/orders/user/{user_id}"
    assert not any("alice" in json.dumps(line) for line in lines)
