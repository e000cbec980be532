"""The shard map in a PostgreSQL database: one row about the cluster, a row for each symbol that was put on a shard.

A listed symbol's shard is in its own row (`stored_instruments`), written by the engine that listed it or that took it in; the map
is made from both. One that was given to a shard and has not arrived there belongs to it already (`symbol_moves`). The version
counts each step: a symbol that is put somewhere, leaves, or arrives.
The first engine of a cluster makes its row; others must say the same number of shards.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Collection, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Final

import asyncpg
from msgspec import Struct

from ome.db.connection import LOCK_CLASS, connect
from ome.db.url import DatabaseUrl, parse_url
from ome.domain.clock import MICROSECONDS
from ome.domain.commands import CancelAllAfter, Stamped, decode_commands
from ome.domain.enums import ControlKind
from ome.domain.errors import Fenced, StorageAway, StorageUnusable
from ome.domain.moves import MoveRecord, TimerChange
from ome.domain.shards import ShardMap

_MAKE: Final = "INSERT INTO cluster (id, name, shards, version) VALUES (1, $1, $2, 1) ON CONFLICT (id) DO NOTHING"
_CLUSTER: Final = "SELECT name, version, shards FROM cluster WHERE id = 1"
_PLACED: Final = """
SELECT symbol, shard FROM stored_instruments WHERE shard >= 0
UNION ALL SELECT symbol, shard FROM shard_map WHERE symbol NOT IN (SELECT symbol FROM stored_instruments)
"""
_MOVED: Final = "SELECT symbol, target, admitted_position IS NULL, shard, position FROM symbol_moves ORDER BY shard, position"
_ARRIVING: Final = """
SELECT shard, position, symbol, target, time, state_hash, state, admitted_position FROM symbol_moves
WHERE target = $1 AND admitted_position IS NULL ORDER BY shard, position
"""
_TIMER_USERS: Final = """
SELECT user_id FROM stored_controls
WHERE kind = $1 AND symbol = '' AND shard = $2 AND changed_at >= $3 AND user_id = ANY($4::text[]) ORDER BY user_id
"""
_COMMANDS: Final = """
SELECT last_position, commands FROM journal WHERE shard = $1 AND last_position > $2 ORDER BY last_position LIMIT 100
"""
_HEADS: Final = "SELECT shard, epoch, incarnation, position FROM engine"
_PUT: Final = "INSERT INTO shard_map (symbol, shard) VALUES ($1, $2) ON CONFLICT (symbol) DO UPDATE SET shard = excluded.shard"
_FENCE: Final = "SELECT 1 FROM engine WHERE shard = $1 AND epoch = $2 FOR SHARE"
_CHANGED: Final = "UPDATE cluster SET version = version + 1 WHERE id = 1"
_WHOLE_CLUSTER: Final = -2
"""The second half of the key of the lock of `alone`."""
_FAILURES: Final = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
NEEDS_POSTGRESQL: Final = (
    "Gateways and shards need a PostgreSQL database: set DATABASE_URL, such as postgresql://ome@localhost/ome."
)


class Head(Struct, frozen=True):
    """How far a shard has come, by its row: the epoch of its last engine, its database's incarnation, its committed position."""

    epoch: int
    incarnation: str
    position: int


class StoredShardMap:
    """The map of the database that `url` (DATABASE_URL as people write it) names. Each question has a connection of its own."""

    def __init__(self, url: str) -> None:
        self._url: DatabaseUrl = parse_url(url)
        if self._url.kind == "sqlite":
            raise StorageUnusable(NEEDS_POSTGRESQL)

    async def join(self, shards: int) -> ShardMap:
        """The map, which a cluster of so many shards is. Raises StorageUnusable where it has another number of them."""
        found = await self._read(shards)
        if found is None:
            raise StorageUnusable("The cluster's row has gone.")
        if found.shards != shards:
            raise StorageUnusable(
                f"This database is a cluster of {found.shards} shards, not of {shards}: say --shard i/{found.shards}."
            )
        return found

    async def read(self) -> ShardMap | None:
        """The map; None where no engine of a cluster has ever started on this database."""
        return await self._read(None)

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[bool]:
        """Whether nobody else was in here, on this database, and for as long as nobody else gets in. True where it is away, or
        behind a pooler that gives each question another connection: this is an early warning, the engines' fences are the safety.
        """
        try:
            connection = await connect(self._url.target)
        except _FAILURES:
            yield True
            return
        try:
            yield bool(await connection.fetchval("SELECT pg_try_advisory_lock($1, $2)", LOCK_CLASS, _WHOLE_CLUSTER))
        finally:
            connection.terminate()

    async def heads(self) -> dict[int, Head]:
        """How far each shard has come; one whose engine has never started isn't there."""
        try:
            connection = await connect(self._url.target)
            try:
                rows = await connection.fetch(_HEADS)
            finally:
                await connection.close(timeout=1)
        except _FAILURES as error:
            raise StorageAway(f"PostgreSQL can't be reached at {self._url.shown}: {error or type(error).__name__}.") from error
        return {row["shard"]: Head(row["epoch"], row["incarnation"], row["position"]) for row in rows}

    async def arriving(self, shard: int) -> list[MoveRecord]:
        """The symbols that were given to a shard and that it hasn't taken yet."""
        try:
            connection = await connect(self._url.target)
            try:
                rows = await connection.fetch(_ARRIVING, shard)
            finally:
                await connection.close(timeout=1)
        except _FAILURES as error:
            raise StorageAway(f"PostgreSQL can't be reached at {self._url.shown}: {error or type(error).__name__}.") from error
        return [MoveRecord(*row) for row in rows]

    async def timers_since(self, move: MoveRecord, users: Collection[str]) -> list[TimerChange]:
        """What became of these users' dead-man timers on the shard that a symbol has left, behind the command that gave it: what
        its journal has of those whose timer is another since.
        """
        changes: list[TimerChange] = []
        position = move.position
        try:
            connection = await connect(self._url.target)
            try:
                rows = await connection.fetch(_TIMER_USERS, ControlKind.TIMER, move.shard, move.time, list(users))
                changed = {user_id for (user_id,) in rows}
                names = [user_id.encode() for user_id in changed]
                while names and (batches := await connection.fetch(_COMMANDS, move.shard, position)):
                    position = batches[-1][0]
                    for _, commands in batches:
                        if any(name in commands for name in names):  # decoding takes longer
                            changes += _timer_changes(changed, move.position, decode_commands(commands))
            finally:
                await connection.close(timeout=1)
        except _FAILURES as error:
            raise StorageAway(f"PostgreSQL can't be reached at {self._url.shown}: {error or type(error).__name__}.") from error
        return changes

    async def put(self, symbol: str, shard: int, *, by: int, epoch: int) -> None:
        """Put a symbol that isn't listed on a shard; one version more. Raises Fenced where the engine of shard `by` whose word
        this is, that of `epoch`, was overtaken: its successor read the map before, and may have listed the symbol.
        """
        try:
            connection = await connect(self._url.target)
            try:
                async with connection.transaction():
                    if await connection.fetchrow(_FENCE, by, epoch) is None:
                        raise Fenced(f"Another engine has taken over shard {by}.")
                    await connection.execute(_PUT, symbol, shard)
                    await connection.execute(_CHANGED)
            finally:
                await connection.close(timeout=1)
        except _FAILURES as error:
            raise StorageAway(f"PostgreSQL can't be reached at {self._url.shown}: {error or type(error).__name__}.") from error

    async def _read(self, make: int | None) -> ShardMap | None:
        try:
            connection = await connect(self._url.target)
            try:
                async with connection.transaction(isolation="repeatable_read" if make is None else None):
                    if make is not None:
                        await connection.execute(_MAKE, secrets.token_hex(6), make)
                    row = await connection.fetchrow(_CLUSTER)
                    placed = await connection.fetch(_PLACED) if row is not None else []
                    moved = await connection.fetch(_MOVED) if row is not None else []
            finally:
                await connection.close(timeout=1)
        except asyncpg.UndefinedTableError:
            return None
        except _FAILURES as error:
            raise StorageAway(f"PostgreSQL can't be reached at {self._url.shown}: {error or type(error).__name__}.") from error
        if row is None:
            return None
        in_transit = {symbol: target for symbol, target, is_on_its_way, *_ in moved if is_on_its_way}
        steps = 2 * len(moved) - len(in_transit)  # each move is two: the symbol leaves, and arrives
        return ShardMap(
            row["name"],
            row["version"] + steps,
            row["shards"],
            {each[0]: each[1] for each in placed} | in_transit,
            frozenset(in_transit),
            frozenset(symbol for symbol, *_ in moved),
            {shard: position for *_, shard, position in moved},  # the last of a shard stays
        )


def _timer_changes(users: Collection[str], position: int, commands: Iterable[Stamped]) -> Iterator[TimerChange]:
    """Those of these users, by the commands behind a position."""
    for stamped in commands:
        command = stamped.command
        if isinstance(command, CancelAllAfter) and command.user_id in users and stamped.position > position:
            until = stamped.time + command.seconds * MICROSECONDS if command.seconds else None
            yield TimerChange(command.user_id, stamped.time, until)
