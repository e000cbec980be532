"""Who may do what: every route and every op of the WebSocket, times every kind of key there is.

The rows come from the application's own declarations, and what each should answer from the row's scope alone: a route that is
added has its row by itself, and fails where it lets somebody else in. `python -m unit.api.test_matrix` (with PYTHONPATH=tests)
prints the matrix as it was found.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple

import httpx
import pytest
from starlette.routing import Mount

from fakes import FakeExchange, client_of
from ome.api.auth import ANYBODY, Caller
from ome.api.dispatcher import Dispatcher
from ome.api.keys import Keys
from ome.api.problems import Problem
from ome.api.settings import RateSettings, StreamSettings
from ome.api.streams.outlet import Outlet
from ome.api.streams.session import CHANNEL_ACCESS, OP_ACCESS, Session
from ome.domain.access import Access
from ome.domain.clock import now_us
from ome.observability import Metrics
from streams import FakeSocket
from unit.api.conftest import make

CALLERS: Final = ("no key", "wrong", "revoked", "expired", "read", "trade", "other user", "operator")
GIVES: Final = {"read": Access.READ, "trade": Access.TRADE, "other user": Access.TRADE, "operator": Access.OPERATOR}
"""What each kind of key gives; the others give nothing."""
OWN: Final = frozenset({"{order_id}", "{user_id}", "user_id"})
"""What names something of a user's: another user's key finds nothing there, or is refused."""
ORDER: Final = {"symbol": "AAPL", "side": "BUY", "quantity": "10", "price": "150.50"}
BODIES: Final[dict[tuple[str, str], dict[str, Any]]] = {
    ("POST", "/orders"): ORDER,
    ("POST", "/orders/batch"): {"orders": [ORDER]},
    ("PUT", "/orders/{order_id}"): {"quantity": "9"},
}
MESSAGES: Final[dict[str, dict[str, Any]]] = {
    "submit": ORDER,
    "modify": {"order_id": "1", "quantity": "9"},
    "cancel": {"order_id": "1"},
    "batch": {"orders": [ORDER]},
    "cancel_on_disconnect": {"enabled": False},
    "unsubscribe": {"channel": "trades", "symbol": "AAPL"},
}


class Row(NamedTuple):
    """One line: what is asked, the scope that it declares, whether it is about something of alice's, and how it is asked."""

    name: str
    access: Access
    is_hers: bool
    ask: Callable[[str], Awaitable[tuple[int, str]]]


class World:
    """An application with a key of each kind, and an order of alice's."""

    def __init__(self, app: Dispatcher, client: httpx.AsyncClient, keys: dict[str, str], order_id: str) -> None:
        self.app = app
        self.keys = keys
        self._client = client
        self._order_id = order_id

    def rows(self) -> Iterator[Row]:
        """Every route with each of its raised forms, then every op and every channel."""
        table = self.app._app.state.access  # type: ignore[attr-defined]
        for route, declared in table._declared:
            if isinstance(route, Mount):
                continue
            yield self._route(declared.method, declared.path, "", declared.access)
            for raised, access in declared.raised.items():
                query = raised if "=" in raised else f"{raised}=alice"
                yield self._route(declared.method, declared.path, f"?{query}", max(access, declared.access))
        for op, access in OP_ACCESS.items():
            if op not in {"subscribe", "auth"}:
                yield Row(f"ws {op}", access, op in {"modify", "cancel"}, self._op(op, MESSAGES.get(op, {})))
        for channel, access in CHANNEL_ACCESS.items():
            about = {"user_id": "alice"} if channel == "orders" else {"symbol": "AAPL"}
            yield Row(
                f"ws subscribe {channel}", access, channel == "orders", self._op("subscribe", {"channel": channel, **about})
            )

    def _route(self, method: str, path: str, query: str, access: Access) -> Row:
        concrete = path.format(order_id=self._order_id, symbol="AAPL", user_id="alice", key_id="k", snapshot_id="1") + query

        async def ask(caller: str) -> tuple[int, str]:
            headers = {"X-API-Key": self.keys[caller]} if caller in self.keys else {}
            if path.endswith("/stream"):
                concrete_now, verb = concrete, "HEAD"  # the same gate, and an end
            else:
                concrete_now, verb = concrete, method
            answer = await self._client.request(verb, concrete_now, json=BODIES.get((method, path), {}), headers=headers)
            is_problem = "problem" in answer.headers.get("content-type", "") and answer.content
            return answer.status_code, answer.json()["code"] if is_problem else ""

        return Row(f"{method} {path}{query}", access, any(name in path + query for name in OWN), ask)

    def _op(self, op: str, message: dict[str, Any]) -> Callable[[str], Awaitable[tuple[int, str]]]:
        async def ask(caller: str) -> tuple[int, str]:
            socket = FakeSocket()
            sources = self.app.streams._sources._replace(settings=StreamSettings())
            gate, limits = self.app.gate, self.app.streams.limits
            try:
                who: Caller = gate.identify(self.keys[caller].encode(), {"client": None}) if caller in self.keys else ANYBODY
            except Problem as problem:  # the handshake is refused
                return problem.status, problem.reason.code
            session = Session(sources, Outlet(socket, limits), who, "r")
            named = {"order_id": self._order_id} if "order_id" in message else {}
            await session.take(json.dumps({"op": op, **message, **named}))
            await session.settled()
            answer = next(each for each in socket.read() if "status" in each)
            await session.ended()
            return answer["status"], answer.get("problem", {}).get("code", "")

        return ask


@asynccontextmanager
async def world() -> Any:
    """A fresh one."""
    exchange = FakeExchange()
    rates = RateSettings(orders_per_second=0, cancels_per_second=0, reads_per_second=0, failed_keys_per_second=0)
    app = make(exchange, Metrics(), api_key="sesame", rates=rates)
    keys: Keys = app.gate.keys
    made = {
        "read": await keys.make("", "alice", Access.READ),
        "trade": await keys.make("", "alice", Access.TRADE),
        "other user": await keys.make("", "bob", Access.TRADE),
        "operator": await keys.make("", "ann", Access.OPERATOR),
        "revoked": await keys.make("", "alice", Access.OPERATOR),
        "expired": await keys.make("", "alice", Access.OPERATOR, now_us() - 1),
    }
    await keys.revoke("", made["revoked"].record.key_id)
    given = {name: new.key for name, new in made.items()} | {"wrong": made["trade"].key + "x"}
    async with client_of(app) as client:
        headers = {"X-API-Key": given["trade"]}
        order_id = (await client.post("/orders", json=ORDER, headers=headers)).json()["order_id"]
        yield World(app, client, given, order_id)


def is_as_declared(row: Row, caller: str, answer: tuple[int, str]) -> bool:
    """Whether this is what the row's scope promises this caller."""
    status, code = answer
    held = GIVES.get(caller, Access.PUBLIC)
    if row.access > held:
        return (status, code) == ((403, "insufficient_scope") if caller in GIVES else (401, "unauthorized"))
    if row.name.startswith("ws ") and caller in {"wrong", "revoked", "expired"}:
        return (status, code) == (401, "unauthorized")  # the handshake: a socket is opened with a good key or with none
    if row.is_hers and caller == "other user" and row.access is not Access.PUBLIC:
        return code in {"order_not_found", "not_your_user", "not_supported"}
    return status not in {401, 403}


async def cells(found: World) -> dict[str, dict[str, tuple[int, str]]]:
    """The whole matrix: by row, by caller."""
    return {row.name: {caller: await row.ask(caller) for caller in CALLERS} for row in found.rows()}


async def test_every_route_and_op_answers_each_caller_as_declared() -> None:
    """All of them, and the matrix has a row for each; a route without a scope doesn't get as far (`test_access`)."""
    async with world() as found:
        matrix = await cells(found)
        rows = {row.name: row for row in found.rows()}
        wrong = [
            f"{name} ({rows[name].access.scope}), {caller}: {answer}"
            for name, answers in matrix.items()
            for caller, answer in answers.items()
            if not is_as_declared(rows[name], caller, answer)
        ]
        document = (await client_of(found.app).get("/openapi.json")).json()
    assert wrong == []
    shown = {f"{method.upper()} {path}" for path, operations in document["paths"].items() for method in operations}
    assert shown <= matrix.keys()
    assert {f"ws {op}" for op in OP_ACCESS} - {"ws subscribe", "ws auth"} <= matrix.keys()


@pytest.mark.parametrize(
    ("access", "caller", "answer"),
    [
        (Access.TRADE, "no key", (200, "")),
        (Access.TRADE, "read", (201, "")),
        (Access.READ, "revoked", (200, "")),
        (Access.OPERATOR, "trade", (200, "")),
        (Access.READ, "other user", (200, "")),
        (Access.PUBLIC, "no key", (401, "unauthorized")),
    ],
)
def test_the_matrix_would_see_a_hole(access: Access, caller: str, answer: tuple[int, str]) -> None:
    """What lets in whom it shouldn't, or keeps out whom it should let in, isn't as declared."""

    async def nothing(_caller: str) -> tuple[int, str]:
        return answer

    assert not is_as_declared(Row("GET /x/{user_id}", access, is_hers=True, ask=nothing), caller, answer)


async def _print() -> None:
    async with world() as found:
        access = {row.name: row.access.scope for row in found.rows()}
        print(f"{'':<46} {'scope':<9}", *(f"{caller:<11}" for caller in CALLERS))  # noqa: T201
        for name, answers in (await cells(found)).items():
            print(f"{name:<46} {access[name]:<9}", *(f"{answers[caller][0]:<11}" for caller in CALLERS))  # noqa: T201


if __name__ == "__main__":
    asyncio.run(_print())
