"""The private channel: every event of a user's, once, in order, from any cursor (D2)."""

from __future__ import annotations

import asyncio
import random
from itertools import pairwise

import pytest

from factories import a_trade, an_order, filled, happened
from ome.api.problems import Problem
from ome.api.streams.order_events import LAST, START, Cursors, OrderEvents, event_view
from ome.api.streams.outlet import Outlet
from ome.api.streams.pump import Pump
from ome.api.streams.ring import QueueLimits
from ome.domain.enums import Side
from ome.domain.events import (
    CommandEvents,
    OrderAccepted,
    OrderCancelled,
    OrderExpired,
    OrderFilled,
    OrderModified,
    OrderRejected,
    OrderTriggered,
    PrivateEvent,
    SelfTradePrevented,
    Traded,
    UserEvent,
    events_of,
)
from ome.domain.numbers import pack
from streams import FakeSocket, Message

WIDE = QueueLimits(10**6, 10**9)


class Store:
    """Committed commands: read slowly, with commits in between, as a database is."""

    def __init__(self) -> None:
        self.commands: list[CommandEvents] = []
        self.position = 0
        self.reads = 0

    async def events_of_user(self, user_id: str, after: tuple[int, int], limit: int) -> list[UserEvent]:
        """What is there in the middle of a few turns of the event loop."""
        self.reads += 1
        for _ in range(self.reads % 3):
            await asyncio.sleep(0)
        mine = [each for command in self.commands for each in events_of(user_id, command)]
        found = [each for each in mine if (each.position, each.number) > after][:limit]
        for _ in range(self.reads % 4):
            await asyncio.sleep(0)
        return found


class Rig:
    """A store, and the channel over it."""

    def __init__(self, limits: QueueLimits = WIDE) -> None:
        self.rng, self.store, self.pump = random.Random(4), Store(), Pump()
        self.events = OrderEvents(self.store, self.pump, limits, Cursors(lambda: (1, "ab" * 16), lambda: self.store.position))  # type: ignore[arg-type]
        self.durable = 0
        self.untold: list[CommandEvents] = []

    def commit(self) -> None:
        """A batch of a few commands, some with several events of a user: durable, and told at once."""
        self.write()
        self.tell()

    def write(self) -> None:
        """A batch that is durable, so that readers of the store find it, and not told yet."""
        self.tell()
        batch = []
        for _ in range(self.rng.randrange(1, 4)):
            self.durable += 1
            users = [self.rng.choice(["alice", "bob", "carol"]) for _ in range(self.rng.randrange(4))]
            events: list[PrivateEvent] = [OrderAccepted(an_order(self.durable, user_id=user)) for user in users]
            if events:
                batch.append(happened(self.durable, *events))
        self.store.commands += batch
        self.untold = batch

    def tell(self) -> None:
        """Tell what is durable."""
        if self.store.position < self.durable:
            self.store.position = self.durable
            self.events.commands_committed(self.durable, self.untold)

    def cursors(self, user_id: str, after: tuple[int, int] = START) -> list[str]:
        """Those of all events that there are behind a place."""
        mine = [each for command in self.store.commands for each in events_of(user_id, command)]
        return [
            self.events.cursors.cursor_of((each.position, each.number)) for each in mine if (each.position, each.number) > after
        ]


def cursors(messages: list[Message]) -> list[str]:
    """Those of the events that were heard."""
    assert {message["channel"] for message in messages} <= {"orders"}
    return [message["event"]["cursor"] for message in messages]


@pytest.mark.parametrize("page", [1, 3, 500])
@pytest.mark.parametrize("limits", [WIDE, QueueLimits(2, 10**9)])
async def test_stored_events_and_those_that_happen_join_without_gap_or_double(
    monkeypatch: pytest.MonkeyPatch, page: int, limits: QueueLimits
) -> None:
    """Whatever is committed while it is being read, and found before it is told, however small page and ring are, wherever the
    reader starts.
    """
    monkeypatch.setattr("ome.api.streams.order_events.PAGE", page)
    rig = Rig(limits)
    for _ in range(30):
        rig.commit()
    for user in ("alice", "bob", "nobody"):
        for start in (START, (rig.store.position // 2, 1), (rig.store.position, LAST)):
            socket = FakeSocket()
            outlet = Outlet(socket, WIDE)
            topic = rig.events.open(user, outlet)
            replay = asyncio.create_task(rig.events.replay(user, topic, outlet, start))
            for _ in range(60):
                if rig.rng.random() < 0.4 and not replay.done():
                    rig.write()
                elif rig.rng.random() < 0.4:
                    rig.tell()
                await asyncio.sleep(0)
            await replay
            for _ in range(5):
                rig.commit()
                rig.pump.finish()
            assert cursors(socket.read()) == rig.cursors(user, start)
            topic.part(outlet, 0.0)


@pytest.mark.parametrize("page", [1, 2, 500])
async def test_what_is_stored_and_not_told_yet_is_told_once(monkeypatch: pytest.MonkeyPatch, page: int) -> None:
    """A batch is in the database before it is told: neither channel nor list shows it before, and each cursor given is good."""
    monkeypatch.setattr("ome.api.streams.order_events.PAGE", page)
    rig, socket = Rig(), FakeSocket()
    for _ in range(5):
        rig.commit()
    told = rig.cursors("alice")
    rig.durable += 1
    rig.untold = [happened(rig.durable, *(OrderAccepted(an_order(rig.durable, user_id="alice")) for _ in range(2)))]
    rig.store.commands += rig.untold
    outlet = Outlet(socket, WIDE)
    await rig.events.replay("alice", rig.events.open("alice", outlet), outlet, START)
    listed = await rig.events.page("alice", START, len(told) + 1)
    assert [rig.events.view("alice", each).cursor for each in listed] == told
    heard = cursors(socket.read())
    assert heard == told
    for cursor in heard:
        rig.events.cursors.read(cursor)
    rig.tell()
    rig.pump.finish()
    assert heard + cursors(socket.read()) == rig.cursors("alice")
    assert len(await rig.events.page("alice", START, 1000)) == len(told) + 2


async def test_a_reader_that_does_not_read_holds_no_more_than_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """A replay goes at the pace of its reader, and ends with it."""
    monkeypatch.setattr("ome.api.streams.order_events.PAGE", 5)
    rig, socket = Rig(), FakeSocket()
    for _ in range(50):
        rig.commit()
    outlet = Outlet(socket, WIDE)
    topic = rig.events.open("alice", outlet)
    socket.is_paused = True
    replay = asyncio.create_task(rig.events.replay("alice", topic, outlet, START))
    for _ in range(50):
        await asyncio.sleep(0)
    assert rig.store.reads == 1
    assert not replay.done()
    socket.is_paused = False
    outlet.resume()
    while not replay.done():
        await asyncio.sleep(0)
    assert cursors(socket.read()) == rig.cursors("alice")
    outlet.close(1000, "")
    await rig.events.replay("alice", topic, outlet, START)
    topic.part(outlet, 1.0)
    rig.events.close_idle(2.0)
    rig.commit()
    assert rig.events.open("alice", outlet) is not topic


def test_cursors_are_read_back_and_nothing_else_is() -> None:
    """HOLE12: what is no cursor is refused by the field's name; one of another history, or from beyond this one, is told so."""
    cursors = Cursors(lambda: (3, "0123456789abcdef" * 2), lambda: 10**15)
    places = [START, (1, 0), (7, 499), (10**15, LAST)]
    assert [cursors.read(cursors.cursor_of(place)) for place in places] == places
    for bad in ("", "nonsense", cursors.cursor_of((1, 0))[:-1], "ZXZlbnRzOng", "x" * 1000, "bWFya2V0czpB"):
        with pytest.raises(Problem) as caught:
            cursors.read(bad, "from")
        assert (caught.value.errors[0].field, "as it was given" in caught.value.errors[0].message) == ("from", True)
    shorter, other = Cursors(lambda: (3, "0123456789abcdef" * 2), lambda: 4), Cursors(lambda: (3, "f" * 32), lambda: 10**15)
    for elsewhere in (shorter, other):
        with pytest.raises(Problem) as caught:
            elsewhere.read(cursors.cursor_of((5, 0)))
        assert "restored" in caught.value.errors[0].message


def test_events_are_shown_to_their_user_alone() -> None:
    """Each kind with what belongs to it; a trade tells a maker what is left of the order, and a taker nothing of it."""
    sell, buy = an_order(1, user_id="bob", side=Side.SELL), an_order(2, user_id="carol")
    trade = a_trade(1, buy, sell, taker=Side.BUY)
    traded = Traded(trade, "bob", "carol", pack(4, 0), pack(0, 0))

    def shown(user_id: str, event: PrivateEvent) -> Message:
        view = event_view(user_id, UserEvent(3, 0, 0, event), "here")
        return {name: getattr(view, name) for name in view.__struct_fields__ if getattr(view, name) is not view.__class__}

    maker, taker = shown("bob", traded), shown("carol", traded)
    assert (maker["type"], maker["role"], maker["order_id"], maker["filled_quantity"]) == ("FILLED", "MAKER", "1", "4")
    assert maker["remaining_quantity"] == "0"
    assert (taker["role"], taker["order_id"]) == ("TAKER", "2")
    assert not isinstance(taker["filled_quantity"], str)
    assert not isinstance(taker["remaining_quantity"], str)
    own = Traded(trade, "bob", "bob", pack(4, 0), pack(6, 0))
    assert (shown("bob", own)["role"], shown("bob", own)["order_id"]) == ("BOTH", "1")
    kinds: dict[type, str] = {
        OrderAccepted: "ACCEPTED", OrderModified: "MODIFIED", OrderCancelled: "CANCELLED", OrderExpired: "EXPIRED",
        OrderTriggered: "TRIGGERED", OrderFilled: "UPDATED", OrderRejected: "REJECTED",
    }  # fmt: skip
    for kind, name in kinds.items():
        seen = shown("carol", kind(filled(buy)))
        assert (seen["type"], seen["order"].order_id, seen["order"].status) == (name, "2", "FILLED")
    prevented = shown("bob", SelfTradePrevented("AAPL", "bob", 1, 3, pack(15050, 2), pack(10, 0)))
    assert (prevented["order_id"], prevented["other_order_id"]) == ("3", "1")
    assert (prevented["prevented_price"], prevented["prevented_quantity"]) == ("150.50", "10")


def test_places_of_one_command_are_in_order() -> None:
    """Numbers count the user's own events of a command."""
    command = happened(4, *(OrderAccepted(an_order(n, user_id="bob" if n % 2 else "carol")) for n in range(1, 8)))
    told = events_of("bob", command)
    assert [(each.position, each.number) for each in told] == [(4, 0), (4, 1), (4, 2), (4, 3)]
    assert all(one.event.order.id < other.event.order.id for one, other in pairwise(told))  # type: ignore[union-attr]
