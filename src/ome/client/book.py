"""A symbol's book, followed: a snapshot, then every update above it, in the order of their sequence (D1).

Each update says which one it follows, and the CRC-32 of the ten best levels of both sides after it. Where either doesn't fit what
is here, the book says that it isn't live, asks for a new snapshot and goes on from that; the same after a broken connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from decimal import Decimal
from itertools import islice
from typing import Any, Final, Self
from zlib import crc32

from sortedcontainers import SortedDict

from ome.client.errors import NOT_EXECUTED, ClientError, Problem, Unavailable
from ome.client.models import DepthMessage, Level
from ome.client.streams import Connector, Lost, Started, Subscription
from ome.client.transport import Pauses, decode

CHECKSUM_LEVELS: Final = 10


class Book:
    """Reading it takes no time and never waits; it is as of `sequence`. `is_live` says whether that is the service's own."""

    def __init__(self, connector: Connector, symbol: str, deadline_seconds: float) -> None:
        self.symbol = symbol
        self.sequence = 0
        self.timestamp: datetime | None = None
        self.is_live = False
        self.resynchronisations = 0
        """How often it had to start anew: after a gap, a wrong checksum, a broken connection."""
        self._deadline_seconds = deadline_seconds
        self._bids: SortedDict[Decimal, Level] = SortedDict()
        self._asks: SortedDict[Decimal, Level] = SortedDict()
        self._is_waiting = True
        """For a snapshot: updates before it are of no use."""
        self._subscription = Subscription(connector, lambda: {"channel": "depth", "symbol": symbol})
        self._pauses = Pauses()
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._error: ClientError | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._follow(), name=f"book {self.symbol}")
        try:
            async with asyncio.timeout(self._deadline_seconds):
                while not self.is_live:
                    await self.changed()
        except TimeoutError as error:
            await self.close()
            problem = Problem(code="no_connection", detail=f"no snapshot of {self.symbol} in time", outcome=NOT_EXECUTED)
            raise Unavailable(problem) from error
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop following."""
        if self._task is not None:
            await self._subscription.close()
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def changed(self) -> None:
        """Wait until it has changed, or has become live or not, since this was last asked. Raises Refused if it can't go on."""
        await self._changed.wait()
        self._changed.clear()
        if self._error is not None:
            self._changed.set()
            raise self._error

    async def wait_for(self, holds: Callable[[Book], Any]) -> None:
        """Wait until something holds of the book while it is live, as `lambda book: book.sequence >= 7`."""
        while not (self.is_live and holds(self)):
            await self.changed()

    @property
    def best_bid(self) -> Level | None:
        """The highest price to buy."""
        return self._bids.peekitem(-1)[1] if self._bids else None

    @property
    def best_ask(self) -> Level | None:
        """The lowest price to sell."""
        return self._asks.peekitem(0)[1] if self._asks else None

    def bids(self, levels: int | None = None) -> list[Level]:
        """The best levels to buy, highest first; all of them without a number."""
        return [self._bids[price] for price in islice(reversed(self._bids), levels)]

    def asks(self, levels: int | None = None) -> list[Level]:
        """The best levels to sell, lowest first; all of them without a number."""
        return list(islice(self._asks.values(), levels))

    async def _follow(self) -> None:
        try:
            async for heard in self._subscription.heard():
                if isinstance(heard, Lost):
                    self._begin_anew()
                elif isinstance(heard, Started):
                    self._is_waiting = True
                elif not self._take(decode(heard, DepthMessage)):
                    self._begin_anew()
                    await asyncio.sleep(self._pauses.next())
                    await self._subscription.restart()
        except ClientError as error:
            self._error = error
        self.is_live = False
        self._changed.set()

    def _begin_anew(self) -> None:
        self.is_live = False
        self._is_waiting = True
        self.resynchronisations += 1
        self._changed.set()

    def _take(self, message: DepthMessage) -> bool:
        """Take in a message; False where it doesn't fit: then something was missed."""
        if message.type == "snapshot":
            self._bids.clear()
            self._asks.clear()
        elif self._is_waiting or message.sequence <= self.sequence:
            return True
        elif message.previous_sequence is None or message.previous_sequence > self.sequence:
            return False
        for side, levels in ((self._bids, message.bids), (self._asks, message.asks)):
            for level in levels:
                if level.quantity:
                    side[level.price] = level
                else:
                    side.pop(level.price, None)
        self.sequence, self.timestamp = message.sequence, message.timestamp
        if checksum(self) != message.checksum:
            return False
        if message.type == "update":
            self._pauses.reset()
        self._is_waiting, self.is_live = False, True
        self._changed.set()
        return True


def checksum(book: Book) -> int:
    """CRC-32 of `price:quantity;` of the best ten bids, best first, then of the best ten asks, in plain digits."""
    levels = (*book.bids(CHECKSUM_LEVELS), *book.asks(CHECKSUM_LEVELS))
    return crc32("".join([f"{level.price:f}:{level.quantity:f};" for level in levels]).encode())
