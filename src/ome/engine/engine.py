"""The engine: one transition function over all the books of a shard, `apply(command) -> events`.

Deterministic: no clock, no randomness, no IO; the position and the time come with the command, ids from the sequence. The
same commands give the same events and the same state hash, at any split into batches and across restarts (M6). A refusal is
an event; an exception out of `apply` is a bug, and the engine must not be used after it.

Only the runner calls it. Costs, with n orders and p price levels in a book: an order that rests O(log p) for a new level and
O(1) else; a trade O(1); a cancel O(1), or O(log p) when it empties its level.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Final

from msgspec import Struct, structs

from ome.domain.clock import MICROSECONDS
from ome.domain.commands import (
    Administered,
    AdoptPositions,
    AdvanceTime,
    CancelAllAfter,
    CancelOrder,
    CancelOrders,
    Command,
    Configure,
    DefineInstrument,
    ModifyOrder,
    NewOrder,
    SetKill,
    SetLimits,
    Stamped,
    Transfer,
)
from ome.domain.digests import digest
from ome.domain.enums import MarketState, OrderStatus, Side
from ome.domain.errors import InvariantBroken
from ome.domain.events import (
    AuctionIndicated,
    CommandRefused,
    ControlChanged,
    Event,
    InstrumentChanged,
    OrderAccepted,
    OrderCancelled,
    OrderExpired,
    OrderFilled,
    OrderModified,
    OrderRejected,
    OrderTriggered,
)
from ome.domain.ids import make_id
from ome.domain.instrument import DEFAULT_LOT_SIZE, DEFAULT_TICK_SIZE, Instrument
from ome.domain.numbers import pack
from ome.domain.ports import OpenOrders, UserRisk
from ome.domain.reasons import Reason
from ome.domain.records import (
    AssetRecord,
    BalanceRecord,
    ControlRecord,
    EngineSettings,
    EngineState,
    InstrumentRecord,
    OrderRecord,
    PositionRecord,
)
from ome.engine import invariants, time_in_force
from ome.engine.accounts import Accounts
from ome.engine.admission import Change, admit, check_change, only_lowers, refused, rejected
from ome.engine.auction import auction_indicated
from ome.engine.funds import Funds
from ome.engine.headroom import risk_of
from ome.engine.instrument_rules import changed_rules
from ome.engine.limits import Ask, check_limits
from ome.engine.matching import Matcher, MatcherHooks, Outcome, reachable, would_take
from ome.engine.order import Order
from ome.engine.order_book import OrderBook
from ome.engine.reach import is_stopped_by_bound, limit_of
from ome.engine.refusal import Refusal
from ome.engine.snapshot import MASK, counters_digest
from ome.engine.special import STOP_TYPES
from ome.engine.withdrawals import EXPIRY_CHUNK, Withdrawals, acceptance

_FILLED: Final = frozenset({OrderStatus.PARTIALLY_FILLED, OrderStatus.FILLED})


class Changes(Struct, frozen=True):
    """The last state of every order, instrument, position, balance and control that changed."""

    orders: list[OrderRecord]
    instruments: list[InstrumentRecord]
    positions: list[PositionRecord]
    balances: list[BalanceRecord]
    assets: list[AssetRecord]
    controls: list[ControlRecord]


class Engine:
    """All the books of one shard."""

    def __init__(self, shard: int = 0) -> None:
        self.shard = shard
        self.position = 0
        self.time = 0
        self.settings = EngineSettings()
        self._priority_count = 0
        self._orders: dict[int, Order] = {}
        self._accounts = Accounts()
        self._books: dict[str, OrderBook] = {}
        self._withdrawals = Withdrawals(self._orders, self._books, self._accounts, self._end)
        self._controls, self._deadlines = self._withdrawals.controls, self._withdrawals.deadlines
        self._funds = Funds(self._limit_of)
        accounts, funds = self._accounts, self._funds
        hooks = MatcherHooks(
            self._maker_filled,
            self._maker_prevented,
            self._next_priority,
            accounts.traded,
            accounts.resized,
            funds.traded,
            funds.reduced,
        )
        self._matcher = Matcher(shard, 0, hooks)
        self._halts: dict[str, int] = {}
        self._stirred_books: dict[str, OrderBook] = {}
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
        events.extend(self._withdrawals.pass_time(self.time, EXPIRY_CHUNK if isinstance(stamped.command, AdvanceTime) else None))
        self._resume_due()
        self._carry_out(stamped.command)
        if self._stirred_books:
            self._run_stops()
        if self._touched_books:
            self._close_books()
        return events

    def _close_books(self) -> None:
        """Tell what the command has changed in public: each book's levels, and in an auction what it would give now (D1, H3)."""
        for book in self._touched_books.values():
            if book.is_touched:
                self._events.append(book.take_changes(self.time))
            if book.state is MarketState.AUCTION:
                self._events.append(auction_indicated(book, self.time, book.next_sequence()))
        self._touched_books = {}

    def _carry_out(self, command: Command) -> None:
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
                self._configure(command.settings)
            case CancelOrders():
                self._cancel_orders(command)
            case AdvanceTime():
                self._withdrawals.sweep(EXPIRY_CHUNK)
            case SetLimits() | SetKill() | CancelAllAfter() | AdoptPositions() | Administered() | Transfer():
                self._control(command)

    def _control(self, command: SetLimits | SetKill | CancelAllAfter | AdoptPositions | Administered | Transfer) -> None:
        """Lay down what holds for orders from now on; a kill cancels a chunk of what is open at once (R1, I3)."""
        match command:
            case AdoptPositions():
                self._digest_sum += self._accounts.adopt(command.positions)
            case SetKill():
                self._events.append(self._withdrawals.set_kill(command, self.time))
                self._withdrawals.sweep(EXPIRY_CHUNK)
            case SetLimits():
                self._events.append(ControlChanged(self._controls.set_limits(command, self.time)))
            case CancelAllAfter():
                self._events.append(ControlChanged(self._controls.set_timer(command, self.time)))
            case Transfer():
                self._events.append(self._funds.transfer(command, make_id(self.shard, self.position), self.time))
            case Administered():
                pass

    def _configure(self, settings: EngineSettings) -> None:
        self.settings = settings
        self._accounts.keeps_positions = settings.keeps_positions

    def is_open(self, order_id: int) -> bool:
        """Whether the order is open now."""
        return order_id in self._orders

    def open_order(self, order_id: int) -> Order | None:
        """The open order with this id; to look at, not to change."""
        return self._orders.get(order_id)

    @property
    def open_orders(self) -> int:
        """How many orders are open."""
        return len(self._orders)

    def next_deadline(self) -> int | None:
        """When something becomes due without a command, in microseconds; None for never.

        Stops that were over the bound of the last cascade are due at once (S3), and so is what a kill has yet to cancel.
        """
        if self._stirred_books or self.is_sweeping:
            return self.time
        soonest = [until for until in (self._withdrawals.next_moment(), *self._halts.values()) if until is not None]
        return min(soonest, default=None)

    def has_crowd_due(self, time: int) -> bool:
        """Whether so many deadlines have come by `time` that they should end in chunks, each by a command of its own (I2)."""
        return self._withdrawals.has_crowd_due(time)

    @property
    def is_sweeping(self) -> bool:
        """Whether a kill has yet to cancel something: each AdvanceTime cancels a chunk of it (I2)."""
        return self._withdrawals.is_sweeping

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
        orders, instruments = list(self._order_pictures.values()), list(self._instrument_pictures.values())
        funds, controls = self._funds.take_pictures(), self._controls.take_pictures()
        changes = Changes(orders, instruments, self._accounts.take_pictures(), *funds, controls)
        self._order_pictures, self._instrument_pictures = {}, {}
        return changes

    def state_hash(self) -> int:
        """64 bits over all that the engine knows."""
        self._fold_changes()
        counters = counters_digest(self.shard, self.position, self.time, self.trade_count, self._priority_count, self.settings)
        return (self._digest_sum + self._controls.digest + counters) & MASK

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
            self._accounts.positions(),
            self._funds.balances(),
            self._funds.assets(),
            self._controls.active(),
        )

    def balances(self, user_ids: frozenset[str]) -> list[BalanceRecord]:
        """What some users have, as it is now (for dry runs)."""
        return self._funds.balances(user_ids)

    @classmethod
    def restore(cls, state: EngineState, more: Iterable[OpenOrders] = ()) -> Engine:
        """The engine that `state` pictures: every order, of the state and of `more`, back in its place in the queue (DUR6)."""
        engine = cls(state.shard)
        engine.position, engine.time = state.position, state.time
        engine._configure(state.settings)
        engine._priority_count = state.priority_count
        engine._matcher.trade_count = state.trade_count
        engine._restore_books(state)
        engine._restore_positions(state.positions)
        engine._digest_sum += engine._funds.restore(state.balances, state.assets, engine._books.values())
        orders = sorted(state.orders, key=lambda order: order.priority)
        waiting: list[Order] = []
        for part in chain([OpenOrders(orders, list(map(digest, orders)))], more):
            engine._restore_orders(part, waiting)
        for order in sorted(waiting, key=lambda order: order.priority):
            engine._books[order.instrument.symbol].stops.add(order)
        engine._stirred_books = {symbol: book for symbol, book in engine._books.items() if book.has_due_stop}
        engine._withdrawals.restore(state.controls)
        return engine

    def _restore_books(self, state: EngineState) -> None:
        for instrument in state.instruments:
            book = self._books[instrument.symbol] = OrderBook.restored(instrument)
            book.digest = digest(instrument)
            if instrument.rules.halted_until is not None:
                self._halts[instrument.symbol] = instrument.rules.halted_until
            self._digest_sum += book.digest

    def _restore_positions(self, positions: Iterable[PositionRecord]) -> None:
        for record in positions:
            try:
                self._digest_sum += self._accounts.put_position(record)
            except ValueError as error:
                name = f"{record.user_id} in {record.symbol}"
                raise InvariantBroken(f"the position of {name} can't be restored: {error}") from error

    def _restore_orders(self, part: OpenOrders, waiting: list[Order]) -> None:
        """Put orders into their levels, those that wait for a price into `waiting`. Most of the time of a start is spent here."""
        books, orders, opened, pending_trigger = self._books, self._orders, self._accounts.opened, OrderStatus.PENDING_TRIGGER
        record = None
        try:
            for record, counted in zip(part.records, part.digests, strict=True):
                book = books[record.symbol]
                order = Order.restored(record, book.instrument)
                order.digest = counted
                orders[order.id] = order
                opened(order)
                if order.status is pending_trigger:
                    waiting.append(order)
                else:
                    book.side(order.side).add(order)
        except (LookupError, ValueError) as error:
            name = "" if record is None else f" {record.id} of {record.symbol}"
            raise InvariantBroken(f"order{name} can't be restored: {error!r}") from error
        self._digest_sum += sum(part.digests)

    def copy_accounts(self, other: Engine, user_ids: Iterable[str]) -> None:
        """Count for these users, and those of open orders, all that counts in `other`, of which this is an excerpt (dry runs)."""
        self._accounts.copy_from(other._accounts, {*user_ids, *(order.user_id for order in self._orders.values())})

    def risk_of(self, user_id: str) -> UserRisk:
        """What a user may still do."""
        return risk_of(user_id, self._books, self._accounts, self._controls)

    def controls_of(self, user_ids: set[str]) -> list[ControlRecord]:
        """What decides about orders of these users (dry runs)."""
        return self._controls.concerning(user_ids)

    def books(self) -> list[OrderBook]:
        """Every book, in the order of listing; to look at, not to change."""
        return list(self._books.values())

    def running_auctions(self) -> list[AuctionIndicated]:
        """What every symbol in AUCTION would give now (for views to start from)."""
        auctions = [book for book in self._books.values() if book.state is MarketState.AUCTION]
        return [auction_indicated(book, self.time, book.sequence) for book in auctions]

    def check_invariants(self) -> None:
        """INV1 and INV3 to INV5 over everything; InvariantBroken says which doesn't hold. Slow: for tests and recovery."""
        invariants.check(self._books.values(), self._orders, self._accounts, self._deadlines)
        self._funds.check_invariants(self._orders.values())

    # Submit

    def _new_order(self, command: NewOrder) -> None:
        order_id = make_id(self.shard, self.position)
        try:
            if self._controls.is_killed(command.user_id, command.symbol):
                raise Refusal(Reason.KILL_SWITCH)
            book = self._books.get(command.symbol) or self._unlisted_book(command.symbol)
            price, quantity, expires_at, special = admitted = admit(command, book, self.time)
            if command.user_id in self._controls.limits:
                self._check_limits(Ask.of_new(command, admitted), command.user_id, book)
            order = Order(
                order_id,
                book.instrument,
                command.user_id,
                command.side,
                command.type,
                command.time_in_force,
                quantity,
                price,
                0,
                self.time,
                command.self_trade_prevention,
                command.client_order_id,
                expires_at,
                special,
            )
            self._funds.open(book, order)
        except Refusal as refusal:
            self._reject(order_id, command, refusal)
            return
        self._list_if_new(book)
        order.priority = self._next_priority()
        self._changed_orders[order_id] = order
        self._hold(order)
        if order.type in STOP_TYPES:
            self._wait(book, order)
        else:
            self._events.append(OrderAccepted(order.record()))
            self._enter(book, order)

    def _check_limits(self, ask: Ask, user_id: str, book: OrderBook) -> None:
        """What the user of an order may (R1, R2)."""
        limits = self._controls.limits_of(user_id, book.instrument.symbol)
        if limits is not None:
            check_limits(ask, limits, self._controls.most_open(user_id), self._accounts.user(user_id), book)

    def _limit_of(self, book: OrderBook, order: Order) -> tuple[int | None, Reason | None]:
        """How far an order may trade now, and why what that leaves over is cancelled (T3, H2, R1)."""
        percent = None
        if order.user_id in self._controls.limits:
            limits = self._controls.limits_of(order.user_id, book.instrument.symbol)
            percent = None if limits is None else limits.price_collar_percent
        return limit_of(book, order.side, order.price, order.special, percent)

    def _next_priority(self) -> int:
        self._priority_count += 1
        return self._priority_count

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
        record = rejected(order_id, command, refusal.reason, self.time)
        self._order_pictures[order_id] = record
        self._events.append(OrderRejected(record, refusal.limit))

    def _enter(self, book: OrderBook, order: Order) -> None:
        """Bring an order that is new, or a stop that has fired, to the market: all or a minimum at once, if it asks for that."""
        if book.state is MarketState.AUCTION:
            self._rest(book, order)
            return
        limit, reason = self._limit_of(book, order)
        special = order.special
        wanted = order.remaining if time_in_force.must_fill_at_once(order) else 0
        if special is not None and special.min_quantity is not None:
            wanted = max(wanted, special.min_quantity)
        if wanted and reachable(book, order, limit, wanted) < wanted:
            unfillable = Reason.FOK_UNFILLABLE if time_in_force.must_fill_at_once(order) else Reason.MIN_QUANTITY_UNFILLABLE
            self._end(order, OrderStatus.CANCELLED, unfillable)
            return
        self._match_and_settle(book, order, limit, reason)

    def _match_and_settle(self, book: OrderBook, order: Order, limit: int | None, bound: Reason | None) -> None:
        """Trade an order that is not in the book, then rest, end or leave filled what it has become.

        `bound` says why what is left is cancelled where something other than the order's own price limits it (H2, T3).
        """
        trades = self._matcher.trade_count
        outcome = self._matcher.match(book, order, limit, self.position, self.time, self._events)
        if self._matcher.trade_count != trades:
            self._events.append(OrderFilled(order.record()))
            self._stirred_books[book.instrument.symbol] = book
        if book.is_touched:
            self._touch(book)
        if outcome is Outcome.PREVENTED:
            self._end(order, OrderStatus.CANCELLED, Reason.SELF_TRADE_PREVENTED)
        elif not order.remaining:
            self._forget(order)
        elif bound is not None and is_stopped_by_bound(book, order):
            self._end(order, OrderStatus.CANCELLED, bound)
            self._halt_at_band(book, bound)
        elif time_in_force.rests(order):
            self._rest(book, order)
        else:
            self._end(order, OrderStatus.CANCELLED, time_in_force.remainder_reason(order))

    def _halt_at_band(self, book: OrderBook, reason: Reason) -> None:
        """A taker that the band has stopped halts the symbol, where the instrument says for how long (H2)."""
        if reason is Reason.PRICE_BAND_REACHED and book.rules.band_halt_s:
            self._set_state(book, MarketState.HALTED, self.time + book.rules.band_halt_s * MICROSECONDS)
            self._instrument_changed(book)

    def _rest(self, book: OrderBook, order: Order) -> None:
        """What is left becomes part of the book, an iceberg with its first slice (M2, T6)."""
        order.show_slice()
        book.add(order)
        self._touch(book)
        self._deadlines.add(order)

    # Cancel and expiry

    def _cancel(self, command: CancelOrder) -> None:
        try:
            order = self._order_for(command)
        except Refusal as refusal:
            self._events.append(refused(command, refusal))
            return
        self._end(order, OrderStatus.CANCELLED, Reason.CANCELLED_BY_USER)

    def _order_for(self, command: CancelOrder | ModifyOrder) -> Order:
        """The open order that the command names, if it is the account's. Raises Refusal."""
        order = self._orders.get(command.order_id)
        if order is None:
            raise Refusal(_not_open(command.exists))
        if command.account is not None and order.user_id != command.account:
            raise Refusal(Reason.ORDER_NOT_FOUND)
        return order

    def _cancel_orders(self, command: CancelOrders) -> None:
        """Cancel what the command names in the order of acceptance, waiting stops included, up to its limit (I2)."""
        orders = self._withdrawals.orders_in(command.user_id or "", command.symbol or "")
        named = (order for order in orders if _is_named(order, command))
        for order in sorted(named, key=acceptance)[: command.limit]:
            self._end(order, OrderStatus.CANCELLED, Reason.CANCELLED_BY_USER)

    def _end(self, order: Order, status: OrderStatus, reason: Reason, *, holds: bool = True) -> None:
        """End an order with some of it unfilled, taking it out of the book if it is in it, and what it holds out of its hold."""
        book = self._books[order.instrument.symbol]
        if holds:
            self._funds.reduced(order, order.remaining)
        if order.level is not None:
            book.remove(order)
            self._touch(book)
        elif order.is_waiting:
            book.stops.remove(order)
        remained = order.remaining
        order.end(status, reason, self.time)
        self._changed_orders[order.id] = order
        self._forget(order, remained)
        record = order.record()
        self._events.append(OrderExpired(record) if status is OrderStatus.EXPIRED else OrderCancelled(record))

    def _hold(self, order: Order) -> None:
        """An open order is the engine's until it ends."""
        self._orders[order.id] = order
        self._accounts.opened(order)

    def _forget(self, order: Order, remained: int = 0) -> None:
        """An order that has ended, with so many lots unfilled, is no longer the engine's: the database has it."""
        del self._orders[order.id]
        self._accounts.closed(order, remained)
        self._deadlines.drop(order)

    # Modify

    def _modify(self, command: ModifyOrder) -> None:
        try:
            order = self._order_for(command)
            book = self._books[order.instrument.symbol]
            symbol = book.instrument.symbol
            change = check_change(command, order, book, self.time, is_killed=self._controls.is_killed(order.user_id, symbol))
            if order.user_id in self._controls.limits and not only_lowers(command, order, change.price, change.quantity):
                self._check_limits(Ask.of_change(order, change), order.user_id, book)
            self._funds.change(order, change.price, change.quantity - order.filled - order.prevented)
        except Refusal as refusal:
            self._events.append(refused(command, refusal))
            return
        self._changed_orders[order.id] = order
        order.version += 1
        order.updated_at = self.time
        order.picture = None
        if change.expires_at != order.expires_at:
            self._deadlines.drop(order)
            order.expires_at = change.expires_at
            self._deadlines.add(order)
        if order.is_waiting:
            self._change_waiting(book, order, change)
        elif change.quantity == order.filled + order.prevented:
            self._reduce(book, order, change)
            book.remove(order)
            order.price = change.price
            self._end(order, OrderStatus.CANCELLED, Reason.REDUCED_TO_FILLED)
        elif change.price == order.price and change.quantity <= order.quantity:
            self._reduce(book, order, change)
            self._events.append(OrderModified(order.record()))
        else:
            self._requeue(book, order, change)

    def _reduce(self, book: OrderBook, order: Order, change: Change) -> None:
        """Lower the total, or what it shows, where it stands: the place in the queue is kept (A1, A3)."""
        shown, hidden = order.shown, order.hidden
        order.special = change.special
        lowered = order.quantity - change.quantity
        order.remaining -= lowered
        self._accounts.resized(order, -lowered)
        order.quantity = change.quantity
        now_shown = min(shown, order.remaining)
        if order.special is not None and order.special.display is not None:
            now_shown = min(now_shown, order.special.display)
        order.hidden = order.remaining - now_shown
        book.resized(order, shown, hidden)
        if book.is_touched or (book.state is MarketState.AUCTION and order.hidden != hidden):  # an auction counts what is hidden
            self._touch(book)

    def _requeue(self, book: OrderBook, order: Order, change: Change) -> None:
        """Take a new price or a larger quantity: out of the queue, trading where it crosses, to the back (A2, A4)."""
        book.remove(order)
        self._touch(book)
        self._deadlines.drop(order)
        order.priority = self._next_priority()
        order.price, order.special = change.price, change.special
        self._accounts.resized(order, change.quantity - order.quantity)
        order.quantity = change.quantity
        order.remaining = change.quantity - order.filled - order.prevented
        order.hidden = 0
        self._events.append(OrderModified(order.record()))
        if book.state is MarketState.AUCTION:
            self._rest(book, order)
        else:
            self._match_and_settle(book, order, *self._limit_of(book, order))

    # Stops

    def _wait(self, book: OrderBook, order: Order) -> None:
        """A new stop waits for its price; a trail starts from the last price (S5, S6). One already through fires at once (S2)."""
        order.status = OrderStatus.PENDING_TRIGGER
        special = order.special
        if special is not None and special.is_trailing and book.last_ticks is not None:
            special.follow(order.side, book.last_ticks)
        book.stops.add(order)
        self._deadlines.add(order)
        self._stirred_books[book.instrument.symbol] = book
        self._events.append(OrderAccepted(order.record()))

    def _change_waiting(self, book: OrderBook, order: Order, change: Change) -> None:
        """A waiting stop takes its new fields and keeps its turn; one that is now through fires at once (A8)."""
        book.stops.remove(order)
        order.special = change.special
        order.price = change.price
        self._accounts.resized(order, change.quantity - order.quantity)
        order.remaining = order.quantity = change.quantity
        book.stops.add(order)
        self._stirred_books[book.instrument.symbol] = book
        self._events.append(OrderModified(order.record()))

    def _run_stops(self) -> None:
        """Fire what has become due, of all symbols the one accepted first, until nothing is or the bound is reached (S1-S3)."""
        stirred = self._stirred_books
        for book in stirred.values():
            self._look_at_stops(book)
        left = self.settings.max_cascade
        while left and (ready := [book for book in stirred.values() if book.has_due_stop]):
            book = min(ready, key=_first_due_id)
            self._fire(book, book.stops.due.peekitem(0)[1])
            self._look_at_stops(book)
            left -= 1
        self._stirred_books = {symbol: book for symbol, book in stirred.items() if book.has_due_stop}

    def _look_at_stops(self, book: OrderBook) -> None:
        """After a command, or a stop, has been dealt with completely: trails follow what traded, reached stops become due."""
        traded = book.take_traded()
        stops = book.stops
        if not len(stops) or book.last_ticks is None:
            return
        moved = [] if traded is None else stops.follow(*traded)
        for order in (*moved, *stops.make_due(book.last_ticks)):
            order.picture = None
            self._changed_orders[order.id] = order

    def _fire(self, book: OrderBook, order: Order) -> None:
        """A stop becomes a MARKET or LIMIT order with new time priority, the same id and type (S4)."""
        special = order.special
        if special is None or special.stop is None:
            raise InvariantBroken(f"order {order.id} fires without a stop price")
        if self._controls.is_killed(order.user_id, order.instrument.symbol):
            self._end(order, OrderStatus.CANCELLED, Reason.CANCELLED_BY_KILL_SWITCH)
            return
        book.stops.remove(order)
        self._deadlines.drop(order)
        special.is_due = False
        special.triggered_at = self.time
        if special.limit_offset is not None:
            offset = special.limit_offset
            order.price = max(1, special.stop + (offset if order.side is Side.BUY else -offset))
        order.status = OrderStatus.PENDING
        order.priority = self._next_priority()
        order.updated_at = self.time
        order.picture = None
        self._changed_orders[order.id] = order
        self._events.append(OrderTriggered(order.record()))
        if not self._funds.fire(book, order):
            self._end(order, OrderStatus.CANCELLED, Reason.INSUFFICIENT_FUNDS, holds=False)
        elif special.post_only and order.price is not None and would_take(book, order.side, order.price):
            self._end(order, OrderStatus.CANCELLED, Reason.POST_ONLY_WOULD_TAKE)
        else:
            self._enter(book, order)

    # Instruments

    def _define_instrument(self, command: DefineInstrument) -> None:
        book = self._books.get(command.symbol)
        try:
            if book is None:
                self._check_room_for_symbol()
                tick, lot = command.tick_size or DEFAULT_TICK_SIZE, command.lot_size or DEFAULT_LOT_SIZE
                book = self._books[command.symbol] = OrderBook(Instrument(command.symbol, tick, lot), self.time)
            else:
                self._redefine(book, command)
        except Refusal as refusal:
            self._events.append(CommandRefused(None, refusal.reason, refusal.limit))
            return
        book.rules = changed_rules(book.rules, command)
        self._funds.define(book)
        if command.state is not None:
            self._set_state(book, command.state, None)
        self._instrument_changed(book)

    def _redefine(self, book: OrderBook, command: DefineInstrument) -> None:
        old = book.instrument
        tick, lot = command.tick_size or old.tick_size, command.lot_size or old.lot_size
        is_redefined = (tick, lot) != (old.tick_size, old.lot_size)
        is_refunded = changed_rules(book.rules, command).funding != book.rules.funding
        if (is_redefined or is_refunded) and not book.is_empty:
            raise Refusal(Reason.INSTRUMENT_IN_USE)
        if is_redefined:
            book.redefine(Instrument(command.symbol, tick, lot))

    def _set_state(self, book: OrderBook, state: MarketState, until: int | None) -> None:
        """Let the symbol take other orders from now on; leaving an auction uncrosses first (H1, H3). `until` ends a halt."""
        symbol = book.instrument.symbol
        if book.state is MarketState.AUCTION and state is not MarketState.AUCTION:
            takers = self._matcher.uncross(book, self.position, self.time, self._events)
            self._events.extend(OrderFilled(order.record()) for order in takers if order.status in _FILLED)
            self._touch(book)
        book.state = state
        book.rules = structs.replace(book.rules, halted_until=until)
        self._halts.pop(symbol, None)
        if until is not None:
            self._halts[symbol] = until
        self._stirred_books[symbol] = self._touched_books[symbol] = book

    def _resume_due(self) -> None:
        """Open the symbols whose halt is over (H2)."""
        for until, symbol in sorted((until, symbol) for symbol, until in self._halts.items()):
            if until <= self.time:
                book = self._books[symbol]
                self._set_state(book, MarketState.OPEN, None)
                self._instrument_changed(book)

    def _instrument_changed(self, book: OrderBook) -> None:
        book.next_sequence()
        self._changed_books[book.instrument.symbol] = book
        self._events.append(InstrumentChanged(book.record()))

    # What has changed

    def _maker_prevented(self, maker: Order) -> None:
        self._end(maker, OrderStatus.CANCELLED, Reason.SELF_TRADE_PREVENTED)

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
        self._digest_sum += self._accounts.fold_changes()
        self._digest_sum += self._funds.fold()


def _first_due_id(book: OrderBook) -> int:
    first: int = book.stops.due.peekitem(0)[0]
    return first


def _is_named(order: Order, command: CancelOrders) -> bool:
    symbol, side = command.symbol, command.side
    return (symbol is None or order.instrument.symbol == symbol) and (side is None or order.side is side)


def _not_open(exists: bool) -> Reason:  # noqa: FBT001  a fact that the command carries
    return Reason.ORDER_NOT_OPEN if exists else Reason.ORDER_NOT_FOUND
