"""A dry run says what then really happens, and leaves no trace."""

from __future__ import annotations

from random import Random

from ome.domain.commands import NewOrder, Stamped
from ome.domain.events import OrderAccepted, OrderCancelled, OrderFilled, OrderRejected, Traded
from ome.engine.engine import Engine
from ome.engine.preview import preview
from properties.flow import Flow

OWN = (OrderAccepted, OrderRejected, OrderFilled, OrderCancelled, Traded)


def test_a_dry_run_agrees_with_what_happens_next() -> None:
    """For thousands of random commands: the order's own events are those that the real command then has, and the state hash
    before and after the dry run is the same.
    """
    engine, flow, agreed = Engine(), Flow(Random(3)), 0
    for position in range(1, 3000):
        time = position * 100_000
        command = flow.next(position, time)
        stamped = Stamped(position, time, command)
        if not isinstance(command, NewOrder):
            engine.apply(stamped)
            continue
        before = engine.state_hash()
        (previewed,) = preview(engine, [command], stamped.time)
        assert engine.state_hash() == before
        engine.check_invariants()
        real = engine.apply(stamped)
        own = [[shape(event, position) for event in events if isinstance(event, OWN)] for events in (previewed, real)]
        assert [item for item in own[0] if item] == [item for item in own[1] if item]
        agreed += 1
    assert agreed > 1000


def shape(event: object, order_id: int) -> tuple[object, ...] | None:
    """What a dry run promises about the order itself: not sequence numbers, places or other orders' ends."""
    if isinstance(event, Traded):
        trade = event.trade
        return (trade.maker_order_id, trade.price, trade.quantity) if trade.taker_order_id == order_id else None
    assert isinstance(event, OWN)
    order = event.order  # type: ignore[union-attr]
    return (type(event).__name__, order.status, order.reason, order.filled_quantity) if order.id == order_id else None
