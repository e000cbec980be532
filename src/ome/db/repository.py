"""The one writer of a shard's tables: durable commits, the fence, recovery. The same for every database; a `Session` is the part
that differs.

Ordering guarantee: batches follow each other without a gap, each a compare-and-set on the engine row (epoch, position, chain
hash), so that one engine at most can commit, and no batch twice. Locks and leases are early warnings; this is the safety.

A commit that raised may have happened all the same. It is resolved, never guessed: over a new connection and under the engine
row's lock, the row that this batch makes means it is there, the row that it follows means that it isn't, and then the very same
batch is applied again; anything else means that another engine has taken over. Meanwhile `stalled(True)` has been said.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final, Protocol

from ome.db.recovery import Stored, recovered
from ome.db.statements import Change, Head, change_of
from ome.domain.batch import Batch
from ome.domain.errors import (
    EngineRunning,
    Fenced,
    InvariantBroken,
    OmeError,
    StandingBy,
    StorageAway,
    StorageError,
    StorageUnusable,
)
from ome.domain.ports import Recovered

FIRST_PAUSE_S: Final = 0.05
"""Seconds between a failed commit and the first look at what became of it; doubled from look to look."""
LONGEST_PAUSE_S: Final = 0.5

_log = logging.getLogger(__name__)


class Session(Protocol):
    """One dedicated, durable session of a database, used by its repository alone and by one task at a time."""

    @property
    def durability(self) -> str:
        """`full`, or `relaxed` where the database has been told not to flush; known once open."""

    async def open(self) -> None:
        """Connect, check durability, take the lock. Raises a StorageError that says what stands against it."""

    async def migrate(self) -> None:
        """Bring the tables up to date, all of it or nothing."""

    async def fence(self) -> Head:
        """Migrate, then one more epoch, durable; the head that commits have to start from."""

    async def load(self) -> Stored:
        """All of the shard that recovery needs, of one moment."""

    async def apply(self, change: Change) -> bool:
        """Commit a change; False where the head isn't the one that it follows: then nothing was written. May raise anything."""

    async def resolve(self, change: Change) -> bool:
        """As `apply`, over a new connection and where the change may be there already: then it isn't written again."""

    async def close(self) -> None:
        """Give back the lock and the connection."""

    def final(self, error: Exception) -> Exception | None:
        """What to raise for an error that trying again doesn't mend (a bug, a broken disk), or None for all others."""


class BatchRepository:
    """The `Repository` of `domain.ports`. `stalled` hears True when a commit's outcome isn't clear and False once it is.

    A `commit` must not be cancelled: that would not stop the database. After one that raised, nothing more can be committed.
    """

    def __init__(
        self, session: Session, *, shard: int, stalled: Callable[[bool], None] | None = None, standby: bool = False
    ) -> None:
        """`standby`: another engine that is running is a reason to try again (StorageAway)."""
        self._session = session
        self._standby = standby
        self._shard = shard
        self._stalled = stalled or (lambda _: None)
        self._head: Head | None = None
        self._epoch = 0
        self._incarnation = ""
        self._is_open = False
        self._closed = False

    @property
    def durability(self) -> str:
        """`full`, or `relaxed` where the database doesn't flush (DUR1)."""
        return self._session.durability

    @property
    def epoch(self) -> int:
        """This engine's epoch, counted up by each start; 0 before the fence is taken."""
        return self._epoch

    @property
    def incarnation(self) -> str:
        """What tells this history from every other: drawn once, with the shard's first row; "" before it is loaded."""
        return self._incarnation

    async def open(self) -> None:
        """Connect and take the lock; nothing where that is done. Raises StorageAway for what may pass by itself."""
        if not self._is_open:
            async with self._or_closed():
                try:
                    await self._session.open()
                except EngineRunning as error:
                    raise StandingBy("Standing by: another engine is running.") if self._standby else error from error
            self._is_open, self._closed = True, False

    async def start(self) -> None:
        """Connect, take the lock, migrate, take the fence (DUR7, DUR8)."""
        await self.open()
        async with self._or_closed():
            self._head = await self._session.fence()
        self._epoch = self._head.epoch

    async def migrate(self) -> None:
        """Connect, take the lock, bring the tables up to date, and nothing more: no epoch is taken, `close` is what follows."""
        await self.open()
        async with self._or_closed():
            await self._session.migrate()

    async def load(self) -> Recovered:
        """What the last committed batch left, checked for continuity. Raises StateMismatch, or Fenced."""
        head = self._following()
        with self._wrapped():
            stored = await self._session.load()
        if stored.epoch != head.epoch:
            raise self._fenced()
        self._incarnation = stored.engine.incarnation
        return recovered(self._shard, stored)

    async def commit(self, batch: Batch) -> None:
        """Make a batch durable; see the module for what happens when that fails.

        Raises Fenced, InvariantBroken for a batch that no database would take (a bug), StorageUnusable for a broken disk.
        """
        head = self._following()
        if batch.first_position != head.position + 1 or batch.last_position < batch.first_position:
            raise InvariantBroken(f"batch {batch.first_position}..{batch.last_position} doesn't follow position {head.position}")
        change = change_of(self._shard, head, batch)
        self._head = None  # until this is decided there is nothing that a next batch could follow
        try:
            committed = await self._session.apply(change)
        except Exception as error:  # noqa: BLE001  whatever it was, the commit may have happened
            self._raise_if_final(error)
            _log.warning("commit of positions %d..%d failed: %s", batch.first_position, batch.last_position, error)
            committed = await self._resolve(change)
        if not committed:
            raise self._fenced()
        self._head = change.after

    async def close(self) -> None:
        """Give back the lock and the connection; what was committed stays."""
        self._head, self._is_open, self._closed = None, False, True
        await self._session.close()

    @asynccontextmanager
    async def _or_closed(self) -> AsyncIterator[None]:
        """Close the session again where starting fails."""
        try:
            with self._wrapped():
                yield
        except BaseException:
            await self.close()
            raise

    @contextmanager
    def _wrapped(self) -> Iterator[None]:
        """A driver's errors, outside of a commit, as one of ours: StorageAway for those that may pass."""
        try:
            yield
        except OmeError:
            raise
        except Exception as error:
            final = self._session.final(error)
            if isinstance(final, StorageError):
                raise final from error
            kind = StorageAway if final is None else StorageUnusable
            raise kind(f"The database can't be used: {error or type(error).__name__}.") from error

    async def _resolve(self, change: Change) -> bool:
        self._stalled(True)  # noqa: FBT003  its one argument
        for pause in _pauses():
            await asyncio.sleep(pause)
            self._raise_if_closed()
            try:
                committed = await self._session.resolve(change)
            except Exception as error:  # noqa: BLE001  likewise
                self._raise_if_final(error)
                self._raise_if_closed()
                _log.warning("the database is still failing: %s", error)
            else:
                break
        if committed:
            _log.warning("positions %d..%d are committed", change.batch.first_position, change.batch.last_position)
            self._stalled(False)  # noqa: FBT003
        return committed

    def _raise_if_closed(self) -> None:
        if self._closed:
            raise StorageUnusable("The database was closed before the commit's outcome was known.")

    def _raise_if_final(self, error: Exception) -> None:
        final = error if isinstance(error, StorageError) else self._session.final(error)
        if final is not None:
            raise final from (None if final is error else error)

    def _following(self) -> Head:
        if self._head is None:
            raise StorageUnusable("The repository isn't started, or a commit has failed for good")
        return self._head

    def _fenced(self) -> Fenced:
        return fenced(self._shard)


def fenced(shard: int) -> Fenced:
    """What an engine that was overtaken stops with."""
    return Fenced(f"Another engine has taken over shard {shard}; this one has stopped and committed nothing since.")


def _pauses() -> Iterator[float]:
    pause = FIRST_PAUSE_S
    while True:
        yield pause
        pause = min(pause * 2, LONGEST_PAUSE_S)
