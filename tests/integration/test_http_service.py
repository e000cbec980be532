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
    operation = http.get("/openapi.json").json()["paths"]["/orders"]["post"]
    for example in operation["requestBody"]["content"]["application/json"]["examples"].values():
        assert http.post("/orders", json=example["value"]).status_code == 201


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
