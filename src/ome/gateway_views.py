"""What a gateway shows of the symbols of all shards: one market view, one feed, fed by every shard's follower.

Each symbol has a gapless sequence (D1), whichever shard's engine counts it up, and that is the order in which its events are
taken in: one that was taken in already is passed over, and a batch that has one from further on waits until the shard that the
symbol has left has told the rest. So a symbol that is moved goes on where it was: nobody who listens notices, and the tape, the
candles and the day's statistics have no seam. Only what got lost on the way is made up for from an engine's books; then the
streams of the symbols that came out different are ended, for those can't be gone on from.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final

import structlog

from ome.api.streams.hub import Streams
from ome.cluster.follower import ShardFollower
from ome.cluster.places import Places
from ome.cluster.wire import Books, MarketEvent, Told, read_private
from ome.domain.clock import MICROSECONDS, now_us
from ome.domain.errors import StorageError
from ome.domain.events import InstrumentChanged, SymbolAdmitted, Traded
from ome.domain.ports import ReadModels
from ome.domain.records import TradeRecord
from ome.marketdata.feed import Feed
from ome.marketdata.view import MarketView

DAY_US: Final = 24 * 3600 * MICROSECONDS

log = structlog.get_logger(__name__)


class GatewayViews:
    """All that is shown. `followers` are set once they are made."""

    def __init__(self, of_shard: Sequence[ReadModels], places: Places, streams: Callable[[], Streams]) -> None:
        self.view = MarketView()
        self.feed = Feed(self.view)
        self.shards = [ShardViews(shard, self) for shard in range(len(of_shard))]
        self.followers: Sequence[ShardFollower] = ()
        self.of_shard = of_shard
        self.places = places
        self.streams = streams
        self._reading: set[asyncio.Task[None]] = set()

    def following(self, events: Iterable[MarketEvent]) -> list[MarketEvent] | None:
        """Those of a batch's events that go on from what is shown; None where one is of further on, and it all has to wait."""
        shown: dict[str, int | None] = {}
        found: list[MarketEvent] = []
        for event in events:
            if isinstance(event, Traded):
                symbol, sequence = event.trade.symbol, event.trade.sequence
            elif isinstance(event, InstrumentChanged | SymbolAdmitted):
                symbol, sequence = event.instrument.symbol, event.instrument.sequence
            else:
                symbol, sequence = event.symbol, event.sequence
            last = shown[symbol] if symbol in shown else self.view.sequence(symbol)
            if isinstance(event, SymbolAdmitted):  # a symbol that has come changes nothing: what it was is told by whom it left
                if last is None or last < sequence:
                    return None
            elif last is None:
                if not isinstance(event, InstrumentChanged):
                    return None
            elif sequence > last + 1:
                return None
            if not isinstance(event, SymbolAdmitted) and (last is None or sequence > last):
                shown[symbol] = sequence
                found.append(event)
        return found

    def look_at_map(self) -> None:
        """A symbol has come to another shard: have the map say so, without waiting for somebody to be sent to the wrong one."""
        task = asyncio.create_task(self._read_map(), name="shard map")
        self._reading.add(task)
        task.add_done_callback(self._reading.discard)

    async def _read_map(self) -> None:
        try:
            await self.places.read()
        except StorageError as error:  # whoever is answered with "moved" has it read again
            log.warning("map_not_read", error=str(error))

    def advanced(self) -> None:
        """Have those shards go on that have waited for what another one had to tell first."""
        for follower in self.followers:
            if follower.is_waiting:
                asyncio.get_running_loop().call_soon(follower.resume)


class ShardViews:
    """What one shard tells: see follower.Views."""

    def __init__(self, shard: int, shown: GatewayViews) -> None:
        self.is_loaded = False
        self._shard = shard
        self._shown = shown

    async def load(self, books: Books, *, anew: bool) -> None:
        """Take in an engine's books: of the symbols that aren't shown yet, or that are further there; of all where the history
        was replaced by another one (`anew`). The day's trades are read first, then all of it is there at once.
        """
        shown = self._shown
        await shown.places.read()  # symbols may have come, or left
        day = await self._day(books)
        view, listed = shown.view, {instrument.symbol for instrument, _ in books.markets}
        further = {
            instrument.symbol
            for instrument, _ in books.markets
            if anew or (last := view.sequence(instrument.symbol)) is None or last < instrument.sequence
        }
        gone = self._gone(listed) if anew else set[str]()
        cut = {symbol for symbol in further if view.sequence(symbol) is not None} | gone
        view.drop(gone)
        view.put(
            (market for market in books.markets if market[0].symbol in further),
            (auction for auction in books.auctions if auction.symbol in further),
        )
        shown.feed.forget(further | gone)
        trades = [trade for trade in day if trade.symbol in further]
        view.remember(trades)
        shown.feed.remember(trades)
        streams = shown.streams()
        if cut:
            streams.interrupt(cut)
        self.is_loaded = True
        if streams.sharded is not None:
            streams.sharded.missed(self._shard, books.position)
        shown.advanced()

    async def _day(self, books: Books) -> list[TradeRecord]:
        """The trades of these symbols in the last 24 hours, by symbol, oldest first; a moved one's are any shard's."""
        shown, since = self._shown, now_us() - DAY_US
        last = {instrument.symbol: instrument.sequence for instrument, _ in books.markets}
        has_moved = any(symbol in shown.places.moved for symbol in last)
        of_shards = shown.of_shard if has_moved else [shown.of_shard[self._shard]]
        every = [trade for reads in of_shards async for page in reads.trades_since(since) for trade in page]
        return sorted((trade for trade in every if trade.sequence <= last.get(trade.symbol, -1)), key=_place)

    def _gone(self, listed: Collection[str]) -> set[str]:
        """What is shown, is this shard's, and isn't listed there."""
        symbols = (instrument.symbol for instrument in self._shown.view.instruments())
        return {symbol for symbol in symbols if symbol not in listed and self._shown.places.shard_of(symbol) == self._shard}

    def committed(self, batch: Told) -> bool:
        """See follower.Views."""
        shown = self._shown
        events = shown.following(batch.events)
        if events is None:
            return False
        if any(type(event) is SymbolAdmitted for event in batch.events):
            shown.look_at_map()
        shown.feed.committed(events)
        private = shown.streams().sharded
        if private is not None:
            private.told(self._shard, batch.last, read_private(batch.private) if private.is_heard else ())
        shown.advanced()
        return True


def _place(trade: TradeRecord) -> tuple[str, int]:
    return trade.symbol, trade.sequence
