"""Connections to read from: a few for each storage, opened when first needed, each question one round trip.

SQLite: aiosqlite connections that can't write, one thread each; a whole statement is one hop to the thread and back. PostgreSQL:
asyncpg's pool. Statements come as text: SQLAlchemy makes it once for each shape of question (`queries`), since making and caching
it anew for every question costs several times the lookup itself. `pool_size` questions run at once, the others wait their turn.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, Final, Protocol

import aiosqlite
import asyncpg

from ome.db.url import DatabaseUrl

BUSY_TIMEOUT_S: Final = 5.0
"""How long a question waits for a lock (SQLite) or for a connection to be made (PostgreSQL)."""
QUESTION_TIMEOUT_S: Final = 60.0
FAILURES: Final = (sqlite3.Error, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
"""What `Reader.fetch` raises."""
_GONE: Final = (
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a question put before the news that the server has ended the connection was read
    ConnectionError,
)


def may_pass(error: Exception) -> bool:
    """Whether it is the database's state that stands against an answer, rather than the question or a damaged file."""
    if isinstance(error, asyncpg.PostgresError):
        return (error.sqlstate or "")[:2] not in {"22", "23", "42", "XX"}  # data, integrity, syntax, corruption
    if not isinstance(error, sqlite3.Error):
        return True
    code = getattr(error, "sqlite_errorcode", 0)
    return code != sqlite3.SQLITE_ERROR and code & 0xFF not in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


class Reader(Protocol):
    """What answers questions in SQL."""

    async def fetch(self, sql: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        """All rows of one statement, of one moment."""

    async def close(self) -> None:
        """Close every connection."""


def reader(url: DatabaseUrl, pool_size: int) -> Reader:
    """The reader for a database; nothing is connected yet."""
    return SqliteReader(url.target, pool_size) if url.kind == "sqlite" else PostgresReader(url.target, pool_size)


class SqliteReader:
    """A few read-only connections to an SQLite file; the one used last is used first, for its page cache."""

    def __init__(self, path: str, pool_size: int) -> None:
        self._path = path
        self._idle: list[aiosqlite.Connection] = []
        self._places = asyncio.Semaphore(pool_size)

    async def fetch(self, sql: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        """See `Reader`."""
        async with self._places:
            connection = self._idle.pop() if self._idle else await self._connect()
            try:
                return _tuples(await connection.execute_fetchall(sql, parameters))
            finally:  # cancelled or not: whoever asks next on this connection waits behind what its thread still does
                self._idle.append(connection)

    async def close(self) -> None:
        """See `Reader`."""
        while self._idle:
            await self._idle.pop().close()

    async def _connect(self) -> aiosqlite.Connection:
        connection = aiosqlite.connect(self._path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        connection._thread.daemon = True  # noqa: SLF001  as SQLAlchemy does: a process that fails must be able to end
        await connection
        try:
            await connection.execute_fetchall("PRAGMA query_only = ON")
        except BaseException:
            await connection.close()
            raise
        return connection


class PostgresReader:
    """A pool of PostgreSQL connections; those that the server has closed are made anew."""

    def __init__(self, dsn: str, pool_size: int) -> None:
        self._dsn = dsn
        self._size = pool_size
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._opening = asyncio.Lock()

    async def fetch(self, sql: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        """See `Reader`."""
        pool = self._pool or await self._open()
        try:
            return _tuples(await pool.fetch(sql, *parameters, timeout=QUESTION_TIMEOUT_S))
        except _GONE:  # the server was restarted since this connection was last used: a question may be asked again
            await pool.expire_connections()
            return _tuples(await pool.fetch(sql, *parameters, timeout=QUESTION_TIMEOUT_S))

    async def close(self) -> None:
        """See `Reader`."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.close()

    async def _open(self) -> asyncpg.Pool[asyncpg.Record]:
        async with self._opening:
            if self._pool is None:
                self._pool = await asyncpg.create_pool(
                    self._dsn, min_size=0, max_size=self._size, timeout=BUSY_TIMEOUT_S, reset=_nothing_to_reset
                )
            return self._pool


async def _nothing_to_reset(_: object) -> None:
    """Questions leave nothing behind, so that the round trip that clears a connection up is spared."""


def _tuples(rows: Iterable[Iterable[Any]]) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in rows]
