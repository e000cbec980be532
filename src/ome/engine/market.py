"""What the engine knows, and the steps that commands are made of: an order is held, ends, a level changes, a picture is due.

What each command does with it is told in modules of their own: `submitting`, `cancelling`, `modifying`, `instruments`, with
`trading` and `stop_firing` below them; `restoring` makes one of what was stored.

Layout: `orders` has every open order by id, the others have them in their own ways: `books` in queues and stops, `accounts` by
user, `deadlines` by time. What a command changes is noted in `touched_books`, `changed_orders` and `changed_books` and pictured
once, when a batch is made of it (`fold_changes`).
"""

from __future__ import annotations

from typing import Final

from ome.domain.digests import digest
from ome.domain.enums import MarketState, OrderStatus
from ome.domain.events import Event, OrderCancelled, OrderExpired
from ome.domain.moves import MoveRecord
from ome.domain.reasons import Reason
from ome.domain.records import EngineSettings, InstrumentRecord, OrderRecord
from ome.engine.accounts import Accounts
from ome.engine.auction import auction_indicated
from ome.engine.changes import Changes
from ome.engine.controls import Controls
from ome.engine.expiry import Deadlines
from ome.engine.funds import Funds
from ome.engine.limits import Ask, check_limits
from ome.engine.matching import Matcher, Venue
from ome.engine.order import Order
from ome.engine.order_book import OrderBook
from ome.engine.reach import limit_of
from ome.engine.snapshot import MASK, counters_digest

_AUCTION: Final = MarketState.AUCTION
_EXPIRED: Final = OrderStatus.EXPIRED


class Market(Venue):
    """All that is open in a shard, and what was laid down for it. `events` are those of the command being applied."""

    __slots__ = (
        "_changed_books",
        "_instrument_pictures",
        "accounts",
        "books",
        "changed_orders",
        "controls",
        "deadlines",
        "digest_sum",
        "events",
        "funds",
        "halts",
        "matcher",
        "moves",
        "order_pictures",
        "orders",
        "position",
        "priority_count",
        "settings",
        "shard",
        "stirred_books",
        "time",
        "touched_books",
    )

    def __init__(self, shard: int) -> None:
        self.shard = shard
        self.position = 0
        self.time = 0
        self.settings = EngineSettings()
        self.priority_count = 0
        self.orders: dict[int, Order] = {}
        self.books: dict[str, OrderBook] = {}
        self.accounts = Accounts()
        self.controls = Controls()
        self.deadlines = Deadlines()
        self.funds = Funds(self.limit_of)
        self.matcher = Matcher(shard, self.accounts, self.funds, self)
        self.halts: dict[str, int] = {}
        self.stirred_books: dict[str, OrderBook] = {}
        self.events: list[Event] = []
        self.touched_books: dict[str, OrderBook] = {}
        self.changed_orders: dict[int, Order] = {}
        self._changed_books: dict[str, OrderBook] = {}
        self.order_pictures: dict[int, OrderRecord] = {}
        self._instrument_pictures: dict[str, InstrumentRecord] = {}
        self.moves: list[MoveRecord] = []
        self.digest_sum = 0

    def configure(self, settings: EngineSettings) -> None:
        """Have these settings from now on."""
        self.settings = settings
        self.accounts.keeps_positions = settings.keeps_positions

    # The steps of orders

    def next_priority(self) -> int:
        """The next place in a queue."""
        self.priority_count += 1
        return self.priority_count

    def forget(self, order: Order, remained: int = 0) -> None:
        """An order that has ended, with so many lots unfilled, is no longer the engine's: the database has it."""
        del self.orders[order.id]
        self.accounts.closed(order, remained)
        if order.expires_at is not None:
            self.deadlines.drop(order)

    def rest(self, book: OrderBook, order: Order) -> None:
        """What is left becomes part of the book, an iceberg with its first slice (M2, T6)."""
        if order.special is not None:
            order.show_slice()
        book.add(order)
        self.touch(book)
        if order.expires_at is not None:
            self.deadlines.add(order)

    def end(self, order: Order, status: OrderStatus, reason: Reason, *, holds: bool = True) -> None:
        """End an order with some of it unfilled, taking it out of the book if it is in it, and what it holds out of its hold."""
        book = self.books[order.instrument.symbol]
        if holds and self.funds.terms:
            self.funds.reduced(order, order.remaining)
        if order.level is not None:
            book.remove(order)
            self.touch(book)
        elif order.is_waiting:
            book.stops.remove(order)
        remained = order.remaining
        order.end(status, reason, self.time)
        self.changed_orders[order.id] = order
        self.forget(order, remained)
        record = order.record()
        self.events.append(OrderExpired(record) if status is _EXPIRED else OrderCancelled(record))

    def maker_filled(self, maker: Order) -> None:
        """See Venue."""
        self.changed_orders[maker.id] = maker
        if not maker.remaining:
            self.forget(maker)

    def maker_prevented(self, maker: Order) -> None:
        """See Venue."""
        self.end(maker, OrderStatus.CANCELLED, Reason.SELF_TRADE_PREVENTED)

    # What bounds orders

    def check_limits(self, ask: Ask, user_id: str, book: OrderBook) -> None:
        """What the user of an order may (R1, R2). Raises Refusal."""
        theirs = self.controls.limits.get(user_id)
        if theirs is not None:
            check_limits(ask, theirs.of(book.instrument.symbol), theirs.most_open, self.accounts.user(user_id), book)

    def limit_of(self, book: OrderBook, order: Order) -> tuple[int | None, Reason | None]:
        """How far an order may trade now, and why what that leaves over is cancelled (T3, H2, R1)."""
        limits, percent = self.controls.limits, None
        if limits and (theirs := limits.get(order.user_id)) is not None:
            percent = theirs.of(book.instrument.symbol).price_collar_percent
        return limit_of(book, order.side, order.price, order.special, percent)

    # What has changed

    def touch(self, book: OrderBook) -> None:
        """A level of the book has changed, or what an auction in it would give."""
        symbol = book.instrument.symbol
        self.touched_books[symbol] = self._changed_books[symbol] = book

    def instrument_changed(self, book: OrderBook) -> None:
        """The symbol itself has changed."""
        self._changed_books[book.instrument.symbol] = book

    def picture_instrument(self, record: InstrumentRecord) -> None:
        """Tell of a symbol that is leaving, as it is now, with the next batch."""
        self._instrument_pictures[record.symbol] = record

    def close_books(self) -> None:
        """Tell what the command has changed in public: each book's levels, and in an auction what it would give now (D1, H3)."""
        for book in self.touched_books.values():
            if book.has_changed:
                self.events.append(book.take_changes(self.time))
            if book.state is _AUCTION:
                self.events.append(auction_indicated(book, self.time, book.next_sequence()))
        self.touched_books = {}

    def fold_changes(self) -> None:
        """Bring the state hash and the pictures of what changed up to now."""
        for order_id, order in self.changed_orders.items():
            picture = self.order_pictures[order_id] = order.record()
            now = digest(picture) if order.is_open else 0
            self.digest_sum += now - order.digest
            order.digest = now
            order.picture = None
        self.changed_orders = {}
        for symbol, book in self._changed_books.items():
            record = self._instrument_pictures[symbol] = book.record()
            now = digest(record)
            self.digest_sum += now - book.digest
            book.digest = now
        self._changed_books = {}
        self.digest_sum += self.accounts.fold_changes()
        self.digest_sum += self.funds.fold()

    def take_changes(self) -> Changes:
        """What has changed since the last call, each once, as it is now."""
        self.fold_changes()
        orders, instruments = list(self.order_pictures.values()), list(self._instrument_pictures.values())
        funds, controls = self.funds.take_pictures(), self.controls.take_pictures()
        moves, self.moves = self.moves, []
        released = frozenset(move.symbol for move in moves if move.symbol not in self.books)
        changes = Changes(orders, instruments, self.accounts.take_pictures(), *funds, controls, moves, released)
        self.order_pictures, self._instrument_pictures = {}, {}
        return changes

    def state_hash(self) -> int:
        """64 bits over all of it."""
        self.fold_changes()
        trade_count = self.matcher.trade_count
        counters = counters_digest(self.shard, self.position, self.time, trade_count, self.priority_count, self.settings)
        return (self.digest_sum + self.controls.digest + counters) & MASK
