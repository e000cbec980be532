"""PostgreSQL, as one durable writing session: a dedicated asyncpg connection, a whole commit in one statement and one round trip.

The session refuses `synchronous_commit=off`; a server that runs with `fsync=off` is used, and said to be `relaxed`. An advisory
lock of the session, keyed by shard, keeps a second engine away while the first is connected; it is only an early warning (behind
a connection pooler it isn't even that), the compare-and-set is the safety. An engine that starts takes over where the lock's
holder has let its lease run out (see `lease`).
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, Final

import asyncpg
from sqlalchemy import NullPool
from sqlalchemy.exc import DBAPIError

from ome.db import statements
from ome.db.connection import CONNECT_TIMEOUT_S, LOCK_CLASS, connect
from ome.db.lease import Lease
from ome.db.migrate import FOUND, is_newest, migrate
from ome.db.order_stream import open_orders
from ome.db.recovery import Extent, PositionsOfTrades, Read, Stored, lacks_positions, records, shard_ids, stored_rows
from ome.db.statements import POSTGRESQL, Change, Head
from ome.db.url import DatabaseUrl
from ome.domain.errors import EngineRunning, InvariantBroken, StorageAway, StorageUnusable
from ome.domain.records import OrderRecord

PROBE_TIMEOUT_S: Final = 1.5
"""How long looking up a commit's outcome may take, from connecting to the engine row under its lock: a look that is begun just
before the database, or the way to it, comes back must not be what trading waits for.
"""
FENCE_TIMEOUT_S: Final = 30.0
"""How long taking the fence may take; longer than an older engine's backend keeps the row."""
CLOSE_TIMEOUT_S: Final = 1.0
COMMIT_TIMEOUT_S: Final = 10.0
"""How long a commit may take before its outcome is looked up over another connection."""
IDLE_IN_TRANSACTION_MS: Final = 10_000
"""When the server ends a transaction of ours that hears nothing more from us, and with it gives back the engine row's lock."""
LOCK_WAIT_S: Final = 3.0
"""How long to wait for the lock at start: the server takes a moment to notice that a killed engine's connection has gone."""
_LOCK_PAUSE_S: Final = 0.1
_LOCK_LOOKS: Final = 10
"""How often to look whether the lock of a connection that was ended is free."""
_MIGRATING: Final = -1
_CONNECTING: Final = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""What connecting raises."""
_PASSING_CLASSES: Final = frozenset({"08", "53", "57"})
"""Classes of SQLSTATE that may pass by themselves where a connection is refused: connection exceptions, insufficient resources
(too many connections, no memory), operator intervention (starting, shutting down).
"""
_END_HOLDER: Final = """
SELECT pg_terminate_backend(pid) FROM pg_locks
WHERE locktype = 'advisory' AND classid::bigint = $1 AND objid::bigint = $2 AND objsubid = 2 AND granted
AND pid <> pg_backend_pid() AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
_ROWS_AT_ONCE: Final = 5_000
_BUG_CLASSES: Final = frozenset({"22", "23", "42"})
"""Classes of SQLSTATE that blame the statement or its data: data exceptions, integrity, syntax or access rule."""

_log = logging.getLogger(__name__)


class PostgresSession:
    """The `Session` of a PostgreSQL database; see `repository.Session` for what each method promises."""

    def __init__(self, url: DatabaseUrl, shard: int, lease_s: float, lost: Callable[[], None]) -> None:
        """`lost` is called when another engine has taken the lease of `lease_s` seconds."""
        self._url = url
        self._lease = Lease(shard, lease_s, lambda: connect(url.target), lost, self._hold)
        self._shard = shard
        self._connection: asyncpg.Connection | None = None
        self._has_lock = False
        self._turn = asyncio.Lock()
        """Whose turn on the connection it is: a commit's, or that of looking after the lock."""
        self._commit_sql = statements.postgresql_commit()
        self._head_sql = statements.head(POSTGRESQL)
        self._durability = "full"

    @property
    def durability(self) -> str:
        """`relaxed` where the server runs with fsync=off."""
        return self._durability

    async def open(self) -> None:
        """Connect, check durability, take the lock."""
        try:
            self._connection = await self._connect()
        except _CONNECTING as error:
            reason = str(error) or type(error).__name__
            kind = StorageAway if _may_pass(error) else StorageUnusable
            raise kind(f"PostgreSQL can't be reached at {self._url.shown}: {reason}. Check DATABASE_URL.") from error
        await self._take_lock()

    async def migrate(self) -> None:
        """Over a connection of SQLAlchemy's, which alembic wants; one engine at a time, whatever its shard."""
        if is_newest(await self._revisions()):
            return
        from sqlalchemy.ext.asyncio import create_async_engine  # noqa: PLC0415  brings the ORM, which nothing else needs

        made = partial(connect, self._url.target, statement_timeout_s=None)  # a new index may take hours
        engine = create_async_engine("postgresql+asyncpg://", async_creator=made, poolclass=NullPool)
        try:
            async with engine.begin() as connection:
                await connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LOCK_CLASS}, {_MIGRATING})")
                async with self._rights_explained():
                    await connection.run_sync(migrate)
        except DBAPIError as error:
            raise getattr(error.orig, "__cause__", None) or error from error
        finally:
            await engine.dispose()

    async def fence(self) -> Head:
        """Migrate, then one more epoch: the update waits for a backend of an older engine that is still in its commit."""
        await self.migrate()
        connection = self._connected()
        try:
            async with asyncio.timeout(FENCE_TIMEOUT_S):
                transaction = connection.transaction()
                await transaction.start()
                await connection.execute(statements.fence(POSTGRESQL), *statements.first_engine_row(self._shard))
                await self._lease.take(connection)
                head = await self._head(connection)
                await transaction.commit()
        except BaseException:  # no word of farewell to one that may not listen
            self._drop()
            raise
        self._lease.keep()
        return head

    async def apply(self, change: Change) -> bool:
        """One statement, atomic by itself."""
        async with self._turn:
            return await self._write(self._connected(), change)

    async def resolve(self, change: Change) -> bool:
        """Under the engine row's lock, which an old backend of ours may hold until it is gone. Every step has its time, so that a
        way to the database that swallows what is sent is given up, and a new one found.
        """
        async with self._turn:
            self._drop()
            try:
                async with asyncio.timeout(PROBE_TIMEOUT_S):
                    connection = await self._reconnect()
                    transaction = connection.transaction()
                    await transaction.start()
                    is_there = await self._head(connection) == change.after
                async with asyncio.timeout(COMMIT_TIMEOUT_S):
                    committed = is_there or await self._write(connection, change)
                    await transaction.commit()
            except BaseException:
                self._drop()
                raise
            return committed

    async def load(self) -> Stored:
        """In one snapshot."""
        connection = self._connected()
        loads, shard, ids = statements.loads(POSTGRESQL), self._shard, shard_ids(self._shard)
        async with self._turn, connection.transaction(isolation="repeatable_read", readonly=True):
            extent = Extent(
                await connection.fetchval(loads.event_batches, shard),
                await connection.fetchval(loads.last_trade, *ids),
                await connection.fetchval(loads.journaled, shard),
                await connection.fetchval(loads.trade_count, *ids),
                _values(await connection.fetchrow(loads.journal_start, shard)),
            )
            more, orders = None, list[OrderRecord]()
            if await connection.fetchval(loads.open_order_count, *ids) > statements.FEW:
                more = partial(open_orders, "postgres", self._url.target, shard)
            else:
                orders = records(map(tuple, await connection.fetch(loads.open_orders, *ids)), OrderRecord)
            engine = _values(await connection.fetchrow(loads.engine, shard))
            journal = _values(await connection.fetchrow(loads.journal, shard))
            instruments = map(tuple, await connection.fetch(loads.instruments, shard))
            positions = map(tuple, await connection.fetch(loads.positions, shard))
            balances = map(tuple, await connection.fetch(loads.balances, shard))
            assets = map(tuple, await connection.fetch(loads.assets, shard))
            controls = map(tuple, await connection.fetch(loads.controls, shard))
            made = PositionsOfTrades()
            if lacks_positions(engine):
                cursor = await connection.cursor(loads.traders, *ids)
                while rows := await cursor.fetch(_ROWS_AT_ONCE):
                    made.add(map(tuple, rows))
            read = Read(engine, journal, extent, instruments, positions, balances, assets, controls)
            return stored_rows(read, made.records(), orders, more)

    async def close(self) -> None:
        """Close the connection, and with it give back the lock; one that a commit still waits on is ended without a word."""
        if self._turn.locked():
            self._drop()
        connection, self._connection = self._connection, None
        await self._lease.close(connection)
        if connection is not None:
            with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
                await connection.close(timeout=CLOSE_TIMEOUT_S)

    def final(self, error: Exception) -> Exception | None:
        """A bug, unless it is the network's, the server's state or a timeout."""
        if isinstance(error, asyncpg.PostgresError):
            state = error.sqlstate or ""
            return InvariantBroken(f"PostgreSQL refused the batch: {error}") if state[:2] in _BUG_CLASSES else None
        if isinstance(error, ValueError):  # asyncpg's DataError is one, and an InterfaceError besides
            return InvariantBroken(f"the batch can't be sent to PostgreSQL: {error}")
        # An operation on a connection that the server has just ended is an InternalClientError.
        return None if isinstance(error, OSError | asyncpg.InterfaceError | asyncpg.InternalClientError) else error

    async def _write(self, connection: asyncpg.Connection, change: Change) -> bool:
        parameters = (*statements.engine_values(change), *statements.columns_of(change))
        return bool(await connection.fetchval(self._commit_sql, *parameters, timeout=COMMIT_TIMEOUT_S) == 1)

    async def _head(self, connection: asyncpg.Connection) -> Head:
        row = await connection.fetchrow(self._head_sql, self._shard, timeout=COMMIT_TIMEOUT_S)
        return Head(*row) if row else Head(0, 0, b"")

    async def _connect(self, timeout_s: float = CONNECT_TIMEOUT_S) -> asyncpg.Connection:
        connection = await connect(self._url.target, timeout_s)
        try:
            await connection.execute(
                f"SET jit = off; SET idle_in_transaction_session_timeout = {IDLE_IN_TRANSACTION_MS}", timeout=timeout_s
            )
            if await connection.fetchval("SHOW synchronous_commit", timeout=timeout_s) == "off":
                raise StorageUnusable(
                    "PostgreSQL is set to synchronous_commit=off for this role, database or server: a commit could be lost."
                    " Set it to on (ALTER ROLE ... RESET synchronous_commit, or in postgresql.conf)."
                )
            if await connection.fetchval("SHOW fsync", timeout=timeout_s) == "off" and self._durability != "relaxed":
                self._durability = "relaxed"
                _log.warning("the PostgreSQL server runs with fsync=off: a power cut can lose what was committed")
        except BaseException:
            connection.terminate()
            raise
        return connection

    def _connected(self) -> asyncpg.Connection:
        if self._connection is None:
            raise asyncpg.InterfaceError("the connection was lost")
        return self._connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def _take_lock(self) -> None:
        """Take the lock, from a holder that is gone if need be; raises EngineRunning.

        A lock that is free says little: the server may have ended its holder's connection (it was restarted). So where the lease
        hasn't run out, its holder is listened for first.
        """
        loop, connection = asyncio.get_running_loop(), self._connected()
        deadline, silent_at = loop.time() + LOCK_WAIT_S, loop.time() + self._lease.silence_s
        first = await self._lease.look(connection)
        while True:
            sign = await self._lease.look(connection)
            lives = sign is not None and not sign.has_run_out and (first is None or sign.renewed_at != first.renewed_at)
            listens = sign is not None and not sign.has_run_out and not lives and loop.time() < silent_at
            if not lives and not listens:
                if await self._try_lock():
                    return
                if sign is not None and sign.has_run_out:
                    await self._take_over()
                    return
            if not listens and loop.time() > deadline:
                raise EngineRunning(
                    f"Another engine is running on {self._url.shown} (shard {self._shard})."
                    " Stop it first, or name another database in DATABASE_URL."
                )
            await asyncio.sleep(_LOCK_PAUSE_S)

    async def _reconnect(self) -> asyncpg.Connection:
        """A new connection, with the lock if it can be had."""
        self._connection = connection = await self._connect(PROBE_TIMEOUT_S)
        if not await self._try_lock():
            _log.warning("the engine's lock is still held; going on without it, the compare-and-set is the safety")
        return connection

    async def _hold(self) -> None:
        """Retake the lock where it went with its connection, which an idle engine wouldn't notice otherwise."""
        if self._turn.locked():  # a commit will notice by itself
            return
        async with self._turn:
            try:
                async with asyncio.timeout(PROBE_TIMEOUT_S):
                    if self._connection is None or self._connection.is_closed():
                        await self._reconnect()
                    elif not self._has_lock:
                        await self._try_lock()
            except BaseException:
                self._drop()
                raise

    async def _try_lock(self) -> bool:
        locked = await self._connected().fetchval("SELECT pg_try_advisory_lock($1, $2)", LOCK_CLASS, self._shard)
        self._has_lock = bool(locked)
        return self._has_lock

    async def _take_over(self) -> None:
        """End the connection of an engine that has said nothing for a whole lease, and take its lock; where that isn't permitted,
        or takes long, go on without the lock.
        """
        _log.warning("shard %d: its holder has let the lease run out; taking over", self._shard)
        try:
            await self._connected().execute(_END_HOLDER, LOCK_CLASS, self._shard)
        except asyncpg.InsufficientPrivilegeError as error:
            _log.warning("its connection may not be ended (%s)", error)
        for _ in range(_LOCK_LOOKS):
            if await self._try_lock():
                return
            await asyncio.sleep(_LOCK_PAUSE_S)
        _log.warning("the engine's lock is still held; going on without it, the compare-and-set is the safety")

    async def _revisions(self) -> list[str]:
        """The schema revisions that are committed; none where that can't be read, which migrating will then explain."""
        with suppress(asyncpg.UndefinedTableError, asyncpg.InsufficientPrivilegeError):
            return [row["version_num"] for row in await self._connected().fetch(FOUND)]
        return []

    @asynccontextmanager
    async def _rights_explained(self) -> AsyncIterator[None]:
        try:
            yield
        except Exception as error:
            if getattr(getattr(error, "orig", None), "sqlstate", None) != asyncpg.InsufficientPrivilegeError.sqlstate:
                raise
            role, database = _values(await self._connected().fetchrow("SELECT current_user, current_database()")) or ("", "")
            raise StorageUnusable(
                f"Role {role} may not make tables in schema public of database {database}."
                f' As the database\'s owner run, connected to it: GRANT CREATE, USAGE ON SCHEMA public TO "{role}";'
            ) from error


def _may_pass(error: Exception) -> bool:
    """Whether an address that couldn't be connected to may be the right one all the same: nobody listens, or not yet, or it is
    full. A name that nobody knows, a wrong password, role or database, and a certificate that is refused don't mend themselves.
    """
    if isinstance(error, asyncpg.PostgresError):
        return (error.sqlstate or "")[:2] in _PASSING_CLASSES
    return isinstance(error, OSError) and not isinstance(error, socket.gaierror | ssl.SSLError)


def _values(row: asyncpg.Record | None) -> tuple[Any, ...] | None:
    return None if row is None else tuple(row)
