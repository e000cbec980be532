"""How a gateway keeps up with what is public about the symbols of one shard: the engine's books once, then every batch in order.

Batches say which positions they hold. A gap means that messages got lost: NATS was away, the connection was, or an engine stopped
between commit and telling. They are read in the shard's event log, and nobody notices; where it doesn't have them, the books are
asked for again, and whoever listens has to start anew. Until the first books are there nothing of the shard is shown.

A batch with events of a symbol that has come from another shard waits, and all behind it, until what that one told before was
taken in; where that doesn't come, the books are asked for as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Final, Protocol

import structlog

from ome.cluster.connection import NatsConnection, Unheard
from ome.cluster.event_log import LogAway, LogTrimmed, history_of
from ome.cluster.subjects import Subjects
from ome.cluster.wire import Books, Told, WireError, read_books, read_told
from ome.domain.errors import StorageUnusable

ASK_S: Final = 5.0
"""How long an engine may take to tell its books."""
PAUSE_S: Final = 0.1
"""Seconds between two looks into the log for what isn't there yet: an engine sends again what it may have lost."""
LOOKS: Final = 10
BOOKS_PAUSE_S: Final = 0.25
"""Seconds between two attempts to get the books."""
WAIT_S: Final = 1.0
"""How long a batch waits for what another shard has to tell first."""
AHEAD: Final = 100_000
"""Batches that are kept while one before them is missing; beyond it the books are asked for anew."""

log = structlog.get_logger(__name__)


class Views(Protocol):
    """The market data that is kept up."""

    async def load(self, books: Books, *, anew: bool) -> None:
        """Go on from an engine's books; `anew`: they are of another history than all before."""

    def committed(self, batch: Told) -> bool:
        """Take in what a batch changed; False where it has to wait for what another shard tells, and nothing was taken in."""


class GapMetrics(Protocol):
    """Who counts what was missed."""

    def market_data_gap(self) -> None:
        """Something that an engine told was not heard."""

    def market_data_mended(self, by: str) -> None:
        """What was missing was made up for: by the "log", or by the "books", for which streams end."""


class Log(Protocol):
    """What was told, for a while: an `EventLog`."""

    def after(self, position: int, history: str) -> AsyncGenerator[Told, None]:
        """See EventLog."""


class ShardFollower:
    """Follows one shard. `seen` is told of each position up to which the views have come."""

    def __init__(
        self,
        shard: int,
        nats: NatsConnection,
        subjects: Subjects,
        views: Views,
        seen: Callable[[int], None],
        event_log: Log,
        told: GapMetrics,
    ) -> None:
        self._shard = shard
        self._nats = nats
        self._subjects = subjects
        self._views = views
        self._seen = seen
        self._log = event_log
        self._told = told
        self._position: int | None = None
        self._history = ""
        self._noticed = 0
        self._needed = 0
        self._epoch = 0
        self._ahead: dict[int, Told] = {}
        self._mending: asyncio.Task[None] | None = None
        self._is_away = False
        self._is_replaced = False
        self._waiting: asyncio.TimerHandle | None = None
        self.loaded = asyncio.Event()
        """Whether there are books of it, however old."""

    async def start(self) -> None:
        """Follow from now on; the books come as soon as an engine tells them."""
        await self._nats.hear(self._subjects.told(self._shard), lambda _, data: self.take(read_told(data)))
        self._mend()

    def take(self, batch: Told) -> None:
        """A batch has come, perhaps again."""
        position = self._position
        if position is not None and batch.last <= position:
            return
        if position is not None and batch.first == position + 1 and not self._ahead and self._apply(batch):
            return
        if len(self._ahead) < AHEAD:
            self._ahead[batch.first] = batch
        if position is not None:
            self._go_on(position)
            self._look_for_gap()

    @property
    def is_waiting(self) -> bool:
        """Whether a batch is there that has to wait for what another shard tells."""
        return self._waiting is not None

    def resume(self) -> None:
        """Another shard has told something: go on, if that was it."""
        if self.is_waiting and self._position is not None:
            self._go_on(self._position)
            self._look_for_gap()

    def notice(self, position: int, incarnation: str) -> None:
        """The engine has told that it has come so far, in the history of a database. What hasn't been heard by the next time is
        lost.
        """
        history = history_of(incarnation)
        if history != self._history:
            if self._history:
                log.warning("history_replaced", shard=self._shard)
                self._position, self._is_replaced = None, True
                self._ahead.clear()
                self._mend()
            self._history = history
        elif self._position is not None and self._position < self._noticed and self._mending is None and not self.is_waiting:
            log.warning("market_data_gap", shard=self._shard, after=self._position, engine_at=self._noticed)
            self._told.market_data_gap()
            self._needed = self._noticed
            self._mend()
        self._noticed = position

    def stop(self) -> None:
        """Follow no more."""
        self._wait_no_more()
        if self._mending is not None:
            self._mending.cancel()

    # What is missing

    def _look_for_gap(self) -> None:
        if self._ahead and self._mending is None and not self.is_waiting:
            log.warning("market_data_gap", shard=self._shard, after=self._position, next=min(self._ahead))
            self._told.market_data_gap()
            self._mend()

    def _mend(self) -> None:
        if self._mending is None:
            self._mending = asyncio.create_task(self._fill(), name=f"books of shard {self._shard}")

    async def _fill(self) -> None:
        """From the log, else from the books, until nothing is missing."""
        try:
            while True:
                if await self._filled():
                    return
                await asyncio.sleep(BOOKS_PAUSE_S)
        finally:
            self._mending = None

    async def _filled(self) -> bool:
        """Whether nothing is missing any more, after one attempt."""
        try:
            return (self._position is not None and await self._read_log()) or await self._load()
        except Exception:  # whatever it is: given up, the shard would stand still for good
            log.exception("not_followed", shard=self._shard, after=self._position)
            self._position = None
            return False

    def _lacks_nothing(self) -> bool:
        return self.is_waiting or (self._position is not None and self._position >= self._needed and not self._ahead)

    async def _read_log(self) -> bool:
        """Whether nothing is missing any more."""
        for look in range(LOOKS):
            position = self._position
            if position is None or self._lacks_nothing():
                return position is not None
            try:
                async with aclosing(self._log.after(position, self._history)) as batches:
                    async for batch in batches:
                        if self._position is None or len(self._ahead) >= AHEAD:
                            return False
                        if batch.last > self._position:
                            self._ahead[batch.first] = batch
                            self._go_on(self._position)
            except (LogAway, LogTrimmed, WireError) as error:
                log.warning("not_resumed", shard=self._shard, after=self._position, error=str(error))
                return False
            if self._lacks_nothing():
                log.info("resumed", shard=self._shard, after=position, position=self._position)
                self._told.market_data_mended("log")
                return True
            if look and self._is_lost():
                break
            await asyncio.sleep(PAUSE_S)
        log.warning("not_resumed", shard=self._shard, after=self._position, error="the log doesn't have it")
        return False

    def _is_lost(self) -> bool:
        """Whether what is missing was an earlier engine's, which doesn't send it again."""
        return bool(self._ahead) and self._ahead[min(self._ahead)].epoch > self._epoch > 0

    async def _load(self) -> bool:
        """The books; whether nothing is missing behind them."""
        self._position = None
        self._wait_no_more()
        is_replaced, is_first = self._is_replaced, not self.loaded.is_set()
        try:
            books = read_books(await self._nats.ask(self._subjects.snapshot(self._shard), b"?", ASK_S))
            await self._views.load(books, anew=is_replaced)
        except (Unheard, WireError, StorageUnusable) as error:
            if not self._is_away:
                log.warning("books_not_there", shard=self._shard, error=str(error) or type(error).__name__)
            self._is_away = True
            return False
        self._is_away = False
        self._is_replaced = self._is_replaced and not is_replaced
        self._position, self._needed = books.position, 0
        self.loaded.set()
        if not is_first:
            self._told.market_data_mended("books")
        self._seen(books.position)
        self._ahead = {first: batch for first, batch in self._ahead.items() if batch.last > books.position}
        self._go_on(books.position)
        return self.is_waiting or (self._position is not None and not self._ahead)

    def _go_on(self, position: int) -> None:
        """Take in what follows on from where the views are without a gap."""
        while (batch := self._ahead.get(position + 1)) is not None and self._apply(batch):
            del self._ahead[batch.first]
            position = batch.last

    def _apply(self, batch: Told) -> bool:
        """Whether a batch could be taken in, or has to wait."""
        if not self._views.committed(batch):
            if self._waiting is None:
                self._waiting = asyncio.get_running_loop().call_later(WAIT_S, self._wait_in_vain)
            return False
        self._wait_no_more()
        self._position, self._epoch = batch.last, batch.epoch
        self._seen(batch.last)
        return True

    def _wait_in_vain(self) -> None:
        """What another shard had to tell was lost, or comes too late: this one's books have it."""
        log.warning("symbol_not_followed", shard=self._shard, after=self._position)
        self._told.market_data_gap()
        self._position, self._waiting = None, None
        self._mend()

    def _wait_no_more(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
