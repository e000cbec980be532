"""The engine: one transition function over all the books of a shard, `apply(command) -> events`.

Deterministic: no clock, no randomness, no IO; the position and the time come with the command, ids from the sequence. The
same commands give the same events and the same state hash, at any split into batches and across restarts (M6). A refusal is
an event; an exception out of `apply` is a bug, and the engine must not be used after it.

Only the runner calls it. Costs, with n orders and p price levels in a book: an order that rests O(log p) for a new level and
O(1) else; a trade O(1); a cancel O(1), or O(log p) when it empties its level.
"""

from __future__ import annotations

from msgspec import Struct

from ome.domain.commands import AdvanceTime, CancelOrder, Configure, DefineInstrument, ModifyOrder, NewOrder, Stamped
from ome.domain.enums import OrderStatus, TimeInForce
from ome.domain.errors import InvariantBroken
from ome.domain.events import (
    CommandRefused,
    Event,
    InstrumentChanged,
    OrderAccepted,
    OrderCancelled,
    OrderExpired,
    OrderFilled,
    OrderModified,
    OrderRejected,
)
from ome.domain.ids import make_id
from ome.domain.instrument import BEYOND, DEFAULT_LOT_SIZE, DEFAULT_TICK_SIZE, OFF_GRID, Instrument
from ome.domain.numbers import pack
from ome.domain.reasons import Reason
from ome.domain.records import EngineSettings, EngineState, InstrumentRecord, OrderRecord
from ome.engine import time_in_force
from ome.engine.expiry import Deadlines
from ome.engine.matching import Matcher, reachable
from ome.engine.order import Order
from ome.engine.order_book import OrderBook
from ome.engine.snapshot import MASK, counters_digest, digest


class Refusal(Exception):
    """Why a command can't be carried out; raised before anything has changed (A6, R1), and never out of this module."""

    def __init__(self, reason: Reason, limit: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.limit = limit


class Changes(Struct, frozen=True):
    """The last state of every order and instrument that changed."""

    orders: list[OrderRecord]
    instruments: list[InstrumentRecord]


class Engine:
    """All the books of one shard."""

    def __init__(self, shard: int = 0) -> None:
        self.shard = shard
        self.position = 0
        self.time = 0
        self.settings = EngineSettings()
        self._priority_count = 0
        self._orders: dict[int, Order] = {}
        self._books: dict[str, OrderBook] = {}
        self._deadlines = Deadlines()
        self._matcher = Matcher(shard, 0, self._maker_filled)
        self._events: list[Event] = []
        self._touched_books: dict[str, OrderBook] = {}
        self._changed_orders: dict[int, Order] = {}
        self._changed_books: dict[str, OrderBook] = {}
        self._order_pictures: dict[int, OrderRecord] = {}
        self._instrument_pictures: dict[str, InstrumentRecord] = {}
        self._digest_sum = 0

    # What the runner asks

    def apply(self, stamped: Stamped) -> list[Event]:
        """Carry out the next command: its events, in the order in which things happened.

        `position` must be the next one and `time` not before the last (the runner sees to both).
        """
        if stamped.position != self.position + 1 or stamped.time < self.time:
            raise InvariantBroken(f"command {stamped.position} at {stamped.time} cannot follow {self.position} at {self.time}")
        self.position, self.time = stamped.position, stamped.time
        events = self._events = []
        self._expire_due()
        command = stamped.command
        match command:
            case NewOrder():
                self._new_order(command)
            case CancelOrder():
                self._cancel(command)
            case ModifyOrder():
                self._modify(command)
            case DefineInstrument():
                self._define_instrument(command)
            case Configure():
                self.settings = command.settings
            case AdvanceTime():
                pass
        if self._touched_books:
            events.extend(book.take_changes(self.time) for book in self._touched_books.values() if book.is_touched)
            self._touched_books = {}
        return events

    def is_open(self, order_id: int) -> bool:
        """Whether the order is open now."""
        return order_id in self._orders

    def next_deadline(self) -> int | None:
        """When something becomes due without a command, in microseconds; None for never."""
        return self._deadlines.soonest

    @property
    def trade_count(self) -> int:
        """How many trades this shard has made."""
        return self._matcher.trade_count

    @property
    def priority_count(self) -> int:
        """How many places in queues this shard has given."""
        return self._priority_count

    def take_changes(self) -> Changes:
        """What has changed since the last call, each once, as it is now."""
        self._fold_changes()
        changes = Changes(list(self._order_pictures.values()), list(self._instrument_pictures.values()))
        self._order_pictures, self._instrument_pictures = {}, {}
        return changes

    def state_hash(self) -> int:
        """64 bits over all that the engine knows."""
        self._fold_changes()
        counters = counters_digest(self.shard, self.position, self.time, self.trade_count, self._priority_count, self.settings)
        return (self._digest_sum + counters) & MASK

    def state(self) -> EngineState:
        """All that the engine knows; `Engine.restore` makes an equal one of it."""
        return EngineState(
            self.shard,
            self.position,
            self.time,
            self.trade_count,
            self._priority_count,
            self.settings,
            [book.record() for book in self._books.values()],
            [order.record() for order in self._orders.values()],
        )

    @classmethod
    def restore(cls, state: EngineState) -> Engine:
        """The engine that `state` pictures: every order back in its place in the queue (DUR6)."""
        engine = cls(state.shard)
        engine.position, engine.time = state.position, state.time
        engine.settings = state.settings
        engine._priority_count = state.priority_count
        engine._matcher.trade_count = state.trade_count
        engine._restore_books(state)
        return engine

    def _restore_books(self, state: EngineState) -> None:
        for instrument in state.instruments:
            book = self._books[instrument.symbol] = OrderBook.restored(instrument)
            book.digest = digest(instrument)
            self._digest_sum += book.digest
        for record in sorted(state.orders, key=lambda order: order.priority):
            book = self._books[record.symbol]
            order = Order.restored(record, book.instrument)
            order.digest = digest(record)
            self._digest_sum += order.digest
            self._orders[order.id] = order
            book.side(order.side).add(order)
            self._deadlines.add(order)

    def books(self) -> list[OrderBook]:
        """Every book, in the order of listing; to look at, not to change."""
        return list(self._books.values())

    def check_invariants(self) -> None:
        """INV1 and INV3 to INV5 over everything; InvariantBroken says which doesn't hold. Slow: for tests and recovery."""
        resting: dict[int, Order] = {}
        for book in self._books.values():
            book.check_invariants()
            resting.update((order.id, order) for order in book.orders())
        if resting.keys() != self._orders.keys():
            raise InvariantBroken("the open orders are not those in the books")
        for order in resting.values():
            if order.filled + order.remaining != order.quantity or order.remaining <= 0 or not order.is_open:
                raise InvariantBroken(f"order {order.id}: {order.filled} filled and {order.remaining} open of {order.quantity}")
        watched = sum(order.expires_at is not None for order in resting.values())
        if watched != len(self._deadlines):
            raise InvariantBroken(f"{len(self._deadlines)} deadlines are watched for {watched} orders that have one")

    # Submit

    def _new_order(self, command: NewOrder) -> None:
        order_id = make_id(self.shard, self.position)
        try:
            book, price, quantity = self._admit(command)
        except Refusal as refusal:
            self._reject(order_id, command, refusal)
            return
        self._list_if_new(book)
        self._priority_count += 1
        order = Order(
            order_id,
            book.instrument,
            command.user_id,
            command.side,
            command.type,
            command.time_in_force,
            quantity,
            price,
            self._priority_count,
            self.time,
            command.self_trade_prevention,
            command.client_order_id,
            command.expires_at,
        )
        self._orders[order_id] = self._changed_orders[order_id] = order
        self._events.append(OrderAccepted(order.record()))
        if time_in_force.must_fill_at_once(order) and reachable(book, order) < order.quantity:
            self._end(order, OrderStatus.CANCELLED, Reason.FOK_UNFILLABLE)
            return
        self._match_and_settle(book, order)

    def _admit(self, command: NewOrder) -> tuple[OrderBook, int | None, int]:
        """Every check of a new order, in the order of rule R1, before any change: its book, ticks and lots."""
        book = self._books.get(command.symbol)
        if book is None:
            book = self._unlisted_book(command.symbol)
        instrument = book.instrument
        price = None if command.price is None else instrument.prices.steps(command.price)
        quantity = instrument.quantities.steps(command.quantity)
        _check_steps(instrument, price, quantity)
        if command.expires_at is not None and command.expires_at <= self.time:
            raise Refusal(Reason.EXPIRES_AT_IN_PAST)
        return book, price, quantity

    def _unlisted_book(self, symbol: str) -> OrderBook:
        """The book that an unlisted symbol's first order would list; it is not listed yet."""
        if not self.settings.auto_list:
            raise Refusal(Reason.UNKNOWN_SYMBOL)
        self._check_room_for_symbol()
        return OrderBook(Instrument(symbol, DEFAULT_TICK_SIZE, DEFAULT_LOT_SIZE), self.time)

    def _check_room_for_symbol(self) -> None:
        if len(self._books) >= self.settings.max_symbols:
            raise Refusal(Reason.TOO_MANY_SYMBOLS, pack(self.settings.max_symbols, 0))

    def _list_if_new(self, book: OrderBook) -> None:
        symbol = book.instrument.symbol
        if symbol not in self._books:
            self._books[symbol] = book
            self._instrument_changed(book)

    def _reject(self, order_id: int, command: NewOrder, refusal: Refusal) -> None:
        """Record a refused order as it was sent: the audit trail has it (HOLE25)."""
        record = OrderRecord(
            order_id,
            command.user_id,
            command.symbol,
            command.side,
            command.type,
            command.time_in_force,
            command.quantity,
            command.price,
            0,
            "0",
            0,
            OrderStatus.REJECTED,
            refusal.reason,
            1,
            0,
            command.self_trade_prevention,
            command.client_order_id,
            command.expires_at,
            self.time,
            self.time,
        )
        self._order_pictures[order_id] = record
        self._events.append(OrderRejected(record, refusal.limit))

    def _match_and_settle(self, book: OrderBook, order: Order) -> None:
        """Trade an order that is not in the book, then rest, end or leave filled what it has become."""
        trades = self._matcher.trade_count
        stopped = self._matcher.match(book, order, self.position, self.time, self._events)
        if self._matcher.trade_count != trades:
            self._touch(book)
            self._events.append(OrderFilled(order.record()))
        if not order.remaining:
            self._forget(order)
        elif stopped:
            self._end(order, OrderStatus.CANCELLED, Reason.SELF_TRADE_PREVENTED)
        elif time_in_force.rests(order):
            book.add(order)
            self._touch(book)
            self._deadlines.add(order)
        else:
            self._end(order, OrderStatus.CANCELLED, time_in_force.remainder_reason(order))

    # Cancel and expiry

    def _cancel(self, command: CancelOrder) -> None:
        order = self._orders.get(command.order_id)
        if order is None:
            self._events.append(CommandRefused(command.order_id, _not_open(command.exists)))
            return
        self._end(order, OrderStatus.CANCELLED, Reason.CANCELLED_BY_USER)

    def _expire_due(self) -> None:
        """End every order whose deadline has come, before the command itself (T5)."""
        while (order := self._deadlines.pop_due(self.time)) is not None:
            self._end(order, OrderStatus.EXPIRED, Reason.EXPIRED)

    def _end(self, order: Order, status: OrderStatus, reason: Reason) -> None:
        """End an order with some of it unfilled, taking it out of the book if it is in it."""
        if order.level is not None:
            book = self._books[order.instrument.symbol]
            book.remove(order)
            self._touch(book)
        order.end(status, reason, self.time)
        self._changed_orders[order.id] = order
        self._forget(order)
        record = order.record()
        self._events.append(OrderExpired(record) if status is OrderStatus.EXPIRED else OrderCancelled(record))

    def _forget(self, order: Order) -> None:
        """An order that has ended is no longer the engine's: the database has it."""
        del self._orders[order.id]
        self._deadlines.drop(order)

    # Modify

    def _modify(self, command: ModifyOrder) -> None:
        try:
            order = self._orders.get(command.order_id)
            if order is None:
                raise Refusal(_not_open(command.exists))
            price, quantity, expires_at = self._checked_change(order, command)
        except Refusal as refusal:
            self._events.append(CommandRefused(command.order_id, refusal.reason, refusal.limit))
            return
        self._changed_orders[order.id] = order
        order.version += 1
        order.updated_at = self.time
        order.picture = None
        if expires_at != order.expires_at:
            self._deadlines.drop(order)
            order.expires_at = expires_at
            self._deadlines.add(order)
        if quantity == order.filled:
            self._reduce(order, quantity)
            self._books[order.instrument.symbol].remove(order)
            order.price = price
            self._end(order, OrderStatus.CANCELLED, Reason.REDUCED_TO_FILLED)
        elif price == order.price and quantity <= order.quantity:
            self._reduce(order, quantity)
            self._events.append(OrderModified(order.record()))
        else:
            self._requeue(order, price, quantity)

    def _checked_change(self, order: Order, command: ModifyOrder) -> tuple[int | None, int, int | None]:
        """Every check of a change, before any of it is made (A6): the new ticks, lots and deadline."""
        if command.expected_version is not None and command.expected_version != order.version:
            raise Refusal(Reason.VERSION_CONFLICT, pack(order.version, 0))
        if command.expires_at is not None and order.time_in_force is not TimeInForce.GTD:
            raise Refusal(Reason.FIELD_NOT_APPLICABLE)
        instrument = order.instrument
        price = order.price if command.price is None else instrument.prices.steps(command.price)
        quantity = order.quantity if command.quantity is None else instrument.quantities.steps(command.quantity)
        _check_steps(instrument, price, quantity)
        if quantity < order.filled:
            raise Refusal(Reason.QUANTITY_BELOW_FILLED, instrument.quantities.number(order.filled))
        if command.expires_at is not None and command.expires_at <= self.time:
            raise Refusal(Reason.EXPIRES_AT_IN_PAST)
        return price, quantity, order.expires_at if command.expires_at is None else command.expires_at

    def _reduce(self, order: Order, quantity: int) -> None:
        """Lower the total where it stands, or leave it: the place in the queue is kept (A1)."""
        lots = order.quantity - quantity
        if lots and order.level is not None:
            book = self._books[order.instrument.symbol]
            book.touch(order)
            self._touch(book)
            order.level.quantity -= lots
        order.quantity = quantity
        order.remaining -= lots

    def _requeue(self, order: Order, price: int | None, quantity: int) -> None:
        """Take a new price or a larger quantity: out of the queue, trading where it crosses, to the back (A2, A4)."""
        book = self._books[order.instrument.symbol]
        book.remove(order)
        self._touch(book)
        self._deadlines.drop(order)
        self._priority_count += 1
        order.priority = self._priority_count
        order.price = price
        order.quantity = quantity
        order.remaining = quantity - order.filled
        self._events.append(OrderModified(order.record()))
        self._match_and_settle(book, order)

    # Instruments

    def _define_instrument(self, command: DefineInstrument) -> None:
        book = self._books.get(command.symbol)
        try:
            if book is None:
                self._check_room_for_symbol()
                tick, lot = command.tick_size or DEFAULT_TICK_SIZE, command.lot_size or DEFAULT_LOT_SIZE
                book = self._books[command.symbol] = OrderBook(Instrument(command.symbol, tick, lot), self.time)
            else:
                old = book.instrument
                tick, lot = command.tick_size or old.tick_size, command.lot_size or old.lot_size
                if (tick, lot) != (old.tick_size, old.lot_size):
                    if not book.is_empty:
                        raise Refusal(Reason.INSTRUMENT_IN_USE)
                    book.instrument = Instrument(command.symbol, tick, lot)
        except Refusal as refusal:
            self._events.append(CommandRefused(None, refusal.reason, refusal.limit))
            return
        self._instrument_changed(book)

    def _instrument_changed(self, book: OrderBook) -> None:
        book.next_sequence()
        self._changed_books[book.instrument.symbol] = book
        self._events.append(InstrumentChanged(book.record()))

    # What has changed

    def _touch(self, book: OrderBook) -> None:
        symbol = book.instrument.symbol
        self._touched_books[symbol] = self._changed_books[symbol] = book

    def _maker_filled(self, maker: Order) -> None:
        self._changed_orders[maker.id] = maker
        if not maker.remaining:
            self._forget(maker)

    def _fold_changes(self) -> None:
        """Bring the state hash and the pictures of what changed up to now."""
        for order_id, order in self._changed_orders.items():
            picture = self._order_pictures[order_id] = order.record()
            now = digest(picture) if order.is_open else 0
            self._digest_sum += now - order.digest
            order.digest = now
            order.picture = None
        self._changed_orders = {}
        for symbol, book in self._changed_books.items():
            record = self._instrument_pictures[symbol] = book.record()
            now = digest(record)
            self._digest_sum += now - book.digest
            book.digest = now
        self._changed_books = {}


def _not_open(exists: bool) -> Reason:  # noqa: FBT001  a fact that the command carries
    return Reason.ORDER_NOT_OPEN if exists else Reason.ORDER_NOT_FOUND


def _check_steps(instrument: Instrument, ticks: int | None, lots: int) -> None:
    """Refuse what is no whole number of ticks or lots, then what is too large to keep, saying what would fit (M5, N1)."""
    prices, quantities = instrument.prices, instrument.quantities
    if ticks == OFF_GRID:
        raise Refusal(Reason.PRICE_OFF_TICK, pack(prices.mantissa, prices.decimals))
    if lots == OFF_GRID:
        raise Refusal(Reason.QUANTITY_OFF_LOT, pack(quantities.mantissa, quantities.decimals))
    if ticks == BEYOND:
        raise Refusal(Reason.PRICE_TOO_LARGE, prices.largest)
    if lots == BEYOND:
        raise Refusal(Reason.QUANTITY_TOO_LARGE, quantities.largest)
