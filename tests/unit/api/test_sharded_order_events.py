"""The private channel over several engines: every event once, those of a shard in order, whichever process tells them."""

from __future__ import annotations

import asyncio
import random
from typing import Any, cast

import pytest

from factories import an_order, happened
from ome.api.problems import Problem
from ome.api.streams.order_events import START
from ome.api.streams.outlet import Outlet
from ome.api.streams.pump import Pump
from ome.api.streams.ring import QueueLimits
from ome.api.streams.sharded_order_events import ShardedCursors, ShardedOrderEvents
from ome.domain.events import CommandEvents, OrderAccepted, UserEvent, events_of
from ome.domain.ids import make_id
from ome.domain.ports import ReadModels
from streams import FakeSocket

WIDE = QueueLimits(10**6, 10**9)
SHARDS = 3
USERS = ("alice", "bob")


class Store:
    """A shard's committed commands: read slowly, with commits in between, as a database is."""

    def __init__(self, rng: random.Random) -> None:
        self.commands: list[CommandEvents] = []
        self._rng = rng

    async def events_of_user(self, user_id: str, after: tuple[int, int], limit: int) -> list[UserEvent]:
        """See ReadModels."""
        for _ in range(self._rng.randrange(4)):
            await asyncio.sleep(0)
        mine = [each for command in self.commands for each in events_of(user_id, command)]
        return [each for each in mine if (each.position, each.number) > after][:limit]


class Shards:
    """Engines that commit, and processes that are told of it when each is ready."""

    def __init__(self, seed: int, processes: int, limits: QueueLimits = WIDE) -> None:
        self.rng = random.Random(seed)
        self.stores = [Store(self.rng) for _ in range(SHARDS)]
        self.pumps = [Pump() for _ in range(processes)]
        reads = cast("list[ReadModels]", self.stores)
        self.processes = [
            ShardedOrderEvents(reads, pump, limits, ShardedCursors(lambda: (1, "ab" * 16), SHARDS)) for pump in self.pumps
        ]

    def commit(self) -> None:
        """A command on some shard, with some events of users."""
        shard = self.rng.randrange(SHARDS)
        store = self.stores[shard]
        position = len(store.commands) + 1
        users = self.rng.choices(USERS, k=self.rng.randrange(1, 4))
        store.commands.append(
            happened(position, *(OrderAccepted(an_order(make_id(shard, position), user_id=user)) for user in users))
        )

    def tell(self, process: int, *, everything: bool = False) -> None:
        """Tell a process of a batch of some shard that it hasn't heard of yet, or of all."""
        events = self.processes[process]
        for shard in range(SHARDS) if everything else [self.rng.randrange(SHARDS)]:
            known, commands = cast("Any", events.cursors).told[shard], self.stores[shard].commands
            end = len(commands) if everything else min(len(commands), known + self.rng.randrange(1, 3))
            if end > known:
                events.told(shard, end, commands[known:end])

    def expected(self, user_id: str) -> list[list[tuple[str, int]]]:
        """Of each shard, the orders of a user's events in their order."""
        return [
            [
                (str(make_id(shard, each.position)), each.number)
                for command in store.commands
                for each in events_of(user_id, command)
            ]
            for shard, store in enumerate(self.stores)
        ]


def by_shard(heard: list[Any]) -> list[list[str]]:
    """The orders of what was heard, shard by shard."""
    orders = [int(message["event"]["order"]["order_id"]) for message in heard]
    return [[str(order) for order in orders if order // make_id(1, 0) == shard] for shard in range(SHARDS)]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("page", [1, 3, 500])
async def test_a_reader_that_changes_processes_hears_every_event_once(
    monkeypatch: pytest.MonkeyPatch, seed: int, page: int
) -> None:
    """Whichever of two tells how much when, whatever is committed meanwhile, and however often the reader goes to the other."""
    monkeypatch.setattr("ome.api.streams.sharded_order_events.PAGE", page)
    monkeypatch.setattr("ome.api.streams.sharded_order_events.PAUSE_S", 0)
    shards = Shards(seed, 2, WIDE if page != 3 else QueueLimits(2, 10**9))
    heard: list[Any] = []
    cursor = None
    for turn in range(8):
        process = turn % 2
        events, socket = shards.processes[process], FakeSocket()
        outlet = Outlet(socket, WIDE)
        place = events.start if cursor is None else events.cursors.read(cursor)
        replay = asyncio.create_task(events.replay("alice", events.open("alice", outlet), outlet, place))
        for _ in range(60):
            step = shards.rng.random()
            if step < 0.2:
                shards.commit()
            elif step < 0.7:
                shards.tell(shards.rng.randrange(2))
            await asyncio.sleep(0)
        while not replay.done():
            shards.tell(process)
            await asyncio.sleep(0)
        shards.tell(process)
        shards.pumps[process].finish()
        new = socket.read()
        heard += new
        cursor = new[-1]["event"]["cursor"] if new else cursor
        outlet.close(1000, "")
    events, socket = shards.processes[0], FakeSocket()
    shards.tell(0, everything=True)
    outlet = Outlet(socket, WIDE)
    await events.replay(
        "alice", events.open("alice", outlet), outlet, events.start if cursor is None else events.cursors.read(cursor)
    )
    heard += socket.read()
    assert by_shard(heard) == [[order for order, _ in mine] for mine in shards.expected("alice")]
    assert len({message["event"]["cursor"] for message in heard}) == len(heard)


async def test_a_list_goes_on_behind_its_cursor() -> None:
    """Page by page every event once; what isn't told yet isn't there."""
    shards = Shards(3, 1)
    for _ in range(40):
        shards.commit()
    [events] = shards.processes
    assert await events.page("bob", events.start, 10) == []
    shards.tell(0, everything=True)
    place, found = events.start, list[UserEvent]()
    while page := await events.page("bob", place, 4):
        found += page
        place = events.cursors.read(events.view("bob", page[-1]).cursor)
    assert len(found) == sum(len(mine) for mine in shards.expected("bob"))
    assert [each.time for each in found] == sorted(each.time for each in found)


async def test_whoever_missed_something_is_told_to_resume() -> None:
    """Nobody hears of a later event as if there had been none before."""
    shards, socket = Shards(1, 1), FakeSocket()
    [events] = shards.processes
    outlet = Outlet(socket, WIDE)
    await events.replay("alice", events.open("alice", outlet), outlet, events.start)
    shards.commit()
    events.missed(0, 1)
    assert socket.closed is not None
    assert socket.closed[0] == 1012
    assert not events.is_heard


@pytest.mark.parametrize("cursor", ["", "zz", "ZXZlbnRzOmFiYWJhYmFiLjEuMA"])
def test_a_cursor_of_another_kind_is_refused(cursor: str) -> None:
    """One that is none, and one of a process with a single engine."""
    with pytest.raises(Problem):
        ShardedCursors(lambda: (1, "ab" * 16), SHARDS).read(cursor)


async def test_whoever_missed_nothing_goes_on() -> None:
    """A shard that is heard for the first time, and is where the database said: no stream ends, and nothing is told twice."""
    shards, socket = Shards(1, 1), FakeSocket()
    [events] = shards.processes
    outlet = Outlet(socket, WIDE)
    events.missed(1, 7)
    await events.replay("alice", events.open("alice", outlet), outlet, events.cursors.now)
    events.missed(1, 7)
    for position in (7, 8):
        events.told(1, position, [happened(position, OrderAccepted(an_order(make_id(1, position), user_id="alice")))])
    shards.pumps[0].finish()
    assert socket.closed is None
    assert [message["event"]["order"]["order_id"] for message in socket.read()] == [str(make_id(1, 8))]


def test_a_cursor_of_another_history_is_refused() -> None:
    """HOLE12: the database was restored or replaced."""
    mine, other = ShardedCursors(lambda: (1, "ab" * 16), SHARDS), ShardedCursors(lambda: (1, "cd" * 16), SHARDS)
    cursor = mine.cursor_of((START, (5, 2), (7, 0)))
    assert mine.read(cursor) == (START, (5, 2), (7, 0))
    with pytest.raises(Problem):
        other.read(cursor)
