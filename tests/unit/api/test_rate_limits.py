"""Rate limits: exact, of each key and address by itself; cancels have their own; nobody is limited who needn't be."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.types import Message

from fakes import FakeExchange, MakeApp, client_of
from ome.api.auth import ANYBODY, OPERATOR, Caller
from ome.api.dispatcher import Dispatcher
from ome.api.problems import Problem
from ome.api.rate_limits import MAX_BUCKETS, RateLimits
from ome.api.refused_keys import ACTION
from ome.api.settings import RateSettings
from ome.domain.access import Access
from unit.api.test_api_keys import ORDER, code, key_of

ALICE, BOB = Caller(Access.TRADE, "alice", "a"), Caller(Access.TRADE, "bob", "b")
OPERATORS = {"X-API-Key": "sesame"}
FAR = {"client": ("10.0.0.9", 1), "headers": []}


class Clock:
    """Says what it is told."""

    now = 1000.0

    def __call__(self) -> float:
        """The time in seconds."""
        return self.now


def limits(clock: Clock, **settings: object) -> RateLimits:
    """Limits of 2 orders, 8 cancels and 4 reads a second, unless told otherwise."""
    rates = {"orders_per_second": 2, "cancels_per_second": 8, "reads_per_second": 4, "failed_keys_per_second": 1}
    return RateLimits(RateSettings(**(rates | settings)), lambda: True, clock)  # type: ignore[arg-type]


def taken(rates: RateLimits, caller: Caller, policy: str = "orders", weight: float = 1) -> int:
    """How many in a row are let through now."""
    for count in range(10_000):
        try:
            rates.take(getattr(rates, policy), weight, caller, dict(FAR))
        except Problem:
            return count
    return -1


def test_a_bucket_is_exact() -> None:
    """Half full at first, five seconds' worth at most, refilled by the clock; what is refused costs nothing."""
    clock = Clock()
    rates = limits(clock)
    assert taken(rates, ALICE) == 5
    clock.now += 0.49
    assert taken(rates, ALICE) == 0
    clock.now += 0.01
    assert taken(rates, ALICE) == 1
    clock.now += 1000
    assert taken(rates, ALICE) == 10


def test_each_key_has_its_own_and_each_policy_too() -> None:
    """One that floods takes nothing from another, and its orders nothing from its cancels (R3)."""
    rates = limits(Clock())
    assert taken(rates, ALICE) == 5
    assert taken(rates, BOB) == 5
    assert taken(rates, ALICE, "cancels") == 20
    assert taken(rates, ALICE, "mass_cancels") == 12
    assert taken(rates, ALICE, "reads") == 10
    assert taken(rates, ANYBODY, "reads") == 10


def test_what_is_not_limited() -> None:
    """The operator; a policy of 0; whatever weighs nothing; everybody where there is no key."""
    clock = Clock()
    assert taken(limits(clock), OPERATOR) == -1
    assert taken(limits(clock), Caller(Access.OPERATOR, "ann", "k")) == -1
    assert taken(limits(clock, orders_per_second=0), ALICE) == -1
    assert taken(limits(clock), ALICE, weight=0) == -1
    assert taken(RateLimits(RateSettings(orders_per_second=1), lambda: False, clock), ALICE) == -1


def test_more_than_a_bucket_holds_is_paid_off_afterwards() -> None:
    """Let through by a full bucket, then nothing until the debt is paid."""
    clock = Clock()
    rates = limits(clock)
    assert taken(rates, ALICE, weight=30) == 0
    clock.now += 100
    assert taken(rates, ALICE, weight=30) == 1
    clock.now += 10.4
    assert taken(rates, ALICE) == 0
    clock.now += 0.1
    assert taken(rates, ALICE) == 1


@pytest.mark.parametrize(
    ("trusted", "peer", "forwarded", "address"),
    [
        ((), "10.0.0.9", "1.2.3.4", "10.0.0.9"),
        (("10.0.0.0/8",), "10.0.0.9", "1.2.3.4", "1.2.3.4"),
        (("10.0.0.0/8",), "10.0.0.9", "9.9.9.9, 1.2.3.4, 10.1.1.1", "1.2.3.4"),
        (("10.0.0.0/8",), "11.0.0.9", "1.2.3.4", "11.0.0.9"),
        (("10.0.0.0/8",), "10.0.0.9", "nonsense", "10.0.0.9"),
        (("10.0.0.0/8",), "10.0.0.9", "", "10.0.0.9"),
        ((), "2001:db8::1", "", "2001:db8::/64"),
        ((), "2001:db8::ffff:1", "", "2001:db8::/64"),
        ((), "", "1.2.3.4", ""),
    ],
)
def test_only_trusted_proxies_say_where_a_request_is_from(
    trusted: tuple[str, ...], peer: str, forwarded: str, address: str
) -> None:
    """The last address that no trusted proxy is behind; a network of IPv6 addresses counts as one."""
    rates = limits(Clock(), trusted_proxies=trusted)
    assert rates.address({"client": (peer, 1), "headers": [(b"x-forwarded-for", forwarded.encode())]}) == address


def test_memory_is_bounded() -> None:
    """However many addresses ask, so many are remembered; those that were idle longest are forgotten."""
    clock = Clock()
    rates = limits(clock)
    for number in range(MAX_BUCKETS + 500):
        clock.now += 0.001
        rates.take(
            rates.reads, 1, ANYBODY, {"client": (f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 1), "headers": []}
        )
    assert len(rates._buckets) <= MAX_BUCKETS
    assert ("reads", "10.0.0.0") not in rates._buckets


# Over HTTP


@pytest.fixture
def app(make_app: MakeApp) -> Dispatcher:
    """Keys, and 2 orders, 8 cancels and 4 reads a second."""
    rates = RateSettings(orders_per_second=2, cancels_per_second=8, reads_per_second=4, failed_keys_per_second=1)
    return make_app(api_key="sesame", rates=rates)


@pytest.fixture
async def client(app: Dispatcher) -> AsyncIterator[httpx.AsyncClient]:
    """Its client."""
    async with client_of(app) as client:
        yield client


async def test_the_headers_tell_what_is_left(client: httpx.AsyncClient) -> None:
    """On every answer that is counted; a refusal says when to come back, and that nothing was executed."""
    alice = await key_of(client, "alice", "trade")
    first = await client.post("/orders", json=ORDER, headers=alice)
    assert (first.headers["ratelimit-policy"], first.headers["ratelimit"]) == ('"orders";q=10;w=5', '"orders";r=4;t=3')
    for _ in range(4):
        last = await client.post("/orders", json=ORDER, headers=alice)
    assert last.headers["ratelimit"] == '"orders";r=0;t=5'
    refused = await client.post("/orders", json=ORDER, headers=alice)
    assert (refused.status_code, refused.json()["outcome"], refused.headers["retry-after"]) == (429, "not_executed", "1")
    assert refused.headers["ratelimit"].startswith('"orders";r=0')
    seen = await client.get("/orders", headers=alice)
    assert (seen.status_code, seen.headers["ratelimit"]) == (200, '"reads";r=8;t=3')
    assert (await client.get("/market")).headers["ratelimit"].startswith('"reads";r=9')
    for quiet in (
        await client.get("/health/live"),
        await client.post("/orders", json=ORDER | {"user_id": "a"}, headers=OPERATORS),
    ):
        assert "ratelimit" not in quiet.headers


async def test_cancels_go_on_when_orders_are_used_up(client: httpx.AsyncClient) -> None:
    """Single ones, mass cancels, those in a batch, and changes of nothing but the quantity (R3)."""
    alice = await key_of(client, "alice", "trade")
    ids = [(await client.post("/orders", json=ORDER, headers=alice)).json()["order_id"] for _ in range(5)]
    assert code(await client.post("/orders", json=ORDER, headers=alice)) == "rate_limited"
    assert (await client.put(f"/orders/{ids[0]}", json={"quantity": 5}, headers=alice)).status_code == 200
    assert code(await client.put(f"/orders/{ids[0]}", json={"quantity": 5, "price": 1}, headers=alice)) == "rate_limited"
    operations = [ORDER, {"op": "cancel", "order_id": ids[0]}, {"op": "modify", "order_id": ids[1], "price": 5}]
    results = (await client.post("/orders/batch", json={"orders": operations}, headers=alice)).json()["results"]
    assert [result["status"] for result in results] == [429, 200, 429]
    assert (await client.delete(f"/orders/{ids[1]}", headers=alice)).status_code == 200
    assert (await client.delete("/orders", params={"user_id": "alice"}, headers=alice)).json()["cancelled"] == 3


async def status_of(app: Dispatcher, key: str) -> int:
    """How GET /orders with this key is answered, past a client, which takes longer than the application."""
    statuses: list[int] = []

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        statuses.extend([message["status"]] if "status" in message else [])

    headers = [(b"host", b"test"), (b"x-api-key", key.encode())]
    scope = {"type": "http", "method": "GET", "path": "/orders", "query_string": b"", "headers": headers}
    await app(scope | {"client": ("127.0.0.1", 1), "server": ("test", 80), "scheme": "http", "root_path": ""}, receive, send)
    (status,) = statuses
    return status


async def test_wrong_keys_are_slowed_down_and_written_down_once(
    client: httpx.AsyncClient, app: Dispatcher, exchange: FakeExchange
) -> None:
    """Ten thousand of them: a few 401, then 429; one entry in the audit. A good key from there is let in all the same."""
    alice = await key_of(client, "alice", "read")
    statuses = [await status_of(app, f"guess-{number}") for number in range(10_000)]
    assert statuses[0] == 401
    assert set(statuses) == {401, 429}
    assert statuses.count(429) > 9_000
    assert (await client.get("/orders", headers=alice)).status_code == 200
    assert app.refused_keys is not None
    await app.refused_keys.flush()
    await app.refused_keys.flush()
    (entry,) = [entry for entry in exchange.entries if entry.action == ACTION]
    assert '"count":10000' in entry.detail
    assert "guess" not in entry.detail
