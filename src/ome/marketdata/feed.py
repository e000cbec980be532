"""The public feed: committed events into what is told about each symbol, change by change, in the order of its sequence (D1).

The feed is the EventListener in front of the market view: it has the view take in one event at a time and tells its sink right
behind each, so that the sink always finds the view exactly as the event left it. Only of watched symbols, and nothing else is
computed for the others; candles are kept up for all, since they can't be made up for later.

Depth and trades are told event by event, ticker and candles at the end of a batch, where they differ from what was told last:
these two say how things stand, not how they came to. A candle is told once more before the trade that ends it.

Every change names the sequence of the one before it of the same kind. A symbol that begins to be watched starts at the sequence
that it has then, so that whoever takes a snapshot at S and then every change above S misses nothing, and can tell: a change
whose predecessor is above what he has seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ome.domain.events import AuctionIndicated, BookChanged, Event, InstrumentChanged, Traded
from ome.domain.ports import Candle, FeedSink, Quote
from ome.domain.records import TradeRecord
from ome.marketdata.candles import RunningCandles
from ome.marketdata.view import MarketView


class _Watched:
    """A symbol that somebody listens to: what was told of it last."""

    __slots__ = ("candles_changed", "depth_sequence", "quote", "trade_sequence")

    def __init__(self, quote: Quote) -> None:
        self.quote = quote
        self.depth_sequence = self.trade_sequence = quote.sequence
        self.candles_changed = False


class Feed:
    """The EventListener and MarketFeed of a single process. Lives on the event loop."""

    def __init__(self, view: MarketView, sink: FeedSink | None = None) -> None:
        self._view = view
        self._sink = sink
        self._watched: dict[str, _Watched] = {}
        self._candles: dict[str, RunningCandles] = {}

    def load(self) -> None:
        """Start with no candles; `remember` is told of the trades of the last 24 hours then. The view is loaded by itself."""
        self._candles = {}

    def forget(self, symbols: Iterable[str]) -> None:
        """Have no candles of these symbols; `remember` is told of their trades then. Nobody goes on listening to them."""
        for symbol in symbols:
            self._candles.pop(symbol, None)

    def remember(self, trades: Iterable[TradeRecord]) -> None:
        """Count trades of before the start, oldest first."""
        for trade in trades:
            self._running(trade.symbol).add(trade)

    # MarketFeed

    def attach(self, sink: FeedSink) -> None:
        """See MarketFeed."""
        self._sink = sink

    def watch(self, symbol: str) -> bool:
        """See MarketFeed."""
        quote = self._view.quote(symbol)
        if quote is None:
            return False
        if symbol not in self._watched:
            self._watched[symbol] = _Watched(quote)
        return True

    def unwatch(self, symbol: str) -> None:
        """See MarketFeed."""
        self._watched.pop(symbol, None)

    def candle(self, symbol: str, interval: str) -> Candle | None:
        """See MarketFeed."""
        running = self._candles.get(symbol)
        return None if running is None else running.candle(symbol, interval)

    # EventListener

    def committed(self, events: Sequence[Event]) -> None:
        """See EventListener."""
        sink = self._sink
        if sink is None or not self._watched:
            self._view.committed(events)
            for event in events:
                if type(event) is Traded:
                    self._running(event.trade.symbol).add(event.trade)
            return
        touched: dict[str, _Watched] = {}
        for event in events:
            self._take_in(event, sink, touched)
        for symbol, watched in touched.items():
            self._end_batch(symbol, watched, sink)
        sink.batch_ended()

    def _take_in(self, event: Event, sink: FeedSink, touched: dict[str, _Watched]) -> None:
        view = self._view
        match event:
            case BookChanged(symbol=symbol, sequence=sequence):
                view.committed((event,))
                watched = self._watched.get(symbol)
                if watched is not None:
                    sink.depth_changed(event, watched.depth_sequence)
                    watched.depth_sequence = sequence
            case Traded(trade=trade):
                symbol = trade.symbol
                running, watched = self._running(symbol), self._watched.get(symbol)
                if watched is not None and watched.candles_changed and running.ends_with(trade):
                    sink.candles_changed(symbol)
                view.committed((event,))
                running.add(trade)
                if watched is not None:
                    watched.candles_changed = True
                    sink.traded(trade, watched.trade_sequence)
                    watched.trade_sequence = trade.sequence
            case InstrumentChanged(instrument=instrument):
                view.committed((event,))
                symbol, watched = instrument.symbol, self._watched.get(instrument.symbol)
            case AuctionIndicated(symbol=symbol):
                view.committed((event,))
                watched = self._watched.get(symbol)
            case _:
                return
        if watched is not None:
            touched[symbol] = watched

    def _end_batch(self, symbol: str, watched: _Watched, sink: FeedSink) -> None:
        if watched.candles_changed:
            watched.candles_changed = False
            sink.candles_changed(symbol)
        quote, told = self._view.quote(symbol), watched.quote
        if quote is not None and not quote.says_the_same_as(told):
            watched.quote = quote
            sink.quote_changed(quote, told.sequence)

    def _running(self, symbol: str) -> RunningCandles:
        running = self._candles.get(symbol)
        if running is None:
            running = self._candles[symbol] = RunningCandles()
        return running
