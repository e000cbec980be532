"""All of a database at one moment, table by table in the order in which the journal made it, for those who check it.

Nothing is written to the database and the engine's lock isn't touched, so that an engine may be running on it.

- SQLite: the file is copied first, in one read transaction (SQLite's backup: pages as they are, damaged ones too), and the copy
  is read. The transaction lasts as long as the copying: an engine that is running goes on, its WAL grows that long. The copy is
  in the folder for temporary files (TMPDIR) and needs as much room as the file. `in_place` reads the file itself: for one that
  no engine is running on.
- PostgreSQL: one read-only snapshot (REPEATABLE READ), held as long as the reading takes; vacuum doesn't remove what has died
  since.

Rows come in chunks, so that memory doesn't grow with the tables. Synchronous: called where no event loop is running.
"""

from __future__ import annotations

import asyncio
import operator as operators
import sqlite3
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal, Protocol, TypeVar

import asyncpg
from sqlalchemy import Column, Dialect, StaticPool, Table, and_, create_engine, func, or_, select

from ome.db import schema
from ome.db.connection import connect
from ome.db.migrate import FOUND, check_revision, migrate
from ome.db.recovery import shard_ids
from ome.db.statements import POSTGRESQL, SQLITE
from ome.db.url import DatabaseUrl, parse_url
from ome.domain.errors import OmeError, StorageUnusable
from ome.domain.ids import SHARD_STEP

Row = tuple[Any, ...]
Condition = tuple[str, Literal["=", ">=", "<"], Any]
"""A column, how it compares, and with what."""

ORDERED_BY: Final[dict[Table, str]] = {
    schema.engine: "shard",
    schema.journal: "last_position",
    schema.event_batches: "last_position",
    schema.stored_orders: "id",
    schema.stored_trades: "id",
    schema.stored_instruments: "symbol",
    schema.stored_positions: "user_id",
    schema.stored_balances: "user_id",
    schema.stored_assets: "asset",
    schema.stored_transfers: "id",
    schema.stored_controls: "user_id",
    schema.event_users: "last_position",
    schema.event_orders: "last_position",
    schema.audit: "position",
    schema.symbol_moves: "position",
}
"""Every table that an engine's batches write to, and the column that its rows are read in the order of."""

_BLOBS: Final = frozenset({schema.journal, schema.event_batches, schema.engine_snapshot_orders})
_BLOBS_AT_ONCE: Final = 16
_ROWS_AT_ONCE: Final = 5_000
_OWNER: Final = {
    schema.stored_orders: "id",
    schema.stored_trades: "id",
    schema.event_orders: "order_id",
    schema.stored_transfers: "id",
}
"""The column whose ids say which shard a row is of, where there is no column for that; of `event_orders` those rows are none of
the shard's that say so (`statements.batch_place`), and those of other shards' ids are that do.
"""
_DAMAGE_SHOWN: Final = 20
_OPERATORS: Final[dict[str, Callable[[Any, Any], Any]]] = {"=": operators.eq, ">=": operators.ge, "<": operators.lt}

_HEADER_BYTES: Final = 100
_HEADER: Final[dict[str, tuple[int, tuple[bytes, ...]]]] = {
    "write version": (18, (b"\1", b"\2")),
    "schema format": (44, (b"\0\0\0\4",)),
    "text encoding": (56, (b"\0\0\0\1",)),
    "reserved field": (72, (bytes(20),)),
}
"""Where a field stands and what it may be; see SQLite's file format."""
_FOREIGN: Final = """
SELECT 'trigger', tgname, relname FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
WHERE NOT tgisinternal AND relnamespace = current_schema()::regnamespace AND relname = ANY($1)
UNION ALL
SELECT 'rule', rulename, relname FROM pg_rewrite JOIN pg_class ON pg_class.oid = ev_class
WHERE relkind <> 'v' AND relnamespace = current_schema()::regnamespace AND relname = ANY($1)
ORDER BY 1, 2
"""
FAILURES: Final = (sqlite3.Error, UnicodeDecodeError)
"""What Python's driver raises for a file that it can't read: also names, and messages, that are no UTF-8."""

_T = TypeVar("_T")


class Unreadable(OmeError):
    """The database is there, and a table of it can't be read; the message says which and why."""


class History(Protocol):
    """A database at one moment. Everything raises Unreadable, or StorageUnusable where the database has gone."""

    def rows(self, table: Table, shard: int, where: Sequence[Condition] = ()) -> Iterator[Row]:
        """A shard's rows of a table of `ORDERED_BY`, in its order, or of a table of derived rows, in the order of its key; with
        the columns of the schema. Those alone of which all of `where` holds.
        """

    def count(self, table: Table) -> int:
        """How many rows a table has, whatever their shard."""

    def shards(self) -> list[int]:
        """The shards that have an engine row."""

    def damage(self) -> list[str]:
        """What is wrong with the file and its schema, a sentence each; on PostgreSQL that is the server's to say."""


def open_history(database_url: str, *, in_place: bool = False) -> AbstractContextManager[History]:
    """The database that `database_url` names, as it is now. Raises StorageUnusable for one that can't be read."""
    url = parse_url(database_url)
    return _sqlite_history(Path(url.target), in_place=in_place) if url.kind == "sqlite" else open_snapshot(url)


@contextmanager
def read_sqlite(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that reads a file and leaves nothing beside it, whether an engine is running on it or not.

    Without a WAL nobody has the file open: then it is read as one that doesn't change (opening it as usual would leave a WAL of
    ours for its engine to trip over). If somebody opens it meanwhile that is noticed at the end: StorageUnusable.
    """
    wal = _wal_of(path)
    try:
        before = path.stat()
    except OSError as error:
        raise StorageUnusable(f"There is no database at {path} ({error.strerror}). Check DATABASE_URL.") from error
    is_still = not wal.exists()
    uri = f"{path.resolve().as_uri()}?{'immutable=1' if is_still else 'mode=ro'}"
    try:
        with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as connection:
            connection.execute("PRAGMA query_only = ON")
            yield connection
    except FAILURES as error:
        raise StorageUnusable(f"{path} can't be read: {error}. Check DATABASE_URL, or restore a backup.") from error
    after = path.stat()
    if is_still and (wal.exists() or (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, after.st_size)):
        raise StorageUnusable(f"Somebody has opened {path} while it was read. Try again.")


def copy_sqlite(path: Path, copy: Path) -> None:
    """Copy a database's pages, as of one moment, into a new file. Raises StorageUnusable."""
    with read_sqlite(path) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)


@contextmanager
def _sqlite_history(path: Path, *, in_place: bool) -> Iterator[History]:
    with tempfile.TemporaryDirectory(prefix="ome-verify-") as folder:
        read = path
        if not in_place:
            read = Path(folder) / "copy.db"
            try:
                copy_sqlite(path, read)
            except StorageUnusable as error:
                if "full" in str(error):
                    raise StorageUnusable(f"{error} The copy is made in {folder}: name a roomier folder in TMPDIR.") from error
                raise
        with read_sqlite(read) as connection:
            connection.execute("BEGIN")
            history = SqliteHistory(connection, read)
            history.check_revision()
            yield history


class SqliteHistory:
    """A connection to a file that doesn't change."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path

    def check_revision(self) -> None:
        """Raises StorageUnusable for another schema than this version's."""
        try:
            rows = self._connection.execute(FOUND).fetchall()
        except FAILURES as error:
            raise StorageUnusable(f"That is no database of OME: {error}. Check DATABASE_URL.") from error
        check_revision([row[0] for row in rows])

    def rows(self, table: Table, shard: int, where: Sequence[Condition] = ()) -> Iterator[Row]:
        """See `History`."""
        sql, parameters = _rows_sql(table, shard, SQLITE, where)
        try:
            cursor = self._connection.execute(sql, parameters)
            while rows := cursor.fetchmany(_at_once(table)):
                yield from rows
        except FAILURES as error:
            raise Unreadable(f"the table {table.name} can't be read: {error}") from error

    def count(self, table: Table) -> int:
        """See `History`."""
        return int(self._values(_count_sql(table, SQLITE))[0])

    def shards(self) -> list[int]:
        """See `History`."""
        return self._values(_shards_sql(SQLITE))

    def damage(self) -> list[str]:
        """SQLite's own check of every page and index, the header's fields that this passes over, and the schema against the one
        that the migrations make: nothing less, nothing else, and nothing more.
        """
        try:
            found = self._values(f"PRAGMA integrity_check({_DAMAGE_SHOWN})")
        except Unreadable as error:
            return [str(error)]
        said = [f"SQLite's integrity check says: {line}" for text in found if text != "ok" for line in text.splitlines()]
        try:
            return said or [*self._header_damage(), *self._schema_damage()]
        except FAILURES as error:
            return [f"The schema can't be read: {error}"]

    def _header_damage(self) -> list[str]:
        """Fields that SQLite reads past, and couldn't write with."""
        if _wal_of(self._path).exists():
            return []  # then the file's first page isn't the last word
        with self._path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
        first_free, free = header[32:36], header[36:40]
        wrong = [name for name, (place, allowed) in _HEADER.items() if header[place : place + len(allowed[0])] not in allowed]
        if any(first_free) != any(free):
            wrong.append("number of free pages")
        return [f"The file's header has a wrong {name}." for name in wrong]

    def _schema_damage(self) -> list[str]:
        wanted = _schema_of_this_version()
        found = _schema_of(self._connection)
        lost = [f"The {kind} {name} is missing." for kind, name in wanted.keys() - found.keys()]
        other = [
            f"The {kind} {name} is not as OME made it."
            for (kind, name), sql in wanted.items()
            if found.get((kind, name), sql) != sql
        ]
        more = [f"The {kind} {name} is not OME's." for kind, name in found.keys() - wanted.keys()]
        return sorted(lost + other + more)

    def _values(self, sql: str) -> list[Any]:
        try:
            return [row[0] for row in self._connection.execute(sql)]
        except FAILURES as error:
            raise Unreadable(f"the database can't be read: {error}") from error


def _wal_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


@contextmanager
def open_snapshot(url: DatabaseUrl) -> Iterator[PostgresHistory]:
    """A PostgreSQL database as it is now. Raises StorageUnusable for one that can't be read."""
    loop = asyncio.new_event_loop()
    try:
        try:
            connection = loop.run_until_complete(connect(url.target, statement_timeout_s=None))
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
            reason = str(error) or type(error).__name__
            raise StorageUnusable(f"PostgreSQL can't be reached at {url.shown}: {reason}. Check DATABASE_URL.") from error
        history = PostgresHistory(loop, connection)
        try:
            history.begin()
            yield history
        finally:
            with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
                loop.run_until_complete(connection.close(timeout=1))
    finally:
        loop.close()


class PostgresHistory:
    """A connection of its own with one snapshot, on an event loop of its own."""

    def __init__(self, loop: asyncio.AbstractEventLoop, connection: asyncpg.Connection) -> None:
        self._loop = loop
        self._connection = connection

    def begin(self) -> None:
        """Take the snapshot. Raises StorageUnusable for another schema than this version's."""
        self._wait(
            self._connection.execute("SET jit = off; SET idle_in_transaction_session_timeout = 0; SET statement_timeout = 0")
        )
        self._wait(self._connection.execute("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"))
        try:
            check_revision(self._values(FOUND))
        except Unreadable as error:
            raise StorageUnusable(f"That is no database of OME: {error}. Check DATABASE_URL.") from error

    def rows(self, table: Table, shard: int, where: Sequence[Condition] = ()) -> Iterator[Row]:
        """See `History`."""
        sql, parameters = _rows_sql(table, shard, POSTGRESQL, where)
        cursor = self._wait(self._connection.cursor(sql, *parameters))
        while rows := self._wait(cursor.fetch(_at_once(table))):
            yield from map(tuple, rows)

    def exported(self) -> str:
        """The snapshot's name, for other connections to read it by while this one is open."""
        return str(self._values("SELECT pg_export_snapshot()")[0])

    def count(self, table: Table) -> int:
        """See `History`."""
        return int(self._values(_count_sql(table, POSTGRESQL))[0])

    def shards(self) -> list[int]:
        """See `History`."""
        return self._values(_shards_sql(POSTGRESQL))

    def damage(self) -> list[str]:
        """Triggers and rules on OME's tables, which would change what commits write; pages are the server's to check (data
        checksums, amcheck), and what else is in the database is nobody's business here.
        """
        ours = list(schema.metadata.tables)
        found = self._wait(self._connection.fetch(_FOREIGN, ours))
        return [f"The {kind} {name} on {table} is not OME's." for kind, name, table in found]

    def _values(self, sql: str) -> list[Any]:
        return [row[0] for row in self._wait(self._connection.fetch(sql))]

    def _wait(self, answer: Awaitable[_T]) -> _T:
        async def wait() -> _T:
            return await answer

        try:
            return self._loop.run_until_complete(wait())
        except (OSError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
            raise StorageUnusable(f"The connection to PostgreSQL was lost: {error or type(error).__name__}.") from error
        except asyncpg.PostgresError as error:
            raise Unreadable(f"the database can't be read: {error}") from error


def _at_once(table: Table) -> int:
    return _BLOBS_AT_ONCE if table in _BLOBS else _ROWS_AT_ONCE


def _rows_sql(table: Table, shard: int, dialect: Dialect, conditions: Sequence[Condition]) -> tuple[str, list[Any]]:
    owner = _OWNER.get(table)
    if owner is None:
        where, parameters = [table.c.shard == shard], [shard]
    else:
        low, high = shard_ids(shard)
        where, parameters = [table.c[owner] >= low, table.c[owner] < high], [low, high]
        if table is schema.event_orders:
            own, (first, end) = table.c.last_position, shard_ids(shard + 1)
            where = [or_(and_(*where, own < SHARD_STEP), and_(own >= first, own < end))]
            parameters += [SHARD_STEP, first, end]
    for column, operator, value in conditions:
        where.append(_OPERATORS[operator](table.c[column], value))
        parameters.append(value)
    return str(select(table).where(*where).order_by(*_order_of(table)).compile(dialect=dialect)), parameters


def _order_of(table: Table) -> list[Column[Any]]:
    return [table.c[ORDERED_BY[table]]] if table in ORDERED_BY else list(table.primary_key)


def _count_sql(table: Table, dialect: Dialect) -> str:
    return str(select(func.count()).select_from(table).compile(dialect=dialect))


def _shards_sql(dialect: Dialect) -> str:
    return str(select(schema.engine.c.shard).order_by(schema.engine.c.shard).compile(dialect=dialect))


@cache
def _schema_of_this_version() -> dict[tuple[str, str], str]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as fresh:
        engine = create_engine("sqlite://", creator=lambda: fresh, poolclass=StaticPool)
        with engine.connect() as connection:
            migrate(connection)
        return _schema_of(fresh)


def _schema_of(connection: sqlite3.Connection) -> dict[tuple[str, str], str]:
    """What makes each table, index and view; but for a view's, whose words are shown, white space is of no account."""
    rows = connection.execute("SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL AND name <> 'alembic_version'")
    return {(kind, name): sql if kind == "view" else "".join(sql.split()) for kind, name, sql in rows}
