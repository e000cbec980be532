"""Symbols that move while clients trade in them: the load, and an audit of what came of it that asks nothing of the engine."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict, deque
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from threading import Event
from typing import Any

import asyncpg
import httpx
from typer.testing import CliRunner, Result

from clusters import Cluster
from ome.cli import app
from ome.domain.numbers import value_of
from ome.verification import verify

OPERATOR = {"X-API-Key": "operators-key"}
UNDECIDED = {503, 504, 500, 429}
"""Answers after which a client asks again with the same client order id."""
BUY = 0


def move(cluster: Cluster, symbol: str, shard: int) -> Result:
    """`ome shards move`."""
    environment = {"DATABASE_URL": cluster.database_url, "NATS_URL": cluster.nats.url}
    return CliRunner().invoke(app, ["shards", "move", symbol, str(shard)], env=environment)


def order(user_id: str, symbol: str, **fields: Any) -> dict[str, Any]:
    """The body of an order."""
    return {"user_id": user_id, "symbol": symbol, "side": "BUY", "quantity": 5, "price": "10.00"} | fields


class Load:
    """Clients that submit and cancel in one symbol until they are told to stop; each asks again until it is certain."""

    def __init__(self, urls: list[str], symbol: str, clients: int, most: int, cancelled: float = 0.3) -> None:
        """`cancelled` is the part of the orders that are cancelled later."""
        self.urls, self.symbol, self.most, self.cancelled = urls, symbol, most, cancelled
        self.stop = Event()
        self.accepted: dict[str, str] = {}
        self.refused: list[str] = []
        self._pool = ThreadPoolExecutor(clients)
        self._work = [self._pool.submit(self._client, number) for number in range(clients)]

    def ended(self) -> None:
        """Wait until each client has no more to do. Raises what one of them has raised."""
        self.stop.set()
        for each in self._work:
            each.result(timeout=60)
        self._pool.shutdown()

    def _client(self, number: int) -> None:
        dice, open_ids = random.Random(number), list[str]()
        with httpx.Client(timeout=30, headers=OPERATOR) as client:
            for count in range(self.most):
                if self.stop.is_set():
                    return
                name = f"{self.symbol}-{number}-{count}"
                body = order(
                    f"loader{number}",
                    self.symbol,
                    side=dice.choice(["BUY", "SELL"]),
                    price=f"{dice.randrange(95, 106) / 10:.2f}",
                    client_order_id=name,
                    self_trade_prevention="NONE",
                )
                answer = self._certain(client, "POST", "/orders", body)
                if answer.status_code != 201:
                    self.refused.append(f"{name}: {answer.status_code} {answer.text}")
                    continue
                self.accepted[name] = answer.json()["order_id"]
                open_ids.append(self.accepted[name])
                if dice.random() < self.cancelled:
                    ended = self._certain(client, "DELETE", f"/orders/{open_ids.pop(0)}", None)
                    if ended.status_code not in {200, 409}:
                        self.refused.append(f"cancel {ended.status_code} {ended.text}")

    def _certain(self, client: httpx.Client, method: str, path: str, body: dict[str, Any] | None) -> httpx.Response:
        for attempt in range(200):
            answer = client.request(method, self.urls[attempt % len(self.urls)] + path, json=body)
            if answer.status_code not in UNDECIDED:
                return answer
            self.stop.wait(0.05)
        return answer


def check(cluster: Cluster, client: httpx.Client, load: Load) -> None:
    """Each order that was accepted is there once; tables and journals agree."""
    assert load.refused == []
    assert len(set(load.accepted.values())) == len(load.accepted)
    for name in random.Random(1).sample(sorted(load.accepted), min(20, len(load.accepted))):
        assert client.get(f"/orders/{load.accepted[name]}").json()["client_order_id"] == name
    report = verify(cluster.database_url)
    assert report.ok, report.problems()
    assert report.open_orders == count_open(cluster)


def count_open(cluster: Cluster) -> int:
    """How many orders are open by the tables."""
    return int(asyncio.run(rows(cluster.database_url, "SELECT count(*) FROM stored_orders WHERE status <= 2"))[0][0])


async def rows(url: str, sql: str, *values: Any) -> list[Any]:
    """What a query finds."""
    return (await rows_of_each(url, [sql], *values))[0]


async def rows_of_each(url: str, queries: list[str], *values: Any) -> list[list[Any]]:
    """What queries find at one moment."""
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction(isolation="repeatable_read"):
            return [list(await connection.fetch(sql, *values)) for sql in queries]
    finally:
        await connection.close()


ORDERS = "SELECT id, side, price, quantity FROM stored_orders WHERE symbol = $1 ORDER BY created_at, id"
TRADES = "SELECT buy_order_id, sell_order_id, price, quantity FROM stored_trades WHERE symbol = $1 ORDER BY sequence, id"


def audit_tape(cluster: Cluster, symbol: str) -> int:
    """Match all orders of a symbol again, in the order of their acceptance, by price and time, as the rule book has it and with
    none of the engine's code: the tape must be just that. For limit orders none of which was changed or cancelled. How many
    trades there are.
    """
    orders, trades = asyncio.run(rows_of_each(cluster.database_url, [ORDERS, TRADES], symbol))
    queues: dict[int, dict[Decimal, deque[list[Any]]]] = {0: defaultdict(deque), 1: defaultdict(deque)}
    expected: list[tuple[int, int, Decimal, Decimal]] = []
    for order_id, side, packed, size in orders:
        price, left, others = value_of(packed), value_of(size), queues[1 - side]
        while left and others:
            best = min(others) if side == BUY else max(others)
            if (best > price) if side == BUY else (best < price):
                break
            maker = others[best][0]
            quantity = min(left, maker[1])
            ids = (order_id, maker[0]) if side == BUY else (maker[0], order_id)
            expected.append((*ids, best, quantity))
            left -= quantity
            maker[1] -= quantity
            if not maker[1]:
                others[best].popleft()
                if not others[best]:
                    del others[best]
        if left:
            queues[side][price].append([order_id, left])
    found = [(buy, sell, value_of(price), value_of(quantity)) for buy, sell, price, quantity in trades]
    for place, (one, other) in enumerate(zip(expected, found, strict=False)):
        assert one == other, f"trade {place}: {one} expected, {other} on the tape"
    assert len(found) == len(expected), f"{len(expected)} trades expected, {len(found)} on the tape"
    return len(found)
