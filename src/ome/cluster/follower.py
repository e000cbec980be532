"""A gateway's own copy of what is public about the symbols of one shard: the engine's books once, then every batch in order.

Batches say which positions they hold. A gap means that a message got lost (NATS was away, an engine stopped between commit and
telling): the books are asked for again. Until the first ones are there nothing of the shard is shown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

import structlog

from ome.cluster.connection import NatsConnection, Unheard
from ome.cluster.subjects import Subjects
from ome.cluster.wire import Books, Told, WireError, read_books, read_told
from ome.domain.errors import StorageUnusable

ASK_S: Final = 5.0
"""How long an engine may take to tell its books."""
PAUSE_S: Final = 0.1
"""Seconds between two attempts to get them."""
BUFFERED: Final = 100_000
"""Batches that are kept while the books are on their way; beyond it the books are asked for anew."""

log = structlog.get_logger(__name__)


class Views(Protocol):
    """The market data that is kept up."""

    async def load(self, books: Books) -> None:
        """Start anew from an engine's books."""

    def committed(self, batch: Told) -> None:
        """Take in what a batch changed."""


class ShardFollower:
    """Follows one shard. `seen` is told of each position up to which the views have come."""

    def __init__(self, shard: int, nats: NatsConnection, subjects: Subjects, views: Views, seen: Callable[[int], None]) -> None:
        self._shard = shard
        self._nats = nats
        self._subjects = subjects
        self._views = views
        self._seen = seen
        self._position: int | None = None
        self._noticed = 0
        self._buffer: list[Told] = []
        self._loading: asyncio.Task[None] | None = None
        self.loaded = asyncio.Event()
        """Whether there are books of it, however old."""

    async def start(self) -> None:
        """Follow from now on; the books come as soon as an engine tells them."""
        await self._nats.hear(self._subjects.told(self._shard), lambda _, data: self.take(read_told(data)))
        self.reload()

    def take(self, batch: Told) -> None:
        """A batch has come."""
        if self._position is None:
            if len(self._buffer) < BUFFERED:
                self._buffer.append(batch)
            return
        if batch.last <= self._position:
            return
        if batch.first != self._position + 1:
            log.warning("market_data_gap", shard=self._shard, after=self._position, next=batch.first)
            self._buffer = [batch]
            self.reload()
            return
        self._apply(batch)

    def notice(self, position: int) -> None:
        """The engine has told that it has come so far. What hasn't been heard by the next time is lost."""
        if self._position is not None and self._position < self._noticed:
            log.warning("market_data_gap", shard=self._shard, after=self._position, engine_at=self._noticed)
            self.reload()
        self._noticed = position

    def reload(self) -> None:
        """Ask for the books; what is told meanwhile is taken in afterwards."""
        self._position = None
        if self._loading is None or self._loading.done():
            self._loading = asyncio.create_task(self._load(), name=f"books of shard {self._shard}")

    def stop(self) -> None:
        """Follow no more."""
        if self._loading is not None:
            self._loading.cancel()

    async def _load(self) -> None:
        while self._position is None:
            try:
                books = read_books(await self._nats.ask(self._subjects.snapshot(self._shard), b"?", ASK_S))
                await self._views.load(books)
            except (Unheard, WireError, StorageUnusable) as error:
                log.info("books_not_there", shard=self._shard, error=str(error) or type(error).__name__)
                await asyncio.sleep(PAUSE_S)
                continue
            self._catch_up(books.position)

    def _catch_up(self, position: int) -> None:
        """Take in the batches that were told while the books came; a gap in them has the books asked for again."""
        buffer, self._buffer = self._buffer, []
        self._position = position
        for place, batch in enumerate(buffer):
            if batch.last <= self._position:
                continue
            if batch.first != self._position + 1:
                self._position, self._buffer = None, buffer[place:]
                return
            self._apply(batch)
        self.loaded.set()
        self._seen(self._position)

    def _apply(self, batch: Told) -> None:
        self._views.committed(batch)
        self._position = batch.last
        self._seen(batch.last)
