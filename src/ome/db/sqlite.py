"""SQLite, as one durable writing session: a connection that one thread owns for its life, a whole commit in one call on it.

WAL with synchronous=FULL, both set and read back at each connect: a commit is on the disk when it returns. While the session is
open an exclusive lock on `<file>.engine.lock` keeps a second engine away; the system gives it back when the process ends.
At start the WAL is copied into the file and truncated before anything else is written (a crash may have left frames in it that
the disk never got), and again at close. In between it is copied twice a second, between commits, never inside one: most of it by
a second connection while commits go on, the rest by the writer, so that the next commit begins the WAL anew. Readers in their
middle put that off.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import sqlite3
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final, Protocol, TypeVar

from sqlalchemy import StaticPool, create_engine
from sqlalchemy.exc import DBAPIError

from ome.db import statements
from ome.db.beside import Write
from ome.db.disk_reserve import DiskReserve
from ome.db.migrate import FOUND, is_newest, migrate
from ome.db.order_stream import open_orders
from ome.db.recovery import Extent, PositionsOfTrades, Read, Stored, lacks_positions, records, shard_ids, stored_rows
from ome.db.statements import SQLITE, Change, Head
from ome.domain.errors import DiskFailed, EngineRunning, InvariantBroken, StorageAway, StorageError, StorageUnusable
from ome.domain.records import OrderRecord

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

BUSY_TIMEOUT_MS: Final = 1_000
"""How long a statement waits for somebody else's write lock, such as a person's at a SQL prompt; then it is tried again, and said
that the database doesn't answer. Stopping waits for as long, too.
"""
UPKEEP_S: Final = 0.5
"""Seconds between two looks at the WAL and the disk."""
WAL_BYTES: Final = 16 * 1024 * 1024
"""What a WAL is cut to when it is begun anew: one that stays short is written over, which costs less than to lengthen it."""
LONG_WAL_BYTES: Final = 128 * 1024 * 1024
"""At this length something keeps the WAL from being begun anew; that is said, once a minute."""
_ALARM_S: Final = 60.0
CACHE_KIB: Final = 64 * 1024
"""Memory for pages, so that index pages aren't read again."""
_FULL: Final = 2
_LOCKED_BYTE: Final = 64
"""Behind the process id in the lock file, so that it can be read while it is locked (on Windows, where a byte is locked)."""
_FLUSH_FAILED: Final = frozenset({sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC})
_PASSING: Final = frozenset(
    {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN}
    | {sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_PERM}
)
"""Primary error codes that may pass by themselves."""
_PASSING_AT_START: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_NOMEM})
"""Those of them that are waited for at start; the others are told at once to whoever has just started it."""

_PIECE_BYTES: Final = 1 << 20
"""What is read and written over again at once."""

_T = TypeVar("_T")
_log = logging.getLogger(__name__)


class Watcher(Protocol):
    """Who hears of the disk, on the event loop."""

    def space_is_low(self, low: bool, /) -> None:  # noqa: FBT001  its one argument
        """Whether there is too little space for new orders."""

    def measured(self, wal_bytes: int, free_bytes: int, /) -> None:
        """How long the WAL is and how much of the disk is free."""

    def failed(self, error: StorageError, /) -> None:
        """The engine must stop."""


class SqliteSession:
    """The `Session` of an SQLite file, for the event loop: each call is one call of `_Work` on its thread."""

    durability = "full"

    def __init__(self, path: str, shard: int, reserve: DiskReserve, watcher: Watcher) -> None:
        self._work = _Work(path, shard)
        self._copier = _Copier(self._work)
        self._reserve = reserve
        self._watcher = watcher
        self._thread: ThreadPoolExecutor | None = None
        self._copying: ThreadPoolExecutor | None = None
        self._upkeep: asyncio.Task[None] | None = None
        self._writes = 0
        self._alarm_at = 0.0

    async def open(self) -> None:
        """Lock, connect, check durability."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ome-sqlite-writer")
        with _starting():
            await self._on_thread(self._work.open)

    async def migrate(self) -> None:
        """Empty the WAL, migrate; see `repository.Session`."""
        with _starting():
            await self._on_thread(self._work.migrate)

    async def fence(self) -> Head:
        """Empty the WAL, migrate, take the fence; see `repository.Session`."""
        with _starting():
            head = await self._with_room(self._work.fence)
        await self._look_at_disk()
        self._copying = ThreadPoolExecutor(1, thread_name_prefix="ome-sqlite-checkpoint")
        self._upkeep = asyncio.create_task(self._keep_up(), name="upkeep")
        return head

    async def load(self) -> Stored:
        """See `repository.Session`."""
        return await self._on_thread(self._work.load)

    async def apply(self, change: Change) -> bool:
        """See `repository.Session`."""
        self._writes += 1
        return await self._with_room(lambda: self._work.apply(change))

    async def resolve(self, change: Change) -> bool:
        """See `repository.Session`."""
        return await self._with_room(lambda: self._work.resolve(change))

    async def close(self) -> None:
        """Checkpoint, close, unlock; the second time it does nothing."""
        upkeep, self._upkeep = self._upkeep, None
        if upkeep is not None:
            upkeep.cancel()
            await asyncio.wait([upkeep])
        copying, self._copying = self._copying, None
        if copying is not None:
            await asyncio.get_running_loop().run_in_executor(copying, self._copier.close)
            copying.shutdown()
        thread = self._thread
        if thread is not None:
            closing = self._on_thread(self._work.close)
            self._thread = None  # whatever comes after finds it closed, also a commit that is still being resolved
            await closing
            thread.shutdown()

    async def write(self, guard: Write | None, writes: Sequence[Write]) -> bool:
        """See `beside.Beside`: in its turn on the thread."""
        self._writes += 1
        try:
            return await self._on_thread(lambda: self._work.write_beside(guard, writes))
        except sqlite3.Error as error:
            final = _final(error)
            if isinstance(final, StorageError):  # the next commit would be made on the same disk
                self._watcher.failed(final)
            raise

    def final(self, error: Exception) -> Exception | None:
        """See `repository.Session`."""
        return _final(error)

    async def _with_room(self, call: Callable[[], _T]) -> _T:
        """Do it, and where the disk is full make room for the next attempt."""
        try:
            return await self._on_thread(call)
        except sqlite3.OperationalError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL:
                await self._on_thread(self._reserve.give_back)
                self._watcher.space_is_low(True)  # noqa: FBT003  its one argument
            raise

    async def _keep_up(self) -> None:
        """Between commits: copy the WAL, look at the disk."""
        loop = asyncio.get_running_loop()
        copied = 0
        while True:
            await asyncio.sleep(UPKEEP_S)
            try:
                self._warn_of(await self._look_at_disk())
                if (written := self._writes) > copied:
                    await loop.run_in_executor(self._copying, self._copier.copy)
                    if await self._on_thread(self._work.copy_rest):
                        copied = written
            except sqlite3.Error as error:
                final = _final(error)
                if isinstance(final, StorageError):
                    self._watcher.failed(final)
                    return
                _log.warning("the WAL could not be copied: %s", error)
            except OSError as error:
                _log.warning("the disk could not be looked at: %s", error)

    async def _look_at_disk(self) -> int:
        free_bytes, wal_bytes = await self._on_thread(lambda: (self._reserve.look(), self._work.wal_bytes()))
        self._watcher.measured(wal_bytes, free_bytes)
        self._watcher.space_is_low(self._reserve.is_low)
        return wal_bytes

    def _warn_of(self, wal_bytes: int) -> None:
        now = asyncio.get_running_loop().time()
        if wal_bytes > LONG_WAL_BYTES and now > self._alarm_at:
            self._alarm_at = now + _ALARM_S
            _log.warning("the WAL has %d bytes; a program that has been reading the database for long keeps it", wal_bytes)

    def _on_thread(self, call: Callable[[], _T]) -> asyncio.Future[_T]:
        if self._thread is None:
            raise StorageUnusable("The database is closed.")
        return asyncio.get_running_loop().run_in_executor(self._thread, call)


class _Copier:
    """Copies the WAL over a connection of its own, on a thread of its own, while the writer goes on."""

    def __init__(self, work: _Work) -> None:
        self._work = work
        self._connection: sqlite3.Connection | None = None

    def copy(self) -> None:
        with self._work.flushing():
            if self._connection is None:
                self._connection = self._work.connection()
                self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


class _Work:
    """Everything that the thread does; nothing of it is called from elsewhere."""

    def __init__(self, path: str, shard: int) -> None:
        self._path = Path(path)
        self._shard = shard
        self._lock: int | None = None
        self._connection: sqlite3.Connection | None = None
        self._flush_failed: sqlite3.Error | None = None
        self._compare_and_set = statements.compare_and_set(SQLITE)
        self._writes = statements.sqlite_writes()

    @contextmanager
    def flushing(self) -> Iterator[None]:
        """Whatever writes or copies. After a flush that failed nothing does any more, in this process: the pages that it lost may
        be of an earlier copy that SQLite counts as done, and only who reads the WAL anew, a start, copies them again.
        """
        if self._flush_failed is not None:
            raise self._flush_failed
        try:
            yield
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", None) in _FLUSH_FAILED:
                self._flush_failed = error
            raise

    def open(self) -> None:
        self._flush_failed = None
        self._lock = _lock(self._path)
        _create(self._path)
        _flush_again(Path(f"{self._path}-wal"))
        self._connection = self._connect()

    def migrate(self) -> None:
        with self.flushing():
            self._checkpoint()  # before anything is written: HOLE1b
        if not is_newest(self._revisions()):
            self._migrate()

    def fence(self) -> Head:
        self.migrate()
        connection = self._connected()
        with self.flushing():
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(statements.fence(SQLITE), statements.first_engine_row(self._shard))
            head = self._head(connection)
            connection.execute("COMMIT")
        return head

    def apply(self, change: Change) -> bool:
        with self.flushing():
            connection = self._connected()
            connection.execute("BEGIN IMMEDIATE")
            return self._write(connection, change)

    def resolve(self, change: Change) -> bool:
        with self.flushing():
            self._disconnect()
            self._connection = connection = self._connect()
            connection.execute("BEGIN IMMEDIATE")
            if self._head(connection) != change.after:
                return self._write(connection, change)
            connection.execute("ROLLBACK")
            # a checkpoint starts with a flush of the WAL: what can be read in it is on the disk before anybody is told
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
            return True

    def write_beside(self, guard: Write | None, writes: Sequence[Write]) -> bool:
        with self.flushing():
            return self._write_beside(self._connected(), guard, writes)

    def _write_beside(self, connection: sqlite3.Connection, guard: Write | None, writes: Sequence[Write]) -> bool:
        connection.execute("BEGIN IMMEDIATE")
        try:
            if guard is not None and connection.execute(guard[0], guard[1][0]).rowcount == 0:
                return False
            for statement, rows in writes:
                connection.executemany(statement, rows)
            self._commit(connection)
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        return True

    def load(self) -> Stored:
        connection = self._connected()
        loads, shard, ids = statements.loads(SQLITE), (self._shard,), shard_ids(self._shard)
        connection.execute("BEGIN")
        try:
            wanted = ((loads.event_batches, shard), (loads.last_trade, ids), (loads.journaled, shard), (loads.trade_count, ids))
            newest_events, newest_trade, journaled, trades = (connection.execute(sql, of).fetchone()[0] for sql, of in wanted)
            begins = connection.execute(loads.journal_start, shard).fetchone()
            extent = Extent(newest_events, newest_trade, journaled, trades, begins)
            more, orders = None, list[OrderRecord]()
            if connection.execute(loads.open_order_count, ids).fetchone()[0] > statements.FEW:
                more = partial(open_orders, "sqlite", str(self._path), self._shard)
            else:
                orders = records(connection.execute(loads.open_orders, ids), OrderRecord)
            engine, journal = (connection.execute(sql, shard).fetchone() for sql in (loads.engine, loads.journal))
            wanted_rows = (loads.instruments, loads.positions, loads.balances, loads.assets, loads.controls)
            instruments, positions, balances, assets, controls = (connection.execute(sql, shard) for sql in wanted_rows)
            made = PositionsOfTrades()
            if lacks_positions(engine):
                made.add(connection.execute(loads.traders, ids))
            read = Read(engine, journal, extent, instruments, positions, balances, assets, controls)
            return stored_rows(read, made.records(), orders, more)
        finally:
            connection.execute("ROLLBACK")

    def close(self) -> None:
        if self._connection is not None:
            with suppress(sqlite3.Error), self.flushing():  # whatever is left in the WAL is durable there
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._disconnect()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def copy_rest(self) -> bool:
        """Copy what is left of the WAL, a little, so that the next commit begins it anew; whether nothing is left."""
        if self._connection is None:
            return False
        with self.flushing():
            _, frames, copied = self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        return bool(frames == copied)

    def wal_bytes(self) -> int:
        try:
            return Path(f"{self._path}-wal").stat().st_size
        except FileNotFoundError:
            return 0

    def _write(self, connection: sqlite3.Connection, change: Change) -> bool:
        """All of a change, in the transaction that is open, and its commit; or nothing, and False."""
        try:
            done = connection.execute(self._compare_and_set, statements.engine_values(change)).rowcount == 1
            if done:
                for statement, rows in zip(self._writes, statements.rows_of(change), strict=True):
                    connection.executemany(statement, rows)
                self._commit(connection)
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        return done

    def _commit(self, connection: sqlite3.Connection) -> None:
        connection.execute("COMMIT")

    def _head(self, connection: sqlite3.Connection) -> Head:
        row = connection.execute(statements.head(SQLITE), (self._shard,)).fetchone()
        return Head(*row) if row else Head(0, 0, b"")

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            raise sqlite3.OperationalError("the connection was lost")
        return self._connection

    def _connect(self) -> sqlite3.Connection:
        connection = self.connection()
        try:
            (journal_mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA secure_delete = OFF")  # some builds write zeros over what an index lets go
            connection.execute("PRAGMA wal_autocheckpoint = 0")
            connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}")
            connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            (synchronous,) = connection.execute("PRAGMA synchronous").fetchone()
            if journal_mode != "wal" or synchronous < _FULL:
                raise StorageUnusable(
                    f"SQLite doesn't give {self._path} the durability that is promised (journal_mode={journal_mode},"
                    f" synchronous={synchronous}; wal and 2 are needed). Is it on a network drive? Move it to a local disk."
                )
        except BaseException:
            connection.close()
            raise
        return connection

    def connection(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, isolation_level=None, timeout=BUSY_TIMEOUT_MS / 1000)

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if self._flush_failed is None:
            connection.close()
        else:  # SQLite copies and deletes the WAL when the last connection closes: this one is open until the process ends
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))

    def _checkpoint(self) -> None:
        busy, _, _ = self._connected().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise StorageAway(f"Another program is in the middle of reading {self._path}; close it.")

    def _revisions(self) -> list[str]:
        """The schema revisions that the file says it has; nobody else can migrate it while we have the lock."""
        connection = self._connected()
        if connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'alembic_version'").fetchone() is None:
            return []
        return [revision for (revision,) in connection.execute(FOUND)]

    def _migrate(self) -> None:
        engine = create_engine("sqlite://", creator=self._connected, poolclass=StaticPool)
        try:
            with engine.connect() as connection:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                migrate(connection)
                connection.commit()
        except DBAPIError as error:
            raise error.orig or error from error


def _create(path: Path) -> None:
    """Make the file where there is none, nobody else's to read; -wal and -shm take after it.

    One that is there isn't even opened: closing it would take away the locks that this process's connections hold on it (POSIX),
    and whoever next closes the database elsewhere would believe to be the last and delete the WAL.
    """
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))


def _lock(path: Path) -> int:
    """The descriptor of the lock file, locked; it holds this process's id, for whoever is refused."""
    if not path.parent.is_dir():
        raise StorageUnusable(
            f"There is no folder {path.parent.resolve()} for the database; make it, or name another in DATABASE_URL."
        )
    name = f"{path.resolve()}.engine.lock"
    try:
        descriptor = os.open(name, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StorageUnusable(f"The lock file {name} can't be opened: {error.strerror}.") from error
    try:
        if sys.platform == "win32":
            os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.lseek(descriptor, 0, os.SEEK_SET)
        owner = os.read(descriptor, _LOCKED_BYTE).decode("ascii", "replace").strip()
        os.close(descriptor)
        raise EngineRunning(
            f"Another engine (process {owner or 'unknown'}) is running on {path}."
            " Stop it first, or name another database in DATABASE_URL."
        ) from error
    os.ftruncate(descriptor, 0)
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.write(descriptor, str(os.getpid()).encode())
    return descriptor


@contextmanager
def _starting() -> Iterator[None]:
    """At start most of SQLite's errors don't pass: a file that may not be written, a file system that it can't work on."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if _final(error) is None and getattr(error, "sqlite_errorcode", 0) & 0xFF not in _PASSING_AT_START:
            raise StorageUnusable(f"The database can't be used: {error}.") from error
        raise


def _flush_again(wal: Path) -> None:
    """Write what a WAL says over itself, and flush it. After a flush that failed the system may show pages that never reached the
    disk, and call them clean: a copy made of these would be torn by a power cut in its middle (HOLE1b). Nothing without a WAL.
    """
    try:
        file = os.open(wal, os.O_RDWR)
    except FileNotFoundError:
        return
    try:
        offset = 0
        while piece := os.pread(file, _PIECE_BYTES, offset):
            offset += os.pwrite(file, piece, offset)
        os.fsync(file)
    except OSError as error:
        raise DiskFailed(f"The disk could not flush {wal} ({error}). Copy the database to another disk first.") from error
    finally:
        os.close(file)


def _final(error: Exception) -> Exception | None:
    if not isinstance(error, sqlite3.Error):
        return error
    code = getattr(error, "sqlite_errorcode", None)
    if code in _FLUSH_FAILED:
        return DiskFailed(
            f"The disk could not flush ({error}). Copy the database to another disk (VACUUM INTO) before starting again."
        )
    if code is not None and code & 0xFF in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
        return StorageUnusable(f"The database file is damaged ({error}). Restore a backup.")
    if isinstance(error, sqlite3.OperationalError) and (code is None or code & 0xFF in _PASSING):
        return None
    return InvariantBroken(f"SQLite refused the batch: {error}")
