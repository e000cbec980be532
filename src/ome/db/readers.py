"""Connections to read from: a few for each storage, opened when first needed, each question one round trip.

SQLite: aiosqlite connections that can't write, one thread each; a whole statement is one hop to the thread and back. PostgreSQL:
asyncpg's, each ended as soon as it fails or falls silent. Statements come as text: SQLAlchemy makes it once for each shape of
question (`queries`), since making and caching it anew for every question costs several times the lookup itself. `pool_size`
questions run at once, the others wait their turn.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, Final, Protocol

import aiosqlite
import asyncpg

from ome.db.connection import connect
from ome.db.url import DatabaseUrl

BUSY_TIMEOUT_S: Final = 5.0
"""How long a question waits for a lock of SQLite's."""
QUESTION_TIMEOUT_S: Final = 10.0
"""How long a question to PostgreSQL may take in all, from waiting for its turn to its answer; each is a page, by an index."""
SILENCE_S: Final = 2.5
"""How long connecting may take; and how long a kept connection may let a question wait before it is put again over a new one."""
IDLE_S: Final = 300.0
"""How long a connection is kept that nobody uses: firewalls forget such ones, and tell neither side."""
FAILURES: Final = (sqlite3.Error, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
"""What `Reader.fetch` raises."""
_GONE: Final = (
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a question put before the news that the server has ended the connection was read
    OSError,
)
"""What says of a kept connection that it can't be used any more; a timeout is one of them."""


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
    """A few PostgreSQL connections, the one used last first. A question that a kept one doesn't answer, because the server has
    ended it or because the way there swallows what is sent, is put once more, over a new one.

    A pool of asyncpg's would wait without end for the cancelling of such a question, and for its connection to be closed.
    """

    def __init__(self, dsn: str, pool_size: int) -> None:
        self._dsn = dsn
        self._size = pool_size
        self._idle: list[tuple[asyncpg.Connection, float]] = []
        self._places = asyncio.Semaphore(pool_size)

    async def fetch(self, sql: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        """See `Reader`."""
        async with asyncio.timeout(QUESTION_TIMEOUT_S), self._places:
            kept = self._kept()
            if kept is not None:
                try:
                    return await self._ask(kept, sql, parameters, SILENCE_S)
                except _GONE:  # and with it, likely, the others that have been idle
                    self._end_idle()
            return await self._ask(await connect(self._dsn, SILENCE_S), sql, parameters, QUESTION_TIMEOUT_S)

    async def close(self) -> None:
        """See `Reader`; whoever still asks is waited for."""
        for _ in range(self._size):
            await self._places.acquire()
        self._end_idle()
        for _ in range(self._size):
            self._places.release()

    async def _ask(
        self, connection: asyncpg.Connection, sql: str, parameters: Sequence[Any], within_s: float
    ) -> list[tuple[Any, ...]]:
        try:
            rows = await connection.fetch(sql, *parameters, timeout=within_s)
        except BaseException:  # without a word: one that doesn't answer would not hear it
            connection.terminate()
            raise
        self._idle.append((connection, asyncio.get_running_loop().time()))
        return _tuples(rows)

    def _kept(self) -> asyncpg.Connection | None:
        """The connection that was used last, unless all have been idle for long."""
        if self._idle and self._idle[-1][1] < asyncio.get_running_loop().time() - IDLE_S:
            self._end_idle()
        return self._idle.pop()[0] if self._idle else None

    def _end_idle(self) -> None:
        while self._idle:
            self._idle.pop()[0].terminate()


def _tuples(rows: Iterable[Iterable[Any]]) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in rows]
