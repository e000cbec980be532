"""A symbol's order book: two sides, what it trades in, its public sequence and its last trade.

The book keeps note of the levels that a command changes; `take_changes` turns them into one `BookChanged` with absolute
quantities and the next sequence number (D1).
"""

from __future__ import annotations

from collections.abc import Iterator

from ome.domain.enums import MarketState, Side
from ome.domain.errors import InvariantBroken
from ome.domain.events import BookChanged
from ome.domain.instrument import Instrument
from ome.domain.ports import Depth
from ome.domain.records import InstrumentRecord
from ome.engine.book_side import BookSide
from ome.engine.order import Order


class OrderBook:
    """The market in one symbol. `last_price` and `last_quantity` are numbers, None before the first trade:
    they outlive a change of tick or lot.
    """

    __slots__ = (
        "_touched",
        "asks",
        "bids",
        "digest",
        "instrument",
        "last_price",
        "last_quantity",
        "last_trade_at",
        "listed_at",
        "sequence",
        "state",
    )

    def __init__(self, instrument: Instrument, listed_at: int) -> None:
        self.instrument = instrument
        self.listed_at = listed_at
        self.state = MarketState.OPEN
        self.bids = BookSide(Side.BUY)
        self.asks = BookSide(Side.SELL)
        self.sequence = 0
        self.last_price: int | None = None
        self.last_quantity: int | None = None
        self.last_trade_at: int | None = None
        self.digest = 0
        self._touched: dict[tuple[Side, int], int] = {}

    def side(self, side: Side) -> BookSide:
        """The resting orders of one side."""
        return self.bids if side is Side.BUY else self.asks

    def opposite(self, side: Side) -> BookSide:
        """The resting orders that an order of `side` trades with."""
        return self.asks if side is Side.BUY else self.bids

    def add(self, order: Order) -> None:
        """Rest an order at the back of its level."""
        self.side(order.side).add(order)
        self.touch(order)

    def remove(self, order: Order) -> None:
        """Take a resting order out."""
        self.touch(order)
        self.side(order.side).remove(order)

    def touch(self, order: Order) -> None:
        """Note that the level at this order's price changes, its price as a number: the tick may change first."""
        price = order.price
        if price is not None and (order.side, price) not in self._touched:
            self._touched[order.side, price] = self.instrument.prices.number(price)

    @property
    def is_touched(self) -> bool:
        """Whether any level has changed since the last `take_changes`."""
        return bool(self._touched)

    def next_sequence(self) -> int:
        """The next number of the symbol's public sequence."""
        self.sequence += 1
        return self.sequence

    def take_changes(self, time: int) -> BookChanged:
        """The levels that changed since the last call, as they are now."""
        quantities = self.instrument.quantities
        levels = []
        for (side, ticks), price in self._touched.items():
            level = self.side(side).level(ticks)
            if level is None:
                levels.append((side, price, quantities.number(0), 0))
            else:
                levels.append((side, price, quantities.number(level.quantity), level.count))
        self._touched = {}
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
    def is_empty(self) -> bool:
        """Whether nothing rests in it."""
        return self.bids.best is None and self.asks.best is None

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
        return book

    def check_invariants(self) -> None:
        """INV3 and INV4: both sides are sound and the book is neither crossed nor locked (M2)."""
        self.bids.check_invariants()
        self.asks.check_invariants()
        bid, ask = self.bids.best, self.asks.best
        if bid is not None and ask is not None and bid.price >= ask.price:
            raise InvariantBroken(f"{self.instrument.symbol} is crossed: bid {bid.price}, ask {ask.price}")
