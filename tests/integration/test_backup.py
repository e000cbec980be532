"""The restore drill: a backup under load, restored, verified, with the hashes of the original, and served."""

# ruff: noqa: S608, ASYNC240  the SQL is ours, and a test may wait for a folder

from __future__ import annotations

import asyncio
import json
import os
import re
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from faults.load import Load, loaded
from faults.oracle import Findings, Reader, judge_book
from histories import write_history
from ome.domain.commands import decode_commands
from ome.engine.engine import Engine
from ome.verification import verify
from postgres import NOT_FOUND, execute, find_binaries, with_database
from servers import running_server, sqlite_url

CLIENTS = 4
BEFORE = 60
"""Orders that are acknowledged before the backup begins."""


def ome(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command run to its end."""
    command = [sys.executable, "-m", "ome", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=100, env=os.environ | environment)


async def backed_up_under_load(
    database_url: str, server_url: str, file: Path, environment: dict[str, str]
) -> list[dict[str, Any]]:
    """Back up while clients trade, and let them trade on; the answers that were there when the backup began."""
    load = Load(int(server_url.rpartition(":")[2]), "backup", clients=CLIENTS)
    async with loaded(load):
        while load.ledger.acknowledged < BEFORE:
            await load.acknowledge_next()
        before = [page.order for page in load.ledger.pages.values() if page.order is not None]
        done = await asyncio.to_thread(ome, "backup", str(file), **({"DATABASE_URL": database_url} | environment))
        assert done.returncode == 0, done.stderr + done.stdout
        assert await load.acknowledge_next()  # the service never stopped for it
        await load.stop()
    assert load.ledger.unknown == 0
    return before


async def state_hash_at(database_url: str, position: int) -> str:
    """The state hash that the journal of a database makes at a position."""
    engine = Engine()
    rows = await Reader(database_url).rows(
        f"SELECT commands FROM journal WHERE last_position <= {position} ORDER BY last_position"
    )
    for (commands,) in rows:
        for stamped in decode_commands(commands):
            engine.apply(stamped)
    assert engine.position == position
    return f"{engine.state_hash():016x}"


async def check_restored(original: str, restored: str, before: list[dict[str, Any]]) -> None:
    """The restored database is sound, is the original as it was at its position, and trades on."""
    report = await asyncio.to_thread(verify, restored)
    assert report.problems() == []
    (shard,) = report.shards
    assert shard.state_hash == await state_hash_at(original, shard.position)
    chain = await Reader(original).rows(f"SELECT chain_hash FROM journal WHERE last_position = {shard.position}")
    assert bytes(chain[0][0]).hex() == shard.chain_hash
    with running_server(restored) as server:
        findings = Findings()
        await judge_book(Reader(restored), server.port, findings)
        assert findings.sentences == []
        async with httpx.AsyncClient(base_url=server.url) as client:
            for answer in before:
                found = await client.get(f"/orders/{answer['order_id']}")
                assert found.json()["client_order_id"] == answer["client_order_id"]
            order = {"user_id": "ann", "symbol": "AAA", "side": "BUY", "quantity": 1, "price": "1.00"}
            assert (await client.post("/orders", json=order)).status_code == 201
    report = await asyncio.to_thread(verify, restored)
    assert report.problems() == []
    assert report.positions > shard.position
    assert [each.epoch for each in report.shards] == [shard.epoch + 1]


async def test_restore_drill_on_sqlite(tmp_path: Path) -> None:
    """A backup taken under load holds all that was acknowledged before it, with the original's hashes; it is a history of its
    own, so it has an incarnation of its own (HOLE12).
    """
    url, file = sqlite_url(tmp_path), tmp_path / "backup.db"
    with running_server(url) as server:
        before = await backed_up_under_load(url, server.url, file, {})
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    restored = f"sqlite:///{file}"
    incarnations = [(await Reader(each).rows("SELECT incarnation FROM engine"))[0][0] for each in (url, restored)]
    assert incarnations[0] != incarnations[1]
    await check_restored(url, restored, before)
    assert not list(tmp_path.glob(".backup*"))


async def test_restore_drill_on_postgresql(postgres_url: str, tmp_path: Path) -> None:
    """The same with pg_dump and pg_restore, of the snapshot that was verified."""
    binaries = find_binaries()
    if binaries is None or not (binaries / "pg_restore").exists():
        pytest.skip(NOT_FOUND)
    file = tmp_path / "backup.dump"
    with running_server(postgres_url) as server:
        path = {"PATH": f"{binaries}:{os.environ['PATH']}"}
        before = await backed_up_under_load(postgres_url, server.url, file, path)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    name = f"{postgres_url.rpartition('/')[2]}_restored"
    restored = with_database(postgres_url, name)
    await execute(postgres_url, f"CREATE DATABASE {name}")
    try:
        command = [str(binaries / "pg_restore"), "--no-owner", f"--dbname={restored}", str(file)]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        await check_restored(postgres_url, restored, before)
    finally:
        await execute(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


def test_a_backup_overwrites_nothing(tmp_path: Path) -> None:
    """A file that is there stays as it is, also a folder; nothing is left of the attempt."""
    asyncio.run(write_history(f"sqlite:///{tmp_path}/ome.db", 20))
    taken = tmp_path / "taken"
    taken.write_text("mine")
    done = ome("backup", str(taken), "--database-url", f"sqlite:///{tmp_path}/ome.db")
    assert (done.returncode, taken.read_text()) == (2, "mine")
    assert "exists; name a new file" in done.stderr
    nowhere = ome("backup", str(tmp_path / "no" / "file"), "--database-url", f"sqlite:///{tmp_path}/ome.db")
    assert nowhere.returncode == 6
    assert "No file can be made" in nowhere.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"ome.db", "ome.db.engine.lock", "taken"}


def test_a_backup_of_a_damaged_database_is_kept_and_said_to_be_so(tmp_path: Path) -> None:
    """Exit status 1 and the difference in a sentence: it may be the best there is."""
    asyncio.run(write_history(f"sqlite:///{tmp_path}/ome.db", 60))
    with closing(sqlite3.connect(tmp_path / "ome.db")) as connection, connection:
        connection.execute(
            "UPDATE stored_orders SET filled_quantity = filled_quantity + 10 WHERE id = (SELECT max(id) FROM stored_orders)"
        )
    done = ome("backup", str(tmp_path / "copy.db"), "--database-url", f"sqlite:///{tmp_path}/ome.db")
    assert done.returncode == 1
    assert re.search(
        r"^  Order \d+, filled_quantity: stored is \d+ \(\d+\), the replay gives \d+ \(\d+\)\.$", done.stdout, re.MULTILINE
    )
    assert (tmp_path / "copy.db").exists()


def test_verify_speaks_json(tmp_path: Path) -> None:
    """`ome verify --json` is one object, with what was compared and every difference; the status says whether there is one."""
    url = f"sqlite:///{tmp_path}/ome.db"
    asyncio.run(write_history(url, 60))
    sound = ome("verify", "--json", DATABASE_URL=url)
    report = json.loads(sound.stdout)
    assert (sound.returncode, report["ok"], report["positions"], report["differences"]) == (0, True, 60, [])
    with closing(sqlite3.connect(tmp_path / "ome.db")) as connection, connection:
        connection.execute("DELETE FROM event_orders")
    edited = ome("verify", "--json", "--database-url", url)
    assert (edited.returncode, json.loads(edited.stdout)["differences"][0]["table"]) == (1, "event_orders")


@pytest.mark.parametrize("name", ["missing.db", "text.db", "empty.db"])
def test_what_is_no_database_is_said_in_a_sentence(tmp_path: Path, name: str) -> None:
    """Exit status 6: a path that leads nowhere, a file of something else, a database without our tables."""
    (tmp_path / "text.db").write_text("not a database at all" * 100)
    sqlite3.connect(tmp_path / "empty.db").close()
    done = ome("verify", "--database-url", f"sqlite:///{tmp_path / name}")
    assert done.returncode == 6
    assert done.stderr.startswith("ome: ")
    assert "DATABASE_URL" in done.stderr
