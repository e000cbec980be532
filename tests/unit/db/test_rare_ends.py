"""What seldom becomes of a database: each end is said in a sentence, and nothing is left half done."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import asyncpg
import pytest

import ome.db.engine_snapshots
import ome.db.history
import ome.db.sqlite
from ome.db.backup import dump_postgres
from ome.db.disk_reserve import _allocate
from ome.db.engine_snapshots import Parts
from ome.db.history import SqliteHistory, open_history, read_sqlite
from ome.db.postgres import PostgresSession
from ome.db.readers import IDLE_S, PostgresReader
from ome.db.recovery import EngineRow, Extent, Read, _OrderChecks, stored_rows
from ome.db.replica import Look, Replica
from ome.db.shard_map import StoredShardMap
from ome.db.sqlite import _Work
from ome.db.storage import open_storage
from ome.db.url import parse_url
from ome.domain.enums import OrderStatus, OrderType, SelfTradePrevention, Side, TimeInForce
from ome.domain.errors import InvariantBroken, StateMismatch, StorageUnusable
from ome.domain.records import OrderRecord
from ome.domain.shards import ShardMap
from ome.observability import Metrics
from unit.db.test_replica import FakeServer

POSTGRES = "postgresql://ome@127.0.0.1:1/ome"
EXTENT = Extent(None, None, 0, 0, None)


@pytest.fixture
async def file(tmp_path: Path) -> Path:
    """An SQLite file with this version's schema, which nobody has open."""
    path = tmp_path / "orders.db"
    storage = open_storage(f"sqlite:///{path}")
    await storage.repository.migrate()
    await storage.close()
    return path


def order(order_id: int, symbol: str, priority: int) -> OrderRecord:
    """An open order."""
    plain = (Side.BUY, OrderType.LIMIT, TimeInForce.GTC, 10, 1000, 0, "0", 10, OrderStatus.PENDING, None, 1)
    return OrderRecord(order_id, "ann", symbol, *plain, priority, SelfTradePrevention.NONE, None, None, 0, 0)


# Reading


def test_an_engine_row_that_went_is_said() -> None:
    """Between the fence and the reading nobody else may take it away."""
    with pytest.raises(StateMismatch, match="The engine row has gone"):
        stored_rows(Read(None, None, EXTENT, (), (), (), (), ()), [], [])


def test_orders_of_two_symbols_may_have_one_priority() -> None:
    """One symbol may have come from another shard, which counted by itself; within a symbol it is a contradiction."""
    row = EngineRow(0, 1, "i", 9, 0, 0, 9, b"", None, b"", 1)
    checks = _OrderChecks(0, row)
    checks.look_at([order(1, "AAA", 5), order(2, "AAA", 6), order(3, "BBB", 5)])
    checks.look_back()
    checks.look_at([order(4, "BBB", 5)])
    with pytest.raises(StateMismatch, match="Orders 3 and 4 have the same priority"):
        checks.look_back()


def test_a_file_that_was_opened_while_it_was_read_is_not_trusted(file: Path) -> None:
    """Without a WAL it is read as one that doesn't change: a change is noticed at the end."""
    with (
        pytest.raises(StorageUnusable, match=r"Somebody has opened .* Try again"),
        read_sqlite(file),
        closing(sqlite3.connect(file)) as other,
        other,
    ):
        other.execute("CREATE TABLE new_one (x)")


@pytest.mark.parametrize(("said", "adds"), [("database or disk is full", True), ("disk I/O error", False)])
def test_a_copy_that_has_no_room_says_where_it_is_made(
    file: Path, monkeypatch: pytest.MonkeyPatch, said: str, *, adds: bool
) -> None:
    """TMPDIR is what helps against a full disk, and against nothing else."""

    def fail(*_: object) -> None:
        raise StorageUnusable(said)

    monkeypatch.setattr(ome.db.history, "copy_sqlite", fail)
    with pytest.raises(StorageUnusable, match=said) as raised, open_history(f"sqlite:///{file}"):
        pass
    assert ("TMPDIR" in str(raised.value)) is adds


def test_damage_to_the_header_is_named_where_the_file_is_the_last_word(file: Path) -> None:
    """A first free page, and no free pages: SQLite reads past that. Beside a WAL the file's first page may be an old one."""

    def damage() -> list[str]:
        with read_sqlite(file) as connection:
            return SqliteHistory(connection, file)._header_damage()

    assert damage() == []
    with file.open("r+b") as pages:
        pages.seek(32)
        pages.write((7).to_bytes(4))
    assert damage() == ["The file's header has a wrong number of free pages."]
    with closing(sqlite3.connect(file)) as connection:
        history = SqliteHistory(connection, file)
        file.with_name(f"{file.name}-wal").touch()
        assert history._header_damage() == []


# Writing


def test_sqlite_that_promises_less_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DUR2: a journal that isn't a WAL, or a sync that isn't full, as on some network drives."""
    monkeypatch.setattr(ome.db.sqlite, "_FULL", 9)
    work = _Work(str(file), 0)
    with pytest.raises(StorageUnusable, match=r"durability that is promised .*Move it to a local disk"):
        work.open()
    work.close()
    monkeypatch.undo()
    work.open()  # the lock was given back
    work.close()


def test_space_is_kept_where_a_system_cannot_allocate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Zeros are written instead."""
    monkeypatch.delattr(os, "posix_fallocate", raising=False)
    with (tmp_path / "reserve").open("wb") as reserve:
        _allocate(reserve.fileno(), 4096)
    assert (tmp_path / "reserve").read_bytes() == bytes(4096)


def test_many_orders_make_several_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A snapshot's parts are bounded, and hold every order once."""
    monkeypatch.setattr(ome.db.engine_snapshots, "ORDERS_IN_A_PART", 2)
    parts = Parts()
    for number in range(5):
        parts.add([tuple(getattr(order(number, "AAA", number), name) for name in OrderRecord.__struct_fields__)])
    assert (parts.orders, len(parts.done())) == (5, 3)


def test_a_dump_needs_no_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that asks for none is sent none, not even an empty one."""
    program = tmp_path / "pg_dump"
    program.write_text(f'#!/bin/sh\necho "${{PGPASSWORD-none}}" > {tmp_path}/told\n')
    program.chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("PGPASSWORD", raising=False)
    dump_postgres(parse_url(POSTGRES), "00000003-1", tmp_path / "backup")
    assert (tmp_path / "told").read_text() == "none\n"


# PostgreSQL


def test_a_batch_that_the_driver_refuses_is_a_bug() -> None:
    """It was never sent: trying it again would come to the same. A lost connection isn't one."""
    session = PostgresSession(parse_url(POSTGRES), 0, 3.0, lambda: None)
    final = session.final(ValueError("invalid input for query argument $1"))
    assert isinstance(final, InvariantBroken)
    assert "can't be sent to PostgreSQL" in str(final)
    assert session.final(OSError("reset")) is None
    bug = KeyError("no such column")
    assert session.final(bug) is bug
    with pytest.raises(asyncpg.InterfaceError, match="the connection was lost"):
        session._connected()


class Kept:
    """A connection that can be ended."""

    def __init__(self) -> None:
        self.is_ended = False

    def terminate(self) -> None:
        """See asyncpg."""
        self.is_ended = True


async def test_connections_that_were_idle_for_long_are_not_used_again() -> None:
    """A server, or something on the way to it, may have dropped them without a word."""
    reader = PostgresReader(POSTGRES, 2)
    now = asyncio.get_running_loop().time()
    old, older, fresh = (cast("Any", Kept()) for _ in range(3))
    reader._idle[:] = [(older, now - 9 * IDLE_S), (old, now - 2 * IDLE_S)]
    assert reader._kept() is None
    assert (old.is_ended, older.is_ended) == (True, True)
    reader._idle.append((fresh, now))
    assert reader._kept() is fresh
    await reader.close()


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (None, "The cluster's row has gone"),
        (ShardMap("name", 1, 3, {}), r"is a cluster of 3 shards, not of 2: say --shard i/3"),
    ],
)
async def test_an_engine_of_another_number_of_shards_is_refused(
    monkeypatch: pytest.MonkeyPatch, found: ShardMap | None, sentence: str
) -> None:
    """Each would have a map of its own, and a symbol two engines."""

    async def read(_self: StoredShardMap, _make: int | None) -> ShardMap | None:
        return found

    monkeypatch.setattr(StoredShardMap, "_read", read)
    with pytest.raises(StorageUnusable, match=sentence):
        await StoredShardMap(POSTGRES).join(2)


def test_a_map_of_shards_is_in_postgresql() -> None:
    """A SQLite file has one engine, and no map."""
    with pytest.raises(StorageUnusable, match="PostgreSQL"):
        StoredShardMap("sqlite:///orders.db")


# A read replica


async def test_whoever_stops_while_a_server_is_asked_waits_for_no_answer() -> None:
    """What is asked is given up; whoever waited hears that, and nothing is reported as forgotten."""
    server, asked = FakeServer(7), asyncio.Event()

    async def never(sql: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        del sql, parameters
        asked.set()
        await asyncio.Event().wait()
        return []

    server.fetch = never  # type: ignore[method-assign]
    look = Look(server)
    first = look.begin()
    await asked.wait()
    second = look.begin()
    await look.close()
    assert (first.cancelled(), second.cancelled()) == (True, True)


async def test_a_replica_that_was_never_watched_can_be_closed() -> None:
    """As when a start fails before it."""
    await Replica(FakeServer(7), FakeServer(7), Metrics()).close()
