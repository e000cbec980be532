"""Keys: made, used, rotated, ended and revoked; who sees what as soon as there is one."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from fakes import NOW, FakeExchange, MakeApp, client_of
from ome.api.dispatcher import Dispatcher
from ome.api.keys import Keys
from ome.domain.access import Access
from ome.domain.clock import MICROSECONDS
from ome.domain.errors import OutcomeUnknown
from ome.domain.keys import digest_of, fold_keys, key_id_in, new_key
from ome.domain.records import AuditEntry

OPERATOR = {"X-API-Key": "sesame"}
ORDER = {"symbol": "AAPL", "side": "BUY", "quantity": "10", "price": "150.50"}


@pytest.fixture
def app(make_app: MakeApp) -> Dispatcher:
    """An application that has the operator's key, and no other yet."""
    return make_app(api_key="sesame")


@pytest.fixture
async def client(app: Dispatcher) -> AsyncIterator[httpx.AsyncClient]:
    """Its client, without a key of its own."""
    async with client_of(app) as client:
        yield client


def code(answer: httpx.Response) -> str:
    """The code of a refusal, "" of anything else."""
    found: str = answer.json().get("code", "")
    return found


async def key_of(client: httpx.AsyncClient, user: str, *scopes: str, **more: str) -> dict[str, str]:
    """The headers of a new key."""
    answer = await client.post("/keys", json={"user_id": user, "scopes": list(scopes), **more}, headers=OPERATOR)
    assert answer.status_code == 201, answer.text
    return {"X-API-Key": answer.json()["key"]}


def key_id(headers: dict[str, str]) -> str:
    """The id of the key in these headers."""
    return key_id_in(headers["X-API-Key"].encode())


async def test_a_key_is_its_users_and_nobody_elses(client: httpx.AsyncClient) -> None:
    """`user_id` may be left out; another user's is refused; another's order is unknown, in the very words of an unknown one."""
    alice, bob = await key_of(client, "alice", "read", "trade"), await key_of(client, "bob", "trade")
    mine = (await client.post("/orders", json=ORDER, headers=alice)).json()
    assert mine["user_id"] == "alice"
    assert (await client.post("/orders", json=ORDER | {"user_id": "alice"}, headers=alice)).status_code == 201
    assert code(await client.post("/orders", json=ORDER | {"user_id": "bob"}, headers=alice)) == "not_your_user"
    path, unknown = f"/orders/{mine['order_id']}", "/orders/987654321"
    for method, tail, body in (
        ("GET", "", None),
        ("PUT", "", {"quantity": 5}),
        ("PUT", "?dry_run=true", {"quantity": 5}),
        ("DELETE", "", None),
        ("GET", "/history", None),
        ("GET", "/explain", None),
    ):
        theirs = await client.request(method, path + tail, json=body, headers=bob | {"X-Request-Id": "r"})
        nobodys = await client.request(method, unknown + tail, json=body, headers=bob | {"X-Request-Id": "r"})
        assert (theirs.status_code, nobodys.status_code) == (404, 404), (method, tail)
        assert theirs.text.replace(path, unknown) == nobodys.text
    assert (await client.get(path, headers=alice)).json()["status"] == "PENDING"
    for path in ("/orders?user_id=alice", "/orders/user/alice", "/trades?user_id=alice", "/orders/user/alice/events"):
        assert code(await client.get(path, headers=bob)) == "not_your_user", path
    assert code(await client.delete("/orders?user_id=alice", headers=bob)) == "not_your_user"
    assert (await client.delete("/orders?symbol=AAPL", headers=bob)).json()["cancelled"] == 0
    assert (await client.get("/orders", headers=alice)).json()["count"] == 2
    assert (await client.delete("/orders?symbol=AAPL", headers=alice)).json()["cancelled"] == 2


async def test_a_batch_finds_its_users_orders_alone(client: httpx.AsyncClient) -> None:
    """Each operation of another's is refused by itself, as it would be alone."""
    alice, bob = await key_of(client, "alice", "trade"), await key_of(client, "bob", "trade")
    order_id = (await client.post("/orders", json=ORDER, headers=alice)).json()["order_id"]
    operations = [
        ORDER,
        ORDER | {"user_id": "alice"},
        ORDER | {"user_id": "alice", "op": "submit", "stop_price": "1"},
        {"op": "modify", "order_id": order_id, "quantity": 5},
        {"op": "cancel", "order_id": order_id},
        {"op": "cancel", "order_id": "987654321"},
    ]
    results = (await client.post("/orders/batch", json={"orders": operations}, headers=bob)).json()["results"]
    assert [result["status"] for result in results] == [201, 403, 422, 404, 404, 404]
    assert results[0]["order"]["user_id"] == "bob"
    assert results[4]["problem"] == results[5]["problem"]


async def test_a_dry_run_shows_nobody_elses_ids(client: httpx.AsyncClient) -> None:
    """What it would trade with is no public trade; the operator sees it."""
    alice, bob = await key_of(client, "alice", "trade"), await key_of(client, "bob", "trade")
    order_id = (await client.post("/orders", json=ORDER, headers=alice)).json()["order_id"]
    sell = ORDER | {"side": "SELL"}
    for answer in (
        (await client.post("/orders?dry_run=true", json=sell, headers=bob)).json(),
        (await client.post("/orders/batch?dry_run=true", json={"orders": [sell]}, headers=bob)).json()["results"][0]["order"],
    ):
        (trade,) = answer["executed_trades"]
        assert (trade["trade_id"], trade["buy_order_id"], trade["sell_order_id"], trade["maker_order_id"]) == (
            None, None, None, None,
        )  # fmt: skip
    (trade,) = (await client.post("/orders?dry_run=true", json=sell | {"user_id": "bob"}, headers=OPERATOR)).json()[
        "executed_trades"
    ]
    assert trade["maker_order_id"] == order_id


async def test_orders_are_private_from_the_first_users_key_on(client: httpx.AsyncClient) -> None:
    """And stay so when it has ended: it must not open again what it had closed. Market data stays public."""
    await client.post("/orders", json=ORDER | {"user_id": "alice"}, headers=OPERATOR)
    assert (await client.get("/orders/user/alice")).status_code == 200
    alice = await key_of(client, "alice", "read")
    assert code(await client.get("/orders/user/alice")) == "unauthorized"
    for path in ("/market", "/trades", "/instruments", "/health/live", "/market/AAPL/depth"):
        assert (await client.get(path)).status_code in {200, 404}
        assert (await client.get(path, headers={"X-API-Key": "whatever"})).status_code in {200, 404}
    await client.delete(f"/keys/{key_id(alice)}", headers=OPERATOR)
    assert code(await client.get("/orders/user/alice")) == "unauthorized"


async def test_scopes(client: httpx.AsyncClient) -> None:
    """A key to read doesn't trade, one to trade doesn't operate; an operator's acts for anybody, its own user by default."""
    reader, trader = await key_of(client, "alice", "read"), await key_of(client, "alice", "trade")
    operator = await key_of(client, "ann", "operator")
    assert code(await client.post("/orders", json=ORDER, headers=reader)) == "insufficient_scope"
    assert (await client.post("/orders", json=ORDER, headers=trader)).status_code == 201
    assert (await client.get("/orders", headers=reader)).json()["count"] == 1
    for headers in (reader, trader):
        for method, path in (("GET", "/keys"), ("GET", "/admin/audit"), ("GET", "/admin/errors"), ("PUT", "/instruments/X")):
            assert code(await client.request(method, path, headers=headers, json={})) == "insufficient_scope"
    assert (await client.get("/orders/user/alice", headers=operator)).json()["count"] == 1
    assert (await client.post("/orders", json=ORDER, headers=operator)).json()["user_id"] == "ann"
    assert (await client.get("/keys", headers=operator)).json()["count"] == 3


async def test_every_key_that_is_not_good_is_refused_alike(client: httpx.AsyncClient, app: Dispatcher) -> None:
    """Wrong, revoked, expired, garbled, empty: one status, one body."""
    revoked = await key_of(client, "alice", "trade")
    assert (await client.delete(f"/keys/{key_id(revoked)}", headers=OPERATOR)).json()["status"] == "REVOKED"
    assert (await client.delete(f"/keys/{key_id(revoked)}", headers=OPERATOR)).json()["status"] == "REVOKED"
    expired = await key_of(client, "alice", "trade", expires_at="2099-01-01T00:00:00Z")
    app.gate.keys._clock_us = lambda: 4_102_444_800 * MICROSECONDS
    assert (await client.get("/keys", headers=OPERATOR)).json()["keys"][1]["expires_at"].startswith("2099")
    _, other = new_key()
    given = [revoked["X-API-Key"], expired["X-API-Key"], other, expired["X-API-Key"][:-1], "", "ome_", "ome_1_", "\xe9" * 9]
    answers = [
        await client.get("/orders/1", headers={b"X-API-Key": key.encode("latin-1"), b"X-Request-Id": b"r"}) for key in given
    ]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.text for answer in answers}) == 1


async def test_rotation_overlaps(client: httpx.AsyncClient, app: Dispatcher) -> None:
    """The new key is good at once, the old one for so many seconds more; a key that has ended isn't rotated."""
    old = await key_of(client, "alice", "trade")
    answer = await client.post(f"/keys/{key_id(old)}/rotate", json={"overlap_seconds": 60}, headers=OPERATOR)
    new = {"X-API-Key": answer.json()["key"]}
    assert (answer.status_code, answer.json()["scopes"]) == (201, ["read", "trade"])
    for headers in (old, new):
        assert (await client.get("/orders", headers=headers)).status_code == 200
    real = app.gate.keys._clock_us
    app.gate.keys._clock_us = lambda: real() + 61 * MICROSECONDS
    assert (await client.get("/orders", headers=old)).status_code == 401
    assert (await client.get("/orders", headers=new)).status_code == 200
    assert code(await client.post(f"/keys/{key_id(old)}/rotate", json={}, headers=OPERATOR)) == "key_ended"
    assert code(await client.post("/keys/nobody/rotate", json={}, headers=OPERATOR)) == "key_not_found"
    assert code(await client.delete("/keys/nobody", headers=OPERATOR)) == "key_not_found"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"scopes": ["read"]}, "user_id"),
        ({"user_id": "alice"}, "scopes"),
        ({"user_id": "alice", "scopes": []}, "scopes"),
        ({"user_id": "alice", "scopes": ["admin"]}, "scopes"),
        ({"user_id": "alice", "scopes": "read"}, "scopes"),
        ({"user_id": "a b", "scopes": ["read"]}, "user_id"),
        ({"user_id": "alice", "scopes": ["read"], "expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"user_id": "alice", "scopes": ["read"], "digest": "x"}, "digest"),
    ],
)
async def test_a_key_that_can_not_be_made(client: httpx.AsyncClient, body: dict[str, object], field: str) -> None:
    """The field is named, and there is no key."""
    answer = await client.post("/keys", json=body, headers=OPERATOR)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field)
    assert (await client.get("/keys", headers=OPERATOR)).json()["count"] == 0


async def test_the_audit_tells_of_keys_and_of_operators(client: httpx.AsyncClient, exchange: FakeExchange) -> None:
    """Who, what and when, newest first, page by page; no secret and no digest in it."""
    alice = await key_of(client, "alice", "trade")
    await client.put("/instruments/XYZ", json={"tick_size": "0.5"}, headers=OPERATOR)
    await client.delete(f"/keys/{key_id(alice)}", headers=OPERATOR)
    first = (await client.get("/admin/audit?limit=2", headers=OPERATOR)).json()
    rest = (await client.get(f"/admin/audit?limit=2&cursor={first['next_cursor']}", headers=OPERATOR)).json()
    assert rest["next_cursor"] is None
    entries = first["entries"] + rest["entries"]
    assert [entry["action"] for entry in entries] == ["key_revoked", "PUT /instruments/{symbol}", "key_made"]
    assert {entry["actor"] for entry in entries} == {"operator"}
    assert entries[1]["detail"]["body"] == '{"tick_size":"0.5"}'
    assert entries[2]["detail"] == {"user_id": "alice", "access": "trade", "at": entries[2]["detail"]["at"]}
    assert (await client.get("/admin/audit?action=key_made", headers=OPERATOR)).json()["count"] == 1
    key = alice["X-API-Key"]
    assert all(key not in entry.detail and key.split("_", 2)[2] not in entry.detail for entry in exchange.entries)
    assert digest_of(key.encode()) in exchange.entries[0].detail


async def test_what_can_not_be_written_down_is_not_done(client: httpx.AsyncClient, exchange: FakeExchange) -> None:
    """An operator's change, or a new key, without its entry in the audit isn't made; a revoked key is closed all the same."""
    alice = await key_of(client, "alice", "trade")
    exchange.fail = OutcomeUnknown("the database does not answer")
    assert (await client.put("/instruments/XYZ", json={}, headers=OPERATOR)).status_code == 504
    assert exchange.listed == {}
    body = {"user_id": "bob", "scopes": ["read"]}
    assert (await client.post("/keys", json=body, headers=OPERATOR)).status_code == 504
    assert (await client.delete(f"/keys/{key_id(alice)}", headers=OPERATOR)).status_code == 504
    exchange.fail = None
    assert (await client.get("/keys", headers=OPERATOR)).json()["count"] == 1
    assert code(await client.get("/orders", headers=alice)) == "unauthorized"
    assert [entry.action for entry in exchange.entries] == ["key_made"]
    for _ in range(2):  # sent again it is written down, once
        assert (await client.delete(f"/keys/{key_id(alice)}", headers=OPERATOR)).json()["status"] == "REVOKED"
    assert [entry.action for entry in exchange.entries] == ["key_made", "key_revoked"]


async def test_errors_are_counted_by_code(client: httpx.AsyncClient) -> None:
    """Since the start, with the last ones, newest first; no path, no key, no body in them."""
    for path in ("/orders/12345", "/orders/12345", "/market/SECRET"):
        await client.get(path, headers={"X-Request-Id": "mine"})
    await client.get("/orders/1", headers={"X-API-Key": "guess"})
    errors = (await client.get("/admin/errors", headers=OPERATOR)).json()
    assert (errors["counts"]["order_not_found"], errors["counts"]["symbol_not_found"]) == (3, 1)
    assert errors["errors"][1]["route"] == "/market/{symbol}"
    assert not any(word in str(errors) for word in ("SECRET", "12345", "guess"))


async def test_keys_are_what_the_audit_says(exchange: FakeExchange) -> None:
    """A restart folds the same keys from the stored entries."""
    clock = [NOW]
    keys = Keys(exchange, lambda: clock[0])
    first = await keys.make("operator", "alice", Access.TRADE, NOW + 500)
    second = await keys.rotate("operator", first.record.key_id, 0)
    await keys.make("", "bob", Access.READ)
    await keys.revoke("x", second.record.key_id)
    folded = fold_keys(await exchange.key_entries())
    assert list(folded.values()) == keys.all()
    again = Keys(exchange, lambda: clock[0])
    again.load(folded.values())
    assert again.all() == keys.all()
    assert again.find(first.key.encode(), first.record.digest) is None
    stray = AuditEntry(0, 99, NOW, "", "key_revoked", "nobody", '{"at":1}')
    assert fold_keys([*exchange.entries, stray]) == folded


async def test_what_other_processes_did_to_keys_is_followed(exchange: FakeExchange) -> None:
    """New keys open, those closed elsewhere close here and end what they opened; one that is closed here isn't opened again."""
    clock = [NOW]
    there, here = Keys(exchange, lambda: clock[0]), Keys(exchange, lambda: clock[0])
    ended: list[str] = []
    here.revoked = ended.append
    first, second = await there.make("operator", "alice", Access.TRADE), await there.make("operator", "bob", Access.READ)
    before = there.all()
    here.follow(before)
    assert here.all() == before
    assert here.find(first.key.encode(), first.record.digest) == first.record
    assert ended == []
    await there.revoke("operator", first.record.key_id)
    here.follow(there.all())
    assert ended == [first.record.key_id]
    assert here.find(first.key.encode(), first.record.digest) is None
    here.follow(before)
    assert not here.is_good(first.record.key_id)
    assert here.is_good(second.record.key_id)
    assert ended == [first.record.key_id]


async def test_a_rotation_never_lengthens_a_key(exchange: FakeExchange) -> None:
    """One that ends within the overlap ends when it would have; nothing about it is written down."""
    keys = Keys(exchange, lambda: NOW)
    old = await keys.make("operator", "alice", Access.TRADE, NOW + 5 * MICROSECONDS)
    new = await keys.rotate("operator", old.record.key_id, 60)
    assert [key.expires_at for key in keys.all()] == [NOW + 5 * MICROSECONDS] * 2
    assert [entry.action for entry in await exchange.key_entries()] == ["key_made", "key_made"]
    assert new.record.user_id == "alice"
