"""The virtual loop: time jumps, machines stop and die, and orderings come from the seed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from random import Random

import pytest

from simulation.loop import WORLD, NeverWaits, NothingToDo, VirtualLoop


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    """A loop that takes the oldest callback first."""
    loop = VirtualLoop(Random(1), shuffled=False)
    yield loop
    loop.bury()


def order_of(seed: int) -> list[int]:
    """In which order ten tasks that start together run."""
    loop = VirtualLoop(Random(seed), shuffled=True)
    order: list[int] = []

    async def note(number: int) -> None:
        order.append(number)

    async def main() -> None:
        await asyncio.gather(*(note(number) for number in range(10)))

    loop.run_until_complete(main())
    loop.bury()
    return order


def test_time_jumps_to_the_next_timer(loop: VirtualLoop) -> None:
    """A day passes at once, and exactly."""
    loop.run_until_complete(asyncio.sleep(86_400))
    assert loop.time() == 86_400


def test_the_seed_chooses_the_order() -> None:
    """The same seed gives the same order, another one another."""
    assert order_of(1) == order_of(1) != order_of(2)


def test_a_killed_machine_never_runs_again(loop: VirtualLoop) -> None:
    """Neither what it was about to do nor what follows an await, not even a finally, before it is buried."""
    told: list[str] = []

    async def victim() -> None:
        try:
            told.append("started")
            await asyncio.sleep(1)
            told.append("went on")
        finally:
            told.append("cleaned up")

    async def main() -> None:
        loop.spawn(1, victim())
        await asyncio.sleep(0.5)
        loop.stop_machine(1)
        await asyncio.sleep(5)
        assert told == ["started"]

    loop.run_until_complete(main())


def test_a_stopped_machine_goes_on_where_it_was(loop: VirtualLoop) -> None:
    """SIGSTOP and SIGCONT: its timers have come due meanwhile."""

    async def sleeper() -> float:
        await asyncio.sleep(1)
        return loop.time()

    async def main() -> None:
        task = loop.spawn(1, sleeper())
        await asyncio.sleep(0.5)
        loop.stop_machine(1)
        await asyncio.sleep(9.5)
        assert not task.done()
        loop.resume_machine(1)
        assert await task == 10

    loop.run_until_complete(main())


def test_what_a_machine_makes_belongs_to_it(loop: VirtualLoop) -> None:
    """Tasks and timers of a stopped machine's tasks stop with it; those of the world don't."""
    told: list[str] = []

    async def parent() -> None:
        loop.call_later(1, told.append, "machine")
        asyncio.get_running_loop().create_task(asyncio.sleep(0))
        await asyncio.sleep(0)

    async def main() -> None:
        loop.call_later(1, told.append, "world")
        await loop.spawn(1, parent())
        loop.stop_machine(1)
        await loop.spawn(WORLD, asyncio.sleep(2))

    loop.run_until_complete(main())
    assert told == ["world"]


def test_waiting_for_nothing_is_an_error(loop: VirtualLoop) -> None:
    """Where a real loop would hang for ever, this one says so."""
    with pytest.raises(NothingToDo):
        loop.run_until_complete(loop.create_future())


def test_never_waiting_is_an_error(loop: VirtualLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that only ever yields stands still in time."""
    monkeypatch.setattr("simulation.loop.STEPS_AT_A_MOMENT", 100)

    async def spin() -> None:
        while True:
            await asyncio.sleep(0)

    with pytest.raises(NeverWaits):
        loop.run_until_complete(spin())
