"""The lease of a shard on PostgreSQL: a row that says who holds it and when the holder last said so, by the database's clock.

It tells an engine that starts when to try: a holder that has said nothing for the lease's time is taken for gone, even though its
connection, and with it the advisory lock, may still be there (the process was stopped, the network broke). It is only a hint, so
no clock is trusted: at most one engine commits because of the compare-and-set, whoever believes to hold the lease.

The row is written in the transaction that takes the fence and renewed three times per lease, over a connection of its own so
that no commit waits for it. A holder that finds another name in the row has been overtaken; so an idle one learns of it.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import asyncpg

RENEWALS: Final = 3
"""Renewals per lease: two may fail before anybody takes the holder for gone."""
_FAILURES: Final = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)

_TAKE: Final = """
INSERT INTO lease (shard, holder, renewed_at) VALUES ($1, $2, clock_timestamp())
ON CONFLICT (shard) DO UPDATE SET holder = excluded.holder, renewed_at = excluded.renewed_at
"""
_RENEW: Final = "UPDATE lease SET renewed_at = clock_timestamp() WHERE shard = $1 AND holder = $2 RETURNING true"
_HAS_RUN_OUT: Final = "SELECT clock_timestamp() - renewed_at > make_interval(secs => $2) FROM lease WHERE shard = $1"

_log = logging.getLogger(__name__)

Connect = Callable[[], Awaitable[asyncpg.Connection]]


class Lease:
    """One engine's claim on a shard for `seconds` at a time; `lost` is called when another engine is found to have it."""

    def __init__(self, shard: int, seconds: float, connect: Connect, lost: Callable[[], None]) -> None:
        self._shard = shard
        self._seconds = seconds
        self._connect = connect
        self._lost = lost
        self._holder = secrets.token_hex(16)
        self._connection: asyncpg.Connection | None = None
        self._task: asyncio.Task[None] | None = None

    async def take(self, connection: asyncpg.Connection) -> None:
        """Write our name into the row, in the transaction that is open on this connection."""
        await connection.execute(_TAKE, self._shard, self._holder)

    async def has_run_out(self, connection: asyncpg.Connection) -> bool:
        """Whether the row's holder, another engine, hasn't renewed it for the lease's time."""
        try:
            return bool(await connection.fetchval(_HAS_RUN_OUT, self._shard, self._seconds))
        except asyncpg.UndefinedTableError:  # of a version that knew no leases
            return False

    def keep(self) -> None:
        """Renew it from now on."""
        self._task = asyncio.create_task(self._keep(), name="lease")

    async def close(self) -> None:
        """Renew it no more."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        self._drop()

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(self._seconds / RENEWALS)
            try:
                is_ours = await self._renew()
            except _FAILURES as error:
                _log.warning("the lease could not be renewed: %s", error or type(error).__name__)
                self._drop()
                continue
            if not is_ours:
                self._lost()

    async def _renew(self) -> bool:
        async with asyncio.timeout(self._seconds / RENEWALS):
            if self._connection is None:
                self._connection = await self._connect()
            return bool(await self._connection.fetchval(_RENEW, self._shard, self._holder))

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(*_FAILURES):
                connection.terminate()
