"""A database under test, and the way to it past everything that is tested."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import asyncpg

WRITTEN = (
    *("stored_orders", "stored_trades", "stored_instruments", "stored_positions", "stored_controls"),
    *("journal", "event_batches", "event_users", "event_orders", "audit"),
)
"""The tables that a commit writes to, besides the engine row."""


class Database:
    """A fresh database and a way to it past everything that is tested."""

    def __init__(self, kind: str, url: str, target: str) -> None:
        self.kind = kind
        self.url = url
        self._target = target

    async def fetch(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows of one SQL statement, carried out as a person at a prompt would."""
        if self.kind == "sqlite":
            return await asyncio.to_thread(self._sqlite, sql)
        connection = await asyncpg.connect(self._target)
        try:
            return [tuple(row) for row in await connection.fetch(sql)]
        finally:
            await connection.close()

    async def scalar(self, sql: str) -> Any:
        """The first value of the first row."""
        return (await self.fetch(sql))[0][0]

    async def counts(self) -> Sequence[int]:
        """How many rows each table that a commit writes to has."""
        return [await self.scalar(f"SELECT count(*) FROM {table}") for table in WRITTEN]  # noqa: S608  the words above

    def _sqlite(self, sql: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self._target, isolation_level=None, timeout=5)) as connection:
            return connection.execute(sql).fetchall()
