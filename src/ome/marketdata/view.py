"""Everything public about every symbol, folded from committed events: the MarketData of a single process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from msgspec import structs

from ome.domain.clock import now_us
from ome.domain.enums import MarketState, Side
from ome.domain.errors import StateMismatch
from ome.domain.events import AuctionIndicated, BookChanged, Event, InstrumentChanged, SymbolAdmitted, SymbolReleased, Traded
from ome.domain.ports import Auction, Depth, Quote, Ticker
from ome.domain.records import InstrumentRecord, TradeRecord
from ome.marketdata.depth import DepthView
from ome.marketdata.statistics import RollingDay


class _Market:
    """One symbol: what it trades in, its levels, its last trade, its day, and what an auction would give."""

    __slots__ = ("auction", "day", "depth", "instrument", "last_price", "last_quantity", "sequence", "time")

    def __init__(self, instrument: InstrumentRecord, depth: Depth) -> None:
        self.instrument = instrument
        self.depth = DepthView(depth)
        self.day = RollingDay()
        self.last_price = instrument.last_price
        self.last_quantity = instrument.last_quantity
        self.sequence = instrument.sequence
        self.time = depth.time
        self.auction: AuctionIndicated | None = None

    def record(self) -> InstrumentRecord:
        """The instrument as the database has it: with its sequence and last trade up to now."""
        return structs.replace(
            self.instrument, sequence=self.sequence, last_price=self.last_price, last_quantity=self.last_quantity
        )


class MarketView:
    """An EventListener that answers for public data. Only committed events reach it (D3)."""

    def __init__(self, clock_us: Callable[[], int] = now_us) -> None:
        self._clock_us = clock_us
        self._markets: dict[str, _Market] = {}

    @property
    def size(self) -> tuple[int, int]:
        """How many symbols are listed, and how many price levels all books have."""
        return len(self._markets), sum(len(market.depth) for market in self._markets.values())

    def load(
        self,
        markets: Iterable[tuple[InstrumentRecord, Depth]],
        auctions: Iterable[AuctionIndicated] = (),
    ) -> None:
        """Start from recovered books and running auctions; `remember` is told of the trades of the last 24 hours then."""
        self._markets = {}
        self.put(markets, auctions)

    def put(
        self,
        markets: Iterable[tuple[InstrumentRecord, Depth]],
        auctions: Iterable[AuctionIndicated] = (),
    ) -> None:
        """Have these symbols be as they are in these books, without the trades of before, and leave the others."""
        self._markets |= {instrument.symbol: _Market(instrument, depth) for instrument, depth in markets}
        for indicated in auctions:
            self._markets[indicated.symbol].auction = indicated

    def drop(self, symbols: Iterable[str]) -> None:
        """Have these symbols be listed no more."""
        for symbol in symbols:
            self._markets.pop(symbol, None)

    def remember(self, trades: Iterable[TradeRecord]) -> None:
        """Count trades of before the start, oldest first. Raises StateMismatch for one of a symbol that isn't listed."""
        for trade in trades:
            market = self._markets.get(trade.symbol)
            if market is None:
                raise StateMismatch(f"Trade {trade.id} is of {trade.symbol}, which isn't listed. Restore a backup.")
            market.day.add(trade)

    def committed(self, events: Sequence[Event]) -> None:
        """See EventListener."""
        event: Any
        for event in events:  # of each order: `match` takes as long as what is done with them
            kind = type(event)
            if kind is BookChanged:
                market = self._markets[event.symbol]
                market.depth.apply(event)
                market.sequence, market.time = event.sequence, event.time
            elif kind is Traded:
                trade = event.trade
                market = self._markets[trade.symbol]
                market.day.add(trade)
                market.last_price, market.last_quantity = trade.price, trade.quantity
                market.sequence, market.time = trade.sequence, trade.executed_at
            elif kind is InstrumentChanged:
                self._define(event.instrument)
            elif kind is SymbolAdmitted:
                record = event.instrument
                depth = Depth(record.symbol, record.sequence, event.time, event.bids, event.asks)
                self._markets[record.symbol] = _Market(record, depth)
            elif kind is SymbolReleased:
                self._markets.pop(event.symbol, None)
            elif kind is AuctionIndicated:
                market = self._markets[event.symbol]
                market.auction = event
                market.sequence, market.time = event.sequence, event.time

    def _define(self, instrument: InstrumentRecord) -> None:
        market = self._markets.get(instrument.symbol)
        if market is None:
            empty = Depth(instrument.symbol, instrument.sequence, instrument.listed_at, [], [])
            self._markets[instrument.symbol] = _Market(instrument, empty)
        else:
            market.instrument = instrument
            market.sequence = instrument.sequence
            if instrument.state is not MarketState.AUCTION:
                market.auction = None

    def instruments(self) -> list[InstrumentRecord]:
        """See MarketData."""
        return [self._markets[symbol].record() for symbol in sorted(self._markets)]

    def sequence(self, symbol: str) -> int | None:
        """How far a symbol has come (D1), None for one that isn't listed."""
        market = self._markets.get(symbol)
        return None if market is None else market.sequence

    def instrument(self, symbol: str) -> InstrumentRecord | None:
        """See MarketData."""
        market = self._markets.get(symbol)
        return None if market is None else market.record()

    def depth(self, symbol: str, levels: int) -> Depth | None:
        """See MarketData."""
        market = self._markets.get(symbol)
        if market is None:
            return None
        return Depth(symbol, market.sequence, market.time, market.depth.bids(levels), market.depth.asks(levels))

    def ticker(self, symbol: str) -> Ticker | None:
        """See MarketData."""
        market = self._markets.get(symbol)
        if market is None:
            return None
        return Ticker(
            symbol,
            market.instrument.state,
            market.sequence,
            market.time,
            market.depth.best(Side.BUY),
            market.depth.best(Side.SELL),
            market.last_price,
            market.last_quantity,
            *market.day.statistics(self._clock_us()),
        )

    def quote(self, symbol: str) -> Quote | None:
        """See MarketData."""
        market = self._markets.get(symbol)
        if market is None:
            return None
        return Quote(
            symbol,
            market.sequence,
            market.time,
            market.instrument.state,
            market.depth.best(Side.BUY),
            market.depth.best(Side.SELL),
            market.last_price,
            market.last_quantity,
            self.auction(symbol),
        )

    def auction(self, symbol: str) -> Auction | None:
        """See MarketData."""
        market = self._markets.get(symbol)
        if market is None or market.auction is None:
            return None
        found = market.auction
        return Auction(symbol, market.sequence, found.time, found.price, found.volume, found.imbalance, found.surplus_side)
