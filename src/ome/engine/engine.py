"""The engine: one transition function over all the books of a shard, `apply(command) -> events`.

Deterministic: no clock, no randomness, no IO; the position and the time come with the command, ids from the sequence. The
same commands give the same events and the same state hash, at any split into batches and across restarts (M6). A refusal is
an event; an exception out of `apply` is a bug, and the engine must not be used after it.

What it knows is a `Market`; what each command does to that stands in a module named after it. Only the runner calls it. Costs,
with p price levels in a book: a trade O(1); an order that rests and a cancel O(1), or O(log p) where that makes or empties a
level.
"""

from __future__ import annotations

from collections.abc import Iterable

from ome.domain.commands import (
    Administered,
    Admit,
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
    Release,
    SetKill,
    SetLimits,
    Stamped,
    Transfer,
)
from ome.domain.enums import MarketState
from ome.domain.errors import InvariantBroken
from ome.domain.events import AuctionIndicated, ControlChanged, Event
from ome.domain.ids import make_id
from ome.domain.ports import OpenOrders, UserRisk
from ome.domain.records import BalanceRecord, ControlRecord, EngineSettings, EngineState
from ome.engine import invariants
from ome.engine.admission import asked_of, only_lowers
from ome.engine.auction import auction_indicated
from ome.engine.cancelling import cancel, cancel_orders
from ome.engine.changes import Changes
from ome.engine.headroom import risk_of
from ome.engine.instruments import define_instrument, resume_due
from ome.engine.market import Market
from ome.engine.modifying import modify
from ome.engine.moving import admit, release, why_it_stays
from ome.engine.order import Order
from ome.engine.order_book import OrderBook
from ome.engine.restoring import restore_market
from ome.engine.stop_firing import run_stops
from ome.engine.submitting import new_order
from ome.engine.withdrawals import EXPIRY_CHUNK, Withdrawals


class Engine:
    """All the books of one shard."""

    def __init__(self, shard: int = 0) -> None:
        self._market = Market(shard)
        self._withdrawals = Withdrawals(self._market)

    @classmethod
    def restore(cls, state: EngineState, more: Iterable[OpenOrders] = ()) -> Engine:
        """The engine that `state` pictures: every order, of the state and of `more`, back in its place in the queue (DUR6)."""
        engine = cls(state.shard)
        restore_market(engine._market, state, more)
        engine._withdrawals.restore(state.controls)
        return engine

    # Commands

    def apply(self, stamped: Stamped) -> list[Event]:
        """Carry out the next command: its events, in the order in which things happened.

        `position` must be the next one and `time` not before the last (the runner sees to both).
        """
        market, command, position, time = self._market, stamped.command, stamped.position, stamped.time
        if position != market.position + 1 or time < market.time:
            raise InvariantBroken(f"command {position} at {time} cannot follow {market.position} at {market.time}")
        market.position, market.time = position, time
        events = market.events = []
        if self._withdrawals.is_due(time):
            events.extend(self._withdrawals.pass_time(time, EXPIRY_CHUNK if isinstance(command, AdvanceTime) else None))
        if market.halts:
            resume_due(market)
        self._carry_out(command)
        if market.stirred_books:
            run_stops(market)
        if market.touched_books:
            market.close_books()
        return events

    def _carry_out(self, command: Command) -> None:
        match command:
            case NewOrder():
                new_order(self._market, command)
            case CancelOrder():
                cancel(self._market, command)
            case ModifyOrder():
                modify(self._market, command)
            case DefineInstrument():
                define_instrument(self._market, command)
            case Configure():
                self._market.configure(command.settings)
            case CancelOrders():
                cancel_orders(self._market, self._withdrawals, command)
            case AdvanceTime():
                self._withdrawals.sweep(EXPIRY_CHUNK)
            case Release() | Admit():
                self._move(command)
            case SetLimits() | SetKill() | CancelAllAfter() | AdoptPositions() | Administered() | Transfer():
                self._control(command)

    def _move(self, command: Release | Admit) -> None:
        """A symbol leaves for another shard, or comes from one."""
        if isinstance(command, Release):
            release(self._market, command)
        else:
            admit(self._market, self._withdrawals, command)

    def _control(self, command: SetLimits | SetKill | CancelAllAfter | AdoptPositions | Administered | Transfer) -> None:
        """Lay down what holds for orders from now on; a kill cancels a chunk of what is open at once (R1, I3)."""
        market = self._market
        events, time = market.events, market.time
        match command:
            case AdoptPositions():
                market.digest_sum += market.accounts.adopt(command.positions)
            case SetKill():
                events.append(self._withdrawals.set_kill(command, time))
                self._withdrawals.sweep(EXPIRY_CHUNK)
            case SetLimits():
                events.append(ControlChanged(market.controls.set_limits(command, time)))
            case CancelAllAfter():
                events.append(ControlChanged(market.controls.set_timer(command, time)))
            case Transfer():
                events.append(market.funds.transfer(command, make_id(market.shard, market.position), time))
            case Administered():
                pass

    def take_changes(self) -> Changes:
        """What has changed since the last call, each once, as it is now."""
        return self._market.take_changes()

    # How it stands

    @property
    def shard(self) -> int:
        """Which shard it is the engine of."""
        return self._market.shard

    @property
    def position(self) -> int:
        """The position of the last command."""
        return self._market.position

    @property
    def time(self) -> int:
        """The time of the last command, in microseconds."""
        return self._market.time

    @property
    def settings(self) -> EngineSettings:
        """The settings in force."""
        return self._market.settings

    @property
    def trade_count(self) -> int:
        """How many trades this shard has made."""
        return self._market.matcher.trade_count

    @property
    def priority_count(self) -> int:
        """How many places in queues this shard has given."""
        return self._market.priority_count

    def state_hash(self) -> int:
        """64 bits over all that the engine knows."""
        return self._market.state_hash()

    def state(self) -> EngineState:
        """All that the engine knows; `Engine.restore` makes an equal one of it."""
        market = self._market
        return EngineState(
            market.shard,
            market.position,
            market.time,
            market.matcher.trade_count,
            market.priority_count,
            market.settings,
            [book.record() for book in market.books.values()],
            [order.record() for order in market.orders.values()],
            market.accounts.positions(),
            market.funds.balances(),
            market.funds.assets(),
            market.controls.active(),
        )

    def check_invariants(self) -> None:
        """INV1 and INV3 to INV5 over everything; InvariantBroken says which doesn't hold. Slow: for tests and recovery."""
        market = self._market
        invariants.check(market.books.values(), market.orders, market.accounts, market.deadlines)
        market.funds.check_invariants(market.orders.values())

    # What is due

    def next_deadline(self) -> int | None:
        """When something becomes due without a command, in microseconds; None for never.

        Stops that were over the bound of the last cascade are due at once (S3), and so is what a kill has yet to cancel.
        """
        market = self._market
        if market.stirred_books or self.is_sweeping:
            return market.time
        moment = self._withdrawals.next_moment()
        if market.halts:
            resumption = min(market.halts.values())
            return resumption if moment is None else min(moment, resumption)
        return moment

    def has_crowd_due(self, time: int) -> bool:
        """Whether so many deadlines have come by `time` that they should end in chunks, each by a command of its own (I2)."""
        return self._withdrawals.has_crowd_due(time)

    @property
    def is_sweeping(self) -> bool:
        """Whether a kill has yet to cancel something: each AdvanceTime cancels a chunk of it (I2)."""
        return self._withdrawals.is_sweeping

    # To look at

    def is_open(self, order_id: int) -> bool:
        """Whether the order is open now."""
        return order_id in self._market.orders

    def open_order(self, order_id: int) -> Order | None:
        """The open order with this id; to look at, not to change."""
        return self._market.orders.get(order_id)

    def only_lowers(self, command: ModifyOrder) -> bool:
        """Whether a change, as things stand, does no more than lower the quantity of an open order (R3)."""
        order = self._market.orders.get(command.order_id)
        return order is not None and only_lowers(command, order, *asked_of(command, order))

    @property
    def open_orders(self) -> int:
        """How many orders are open."""
        return len(self._market.orders)

    def books(self) -> list[OrderBook]:
        """Every book, in the order of listing; to look at, not to change."""
        return list(self._market.books.values())

    def running_auctions(self) -> list[AuctionIndicated]:
        """What every symbol in AUCTION would give now (for views to start from)."""
        auctions = [book for book in self._market.books.values() if book.state is MarketState.AUCTION]
        return [auction_indicated(book, self._market.time, book.sequence) for book in auctions]

    def risk_of(self, user_id: str) -> UserRisk:
        """What a user may still do."""
        return risk_of(user_id, self._market.books, self._market.accounts, self._market.controls)

    def why_it_stays(self, symbol: str) -> str:
        """Why a symbol can't be given to another shard now, in words; "" where it can."""
        return why_it_stays(self._market, symbol)

    # For dry runs

    def balances(self, user_ids: frozenset[str]) -> list[BalanceRecord]:
        """What some users have, as it is now."""
        return self._market.funds.balances(user_ids)

    def controls_of(self, user_ids: set[str]) -> list[ControlRecord]:
        """What decides about orders of these users."""
        return self._market.controls.concerning(user_ids)

    def copy_accounts(self, other: Engine, user_ids: Iterable[str]) -> None:
        """Count for these users, and those of open orders, all that counts in `other`, of which this is an excerpt."""
        users = {*user_ids, *(order.user_id for order in self._market.orders.values())}
        self._market.accounts.copy_from(other._market.accounts, users)
