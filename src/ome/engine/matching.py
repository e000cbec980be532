"""Matching: a taker against the other side of its book, best price first and first come first served (M1).

The taker is any order that isn't in the book at the moment: a new one, a stop that has fired, or one that a modify has taken out.
What it leaves over is its time in force's business (`time_in_force`), not this module's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import Enum
from typing import Final

from ome.domain.enums import SelfTradePrevention, Side
from ome.domain.events import Event, SelfTradePrevented, Traded
from ome.domain.ids import make_id
from ome.domain.records import TradeRecord
from ome.engine.accounts import Accounts
from ome.engine.auction import crossing_pair, indication, taker_and_maker
from ome.engine.funds import Funds
from ome.engine.order import Order
from ome.engine.order_book import OrderBook

_BUY: Final = Side.BUY
_UNPREVENTED: Final = SelfTradePrevention.NONE
_ENDS_TAKER: Final = frozenset(
    {SelfTradePrevention.CANCEL_NEWEST, SelfTradePrevention.CANCEL_BOTH, SelfTradePrevention.DECREMENT}
)
"""The modes in which meeting an own order ends the taker, or shortens it."""


class Outcome(Enum):
    """Why matching ended."""

    DONE = 0
    """The taker is filled, or nothing within its limit is left."""
    PREVENTED = 1
    """Self-trade prevention ends the taker: what remains of it must be cancelled (P1)."""


_DONE: Final = Outcome.DONE
_PREVENTED: Final = Outcome.PREVENTED


class Venue(ABC):
    """Where orders live that a matcher changes: whom it tells of makers, and asks for places in queues."""

    __slots__ = ()

    @abstractmethod
    def maker_filled(self, maker: Order) -> None:
        """It has traded, or lost lots; where nothing of it remains it has left the book."""

    @abstractmethod
    def maker_prevented(self, maker: Order) -> None:
        """Self-trade prevention ends it (P1)."""

    @abstractmethod
    def next_priority(self) -> int:
        """The next place in a queue."""


class Matcher:
    """Makes trades. Counts them for the whole shard, so that every trade has its id from the sequence (M6).

    `accounts` and `funds` are told of each trade, and of lots that prevention takes off.
    """

    __slots__ = ("_accounts", "_funds", "_venue", "shard", "trade_count")

    def __init__(self, shard: int, accounts: Accounts, funds: Funds, venue: Venue) -> None:
        self.shard = shard
        self.trade_count = 0
        self._accounts = accounts
        self._funds = funds
        self._venue = venue

    def match(self, book: OrderBook, taker: Order, limit: int | None, position: int, time: int, events: list[Event]) -> Outcome:
        """Trade until the taker is filled, nothing within `limit` ticks is left (None: no limit), or prevention ends it.

        Appends a `Traded` for each trade, and a `SelfTradePrevented` for each that was prevented (P2).
        """
        buys = taker.side is _BUY
        side = book.asks if buys else book.bids
        while taker.remaining:
            level = side.best
            if level is None or (limit is not None and (level.price > limit if buys else level.price < limit)):
                return _DONE
            maker = level.head
            assert maker is not None  # noqa: S101  an emptied level is gone at once (M4)
            if maker.user_id == taker.user_id and taker.self_trade_prevention is not _UNPREVENTED:
                if self._prevent(book, taker, maker, level.price, time, events):
                    return _PREVENTED
            else:
                events.append(self._trade(book, taker, maker, level.price, position, time))
        return _DONE

    def _trade(self, book: OrderBook, taker: Order, maker: Order, price: int, position: int, time: int) -> Traded:
        """One trade at the maker's price; a maker that it fills leaves the book, an iceberg shows its next slice."""
        shown = maker.remaining - maker.hidden
        lots = min(taker.remaining, shown)
        taker.fill(lots, price, time)
        maker.fill(lots, price, time)
        book.resized(maker, shown, maker.hidden)
        self._leave_or_replenish(book, maker)
        traded = self._traded(book, taker, maker, lots, price, position, time, taker.side)
        self._venue.maker_filled(maker)
        return traded

    def _traded(
        self,
        book: OrderBook,
        taker: Order,
        maker: Order,
        lots: int,
        price: int,
        position: int,
        time: int,
        taker_side: Side | None,
    ) -> Traded:
        """The record of a trade that has just been made: the book's last price, an id and a sequence number."""
        instrument = book.instrument
        quantities = instrument.quantities
        book.note_last(price, lots, time)
        self.trade_count += 1
        buyer, seller = (taker, maker) if taker.side is _BUY else (maker, taker)
        self._accounts.traded(buyer, seller, lots, price)
        self._funds.traded(taker, maker, lots, price)
        trade = TradeRecord(
            make_id(self.shard, self.trade_count),
            instrument.symbol,
            instrument.prices.number(price),
            quantities.number(lots),
            buyer.id,
            seller.id,
            taker_side,
            time,
            book.next_sequence(),
            position,
        )
        return Traded(trade, maker.user_id, taker.user_id, quantities.number(maker.filled), quantities.number(maker.remaining))

    def uncross(self, book: OrderBook, position: int, time: int, events: list[Event]) -> list[Order]:
        """Trade at the auction's price until nothing crosses any more (H3): the orders that were takers.

        What self-trade prevention takes out can leave the book crossed at another price: then that one is traded at too.
        """
        takers: dict[int, Order] = {}
        while (indicated := indication(book)) is not None:
            while (pair := crossing_pair(book, indicated.price)) is not None:
                taker, maker = taker_and_maker(*pair)
                if maker.user_id == taker.user_id and taker.self_trade_prevention is not SelfTradePrevention.NONE:
                    self._prevent_in_auction(book, taker, maker, indicated.price, time, events)
                else:
                    lots = min(taker.remaining, maker.remaining)
                    for order in (taker, maker):
                        self._fill_in_auction(book, order, lots, indicated.price, time)
                    events.append(self._traded(book, taker, maker, lots, indicated.price, position, time, None))
                    takers[taker.id] = taker
                    for order in (taker, maker):
                        self._venue.maker_filled(order)
        return list(takers.values())

    def _fill_in_auction(self, book: OrderBook, order: Order, lots: int, price: int, time: int) -> None:
        """An auction fills orders in full, hidden parts included; an iceberg that is left over keeps its place (H3)."""
        shown, hidden = order.shown, order.hidden
        order.fill(lots, price, time)
        order.hidden = min(hidden, order.remaining)
        if order.remaining and order.hidden == order.remaining:
            order.show_slice()
        book.resized(order, shown, hidden)
        if not order.remaining:
            book.remove(order)

    def _prevent_in_auction(
        self, book: OrderBook, taker: Order, maker: Order, price: int, time: int, events: list[Event]
    ) -> None:
        """P1 in an auction: the younger order's mode decides, both count in full and keep their places."""
        lots = min(taker.remaining, maker.remaining)
        events.append(_prevented(book, taker, maker, price, lots))
        mode = taker.self_trade_prevention
        ended = {
            SelfTradePrevention.CANCEL_NEWEST: [taker],
            SelfTradePrevention.CANCEL_OLDEST: [maker],
            SelfTradePrevention.CANCEL_BOTH: [maker, taker],
        }.get(mode)
        if ended is None:
            for order in (maker, taker):
                shown, hidden = order.shown, order.hidden
                self._funds.reduced(order, lots)
                order.prevent(lots, time)
                self._accounts.resized(order, -lots)
                if order.remaining and not order.shown:
                    order.show_slice()
                book.resized(order, shown, hidden)
                self._venue.maker_filled(order) if order.remaining else self._venue.maker_prevented(order)
            return
        for order in ended:
            self._venue.maker_prevented(order)

    def _prevent(self, book: OrderBook, taker: Order, maker: Order, price: int, time: int, events: list[Event]) -> bool:
        """Keep two orders of one user from trading, as the taker's mode has it (P1); whether that ends the taker."""
        lots = min(taker.remaining, maker.shown)
        events.append(_prevented(book, taker, maker, price, lots))
        mode = taker.self_trade_prevention
        if mode is SelfTradePrevention.CANCEL_NEWEST:
            return True
        if mode is SelfTradePrevention.DECREMENT:
            shown = maker.shown
            for order in (taker, maker):
                self._funds.reduced(order, lots)
                order.prevent(lots, time)
                self._accounts.resized(order, -lots)
            book.resized(maker, shown, maker.hidden)
            if maker.remaining:
                self._leave_or_replenish(book, maker)
                self._venue.maker_filled(maker)
            else:
                self._venue.maker_prevented(maker)
            return not taker.remaining
        self._venue.maker_prevented(maker)
        return mode is SelfTradePrevention.CANCEL_BOTH

    def _leave_or_replenish(self, book: OrderBook, maker: Order) -> None:
        """A filled maker leaves; an iceberg whose slice is used up joins the back of its level with the next one (T6)."""
        if not maker.remaining:
            book.remove(maker)
        elif maker.hidden and maker.hidden == maker.remaining:
            book.remove(maker)
            maker.priority = self._venue.next_priority()
            maker.show_slice()
            book.add(maker)


def _prevented(book: OrderBook, taker: Order, maker: Order, price: int, lots: int) -> SelfTradePrevented:
    """The record of a trade that was prevented: what would have traded, and at which price (P2)."""
    prices, quantities = book.instrument.prices, book.instrument.quantities
    return SelfTradePrevented(
        book.instrument.symbol, taker.user_id, maker.id, taker.id, prices.number(price), quantities.number(lots)
    )


def reachable(book: OrderBook, taker: Order, limit: int | None, wanted: int) -> int:
    """How many lots, up to `wanted`, a taker could trade within `limit` ticks after self-trade prevention (T2, T7).

    Hidden quantity counts. An own order that prevention would cancel is passed over. One that would end or shorten the taker
    ends the count, and of the icebergs before it only what they show is reached: their next slices stand behind it.
    """
    found = 0
    buys = taker.side is Side.BUY
    user_id, mode = taker.user_id, taker.self_trade_prevention
    for level in book.opposite(taker.side).best_first():
        if limit is not None and (level.price > limit if buys else level.price < limit):
            break
        if mode in _ENDS_TAKER and any(maker.user_id == user_id for maker in level):
            for maker in level:
                if maker.user_id == user_id:
                    return min(found, wanted)
                found += maker.shown
        for maker in level:
            if maker.user_id != user_id or mode is SelfTradePrevention.NONE:
                found += maker.remaining
                if found >= wanted:
                    return wanted
    return found


def would_take(book: OrderBook, side: Side, price: int) -> bool:
    """Whether an order at this price would trade, or meet an own one, at once (T4)."""
    best = book.opposite(side).best
    return best is not None and (best.price <= price if side is Side.BUY else best.price >= price)
