"""Everything but the hot routes: lists, market data, instruments, the service itself, and what isn't built."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterable
from typing import Any

import httpx
import msgspec
import pytest
from starlette.types import Message

from fakes import NOW, FakeExchange, MakeApp, client_of, order_record
from ome.api.dispatcher import WHOLE_ANSWER, Dispatcher
from ome.api.paging import encode_cursor
from ome.domain.build import CORE
from ome.domain.clock import now_us, parse_time
from ome.domain.enums import OrderStatus, Side
from ome.domain.errors import NotAccepting, Pending, StorageAway, TooLate
from ome.domain.events import CommandRefused
from ome.domain.numbers import pack
from ome.domain.ports import Auction
from ome.domain.reasons import TABLE, Reason

LIMIT: dict[str, Any] = {"user_id": "alice", "symbol": "AAPL", "side": "BUY", "quantity": 100, "price": "150.50"}
KEY = {"X-API-Key": "sesame"}


def code(response: httpx.Response) -> str:
    """The code of a problem, whose status must be the table's."""
    assert response.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    assert TABLE[Reason[document["code"].upper()]].status == response.status_code == document["status"]
    return str(document["code"])


async def trade(client: httpx.AsyncClient, price: str = "150.50") -> None:
    """Let bob sell one to alice."""
    await client.post("/orders", json=LIMIT | {"quantity": 1, "price": price})
    await client.post("/orders", json={"user_id": "bob", "symbol": "AAPL", "side": "SELL", "type": "MARKET", "quantity": 1})


async def test_a_users_orders_are_listed_newest_first_page_by_page(client: httpx.AsyncClient, exchange: FakeExchange) -> None:
    """D5: by cursor, every order once, none of anybody else's."""
    for number in range(1, 8):
        exchange.orders[number] = order_record(id=number, user_id="bob" if number == 4 else "alice")
    seen, cursor = [], None
    for _ in range(4):
        params = {"limit": 2} if cursor is None else {"limit": 2, "cursor": cursor}
        answer = (await client.get("/orders/user/alice", params=params)).json()
        assert answer["count"] == len(answer["orders"])
        seen += [order["order_id"] for order in answer["orders"]]
        cursor = answer["next_cursor"]
        if cursor is None:
            break
    assert seen == ["7", "6", "5", "3", "2", "1"]


async def test_orders_are_filtered_by_symbol_and_status(client: httpx.AsyncClient, exchange: FakeExchange) -> None:
    """One status or several; names in any case."""
    exchange.orders[1] = order_record(id=1)
    exchange.orders[2] = order_record(id=2, status=OrderStatus.FILLED)
    exchange.orders[3] = order_record(id=3, symbol="MSFT", status=OrderStatus.CANCELLED)

    async def listed(**params: str) -> list[str]:
        answer = await client.get("/orders/user/alice", params=params)
        return [order["order_id"] for order in answer.json()["orders"]]

    assert await listed(status="PENDING") == ["1"]
    assert await listed(status="filled,cancelled") == ["3", "2"]
    assert await listed(symbol="msft") == ["3"]
    assert await listed() == ["3", "2", "1"]


async def test_an_order_is_found_by_its_client_id(client: httpx.AsyncClient) -> None:
    """The same list, of at most one order per symbol; without a client id, all of the user's."""
    await client.post("/orders", json=LIMIT | {"client_order_id": "mine"})
    await client.post("/orders", json=LIMIT)
    found = (await client.get("/orders", params={"user_id": "alice", "client_order_id": "mine"})).json()
    assert [order["client_order_id"] for order in found["orders"]] == ["mine"]
    assert (await client.get("/orders", params={"user_id": "alice", "client_order_id": "other"})).json()["count"] == 0
    assert (await client.get("/orders", params={"user_id": "alice"})).json()["count"] == 2
    assert code(await client.get("/orders")) == "invalid_request"


async def test_trades_are_listed_newest_first_by_any_filter(client: httpx.AsyncClient) -> None:
    """By symbol, user and order; an unlisted symbol is not found."""
    await trade(client, "150.50")
    await trade(client, "150.51")
    answer = (await client.get("/trades", params={"symbol": "aapl"})).json()
    assert [item["price"] for item in answer["trades"]] == ["150.51", "150.5"]
    maker = answer["trades"][0]["maker_order_id"]
    assert (await client.get("/trades", params={"order_id": maker, "user_id": "bob"})).json()["count"] == 1
    assert (await client.get("/trades", params={"user_id": "carol"})).json()["count"] == 0
    assert (await client.get("/trades", params={"limit": 1})).json()["next_cursor"] is not None
    assert code(await client.get("/trades", params={"symbol": "NONE"})) == "symbol_not_found"


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/orders/user/alice?limit=0", "limit"),
        ("/orders/user/alice?limit=1001", "limit"),
        ("/orders/user/alice?limit=1_0", "limit"),
        ("/orders/user/alice?limit=%D9%A1", "limit"),
        ("/orders/user/alice?limit=1e2", "limit"),
        ("/orders/user/alice?status=OPEN", "status"),
        ("/orders/user/alice?statsu=FILLED", "statsu"),
        ("/orders/user/alice?cursor=zzz", "cursor"),
        ("/orders/user/alice?cursor=%00", "cursor"),
        ("/orders/user/alice?cursor=" + encode_cursor("orders", "-1"), "cursor"),
        ("/orders/user/alice?cursor=" + encode_cursor("orders", "9" * 30), "cursor"),
        ("/trades?cursor=" + encode_cursor("orders", "1"), "cursor"),
        ("/instruments?cursor=" + encode_cursor("markets", "A"), "cursor"),
        ("/orders/user/al%20ice", "user_id"),
        ("/orders/user/alice%0A", "user_id"),
        ("/orders?user_id=%C3%A9", "user_id"),
        ("/orders", "user_id"),
        ("/trades?order_id=x", "order_id"),
        ("/trades?order_id=0", "order_id"),
        ("/trades?symbol=%2F", "symbol"),
        ("/market?limit=x", "limit"),
        ("/market/AAPL/depth?levels=0", "levels"),
        ("/market/AAPL/depth?detail=all", "detail"),
        ("/market/AAPL?x=1", "x"),
        ("/market/AAPL/auction?x=1", "x"),
        ("/instruments?x=1", "x"),
        ("/instruments/AAPL?x=1", "x"),
        ("/orders/1?x=1", "x"),
        ("/orders/1/explain?x=1", "x"),
        ("/orders?user_id=a&client_order_id=%C3%A9", "client_order_id"),
        ("/orders?user_id=a&client_order_id=%20", "client_order_id"),
        ("/trades?symbol=" + "x" * 33, "symbol"),
        ("/orders/user/alice?cursor=" + "x" * 129, "cursor"),
    ],
)
async def test_a_bad_parameter_is_named(client: httpx.AsyncClient, path: str, field: str) -> None:
    """422 with the parameter's name; its value is never echoed."""
    response = await client.get(path)
    assert code(response) == "invalid_request"
    [error] = response.json()["errors"]
    assert error["field"] == field
    assert error["message"].startswith(("must ", "is "))
    assert re.search(r"[Ss]tring|[Ii]nput|[Vv]alue|[Pp]attern|\^|'", error["message"]) is None


@pytest.mark.parametrize("path", ["/", "/docs", "/docs/problems", "/static/docs.js", "/metrics", "/health", "/health/live"])
async def test_pages_and_probes_take_any_parameter(client: httpx.AsyncClient, path: str) -> None:
    """Browsers and monitors add their own."""
    assert (await client.get(f"{path}?x=1")).status_code == 200


async def test_the_queues_are_of_the_moment_of_plain_depth(
    client: httpx.AsyncClient, exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same sequence and time where the database and the view agree; the time of its orders where they don't."""
    await client.post("/orders", json=LIMIT)
    plain = exchange.depth("AAPL", 10)
    assert plain is not None
    for sequence, time in ((len(exchange.commands), "2026-11-22T10:00:05.000000Z"), (99, "2026-11-22T10:00:00.000000Z")):
        depth = msgspec.structs.replace(plain, sequence=sequence, time=NOW + 5_000_000)
        monkeypatch.setattr(exchange, "depth", lambda _symbol, _levels, depth=depth: depth)
        answer = (await client.get("/market/AAPL/depth?detail=orders")).json()
        assert (answer["sequence"], answer["timestamp"]) == (len(exchange.commands), time)


async def test_private_lists_need_the_key(keyed: httpx.AsyncClient) -> None:
    """Orders, and whose trades are whose; market data and the tape are public always."""
    for path in ("/orders/user/alice", "/orders?user_id=alice", "/trades?user_id=alice"):
        assert code(await keyed.get(path)) == "unauthorized"
        assert (await keyed.get(path, headers=KEY)).status_code == 200
    for path in ("/trades", "/market", "/instruments", "/health", "/metrics", "/docs", "/openapi.json"):
        assert (await keyed.get(path)).status_code == 200


async def test_the_market_is_read_at_a_glance(client: httpx.AsyncClient) -> None:
    """Every symbol in /market, each by its name in any case."""
    await trade(client)
    await client.post("/orders", json=LIMIT)
    await client.post("/orders", json=LIMIT | {"symbol": "MSFT"})
    listed = (await client.get("/market")).json()
    assert ([market["symbol"] for market in listed["markets"]], listed["count"]) == (["AAPL", "MSFT"], 2)
    one = (await client.get("/market/aapl")).json()
    assert one == listed["markets"][0]
    assert (one["best_bid"], one["best_ask"], one["last_price"]) == ({"price": "150.5", "quantity": "100"}, None, "150.5")


async def test_lists_by_symbol_go_on_where_they_ended(client: httpx.AsyncClient) -> None:
    """The cursor is a place between names, whatever is listed meanwhile."""
    for symbol in ("A", "C", "B"):
        await client.put(f"/instruments/{symbol}", json={})
    for path, key in (("/market", "markets"), ("/instruments", "instruments")):
        first = (await client.get(path, params={"limit": 2})).json()
        rest = (await client.get(path, params={"limit": 2, "cursor": first["next_cursor"]})).json()
        assert [item["symbol"] for item in first[key] + rest[key]] == ["A", "B", "C"]
        assert rest["next_cursor"] is None


async def test_depth_shows_levels_and_for_the_operator_their_queues(make_app: MakeApp) -> None:
    """detail=orders is the operator's, where there is a key."""
    async with client_of(make_app(api_key="sesame")) as client:
        for user in ("alice", "bob"):
            await client.post("/orders", json=LIMIT | {"user_id": user}, headers=KEY)
        await client.post("/orders", json=LIMIT | {"price": 149}, headers=KEY)
        depth = (await client.get("/market/AAPL/depth", params={"levels": 1})).json()
        assert depth["bids"] == [{"price": "150.5", "quantity": "200", "orders": 2}]
        path = "/market/AAPL/depth?detail=orders&levels=1"
        assert code(await client.get(path)) == "unauthorized"
        [level] = (await client.get(path, headers=KEY)).json()["bids"]
        assert (level["quantity"], [order["user_id"] for order in level["queue"]]) == ("200", ["alice", "bob"])


@pytest.mark.parametrize(
    "symbol", ["NONE", "%00", "a%0A", "..%2F..", "%F0%9F%92%A5", "%C3%9F", "x" * 500, "'; DROP TABLE orders"]
)
@pytest.mark.parametrize(
    "path", ["/market/{}", "/market/{}/depth", "/market/{}/depth?detail=orders", "/market/{}/auction", "/instruments/{}"]
)
async def test_an_unlisted_symbol_is_not_found_and_not_listed(client: httpx.AsyncClient, path: str, symbol: str) -> None:
    """Reading lists nothing, whatever the name."""
    assert code(await client.get(path.format(symbol))) in {"symbol_not_found", "route_not_found"}
    assert (await client.get("/instruments")).json()["count"] == 0


async def test_an_instrument_is_listed_and_changed(client: httpx.AsyncClient, exchange: FakeExchange) -> None:
    """201 when it is new, 200 after; the engine's refusal by its reason; a bad name or body changes nothing."""
    new = await client.put("/instruments/btc-usd", json={"tick_size": "0.5", "lot_size": "0.0001"})
    assert (new.status_code, new.json()["symbol"], new.json()["tick_size"]) == (201, "BTC-USD", "0.5")
    assert (await client.put("/instruments/BTC-USD", json={"tick_size": 1})).status_code == 200
    assert (await client.get("/instruments/btc-usd")).json()["tick_size"] == "1"
    exchange.script.append([CommandRefused(None, Reason.INSTRUMENT_IN_USE)])
    assert code(await client.put("/instruments/BTC-USD", json={"lot_size": 2})) == "instrument_in_use"
    commands = len(exchange.commands)
    assert code(await client.put("/instruments/-bad", json={})) == "invalid_request"
    assert code(await client.put("/instruments/A", json={"tick_size": -1})) == "invalid_request"
    assert code(await client.put("/instruments/A", content=b"{}")) == "not_json"
    assert len(exchange.commands) == commands


async def test_the_rules_of_an_instrument_are_set_shown_and_taken_away(client: httpx.AsyncClient) -> None:
    """Each is kept until it is changed; 0 takes a limit away."""
    rules = {"max_order_quantity": "500", "price_band_percent": "12.5", "band_halt_seconds": 60, "session_close": "21:00:00"}
    assert (await client.put("/instruments/A", json=rules | {"session_close": "21:00"})).json().items() >= rules.items()
    changed = (await client.put("/instruments/A", json={"max_order_quantity": "0", "state": "post_only"})).json()
    assert changed.items() >= (rules | {"max_order_quantity": None, "state": "POST_ONLY"}).items()
    assert (await client.get("/instruments/a")).json() == changed
    assert (await client.get("/instruments")).json()["instruments"] == [changed]
    assert (await client.get("/market/A")).json()["state"] == "POST_ONLY"


async def test_an_auction_is_read_while_there_is_one(client: httpx.AsyncClient, exchange: FakeExchange) -> None:
    """404 for an unlisted symbol, 409 with a code of its own while it trades, else what the auction would give."""
    assert code(await client.get("/market/A/auction")) == "symbol_not_found"
    await client.put("/instruments/A", json={})
    assert code(await client.get("/market/a/auction")) == "not_in_auction"
    await client.put("/instruments/A", json={"state": "AUCTION"})
    exchange.auctions["A"] = Auction("A", 7, NOW, pack(15050, 2), pack(30, 0), pack(5, 0), Side.BUY)
    assert (await client.get("/market/a/auction")).json() == {
        "symbol": "A",
        "state": "AUCTION",
        "indicative_price": "150.50",
        "indicative_volume": "30",
        "imbalance": "5",
        "imbalance_side": "BUY",
        "sequence": 7,
        "timestamp": "2026-11-22T10:00:00.000000Z",
    }


async def test_instruments_are_the_operators_to_change(keyed: httpx.AsyncClient, exchange: FakeExchange) -> None:
    """Without the key nothing is listed."""
    assert code(await keyed.put("/instruments/A", json={})) == "unauthorized"
    assert exchange.commands == []
    assert (await keyed.put("/instruments/A", json={}, headers=KEY)).status_code == 201


async def test_health_tells_the_state(client: httpx.AsyncClient, exchange: FakeExchange) -> None:
    """200 with state and position; 503 and why when the engine isn't running or the database is gone."""
    well = (await client.get("/health")).json()
    assert (well["status"], well["state"], well["position"], well["database"]) == ("healthy", "RUNNING", 0, "reachable")
    assert well["core"] == CORE
    exchange.ping_fails = True
    sick = await client.get("/health")
    assert (code(sick), "database" in sick.json()["detail"]) == ("not_accepting", True)
    assert (await client.get("/health/ready")).status_code == 200
    exchange.state_now = "DRAINING"
    draining = await client.get("/health/ready")
    assert (code(draining), draining.json()["state"]) == ("draining", "DRAINING")
    assert draining.headers["retry-after"] == "1"
    assert (await client.get("/health/live")).status_code == 200


async def test_health_does_not_wait_for_a_hanging_database(
    make_app: MakeApp, exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that never answers is one that doesn't answer."""

    async def hang() -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(exchange, "ping", hang)
    async with client_of(make_app(ping_timeout_seconds=0.01)) as client:
        assert code(await client.get("/health")) == "not_accepting"


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PATCH", "/orders", "DELETE, GET, HEAD, POST"),
        ("POST", "/orders/1", "DELETE, GET, HEAD, PUT"),
        ("DELETE", "/instruments/A", "GET, HEAD, PUT"),
        ("POST", "/market", "GET, HEAD"),
        ("TRACE", "/health", "GET, HEAD"),
        *((method, "/orders/batch", "POST") for method in ("GET", "PUT", "DELETE", "PATCH")),
        ("POST", "/static/app.js", "GET, HEAD"),
    ],
)
async def test_a_wrong_method_is_told_the_right_ones(client: httpx.AsyncClient, method: str, path: str, allow: str) -> None:
    """405 with every method that the path takes."""
    response = await client.request(method, path)
    assert (code(response), response.headers["allow"]) == ("method_not_allowed", allow)


@pytest.mark.parametrize(
    "path",
    ["/orders/1", "/orders/2", "/orders/batch", "/market", "/market/NONE", "/health", "/docs", "/static/docs.js", "/nothing"],
)
async def test_head_answers_as_get_without_the_body(client: httpx.AsyncClient, exchange: FakeExchange, path: str) -> None:
    """The same status and headers, the length of what GET would send included."""
    exchange.orders[1] = order_record(id=1)
    own = {"X-Request-ID": "mine"}
    whole, head = await client.get(path, headers=own), await client.head(path, headers=own)
    assert (head.status_code, head.content) == (whole.status_code, b"")
    if path != "/health":  # which tells the time
        assert head.headers == whole.headers
        assert int(head.headers["content-length"]) == len(whole.content)


async def test_head_is_refused_where_there_is_no_get(client: httpx.AsyncClient) -> None:
    """405, with the methods that there are."""
    response = await client.head("/orders/batch")
    assert (response.status_code, response.headers["allow"], response.content) == (405, "POST", b"")


@pytest.mark.parametrize(
    "path", ["/nothing", "/orders/", "/orders/user", "/orders/1/2", "/Orders", "/market/", "/static/", "/static/none.js", "/%00"]
)
async def test_an_unknown_path_is_a_problem(client: httpx.AsyncClient, path: str) -> None:
    """404 as everything else: a problem, not a page."""
    assert code(await client.get(path)) in {"route_not_found", "order_not_found", "symbol_not_found"}


async def test_the_pages_come_from_local_files_without_inline_script(client: httpx.AsyncClient) -> None:
    """They work under the content security policy: every script and style is a file of this service that is there."""
    for page in ("/", "/docs", "/docs/problems"):
        response = await client.get(page)
        assert response.headers["content-type"].startswith("text/html")
        assert "<style" not in response.text
        assert "onclick" not in response.text
        for chunk in response.text.split("<script")[1:]:
            assert chunk.partition(">")[2].startswith("</script>")
    for path in ("/docs/assets/swagger-ui-bundle.js", "/docs/assets/swagger-ui.css", "/docs/assets/favicon-32x32.png",
                 "/static/docs.js", "/static/problems.css"):  # fmt: skip
        response = await client.get(path)
        assert (response.status_code, response.headers["cache-control"]) == (200, "no-cache")
        again = await client.get(path, headers={"If-None-Match": response.headers["etag"]})
        assert again.status_code == 304


async def test_the_table_of_codes_has_them_all(client: httpx.AsyncClient) -> None:
    """A problem's `type` leads to its row."""
    page = (await client.get("/docs/problems")).text
    assert all(f'id="{reason.code}"' in page for reason in Reason)


async def test_a_failing_read_is_a_500_without_insides(
    client: httpx.AsyncClient, exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ordinary routes too; nothing was executed by a read."""

    async def fail(*_args: object, **_kwargs: object) -> None:
        raise ConnectionError("the secret inside")

    monkeypatch.setattr(exchange, "orders_of_user", fail)
    response = await client.get("/orders/user/alice")
    assert code(response) == "internal_error"
    assert response.json()["outcome"] == "not_executed"
    assert "secret" not in response.text


HOST = (b"host", b"localhost:5000")


@pytest.mark.parametrize(
    ("place", "headers", "refusal"),
    [
        ({"path": "/elsewhere"}, [], "route_not_found"),
        ({"path": "/ws", "query_string": b"key=sesame"}, [], "invalid_request"),
        ({"path": "/ws"}, [], "not_supported"),
        ({"path": "/ws"}, [HOST, (b"origin", b"http://evil.example")], "origin_not_allowed"),
        ({"path": "/ws"}, [HOST, (b"origin", b"null")], "origin_not_allowed"),
        ({"path": "/ws"}, [(b"origin", b"")], "origin_not_allowed"),
        ({"path": "/ws"}, [HOST, (b"x-api-key", b"wrong")], "unauthorized"),
        ({"path": "/ws"}, [(b"host", b"rebound.example"), (b"origin", b"http://rebound.example")], "host_not_trusted"),
    ],
)
@pytest.mark.parametrize("extended", [True, False])
async def test_a_handshake_is_refused(
    make_app: MakeApp, extended: bool, place: dict[str, Any], headers: list[tuple[bytes, bytes]], refusal: str
) -> None:
    """With the reason where the server can carry it: a wrong path, origin, key or name, a key in the URL, no server frames."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    extensions: dict[str, dict[str, str]] = {"websocket.http.response": {}} if extended else {}
    scope = {"type": "websocket", "query_string": b"", **place, "headers": headers, "extensions": extensions}
    if refusal != "not_supported":
        scope["ome.socket"] = None
    await make_app(api_key="" if refusal == "host_not_trusted" else "sesame")(scope, receive, send)
    if extended:
        problem = json.loads(sent[1]["body"])
        assert (problem["status"], problem["code"]) == (sent[0]["status"], refusal)
        assert "sesame" not in sent[1]["body"].decode()
    else:
        assert sent == [{"type": "websocket.close", "code": 1000}]


async def test_asking_by_client_id_waits_and_tells_up_to_when_it_knows(client: httpx.AsyncClient, exchange: FakeExchange) -> None:
    """HOLE4: the fate of what is in flight is waited for; an empty answer has a watermark, so that it is definite."""
    before = now_us()
    found = (await client.get("/orders", params={"user_id": "alice", "client_order_id": "mine", "symbol": "aapl"})).json()
    assert exchange.asked == [("alice", "mine", "AAPL")]
    assert before <= parse_time(found["watermark"]) <= now_us()
    assert (found["orders"], found["count"]) == ([], 0)
    assert "watermark" not in (await client.get("/orders?user_id=alice")).json()


async def test_a_fate_that_is_still_open_is_503_and_unknown(client: httpx.AsyncClient, exchange: FakeExchange) -> None:
    """HOLE4: never an empty list; ask again later."""
    exchange.fail = Pending()
    answer = await client.get("/orders?user_id=alice&client_order_id=mine")
    assert (answer.status_code, answer.json()["code"], answer.json()["outcome"]) == (503, "pending", "unknown")
    assert answer.headers["retry-after"] == "1"


async def test_too_late_is_refused_for_certain(client: httpx.AsyncClient, exchange: FakeExchange) -> None:
    """DUR9: 422 `too_late`, `not_executed`; no client is invited to send it again by itself."""
    exchange.fail = TooLate()
    answer = await client.post("/orders", json=LIMIT | {"valid_for_ms": 1})
    assert (answer.status_code, answer.json()["code"], answer.json()["outcome"]) == (422, "too_late", "not_executed")
    assert "retry-after" not in answer.headers
    results = (await client.post("/orders/batch", json={"orders": [LIMIT | {"valid_for_ms": 1}]})).json()["results"]
    assert [(each["status"], each["problem"]["code"]) for each in results] == [(422, "too_late")]


@pytest.mark.parametrize("state", ["STARTING", "RECOVERING"])
async def test_nothing_is_answered_from_data_that_is_not_there_yet(
    client: httpx.AsyncClient, exchange: FakeExchange, state: str
) -> None:
    """Before it runs, orders and reads alike are refused for certain; what the service says of itself is there."""
    exchange.state_now = state
    for method, path in (("POST", "/orders"), ("GET", "/orders/1"), ("DELETE", "/orders/1"), ("GET", "/market"), ("GET", "/x")):
        answer = await client.request(method, path)
        assert (answer.status_code, code(answer), answer.json()["outcome"]) == (503, "not_accepting", "not_executed")
        assert int(answer.headers["retry-after"]) >= 1
    for path in ("/", "/docs", "/metrics", "/openapi.json", "/health/live", "/static/docs.js"):
        assert (await client.get(path)).status_code == 200
    assert exchange.commands == []


async def test_the_reason_of_a_halt_is_told(client: httpx.AsyncClient, exchange: FakeExchange) -> None:
    """A disk that is almost full has a code of its own; any other halt is told in words."""
    exchange.state_now, exchange.reason_now = "HALTED", "storage_low"
    for path in ("/health", "/health/ready"):
        sick = await client.get(path)
        assert (sick.status_code, code(sick), sick.json()["state"]) == (503, "storage_low", "HALTED")
    exchange.reason_now = "the journal ends early"
    sick = await client.get("/health")
    assert (code(sick), sick.json()["detail"]) == ("not_accepting", "The engine is HALTED: the journal ends early.")


async def test_a_database_that_does_not_answer_a_read_is_no_bug(client: httpx.AsyncClient, exchange: FakeExchange) -> None:
    """503 with Retry-After, not 500: nothing was put into the queue."""
    exchange.fail = StorageAway("connection refused")
    for answer in (await client.delete("/orders/1"), await client.delete("/orders?user_id=a")):
        assert (answer.status_code, code(answer), answer.json()["outcome"]) == (503, "not_accepting", "not_executed")
        assert "retry-after" in answer.headers


async def test_a_service_that_stops_closes_its_connections(make_app: MakeApp, exchange: FakeExchange) -> None:
    """Every answer of a draining service is the last on its connection, so that no client waits on it in vain."""
    app = make_app()
    async with client_of(app) as client:
        assert "connection" not in (await client.get("/market")).headers
        app.say_farewell()
        exchange.state_now = "DRAINING"
        for path in ("/market", "/orders/1", "/health/ready", "/nothing"):
            assert (await client.get(path)).headers["connection"] == "close"
        assert code(await client.get("/health/ready")) == "draining"
        exchange.fail = NotAccepting("draining")
        refused = await client.delete("/orders/1")
        assert (refused.status_code, code(refused), refused.headers["connection"]) == (503, "draining", "close")


async def test_an_order_s_answer_is_sent_at_once_where_the_server_can(app: Dispatcher) -> None:
    """One packet then, not two; HEAD, whose answer has no body, goes ASGI's way."""
    whole: list[tuple[int, dict[bytes, bytes], bytes]] = []
    parts: list[Message] = []

    async def send_whole(status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> None:
        whole.append((status, dict(headers), body))

    async def send(message: Message) -> None:
        parts.append(message)

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    for method in ("GET", "HEAD"):
        await app(
            {
                "type": "http",
                "method": method,
                "path": "/orders/1",
                "query_string": b"",
                "headers": [],
                "extensions": {WHOLE_ANSWER: {"send": send_whole}},
            },
            receive,
            send,
        )
    ((status, headers, body),) = whole
    assert status == 404
    assert headers[b"content-length"] == b"%d" % len(body)
    assert [message["type"] for message in parts] == ["http.response.start", "http.response.body"]
    assert parts[1]["body"] == b""
