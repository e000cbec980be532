"""The one small interface behind which a replay drives an engine in process or a server over HTTP.

Prices are counts of ticks, quantities counts of lots, order ids the engine's own; a driver converts at its far side. One call is
under way at a time, so that the flow's order is kept.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple, Protocol

from msgspec import Struct

from ome.domain.enums import Side
from ome.domain.errors import NumberError
from ome.domain.instrument import Grid
from ome.domain.numbers import format_number, parse
from ome.replay.digest import Book
from ome.replay.errors import ReplayError
from ome.replay.flow import Fill

RESTING_USER: Final = "replay.resting"
"""Whose the orders of the file are."""
TAKING_USER: Final = "replay.taking"
"""Whose the orders are that hit them: another user's, so that no rule against self-trades fires (P1)."""


_SYMBOL: Final = re.compile(r"[A-Z0-9][A-Z0-9._-]{0,31}", re.ASCII)


class Market(Struct, frozen=True):
    """What a replay trades: a symbol, and how large a tick and a lot of the file are (numbers of `domain.numbers`)."""

    symbol: str
    tick_size: int
    lot_size: int

    @classmethod
    def of_text(cls, symbol: str, tick: str, lot: str) -> Market:
        """From text; the symbol is folded. ReplayError for no symbol, or a tick or lot that isn't a number above zero."""
        folded = symbol.upper()
        if _SYMBOL.fullmatch(folded) is None:
            raise ReplayError(f"{symbol!r} is no symbol: A-Z, 0-9, point, underscore and hyphen, at most 32 characters")
        return cls(folded, _step("tick", tick), _step("lot", lot))

    def grids(self) -> tuple[Grid, Grid]:
        """The grids of its prices and of its quantities."""
        return Grid(self.tick_size), Grid(self.lot_size)

    def __str__(self) -> str:
        return f"{self.symbol} in ticks of {format_number(self.tick_size)} and lots of {format_number(self.lot_size)}"


class Entry(NamedTuple):
    """A limit order to submit: good till cancelled, or, `taking`, immediate or cancel and of the other user.

    `label` is unique in its replay: what a driver may make a client order id of.
    """

    label: str
    side: Side
    price: int
    quantity: int
    taking: bool


class Outcome(NamedTuple):
    """What a call led to: the order's id (0 if it got none), what is open of it afterwards, its fills as taker (`maker_id`
    is the engine's), and the code of the refusal, if it was refused.
    """

    order_id: int
    remaining: int = 0
    fills: tuple[Fill, ...] = ()
    refused: str | None = None


class Driver(Protocol):
    """Something that orders can be sent to. Refusals are outcomes; ReplayError is raised where nothing more can be done."""

    async def open(self) -> None:
        """List the market's symbol. ReplayError if that is refused, or if its book isn't empty."""

    async def submit(self, entry: Entry) -> Outcome:
        """Submit an order."""

    async def modify(self, order_id: int, quantity: int, price: int) -> Outcome:
        """Change an order to a new total quantity, what is filled included, and a price (rules A1, A2, A5)."""

    async def cancel(self, order_id: int) -> Outcome:
        """Cancel what is left of an order."""

    async def book(self) -> Book:
        """The whole book, with the engine's order ids, in queue order."""

    async def close(self) -> None:
        """Let go of what the driver holds; orders stay."""


def _step(name: str, text: str) -> int:
    try:
        number = parse(text)
    except NumberError as error:
        raise ReplayError(f"the {name} {error}") from error
    if not number:
        raise ReplayError(f"the {name} must be above zero")
    return number
