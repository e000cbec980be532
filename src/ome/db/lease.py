"""The lease of a shard on PostgreSQL: a row that says who holds it and when the holder last said so, by the database's clock.

It tells an engine that starts when to try: a holder that has said nothing for the lease's time is taken for gone, even though its
connection, and with it the advisory lock, may still be there (the process was stopped, the network broke). It is only a hint, so
no clock is trusted: at most one engine commits because of the compare-and-set, whoever believes to hold the lease.

The row is written in the transaction that takes the fence, renewed three times per lease, over a connection of its own so that no
commit waits for it, and deleted by a holder that stops in order. A holder that finds another name in the row has been overtaken;
so an idle one learns of it. Time in which the server wasn't there doesn't count against a holder: it could not renew.

With each renewal the holder looks after its lock (`hold`), which is gone with every connection that the server ends. One that
starts and finds the lock free, but a lease that hasn't run out, therefore waits for `silence_s`: a holder that lives has said so
by then.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime
from typing import Final

import asyncpg
from msgspec import Struct

from ome.domain.errors import StorageError

RENEWALS: Final = 3
"""Renewals per lease: two may fail before anybody takes the holder for gone."""
_RETRIES: Final = 10
"""Attempts in the time of a renewal, where one has failed."""
_SLACK: Final = 1.3
"""Renewals that a holder may take for one, at the most, before it counts as silent."""
RELEASE_TIMEOUT_S: Final = 1.0
_FAILURES: Final = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)

_TAKE: Final = """
INSERT INTO lease (shard, holder, renewed_at) VALUES ($1, $2, clock_timestamp())
ON CONFLICT (shard) DO UPDATE SET holder = excluded.holder, renewed_at = excluded.renewed_at
"""
_RENEW: Final = "UPDATE lease SET renewed_at = clock_timestamp() WHERE shard = $1 AND holder = $2 RETURNING true"
_RELEASE: Final = "DELETE FROM lease WHERE shard = $1 AND holder = $2"
_LOOK: Final = """
SELECT renewed_at, clock_timestamp() - greatest(renewed_at, pg_postmaster_start_time()) > make_interval(secs => $2)
FROM lease WHERE shard = $1 AND holder <> $3
"""

_log = logging.getLogger(__name__)

Connect = Callable[[], Awaitable[asyncpg.Connection]]


class Sign(Struct, frozen=True):
    """What another holder last said: when, by the database's clock, and whether that was a whole lease ago."""

    renewed_at: datetime
    has_run_out: bool


class Lease:
    """One engine's claim on a shard for `seconds` at a time; `lost` hears that another engine has it, `hold` of each renewal."""

    def __init__(
        self, shard: int, seconds: float, connect: Connect, lost: Callable[[], None], hold: Callable[[], Awaitable[None]]
    ) -> None:
        self._shard = shard
        self._seconds = seconds
        self._connect = connect
        self._lost = lost
        self._hold = hold
        self._holder = secrets.token_hex(16)
        self._connection: asyncpg.Connection | None = None
        self._task: asyncio.Task[None] | None = None

    async def take(self, connection: asyncpg.Connection) -> None:
        """Write our name into the row, in the transaction that is open on this connection."""
        await connection.execute(_TAKE, self._shard, self._holder)

    @property
    def silence_s(self) -> float:
        """How long another holder has to be listened for, until its silence says that it is gone."""
        return self._seconds / RENEWALS * _SLACK

    async def look(self, connection: asyncpg.Connection) -> Sign | None:
        """What another engine that hasn't stopped in order last said; None where there is none."""
        try:
            row = await connection.fetchrow(_LOOK, self._shard, self._seconds, self._holder)
        except asyncpg.UndefinedTableError:  # of a version that knew no leases
            return None
        return None if row is None else Sign(*row)

    def keep(self) -> None:
        """Renew it from now on."""
        self._task = asyncio.create_task(self._keep(), name="lease")

    async def close(self, other: asyncpg.Connection | None) -> None:
        """Renew it no more, and give it back if that can be done at once, over the `other` connection where it has none of its
        own yet (an engine that stops as soon as it has started).
        """
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        connection = self._connection or other
        if connection is not None:
            with suppress(*_FAILURES):
                await connection.execute(_RELEASE, self._shard, self._holder, timeout=RELEASE_TIMEOUT_S)
        self._drop()

    async def _keep(self) -> None:
        period_s = self._seconds / RENEWALS
        pause_s = 0.0  # the first renewal makes the connection
        while True:
            await asyncio.sleep(pause_s)
            pause_s = period_s
            try:
                if not await self._renew():
                    self._lost()
                    return
                await self._hold()
            except (*_FAILURES, StorageError) as error:
                _log.warning("the lease could not be renewed: %s", error or type(error).__name__)
                self._drop()
                pause_s = period_s / _RETRIES

    async def _renew(self) -> bool:
        async with asyncio.timeout(self._seconds / RENEWALS):
            if self._connection is None or self._connection.is_closed():
                self._connection = await self._connect()
            return bool(await self._connection.fetchval(_RENEW, self._shard, self._holder))

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(*_FAILURES):
                connection.terminate()
