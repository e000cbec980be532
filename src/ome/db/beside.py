"""Writing beside the batches: derived rows, in transactions of their own that no commit depends on.

SQLite has one writing connection, so there they take their turn on its thread, between two batches: they are to be short. On
PostgreSQL they have a connection of their own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, Protocol

import asyncpg

from ome.db.connection import connect
from ome.db.statements import Row
from ome.db.url import DatabaseUrl

TIMEOUT_S: Final = 60.0

Write = tuple[str, Sequence[Row]]
"""A statement and the rows that it is carried out with."""


class Beside(Protocol):
    """Whoever writes derived rows. Raises what the driver raises; then the outcome isn't known."""

    async def write(self, guard: Write | None, writes: Sequence[Write]) -> bool:
        """One transaction: all of `writes`, but only where `guard` (a statement with one row) changes a row; else nothing, and
        False.
        """

    async def close(self) -> None:
        """Give back what it holds."""


class PostgresBeside:
    """A connection of its own, made when it is first needed and again after it was lost."""

    def __init__(self, url: DatabaseUrl) -> None:
        self._url = url
        self._connection: asyncpg.Connection | None = None
        self._turn = asyncio.Lock()

    async def write(self, guard: Write | None, writes: Sequence[Write]) -> bool:
        """See `Beside`."""
        async with self._turn:
            if self._connection is None or self._connection.is_closed():
                self._connection = await connect(self._url.target)
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    return await self._write(self._connection, guard, writes)
            except BaseException:  # ended without a word: one that doesn't answer would not hear it
                self._connection.terminate()
                raise

    async def _write(self, connection: asyncpg.Connection, guard: Write | None, writes: Sequence[Write]) -> bool:
        transaction = connection.transaction()
        await transaction.start()
        if guard is not None and (await connection.execute(guard[0], *guard[1][0])).endswith(" 0"):
            await transaction.rollback()
            return False
        for statement, rows in writes:
            await connection.executemany(statement, rows)
        await transaction.commit()
        return True

    async def close(self) -> None:
        """See `Beside`."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
                await connection.close(timeout=1)
