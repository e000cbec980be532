"""What ends orders without their owners: deadlines (T5), timers that ran out (I3), kill switches (R1).

Deadlines and timers come before whatever command brings their time, however many orders that ends; so that this takes no command
long the runner lets time pass in chunks first (`has_crowd_due`, I2). A kill switch stops its scope at once, and cancels a chunk
with its own command, the rest with each AdvanceTime.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Final

from ome.domain.commands import SetKill
from ome.domain.enums import OrderStatus
from ome.domain.events import ControlChanged
from ome.domain.reasons import Reason
from ome.domain.records import ControlRecord
from ome.engine.market import Market
from ome.engine.order import Order
from ome.engine.order_book import OrderBook
from ome.engine.sweeps import Sweeps

EXPIRY_CHUNK: Final = 500
"""Orders that one passing of time ends: a few milliseconds of the engine's time. Other commands end all that are due."""


class Withdrawals:
    """Looks after the open orders of a market."""

    def __init__(self, market: Market) -> None:
        self._orders = market.orders
        self._books = market.books
        self._accounts = market.accounts
        self._controls = market.controls
        self._deadlines = market.deadlines
        self._end = market.end
        self._sweeps = Sweeps()

    def orders_in(self, user_id: str, symbol: str) -> Iterable[Order]:
        """The open orders of a user, or else of a symbol, or else all of them; "" for any."""
        if user_id:
            return self._accounts.orders_of(user_id)
        if not symbol:
            return self._orders.values()
        book = self._books.get(symbol)
        return () if book is None else chain(book.orders(), book.stops)

    def is_due(self, time: int) -> bool:
        """Whether a deadline or a timer has come."""
        deadline, timer = self._deadlines.soonest, self._controls.next_timer
        return (deadline is not None and deadline <= time) or (timer is not None and timer <= time)

    def pass_time(self, time: int, most: int | None) -> list[ControlChanged]:
        """End the orders whose deadline has come, then those of users whose timer has, the soonest first, at most so many.

        A timer is over once it has cancelled everything; those that are over are returned, to be told after all that has ended.
        """
        while most != 0 and (order := self._deadlines.pop_due(time)) is not None:
            self._end(order, OrderStatus.EXPIRED, Reason.EXPIRED)
            most = None if most is None else most - 1
        ended: list[ControlChanged] = []
        for user_id in self._controls.due_timers(time):
            theirs = sorted(self._accounts.orders_of(user_id), key=acceptance)
            for order in theirs[:most]:
                self._end(order, OrderStatus.CANCELLED, Reason.CANCEL_ALL_AFTER)
            if most is not None and len(theirs) > most:
                break
            most = None if most is None else most - len(theirs)
            ended.append(ControlChanged(self._controls.disarm(user_id, time)))
        return ended

    def set_kill(self, command: SetKill, time: int) -> ControlChanged:
        """Stop a scope, to be swept from here on; or let it go on."""
        scope = (command.user_id, command.symbol)
        is_new = scope not in self._controls.kills
        record = self._controls.set_kill(command, time)
        if not command.is_active:
            self._sweeps.stop(scope)
            return ControlChanged(record)
        open_now = [order.id for order in self.orders_in(*scope)]
        if is_new:
            self._sweeps.begin(scope, open_now)
        return ControlChanged(record, len(open_now))

    def sweep(self, most: int) -> None:
        """Cancel what kills have left open, the oldest of a scope first, at most so many."""
        for _ in range(most):
            order_id = self._sweeps.next(self._orders)
            if order_id is None:
                return
            self._end(self._orders[order_id], OrderStatus.CANCELLED, Reason.CANCELLED_BY_KILL_SWITCH)

    @property
    def is_sweeping(self) -> bool:
        """Whether a kill has yet to cancel something."""
        return self._sweeps.next(self._orders) is not None

    def take_over(self, book: OrderBook, missed: Iterable[str], time: int) -> None:
        """Have what ends orders hold for those of a book that has come from another shard: deadlines that have passed on the way,
        the timers of these users, and kills that are on here.
        """
        self.pass_time(time, None)
        for user_id in missed:
            theirs = [order for order in chain(book.orders(), book.stops) if order.user_id == user_id]
            for order in sorted(theirs, key=acceptance):
                self._end(order, OrderStatus.CANCELLED, Reason.CANCEL_ALL_AFTER)
        symbol = book.instrument.symbol
        for user_id, killed in sorted(self._controls.kills):
            if killed in {"", symbol}:
                self._sweeps.begin((user_id, killed), [order.id for order in self.orders_in(user_id, killed)])
        self.sweep(EXPIRY_CHUNK)

    def next_moment(self) -> int | None:
        """The soonest deadline, of an order or of a user, in microseconds; None for never."""
        deadline, timer = self._deadlines.soonest, self._controls.next_timer
        if deadline is None or timer is None:
            return timer if deadline is None else deadline
        return min(deadline, timer)

    def has_crowd_due(self, time: int) -> bool:
        """Whether more than a chunk of orders has come to its end by `time`."""
        if len(self._deadlines) > EXPIRY_CHUNK and self._deadlines.has_due(time, EXPIRY_CHUNK):
            return True
        timer = self._controls.next_timer
        return timer is not None and timer <= time and self._accounts.count_open(self._controls.users_due(time)) > EXPIRY_CHUNK

    def restore(self, controls: Iterable[ControlRecord]) -> None:
        """Watch all that is open, under these controls (recovery)."""
        self._deadlines.restore(self._orders.values())
        self._controls.restore(controls)
        for scope in self._controls.kills:
            self._sweeps.begin(scope, (order.id for order in self.orders_in(*scope)))


def acceptance(order: Order) -> tuple[int, int]:
    """What orders of acceptance are sorted by."""
    return order.acceptance
