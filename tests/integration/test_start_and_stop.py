"""How a real process starts and stops, and what it says when it can't. What faults do to it under load is in `tests/faults`."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from ome.domain.errors import EngineRunning, StateMismatch
from servers import Server, cold_server, free_port, sqlite_url

ORDER = {"user_id": "ann", "symbol": "ABC", "side": "BUY", "quantity": 5, "price": "10.00"}


async def second_engine(database_url: str) -> tuple[int, str]:
    """Exit status and output of an engine started beside another one."""
    second = Server(database_url, free_port(), {})
    process = second.spawn()
    try:
        return await asyncio.to_thread(process.wait, 30), second.output()
    except subprocess.TimeoutExpired:
        return -1, second.output()
    finally:
        second.close()


async def check_second_engine_is_refused(database_url: str) -> None:
    """The second leaves with the status of EngineRunning, and the first trades on."""
    with cold_server(database_url) as first:
        status, output = await second_engine(database_url)
        assert status == EngineRunning.exit_code, output
        async with httpx.AsyncClient(base_url=first.url) as client:
            assert (await client.post("/orders", json=ORDER)).status_code == 201


async def test_a_second_engine_on_sqlite_is_refused(tmp_path: Path) -> None:
    """DUR8 on one host: the lock file is held for the life of the process."""
    await check_second_engine_is_refused(sqlite_url(tmp_path))


async def test_a_second_engine_on_postgresql_is_refused(postgres_url: str) -> None:
    """DUR8: the advisory lock is held for the life of the connection."""
    await check_second_engine_is_refused(postgres_url)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        ("UPDATE stored_orders SET quantity = quantity * 2, remaining_quantity = remaining_quantity * 2", "state hash"),
        ("UPDATE stored_instruments SET shard = 7", "can't be restored"),
    ],
)
def test_an_edited_row_stops_the_start(tmp_path: Path, edit: str, said: str) -> None:
    """DUR7: what contradicts itself is not served, and the exit status says so."""
    url = sqlite_url(tmp_path)
    with cold_server(url) as server:
        assert httpx.post(f"{server.url}/orders", json=ORDER).status_code == 201
        assert server.terminate() == 0
        with closing(sqlite3.connect(tmp_path / "ome.db")) as connection, connection:
            connection.execute(edit)
        process = server.spawn()
        assert process.wait(30) == StateMismatch.exit_code
        assert said in server.output()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_with_status_0(tmp_path: Path, number: signal.Signals) -> None:
    """An operator's stop is no failure, and what was acknowledged is there afterwards."""
    with cold_server(sqlite_url(tmp_path)) as server:
        order_id = httpx.post(f"{server.url}/orders", json=ORDER).json()["order_id"]
        assert server.process is not None
        server.process.send_signal(number)
        assert server.process.wait(30) == 0
        server.start()
        assert httpx.get(f"{server.url}/orders/{order_id}").json()["status"] == "PENDING"


def test_a_taken_port_is_said_in_words(tmp_path: Path) -> None:
    """The address is tried before anything is recovered; the sentence names the way out."""
    with cold_server(sqlite_url(tmp_path)) as server:
        second = Server(sqlite_url(tmp_path / ".."), server.port, {})
        assert second.spawn().wait(30) == 69
        assert "PORT=" in second.output()
        second.close()


def test_a_wrong_setting_is_named(tmp_path: Path) -> None:
    """A setting that can't be read stops the start with its name; one that would open the door without a key too."""
    for environment, name in (({"PORT": "many"}, "PORT"), ({"HOST": "0.0.0.0"}, "API_KEY")):  # noqa: S104  refused
        server = Server(sqlite_url(tmp_path), free_port(), {})
        server.environment = environment
        assert server.spawn().wait(30) == 2
        assert name in server.output()
        server.close()


def test_a_signal_ends_a_start_that_takes_long(tmp_path: Path) -> None:
    """SIGTERM while it recovers ends the process; it doesn't begin to serve afterwards."""
    with cold_server(sqlite_url(tmp_path)) as server:
        assert server.terminate() == 0
        with closing(sqlite3.connect(tmp_path / "ome.db", isolation_level=None)) as locked:
            locked.execute("BEGIN IMMEDIATE")
            process = server.spawn()
            lock = tmp_path / "ome.db.engine.lock"
            while "RECOVERING" not in server.output().rsplit("stopped", 1)[-1]:
                assert process.poll() is None
            assert lock.exists()
            process.send_signal(signal.SIGTERM)
            locked.execute("ROLLBACK")
            assert process.wait(30) == 0
            assert "RUNNING" not in server.output().rsplit("everything_durable", 2)[1]


def test_a_stop_that_cannot_save_everything_is_no_success(tmp_path: Path) -> None:
    """Exit status 75, within the time that stopping may take, when the database took nothing more."""
    settings = {"DRAIN_SEC": "1", "CLIENT_WAIT_SEC": "0.5"}
    with (
        cold_server(sqlite_url(tmp_path), **settings) as server,
        closing(sqlite3.connect(tmp_path / "ome.db")) as locked,
    ):
        locked.execute("BEGIN IMMEDIATE")
        answer = httpx.post(f"{server.url}/orders", json=ORDER, timeout=30)
        assert (answer.status_code, answer.json()["outcome"]) == (504, "unknown")
        assert server.process is not None
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 75
