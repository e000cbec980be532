"""Public data of all shards as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from ome.domain.errors import NotAccepting
from ome.domain.ports import Auction, Candle, Depth, FeedSink, MarketData, MarketFeed, Quote, Ticker
from ome.domain.records import InstrumentRecord


class ShardMarket(Protocol):
    """The symbols of one shard."""

    @property
    def is_loaded(self) -> bool:
        """Whether it was ever told what there is."""


class ClusterMarket:
    """The MarketData and the MarketFeed of a gateway: those of all that it has been told.

    Of a shard that hasn't been heard since this gateway has started nobody knows what is listed there: what is asked about its
    symbols, and for a list of all, raises NotAccepting, which clients are told to try again.
    """

    def __init__(self, view: MarketData, feed: MarketFeed, shards: Sequence[ShardMarket], shard_of: Callable[[str], int]) -> None:
        """`shard_of` says to which shard a symbol belongs, listed or not."""
        self._view = view
        self._feed = feed
        self._shards = shards
        self._shard_of = shard_of

    def instruments(self) -> list[InstrumentRecord]:
        """See MarketData."""
        if not all(shard.is_loaded for shard in self._shards):
            raise NotAccepting("away")
        return self._view.instruments()

    def instrument(self, symbol: str) -> InstrumentRecord | None:
        """See MarketData."""
        found = self._view.instrument(symbol)
        if found is None:
            self._check_heard(symbol)
        return found

    def depth(self, symbol: str, levels: int) -> Depth | None:
        """See MarketData."""
        found = self._view.depth(symbol, levels)
        if found is None:
            self._check_heard(symbol)
        return found

    def ticker(self, symbol: str) -> Ticker | None:
        """See MarketData."""
        found = self._view.ticker(symbol)
        if found is None:
            self._check_heard(symbol)
        return found

    def quote(self, symbol: str) -> Quote | None:
        """See MarketData."""
        found = self._view.quote(symbol)
        if found is None:
            self._check_heard(symbol)
        return found

    def auction(self, symbol: str) -> Auction | None:
        """See MarketData."""
        found = self._view.auction(symbol)
        if found is None and self._view.quote(symbol) is None:
            self._check_heard(symbol)
        return found

    def attach(self, sink: FeedSink) -> None:
        """See MarketFeed."""
        self._feed.attach(sink)

    def watch(self, symbol: str) -> bool:
        """See MarketFeed."""
        is_listed = self._feed.watch(symbol)
        if not is_listed:
            self._check_heard(symbol)
        return is_listed

    def unwatch(self, symbol: str) -> None:
        """See MarketFeed."""
        self._feed.unwatch(symbol)

    def candle(self, symbol: str, interval: str) -> Candle | None:
        """See MarketFeed."""
        return self._feed.candle(symbol, interval)

    def _check_heard(self, symbol: str) -> None:
        """Of a symbol that isn't shown: whether it certainly isn't listed."""
        if not self._shards[self._shard_of(symbol)].is_loaded:
            raise NotAccepting("away")
