"""I1 with every field that an order may have: the same request again gets the first answer, any other one is refused."""

from __future__ import annotations

import pytest
from msgspec import structs

from ome.domain.commands import NewOrder
from ome.domain.enums import OrderType, Side, TimeInForce
from ome.domain.events import UNSTORED_EVENTS, CommandRefused, OrderAccepted
from ome.domain.numbers import parse
from ome.domain.reasons import Reason
from ome.domain.records import SpecialTerms
from ome.engine.order_entry import OrderEntryDesk
from unit.engine.test_order_entry import ORDER, desk
from unit.engine.test_runner import Rig

STOP = SpecialTerms(stop_price=parse("155"))
SAME: dict[str, NewOrder] = {
    "iceberg": structs.replace(ORDER, quantity=parse("10"), terms=SpecialTerms(display_quantity=parse("2"))),
    "post only": structs.replace(ORDER, terms=SpecialTerms(post_only=True)),
    "minimum": structs.replace(ORDER, time_in_force=TimeInForce.IOC, terms=SpecialTerms(min_quantity=parse("1"))),
    "slippage": structs.replace(
        ORDER, type=OrderType.MARKET, time_in_force=TimeInForce.IOC, price=None, terms=SpecialTerms(max_slippage_bps=50)
    ),
    "stop": structs.replace(ORDER, type=OrderType.STOP, time_in_force=TimeInForce.IOC, price=None, terms=STOP),
    "stop limit": structs.replace(ORDER, type=OrderType.STOP_LIMIT, price=parse("156"), terms=STOP),
    "trail": structs.replace(
        ORDER, type=OrderType.TRAILING_STOP, price=None, terms=SpecialTerms(trail_percent=parse("1.5"), limit_offset=parse("0.1"))
    ),
    "trail amount": structs.replace(
        ORDER, type=OrderType.TRAILING_STOP, price=None, terms=SpecialTerms(trail_amount=parse("1.5"))
    ),
    "day": structs.replace(ORDER, time_in_force=TimeInForce.DAY),
}
"""Orders with a client order id; the tick of an unlisted symbol is 0.01, so that 155 comes back as 155.00."""
OTHER = {
    "iceberg": SpecialTerms(display_quantity=parse("3")),
    "post only": None,
    "minimum": SpecialTerms(min_quantity=parse("2")),
    "slippage": SpecialTerms(max_slippage_bps=51),
    "stop": SpecialTerms(stop_price=parse("155.01")),
    "stop limit": SpecialTerms(stop_price=parse("154")),
    "trail": SpecialTerms(trail_percent=parse("1.6"), limit_offset=parse("0.1")),
    "trail amount": SpecialTerms(trail_percent=parse("1.5")),
    "day": SpecialTerms(post_only=True),
}
"""Other terms for the same orders."""


async def trade_at_120(entry: OrderEntryDesk) -> None:
    """Let others trade, so that trails have a price to follow."""
    for user, side in (("bob", Side.SELL), ("carol", Side.BUY)):
        await entry.submit(NewOrder(user, "ABC", side, OrderType.LIMIT, TimeInForce.GTC, parse("1"), parse("120")))


@pytest.mark.parametrize("name", SAME)
async def test_the_same_terms_again_get_the_first_answer_and_others_are_refused(name: str) -> None:
    """I1: numbers compare by value; a trail that has moved since, or a session close that was filled in, is no difference."""
    order = SAME[name]
    rig = Rig()
    async with desk(rig) as entry:
        first = await entry.submit(order)
        await trade_at_120(entry)
        again = await entry.submit(order)
        other = await entry.submit(structs.replace(order, terms=OTHER[name]))
    assert any(isinstance(event, OrderAccepted) for event in first.events)
    assert again.replayed
    assert again.order_id == first.order_id
    assert again.events == [event for event in first.events if not isinstance(event, UNSTORED_EVENTS)]
    assert other.events == [CommandRefused(None, Reason.CLIENT_ORDER_ID_CONFLICT)]


async def test_a_trail_that_starts_in_the_middle_of_a_market_is_still_the_one_that_was_asked_for() -> None:
    """I1, S6: the accepted order shows where its stop stands, which the request doesn't."""
    rig = Rig()
    order = SAME["trail"]
    async with desk(rig) as entry:
        await trade_at_120(entry)
        first = await entry.submit(order)
        again = await entry.submit(order)
    accepted = next(event.order for event in first.events if isinstance(event, OrderAccepted))
    assert accepted.terms is not None
    assert accepted.terms.stop_price is not None
    assert again.replayed
