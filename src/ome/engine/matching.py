"""Matching: a taker against the other side of its book, best price first and first come first served (M1).

The taker is any order that isn't in the book at the moment: a new one, or one that a modify has taken out. What it leaves
over is its time in force's business (`time_in_force`), not this module's.
"""

from __future__ import annotations

from collections.abc import Callable

from ome.domain.enums import SelfTradePrevention, Side
from ome.domain.events import Event, SelfTradePrevented, Traded
from ome.domain.ids import make_id
from ome.domain.records import TradeRecord
from ome.engine.book_side import BookSide
from ome.engine.order import Order
from ome.engine.order_book import OrderBook
from ome.engine.price_level import PriceLevel


class Matcher:
    """Makes trades. Counts them for the whole shard, so that every trade has its id from the sequence (M6)."""

    __slots__ = ("_maker_filled", "shard", "trade_count")

    def __init__(self, shard: int, trade_count: int, maker_filled: Callable[[Order], None]) -> None:
        """`maker_filled` is told of every maker that a trade changed, before the next trade."""
        self.shard = shard
        self.trade_count = trade_count
        self._maker_filled = maker_filled

    def match(self, book: OrderBook, taker: Order, position: int, time: int, events: list[Event]) -> bool:
        """Trade until the taker is filled, nothing within its limit is left, or its own user's order is met.

        Appends a `Traded` for each trade, and a `SelfTradePrevented` where one was prevented (P2). Returns True when
        self-trade prevention ends the taker: what remains of it must then be cancelled (P1, CANCEL_NEWEST).
        """
        side = book.opposite(taker.side)
        while taker.remaining:
            level = side.best
            if level is None or not reaches(taker, level.price):
                return False
            maker = level.head
            assert maker is not None  # noqa: S101  an emptied level is gone at once (M4)
            if maker.user_id == taker.user_id and taker.self_trade_prevention is not SelfTradePrevention.NONE:
                events.append(_prevented(book, taker, maker, level.price))
                return True
            events.append(self._trade(book, side, level, taker, maker, position, time))
        return False

    def _trade(
        self, book: OrderBook, side: BookSide, level: PriceLevel, taker: Order, maker: Order, position: int, time: int
    ) -> Traded:
        """One trade at the maker's price; a maker that it fills leaves the book."""
        lots = min(taker.remaining, maker.remaining)
        price = level.price
        book.touch(maker)
        taker.fill(lots, price, time)
        maker.fill(lots, price, time)
        level.quantity -= lots
        if not maker.remaining:
            side.remove(maker)
        instrument = book.instrument
        quantities = instrument.quantities
        book.last_price = instrument.prices.number(price)
        book.last_quantity = quantities.number(lots)
        book.last_trade_at = time
        self.trade_count += 1
        buyer, seller = (taker, maker) if taker.side is Side.BUY else (maker, taker)
        trade = TradeRecord(
            make_id(self.shard, self.trade_count),
            instrument.symbol,
            book.last_price,
            book.last_quantity,
            buyer.id,
            seller.id,
            taker.side,
            time,
            book.next_sequence(),
            position,
        )
        self._maker_filled(maker)
        return Traded(trade, maker.user_id, taker.user_id, quantities.number(maker.filled), quantities.number(maker.remaining))


def reaches(taker: Order, price: int) -> bool:
    """Whether the taker's limit lets it trade at `price` ticks; a MARKET order trades at any (M2, T3)."""
    limit = taker.price
    if limit is None:
        return True
    return price <= limit if taker.side is Side.BUY else price >= limit


def reachable(book: OrderBook, taker: Order) -> int:
    """How many lots, up to what the taker wants, it could trade within its limit after self-trade prevention (T2)."""
    found = 0
    for level in book.opposite(taker.side).best_first():
        if not reaches(taker, level.price):
            break
        for maker in level:
            if maker.user_id == taker.user_id and taker.self_trade_prevention is not SelfTradePrevention.NONE:
                return found
            found += maker.remaining
            if found >= taker.remaining:
                return taker.remaining
    return found


def _prevented(book: OrderBook, taker: Order, maker: Order, price: int) -> SelfTradePrevented:
    """The record of a trade that was prevented: what would have traded, and at which price (P2)."""
    instrument = book.instrument
    return SelfTradePrevented(
        instrument.symbol,
        taker.user_id,
        maker.id,
        taker.id,
        instrument.prices.number(price),
        instrument.quantities.number(min(taker.remaining, maker.remaining)),
    )
