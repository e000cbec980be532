"""DATABASE_READ_URL with a real primary and a real replica that streams from it: nobody's answer is older than without it."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
import pytest

from clusters import Cluster, running_cluster
from postgres import PostgresServer, execute, replica_of, server_or_skip, with_database
from servers import running_server, until

HEADERS = {"X-API-Key": "operators-key"}
ROUNDS = 8


class Pair(NamedTuple):
    """A primary with a database, and its replica."""

    primary: PostgresServer
    copy: PostgresServer

    @property
    def settings(self) -> dict[str, str]:
        """For whoever reads from both."""
        given = {"API_KEY": HEADERS["X-API-Key"], "LEASE_SEC": "2", "RATE_READS_PER_SEC": "0"}
        return {"DATABASE_READ_URL": self.copy.dsn, **given}

    def on_copy(self, command: str) -> None:
        """Carry out SQL at the replica."""
        asyncio.run(execute(self.copy.dsn, command))


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """One for all tests here."""
    primary = server_or_skip()
    try:
        copy = replica_of(primary)
        yield Pair(primary, copy)
        copy.remove()
    finally:
        primary.remove()


@pytest.fixture(scope="module")
def cluster(pair: Pair) -> Iterator[Cluster]:
    """Two gateways that read from the replica."""
    with running_cluster(pair.primary.dsn, shards=1, gateways=2, standbys=False, **pair.settings) as cluster:
        yield cluster


@pytest.fixture
def clients(cluster: Cluster) -> Iterator[list[httpx.Client]]:
    """A client of each gateway."""
    with (
        httpx.Client(base_url=cluster.urls[0], timeout=30, headers=HEADERS) as one,
        httpx.Client(base_url=cluster.urls[1], timeout=30, headers=HEADERS) as other,
    ):
        yield [one, other]


def figure(client: httpx.Client, name: str) -> float:
    """The sum of a metric's series."""
    found = re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", client.get("/metrics").text, re.MULTILINE)
    return sum(map(float, found))


def trade(client: httpx.Client, user_id: str) -> str:
    """Have a user buy one of what somebody sells; the id of the user's order."""
    body = {"symbol": "AAPL", "quantity": 1, "price": "10.00"}
    assert client.post("/orders", json=body | {"user_id": "maker", "side": "SELL"}).status_code == 201
    made = client.post("/orders", json=body | {"user_id": user_id, "side": "BUY"})
    assert (made.status_code, made.json()["status"]) == (201, "FILLED")
    order_id: str = made.json()["order_id"]
    return order_id


def check_is_seen(client: httpx.Client, order_id: str, user_id: str) -> None:
    """What was answered just now is in every list, whoever is asked (DUR4)."""

    def get(path: str, **parameters: Any) -> Any:
        answer = client.get(path, params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()

    assert get(f"/orders/user/{user_id}")["orders"][0]["order_id"] == order_id
    newest = get("/trades", symbol="AAPL", limit=1)["trades"][0]
    assert newest["buy_order_id"] == order_id
    assert get("/trades", user_id=user_id)["trades"][0] == newest
    assert [each["type"] for each in get(f"/orders/{order_id}/history")["events"]] == ["ACCEPTED", "FILLED"]
    depth = get("/market/AAPL/depth")
    assert get("/market/AAPL/depth", as_of_sequence=depth["sequence"])["sequence"] == depth["sequence"]
    candles = get("/market/AAPL/candles", interval="1d")["candles"]
    assert candles[-1]["trades"] == len(get("/trades", symbol="AAPL", limit=1000)["trades"])


def test_history_comes_from_the_replica_and_is_never_old(clients: list[httpx.Client]) -> None:
    """Read at the other gateway right after the answer, again and again."""
    before = figure(clients[1], "ome_replica_reads_total")
    for number in range(ROUNDS):
        check_is_seen(clients[1], trade(clients[0], f"ann{number}"), f"ann{number}")
    assert figure(clients[1], "ome_replica_reads_total") > before


def test_a_replica_that_lags_is_passed_over(pair: Pair, clients: list[httpx.Client]) -> None:
    """Replay is paused: answers are as new as ever, the lag is shown, and once it has caught up it is asked again."""
    pair.on_copy("SELECT pg_wal_replay_pause()")
    try:
        for number in range(3):
            check_is_seen(clients[1], trade(clients[0], f"bob{number}"), f"bob{number}")
        assert figure(clients[1], "ome_replica_fallbacks_total") > 0
        until(lambda: figure(clients[1], "ome_replica_lag_seconds") > 0)
    finally:
        pair.on_copy("SELECT pg_wal_replay_resume()")
    before = figure(clients[1], "ome_replica_reads_total")
    until(lambda: _read(clients[1]) and figure(clients[1], "ome_replica_reads_total") > before)
    until(lambda: figure(clients[1], "ome_replica_lag_seconds") == 0)


def _read(client: httpx.Client) -> bool:
    return client.get("/trades").status_code == 200


@pytest.mark.parametrize("how", [signal.SIGQUIT, signal.SIGSTOP])
def test_a_replica_that_is_gone_costs_no_answer(pair: Pair, clients: list[httpx.Client], how: signal.Signals) -> None:
    """Crashed, or hung: the primary is asked instead; when it is back, it is asked again."""
    if how is signal.SIGQUIT:
        pair.copy.stop(how)
    else:
        pair.copy.signal(how)
    try:
        for number in range(3):
            check_is_seen(clients[1], trade(clients[0], f"cid{how}{number}"), f"cid{how}{number}")
        assert figure(clients[1], "ome_replica_fallbacks_total") > 0
    finally:
        if how is signal.SIGQUIT:
            pair.copy.start()
        else:
            pair.copy.signal(signal.SIGCONT)
    before = figure(clients[1], "ome_replica_reads_total")
    until(lambda: _read(clients[1]) and figure(clients[1], "ome_replica_reads_total") > before)


def test_one_process_reads_from_a_replica_too(pair: Pair) -> None:
    """`ome serve`, on a database of its own."""
    asyncio.run(execute(pair.primary.dsn, "CREATE DATABASE single"))
    settings = pair.settings | {"DATABASE_READ_URL": with_database(pair.copy.dsn, "single")}
    with (
        running_server(with_database(pair.primary.dsn, "single"), **settings) as server,
        httpx.Client(base_url=server.url, timeout=30, headers=HEADERS) as client,
    ):
        for number in range(3):
            check_is_seen(client, trade(client, f"dan{number}"), f"dan{number}")
        until(lambda: _read(client) and figure(client, "ome_replica_reads_total") > 0)
