"""What a client and an orchestrator see of the service's states, on real servers: recovering, stalled, draining."""

from __future__ import annotations

import signal
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest

from ome.domain.errors import StorageUnusable
from postgres import PostgresServer, with_database
from servers import Server, answers, running_server, spawned, sqlite_url, until

ORDER = {"user_id": "ann", "symbol": "ABC", "side": "BUY", "quantity": 5, "price": "10.00"}
WITHIN_S = 30.0


@contextmanager
def locked(file: Path) -> Iterator[sqlite3.Connection]:
    """Another program's write lock on an SQLite file."""
    with closing(sqlite3.connect(file, isolation_level=None, timeout=10, check_same_thread=False)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield connection


def check_recovering(server: Server) -> None:
    """Alive, not ready, and nothing is answered from what isn't there yet."""
    with httpx.Client(base_url=server.url, timeout=10) as client:
        assert client.get("/health/live").status_code == 200
        for path in ("/health", "/health/ready"):
            sick = client.get(path)
            assert (sick.status_code, sick.json()["state"], sick.json()["code"]) == (503, "RECOVERING", "not_accepting")
        for answer in (client.post("/orders", json=ORDER), client.get("/orders/1"), client.get("/market"), client.get("/trades")):
            assert (answer.status_code, answer.json()["code"]) == (503, "not_accepting")
            assert answer.json()["outcome"] == "not_executed"
            assert int(answer.headers["retry-after"]) >= 1
        assert 'ome_engine_state{state="RECOVERING"} 1.0' in client.get("/metrics").text
        assert client.get("/docs").status_code == 200


def test_it_listens_while_it_recovers(tmp_path: Path) -> None:
    """DUR7: with the lock taken it says that it is recovering, and serves once it has."""
    with running_server(sqlite_url(tmp_path)) as server:
        server.stop()
        with locked(tmp_path / "ome.db") as other:
            server.spawn()
            until(answers(server, "/health/live", 200))
            check_recovering(server)
            other.execute("ROLLBACK")
            until(answers(server, "/health", 200))
            assert httpx.post(f"{server.url}/orders", json=ORDER).status_code == 201


def test_a_database_that_is_away_at_start_is_waited_for(own_postgres: PostgresServer) -> None:
    """HOLE20: no exit and no restart: it says what it waits for, in the log and in /health, and begins when it is there."""
    own_postgres.stop()
    with spawned(own_postgres.dsn) as server:
        until(answers(server, "/health/live", 200))
        check_recovering(server)
        until(lambda: server.output().count("waiting_for_database") >= 2)
        assert "can't be reached" in httpx.get(f"{server.url}/health").json()["detail"]
        own_postgres.start()
        until(answers(server, "/health", 200))
        assert httpx.post(f"{server.url}/orders", json=ORDER).status_code == 201


@pytest.mark.parametrize("address", ["unknown database", "unknown role", "unknown name"])
def test_a_wrong_address_is_told_at_once(postgres_server: str, address: str) -> None:
    """What doesn't mend itself ends the start with status 6 and a sentence."""
    url = {
        "unknown database": with_database(postgres_server, "nowhere"),
        "unknown role": postgres_server.replace("postgres@", "nobody_at_all@"),
        "unknown name": "postgresql://ome@no-such-host.invalid/ome",
    }[address]
    with spawned(url) as server:
        assert server.process is not None
        assert server.process.wait(WITHIN_S) == StorageUnusable.exit_code
        assert "Check DATABASE_URL" in server.output()


def test_a_service_that_drains_says_so_and_finishes_what_it_took(tmp_path: Path) -> None:
    """SIGTERM: new orders get 503 draining on old connections and new ones, the one in flight is answered 201, status 0."""
    settings = {"CLIENT_WAIT_SEC": "20", "DRAIN_SEC": "20"}
    with running_server(sqlite_url(tmp_path), **settings) as server, httpx.Client(base_url=server.url, timeout=30) as client:
        assert client.get("/health/ready").status_code == 200
        assert server.process is not None
        with locked(tmp_path / "ome.db") as other, ThreadPoolExecutor() as threads:
            in_flight = threads.submit(lambda: httpx.post(f"{server.url}/orders", json=ORDER, timeout=30))
            until(lambda: _committing(server))
            server.process.send_signal(signal.SIGTERM)
            until(answers(server, "/health/ready", 503))
            ready = client.get("/health/ready")  # on the connection that was there before
            assert (ready.json()["state"], ready.json()["code"]) == ("DRAINING", "draining")
            refused = client.post("/orders", json=ORDER)
            assert (refused.status_code, refused.json()["code"], refused.json()["outcome"]) == (503, "draining", "not_executed")
            assert (refused.headers["connection"], int(refused.headers["retry-after"]) >= 1) == ("close", True)
            assert client.get("/market").status_code == 200
            other.execute("ROLLBACK")
            answer = in_flight.result()
        assert answer.status_code == 201
        assert server.process.wait(WITHIN_S) == 0
        assert '"everything_durable": true' in server.output()


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    """Whoever asks twice doesn't wait for a database that doesn't answer."""
    settings = {"CLIENT_WAIT_SEC": "60", "DRAIN_SEC": "60"}
    with (
        running_server(sqlite_url(tmp_path), **settings) as server,
        locked(tmp_path / "ome.db"),
        ThreadPoolExecutor() as threads,
    ):
        in_flight = threads.submit(lambda: httpx.post(f"{server.url}/orders", json=ORDER, timeout=90))
        until(lambda: _committing(server))
        assert server.process is not None
        server.process.send_signal(signal.SIGTERM)
        until(answers(server, "/health/ready", 503))
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(10) == 128 + signal.SIGTERM
        with pytest.raises(httpx.TransportError):
            in_flight.result()


def _committing(server: Server) -> bool:
    """Whether a command has been taken that isn't durable."""
    return "ome_commands_waiting 1.0" in httpx.get(f"{server.url}/metrics", timeout=5).text
