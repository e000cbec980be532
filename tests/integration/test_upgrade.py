"""A database of an earlier version: upgraded, it has the same orders and hashes; an upgrade that is killed ends legally."""

from __future__ import annotations

import asyncio
import gzip
import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from random import Random

import httpx
import pytest

from ome.db.recovery import records
from ome.db.storage import open_storage
from ome.domain.ports import Recovered
from ome.domain.records import PositionRecord
from ome.engine.engine import Engine
from ome.verification import verify
from reference.holdings import Fill, assert_same_holdings
from reference.pictures import exact
from servers import running_server

REVISION_0001 = Path(__file__).resolve().parents[1] / "data" / "revision_0001.sql.gz"
"""200 commands of every kind, committed by the first released version on SQLite, as SQL; some orders are open."""
STATE_HASH = "3f30c59f7597c625"
POSITION = 200
KILLS = 3


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """An SQLite file as the first released version left it."""
    return made_in(tmp_path / "old.db")


def made_in(path: Path) -> Path:
    """The database of the first released version, in a new file."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(gzip.decompress(REVISION_0001.read_bytes()).decode())
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("0001",)]
        assert connection.execute("SELECT state_hash FROM engine").fetchall() == [(STATE_HASH,)]
    return path


async def loaded(path: Path) -> Recovered:
    """What an engine starts from."""
    storage = open_storage(f"sqlite:///{path}")
    try:
        await storage.repository.start()
        return await storage.repository.load()
    finally:
        await storage.close()


def open_orders(path: Path) -> list[tuple[object, ...]]:
    """The open orders, as the first version's columns have them."""
    columns = (
        "id, user_id, symbol, side, type, quantity, price, filled_quantity, remaining_quantity, status, priority, version, terms"
    )
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(f"SELECT {columns} FROM stored_orders WHERE status <= 2 ORDER BY id").fetchall()  # noqa: S608


def migration(path: Path) -> subprocess.Popen[bytes]:
    """`ome migrate`, started."""
    command = [sys.executable, "-m", "ome", "migrate", "--database-url", f"sqlite:///{path}"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


async def test_an_upgrade_keeps_every_order_and_the_state_hash(old: Path) -> None:
    """`ome migrate` brings it up to date; the journal, replayed by this version, makes exactly what is there."""
    before = open_orders(old)
    assert len(before) > 5
    with migration(old) as process:
        output, _ = await asyncio.to_thread(process.communicate)
        assert process.returncode == 0, output
    report = await asyncio.to_thread(verify, f"sqlite:///{old}")
    assert report.problems() == []
    assert [(shard.position, shard.state_hash) for shard in report.shards] == [(POSITION, STATE_HASH)]
    assert open_orders(old) == before
    recovered = await loaded(old)
    assert f"{Engine.restore(recovered.state).state_hash():016x}" == STATE_HASH


def test_the_service_upgrades_at_its_start_and_trades_on(old: Path) -> None:
    """Started on an old database it serves every open order, takes new ones, and the whole is still what the journal makes."""
    before = open_orders(old)
    with running_server(f"sqlite:///{old}") as server:
        for order_id, user_id, *_ in before:
            order = httpx.get(f"{server.url}/orders/{order_id}").json()
            assert (order["order_id"], order["user_id"]) == (str(order_id), user_id)
        order = {"user_id": "eve", "symbol": "NEW", "side": "BUY", "quantity": 1, "price": "1.00"}
        assert httpx.post(f"{server.url}/orders", json=order).status_code == 201
        assert server.terminate() == 0
    report = verify(f"sqlite:///{old}")
    assert report.problems() == []
    assert report.positions > POSITION


def test_positions_are_made_of_the_trades_that_are_there(old: Path) -> None:
    """The first start gives everybody the position that all trades so far have made; another start changes nothing."""
    for _ in range(2):
        with running_server(f"sqlite:///{old}") as server:
            assert server.terminate() == 0
        with closing(sqlite3.connect(old)) as connection:
            positions = records(
                connection.execute(
                    "SELECT user_id, symbol, quantity, cost, realised, volume FROM positions ORDER BY user_id, symbol"
                ),
                PositionRecord,
            )
            trades = connection.execute(
                "SELECT t.symbol, b.user_id, s.user_id, t.quantity, t.price FROM stored_trades t"
                " JOIN stored_orders b ON b.id = t.buy_order_id JOIN stored_orders s ON s.id = t.sell_order_id ORDER BY t.id"
            ).fetchall()
        fills = [Fill(symbol, buyer, seller, exact(quantity), exact(price)) for symbol, buyer, seller, quantity, price in trades]
        assert len(fills) > 20
        assert_same_holdings(fills, positions)
    assert verify(f"sqlite:///{old}").problems() == []


def test_an_upgrade_that_is_killed_is_done_by_the_next_start(tmp_path: Path) -> None:
    """Kill -9 at any time of a migration: the next one does all of it, or finds it done; nothing of it is half there."""
    started = time.monotonic()
    with migration(made_in(tmp_path / "whole.db")) as process:
        assert process.wait() == 0, process.stdout
    lasted, random = time.monotonic() - started, Random(5)
    for number in range(KILLS):
        path = made_in(tmp_path / f"killed{number}.db")
        before = open_orders(path)
        with migration(path) as process:
            try:
                process.wait(random.uniform(0.3, 1.0) * lasted)  # at its end it opens, checks and migrates
            except subprocess.TimeoutExpired:
                process.kill()
        with migration(path) as process:
            assert process.wait() == 0
        assert open_orders(path) == before
        report = verify(f"sqlite:///{path}")
        assert report.problems() == []
        assert [shard.state_hash for shard in report.shards] == [STATE_HASH]


def test_a_database_that_is_not_up_to_date_is_not_verified(old: Path) -> None:
    """Where the tables are an earlier version's the sentence says what to run; a newer version's are left alone."""
    with closing(sqlite3.connect(old)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    command = [sys.executable, "-m", "ome", "verify", "--database-url", f"sqlite:///{old}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode == 6
    assert "schema revision 9999, which this version of OME doesn't know" in done.stderr
