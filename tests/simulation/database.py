"""The database of a simulation: the project's own SQL on SQLite in memory, behind a server whose faults the seed chooses.

What is carried out is carried out at one moment, whole, and in the order in which it lands, as under the engine row's lock. What
is asked, what is carried out and what is answered come apart: see `plan.COMMIT_FAULTS`. What a killed process has asked may still
be carried out after its death.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from functools import cache
from random import Random
from typing import Any, NamedTuple, TypeVar

from msgspec import Struct

from ome.db.recovery import Stored
from ome.db.sqlite import _final, _Work
from ome.db.statements import Change, Head
from ome.domain.errors import EngineRunning
from simulation.loop import WORLD, VirtualLoop, machine_context
from simulation.plan import Plan, random_of

_T = TypeVar("_T")
_LONG_S = (0.3, 1.2, 3.0, 6.0)
"""Seconds that what hangs may hang, and what comes late may come late."""


class Unreachable(OSError):
    """The server doesn't answer, or the connection was lost: what was asked may have been carried out, or may still be."""


class Landed(NamedTuple):
    """A change that became durable, and what it became."""

    change: Change
    time: float


class Fate(Struct, frozen=True):
    """What becomes of something asked: when it is carried out (None: never), when it is answered, and whether it raises."""

    lands_in_s: float | None
    answered_in_s: float
    raises: bool = False
    locks: bool = False


class MemoryWork(_Work):
    """The SQLite session's own work, on a connection that outlives every process."""

    def __init__(self, connection: sqlite3.Connection, landed: Callable[[Change], None], random: Random) -> None:
        super().__init__("", shard=0)
        self._connection = self._memory = connection
        self._landed = landed
        self.random = random

    def _connect(self) -> sqlite3.Connection:
        return self._memory

    def _disconnect(self) -> None:
        """The connection stays: it is the database."""

    def _migrate(self) -> None:
        """It was, once for all runs."""

    def _write(self, connection: sqlite3.Connection, change: Change) -> bool:
        done = super()._write(connection, change)
        if done:
            self._landed(change)
        return done


class Database:
    """The server: `history` has every change that became durable, in order."""

    def __init__(self, loop: VirtualLoop, plan: Plan, tell: Callable[..., None], work: type[MemoryWork]) -> None:
        self._loop = loop
        self._plan = plan
        self._random = random_of(plan.seed, "database")
        self._context = machine_context(WORLD)
        self._tell = tell
        self._down_until = 0.0
        self._row_free_at = 0.0
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        _empty().backup(self.connection)
        self.work = work(self.connection, self._has_landed, random_of(plan.seed, "work"))
        self.history: list[Landed] = []
        self.epochs: list[int] = []
        self.epoch_at: dict[int, int] = {}
        """By position: the epoch of the engine that committed it."""
        self.faults: dict[str, int] = {}
        self.lock_holder: int | None = None
        self.dead: set[int] = set()
        """Processes that were killed: the server has noticed."""
        self.peace = False
        self.on_landed: Callable[[Change], None] = lambda _: None
        self.on_fenced: Callable[[int], None] = lambda _: None

    @property
    def position(self) -> int:
        """The last position that is durable."""
        return self.history[-1].change.after.position if self.history else 0

    @property
    def epoch(self) -> int:
        """The epoch that is durable."""
        return self.epochs[-1] if self.epochs else 0

    def go_down(self, seconds: float) -> None:
        """Nothing is carried out and everything raises for so long; what was asked before is forgotten, unless it landed."""
        self._down_until = self._loop.time() + seconds

    async def ask(self, call: Callable[[], _T], *, writes: bool) -> _T:
        """Have the server do something; it goes on with it whatever becomes of whoever asked."""
        future: asyncio.Future[_T] = self._loop.create_future()
        fate = self._fate(writes)
        now = self._loop.time()
        lands_at = None if fate.lands_in_s is None else now + fate.lands_in_s
        if lands_at is not None and writes:
            lands_at = max(lands_at, self._row_free_at)
            self._row_free_at = lands_at if fate.locks else self._row_free_at
        answered_at = now + fate.answered_in_s
        results: list[_T | Exception] = []
        if lands_at is not None:
            self._loop.call_at(lands_at, self._land, call, results, context=self._context)
            answered_at = answered_at if fate.raises else max(answered_at, lands_at)
        self._loop.call_at(answered_at, self._answer, future, results, fate, context=self._context)
        return await future

    def _land(self, call: Callable[[], _T], results: list[_T | Exception]) -> None:
        if self._loop.time() < self._down_until:
            results.append(Unreachable("the server is down"))
            return
        try:
            results.append(call())
        except Exception as error:  # noqa: BLE001  it is whoever asked who is told
            results.append(error)

    def _answer(self, future: asyncio.Future[_T], results: list[_T | Exception], fate: Fate) -> None:
        if future.done():
            return
        if not results and not fate.raises and fate.lands_in_s is not None:
            self._loop.call_soon(self._answer, future, results, fate, context=self._context)  # it lands at this very moment
        elif fate.raises or not results:
            future.set_exception(Unreachable("the connection was lost"))
        elif isinstance(results[0], Exception):
            future.set_exception(results[0])
        else:
            future.set_result(results[0])

    def _fate(self, writes: bool) -> Fate:  # noqa: PLR0911  one for each kind
        random, usual = self._random, self._plan.database_s
        lands, answered = random.expovariate(1 / usual), random.expovariate(1 / usual)
        if self._loop.time() < self._down_until:
            return Fate(None, lands, raises=True)
        kind = "" if self.peace else self._draw(writes)
        if kind:
            self.faults[kind] = self.faults.get(kind, 0) + 1
            self._tell("fault", kind)
        late = random.choice(_LONG_S) * random.uniform(0.5, 1.5)
        match kind:
            case "refused" | "read failed":
                return Fate(None, lands, raises=True)
            case "committed but raised":
                return Fate(lands, lands + answered, raises=True)
            case "hung":
                return Fate(random.choice([lands, late]), late)
            case "hung and lost":
                return Fate(random.choice([None, lands, late]), late, raises=True)
            case "zombie":
                return Fate(late, answered, raises=True)
            case "zombie with the lock":
                return Fate(late, answered, raises=True, locks=True)
            case "slow":
                return Fate(late / 10, late / 10)
        return Fate(lands, lands + answered)

    def _draw(self, writes: bool) -> str:
        if not writes:
            return "read failed" if self._random.random() < self._plan.read_faults else ""
        return next((kind for kind, rate in self._plan.commit_faults.items() if self._random.random() < rate), "")

    def _has_landed(self, change: Change) -> None:
        self.history.append(Landed(change, self._loop.time()))
        for position in range(change.batch.first_position, change.batch.last_position + 1):
            self.epoch_at[position] = change.after.epoch
        self._tell("committed", change.after.epoch, change.batch.first_position, change.batch.last_position)
        self.on_landed(change)

    def note_epoch(self, head: Head) -> None:
        """An engine has taken the fence."""
        self.on_fenced(head.epoch)
        self.epochs.append(head.epoch)
        self._tell("fenced", head.epoch, head.position)


class SimulatedSession:
    """The `Session` of a process on the simulated server."""

    durability = "full"

    def __init__(self, database: Database, machine: int, *, breaks_lock: bool) -> None:
        self.database = database
        self._machine = machine
        self._breaks_lock = breaks_lock

    async def open(self) -> None:
        """Take the lock, which a process that takes over breaks (its holder's lease has run out)."""
        await self.database.ask(self._take_lock, writes=False)

    async def migrate(self) -> None:
        """It was, once for all runs."""

    async def fence(self) -> Head:
        """See `repository.Session`."""
        return await self.database.ask(self._fence, writes=True)

    async def load(self) -> Stored:
        """See `repository.Session`."""
        return await self.database.ask(self.database.work.load, writes=False)

    async def apply(self, change: Change) -> bool:
        """See `repository.Session`."""
        return await self.database.ask(lambda: self.database.work.apply(change), writes=True)

    async def resolve(self, change: Change) -> bool:
        """See `repository.Session`."""
        return await self.database.ask(lambda: self.database.work.resolve(change), writes=True)

    async def close(self) -> None:
        """Give back the lock."""
        if self.database.lock_holder == self._machine:
            self.database.lock_holder = None

    def final(self, error: Exception) -> Exception | None:
        """Whatever the connection does passes; for the rest the SQLite session decides."""
        return None if isinstance(error, Unreachable) else _final(error)

    def _take_lock(self) -> None:
        if self._machine in self.database.dead:
            raise Unreachable("nobody is there any more")
        if self.database.lock_holder not in {None, self._machine} and not self._breaks_lock:
            raise EngineRunning("another engine is running")
        self.database.lock_holder = self._machine

    def _fence(self) -> Head:
        head = self.database.work.fence()
        self.database.note_epoch(head)
        return head


class SimulatedReader:
    """The `Reader` of a process on the simulated server."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def fetch(self, sql: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        """See `readers.Reader`."""
        return await self._database.ask(lambda: self._database.connection.execute(sql, parameters).fetchall(), writes=False)

    async def close(self) -> None:
        """Nothing is held."""


@cache
def _empty() -> sqlite3.Connection:
    """A database with every migration and nothing in it; made once."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    work = _Work("", shard=0)
    work._connection = connection
    work._migrate()
    return connection
