"""Public data of all shards as one: each symbol is where its shard's views are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ome.domain.ports import Auction, Candle, Depth, FeedSink, MarketData, MarketFeed, Quote, Ticker
from ome.domain.records import InstrumentRecord


class ShardMarket(Protocol):
    """The views of one shard."""

    @property
    def view(self) -> MarketData:
        """What there is to read."""

    @property
    def feed(self) -> MarketFeed:
        """What is told as it happens."""


class ClusterMarket:
    """The MarketData and the MarketFeed of a gateway. A symbol is looked for in every shard: there are few, and it may move."""

    def __init__(self, shards: Sequence[ShardMarket]) -> None:
        self._shards = shards

    def _of(self, symbol: str) -> ShardMarket | None:
        for shard in self._shards:
            if shard.view.instrument(symbol) is not None:
                return shard
        return None

    def instruments(self) -> list[InstrumentRecord]:
        """See MarketData."""
        found = [instrument for shard in self._shards for instrument in shard.view.instruments()]
        return sorted(found, key=lambda instrument: instrument.symbol)

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
