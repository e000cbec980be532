"""Money across kill -9: deposits, withdrawals and orders under load, a service that is killed in their middle, and what is left.

Clients ask again for every answer that got lost, with the same client id. In the end each transfer was made once or not at all,
as its client was told; every asset adds up to zero; what is reserved is what the open orders imply; and `verify` finds nothing.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import defaultdict
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import httpx

from ome.verification import verify
from servers import Server, running_server, sqlite_url

KILLS, CLIENTS = 4, 6
USERS = ("ann", "bob", "cat")
MAKER_BPS, TAKER_BPS = Decimal(-3), Decimal(10)
BASIS_POINTS = 10_000
Json = dict[str, Any]


class Client:
    """One at a time, each until its outcome is certain."""

    def __init__(self, server: Server, name: str, made: dict[str, Json]) -> None:
        self.server, self.name, self.made = server, name, made
        self.rng = Random(name)
        self.number = 0

    async def trade(self, stop: asyncio.Event) -> None:
        """Go on until told to stop."""
        async with httpx.AsyncClient(base_url=self.server.url, timeout=10) as http:
            while not stop.is_set():
                self.number += 1
                client_id, user = f"{self.name}-{self.number}", self.rng.choice(USERS)
                if self.rng.random() < 0.35:
                    await self.transfer(http, user, client_id)
                else:
                    await self.order(http, user, client_id)

    async def transfer(self, http: httpx.AsyncClient, user: str, client_id: str) -> None:
        """Deposit or withdraw, and note what was made."""
        path = self.rng.choice(["/admin/deposits", "/admin/deposits", "/admin/withdrawals"])
        body = {
            "user_id": user,
            "asset": self.rng.choice(["ACME", "USD", "USD"]),
            "amount": str(self.rng.choice([5, "7.25", 300])),
            "client_transfer_id": client_id,
        }
        status, answer = await self.certain(http, path, body)
        if status == 201:
            self.made[client_id] = answer
        else:
            assert (status, answer["code"]) == (422, "insufficient_funds")

    async def order(self, http: httpx.AsyncClient, user: str, client_id: str) -> None:
        """Submit an order near the market, paid for or not."""
        body = {
            "user_id": user,
            "symbol": "ACME-USD",
            "side": self.rng.choice(["BUY", "SELL"]),
            "quantity": self.rng.randrange(1, 6),
            "price": str(100 + self.rng.randrange(-3, 4)),
            "client_order_id": client_id,
            "self_trade_prevention": self.rng.choice(["CANCEL_OLDEST", "DECREMENT", "NONE"]),
        }
        status, answer = await self.certain(http, "/orders", body)
        assert status == 201 or answer["code"] == "insufficient_funds", answer

    @staticmethod
    async def certain(http: httpx.AsyncClient, path: str, body: Json) -> tuple[int, Json]:
        """Send it, again and again, until the answer says what became of it."""
        while True:
            try:
                answer = await http.post(path, json=body)
            except httpx.TransportError:
                await asyncio.sleep(0.02)
                continue
            if answer.status_code < 500:
                return answer.status_code, answer.json()
            await asyncio.sleep(0.02)


async def under_load(server: Server) -> dict[str, Json]:
    """Clients at work while the service is killed and started again: the transfers that they were told of, by client id."""
    made: dict[str, Json] = {}
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for number in range(CLIENTS):
            group.create_task(Client(server, f"c{number}", made).trade(stop))
        for kill in range(1, KILLS + 1):
            while len(made) < 25 * kill:
                await asyncio.sleep(0.01)
            await asyncio.to_thread(server.restart)
        stop.set()
    return made


def test_money_adds_up_after_every_kill(tmp_path: Path) -> None:
    """F1, F2, F3: no deposit is lost or doubled, nobody has less than nothing, and every asset adds up to zero."""
    funded = {"base_asset": "ACME", "quote_asset": "USD", "maker_fee_bps": int(MAKER_BPS), "taker_fee_bps": int(TAKER_BPS)}
    with running_server(sqlite_url(tmp_path)) as server, httpx.Client(base_url=server.url, timeout=10) as client:
        assert client.put("/instruments/ACME-USD", json=funded).status_code == 201
        made = asyncio.run(under_load(server))
        balances = {
            (user, row["asset"]): {name: Decimal(row[name]) for name in ("total", "reserved", "available")}
            for user in USERS
            for row in client.get(f"/users/{user}/balances").json()["balances"]
        }
        for row in balances.values():
            assert row["available"] == row["total"] - row["reserved"]
            assert 0 <= row["reserved"] <= row["total"]
        assert {key: row["reserved"] for key, row in balances.items() if row["reserved"]} == implied(client)
    with closing(sqlite3.connect(tmp_path / "ome.db")) as database:
        stored = database.execute("SELECT client_transfer_id, kind, user_id, asset, amount FROM transfers").fetchall()
        venue = database.execute("SELECT asset, external, fees FROM stored_assets").fetchall()
    assert sorted(stored) == sorted(
        (name, each["kind"], each["user_id"], each["asset"], each["amount"]) for name, each in made.items()
    )
    for asset, external, fees in venue:
        users = sum(row["total"] for (_, of), row in balances.items() if of == asset)
        assert users + Decimal(external) + Decimal(fees) == 0
        moved = [
            Decimal(each["amount"]) * (-1 if each["kind"] == "DEPOSIT" else 1) for each in made.values() if each["asset"] == asset
        ]
        assert Decimal(external) == sum(moved)
    assert verify(f"sqlite:///{tmp_path / 'ome.db'}").problems() == []


def implied(client: httpx.Client) -> dict[tuple[str, str], Decimal]:
    """What the open orders, as the service shows them, must hold."""
    held: defaultdict[tuple[str, str], Decimal] = defaultdict(Decimal)
    for user in USERS:
        cursor: str | None = None
        while True:
            page: dict[str, str | int] = {"status": "PENDING,PARTIALLY_FILLED", "limit": 1000}
            if cursor is not None:
                page["cursor"] = cursor
            answer = client.get(f"/orders/user/{user}", params=page).json()
            for order in answer["orders"]:
                left = Decimal(order["remaining_quantity"])
                if order["side"] == "SELL":
                    held[user, "ACME"] += left
                else:
                    held[user, "USD"] += left * Decimal(order["price"]) * (1 + TAKER_BPS / BASIS_POINTS)
            cursor = answer["next_cursor"]
            if cursor is None:
                break
    return dict(held)
