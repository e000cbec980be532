"""An engine's voice on NATS: what each batch changed, told once it is durable and before anybody is answered; and its books.

Best effort: nothing waits for it. Whoever finds a gap in the positions makes up for it from the engine's books or the database.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Sequence

from msgspec import Raw

from ome.cluster.connection import NatsConnection
from ome.cluster.subjects import Subjects
from ome.cluster.wire import Books, MarketEvent, Told, auction_event, encode
from ome.domain.events import AuctionIndicated, BookChanged, CommandEvents, Event, InstrumentChanged, Traded
from ome.domain.ports import MarketData

_MARKET = (BookChanged, Traded, InstrumentChanged, AuctionIndicated)
ALL_LEVELS = sys.maxsize


class Publisher:
    """An EventListener and a CommandListener: the runner tells the events of a batch first, then its commands."""

    def __init__(
        self,
        shard: int,
        nats: NatsConnection,
        subjects: Subjects,
        market: MarketData,
        lineage: Callable[[], tuple[int, str]],
    ) -> None:
        """`market` shows the books as they are after the last batch that was told."""
        self._shard = shard
        self._nats = nats
        self._subjects = subjects
        self._market = market
        self._lineage = lineage
        self._events: list[MarketEvent] = []
        self._position = 0
        self._end: Callable[[], Awaitable[None]] | None = None

    async def start(self, position: int) -> None:
        """Begin behind this committed position, and answer those who ask for the books."""
        self._position = position
        self._end = await self._nats.answer(self._subjects.snapshot(self._shard), lambda _: encode(self.books()))

    def committed(self, events: Sequence[Event]) -> None:
        """See EventListener."""
        self._events = [event for event in events if isinstance(event, _MARKET)]

    def commands_committed(self, position: int, commands: Sequence[CommandEvents]) -> None:
        """See CommandListener."""
        epoch, _ = self._lineage()
        first, self._position = self._position + 1, position
        told = Told(self._shard, epoch, first, position, self._events, Raw(encode(commands)))
        self._nats.send(self._subjects.told(self._shard), encode(told))
        self._events = []

    def books(self) -> Books:
        """All that is public about the engine's symbols, as of the last batch that was told."""
        market = self._market
        markets, auctions = [], []
        for instrument in market.instruments():
            depth = market.depth(instrument.symbol, ALL_LEVELS)
            if depth is not None:
                markets.append((instrument, depth))
            auction = market.auction(instrument.symbol)
            if auction is not None:
                auctions.append(auction_event(auction))
        return Books(self._shard, self._position, markets, auctions)
