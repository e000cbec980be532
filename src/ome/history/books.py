"""Snapshots of books, every so often, of the symbols that have changed since the last one.

Books are copied one by one, and stored some levels at a time, so that orders are answered in between; each is of a moment of its
own, which its position tells.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Final

from ome.domain.ports import Archive, MarketData
from ome.domain.records import BookSnapshot

LEVELS_AT_ONCE: Final = 20_000
"""Levels that are stored in one go, and a book's more."""


class BookKeeper:
    """Takes the snapshots of one shard; used by one task at a time."""

    def __init__(self, archive: Archive, market: MarketData, position: Callable[[], int]) -> None:
        """`market` shows the books as they are after the committed `position`."""
        self._archive = archive
        self._market = market
        self._position = position
        self._taken: dict[str, int] = {}

    async def keep(self) -> int:
        """Put a snapshot of every book that has changed since; how many. Raises StorageUnusable, and may be called again."""
        count, levels, books = 0, 0, list[BookSnapshot]()
        for instrument in self._market.instruments():
            book = self._changed(instrument.symbol)
            if book is None:
                continue
            books.append(book)
            count, levels = count + 1, levels + len(book.bids) + len(book.asks)
            if levels >= LEVELS_AT_ONCE:
                await self._put(books)
                levels, books = 0, []
            await asyncio.sleep(0)
        await self._put(books)
        return count

    def _changed(self, symbol: str) -> BookSnapshot | None:
        """The book as it is now, or None where its last snapshot shows that."""
        instrument = self._market.instrument(symbol)
        if instrument is None or self._taken.get(symbol) == instrument.sequence:
            return None
        depth = self._market.depth(symbol, sys.maxsize)
        if depth is None:
            return None
        return BookSnapshot(symbol, depth.sequence, self._position(), depth.time, depth.bids, depth.asks)

    async def _put(self, books: list[BookSnapshot]) -> None:
        await self._archive.put_books(books)
        self._taken.update((book.symbol, book.sequence) for book in books)
