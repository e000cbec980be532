"""A symbol's order book: two sides, what it trades in, its public sequence and its last trade.

The book keeps note of the levels that a command changes; `take_changes` turns them into one `BookChanged` with absolute
quantities and the next sequence number (D1).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ome.domain.enums import MarketState, Side
from ome.domain.errors import InvariantBroken
from ome.domain.events import BookChanged
from ome.domain.instrument import Instrument
from ome.domain.ports import Depth
from ome.domain.records import InstrumentRecord, InstrumentRules
from ome.engine.book_side import BookSide
from ome.engine.order import Order
from ome.engine.price_bounds import Band, price_band
from ome.engine.price_level import PriceLevel
from ome.engine.stop_book import StopBook

_BUY: Final = Side.BUY
_SELL: Final = Side.SELL


class OrderBook:
    """The market in one symbol. `last_price` and `last_quantity` are numbers, None before the first trade:
    they outlive a change of tick or lot. `last_ticks` is the last price in ticks, `stops` the orders that wait for it.
    """

    __slots__ = (
        "asks",
        "bids",
        "digest",
        "gone",
        "instrument",
        "last_price",
        "last_quantity",
        "last_ticks",
        "last_trade_at",
        "listed_at",
        "rules",
        "sequence",
        "state",
        "stops",
        "touched",
        "traded",
    )

    def __init__(self, instrument: Instrument, listed_at: int) -> None:
        self.instrument = instrument
        self.listed_at = listed_at
        self.state = MarketState.OPEN
        self.bids = BookSide(Side.BUY)
        self.asks = BookSide(Side.SELL)
        self.sequence = 0
        self.stops = StopBook()
        self.rules = InstrumentRules()
        self.last_ticks: int | None = None
        self.traded: tuple[int, int] | None = None
        self.last_price: int | None = None
        self.last_quantity: int | None = None
        self.last_trade_at: int | None = None
        self.digest = 0
        self.touched: dict[int, PriceLevel] = {}
        """The levels that have changed since the last `take_changes`, by their ticks, asks by the complement: below 0."""
        self.gone: list[tuple[Side, int]] = []
        """Those of them, by the numbers of their prices, that were told in ticks which have changed since."""

    def side(self, side: Side) -> BookSide:
        """The resting orders of one side."""
        return self.bids if side is Side.BUY else self.asks

    def opposite(self, side: Side) -> BookSide:
        """The resting orders that an order of `side` trades with."""
        return self.asks if side is Side.BUY else self.bids

    def add(self, order: Order) -> None:
        """Rest an order at the back of its level."""
        (self.bids if order.side is _BUY else self.asks).add(order)
        self._touch(order)

    def remove(self, order: Order) -> None:
        """Take a resting order out."""
        self._touch(order)
        (self.bids if order.side is _BUY else self.asks).remove(order)

    def resized(self, order: Order, shown_before: int, hidden_before: int) -> None:
        """A resting order shows or hides another number of lots than before: its level follows."""
        level = order.level
        if level is None:
            return
        shown = order.remaining - order.hidden
        if shown != shown_before:
            self._touch(order)
            level.quantity += shown - shown_before
        level.hidden += order.hidden - hidden_before

    def note_last(self, price: int, lots: int, time: int) -> None:
        """A trade at `price` ticks: the new last price, and what has traded since the stops were last looked at (S1)."""
        self.last_ticks = price
        self.last_price = self.instrument.prices.number(price)
        self.last_quantity = self.instrument.quantities.number(lots)
        self.last_trade_at = time
        traded = self.traded
        self.traded = (price, price) if traded is None else (min(price, traded[0]), max(price, traded[1]))

    def take_traded(self) -> tuple[int, int] | None:
        """The lowest and highest price, in ticks, that has traded since the last call; None if nothing has."""
        traded, self.traded = self.traded, None
        return traded

    def redefine(self, instrument: Instrument) -> None:
        """Trade in another tick or lot from now on; the book is empty. A last price between two new ticks counts as the lower."""
        prices = self.instrument.prices
        self.gone += [(_BUY, prices.number(key)) if key >= 0 else (_SELL, prices.number(~key)) for key in self.touched]
        self.touched = {}
        self.bids, self.asks = BookSide(_BUY), BookSide(_SELL)
        self.instrument = instrument
        self.last_ticks = self._ticks_of_last()

    def _ticks_of_last(self) -> int | None:
        """The last price in ticks; None before the first trade, and where the tick has become too small for it."""
        if self.last_price is None:
            return None
        ticks = self.instrument.prices.floor(self.last_price)
        return ticks if ticks <= self.instrument.prices.most_steps else None

    @property
    def has_due_stop(self) -> bool:
        """Whether a stop is due and may fire: stops fire only while the symbol is open."""
        return bool(self.stops.due) and self.state is MarketState.OPEN

    @property
    def reference_twice(self) -> int | None:
        """The reference price of the band, doubled, in ticks: last, else mid, else none (H2)."""
        if self.last_ticks is not None:
            return 2 * self.last_ticks
        bid, ask = self.bids.best, self.asks.best
        return None if bid is None or ask is None else bid.price + ask.price

    @property
    def band(self) -> Band | None:
        """The prices that may trade now (H2); None where the instrument has no band, or there is no reference."""
        percent = self.rules.price_band_percent
        if percent is None or (reference_twice := self.reference_twice) is None:
            return None
        band = price_band(reference_twice, percent)
        return Band(band.lowest, min(band.highest, self.instrument.prices.most_steps))

    def _touch(self, order: Order) -> None:
        """Note that the level of a resting order changes."""
        level = order.level
        if level is not None:
            self.touched[level.price if order.side is _BUY else ~level.price] = level

    @property
    def has_changed(self) -> bool:
        """Whether a level has, since the last `take_changes`."""
        return bool(self.touched or self.gone)

    def next_sequence(self) -> int:
        """The next number of the symbol's public sequence."""
        self.sequence += 1
        return self.sequence

    def take_changes(self, time: int) -> BookChanged:
        """The levels that changed since the last call, as they are now."""
        lots, ticks = self.instrument.quantities, self.instrument.prices
        levels = [(side, price, lots.decimals, 0) for side, price in self.gone]
        for key, level in self.touched.items():
            side, price = (_BUY, key) if key >= 0 else (_SELL, ~key)
            quantity = level.quantity * lots.number_step + lots.decimals
            levels.append((side, price * ticks.number_step + ticks.decimals, quantity, level.count))
        self.touched, self.gone = {}, []
        return BookChanged(self.instrument.symbol, self.next_sequence(), time, levels)

    def orders(self) -> Iterator[Order]:
        """Every resting order: bids then asks, best level first, in queue order."""
        for side in (self.bids, self.asks):
            for level in side.best_first():
                yield from level

    def depth(self, time: int) -> Depth:
        """Every level of both sides as it stands (for views to start from)."""
        prices, quantities = self.instrument.prices, self.instrument.quantities
        bids, asks = (
            [(prices.number(level.price), quantities.number(level.quantity), level.count) for level in side.best_first()]
            for side in (self.bids, self.asks)
        )
        return Depth(self.instrument.symbol, self.sequence, time, bids, asks)

    @property
    def open_orders(self) -> int:
        """How many orders rest or wait in it; counted level by level."""
        return len(self.stops) + sum(level.count for side in (self.bids, self.asks) for level in side.best_first())

    @property
    def is_empty(self) -> bool:
        """Whether nothing rests or waits in it."""
        return self.bids.best is None and self.asks.best is None and not len(self.stops)

    def record(self) -> InstrumentRecord:
        """The picture of the symbol as it stands."""
        return InstrumentRecord(
            self.instrument.symbol,
            self.instrument.tick_size,
            self.instrument.lot_size,
            self.state,
            self.sequence,
            self.last_price,
            self.last_quantity,
            self.last_trade_at,
            self.listed_at,
            self.rules,
        )

    @classmethod
    def restored(cls, record: InstrumentRecord) -> OrderBook:
        """The book that `record` pictures, still without its orders (recovery)."""
        book = cls(Instrument(record.symbol, record.tick_size, record.lot_size), record.listed_at)
        book.state = record.state
        book.sequence = record.sequence
        book.last_price = record.last_price
        book.last_quantity = record.last_quantity
        book.last_trade_at = record.last_trade_at
        book.rules = record.rules
        book.last_ticks = book._ticks_of_last()
        return book

    def check_invariants(self) -> list[Order]:
        """INV3 and INV4: both sides are sound and the book is neither crossed nor locked (M2). Its orders, stops included."""
        orders = self.bids.check_invariants() + self.asks.check_invariants()
        self.stops.check_invariants()
        orders += self.stops
        bid, ask = self.bids.best, self.asks.best
        may_cross = self.state is MarketState.AUCTION
        if bid is not None and ask is not None and bid.price >= ask.price and not may_cross:
            raise InvariantBroken(f"{self.instrument.symbol} is crossed: bid {bid.price}, ask {ask.price}")
        return orders
