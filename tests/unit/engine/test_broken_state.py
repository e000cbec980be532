"""`check_invariants` finds an engine that contradicts itself, and says where; what a trailing stop is worth before it enters."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from msgspec import structs

from ome.domain.commands import NewOrder, SetLimits, Stamped
from ome.domain.enums import OrderType, Side
from ome.domain.errors import InvariantBroken, NotAccepting
from ome.domain.events import Event, OrderRejected
from ome.domain.numbers import pack
from ome.domain.reasons import Reason
from ome.domain.records import Limits, SpecialTerms
from ome.engine.engine import Engine
from ome.engine.pending_batch import PendingBatch, Preview
from unit.engine.test_book_structures import order as resting
from unit.engine.test_engine_rules import NOW, engine_after, order

B, S = Side.BUY, Side.SELL


def stop(user: str, side: Side, quantity: int, **terms: int) -> NewOrder:
    """A stop in X, in whole numbers: one that trails has `trail_amount`, one with a limit `price` or `limit_offset`."""
    price = terms.pop("price", None)
    plain = OrderType.STOP if price is None else OrderType.STOP_LIMIT
    kind = OrderType.TRAILING_STOP if "trail_amount" in terms else plain
    wanted = structs.replace(SpecialTerms(), **{name: pack(number, 0) for name, number in terms.items()})
    made = order(user, side, quantity, price or 1)
    return structs.replace(made, type=kind, price=None if price is None else pack(price, 0), terms=wanted)


def with_stops() -> Engine:
    """An order of ann's rests (1), a trade at 100 was between her and bob (2), and his stop at 90 (3) and her trail (4) wait."""
    return engine_after(
        order("ann", S, 5, 100), order("bob", B, 2, 100), stop("bob", S, 2, stop_price=90), stop("ann", B, 1, trail_amount=5)
    )


def _count_another(engine: Engine) -> None:
    engine._market.accounts._users["ann"].open_orders += 1
    engine._market.accounts._users["bob"].open_orders -= 1


def _swap_users(engine: Engine) -> None:
    users = engine._market.accounts._users
    users["ann"].first, users["bob"].first = users["bob"].first, users["ann"].first
    users["ann"].open_orders, users["bob"].open_orders = users["bob"].open_orders, users["ann"].open_orders


def _another_order_of_that_id(engine: Engine) -> None:
    ann = engine._market.accounts._users["ann"]
    first = ann.first
    assert first is not None
    ann.first = twin = resting(first.id)
    twin.account, twin.later = first.account, first.later


def _buy_more(engine: Engine) -> None:
    engine._market.accounts._users["ann"].accounts["X"].selling += 1


def _in_two_places(engine: Engine) -> None:
    stops = engine._market.books["X"].stops
    stop = next(each for each in stops if each.id == 3)
    stops.due[stop.acceptance] = stop


def _due_and_not_due(engine: Engine) -> None:
    special = next(each for each in engine._market.books["X"].stops if each.id == 3).special
    assert special is not None
    special.is_due = True


def _in_no_place(engine: Engine) -> None:
    engine._market.books["X"].stops._sells.clear()


def _level_elsewhere(engine: Engine) -> None:
    levels = engine._market.books["X"].asks._levels
    levels[7] = levels.pop(next(iter(levels)))


def _another_best(engine: Engine) -> None:
    engine._market.books["X"].asks.best = None


@pytest.mark.parametrize(
    ("break_it", "sentence"),
    [
        (_count_another, "2 orders of user ann are open, 3 are counted"),
        (_swap_users, "is held by user ann, and is another's"),
        (_another_order_of_that_id, "is held by user ann and in no book"),
        (_buy_more, "the open orders of user ann in X are not what their account says"),
        (_in_two_places, "a stop waits in two places"),
        (_due_and_not_due, "stop 3 is due and not due"),
        (_in_no_place, "stop 3 waits in no place"),
        (_level_elsewhere, "is kept at 7"),
        (_another_best, "the best SELL level is not the best"),
    ],
)
def test_a_contradiction_is_found_and_named(break_it: Callable[[Engine], None], sentence: str) -> None:
    """INV3 to INV5: sound before, found after, in a sentence that names the user, the order or the place."""
    engine = with_stops()
    engine.check_invariants()
    break_it(engine)
    with pytest.raises(InvariantBroken, match=sentence):
        engine.check_invariants()


@pytest.mark.parametrize("change", ["add", "remove"])
def test_what_has_no_stop_cannot_wait_for_one(change: str) -> None:
    """S1: a plain order among the stops is a bug of whoever put it there."""
    engine = with_stops()
    plain = engine._market.orders[1]
    with pytest.raises(InvariantBroken, match="order 1 is no stop"):
        getattr(engine._market.books["X"].stops, change)(plain)


NOTIONAL = SetLimits("cy", "X", Limits(max_order_notional=pack(1000, 0)))


def _refused(events: list[Event]) -> Reason | None:
    return next((event.order.reason for event in events if isinstance(event, OrderRejected)), None)


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        (stop("cy", B, 10, stop_price=101), Reason.ORDER_NOTIONAL_LIMIT),  # 1010
        (stop("cy", S, 10, stop_price=99), None),  # 990
        (stop("cy", B, 10, trail_amount=5), Reason.ORDER_NOTIONAL_LIMIT),  # stands at 105: 1050
        (stop("cy", S, 10, trail_amount=5), None),  # at 95: 950
        (stop("cy", S, 11, trail_amount=5), Reason.ORDER_NOTIONAL_LIMIT),  # 1045
        (stop("cy", S, 11, trail_amount=5, limit_offset=5), None),  # its limit at 90: 990
        (stop("cy", B, 9, trail_amount=5, limit_offset=7), Reason.ORDER_NOTIONAL_LIMIT),  # at 112: 1008
        (stop("cy", B, 9, trail_amount=5), None),  # 945
        (stop("cy", B, 10, stop_price=90, price=100), None),  # its limit counts, not its stop
    ],
)
def test_a_stop_is_worth_what_it_would_trade_at(wanted: NewOrder, reason: Reason | None) -> None:
    """R1: an order's notional is at its limit, or where its stop stands, or would once it had entered; the last price is 100."""
    engine = engine_after(order("ann", S, 5, 100), order("bob", B, 2, 100), NOTIONAL)
    assert _refused(engine.apply(_stamped(engine, wanted))) is reason


def _stamped(engine: Engine, command: NewOrder) -> Stamped:
    return Stamped(engine.position + 1, NOW + 100, command)


async def test_a_look_that_nobody_waits_for_is_not_answered() -> None:
    """Whoever withdrew gets neither the answer nor the error; whoever waits gets the first of them, once."""
    loop = asyncio.get_running_loop()
    gone, here, late = loop.create_future(), loop.create_future(), loop.create_future()
    gone.cancel()
    looks = [Preview(lambda _engine: 1, receiver) for receiver in (gone, here, late)]
    for look in looks[:2]:
        look.answer(1)
        look.fail(NotAccepting("stalled"))
    looks[2].fail(NotAccepting("stalled"))
    looks[2].answer(1)
    assert gone.cancelled()
    assert here.result() == 1
    assert isinstance(late.exception(), NotAccepting)


async def test_a_batch_that_fails_tells_those_who_have_waited_long_enough() -> None:
    """A stalled engine gives up on looks as on commands: those since that moment or longer, and no others."""
    loop = asyncio.get_running_loop()
    early, late = loop.create_future(), loop.create_future()
    batch = PendingBatch()
    batch.add_preview(Preview(lambda _engine: 1, early, since=1.0), 1)
    batch.add_preview(Preview(lambda _engine: 1, late, since=3.0), 1)
    batch.fail(NotAccepting("stalled"), since=2.0)
    assert isinstance(early.exception(), NotAccepting)
    batch.answer()
    assert late.result() == 1
