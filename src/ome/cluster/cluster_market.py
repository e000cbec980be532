"""Public data of all shards as one: each symbol is where its shard's views are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from ome.domain.errors import NotAccepting
from ome.domain.ports import Auction, Candle, Depth, FeedSink, MarketData, MarketFeed, Quote, Ticker
from ome.domain.records import InstrumentRecord


class ShardMarket(Protocol):
    """The views of one shard."""

    @property
    def is_loaded(self) -> bool:
        """Whether they have ever been told what there is."""

    @property
    def view(self) -> MarketData:
        """What there is to read."""

    @property
    def feed(self) -> MarketFeed:
        """What is told as it happens."""


class ClusterMarket:
    """The MarketData and the MarketFeed of a gateway. A symbol is looked for in every shard: there are few, and it may move.
    Where it has been moved the views of the shard that it left show it as it left until they are loaded anew: the one with the
    highest sequence is right.

    Of a shard that hasn't been heard since this gateway has started nobody knows what is listed there: what is asked about its
    symbols, and for a list of all, raises NotAccepting, which clients are told to try again.
    """

    def __init__(self, shards: Sequence[ShardMarket], shard_of: Callable[[str], int]) -> None:
        """`shard_of` says to which shard a symbol belongs, listed or not."""
        self._shards = shards
        self._shard_of = shard_of

    def _of(self, symbol: str) -> ShardMarket | None:
        found, newest = None, -1
        for shard in self._shards:
            instrument = shard.view.instrument(symbol)
            if instrument is not None and instrument.sequence > newest:
                found, newest = shard, instrument.sequence
        if found is not None:
            return found
        if not self._shards[self._shard_of(symbol)].is_loaded:
            raise NotAccepting("away")
        return None

    def instruments(self) -> list[InstrumentRecord]:
        """See MarketData."""
        if not all(shard.is_loaded for shard in self._shards):
            raise NotAccepting("away")
        found: dict[str, InstrumentRecord] = {}
        for shard in self._shards:
            for instrument in shard.view.instruments():
                known = found.get(instrument.symbol)
                if known is None or instrument.sequence > known.sequence:
                    found[instrument.symbol] = instrument
        return [found[symbol] for symbol in sorted(found)]

    def instrument(self, symbol: str) -> InstrumentRecord | None:
        """See MarketData."""
        shard = self._of(symbol)
        return None if shard is None else shard.view.instrument(symbol)

    def depth(self, symbol: str, levels: int) -> Depth | None:
        """See MarketData."""
        shard = self._of(symbol)
        return None if shard is None else shard.view.depth(symbol, levels)

    def ticker(self, symbol: str) -> Ticker | None:
        """See MarketData."""
        shard = self._of(symbol)
        return None if shard is None else shard.view.ticker(symbol)

    def quote(self, symbol: str) -> Quote | None:
        """See MarketData."""
        shard = self._of(symbol)
        return None if shard is None else shard.view.quote(symbol)

    def auction(self, symbol: str) -> Auction | None:
        """See MarketData."""
        shard = self._of(symbol)
        return None if shard is None else shard.view.auction(symbol)

    def attach(self, sink: FeedSink) -> None:
        """See MarketFeed."""
        for shard in self._shards:
            shard.feed.attach(sink)

    def watch(self, symbol: str) -> bool:
        """See MarketFeed."""
        shard = self._of(symbol)
        return shard is not None and shard.feed.watch(symbol)

    def unwatch(self, symbol: str) -> None:
        """See MarketFeed."""
        for shard in self._shards:
            shard.feed.unwatch(symbol)

    def candle(self, symbol: str, interval: str) -> Candle | None:
        """See MarketFeed."""
        shard = self._of(symbol)
        return None if shard is None else shard.feed.candle(symbol, interval)
