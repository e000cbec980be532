"""The service with something about it changed, for rows and canaries; `python -m faults.nursery NAME [NAME ...]` forks them.

A variant replaces functions of the service in its process, before it starts; nothing in the service knows of it. Most are
mistakes that people make, which the oracle has to find out (canaries). `small-wal` is none: it only lets checkpoints happen all
the time, so that a short run has many.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sqlite3
from collections.abc import Callable
from typing import Any

from ome.db import repository, sqlite, statements


def small_wal() -> None:
    """The WAL is copied into the file, and begun anew, all the time."""
    sqlite.UPKEEP_S = 0.02  # type: ignore[misc]
    sqlite.WAL_BYTES = 400 * 1024  # type: ignore[misc]


def normal() -> None:
    """Commits don't flush: synchronous=NORMAL."""
    connect = sqlite._Work._connect

    def relaxed(self: Any) -> sqlite3.Connection:
        connection = connect(self)
        connection.execute("PRAGMA synchronous = NORMAL")
        return connection

    sqlite._Work._connect = relaxed  # type: ignore[method-assign]


def answer_before_commit() -> None:
    """The answer goes out when the commit begins."""
    commit = repository.BatchRepository.commit
    before: list[asyncio.Task[None]] = []

    async def begun(self: Any, batch: Any) -> None:
        async def in_turn() -> None:
            if len(before) > 1:
                await before[-2]
            await commit(self, batch)

        before.append(asyncio.create_task(in_turn()))

    repository.BatchRepository.commit = begun  # type: ignore[method-assign]


def skipped_update() -> None:
    """Now and then an order that changed isn't written."""
    rows_of, batches = statements.rows_of, itertools.count(1)

    def forgetful(change: Any) -> Any:
        orders, *others = rows_of(change)
        return [orders[1:] if next(batches) % 20 == 0 else orders, *others]

    statements.rows_of = forgetful


def broken_fence() -> None:
    """Neither a lock nor the compare-and-set: whatever the engine row says is followed."""
    sqlite._lock = lambda path: os.open(f"{path}.engine.lock", os.O_RDWR | os.O_CREAT)
    write = sqlite._Work._write

    def follow(self: Any, connection: sqlite3.Connection, change: Any) -> bool:
        return write(self, connection, type(change)(change.shard, self._head(connection), change.after, change.batch))

    sqlite._Work._write = follow  # type: ignore[method-assign]


VARIANTS: dict[str, Callable[[], None]] = {
    "small-wal": small_wal,
    "normal": normal,
    "answer-before-commit": answer_before_commit,
    "skipped-update": skipped_update,
    "broken-fence": broken_fence,
}
