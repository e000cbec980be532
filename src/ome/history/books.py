"""Snapshots of books, every so often, of the symbols that have changed since the last one."""

from __future__ import annotations

import sys
from collections.abc import Callable

from ome.domain.ports import Archive, MarketData
from ome.domain.records import BookSnapshot


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
        books = self._changed()
        await self._archive.put_books(books)
        self._taken.update((book.symbol, book.sequence) for book in books)
        return len(books)

    def _changed(self) -> list[BookSnapshot]:
        position, found = self._position(), list[BookSnapshot]()
        for instrument in self._market.instruments():
            symbol = instrument.symbol
            if self._taken.get(symbol) == instrument.sequence:
                continue
            depth = self._market.depth(symbol, sys.maxsize)
            if depth is not None:
                found.append(BookSnapshot(symbol, depth.sequence, position, depth.time, depth.bids, depth.asks))
        return found
