"""The public channels: what the feed tells, encoded once and kept for whoever hears it.

A topic is opened by its first reader and closed a while after its last one has left, so that whoever comes back soon can go on
where he was; a symbol is watched while it has a topic. Topics: depth, trades and ticker of a symbol, candles of a symbol and an
interval, and `stream`: the first three as server-sent events.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from time import monotonic
from typing import Any, Final

from ome.api.problems import Problem
from ome.api.streams.book_snapshots import BookSnapshots, Wrap
from ome.api.streams.messages import (
    CHECKSUM_LEVELS,
    as_event,
    as_frame,
    candle_message,
    depth_update,
    encode,
    ticker_message,
    trade_update,
)
from ome.api.streams.pump import Pump, Topic
from ome.api.streams.ring import QueueLimits
from ome.domain.events import BookChanged
from ome.domain.intervals import INTERVALS
from ome.domain.ports import MarketData, MarketFeed, Quote
from ome.domain.reasons import Reason
from ome.domain.records import TradeRecord

CHANNELS: Final = ("depth", "trades", "ticker", "candles")
STREAM: Final = "stream"
"""The topic of a symbol's server-sent events."""


def _ticker_event(quote: Quote) -> bytes:
    return as_event(encode(ticker_message(quote, None)), b"ticker", None)


_EVENT_ID: Final = re.compile(r"([0-9]{1,15})(?:\.([0-9a-f]{1,8}))?", re.ASCII)
HISTORY_DIGITS: Final = 8
"""Of the incarnation: enough to tell the few histories that a reader meets apart."""


class MarketTopics:
    """The FeedSink of the edge. Lives on the event loop."""

    def __init__(
        self, market: MarketData, feed: MarketFeed, pump: Pump, limits: QueueLimits, incarnation: Callable[[], str] = str
    ) -> None:
        """`incarnation` tells the history: a sequence means the same only in the same one (HOLE12)."""
        self._market = market
        self._feed = feed
        self._pump = pump
        self._limits = limits
        self._topics: dict[tuple[str, str, str], Topic] = {}
        self._of_symbol: Counter[str] = Counter()  # how many of them
        self._books = BookSnapshots(market)
        self._incarnation = incarnation
        self._beginnings: dict[str, Wrap] = {
            "depth": lambda payload, _: as_frame(payload),
            STREAM: lambda payload, sequence: as_event(payload, b"depth", self._event_id(sequence)),
        }
        """The channels that begin with a book, and how each puts it."""
        feed.attach(self)

    def open(self, channel: str, symbol: str, interval: str = "") -> tuple[Topic, int]:
        """A topic, and the symbol's sequence now; raises Problem for a symbol that isn't listed."""
        quote = self._market.quote(symbol)
        if quote is None or not self._feed.watch(symbol):
            raise Problem(Reason.SYMBOL_NOT_FOUND)
        key = (channel, symbol, interval)
        topic = self._topics.get(key)
        if topic is None:
            topic = self._topics[key] = Topic(key, self._limits, quote.sequence, monotonic())
            self._of_symbol[symbol] += 1
        return topic, quote.sequence

    def beginning(self, topic: Topic) -> bytes | None:
        """What a reader of a topic begins with before it hears what comes from now on: a snapshot, nothing for trades; None where
        a large book's has to be made first (`prepare`).
        """
        channel, symbol, interval = topic.key
        quote = self._market.quote(symbol)
        if quote is None or channel == "trades":
            return b""
        if channel in self._beginnings:
            book = self._books.beginning(topic, quote.sequence, self._beginnings[channel])
            return book if book is None or channel != STREAM else book + _ticker_event(quote)
        if channel == "ticker":
            return as_frame(encode(ticker_message(quote, None)))
        candle = self._feed.candle(symbol, interval)
        return as_frame(encode(candle_message(symbol, interval, candle, quote.sequence, None)))

    async def prepare(self, topic: Topic) -> None:
        """Make what `beginning` of a large book needs."""
        await self._books.make(topic, self._beginnings[topic.key[0]])

    def resumption(self, topic: Topic, event_id: str) -> bytes | None:
        """What a reader of server-sent events that has seen an id begins with: everything since, and the ticker; None where that
        isn't kept, hasn't come yet, is of another history, or where it is no id.
        """
        quote, found = self._market.quote(topic.key[1]), _EVENT_ID.fullmatch(event_id)
        if found is None or (found[2] or "") != self._history:
            return None
        seen = int(found[1])
        index = None if quote is None or seen > quote.sequence else topic.ring.after(seen)
        return None if quote is None or index is None else topic.ring.since(index) + _ticker_event(quote)

    def close_idle(self, before: float) -> None:
        """Close the topics that nobody has heard since that moment, on the monotonic clock."""
        for key, topic in list(self._topics.items()):
            if topic.left_at is not None and topic.left_at < before:
                del self._topics[key]
                self._books.forget(topic)
                self._of_symbol[topic.key[1]] -= 1
                if not self._of_symbol[topic.key[1]]:
                    del self._of_symbol[topic.key[1]]
                    self._feed.unwatch(topic.key[1])

    # FeedSink

    def depth_changed(self, change: BookChanged, previous_sequence: int) -> None:
        """See FeedSink."""
        topic, stream = self._hearing("depth", change.symbol)
        if topic is None and stream is None:
            return
        top = self._market.depth(change.symbol, CHECKSUM_LEVELS)
        if top is not None:
            self._tell(topic, stream, b"depth", depth_update(change, previous_sequence, top), change.sequence)

    def traded(self, trade: TradeRecord, previous_sequence: int) -> None:
        """See FeedSink."""
        topic, stream = self._hearing("trades", trade.symbol)
        if topic is not None or stream is not None:
            self._tell(topic, stream, b"trade", trade_update(trade, previous_sequence), trade.sequence)

    def quote_changed(self, quote: Quote, previous_sequence: int) -> None:
        """See FeedSink."""
        topic, stream = self._hearing("ticker", quote.symbol)
        if topic is not None or stream is not None:
            self._tell(topic, stream, b"ticker", ticker_message(quote, previous_sequence), quote.sequence)

    def candles_changed(self, symbol: str) -> None:
        """See FeedSink."""
        for interval in INTERVALS:
            topic = self._topics.get(("candles", symbol, interval))
            candle = None if topic is None else self._feed.candle(symbol, interval)
            if topic is not None and candle is not None:
                message = candle_message(symbol, interval, candle, candle.sequence, topic.ring.last_key)
                self._tell(topic, None, b"candle", message, candle.sequence)

    def batch_ended(self) -> None:
        """See FeedSink."""
        self._pump.start()

    def _hearing(self, channel: str, symbol: str) -> tuple[Topic | None, Topic | None]:
        """The topics that a change goes to: of frames, and of server-sent events."""
        return self._topics.get((channel, symbol, "")), self._topics.get((STREAM, symbol, ""))

    def _tell(self, topic: Topic | None, stream: Topic | None, name: bytes, message: Any, sequence: int) -> None:
        payload = encode(message)
        if topic is not None:
            topic.ring.append(as_frame(payload), sequence)
            self._pump.mark(topic)
        if stream is not None:
            # a ticker has the sequence of the last change that it follows from: only that one is resumed from
            event_id = None if name == b"ticker" else self._event_id(sequence)
            stream.ring.append(as_event(payload, name, event_id), sequence)
            self._pump.mark(stream)

    @property
    def _history(self) -> str:
        return self._incarnation()[:HISTORY_DIGITS]

    def _event_id(self, sequence: int) -> str:
        """A place that a reader of server-sent events comes back with."""
        return f"{sequence}.{self._history}" if self._history else str(sequence)
