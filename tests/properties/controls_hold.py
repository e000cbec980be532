"""A pair that also holds the engine to what was laid down for its users, worked out from its state alone (R1-R3, I3)."""

from __future__ import annotations

from decimal import Decimal

from ome.domain.commands import Command, ModifyOrder, NewOrder, SetLimits
from ome.domain.enums import ControlKind, Side, TimeInForce
from ome.domain.events import CommandRefused, Event, OrderAccepted
from ome.domain.numbers import value_of
from ome.domain.reasons import Reason
from ome.domain.records import EngineState, Limits
from properties.pair import Pair

NO_LIMITS = Limits()
OWN_FAULT = {Reason.ORDER_NOT_OPEN, Reason.MIN_ABOVE_QUANTITY}
"""Why even a change that only lowers a quantity is refused: the order has ended meanwhile, or wants a larger minimum itself."""


class ControlledPair(Pair):
    """Every order that is accepted keeps its user within limits; nothing hinders a cancel; a kill and a timer leave nothing."""

    def __init__(self, shard: int = 0) -> None:
        super().__init__(shard)
        self.limits: dict[tuple[str, str], Limits] = {}

    def send(self, command: Command) -> list[Event]:
        """Apply a command to both, and look at what limits say of it."""
        events = super().send(command)
        if isinstance(command, SetLimits):
            self.limits[command.user_id, command.symbol] = command.limits
        elif isinstance(command, NewOrder) and any(user_id == command.user_id for user_id, _ in self.limits):
            accepted = [event.order.id for event in events if isinstance(event, OrderAccepted)]
            if accepted:
                assert_within(command, accepted[0], self.limits, self.engine.state())
        return events

    def cancel(self, order_id: int) -> list[Event]:
        """A cancel of an open order is carried out, whatever its user may not (R3)."""
        events = super().cancel(order_id)
        assert not self.engine.is_open(order_id)
        return events

    def lower(self, order_id: int, lots: int) -> None:
        """Take lots off an open order, as far as it isn't filled: no limit and no switch says no (R3)."""
        order = self.engine.open_order(order_id)
        if order is None or order.remaining <= lots:
            return
        total = order.instrument.quantities.number(order.quantity - lots)
        for event in self.send(ModifyOrder(order_id, exists=True, quantity=total)):
            assert not isinstance(event, CommandRefused) or event.reason in OWN_FAULT, event

    def compare(self) -> None:
        """All that a pair compares; no order is left in the scope of a kill, and no timer that has come."""
        super().compare()
        controls = self.engine.state().controls
        assert all(control.until is None or control.until > self.engine.time for control in controls)
        kills = [(control.user_id, control.symbol) for control in controls if control.kind is ControlKind.KILL]
        if kills:
            for order in self.engine.state().orders:
                scopes = {("", ""), (order.user_id, ""), ("", order.symbol), (order.user_id, order.symbol)}
                assert scopes.isdisjoint(kills), order


def assert_within(order: NewOrder, order_id: int, limits: dict[tuple[str, str], Limits], state: EngineState) -> None:
    """What held when the order was accepted holds afterwards: trades move lots from what is open to what is held."""
    own = limits.get((order.user_id, order.symbol), NO_LIMITS)
    every = limits.get((order.user_id, ""), NO_LIMITS)
    theirs = [each for each in state.orders if each.user_id == order.user_id]
    here = [each for each in theirs if each.symbol == order.symbol]
    if any(each.id == order_id for each in theirs) and order.time_in_force not in {TimeInForce.IOC, TimeInForce.FOK}:
        assert own.max_open_orders is None or len(here) <= own.max_open_orders
        assert every.max_open_orders is None or len(theirs) <= every.max_open_orders
    most = every.max_order_quantity if own.max_order_quantity is None else own.max_order_quantity
    assert most is None or value_of(order.quantity) <= value_of(most)
    worth = every.max_order_notional if own.max_order_notional is None else own.max_order_notional
    if worth is not None and order.price is not None:
        assert value_of(order.quantity) * value_of(order.price) <= value_of(worth)
    furthest = every.max_position if own.max_position is None else own.max_position
    if furthest is not None:
        open_lots = sum((value_of(each.remaining_quantity) for each in here if each.side is order.side), Decimal(0))
        held = [each for each in state.positions if (each.user_id, each.symbol) == (order.user_id, order.symbol)]
        position = Decimal(held[0].quantity) if held else Decimal(0)
        assert open_lots + (position if order.side is Side.BUY else -position) <= value_of(furthest)
