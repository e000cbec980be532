"""The public channels: what the feed tells, encoded once and kept for whoever hears it.

A topic is opened by its first reader and closed a while after its last one has left, so that whoever comes back soon can go on
where he was; a symbol is watched while it has a topic. Topics: depth, trades and ticker of a symbol, candles of a symbol and an
interval, and `stream`: all four of a symbol, with candles of one interval, as server-sent events.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from time import monotonic
from typing import Any, Final

from ome.api.problems import Problem
from ome.api.streams.book_snapshots import BookSnapshots, Wrap
from ome.api.streams.messages import (
    CHECKSUM_LEVELS,
    CandleMessage,
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
"""The topic of a symbol's server-sent events, with the candles of an interval."""


_RESUMABLE: Final = frozenset({b"depth", b"trade"})
"""The server-sent events with an id: nothing between two of them is left out."""
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
        self._streams: dict[str, list[Topic]] = {}  # those of server-sent events, by symbol
        self._candles_told: dict[tuple[str, str], int] = {}
        """The sequence of the candle that was told last, by symbol and interval; at first that at which it began to be heard."""
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
            if channel == STREAM:
                self._streams.setdefault(symbol, []).append(topic)
            if interval:
                self._candles_told.setdefault((symbol, interval), quote.sequence)
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
            return book if book is None or channel != STREAM else book + self._standing(quote, interval)
        if channel == "ticker":
            return as_frame(encode(ticker_message(quote, None)))
        return as_frame(encode(self._candle_snapshot(quote, interval)))

    async def prepare(self, topic: Topic) -> None:
        """Make what `beginning` of a large book needs."""
        await self._books.make(topic, self._beginnings[topic.key[0]])

    def resumption(self, topic: Topic, event_id: str) -> bytes | None:
        """What a reader of server-sent events that has seen an id begins with: everything since, the ticker and the candle; None
        where that isn't kept, hasn't come yet, is of another history, or where it is no id.
        """
        quote, found = self._market.quote(topic.key[1]), _EVENT_ID.fullmatch(event_id)
        if found is None or (found[2] or "") != self._history:
            return None
        seen = int(found[1])
        index = None if quote is None or seen > quote.sequence else topic.ring.after(seen)
        return None if quote is None or index is None else topic.ring.since(index) + self._standing(quote, topic.key[2])

    def topics(self) -> Iterable[Topic]:
        """Each that somebody hears, or has just left."""
        return self._topics.values()

    def close_idle(self, before: float) -> None:
        """Close the topics that nobody has heard since that moment, on the monotonic clock."""
        for key, topic in list(self._topics.items()):
            if topic.left_at is not None and topic.left_at < before:
                del self._topics[key]
                self._books.forget(topic)
                self._forget(topic, *key)

    def cut(self, symbols: Collection[str]) -> list[Topic]:
        """Close the topics of these symbols, which can't be gone on from: they are opened anew from how things stand."""
        found = [topic for topic in self._topics.values() if topic.key[1] in symbols]
        for topic in found:
            del self._topics[topic.key]
            self._books.forget(topic)
            self._forget(topic, *topic.key)
        return found

    def _forget(self, topic: Topic, channel: str, symbol: str, interval: str) -> None:
        if channel == STREAM:
            self._streams[symbol].remove(topic)
        if not any((heard, symbol, interval) in self._topics for heard in ("candles", STREAM)):
            self._candles_told.pop((symbol, interval), None)
        self._of_symbol[symbol] -= 1
        if not self._of_symbol[symbol]:
            del self._of_symbol[symbol]
            self._streams.pop(symbol, None)
            self._feed.unwatch(symbol)

    # FeedSink

    def depth_changed(self, change: BookChanged, previous_sequence: int) -> None:
        """See FeedSink."""
        topic, streams = self._hearing("depth", change.symbol)
        if topic is None and not streams:
            return
        top = self._market.depth(change.symbol, CHECKSUM_LEVELS)
        if top is not None:
            self._tell(topic, streams, b"depth", depth_update(change, previous_sequence, top), change.sequence)

    def traded(self, trade: TradeRecord, previous_sequence: int) -> None:
        """See FeedSink."""
        topic, streams = self._hearing("trades", trade.symbol)
        if topic is not None or streams:
            self._tell(topic, streams, b"trade", trade_update(trade, previous_sequence), trade.sequence)

    def quote_changed(self, quote: Quote, previous_sequence: int) -> None:
        """See FeedSink."""
        topic, streams = self._hearing("ticker", quote.symbol)
        if topic is not None or streams:
            self._tell(topic, streams, b"ticker", ticker_message(quote, previous_sequence), quote.sequence)

    def candles_changed(self, symbol: str) -> None:
        """See FeedSink."""
        for interval in INTERVALS:
            topic = self._topics.get(("candles", symbol, interval))
            streams = [each for each in self._streams.get(symbol, ()) if each.key[2] == interval]
            candle = self._feed.candle(symbol, interval) if topic is not None or streams else None
            if candle is not None:
                told = self._candles_told[symbol, interval]
                message = candle_message(symbol, interval, candle, candle.sequence, told)
                self._tell(topic, streams, b"candle", message, candle.sequence)
                self._candles_told[symbol, interval] = candle.sequence

    def batch_ended(self) -> None:
        """See FeedSink."""
        self._pump.start()

    def _standing(self, quote: Quote, interval: str) -> bytes:
        """How things stand, for a reader of server-sent events that begins: the ticker and the running candle."""
        candle = encode(self._candle_snapshot(quote, interval))
        return as_event(encode(ticker_message(quote, None)), b"ticker", None) + as_event(candle, b"candle", None)

    def _candle_snapshot(self, quote: Quote, interval: str) -> CandleMessage:
        return candle_message(quote.symbol, interval, self._feed.candle(quote.symbol, interval), quote.sequence, None)

    def _hearing(self, channel: str, symbol: str) -> tuple[Topic | None, Sequence[Topic]]:
        """The topics that a change goes to: of frames, and of server-sent events."""
        return self._topics.get((channel, symbol, "")), self._streams.get(symbol, ())

    def _tell(self, topic: Topic | None, streams: Sequence[Topic], name: bytes, message: Any, sequence: int) -> None:
        payload = encode(message)
        if topic is not None:
            topic.ring.append(as_frame(payload), sequence)
            self._pump.mark(topic)
        if streams:
            # a ticker and a candle say how things stand behind the change before them: only that one is resumed from
            event_id = self._event_id(sequence) if name in _RESUMABLE else None
            event = as_event(payload, name, event_id)
            for stream in streams:
                stream.ring.append(event, max(sequence, stream.ring.last_key))
                self._pump.mark(stream)

    @property
    def _history(self) -> str:
        return self._incarnation()[:HISTORY_DIGITS]

    def _event_id(self, sequence: int) -> str:
        """A place that a reader of server-sent events comes back with."""
        return f"{sequence}.{self._history}" if self._history else str(sequence)
