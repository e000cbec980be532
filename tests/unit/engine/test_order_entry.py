"""I1 at the door: one client order id executes once, whatever is sent, however often, and whatever becomes of the answer."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from msgspec import structs

from ome.domain.commands import CancelOrder, Command, ModifyOrder, NewOrder
from ome.domain.enums import OrderType, Side, TimeInForce
from ome.domain.errors import NotAccepting, OutcomeUnknown, Pending, TooLate
from ome.domain.events import CommandRefused, Event, OrderAccepted, OrderCancelled, OrderModified, OrderRejected, Traded
from ome.domain.ports import Answer, Timely
from ome.domain.reasons import Reason
from ome.engine.order_entry import OrderEntryDesk
from ome.engine.runner import RunnerLimits
from stores import MemoryReads
from unit.engine.test_runner import Rig, settle

ORDER = NewOrder("ann", "ABC", Side.BUY, OrderType.LIMIT, TimeInForce.GTC, 10, 1005 * 10 + 1, client_order_id="mine-1")


@asynccontextmanager
async def desk(
    rig: Rig, limits: RunnerLimits | None = None, late_s: float = 0.0, wait_s: float = 5.0
) -> AsyncIterator[OrderEntryDesk]:
    """Order entry in front of a running engine; every command reaches the engine `late_s` after it was taken."""
    async with rig.running(limits) as runner:
        reads = MemoryReads(rig.repository)
        yield OrderEntryDesk(runner, reads, wait_s=wait_s, monotonic_s=lambda: time.monotonic() - late_s)


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
        answer = None
        while answer is None:  # on a busy machine its fate may take longer than an answer may
            with contextlib.suppress(OutcomeUnknown):
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


def asked(
    price: int, quantity: int = 1, side: Side = Side.SELL, user: str = "bob", client_order_id: str | None = None
) -> NewOrder:
    """A whole number of lots at a whole price."""
    limit, gtc = OrderType.LIMIT, TimeInForce.GTC
    return NewOrder(user, "ABC", side, limit, gtc, quantity * 10, price * 10, client_order_id=client_order_id)


async def test_a_batch_is_carried_out_in_its_order_in_one_commit() -> None:
    """I4: what comes first in the batch has the earlier place, whatever had to be looked up, and one refusal stops nothing."""
    rig = Rig()
    async with desk(rig) as entry:
        first = (await entry.submit(asked(100))).order_id
        commits = len(rig.repository.batches)
        answers = await entry.batch(
            [
                asked(101, client_order_id="b1"),
                asked(101),
                CancelOrder(first, exists=False),
                CancelOrder(999, exists=False),
                ModifyOrder(first, exists=False, price=1000),
                asked(101, client_order_id="b2"),
            ]
        )
    assert len(rig.repository.batches) == commits + 1
    assert [answer.order_id for answer in answers if isinstance(answer, Answer)] == [2, 3, first, 999, first, 7]
    assert isinstance(answers[2], Answer)
    assert isinstance(answers[2].events[0], OrderCancelled)
    assert [refusal(answer) for answer in answers[3:5] if isinstance(answer, Answer)] == [
        Reason.ORDER_NOT_FOUND,
        Reason.ORDER_NOT_OPEN,
    ]


async def test_the_same_client_id_twice_in_a_batch_executes_once() -> None:
    """I1 within a batch: the second is a replay of the first, another body a conflict, and later batches replay too."""
    rig = Rig()
    async with desk(rig) as entry:
        answers = await entry.batch([ORDER, ORDER, structs.replace(ORDER, quantity=20)])
        again = await entry.batch([ORDER])
    first, second, third, later = [answer for answer in (*answers, *again) if isinstance(answer, Answer)]
    assert first.order_id == second.order_id == later.order_id
    assert (first.replayed, second.replayed, later.replayed) == (False, True, True)
    assert refusal(third) is Reason.CLIENT_ORDER_ID_CONFLICT
    assert submitted(rig) == 1


async def test_a_mass_cancel_goes_in_chunks_in_the_order_of_acceptance(monkeypatch: pytest.MonkeyPatch) -> None:
    """I2: every chunk is a command; the ids come in the order in which the orders were accepted; others stay."""
    monkeypatch.setattr("ome.engine.order_entry.CANCEL_CHUNK", 3)
    rig = Rig()
    async with desk(rig) as entry:
        mine = [(await entry.submit(asked(110 - number))).order_id for number in range(8)]
        other = (await entry.submit(asked(120, user="cat"))).order_id
        buy = (await entry.submit(asked(90, side=Side.BUY))).order_id
        before = len(rig.repository.batches)
        assert await entry.cancel_all("bob", "ABC", Side.SELL) == mine
        assert len(rig.repository.batches) == before + 3
        assert await entry.cancel_all("bob", None, None) == [buy]
        assert await entry.cancel_all(None, "ABC", None) == [other]
        assert await entry.cancel_all(None, "NONE", None) == []


async def test_a_dry_run_tells_what_would_happen_and_changes_nothing() -> None:
    """The answer is the one that the order then really gets; no position, id, commit or client order id is used."""
    rig = Rig()
    async with desk(rig) as entry:
        await entry.batch([asked(100, 3), asked(101, 5), asked(102, 7, user="ann")])
        commits, seen = len(rig.repository.batches), list(rig.seen)
        order = asked(102, 10, Side.BUY, "ann", "try")
        dry = await entry.submit(order, dry_run=True)
        assert (len(rig.repository.batches), rig.seen) == (commits, seen)
        real = await entry.submit(order)
        assert not real.replayed
        assert [type(event) for event in dry.events] == [type(event) for event in real.events]
        assert [event.trade.price for event in dry.events if isinstance(event, Traded)] == [100_00_2, 101_00_2]
        assert (await entry.submit(order, dry_run=True)).replayed
        cancelled = await entry.modify(ModifyOrder(3, exists=False, quantity=10), dry_run=True)
        assert isinstance(cancelled.events[0], OrderModified)
        results = await entry.batch([asked(50, 1), CancelOrder(3, exists=False), CancelOrder(3, exists=False)], dry_run=True)
        last = results[2]
        assert isinstance(last, Answer)
        assert refusal(last) is Reason.ORDER_NOT_OPEN
        assert isinstance((await entry.cancel(3)).events[0], OrderCancelled)


async def test_a_dry_run_is_answered_when_what_it_saw_is_durable() -> None:
    """D3: a dry run behind an order that is still being committed waits for that commit."""
    rig = Rig()
    async with desk(rig) as entry:
        rig.repository.gate.clear()
        order = asyncio.create_task(entry.submit(asked(100)))
        await settle()
        dry = asyncio.create_task(entry.submit(asked(100, side=Side.BUY, user="ann"), dry_run=True))
        await settle()
        assert not dry.done()
        rig.repository.gate.set()
        await order
        assert any(type(event).__name__ == "Traded" for event in (await dry).events)


async def test_what_comes_to_its_turn_too_late_is_not_executed() -> None:
    """DUR9: a submit, a change, and each in a batch: refused, nothing stored, no position used, the client id free again."""
    rig = Rig()
    async with desk(rig, late_s=10) as entry:
        resting = (await entry.submit(asked(100))).order_id
        commits, seen = len(rig.repository.batches), list(rig.seen)
        with pytest.raises(TooLate):
            await entry.submit(Timely(ORDER, 9_000))
        with pytest.raises(TooLate):
            await entry.modify(Timely(ModifyOrder(resting, exists=False, quantity=10), 9_000))
        outcomes = await entry.batch([Timely(ORDER, 9_000), Timely(ModifyOrder(resting, exists=False, quantity=10), 9_000)])
        assert [type(outcome) for outcome in outcomes] == [TooLate, TooLate]
        assert (len(rig.repository.batches), rig.seen) == (commits, seen)
        answer = await entry.submit(ORDER)
        assert (answer.order_id, answer.replayed) == (resting + 1, False)
        assert (await entry.submit(Timely(ORDER, 9_000))).replayed, "an order that is there is no matter of time"


async def test_what_comes_to_its_turn_in_time_is_executed() -> None:
    """DUR9: the time that is left counts, in milliseconds."""
    rig = Rig()
    async with desk(rig, late_s=10) as entry:
        first = await entry.submit(Timely(ORDER, 60_000))
        changed = await entry.modify(Timely(ModifyOrder(first.order_id, exists=False, quantity=50), 60_000))
        assert isinstance(changed.events[0], OrderModified)
        assert (await entry.submit(ORDER)).replayed, "the time is no part of the order"


async def test_asking_for_an_order_in_flight_waits_for_its_fate() -> None:
    """HOLE4: by user and client id, with and without the symbol; for nobody else's."""
    rig = Rig()
    async with desk(rig) as entry:
        rig.repository.gate.clear()
        order = asyncio.create_task(entry.submit(ORDER))
        await settle()
        asks = [asyncio.create_task(entry.wait_for_fate("ann", "mine-1", symbol)) for symbol in (None, "ABC")]
        await settle()
        assert not any(ask.done() for ask in asks)
        await entry.wait_for_fate("ann", "mine-1", "XYZ")
        await entry.wait_for_fate("bob", "mine-1")
        await entry.wait_for_fate("ann", "mine-2")
        rig.repository.gate.set()
        await asyncio.gather(*asks)
        assert await MemoryReads(rig.repository).orders_by_client_id("ann", "mine-1"), "what it waited for is there"
        await order
        await entry.wait_for_fate("ann", "mine-1")


async def test_a_fate_that_stays_open_is_told_as_open() -> None:
    """HOLE4: after the wait it is Pending, never "not found"; also when the client has long been told that it is unknown."""
    rig = Rig()
    async with desk(rig, RunnerLimits(client_wait_s=0.02), wait_s=0.02) as entry:
        rig.repository.gate.clear()
        with pytest.raises(OutcomeUnknown):
            await entry.submit(ORDER)
        with pytest.raises(Pending):
            await entry.wait_for_fate("ann", "mine-1")
        rig.repository.gate.set()
        await settle()
        await entry.wait_for_fate("ann", "mine-1")


async def test_a_mass_cancel_that_is_cut_short_is_not_called_not_executed(monkeypatch: pytest.MonkeyPatch) -> None:
    """DUR2: once a part is cancelled, a refusal of the next part leaves the whole unknown; before that it is certain."""
    monkeypatch.setattr("ome.engine.order_entry.CANCEL_CHUNK", 2)
    rig = Rig()
    async with rig.running() as runner:
        entry = OrderEntryDesk(runner, MemoryReads(rig.repository))
        for _ in range(3):
            await entry.submit(structs.replace(ORDER, client_order_id=None))
        send = runner.send
        sent: list[Command] = []

        async def refuse_second(command: Command) -> Sequence[Event]:
            sent.append(command)
            if len(sent) == 2:
                raise NotAccepting("draining")
            return await send(command)

        monkeypatch.setattr(runner, "send", refuse_second)
        with pytest.raises(OutcomeUnknown, match="2 orders are cancelled"):
            await entry.cancel_all("ann", None, None)
        monkeypatch.undo()
        runner.stalled(stalled=True)
        with pytest.raises(NotAccepting):
            await entry.cancel_all("ann", None, None)
        runner.stalled(stalled=False)
