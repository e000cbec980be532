"""Limits, kill switches and dead-man timers, naively: one dict, gone through for each question; exact numbers, in fractions.

All prices and quantities count 10**-9, as the twin's do.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from fractions import Fraction
from math import ceil, floor
from typing import TYPE_CHECKING

from ome.domain.commands import Administered, AdoptPositions, CancelAllAfter, ModifyOrder, SetKill, SetLimits
from ome.domain.enums import ControlKind, OrderStatus, OrderType, Side, Switch, TimeInForce
from ome.domain.reasons import Reason
from ome.domain.records import ControlRecord, Limits
from reference.holdings import holding
from reference.pictures import Order, exact

if TYPE_CHECKING:
    from reference.twin import Twin

ONE = 10**9
STOPS = (OrderType.STOP, OrderType.STOP_LIMIT, OrderType.TRAILING_STOP)
Check = tuple[bool, Reason]


class Risk:
    """What has been laid down, by kind, user and symbol; all of it that was ever set, lifted or not."""

    def __init__(self, twin: Twin) -> None:
        self.twin = twin
        self.controls: dict[tuple[ControlKind, str, str], ControlRecord] = {}

    def active(self) -> list[ControlRecord]:
        """What is in force, in order."""
        return [self.controls[key] for key in sorted(self.controls) if self.controls[key].switch is Switch.ON]

    # -- commands ----------------------------------------------------------------------------------------------------------

    def take(self, command: SetLimits | SetKill | CancelAllAfter | AdoptPositions | Administered, chunk: int) -> None:
        """Carry out a command; `chunk` is how many orders one cancels at most (I2)."""
        match command:
            case SetLimits():
                self.set_limits(command)
            case SetKill():
                self.set_kill(command, chunk)
            case CancelAllAfter():
                self.set_timer(command)
            case Administered():
                pass
            case AdoptPositions():
                raise NotImplementedError  # random flow has traded from the first command on

    def put(self, record: ControlRecord, open_orders: int = 0) -> None:
        """Have this in force, or lifted, and tell of it."""
        self.controls[record.kind, record.user_id, record.symbol] = record
        self.twin.out.story.append(("control", record.kind))
        self.twin.out.controls.append((record, open_orders))

    def set_limits(self, command: SetLimits) -> None:
        """These and no others; none at all lifts them (R1)."""
        limits = command.limits if command.limits != Limits() else None
        switch = Switch.ON if limits else Switch.OFF
        self.put(ControlRecord(ControlKind.LIMITS, command.user_id, command.symbol, switch, self.twin.time, None, limits))

    def set_kill(self, command: SetKill, chunk: int) -> None:
        """Stop a scope and cancel the first orders in it; one that is stopped already stays as it is (R1)."""
        switch = Switch.ON if command.is_active else Switch.OFF
        record = ControlRecord(ControlKind.KILL, command.user_id, command.symbol, switch, self.twin.time)
        if command.is_active:
            known = self.controls.get((ControlKind.KILL, command.user_id, command.symbol))
            if known is not None and known.switch is Switch.ON:
                record = known
        scope = [order for order in self.open_orders() if self.is_in(record, order.asked.user_id, order.asked.symbol)]
        self.put(record, len(scope) if command.is_active else 0)
        self.sweep(chunk)

    def sweep(self, chunk: int) -> None:
        """Cancel what kills have left open, scope by scope, the oldest first (I2)."""
        for _ in range(chunk):
            order = self.next_to_sweep()
            if order is None:
                return
            self.twin.end(order, "cancelled", OrderStatus.CANCELLED, Reason.CANCELLED_BY_KILL_SWITCH)

    def next_to_sweep(self) -> Order | None:
        """The order that a kill cancels next."""
        for kill in (control for control in self.active() if control.kind is ControlKind.KILL):
            scope = [order for order in self.open_orders() if self.is_in(kill, order.asked.user_id, order.asked.symbol)]
            if scope:
                return min(scope, key=lambda order: order.id)
        return None

    def set_timer(self, command: CancelAllAfter) -> None:
        """Arm a user's timer anew, or disarm it (I3)."""
        until = self.twin.time + command.seconds * 10**6 if command.seconds else None
        switch = Switch.ON if command.seconds else Switch.OFF
        self.put(ControlRecord(ControlKind.TIMER, command.user_id, "", switch, self.twin.time, until))

    def timers(self) -> list[tuple[int, str]]:
        """Every deadline and whose it is, the soonest first."""
        return sorted((control.until, control.user_id) for control in self.active() if control.until is not None)

    def ring(self, most: int | None) -> None:
        """A missed deadline cancels all of its user, at most so many at once; then it is over (I3). Told after all that ended."""
        over = []
        for until, user in self.timers():
            if until > self.twin.time:
                break
            theirs = sorted((order for order in self.open_orders() if order.asked.user_id == user), key=lambda order: order.id)
            for order in theirs[:most]:
                self.twin.end(order, "cancelled", OrderStatus.CANCELLED, Reason.CANCEL_ALL_AFTER)
            if most is not None and len(theirs) > most:
                break
            most = None if most is None else most - len(theirs)
            over.append(user)
        for user in over:
            self.put(ControlRecord(ControlKind.TIMER, user, "", Switch.OFF, self.twin.time))

    # -- checks ------------------------------------------------------------------------------------------------------------

    def open_orders(self) -> Sequence[Order]:
        """Waiting stops included."""
        return (*self.twin.resting, *self.twin.waiting)

    @staticmethod
    def is_in(kill: ControlRecord, user: str, symbol: str) -> bool:
        """Whether a kill is for this user in this symbol."""
        return kill.user_id in {"", user} and kill.symbol in {"", symbol}

    def is_killed(self, user: str, symbol: str) -> bool:
        """Whether nothing is taken from this user in this symbol."""
        return any(kill.kind is ControlKind.KILL and self.is_in(kill, user, symbol) for kill in self.active())

    def limit(self, name: str, user: str, symbol: str) -> int | None:
        """One limit: the symbol's, else the one for every symbol."""
        for where in (symbol, ""):
            record = self.controls.get((ControlKind.LIMITS, user, where))
            found: int | None = None if record is None or record.limits is None else getattr(record.limits, name)
            if found is not None:
                return found
        return None

    def collar(self, user: str, symbol: str) -> tuple[int, int] | None:
        """The lowest and the highest price of a user's collar now."""
        percent = self.limit("price_collar_percent", user, symbol)
        reference = self.twin.reference(symbol) if symbol in self.twin.markets else None
        if percent is None or reference is None:
            return None
        share, tick = Fraction(exact(percent), 100 * ONE), self.twin.markets[symbol].tick
        return max(tick, ceil(reference * (1 - share) / tick) * tick), floor(reference * (1 + share) / tick) * tick

    def checks(self, order: Order, before: Order | None = None) -> list[Check]:
        """Every limit, in order: collar, open orders, quantity, notional, position (R1, R2). `before`: what the order was."""
        user, symbol = order.asked.user_id, order.asked.symbol
        return [
            (self.is_outside_collar(order, before), Reason.PRICE_OUTSIDE_COLLAR),
            (before is None and self.are_too_many(order), Reason.TOO_MANY_OPEN_ORDERS),
            (self.grows(order, before) and self.exceeds(order.quantity, "max_order_quantity", user, symbol),
             Reason.ORDER_QUANTITY_LIMIT),
            ((self.grows(order, before) or self.is_repriced(order, before))
             and self.exceeds(Fraction(order.quantity * (self.worst_price(order) or 0), ONE), "max_order_notional", user, symbol),
             Reason.ORDER_NOTIONAL_LIMIT),
            (self.grows(order, before) and self.exceeds(self.reached(order, before), "max_position", user, symbol),
             Reason.POSITION_LIMIT),
        ]  # fmt: skip

    @staticmethod
    def only_lowers(order: Order, change: ModifyOrder, changed: Order, lot: int) -> bool:
        """Whether a change does no more than lower a quantity, or nothing (R3)."""
        others = (change.expires_at, change.stop_price, change.trail_amount, change.trail_percent, change.display_quantity)
        is_whole = changed.quantity % lot == 0
        return changed.price == order.price and changed.quantity <= order.quantity and is_whole and set(others) == {None}

    @staticmethod
    def grows(order: Order, before: Order | None) -> bool:
        """Whether more of it would be open than before."""
        return before is None or order.quantity > before.quantity

    @staticmethod
    def is_repriced(order: Order, before: Order | None) -> bool:
        """Whether its price, or what that will be made of, is another than before."""
        if before is None:
            return True
        waits = before.status is OrderStatus.PENDING_TRIGGER
        stops = [(o.stop, o.trail_amount, o.trail_percent) for o in (order, before)]
        return order.price != before.price or (waits and stops[0] != stops[1])

    def exceeds(self, amount: Fraction | int, name: str, user: str, symbol: str) -> bool:
        """Whether an amount is above a limit, if there is one."""
        most = self.limit(name, user, symbol)
        return most is not None and amount > exact(most)

    def is_outside_collar(self, order: Order, before: Order | None) -> bool:
        """A stop is held to it when it fires."""
        edges = self.collar(order.asked.user_id, order.asked.symbol)
        is_repriced = before is None or order.price != before.price
        if edges is None or order.price is None or order.asked.type in STOPS or not is_repriced:
            return False
        return order.price > edges[1] if order.asked.side is Side.BUY else order.price < edges[0]

    def are_too_many(self, order: Order) -> bool:
        """Of the user in all symbols, then in this one; what can't rest is none more."""
        user, symbol = order.asked.user_id, order.asked.symbol
        if order.asked.time_in_force in {TimeInForce.IOC, TimeInForce.FOK} and order.asked.type not in STOPS:
            return False
        theirs = [each for each in self.open_orders() if each.asked.user_id == user]
        counts = {"": len(theirs), symbol: sum(each.asked.symbol == symbol for each in theirs)}
        for where, count in counts.items():
            record = self.controls.get((ControlKind.LIMITS, user, where))
            most = None if record is None or record.limits is None else record.limits.max_open_orders
            if most is not None and count >= most:
                return True
        return False

    def worst_price(self, order: Order) -> int | None:
        """What its notional is made of."""
        if order.price is not None:
            return order.price
        symbol = order.asked.symbol
        market = self.twin.markets.get(symbol)
        tick = 10**7 if market is None else market.tick
        if order.asked.type in STOPS:
            entered = copy(order)
            if order.trails and market is not None:
                self.twin.trail(entered, self.twin.last(symbol))
            if entered.stop is None or order.limit_offset is None:
                return entered.stop
            return max(tick, entered.stop + (1 if order.asked.side is Side.BUY else -1) * order.limit_offset)
        left, worst = order.quantity, None
        if market is not None:
            for maker in self.twin.against(order, self.twin.limit_of(order)[0]):
                if left <= 0 and maker.price != worst:
                    break
                worst = maker.price
                left -= maker.left
        return worst

    def reached(self, order: Order, before: Order | None) -> int:
        """How long or short the user would be if all that is open on its side, and this, traded (R2)."""
        user, symbol, side = order.asked.user_id, order.asked.symbol, order.asked.side
        held = holding(self.twin.fills, user, symbol).quantity
        wanted = (user, symbol, side)
        mine = [each for each in self.open_orders() if (each.asked.user_id, each.asked.symbol, each.asked.side) == wanted]
        more = order.quantity - (0 if before is None else before.quantity)
        return (held if side is Side.BUY else -held) + sum(each.left for each in mine) + more
