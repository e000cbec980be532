"""A PostgreSQL engine that is stopped and one that takes over; a server that goes away under load and comes back."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import httpx

from ome.domain.errors import Fenced
from postgres import PostgresServer
from servers import answers, running_server, spawned, until

ORDER = {"user_id": "ann", "symbol": "ABC", "side": "BUY", "quantity": 5, "price": "10.00"}


def _order(number: int) -> dict[str, Any]:
    return ORDER | {"client_order_id": f"o{number}"}


def test_a_stopped_engine_is_taken_over_from_and_exits_when_it_wakes(postgres_url: str) -> None:
    """DUR8: the second serves once the lease has run out; the first commits nothing more and exits with 4, though nobody asks."""
    with running_server(postgres_url, LEASE_SEC="2") as first:
        assert first.process is not None
        assert httpx.post(f"{first.url}/orders", json=_order(1), timeout=30).status_code == 201
        was = httpx.get(f"{first.url}/health", timeout=30).json()
        with spawned(postgres_url, LEASE_SEC="2", STANDBY="true") as second:
            until(answers(second, "/health/ready", 503))
            assert "Standing by" in httpx.get(f"{second.url}/health", timeout=30).json()["detail"]
            first.process.send_signal(signal.SIGSTOP)
            until(answers(second, "/health", 200))
            again = httpx.post(f"{second.url}/orders", json=_order(1), timeout=30)
            assert (again.status_code, again.json()["replayed"]) == (201, True)
            first.process.send_signal(signal.SIGCONT)
            assert first.process.wait(30) == Fenced.exit_code
            assert httpx.post(f"{second.url}/orders", json=_order(2), timeout=30).status_code == 201
            now = httpx.get(f"{second.url}/health", timeout=30).json()
            assert (now["epoch"], now["incarnation"]) == (was["epoch"] + 1, was["incarnation"])


async def test_a_database_that_goes_away_and_comes_back_costs_no_restart(own_postgres: PostgresServer) -> None:
    """F6: 504 unknown, then 503 stalled; the batch is there once; trading and reading go on."""
    settings = {"CLIENT_WAIT_SEC": "1", "LEASE_SEC": "2"}
    with running_server(own_postgres.dsn, **settings) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=30) as client:
            first = (await client.post("/orders", json=_order(1))).json()["order_id"]
            await asyncio.to_thread(own_postgres.stop, signal.SIGQUIT)
            unknown = await client.post("/orders", json=ORDER)
            assert (unknown.status_code, unknown.json()["outcome"]) == (504, "unknown")
            late = await client.post("/orders", json=ORDER)
            assert (late.status_code, late.json()["outcome"], "retry-after" in late.headers) == (503, "not_executed", True)
            health = await client.get("/health")
            assert (health.status_code, health.json()["state"]) == (503, "STALLED")
            assert (await client.get(f"/orders/{first}")).status_code == 503
            await asyncio.sleep(3)  # long enough for the pauses between two looks to have grown to their longest
            await asyncio.to_thread(own_postgres.start)
            while (await client.post("/orders", json=_order(2))).status_code != 201:
                await asyncio.sleep(0.02)
            assert (await client.get(f"/orders/{first}")).status_code == 200
            assert (await client.get("/orders/user/ann")).json()["count"] == 3
        assert server.process is not None
        assert server.process.poll() is None
