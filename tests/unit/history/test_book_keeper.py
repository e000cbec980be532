"""Snapshots of books are taken without standing in the way."""

from __future__ import annotations

import asyncio

import pytest

from factories import an_instrument
from ome.domain.numbers import pack
from ome.domain.ports import Depth
from ome.domain.records import BookSnapshot
from ome.history import books as module
from ome.history.books import BookKeeper
from ome.marketdata.view import MarketView

SYMBOLS = [f"S{number}" for number in range(6)]


class Shelf:
    """The snapshots that were put, in the portions in which they were."""

    def __init__(self) -> None:
        self.portions: list[list[BookSnapshot]] = []

    async def put_books(self, books: list[BookSnapshot]) -> None:
        """Take a portion."""
        self.portions.append(list(books))


async def test_others_get_their_turn_between_two_books(monkeypatch: pytest.MonkeyPatch) -> None:
    """Books go by the portion; each has the position that was committed when it was copied, and none is put twice."""
    monkeypatch.setattr(module, "LEVELS_AT_ONCE", 4)
    view, shelf, position = MarketView(), Shelf(), 10
    levels = [(pack(15000 - n, 2), pack(1, 0), 1) for n in range(2)]
    view.load((an_instrument(symbol, sequence=3), Depth(symbol, 3, 1, levels, [])) for symbol in SYMBOLS)
    keeper = BookKeeper(shelf, view, lambda: position)  # type: ignore[arg-type]  # as much of an Archive as is needed
    keeping = asyncio.create_task(keeper.keep())
    while not keeping.done():
        await asyncio.sleep(0)
        position += 1
    assert await keeping == 6
    assert [[book.symbol for book in portion] for portion in shelf.portions if portion] == [
        SYMBOLS[:2],
        SYMBOLS[2:4],
        SYMBOLS[4:],
    ]
    positions = [book.position for portion in shelf.portions for book in portion]
    assert positions == sorted(set(positions))
    assert await keeper.keep() == 0
