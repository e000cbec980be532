"""The digests of checkpoints: 16 hex digits that stand for a whole book, queues included, or for every fill so far.

Both the verifier and the generator use them; what they digest they find out each on its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import Final, NamedTuple

from ome.domain.enums import Side
from ome.replay.flow import SIDE_LETTER, Fill

BEST_LEVELS: Final = 5
"""How many levels of each side a checkpoint spells out."""
_HEX_DIGITS: Final = 16


class Resting(NamedTuple):
    """An order in a queue: the file's id and what is left of it, in lots."""

    order_id: int
    remaining: int


class Level(NamedTuple):
    """A price, in ticks, and its orders in queue order."""

    price: int
    orders: list[Resting]


class Book(NamedTuple):
    """Both sides of a book, best level first."""

    bids: list[Level]
    asks: list[Level]

    @property
    def live_orders(self) -> int:
        """How many orders rest in it."""
        return sum(len(level.orders) for side in self for level in side)


def book_sha(book: Book) -> str:
    """The digest over one line per level, B then S, best to worst: `SIDE PRICE ID=REMAINING ID=REMAINING ...`."""
    digest = sha256()
    for side, levels in zip(Side, book, strict=True):
        letter = SIDE_LETTER[side]
        for price, orders in levels:
            queue = " ".join([f"{order_id}={remaining}" for order_id, remaining in orders])
            digest.update(f"{letter} {price} {queue}\n".encode("ascii"))
    return digest.hexdigest()[:_HEX_DIGITS]


def best_levels(levels: list[Level], count: int = BEST_LEVELS) -> str:
    """The best levels as checkpoints write them: `PRICE:TOTAL PRICE:TOTAL ...`."""
    return " ".join(f"{price}:{sum(order.remaining for order in orders)}" for price, orders in levels[:count])


class TapeDigest:
    """Follows every fill; `hexdigest` is over one line `ROW,MAKER_ID,PRICE,QUANTITY` for each of them so far."""

    def __init__(self) -> None:
        self._digest = sha256()
        self.trades = 0
        self.traded_quantity = 0

    def add(self, row: int, fills: Iterable[Fill]) -> None:
        """Take in the fills of a row, in order."""
        for maker_id, price, quantity in fills:
            self._digest.update(f"{row},{maker_id},{price},{quantity}\n".encode("ascii"))
            self.trades += 1
            self.traded_quantity += quantity

    def hexdigest(self) -> str:
        """16 hex digits."""
        return self._digest.hexdigest()[:_HEX_DIGITS]
