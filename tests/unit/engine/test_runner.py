"""The single writer: what it promises about durability, order, bounds and failure."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from ome.domain.batch import CHAIN_START, chain_hash
from ome.domain.build import CORE
from ome.domain.commands import CancelOrder, Command, DefineInstrument, ModifyOrder, NewOrder, SetKill, SetLimits, decode_commands
from ome.domain.enums import OrderType, Side, TimeInForce
from ome.domain.errors import Fenced, NotAccepting, OutcomeUnknown, Overloaded, StorageAway
from ome.domain.events import (
    BookChanged,
    CommandEvents,
    ControlChanged,
    Event,
    OrderAccepted,
    OrderCancelled,
    OrderExpired,
    OrderRejected,
    Traded,
    decode_events,
)
from ome.domain.reasons import Reason
from ome.domain.records import EngineSettings, Limits
from ome.engine.engine import Engine
from ome.engine.runner import SWEEPS_IN_A_BATCH, EngineRunner, RunnerLimits
from ome.engine.withdrawals import EXPIRY_CHUNK
from stores import MemoryRepository


def buy(quantity: int, price: int, user: str = "ann", **more: object) -> NewOrder:
    """A resting buy of whole lots at a whole price."""
    return NewOrder(user, "ABC", Side.BUY, OrderType.LIMIT, TimeInForce.GTC, quantity * 10, price * 10, **more)  # type: ignore[arg-type]


def sell(quantity: int, price: int, user: str = "bob") -> NewOrder:
    """A resting sell of whole lots at a whole price."""
    return NewOrder(user, "ABC", Side.SELL, OrderType.LIMIT, TimeInForce.GTC, quantity * 10, price * 10)


@dataclass
class Rig:
    """A runner with everything around it in memory."""

    repository: MemoryRepository = field(default_factory=MemoryRepository)
    clock_us: int = 1_000_000
    halted: list[BaseException] = field(default_factory=list)
    seen: list[Event] = field(default_factory=list)
    private: list[tuple[int, list[CommandEvents]]] = field(default_factory=list)
    committed_sizes: list[int] = field(default_factory=list)
    states: list[str] = field(default_factory=list)

    def batch_committed(
        self, commands: int, commit_seconds: float, queue_depth: int, wait_seconds: float, publish_seconds: float
    ) -> None:
        """EngineMetrics."""
        assert min(commit_seconds, wait_seconds, publish_seconds) >= 0
        assert queue_depth >= 0
        self.committed_sizes.append(commands)

    def state_changed(self, state: str) -> None:
        """EngineMetrics."""
        self.states.append(state)

    def committed(self, events: Sequence[Event]) -> None:
        """EventListener."""
        self.seen.extend(events)

    def commands_committed(self, position: int, commands: Sequence[CommandEvents]) -> None:
        """CommandListener."""
        self.private.append((position, list(commands)))

    @asynccontextmanager
    async def running(self, limits: RunnerLimits | None = None) -> AsyncIterator[EngineRunner]:
        """A runner that takes commands."""
        runner = EngineRunner(
            self.repository,
            settings=EngineSettings(),
            limits=limits or RunnerLimits(),
            metrics=self,
            on_halt=self.halted.append,
            clock_us=lambda: self.clock_us,
        )
        await runner.recover()
        await runner.run([self], [self])
        try:
            yield runner
        finally:
            self.repository.gate.set()
            await runner.stop()


async def settle() -> None:
    """Let every task that can go on do so."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_nothing_is_answered_or_published_before_its_commit() -> None:
    """D3: while the commit is held back, the command has no answer and no view has seen it."""
    rig = Rig()
    async with rig.running() as runner:
        rig.repository.gate.clear()
        task = asyncio.create_task(runner.send(buy(1, 100)))
        await settle()
        assert not task.done()
        assert not rig.seen
        assert runner.position == 0
        rig.repository.gate.set()
        events = await task
        assert isinstance(events[1], OrderAccepted)
        assert rig.seen == list(events)
        assert runner.position == 1


async def test_commands_are_matched_while_a_batch_commits_and_share_the_next() -> None:
    """One commit is in flight at a time, and what arrives meanwhile makes one batch, in order of arrival."""
    rig = Rig()
    async with rig.running() as runner:
        rig.repository.gate.clear()
        tasks = [asyncio.create_task(runner.send(buy(1, 100 - number))) for number in range(10)]
        await settle()
        tasks += [asyncio.create_task(runner.send(buy(1, 50 - number))) for number in range(10)]
        await settle()
        rig.repository.gate.set()
        await asyncio.gather(*tasks)
    assert rig.repository.most_in_flight == 1
    assert rig.committed_sizes in ([1, 19], [10, 10])
    positions = [stamped.position for batch in rig.repository.batches for stamped in decode_commands(batch.commands)]
    assert positions == list(range(1, 21))


async def test_private_events_are_told_as_they_are_stored() -> None:
    """D2: batch by batch, with the position of each command and the last one committed, exactly what the database has."""
    rig = Rig()
    async with rig.running() as runner:
        for number in range(5):
            await runner.send(buy(1, 100 + number))
    assert [position for position, _ in rig.private] == [batch.last_position for batch in rig.repository.batches]
    assert [commands for _, commands in rig.private] == [decode_events(batch.events) for batch in rig.repository.batches]
    assert sum(len(commands) for _, commands in rig.private) == 5


async def test_a_batch_holds_no_more_than_its_bound() -> None:
    """However much waits, no transaction has more than `batch` commands, and all of it is done."""
    rig = Rig()
    async with rig.running(RunnerLimits(queue=1000, cancel_slots=0, batch=7)) as runner:
        rig.repository.gate.clear()
        tasks = [asyncio.create_task(runner.send(buy(1, 100 + number % 5))) for number in range(100)]
        await settle()
        rig.repository.gate.set()
        await asyncio.gather(*tasks)
    assert max(rig.committed_sizes) <= 7
    assert sum(rig.committed_sizes) == 100


async def test_a_full_queue_refuses_orders_and_still_takes_cancels() -> None:
    """HOLE16, R3: beyond the bound nothing waits; the last slots are for cancels, and for changes that only lower a quantity."""
    rig = Rig()
    async with rig.running(RunnerLimits(queue=10, cancel_slots=4, batch=1)) as runner:
        order_id = next(event.order.id for event in await runner.send(buy(2, 100)) if isinstance(event, OrderAccepted))
        rig.repository.gate.clear()
        tasks = [asyncio.create_task(runner.send(buy(1, 100))) for _ in range(2)]
        await settle()
        tasks += [asyncio.create_task(runner.send(buy(1, 100))) for _ in range(6)]
        await settle()
        raised = ModifyOrder(order_id, exists=True, quantity=30)
        shown = ModifyOrder(order_id, exists=True, quantity=10, display_quantity=10)
        refused: list[Command] = [buy(1, 100), ModifyOrder(order_id, exists=True, price=1010), raised, shown]
        for command in refused:
            with pytest.raises(Overloaded):
                await runner.send(command)
        tasks.append(asyncio.create_task(runner.send(ModifyOrder(order_id, exists=True, quantity=10))))
        cancel = asyncio.create_task(runner.send(CancelOrder(order_id, exists=True)))
        await settle()
        assert not cancel.done()
        rig.repository.gate.set()
        await asyncio.gather(cancel, *tasks)
        assert not runner.is_open(order_id)


async def test_a_command_whose_client_went_away_before_its_turn_is_not_executed() -> None:
    """HOLE8: a queued command may be withdrawn; one that was matched goes on."""
    rig = Rig()
    async with rig.running(RunnerLimits(batch=1)) as runner:
        rig.repository.gate.clear()
        matched = [asyncio.create_task(runner.send(buy(1, 100))) for _ in range(2)]
        await settle()
        withdrawn = asyncio.create_task(runner.send(buy(1, 100)))
        await settle()
        withdrawn.cancel()
        matched[1].cancel()
        await settle()
        rig.repository.gate.set()
        await matched[0]
    assert sum(rig.committed_sizes) == 2


async def test_a_commit_that_takes_too_long_leaves_its_commands_unknown_and_the_queued_not_executed() -> None:
    """DUR2: what was matched is unknown, what only waited is certainly not executed; then trading goes on."""
    rig = Rig()
    fates: list[str] = []
    async with rig.running(RunnerLimits(batch=1, client_wait_s=0.05)) as runner:
        rig.repository.gate.clear()
        in_flight = asyncio.create_task(runner.send(buy(1, 100), lambda: fates.append("in flight")))
        await settle()
        pending = asyncio.create_task(runner.send(buy(1, 99), lambda: fates.append("pending")))
        await settle()
        queued = asyncio.create_task(runner.send(buy(1, 98), lambda: fates.append("queued")))
        results = await asyncio.gather(in_flight, pending, queued, return_exceptions=True)
        assert [type(result) for result in results] == [OutcomeUnknown, OutcomeUnknown, NotAccepting]
        assert fates == ["queued"]
        assert runner.state == "STALLED"
        with pytest.raises(NotAccepting):
            await runner.send(buy(1, 97))
        rig.repository.gate.set()
        while runner.state != "RUNNING" or runner.position < 2:
            await asyncio.sleep(0)
        await settle()  # answers follow in the loop's next turn
        assert fates == ["queued", "in flight", "pending"]
        await runner.send(buy(1, 96))
    assert sum(rig.committed_sizes) == 3


async def test_an_engine_that_was_fenced_out_halts_and_answers_everybody() -> None:
    """DUR8: nothing more is committed, published or taken; those in flight are told that it isn't known."""
    rig = Rig()
    async with rig.running() as runner:
        await runner.send(buy(1, 100))
        seen = len(rig.seen)
        rig.repository.error = Fenced("another engine has taken over")
        with pytest.raises(OutcomeUnknown):
            await runner.send(buy(1, 101))
        assert runner.state == "HALTED"
        assert [type(error) for error in rig.halted] == [Fenced]
        assert len(rig.seen) == seen
        with pytest.raises(NotAccepting):
            await runner.send(buy(1, 102))
    assert len(rig.repository.batches) == 1


async def test_stopping_makes_durable_what_was_taken() -> None:
    """SIGTERM: everything in the queue is answered before the repository is closed; nothing new is taken."""
    rig = Rig()
    async with rig.running() as runner:
        tasks = [asyncio.create_task(runner.send(buy(1, 100 + number))) for number in range(50)]
        await settle()
        await runner.stop()
        assert len(await asyncio.gather(*tasks)) == 50
        assert rig.repository.closed
        with pytest.raises(NotAccepting):
            await runner.send(buy(1, 100))


async def test_deadlines_pass_without_a_command() -> None:
    """T5: an order expires by the timer, when nobody sends anything."""
    rig = Rig()
    async with rig.running() as runner:
        order = NewOrder("ann", "ABC", Side.BUY, OrderType.LIMIT, TimeInForce.GTD, 10, 1000, expires_at=rig.clock_us + 50_000)
        await runner.send(order)
        rig.clock_us += 50_000
        while not any(isinstance(event, OrderExpired) for event in rig.seen):
            await asyncio.sleep(0.005)
    assert rig.repository.batches[-1].touched_order_ids == [1]


async def test_a_clock_that_goes_back_reorders_nothing() -> None:
    """N2: engine time stands still until the clock has caught up."""
    rig = Rig(clock_us=5_000_000)
    async with rig.running() as runner:
        await runner.send(buy(1, 100))
        rig.clock_us = 1_000_000
        await runner.send(buy(1, 100))
    times = [stamped.time for batch in rig.repository.batches for stamped in decode_commands(batch.commands)]
    assert times == [5_000_000, 5_000_000]


async def test_batches_chain_and_replay_to_the_same_hash() -> None:
    """The journal alone gives the same events and state hash again, and the chain covers every batch."""
    rig = Rig()
    async with rig.running(RunnerLimits(batch=3)) as runner:
        commands = [buy(1 + number % 3, 100 - number % 4) if number % 2 else sell(2, 99 + number % 3) for number in range(40)]
        await asyncio.gather(*(runner.send(command) for command in commands))
    engine, chain = Engine(), CHAIN_START
    chains = set()
    for batch in rig.repository.batches:
        stored = {item.position: item.events for item in decode_events(batch.events)}
        for stamped in decode_commands(batch.commands):
            events = [
                event for event in engine.apply(stamped) if type(event).__name__ not in {"BookChanged", "InstrumentChanged"}
            ]
            assert events == stored.get(stamped.position, [])
        assert engine.state_hash() == batch.state_hash
        chain = chain_hash(chain, batch)
        chains.add(chain)
    assert len(chains) == len(rig.repository.batches)
    assert any(isinstance(event, Traded) for event in rig.seen)


async def test_a_listener_that_fails_leaves_nobody_waiting() -> None:
    """A bug in a view halts the engine, and whoever waits for the batch is told at once that it isn't known."""

    class Broken(Rig):
        def committed(self, events: Sequence[Event]) -> None:
            raise ZeroDivisionError(len(events))

    rig = Broken()
    async with rig.running() as runner:
        with pytest.raises(OutcomeUnknown):
            await asyncio.wait_for(runner.send(buy(1, 100)), 5)
        assert runner.state == "HALTED"
        assert [type(error) for error in rig.halted] == [ZeroDivisionError]


async def test_an_engine_task_that_ends_is_a_halt() -> None:
    """However its coroutine ends, the engine says that it has stopped; nobody waits for an answer that can't come."""
    rig = Rig()
    async with rig.running() as runner:
        rig.repository.error = asyncio.CancelledError()
        with pytest.raises(OutcomeUnknown):
            await asyncio.wait_for(runner.send(buy(1, 100)), 5)
        assert runner.state == "HALTED"
        assert len(rig.halted) == 1


async def test_nobody_waits_longer_than_the_client_wait() -> None:
    """The wait is each answer's own: commits that are quick enough one by one don't add up to a wait without end."""
    rig = Rig()
    rig.repository.delay_s = 0.1
    async with rig.running(RunnerLimits(batch=1, client_wait_s=0.2)) as runner:
        tasks = [asyncio.create_task(runner.send(buy(1, 100))) for _ in range(8)]
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert any(isinstance(result, OutcomeUnknown | NotAccepting) for result in results)
    executed = sum(isinstance(event, OrderAccepted) for event in rig.seen)
    withdrawn = sum(isinstance(result, NotAccepting) for result in results)
    assert executed == 8 - withdrawn


async def test_deadlines_go_on_after_a_stall() -> None:
    """T5: an alarm that rang while the database stood still is not forgotten."""
    rig = Rig()
    async with rig.running(RunnerLimits(batch=1, client_wait_s=0.05)) as runner:
        tif = TimeInForce.GTD
        await runner.send(NewOrder("ann", "ABC", Side.BUY, OrderType.LIMIT, tif, 10, 1000, expires_at=rig.clock_us + 60_000))
        rig.repository.gate.clear()
        tasks = [asyncio.create_task(runner.send(buy(1, 100))) for _ in range(3)]
        await asyncio.gather(*tasks, return_exceptions=True)
        rig.clock_us += 60_000
        await asyncio.sleep(0.1)
        rig.repository.gate.set()
        while not any(isinstance(event, OrderExpired) for event in rig.seen):
            await asyncio.sleep(0.005)


@pytest.mark.skipif(CORE == "compiled", reason="it replaces a constant of the engine")
async def test_mass_expiries_go_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """I2: what is due at once ends in bounded chunks, each a command of its own, all before the next order trades."""
    for module in ("engine", "withdrawals"):
        monkeypatch.setattr(f"ome.engine.{module}.EXPIRY_CHUNK", 10)
    rig = Rig()
    async with rig.running() as runner:
        deadline, tif = rig.clock_us + 3_600_000_000, TimeInForce.GTD
        order = NewOrder("ann", "ABC", Side.BUY, OrderType.LIMIT, tif, 10, 1000, expires_at=deadline)
        await asyncio.gather(*(runner.send(order) for _ in range(35)))
        rig.clock_us = deadline
        events = await runner.send(sell(1, 100))
        assert not any(isinstance(event, Traded) for event in events)
    expired = [event for event in rig.seen if isinstance(event, OrderExpired)]
    assert [event.order.id for event in expired] == list(range(1, 36))
    sizes = [
        sum(isinstance(event, OrderExpired) for event in command.events)
        for batch in rig.repository.batches
        for command in decode_events(batch.events)
    ]
    assert max(sizes) <= 10


async def test_a_stop_that_cannot_save_everything_says_so() -> None:
    """What was matched and isn't durable when the time is up is unknown to its client, and the stop reports it."""
    rig = Rig()
    async with rig.running() as runner:
        rig.repository.gate.clear()
        task = asyncio.create_task(runner.send(buy(1, 100)))
        await settle()
        assert not await runner.stop(within_s=0.05)
        with pytest.raises(OutcomeUnknown):
            await task
    assert rig.halted == []


async def test_nobody_waits_longer_because_it_drains() -> None:
    """Whose answer doesn't come in its time hears that it is unknown, though the stop still waits for the database."""
    rig = Rig()
    async with rig.running(RunnerLimits(client_wait_s=0.05, drain_s=60)) as runner:
        rig.repository.gate.clear()
        task = asyncio.create_task(runner.send(buy(1, 100)))
        await settle()
        draining = asyncio.create_task(runner.drain())
        with pytest.raises(OutcomeUnknown):
            await task
        assert (draining.done(), runner.state) == (False, "DRAINING")
        rig.repository.gate.set()
        assert await draining


async def test_one_that_was_refused_the_lock_has_nothing_to_drain() -> None:
    """An engine that never got beyond STARTING says nothing of another state on its way out."""
    rig = Rig()
    runner = EngineRunner(
        rig.repository, settings=EngineSettings(), limits=RunnerLimits(), metrics=rig, on_halt=rig.halted.append
    )
    assert await runner.stop()
    assert (rig.states, runner.state) == ([], "STARTING")


async def test_a_passing_of_time_in_flight_is_no_stall() -> None:
    """Nobody waits for the timer's own command: a commit of it alone never makes the engine refuse others."""
    rig = Rig()
    async with rig.running(RunnerLimits(client_wait_s=0.2)) as runner:
        tif = TimeInForce.GTD
        await runner.send(NewOrder("ann", "ABC", Side.BUY, OrderType.LIMIT, tif, 10, 1000, expires_at=rig.clock_us + 10_000))
        rig.repository.delay_s = 0.12
        rig.clock_us += 10_000
        while not any(isinstance(event, OrderExpired) for event in rig.seen):
            await asyncio.sleep(0.005)
    assert "STALLED" not in rig.states


async def test_a_full_disk_stops_orders_and_lets_cancels_through() -> None:
    """HALTED with storage_low: orders are refused with that word, cancels are committed; it runs again by itself."""
    rig = Rig()
    async with rig.running() as runner:
        order_id = next(event.order.id for event in await runner.send(buy(1, 100)) if isinstance(event, OrderAccepted))
        runner.storage_low(low=True)
        assert (runner.state, runner.reason) == ("HALTED", "storage_low")
        with pytest.raises(NotAccepting, match="storage_low"):
            await runner.send(buy(1, 100))
        await runner.send(CancelOrder(order_id, exists=True))
        assert not runner.is_open(order_id)
        runner.storage_low(low=False)
        assert (runner.state, runner.reason) == ("RUNNING", "")
        await runner.send(buy(1, 100))
    assert not rig.halted


async def test_a_stall_behind_a_full_disk_shows_when_there_is_space() -> None:
    """Each of the two ends by itself, whichever came first."""
    rig = Rig()
    async with rig.running() as runner:
        runner.stalled(stalled=True)
        runner.storage_low(low=True)
        assert runner.state == "HALTED"
        runner.storage_low(low=False)
        assert runner.state == "STALLED"
        runner.stalled(stalled=False)
        assert runner.state == "RUNNING"


async def test_a_halt_for_good_is_not_undone_by_space() -> None:
    """Whoever was told from outside to stop stays stopped, with its reason; those who wait are answered."""
    rig = Rig()
    async with rig.running() as runner:
        rig.repository.gate.clear()
        waiting = asyncio.create_task(runner.send(buy(1, 100)))
        await settle()
        runner.fail(Fenced("another engine has taken over"))
        with pytest.raises(OutcomeUnknown):
            await waiting
        runner.storage_low(low=True)
        runner.storage_low(low=False)
        runner.stalled(stalled=False)
        assert (runner.state, runner.reason) == ("HALTED", "another engine has taken over")
        assert [type(error) for error in rig.halted] == [Fenced]


async def test_a_database_that_is_away_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """HOLE20: RECOVERING, with the reason, until it is there; each attempt starts from the lock."""
    monkeypatch.setattr("ome.engine.runner.FIRST_PAUSE_S", 0.001)
    rig = Rig()
    attempts: list[str] = []

    async def away() -> None:
        attempts.append(runner.reason)
        if len(attempts) < 4:
            raise StorageAway("nobody is there")

    runner = EngineRunner(
        rig.repository, settings=EngineSettings(), limits=RunnerLimits(), metrics=rig, on_halt=rig.halted.append
    )
    monkeypatch.setattr(rig.repository, "open", away)
    monkeypatch.setattr(rig.repository, "start", away)
    await runner.open()
    assert (runner.state, runner.reason) == ("RECOVERING", "nobody is there")
    await runner.recover()
    assert attempts == ["", "nobody is there", "nobody is there", "nobody is there"]
    assert runner.reason == ""
    await runner.stop()
    assert rig.states == ["RECOVERING", "DRAINING"]


async def test_a_kill_passes_all_that_wait() -> None:
    """R1: what waits when a kill comes is not taken any more, and what the kill finds open is cancelled."""
    rig = Rig()
    async with rig.running() as runner:
        await runner.send(buy(1, 100))
        waiting = [asyncio.create_task(runner.send(buy(1, 90 - number))) for number in range(10)]
        kill = asyncio.create_task(runner.send(SetKill("ann", "", is_active=True)))
        await asyncio.sleep(0)
        first, *_, cancelled = await kill
        assert isinstance(first, ControlChanged)
        assert first.open_orders == 1
        assert isinstance(cancelled, OrderCancelled | BookChanged)
        answers = await asyncio.gather(*waiting)
        reasons = [event.order.reason for events in answers for event in events if isinstance(event, OrderRejected)]
        assert reasons == [Reason.KILL_SWITCH] * 10


async def test_a_large_kill_goes_on_by_itself_a_few_chunks_a_batch() -> None:
    """I2: nobody need wait for it, no batch holds more than a few chunks, and others are served between them."""
    rig = Rig()
    async with rig.running(RunnerLimits(client_wait_s=60)) as runner:  # three thousand orders, however busy the machine
        await asyncio.gather(*(runner.send(buy(1, 100 + number % 7)) for number in range(EXPIRY_CHUNK * 6 + 1)))
        rig.seen.clear()
        before = len(rig.repository.batches)
        (changed, *_) = await runner.send(SetKill("", "ABC", is_active=True))
        assert isinstance(changed, ControlChanged)
        assert changed.open_orders == EXPIRY_CHUNK * 6 + 1
        await runner.send(DefineInstrument("OTHER"))
        while runner.waiting or sum(isinstance(event, OrderCancelled) for event in rig.seen) <= EXPIRY_CHUNK * 6:
            await asyncio.sleep(0.001)
        ended = [len(batch.orders) for batch in rig.repository.batches[before:]]
    assert sum(ended) == EXPIRY_CHUNK * 6 + 1
    assert max(ended) <= EXPIRY_CHUNK * (SWEEPS_IN_A_BATCH + 1)


async def test_a_look_at_risk_waits_until_what_it_saw_is_durable() -> None:
    """D3: the room that is left is told behind the commands before it, once these are committed."""
    rig = Rig()
    async with rig.running() as runner:
        await runner.send(SetLimits("ann", "ABC", Limits(max_open_orders=3, max_position=100)))
        rig.repository.gate.clear()
        order = asyncio.create_task(runner.send(buy(4, 100)))
        look = asyncio.create_task(runner.risk("ann"))
        await settle()
        assert not look.done()
        rig.repository.gate.set()
        await order
        (symbol,) = (await look).symbols
        assert (symbol.bought, symbol.room_to_buy, symbol.room_to_sell, symbol.open_orders_left) == ("4", "6", "10", 2)
