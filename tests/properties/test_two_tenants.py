"""INV14: two tenants and random traffic. Nothing of B's reaches A but the order ids in public trades, and nothing that A does
changes B's orders but a trade.

The real service in one process, engine and database included. A tries whatever the service takes, with B's ids, client ids and
names as often as with its own; every answer and every event that A gets is searched for B's user, client ids and order ids.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import client_of
from ome.api.auth import Caller
from ome.api.settings import StreamSettings
from ome.api.streams.outlet import Outlet
from ome.api.streams.session import Session
from ome.bootstrap import Service
from ome.config import Settings
from ome.domain.access import Access
from properties.profiles import LONG
from streams import FakeSocket

WHO: Final = st.sampled_from(["a", "b"])
TARGET: Final = st.integers(0, 7)
PRICE, QUANTITY = st.integers(8, 12), st.integers(1, 9)
ORDER: Final = st.fixed_dictionaries(
    {
        "side": st.sampled_from(["BUY", "SELL"]),
        "price": PRICE,
        "quantity": QUANTITY,
        "time_in_force": st.sampled_from(["GTC", "GTC", "IOC", "FOK"]),
    },
    optional={"client_order_id": st.sampled_from(["one", "two", "three"]), "display_quantity": st.just(1)},
).filter(lambda order: "display_quantity" not in order or order["time_in_force"] == "GTC")
ACTION: Final = st.one_of(
    st.tuples(st.just("submit"), ORDER, TARGET),
    st.tuples(st.just("submit"), ORDER, TARGET),
    st.tuples(st.just("dry run"), ORDER, TARGET),
    st.tuples(st.just("modify"), st.fixed_dictionaries({"quantity": QUANTITY}, optional={"price": PRICE}), TARGET),
    st.tuples(st.just("batch"), st.lists(ORDER, max_size=2), TARGET),
    st.tuples(st.sampled_from(["cancel", "cancel all", "cancel theirs", "read", "history", "explain"]), st.none(), TARGET),
    st.tuples(
        st.sampled_from(["list", "list theirs", "find", "events", "trades", "depth", "market", "wrong"]), st.none(), TARGET
    ),
)
FLOW: Final = st.lists(st.tuples(WHO, ACTION, st.booleans()), min_size=10, max_size=40)


class Venue:
    """A running service with two tenants in a symbol of their own."""

    def __init__(self, service: Service, client: httpx.AsyncClient, number: int) -> None:
        self.service = service
        self.symbol = f"S{number}"
        self.users = {"a": f"anna-{number}", "b": f"berta-secret-{number}"}
        self.client = client
        self.keys: dict[str, str] = {}
        self.orders: dict[str, list[str]] = {"a": [], "b": []}
        self.socket = FakeSocket()
        self._number = number

    async def open(self) -> None:
        """Make the keys, and let A hear all that it may."""
        ring = self.service.app.gate.keys
        for name, user in self.users.items():
            made = await ring.make("", user, Access.TRADE)
            self.keys[name] = made.key
            caller = Caller(Access.TRADE, user, made.record.key_id)
            if name == "a":
                sources = self.service.app.streams._sources._replace(settings=StreamSettings())
                self._session = Session(sources, Outlet(self.socket, self.service.app.streams.limits), caller, "r")
        opening = {"side": "BUY", "price": 1, "quantity": 1}
        await self.ask("a", "POST", "/orders", json=self._order("a", opening))
        for channel in ("depth", "trades", "ticker", "candles"):
            await self._session.take(json.dumps({"op": "subscribe", "channel": channel, "symbol": self.symbol}))
        await self._session.take(json.dumps({"op": "subscribe", "channel": "orders"}))

    def _order(self, who: str, order: dict[str, Any]) -> dict[str, Any]:
        order = {"symbol": self.symbol, **order}
        if "client_order_id" in order:
            order["client_order_id"] = f"{self.users[who]}-{order['client_order_id']}"
        return order

    async def ask(self, who: str, method: str, path: str, **more: Any) -> httpx.Response:
        """A request with a tenant's key."""
        answer = await self.client.request(method, path, headers={"X-API-Key": self.keys[who]}, **more)
        assert answer.status_code < 500, answer.text
        with suppress(ValueError):
            body = answer.json()
            for each in [body, *(result.get("order", {}) for result in body.get("results", []))]:
                if each.get("user_id") == self.users[who] and each.get("order_id") not in {None, *self.orders[who]}:
                    self.orders[who].append(each["order_id"])
        return answer

    async def act(self, who: str, action: tuple[str, Any, int], *, on_theirs: bool) -> httpx.Response:
        """Carry out an action; `on_theirs`, with an id of the other tenant's."""
        what, about, number = action
        other = "b" if who == "a" else "a"
        ids = self.orders[other if on_theirs else who] or ["999"]
        order_id, named = ids[number % len(ids)], self.users[other if on_theirs else who]
        path = f"/orders/{order_id}"
        if what == "wrong":
            return await self.client.get(path, headers={"X-API-Key": self.keys[who] + "x"})
        own = {"user_id": named} if number == 0 else {}
        change = [{"op": "modify", "order_id": order_id, "quantity": 3}, {"op": "cancel", "order_id": order_id}]
        request: dict[str, tuple[Any, ...]] = {
            "submit": ("POST", "/orders", lambda: self._order(who, about) | own),
            "dry run": ("POST", "/orders?dry_run=true", lambda: self._order(who, about) | own),
            "modify": ("PUT", path + ("?dry_run=true" if number == 1 else ""), lambda: about),
            "batch": ("POST", "/orders/batch", lambda: {"orders": [*(self._order(who, each) for each in about), *change]}),
            "cancel": ("DELETE", path),
            "cancel all": ("DELETE", f"/orders?symbol={self.symbol}"),
            "cancel theirs": ("DELETE", f"/orders?user_id={self.users[other]}"),
            "read": ("GET", path),
            "history": ("GET", f"{path}/history"),
            "explain": ("GET", f"{path}/explain"),
        }
        method, where, *body = request.get(what) or ("GET", self._list(what, who, other))
        return await self.ask(who, method, where, **({"json": body[0]()} if body else {}))

    def _list(self, what: str, who: str, other: str) -> str:
        return {
            "list": "/orders",
            "list theirs": f"/orders/user/{self.users[other]}",
            "find": f"/orders?client_order_id={self.users[other]}-one",
            "events": f"/orders/user/{self.users[who]}/events",
            "trades": f"/trades?symbol={self.symbol}",
            "depth": f"/market/{self.symbol}/depth",
            "market": f"/market/{self.symbol}",
        }[what]

    async def public_ids(self) -> set[str]:
        """The order ids in public trades."""
        trades = (await self.client.get(f"/trades?symbol={self.symbol}&limit=1000")).json()["trades"]
        return {trade[side] for trade in trades for side in ("buy_order_id", "sell_order_id")}

    async def of_b(self) -> dict[str, tuple[Any, ...]]:
        """B's orders, but for what trading changes: its version, price, total, and whether it was ended otherwise."""
        found = (await self.ask("b", "GET", "/orders?limit=1000")).json()["orders"]
        return {
            order["order_id"]: (
                order["version"],
                order["price"],
                order["quantity"],
                order["reason"],
                order["status"] == "CANCELLED",
            )
            for order in found
        }

    async def check(self, seen: str, asked: str) -> None:
        """That nothing of B's that isn't public is in what A has seen; what A has asked for itself may be repeated."""
        hidden = {f'"{order_id}"' for order_id in self.orders["b"]} - {f'"{order_id}"' for order_id in await self.public_ids()}
        assert self.users["b"] not in seen.replace(asked, ""), seen
        for order_id in hidden:
            assert order_id not in seen, (order_id, seen)

    def heard(self) -> str:
        """Every message of A's streams since the last call."""
        self.service.app.streams.pump.finish()
        return json.dumps(self.socket.read())


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[asyncio.Runner, Service]]:
    """A service that runs for all examples, in an event loop of its own."""
    path = tmp_path_factory.mktemp("tenants") / "ome.db"
    with asyncio.Runner() as runner:
        runner.run(_nothing())
        service = Service(_settings(path))
        runner.run(_start(service))
        yield runner, service
        runner.run(_stop(service))


async def _nothing() -> None:
    """The loop is made."""


def _settings(path: Path) -> Settings:
    return Settings(
        database_url=f"sqlite:///{path}",
        disk_reserve_mb=0,
        disk_low_mb=0,
        snapshot_interval_sec=0,
        rate_orders_per_sec=0,
        rate_cancels_per_sec=0,
        rate_reads_per_sec=0,
        rate_failed_keys_per_sec=0,
    )


async def _start(service: Service) -> None:
    await service.open()
    await service.start()


async def _stop(service: Service) -> None:
    await service.app.streams.shutdown()
    await service.stop()


_numbers = iter(range(1_000_000))


async def _trade(service: Service, flow: list[tuple[str, tuple[str, Any, int], bool]]) -> None:
    async with client_of(service.app) as client:
        venue = Venue(service, client, next(_numbers))
        await venue.open()
        for who, action, on_theirs in flow:
            before = await venue.of_b()
            answer = await venue.act(who, action, on_theirs=on_theirs)
            if who == "a":
                assert await venue.of_b() == before, (action, answer.text)
                await venue.check(_without_instance(answer.text), str(answer.request.url))
        await venue.check(venue.heard(), "")
        await venue._session.ended()


def _without_instance(text: str) -> str:
    """A problem repeats the path that was asked for."""
    with suppress(ValueError):
        body = json.loads(text)
        body.pop("instance", None)
        return json.dumps(body)
    return text


@settings(max_examples=200 if LONG else 15, deadline=None, print_blob=True)
@given(flow=FLOW)
def test_a_tenant_sees_and_changes_nothing_of_another(
    loop: tuple[asyncio.Runner, Service], flow: list[tuple[str, tuple[str, Any, int], bool]]
) -> None:
    """Over random traffic of both."""
    runner, service = loop
    runner.run(_trade(service, flow))
