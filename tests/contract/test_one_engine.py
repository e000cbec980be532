"""At most one engine commits: locks warn early, the fence decides, and an unclear commit is resolved without doubling."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from databases import Database
from factories import a_batch, an_order, resting_batch, trading_batch
from ome.db.postgres import PostgresSession
from ome.db.sqlite import SqliteSession
from ome.db.storage import Storage, open_storage
from ome.domain.errors import DiskFailed, EngineRunning, Fenced, InvariantBroken, StorageUnusable


@pytest.fixture(autouse=True)
def no_long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks at an unclear commit follow each other quickly."""
    monkeypatch.setattr("ome.db.repository.FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr("ome.db.postgres.LOCK_WAIT_S", 0.3)


def a_connection_error(storage: Storage) -> Exception:
    """What the driver raises when the disk or the network gives up in a commit."""
    if isinstance(storage.repository._session, PostgresSession):
        return asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_WRITE
    return error


def failing(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, *, times: int, after: bool, error: Exception | None = None
) -> list[str]:
    """Let the first `times` commits raise, `after` having happened or instead of it; the list says what was called."""
    session: Any = storage.repository._session
    calls: list[str] = []

    def around(name: str, real: Callable[..., Awaitable[bool]]) -> Callable[..., Awaitable[bool]]:
        async def call(change: Any) -> bool:
            calls.append(name)
            if len(calls) > times:
                return await real(change)
            if after and name == "apply":
                await real(change)
            raise error or a_connection_error(storage)

        return call

    for name in ("apply", "resolve"):
        monkeypatch.setattr(session, name, around(name, getattr(session, name)))
    return calls


async def test_a_second_engine_is_refused_and_the_first_unharmed(storage: Storage, database: Database) -> None:
    """The second is told that one is running and what to do; the first goes on committing."""
    second = open_storage(database.url)
    with pytest.raises(EngineRunning, match="Stop it first, or name another database"):
        await second.repository.start()
    await second.close()
    await storage.repository.commit(resting_batch(1, 2))
    assert await database.scalar("SELECT epoch FROM engine") == 1


async def test_the_lock_is_free_again_after_close(storage: Storage, database: Database) -> None:
    """The next engine starts at once, one epoch later."""
    await storage.close()
    second = open_storage(database.url)
    await second.repository.start()
    assert second.repository.epoch == 2
    await second.close()


async def test_an_engine_that_was_fenced_out_writes_nothing(storage: Storage, database: Database) -> None:
    """When another engine has taken a later epoch, the earlier one's commit raises Fenced and leaves no row."""
    await storage.repository.commit(resting_batch(1, 2))
    await database.fetch("UPDATE engine SET epoch = epoch + 1")
    before = await database.counts()
    with pytest.raises(Fenced, match="Another engine has taken over shard 0"):
        await storage.repository.commit(trading_batch(3, 1))
    assert await database.counts() == before
    assert await database.scalar("SELECT position FROM engine") == 2
    with pytest.raises(StorageUnusable, match="a commit has failed for good"):
        await storage.repository.commit(trading_batch(3, 1))


async def test_a_head_with_another_past_is_not_committed_on(storage: Storage, database: Database) -> None:
    """The compare-and-set looks at the chain too: the same position with another history behind it is another engine's."""
    await storage.repository.commit(resting_batch(1, 1))
    await database.fetch("UPDATE engine SET chain_hash = (SELECT chain_before FROM journal)")
    with pytest.raises(Fenced):
        await storage.repository.commit(resting_batch(2, 1))
    assert await storage.reads.order(2) is None


async def test_two_engines_past_the_lock_are_told_apart_by_the_fence(
    storage: Storage, database: Database, monkeypatch: Any
) -> None:
    """Without any lock (its file deleted, a pooler in between) the later engine commits, the earlier one no more."""

    async def always(_: Any) -> bool:
        return True

    monkeypatch.setattr(PostgresSession, "_try_lock", always)
    monkeypatch.setattr("ome.db.sqlite.fcntl.flock", lambda *_: None)
    await database.fetch("DELETE FROM lease")
    second = open_storage(database.url)
    await second.repository.start()
    try:
        with pytest.raises(Fenced):
            await storage.repository.commit(resting_batch(1, 2))
        await second.repository.commit(resting_batch(1, 1))
    finally:
        await second.close()
    assert await database.scalar("SELECT count(*) FROM stored_orders") == 1


async def test_a_fenced_engine_refuses_to_load(storage: Storage, database: Database) -> None:
    """An engine that lost the fence between its start and its load doesn't begin."""
    await database.fetch("UPDATE engine SET epoch = epoch + 1")
    with pytest.raises(Fenced):
        await storage.repository.load()


@pytest.mark.parametrize("after", [True, False], ids=["it happened", "it did not happen"])
async def test_an_unclear_commit_is_resolved_without_doubling(
    database: Database, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    """Whether a commit that raised took place or not: the batch is there once, and the next one follows it."""
    stalled: list[bool] = []
    storage = open_storage(database.url, stalled=stalled.append)
    await storage.repository.start()
    try:
        await storage.repository.commit(resting_batch(1, 2))
        calls = failing(storage, monkeypatch, times=3, after=after)
        await storage.repository.commit(trading_batch(3, 1))
        assert calls == ["apply", "resolve", "resolve", "resolve"]
        assert stalled == [True, False]
        await storage.repository.commit(trading_batch(5, 2))
        assert await database.counts() == [6, 2, 0, 0, 0, 3, 3, 6, 0, 0]
        assert (await storage.repository.load()).state.position == 6
    finally:
        await storage.close()


async def test_a_person_who_leaves_the_database_takes_nothing_along(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unclear commit is looked up over a new connection; the locks of the readers' survive that, so that another program that
    closes the database isn't the last and leaves the WAL alone.
    """
    if database.kind != "sqlite":
        pytest.skip("SQLite alone has its locks in the file")
    path = database.url.removeprefix("sqlite:///")
    storage = open_storage(database.url)
    await storage.repository.start()
    try:
        await storage.reads.order(1)
        failing(storage, monkeypatch, times=1, after=False)
        await storage.repository.commit(resting_batch(1, 2))
        visit = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('SELECT * FROM engine').fetchall(); c.close()"
        await asyncio.to_thread(subprocess.run, [sys.executable, "-c", visit, path], check=True)
        await storage.repository.commit(trading_batch(3, 1))
        counted = "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute('SELECT position FROM engine').fetchone()[0])"
        seen = await asyncio.to_thread(subprocess.check_output, [sys.executable, "-c", counted, path])
        assert int(seen) == 4
    finally:
        await storage.close()


async def test_an_unclear_commit_after_which_another_took_over_is_fenced(
    storage: Storage, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row is neither the one before nor the one after: nobody is told that it didn't happen, the engine stops."""
    failing(storage, monkeypatch, times=1, after=True)
    real = storage.repository._session.resolve

    async def taken_over(change: Any) -> bool:
        await database.fetch("UPDATE engine SET epoch = epoch + 1")
        return await real(change)

    monkeypatch.setattr(storage.repository._session, "resolve", taken_over)
    with pytest.raises(Fenced):
        await storage.repository.commit(resting_batch(1, 2))


async def test_a_batch_that_no_database_would_take_is_a_bug(storage: Storage, database: Database) -> None:
    """An integrity error or a value out of range isn't tried again: it is raised, and nothing of the batch is there."""
    same = [an_order(1, client_order_id="x"), an_order(2, client_order_id="x")]
    with pytest.raises(InvariantBroken):
        await asyncio.wait_for(storage.repository.commit(a_batch(1, 2, orders=same)), 20)
    assert sum(await database.counts()) == 0
    assert await database.scalar("SELECT position FROM engine") == 0


async def test_a_number_beyond_64_bits_is_a_bug(storage: Storage, database: Database) -> None:
    """The drivers refuse it before anything is sent; nothing is there."""
    with pytest.raises((InvariantBroken, OverflowError)):
        await asyncio.wait_for(storage.repository.commit(a_batch(1, 1, orders=[an_order(1, quantity=2**63)])), 20)
    assert sum(await database.counts()) == 0


async def test_a_commit_that_waits_for_a_lock_is_made_in_the_end(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else's lock, and on PostgreSQL a backend that is killed while it waits, end in one commit."""
    monkeypatch.setattr("ome.db.sqlite.BUSY_TIMEOUT_MS", 1)
    stalled = asyncio.Event()
    storage = open_storage(database.url, stalled=lambda now: stalled.set() if now else None)
    await storage.repository.start()
    try:
        if database.kind == "sqlite":
            await _commit_against_a_busy_file(storage, database, stalled)
        else:
            await _commit_against_a_killed_backend(storage, database, stalled)
        assert (await storage.repository.load()).state.position == 2
        assert await database.scalar("SELECT count(*) FROM stored_orders") == 2
        assert await database.scalar("SELECT count(*) FROM journal") == 1
    finally:
        await storage.close()


async def _commit_against_a_busy_file(storage: Storage, database: Database, stalled: asyncio.Event) -> None:
    other = sqlite3.connect(database.url.removeprefix("sqlite:///"), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    commit = asyncio.create_task(storage.repository.commit(resting_batch(1, 2)))
    await asyncio.wait_for(stalled.wait(), 20)
    assert not commit.done()
    other.execute("ROLLBACK")
    other.close()
    await asyncio.wait_for(commit, 20)


async def _commit_against_a_killed_backend(storage: Storage, database: Database, stalled: asyncio.Event) -> None:
    session = storage.repository._session
    assert isinstance(session, PostgresSession)
    assert session._connection is not None
    pid = session._connection.get_server_pid()
    other = await asyncpg.connect(database.url)
    transaction = other.transaction()
    await transaction.start()
    await other.execute("SELECT * FROM engine FOR UPDATE")
    commit = asyncio.create_task(storage.repository.commit(resting_batch(1, 2)))
    while not await other.fetchval("SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $1", pid):
        await other.execute("SELECT pg_stat_clear_snapshot()")
    await other.execute("SELECT pg_terminate_backend($1)", pid)
    await asyncio.wait_for(stalled.wait(), 20)
    await transaction.rollback()
    await other.close()
    await asyncio.wait_for(commit, 20)


async def test_a_disk_that_cannot_flush_ends_the_engine(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed fsync on SQLite isn't tried again: it has an exit code of its own, 74."""
    if not isinstance(storage.repository._session, SqliteSession):
        pytest.skip("PostgreSQL itself stops when it can't flush")
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
    failing(storage, monkeypatch, times=1, after=False, error=error)
    with pytest.raises(DiskFailed) as raised:
        await storage.repository.commit(resting_batch(1, 1))
    assert raised.value.exit_code == 74
