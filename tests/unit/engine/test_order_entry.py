"""I1 at the door: one client order id executes once, whatever is sent, however often, and whatever becomes of the answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from msgspec import structs

from ome.domain.commands import ModifyOrder, NewOrder
from ome.domain.enums import OrderType, Side, TimeInForce
from ome.domain.errors import NotAccepting, OutcomeUnknown
from ome.domain.events import CommandRefused, OrderAccepted, OrderCancelled, OrderModified, OrderRejected
from ome.domain.ports import Answer
from ome.domain.reasons import Reason
from ome.engine.order_entry import OrderEntryDesk
from ome.engine.runner import RunnerLimits
from stores import MemoryReads
from unit.engine.test_runner import Rig, settle

ORDER = NewOrder("ann", "ABC", Side.BUY, OrderType.LIMIT, TimeInForce.GTC, 10, 1005 * 10 + 1, client_order_id="mine-1")


@asynccontextmanager
async def desk(rig: Rig, limits: RunnerLimits | None = None) -> AsyncIterator[OrderEntryDesk]:
    """Order entry in front of a running engine."""
    async with rig.running(limits) as runner:
        yield OrderEntryDesk(runner, MemoryReads(rig.repository))


def submitted(rig: Rig) -> int:
    """How many orders the engine has taken."""
    return sum(isinstance(event, OrderAccepted | OrderRejected) for event in rig.seen)


def refusal(answer: Answer) -> Reason:
    """Why it was refused; fails where it wasn't."""
    (event,) = answer.events
    assert isinstance(event, CommandRefused)
    return event.reason


async def test_the_same_order_again_gets_the_first_answer() -> None:
    """I1: after the first is durable, after it was cancelled too: same events, marked as replayed, nothing executed."""
    rig = Rig()
    async with desk(rig) as entry:
        first = await entry.submit(ORDER)
        again = await entry.submit(ORDER)
        await entry.cancel(first.order_id)
        later = await entry.submit(ORDER)
    assert not first.replayed
    assert again.replayed
    assert later.replayed
    assert first.order_id == again.order_id == later.order_id
    order = next(event.order for event in first.events if isinstance(event, OrderAccepted))
    for answer in (again, later):
        assert [event.order for event in answer.events if isinstance(event, OrderAccepted)] == [order]
    assert submitted(rig) == 1


async def test_a_hundred_at_once_execute_once() -> None:
    """HOLE6: duplicates that arrive while the first is in flight wait for its answer."""
    rig = Rig()
    async with desk(rig) as entry:
        rig.repository.gate.clear()
        tasks = [asyncio.create_task(entry.submit(ORDER)) for _ in range(100)]
        await settle()
        rig.repository.gate.set()
        answers = await asyncio.gather(*tasks)
    assert {answer.order_id for answer in answers} == {1}
    assert sum(not answer.replayed for answer in answers) == 1
    assert submitted(rig) == 1


async def test_another_body_with_the_same_id_is_refused_in_flight_and_later() -> None:
    """I1: the id belongs to what was first sent with it."""
    rig = Rig()
    other = structs.replace(ORDER, quantity=20)
    async with desk(rig) as entry:
        rig.repository.gate.clear()
        first = asyncio.create_task(entry.submit(ORDER))
        await settle()
        assert refusal(await entry.submit(other)) is Reason.CLIENT_ORDER_ID_CONFLICT
        rig.repository.gate.set()
        await first
        assert refusal(await entry.submit(other)) is Reason.CLIENT_ORDER_ID_CONFLICT
    assert submitted(rig) == 1


async def test_the_id_is_per_user_and_symbol() -> None:
    """I1: others may use the same id, and so may the same user for another symbol."""
    rig = Rig()
    async with desk(rig) as entry:
        answers = [
            await entry.submit(order)
            for order in (ORDER, structs.replace(ORDER, user_id="bob"), structs.replace(ORDER, symbol="XYZ"))
        ]
    assert len({answer.order_id for answer in answers}) == 3


async def test_a_rejected_order_keeps_its_id_too() -> None:
    """HOLE25: a refusal by the engine is stored, so that a retry gets it again instead of executing."""
    rig = Rig()
    off_tick = structs.replace(ORDER, price=100_0005 * 10 + 4)
    async with desk(rig) as entry:
        first = await entry.submit(off_tick)
        again = await entry.submit(off_tick)
    assert isinstance(first.events[-1], OrderRejected)
    assert again.replayed
    assert again.events == [first.events[-1]]
    assert submitted(rig) == 1


async def test_a_retry_after_an_unknown_outcome_never_executes_twice() -> None:
    """HOLE4: while the first's fate isn't certain a retry is unknown as well; afterwards it gets the first answer."""
    rig = Rig()
    async with desk(rig, RunnerLimits(client_wait_s=0.05)) as entry:
        rig.repository.gate.clear()
        with pytest.raises(OutcomeUnknown):
            await entry.submit(ORDER)
        with pytest.raises(OutcomeUnknown):
            await entry.submit(ORDER)
        rig.repository.gate.set()
        while not rig.seen:
            await asyncio.sleep(0.001)
        answer = await entry.submit(ORDER)
    assert answer.replayed
    assert submitted(rig) == 1


async def test_a_refusal_before_execution_frees_the_id() -> None:
    """DUR2: NotAccepting means that nothing was executed, so the same id can be sent again."""
    rig = Rig()
    async with desk(rig, RunnerLimits(batch=1, client_wait_s=0.05)) as entry:
        rig.repository.gate.clear()
        blocking = [asyncio.create_task(entry.submit(structs.replace(ORDER, client_order_id=f"b{n}"))) for n in range(2)]
        await settle()
        with pytest.raises(NotAccepting):
            await entry.submit(ORDER)
        rig.repository.gate.set()
        await asyncio.gather(*blocking, return_exceptions=True)
        while submitted(rig) < 2:
            await asyncio.sleep(0.001)
        answer = await entry.submit(ORDER)
    assert not answer.replayed


async def test_a_client_that_goes_away_does_not_undo_its_order() -> None:
    """HOLE8: an order with a client id goes on without its client, and a retry finds it."""
    rig = Rig()
    async with desk(rig) as entry:
        rig.repository.gate.clear()
        task = asyncio.create_task(entry.submit(ORDER))
        await settle()
        task.cancel()
        await settle()
        retry = asyncio.create_task(entry.submit(ORDER))
        await settle()
        rig.repository.gate.set()
        answer = await retry
    assert answer.replayed
    assert submitted(rig) == 1


async def test_unknown_and_ended_orders_are_told_apart() -> None:
    """M3: an id that never was an order's is not found; one that has ended is no longer open."""
    rig = Rig()
    async with desk(rig) as entry:
        order_id = (await entry.submit(ORDER)).order_id
        assert isinstance((await entry.modify(ModifyOrder(order_id, exists=False, price=1000))).events[0], OrderModified)
        assert isinstance((await entry.cancel(order_id)).events[0], OrderCancelled)
        assert refusal(await entry.cancel(order_id)) is Reason.ORDER_NOT_OPEN
        assert refusal(await entry.modify(ModifyOrder(order_id, exists=False, price=1000))) is Reason.ORDER_NOT_OPEN
        assert refusal(await entry.cancel(777)) is Reason.ORDER_NOT_FOUND
