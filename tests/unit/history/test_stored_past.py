"""A book as it was, as many ask for it: one at a time, few in the queue, nothing done for whoever has left."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from ome.api.bodies import ClientGone, while_there
from ome.domain.commands import NewOrder, Stamped
from ome.domain.enums import OrderType, Side, TimeInForce
from ome.domain.errors import NotYet, Overloaded
from ome.domain.numbers import pack
from ome.domain.ports import Depth
from ome.domain.records import BookSnapshot
from ome.history.past import MOST_ASKING, StoredPast

NOW = 1_000


def an_order(position: int) -> Stamped:
    """The command at a position, a hundredth of the time after the one before."""
    command = NewOrder("alice", "AAPL", Side.BUY, OrderType.LIMIT, TimeInForce.GTC, pack(1, 0), pack(100, 0))
    return Stamped(position, position * 10, command)


class Journal:
    """An Archive with a journal of a few orders, without snapshots; it answers while `gate` is open."""

    def __init__(self) -> None:
        self.commands = [an_order(position) for position in range(1, 6)]
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked = 0

    async def first_position(self) -> int:
        """Nothing was trimmed."""
        return 1

    async def engine_at(self, *, position: int | None = None, time: int | None = None) -> None:
        """No engine snapshot."""
        del position, time
        self.asked += 1
        await self.gate.wait()

    async def book_position_after(self, symbol: str, sequence: int) -> None:
        """Nor one of a book."""
        del symbol, sequence

    async def books(self, symbol: str, before: int, limit: int) -> list[BookSnapshot]:
        """As there."""
        del symbol, before, limit
        return []

    async def commands_after(self, position: int, batches: int) -> Sequence[Stamped]:
        """One at a time."""
        return self.commands[position : position + batches][:1]


@pytest.fixture
def journal() -> Journal:
    """Five orders."""
    return Journal()


@pytest.fixture
def past(journal: Journal) -> StoredPast:
    """Over them, at the time NOW."""
    return StoredPast(journal, lambda: NOW)  # type: ignore[arg-type]  # as much of an Archive as is needed


async def quiet() -> None:
    """Let everything that can run do so."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_few_wait_and_more_are_refused_at_once(past: StoredPast, journal: Journal) -> None:
    """Whoever would make the queue longer than MOST_ASKING is told to come again; the others get their answers, one by one."""
    journal.gate.clear()
    asking = [asyncio.create_task(past.depth_at_time("AAPL", 10 + number)) for number in range(MOST_ASKING)]
    await quiet()
    assert journal.asked == 1
    with pytest.raises(Overloaded):
        await past.depth_at_sequence("AAPL", 2)
    journal.gate.set()
    found = await asyncio.gather(*asking)
    assert [None if depth is None else depth.time for depth in found] == [10] * MOST_ASKING
    assert isinstance(await past.depth_at_sequence("AAPL", 2), Depth)


async def test_who_leaves_makes_room(past: StoredPast, journal: Journal) -> None:
    """A turn that is given up is another's, whether it had begun or was waited for; then nothing is done for it any more."""
    journal.gate.clear()
    asking = [asyncio.create_task(past.depth_at_time("AAPL", 10)) for _ in range(MOST_ASKING)]
    await quiet()
    for task in asking:
        task.cancel()
    await asyncio.gather(*asking, return_exceptions=True)
    assert journal.asked == 1
    journal.gate.set()
    depth = await past.depth_at_time("AAPL", 10)
    assert depth is not None
    assert [orders for _, _, orders in depth.bids] == [1]


async def test_an_answer_that_nothing_can_change_is_kept(past: StoredPast, journal: Journal) -> None:
    """A past that something came after is rebuilt once; the latest is asked for anew."""
    first = await past.depth_at_time("AAPL", 25)
    assert journal.asked == 1
    assert await past.depth_at_time("AAPL", 25) == first
    assert journal.asked == 1
    last = await past.depth_at_time("AAPL", 999)
    journal.commands.append(an_order(6))
    assert await past.depth_at_time("AAPL", 999) != last


async def test_a_time_that_is_to_come_has_no_book(past: StoredPast, journal: Journal) -> None:
    """As a sequence that is to come has none."""
    with pytest.raises(NotYet):
        await past.depth_at_time("AAPL", NOW + 1)
    with pytest.raises(NotYet):
        await past.depth_at_sequence("AAPL", 10**6)
    assert journal.asked == 1


async def test_work_ends_with_the_client_that_it_is_for() -> None:
    """An answer that takes long is made for as long as somebody waits for it."""
    left, working, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def receive() -> dict[str, object]:
        await left.wait()
        return {"type": "http.disconnect"}

    async def work() -> None:
        working.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def answer() -> int:
        return 7

    async def fail() -> int:
        raise Overloaded

    assert await while_there(receive, answer()) == 7
    with pytest.raises(Overloaded):
        await while_there(receive, fail())
    request = asyncio.create_task(while_there(receive, work()))
    await working.wait()
    left.set()
    with pytest.raises(ClientGone):
        await request
    assert ended.is_set()
