"""The task that keeps what is derived: candles every second, snapshots of books and engine every so often, old rows away.

It never stands in the way: what it can't do now (the database is away, say) it does later, and nothing waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import structlog
from msgspec import Struct

from ome.domain.clock import MICROSECONDS, now_us
from ome.domain.errors import StorageUnusable
from ome.domain.ports import Archive, MarketData
from ome.history.books import BookKeeper
from ome.history.candles import CandleKeeper

CANDLE_PAUSE_S: Final = 1.0
TRIM_PAUSE_S: Final = 60.0
LEAST_COMMANDS: Final = 10_000
"""Commands between two engine snapshots at least: a fraction of a second to replay."""
DAY_US: Final = 86_400 * MICROSECONDS

log = structlog.get_logger(__name__)


class Chore(Struct):
    """Something that is done every `pause_s` seconds; `due` is when it is next, on the monotonic clock."""

    name: str
    do: Callable[[], Awaitable[Any]]
    pause_s: float
    due: float = 0.0
    is_failing: bool = False


class Kept(Struct, frozen=True):
    """What is kept, and how long: 0 seconds between snapshots for none of books, and of the engine only where the journal is to
    be trimmed behind them; 0 days for ever (D6).
    """

    snapshot_interval_s: float = 60.0
    journal_days: float = 0.0
    snapshot_days: float = 0.0
    second_candle_days: float = 0.0


def chores(
    archive: Archive, market: MarketData, position: Callable[[], int], kept: Kept, candles: CandleKeeper | None = None
) -> list[Chore]:
    """All that is to be done for an archive; `market` shows the books as they are after the committed `position`; `candles` is
    who keeps these, where anybody else has to know.
    """
    found = [Chore("candles", (candles or CandleKeeper(archive)).catch_up, CANDLE_PAUSE_S)]
    if kept.snapshot_interval_s:
        found.append(Chore("book snapshots", BookKeeper(archive, market, position).keep, kept.snapshot_interval_s))
    if kept.snapshot_interval_s or kept.journal_days:
        pause_s = kept.snapshot_interval_s or TRIM_PAUSE_S
        found.append(Chore("engine snapshots", lambda: archive.take_engine_snapshot(LEAST_COMMANDS), pause_s))
    trims: list[tuple[str, Callable[[int], Awaitable[Any]], float]] = [
        ("old journal", archive.trim_journal, kept.journal_days),
        ("old snapshots of books", archive.trim_books, kept.snapshot_days),
        ("old candles", lambda before: archive.trim_candles(1, before), kept.second_candle_days),
    ]
    return found + [Chore(name, _trimming(trim, days), TRIM_PAUSE_S) for name, trim, days in trims if days]


def _trimming(trim: Callable[[int], Awaitable[Any]], days: float) -> Callable[[], Awaitable[Any]]:
    return lambda: trim(now_us() - int(days * DAY_US))


class Archivist:
    """Does its chores in turn, one at a time, until it is stopped."""

    def __init__(self, chores: list[Chore]) -> None:
        self._chores = chores
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        if self._chores:
            self._task = asyncio.create_task(self._run(), name="archivist")

    async def stop(self) -> None:
        """End now; what isn't done is done after the next start."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _run(self) -> None:
        while True:
            for chore in self._chores:
                if chore.due <= time.monotonic():
                    await self._do(chore)
                    chore.due = time.monotonic() + chore.pause_s
            await asyncio.sleep(max(0.0, min(chore.due for chore in self._chores) - time.monotonic()))

    async def _do(self, chore: Chore) -> None:
        """A chore that can't be done now is said once, and once more when it goes on."""
        try:
            await chore.do()
        except StorageUnusable as error:
            if not chore.is_failing:
                log.warning("archive_behind", chore=chore.name, error=str(error))
            chore.is_failing = True
        except Exception:
            if not chore.is_failing:
                log.exception("archive_failed", chore=chore.name)
            chore.is_failing = True
        else:
            if chore.is_failing:
                log.info("archive_caught_up", chore=chore.name)
            chore.is_failing = False
