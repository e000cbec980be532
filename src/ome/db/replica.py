"""A copy of the database that follows it, DATABASE_READ_URL, and when it may be asked instead.

What the copy answers must be what the primary would have answered: whoever was told of an order, a trade or a change, by whatever
gateway, finds it in every answer after that (DUR4). So each question first asks both how far they are, in one small statement
each: the engine rows, which every batch moves in its own transaction. Only a copy that has everything that the primary had when
the question came is asked; for one that is a moment behind the question waits, WAIT_S at most. Everything else is asked of the
primary: what a copy lacks, one that doesn't answer, one of another history.

However many questions come at once, each server is asked how far it is once at a time: those that come meanwhile share the next
answer. A copy that was found wanting costs nobody a wait until `_watch`, twice a second, finds it well again.

The address is to be that of one server. Behind one that divides connections among several copies the one that says how far it
is may be another than the one that answers.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, Literal, TypeVar

import asyncpg

from ome.db.readers import FAILURES, Reader
from ome.domain.errors import StorageError
from ome.domain.ports import ReplicaMetrics

WAIT_S: Final = 0.1
"""How long a question waits for a copy that is behind, or that doesn't say how far it is."""
LOOK_S: Final = 2.0
"""How long a server may take to say how far it is."""
WATCH_S: Final = 0.5
"""Seconds between two looks of nobody's."""
ANSWER_S: Final = 3.0
"""How long one question may take a copy; then the primary is asked."""
SAY_S: Final = 10.0
"""Seconds between two lines of the log about it at least: one that is nearly too far behind changes twice a second."""
MOST_SAMPLES: Final = 7200
"""Of where the primary was: an hour of them, by which the lag is measured."""
_FIRST_PAUSE_S: Final = 0.002
_POSITIONS: Final = "SELECT shard, incarnation, epoch, position FROM engine"

Cause = Literal["behind", "away", "other", "primary"]
"""Why a copy isn't asked (`WHY`)."""
WHY: Final[dict[Cause, str]] = {
    "behind": "it is too far behind.",
    "away": "it doesn't answer.",
    "other": "it belongs to another history, so it is no copy of DATABASE_URL.",
    "primary": "the primary doesn't say what there is.",
}
Marks = dict[int, tuple[str, int, int]]
"""By shard: the history's incarnation, the engine's epoch, the last committed position."""
T = TypeVar("T")

_log = logging.getLogger(__name__)


class Look:
    """Asks one server how far it is, for as many as want to know."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._running: asyncio.Task[Marks] | None = None
        self._next: asyncio.Task[Marks] | None = None

    def begin(self) -> asyncio.Task[Marks]:
        """Ask now, though perhaps for others too: shield it where you wait for it."""
        if self._next is None:
            self._next = asyncio.create_task(self._ask(self._running))
            self._next.add_done_callback(_heard)
        return self._next

    async def take(self) -> Marks:
        """How far it is when this is called, or a moment later. Raises what `Reader` raises."""
        return await asyncio.shield(self.begin())

    async def _ask(self, before: asyncio.Task[Marks] | None) -> Marks:
        if before is not None:
            await asyncio.wait([before])
        self._running, self._next = self._next, None
        async with asyncio.timeout(LOOK_S):
            rows = await self._reader.fetch(_POSITIONS, ())
        return {shard: (incarnation, epoch, position) for shard, incarnation, epoch, position in rows}

    async def close(self) -> None:
        """Give up what is asked, and the connection."""
        asked = [task for task in (self._running, self._next) if task is not None and not task.done()]
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        await self._reader.close()


def _heard(task: asyncio.Task[Marks]) -> None:
    """Whoever waited has been told; where nobody waits any more, nobody need be."""
    if not task.cancelled():
        task.exception()


def has_all(copy: Marks, primary: Marks) -> bool:
    """Whether a copy has everything that the primary had."""
    return all(
        shard in copy and copy[shard][0] == incarnation and copy[shard][1] >= epoch and copy[shard][2] >= position
        for shard, (incarnation, epoch, position) in primary.items()
    )


def is_other(copy: Marks, primary: Marks) -> bool:
    """Whether a copy is no copy: what it has of a shard belongs to another history."""
    return any(copy[shard][0] != primary[shard][0] for shard in copy.keys() & primary.keys())


class Replica:
    """Who is asked: the copy where it has everything, else the primary. `start` it before the first question."""

    def __init__(self, primary: Reader, copy: Reader, told: ReplicaMetrics) -> None:
        """One connection of each reader is used, and closed at the end."""
        self._primary, self._copy = Look(primary), Look(copy)
        self._told = told
        self._cause: Cause | None = "away"
        self._error = ""
        self._said: Cause | Literal["nothing"] | None = "nothing"
        self._said_s = -math.inf
        """What the log says, and since when."""
        self._samples: deque[tuple[float, Marks]] = deque()
        self._watching: asyncio.Task[None] | None = None
        self._looked = asyncio.Event()

    def start(self) -> None:
        """Begin to look how it stands; until that is known, the primary is asked."""
        self._watching = asyncio.create_task(self._watch(), name="replica")

    async def looked(self) -> None:
        """Wait until it is known for the first time: two looks at most."""
        await self._looked.wait()

    async def close(self) -> None:
        """Look no more, and give back the connections."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        await self._primary.close()
        await self._copy.close()

    async def ask(
        self, copy: Callable[[], Awaitable[T]], primary: Callable[[], Awaitable[T]], within_s: float | None = None
    ) -> T:
        """The answer of the copy where it has everything that was committed when this was called, else of the primary, which is
        also asked where the copy fails, or takes longer than `within_s` (None: as long as it likes).
        """
        if await self.may_answer():
            try:
                async with asyncio.timeout(within_s):
                    answer = await copy()
            except (StorageError, TimeoutError) as error:
                self.failed(error)
            else:
                self.answered()
                return answer
        return await primary()

    async def may_answer(self) -> bool:
        """Whether the copy has everything that was committed when this was called; a fallback is counted where it hasn't."""
        if self._cause is None:
            self._found(await self._compare())
        if self._cause is not None:
            self._told.replica_fell_back(self._cause)
        return self._cause is None

    def answered(self) -> None:
        """The copy has answered a question."""
        self._told.replica_read()

    def failed(self, error: Exception) -> None:
        """The copy couldn't answer a question: the primary is to be asked."""
        self._error = str(error)
        self._found("away")
        self._told.replica_fell_back("away")

    async def _compare(self, wait_s: float = WAIT_S) -> Cause | None:
        """Why the copy can't be asked now; None where it can be, within this time."""
        asked = self._copy.begin()
        try:
            due = await self._primary.take()
        except FAILURES as error:
            self._error = str(error)
            return "primary"
        pause_s, is_heard = _FIRST_PAUSE_S, False
        try:
            async with asyncio.timeout(wait_s):
                while not has_all(copy := await asyncio.shield(asked), due):
                    if is_other(copy, due):
                        return "other"
                    is_heard = True
                    await asyncio.sleep(pause_s)
                    pause_s *= 2
                    asked = self._copy.begin()
        except asyncpg.UndefinedTableError:
            return "other"
        except FAILURES as error:  # a timeout is one of them
            self._error = str(error)
            return "behind" if is_heard and isinstance(error, TimeoutError) else "away"
        return None

    async def _watch(self) -> None:
        try:
            await self._look(LOOK_S)  # with time to connect
        finally:
            self._looked.set()
        while True:
            await asyncio.sleep(WATCH_S)
            await self._look()

    async def _look(self, wait_s: float = WAIT_S) -> None:
        """Find out whether it may be asked, and how long it has lacked something that the primary had."""
        began_s = asyncio.get_running_loop().time()
        self._found(await self._compare(wait_s))
        if self._cause is None:
            self._samples.clear()
        else:
            due, copy = await asyncio.gather(self._primary.take(), self._copy.take(), return_exceptions=True)
            while self._samples and not isinstance(copy, BaseException) and has_all(copy, self._samples[0][1]):
                self._samples.popleft()
            if not isinstance(due, BaseException) and len(self._samples) < MOST_SAMPLES:
                self._samples.append((began_s, due))
        self._told.replica_lag(began_s - self._samples[0][0] if self._samples else 0.0)

    def _found(self, cause: Cause | None) -> None:
        now_s = asyncio.get_running_loop().time()
        if cause is not self._said and now_s >= self._said_s + SAY_S:
            self._said, self._said_s = cause, now_s
            if cause is None:
                _log.info("the read replica is asked")
            else:
                _log.warning("the read replica isn't asked: %s", f"{WHY[cause]} {self._error}".rstrip())
        self._cause, self._error = cause, ""
