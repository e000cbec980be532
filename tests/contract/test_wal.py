"""SQLite's WAL between commits: it is copied and begun anew, also beside a long reader once that has gone."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from factories import resting_batch
from ome.db.sqlite import SqliteSession, _flush_again
from ome.db.storage import open_storage
from ome.domain.errors import DiskFailed, StorageError


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at the WAL all the time."""
    monkeypatch.setattr("ome.db.sqlite.UPKEEP_S", 0.01)


def is_copied(path: Path) -> bool:
    """Whether the file has all the pages of the database; it is not opened, since that would take locks away."""
    with closing(sqlite3.connect(path)) as connection:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        (page_size,) = connection.execute("PRAGMA page_size").fetchone()
    return bool(path.stat().st_size == pages * page_size)


async def test_a_wal_is_copied_when_nothing_is_written(tmp_path: Path) -> None:
    """Soon after the last commit the file holds everything, and no commit did that."""
    path = tmp_path / "orders.db"
    storage = open_storage(f"sqlite:///{path}")
    await storage.repository.start()
    await storage.repository.commit(resting_batch(1, 5))
    while not is_copied(path):
        await asyncio.sleep(0.01)
    assert is_copied(path), "and stays so"
    await storage.close()


async def test_a_wal_is_begun_anew_and_a_long_reader_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Beside a reader in its middle it grows, which is said; without one it is short again."""
    monkeypatch.setattr("ome.db.sqlite.WAL_BYTES", 1)
    monkeypatch.setattr("ome.db.sqlite.LONG_WAL_BYTES", 1)
    path = tmp_path / "orders.db"
    measured: list[int] = []
    storage = open_storage(f"sqlite:///{path}", measured=lambda wal, _: measured.append(wal))
    await storage.repository.start()
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM engine").fetchall()
        for number in range(5):
            await storage.repository.commit(resting_batch(1 + number * 50, 50))
        while "reading the database for long keeps it" not in caplog.text:
            await asyncio.sleep(0.01)
        while len(measured) < 5 or not measured[-1]:
            await asyncio.sleep(0.01)
        long = measured[-1]
        reader.execute("ROLLBACK")
    while not is_copied(path):
        await asyncio.sleep(0.01)
    position = 251
    while measured[-1] >= long:
        await storage.repository.commit(resting_batch(position, 1))
        position += 1
        await asyncio.sleep(0.02)
    await storage.close()


async def test_a_flush_that_fails_between_commits_ends_the_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit status 74 as for one inside a commit: what the system has in memory may never reach the disk."""
    told: asyncio.Future[StorageError] = asyncio.get_running_loop().create_future()
    storage = open_storage(f"sqlite:///{tmp_path}/orders.db", failed=told.set_result)
    await storage.repository.start()
    session = storage.repository._session
    assert isinstance(session, SqliteSession)

    def fail() -> None:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
        raise error

    monkeypatch.setattr(session._copier, "copy", fail)
    await storage.repository.commit(resting_batch(1, 1))
    error = await asyncio.wait_for(told, 20)
    assert (type(error), error.exit_code) == (DiskFailed, 74)
    await storage.close()


async def test_a_flush_that_fails_beside_the_batches_ends_the_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Candles and snapshots are written to the same disk: whoever writes them is refused, and the engine hears of it (74)."""
    told: list[StorageError] = []
    storage = open_storage(f"sqlite:///{tmp_path}/orders.db", failed=told.append)
    await storage.repository.start()
    session = storage.repository._session
    assert isinstance(session, SqliteSession)
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC

    def fails(*_: object) -> bool:
        raise error

    monkeypatch.setattr(session._work, "write_beside", fails)
    with pytest.raises(sqlite3.OperationalError):
        await session.write(None, [])
    assert [(type(each), each.exit_code) for each in told] == [(DiskFailed, 74)]
    await storage.close()


async def test_after_a_flush_that_failed_the_wal_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What SQLite has copied it counts as done, flushed or not; when the flush fails the WAL alone has it. So nothing is written
    or copied any more, and closing doesn't delete it: the next start copies all of it.
    """
    path = tmp_path / "orders.db"
    told: list[StorageError] = []
    storage = open_storage(f"sqlite:///{path}", failed=told.append)
    await storage.repository.start()
    session = storage.repository._session
    assert isinstance(session, SqliteSession)

    def fails(*_: object) -> None:
        with session._work.flushing():
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
            raise error

    monkeypatch.setattr(session._copier, "copy", fails)
    await storage.repository.commit(resting_batch(1, 5))
    while not told:
        await asyncio.sleep(0.01)
    with pytest.raises(DiskFailed):
        await storage.repository.commit(resting_batch(6, 5))
    await storage.close()
    assert path.with_name("orders.db-wal").stat().st_size > 0
    again = open_storage(f"sqlite:///{path}")
    await again.repository.start()
    assert (await again.repository.load()).state.position == 5
    await again.close()


async def test_a_start_flushes_the_wal_before_it_copies_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """HOLE1b: what the system shows of the WAL may not be on the disk, so it is written again; if it can't be, status 74."""
    path = tmp_path / "orders.db"
    wal = path.with_name("orders.db-wal")
    wal.write_bytes(b"not a log, and as it was afterwards" * 50_000)
    before = wal.read_bytes()
    flushed: list[int] = []
    monkeypatch.setattr("ome.db.sqlite.os.fsync", flushed.append)
    _flush_again(wal)
    assert (len(flushed), wal.read_bytes()) == (1, before)

    def fails(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("ome.db.sqlite.os.fsync", fails)
    with pytest.raises(DiskFailed, match="could not flush"):
        await open_storage(f"sqlite:///{path}").repository.start()


async def test_a_flush_that_fails_at_the_start_is_told_before_the_fence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """HOLE1b: the WAL must be in the file before anything is written; exit status 74 with advice, and no epoch is taken."""
    url = f"sqlite:///{tmp_path}/orders.db"
    storage = open_storage(url)
    await storage.repository.start()
    await storage.close()
    again = open_storage(url)
    session = again.repository._session
    assert isinstance(session, SqliteSession)

    def fail() -> None:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
        raise error

    monkeypatch.setattr(session._work, "_checkpoint", fail)
    with pytest.raises(DiskFailed, match="Copy the database to another disk"):
        await again.repository.start()
    monkeypatch.undo()
    await again.repository.start()
    assert again.repository.epoch == 2
    await again.close()
