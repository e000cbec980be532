"""An engine's ear, and a gateway's order entry at the other end: what is carried out, once, in time, where it belongs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from math import inf
from typing import Any, cast

import pytest
from msgspec import structs

from factories import a_command, an_instrument, an_order
from nats_fake import FakeNats, settle
from ome.cluster.gateway_entry import GatewayEntry
from ome.cluster.places import Places
from ome.cluster.shard_link import ShardLink
from ome.cluster.shard_server import ShardServer
from ome.cluster.subjects import Subjects
from ome.cluster.wire import Failed, Frame, Moved, Operate, OperateAll, Staying, StillListed, encode, read_reply, read_state
from ome.domain.clock import MICROSECONDS, now_us
from ome.domain.commands import Administered, Admit, CancelOrder, NewOrder, Release, SetKill
from ome.domain.enums import ControlKind, Side, Switch
from ome.domain.errors import NotAccepting, OutcomeUnknown, Overloaded, TooLate
from ome.domain.events import CommandRefused, ControlChanged, Event, SymbolReleased
from ome.domain.ids import make_id
from ome.domain.keys import KEY_REVOKED
from ome.domain.moves import STATE_FORMAT, MoveRecord, SymbolState, TimerChange, encode_state, hash_of_state
from ome.domain.ports import Answer, CommandBus, FundsEntry, Operation, TimedOrderEntry, Timely
from ome.domain.reasons import Reason
from ome.domain.records import ControlRecord, OrderRecord
from ome.domain.shards import ShardMap

SUBJECTS = Subjects("test")
PLACED = {"ZERO": 0, "ONE": 1}


class Desk:
    """An engine's order entry that writes down what it is asked; `fails` is raised instead."""

    def __init__(self, shard: int) -> None:
        self.shard = shard
        self.asked: list[Any] = []
        self.deadlines: list[float] = []
        self.fails: Exception | None = None
        self.open: set[int] = set()
        self.too_late = 0
        self.moves: list[Release | Admit] = []
        self.state, self.reason, self.position, self.waiting = "RUNNING", "", 0, 0

    def begin(self, operation: Operation, told: Callable[[Answer | Exception], None], deadline_s: float) -> None:
        """See TimedOrderEntry."""
        self.asked.append(operation)
        self.deadlines.append(deadline_s)
        told(self.fails or self._answer())

    async def batch(self, operations: Sequence[Operation], **options: Any) -> list[Any]:
        """See TimedOrderEntry."""
        options.get("queued", _nobody)()
        self.asked += operations
        return [self.fails or self._answer() for _ in operations]

    async def send(self, command: SetKill | Release | Admit | Administered, **_: Any) -> Sequence[Event]:
        """See CommandBus."""
        self.asked.append(command)
        if self.fails is not None:
            raise self.fails
        if self.too_late:
            self.too_late -= 1
            raise TooLate
        if isinstance(command, Release | Admit):
            self.moves.append(command)
        if isinstance(command, Admit | Administered):
            return []
        if isinstance(command, Release):
            return [SymbolReleased(command.symbol, command.target)]
        return [ControlChanged(ControlRecord(ControlKind.KILL, command.user_id, command.symbol, Switch.ON, 1), 3)]

    def is_open(self, order_id: int, account: str | None = None) -> bool:
        """See CommandBus."""
        assert account is None
        return order_id in self.open

    async def settled(self) -> None:
        """See TimedOrderEntry: everything here is done at once."""

    async def risk(self, user_id: str) -> None:
        """See CommandBus."""

    async def cancel_orders(self, user_id: str | None, symbol: str | None, side: Side | None) -> list[OrderRecord]:
        """See TimedOrderEntry."""
        self.asked.append((user_id, symbol, side))
        return [an_order(make_id(self.shard, 1))]

    def _answer(self) -> Answer:
        self.position += 1
        return Answer(make_id(self.shard, self.position), [CommandRefused(None, Reason.ORDER_NOT_OPEN)])


def _nobody() -> None:
    """Nobody waits for it."""


class Store:
    """The map in the database, and the symbols of orders; `reading` is awaited before anything is read."""

    def __init__(self) -> None:
        self.placed = dict(PLACED)
        self.moves: list[MoveRecord] = []
        self.left: dict[int, int] = {}
        self.in_transit: set[str] = set()
        self.symbols: dict[int, str] = {}
        self.timers: list[TimerChange] = []
        self.looked_up: list[int] = []
        self.reading = asyncio.Event()
        self.reading.set()

    async def read(self) -> ShardMap:
        """See MapStore. What is found is of when it was asked for."""
        found = ShardMap("test", 1, 2, dict(self.placed), frozenset(self.in_transit), frozenset(), dict(self.left))
        await self.reading.wait()
        return found

    async def timers_since(self, move: MoveRecord, users: Collection[str]) -> list[TimerChange]:
        """See MapStore."""
        assert users == {"alice"}
        return [change for change in self.timers if move.time < change.time]

    async def symbol_of(self, order_id: int) -> str | None:
        """Which symbol an order is in."""
        self.looked_up.append(order_id)
        await self.reading.wait()
        return self.symbols.get(order_id)

    async def put(self, symbol: str, shard: int, *, by: int, epoch: int) -> None:
        """See MapStore."""
        assert (by, epoch) == (self.placed[symbol], 1)
        self.placed[symbol] = shard

    async def arriving(self, shard: int) -> list[MoveRecord]:
        """See MapStore."""
        return [move for move in self.moves if move.target == shard]


class Rig:
    """Two engines and a gateway over one NATS."""

    def __init__(self) -> None:
        self.nats, self.store = FakeNats(), Store()
        self.listed = set(PLACED)
        self.desks = [Desk(shard) for shard in (0, 1)]
        self.servers = [self._server(desk) for desk in self.desks]
        self.links = [ShardLink(shard, "gw", self.nats.connection(), SUBJECTS, 5.0) for shard in (0, 1)]
        self.places = Places(ShardMap("test", 1, 2, dict(PLACED)), self.store)
        self.entry = GatewayEntry(self.links, self.places, self.store.symbol_of, wait_s=1.0)

    def _server(self, desk: Desk) -> ShardServer:
        return ShardServer(
            shard=desk.shard,
            nats=self.nats.connection(),
            subjects=SUBJECTS,
            entry=cast("TimedOrderEntry", desk),
            funds=cast("FundsEntry", desk),
            bus=cast("CommandBus", desk),
            lineage=lambda: (1, "abc"),
            durability=lambda: "full",
            places=Places(ShardMap("test", 1, 2, dict(PLACED)), self.store),
            is_listed=lambda symbol: symbol in self.listed,
            symbol_of=self.store.symbol_of,
        )

    async def start(self) -> None:
        """All of them hear each other."""
        for link in self.links:
            await link.open()
        await self.nats.hear(SUBJECTS.states, lambda _, data: self._heard(data))
        for server in self.servers:
            await server.start()
        await settle()

    async def stop(self) -> None:
        """No task is left."""
        for server in self.servers:
            await server.stop()
        for link in self.links:
            link.close()
        await settle()

    def _heard(self, data: bytes) -> None:
        state = read_state(data)
        self.links[state.shard].heard(state)


@pytest.fixture
async def rig(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A cluster in memory, that runs."""
    monkeypatch.setattr("ome.cluster.shard_server.QUIET_S", 0)
    rig = Rig()
    await rig.start()
    yield rig
    await rig.stop()


def order(symbol: str) -> NewOrder:
    """An order in a symbol."""
    return structs.replace(a_command(), symbol=symbol)


def frame(number: int, deadline: int | None = None) -> bytes:
    """A frame of a gateway with one order for shard 0."""
    return encode(Frame("gw-0", number, deadline or now_us() + MICROSECONDS, [Operate(number, order("ZERO"))]))


async def test_operations_go_to_their_symbols_shard(rig: Rig) -> None:
    """By symbol, by the shard in an order's id, and, where no shard can have given the id, to whoever says that there is none."""
    for symbol, shard in PLACED.items():
        assert (await rig.entry.submit(order(symbol))).order_id // make_id(1, 0) == shard
    await rig.entry.cancel(make_id(1, 7))
    await rig.entry.cancel(make_id(9, 7))
    assert [type(each) for each in rig.desks[1].asked] == [NewOrder, CancelOrder]
    assert [type(each) for each in rig.desks[0].asked] == [NewOrder, CancelOrder]


async def test_a_batch_keeps_its_order_and_says_when_it_has_joined_the_queues(rig: Rig) -> None:
    """Answers are in the places of their operations; it is said once, after the last shard has said so."""
    queued: list[int] = []
    operations = [order(symbol) for symbol in ("ONE", "ZERO", "ONE")]
    answers = await rig.entry.batch(operations, queued=lambda: queued.append(len(rig.desks[0].asked) + len(rig.desks[1].asked)))
    assert [answer.order_id // make_id(1, 0) for answer in answers if isinstance(answer, Answer)] == [1, 0, 1]
    assert queued == [3]


async def test_a_frame_that_comes_twice_is_carried_out_once(rig: Rig) -> None:
    """Whatever repeats it on the way."""
    for data in (frame(1), frame(1), frame(2), frame(1)):
        rig.nats.send(SUBJECTS.commands(0, 1), data)
    await settle()
    assert len(rig.desks[0].asked) == 2


async def test_a_frame_that_comes_after_its_deadline_is_not_carried_out(rig: Rig) -> None:
    """And one that is in time has the engine look at the clock again when its turn has come."""
    rig.nats.send(SUBJECTS.commands(0, 1), frame(1, now_us() - 1))
    await settle()
    assert rig.desks[0].asked == []
    assert read_reply(rig.nats.of(SUBJECTS.reply("gw-0", 0))[-1]).results == [(1, Failed("NotAccepting", "late"))]
    now = asyncio.get_running_loop().time()
    rig.nats.send(SUBJECTS.commands(0, 1), frame(2))
    await settle()
    assert now < rig.desks[0].deadlines[0] < now + 2


async def test_too_late_is_what_a_client_asked_for_and_nothing_else(rig: Rig) -> None:
    """An order with valid_for_ms gets TooLate once that has passed; one without was given up by its gateway."""
    rig.desks[0].fails = TooLate()
    told: list[Answer | Exception] = []
    rig.entry.begin(Timely(order("ZERO"), 0), told.append)
    rig.entry.begin(order("ZERO"), told.append)
    await settle()
    assert [type(each) for each in told] == [TooLate, NotAccepting]


@pytest.mark.parametrize("error", [Overloaded(), NotAccepting("draining"), OutcomeUnknown("x")])
async def test_what_the_engine_says_is_what_the_gateway_says(rig: Rig, error: Exception) -> None:
    """Whether something was executed isn't changed on the way."""
    rig.desks[1].fails = error
    with pytest.raises(type(error)):
        await rig.entry.submit(order("ONE"))


async def test_an_engine_that_is_gone_costs_its_own_operations_alone(rig: Rig) -> None:
    """They were certainly not executed; the rest of a batch is."""
    await rig.servers[1].stop()
    answers = await rig.entry.batch([order("ONE"), order("ZERO")])
    assert [type(answer) for answer in answers] == [NotAccepting, Answer]


async def test_an_engine_that_ends_takes_what_was_sent_before_gateways_heard_of_it(rig: Rig) -> None:
    """They hear it while it still listens, and send nothing more; so nobody is left without an answer."""
    told: list[Answer | Exception] = []
    rig.entry.begin(order("ONE"), told.append)
    stopping = asyncio.create_task(rig.servers[1].stop())
    await settle()
    await stopping
    assert [type(each) for each in told] == [Answer]
    assert rig.links[1].state == "DRAINING"
    with pytest.raises(NotAccepting, match="draining"):
        await rig.entry.submit(order("ONE"))


async def test_a_symbol_that_has_changed_shards_is_found_again(rig: Rig) -> None:
    """The gateway that didn't know is told so, reads the map and asks once more."""
    rig.store.placed["ONE"] = 0
    for server in rig.servers:
        await server._places.read()
    told: list[Answer | Exception] = []
    rig.entry.begin(order("ONE"), told.append)
    assert (await rig.entry.submit(order("ONE"))).order_id // make_id(1, 0) == 0
    await settle()
    assert [type(each) for each in told] == [Answer]
    assert rig.places.shard_of("ONE") == 0
    assert rig.desks[1].asked == []


async def test_a_kill_of_a_user_is_every_shards(rig: Rig) -> None:
    """What each found open is added up; where one can't say, nobody can."""
    kill = SetKill("ann", "", is_active=True)
    assert (await rig.entry.control(kill)).open_orders == 6
    assert [desk.asked for desk in rig.desks] == [[kill], [kill]]
    assert (await rig.entry.control(SetKill("", "ONE", is_active=True))).open_orders == 3
    rig.desks[1].fails = NotAccepting("draining")
    with pytest.raises(OutcomeUnknown):
        await rig.entry.control(kill)
    rig.desks[0].fails = NotAccepting("draining")
    with pytest.raises(NotAccepting):
        await rig.entry.control(kill)


async def test_what_is_sent_next_waits_for_what_is_tried_again(rig: Rig) -> None:
    """A batch has joined the queues once nothing of it is on its way elsewhere: two of one session never change places."""
    rig.store.placed["ONE"], rig.store.in_transit = 0, {"ONE"}
    for server in rig.servers:
        await server._places.read()
    queued: list[int] = []
    batch = asyncio.create_task(
        rig.entry.batch([order("ONE"), order("ZERO")], queued=lambda: queued.append(len(rig.desks[0].asked)))
    )
    await settle()
    assert (queued, [each.symbol for each in rig.desks[0].asked]) == ([], ["ZERO"])
    rig.store.in_transit = set()
    await rig.servers[0]._places.read()
    answers = await batch
    assert (queued, [each.symbol for each in rig.desks[0].asked]) == ([2], ["ZERO", "ONE"])
    assert [type(answer) for answer in answers] == [Answer, Answer]
    assert rig.desks[1].asked == []


async def test_a_batch_does_not_come_behind_what_takes_its_symbol_away(rig: Rig) -> None:
    """While one of its orders is looked up the other one's symbol leaves: none of it is executed where it was."""
    server, elsewhere = rig.servers[0], make_id(1, 7)
    rig.store.reading.clear()
    link, result = rig.links[0], list[Any]()
    link.post(
        lambda number: OperateAll(number, [(order("ZERO"), None), (CancelOrder(elsewhere, exists=True), None)]), result.append
    )
    await settle()
    assert rig.store.looked_up == [elsewhere]
    rig.store.placed["ZERO"] = 1  # as its Release leaves it
    giving = asyncio.create_task(server._mover.give("ZERO", 1, inf))
    await settle()
    assert [type(each) for each in rig.desks[0].asked] == [Release]
    rig.store.reading.set()
    await giving
    await settle()
    assert [type(each) for each in result] == [Moved]
    assert [type(each) for each in rig.desks[0].asked] == [Release]


async def test_an_order_that_is_open_is_looked_up_while_its_symbol_leaves(rig: Rig) -> None:
    """Its cancel would come behind the symbol's end there, and find it not open."""
    rig.desks[0].open = {make_id(0, 7)}
    rig.store.symbols = {make_id(0, 7): "ZERO"}
    server = rig.servers[0]
    server._mover._giving.add("ZERO")
    result = list[Any]()
    rig.links[0].post(lambda number: Operate(number, CancelOrder(make_id(0, 7), exists=True)), result.append)
    await settle()
    assert ([type(each) for each in result], rig.desks[0].asked) == ([Moved], [])


async def test_a_symbol_that_was_ceded_stays_ceded_whatever_was_read_before(rig: Rig) -> None:
    """The map that is being read meanwhile is of before: it doesn't bring the symbol back."""
    rig.listed.clear()
    server = rig.servers[0]
    rig.store.reading.clear()
    reading = asyncio.create_task(server._places.read())
    await settle()
    ceding = asyncio.create_task(server._mover.cede("ZERO", 1))
    await settle()
    assert not server._mover.owns("ZERO")
    rig.store.reading.set()
    await reading
    assert not server._mover.owns("ZERO")
    await ceding
    assert not server._mover.owns("ZERO")
    assert server._places.shard_of("ZERO") == 1
    await rig.servers[1]._places.read()
    assert rig.servers[1]._mover.owns("ZERO")
    await rig.servers[1]._mover.cede("ZERO", 0)
    await server._mover.look()
    await server._places.read()
    assert server._mover.owns("ZERO")


async def test_only_what_is_not_listed_is_ceded(rig: Rig) -> None:
    """One that is listed is this shard's as before."""
    with pytest.raises(StillListed):
        await rig.servers[0]._mover.cede("ZERO", 1)
    assert rig.servers[0]._mover.owns("ZERO")


async def test_an_order_of_a_moved_symbol_needs_no_engine_but_its_symbols(rig: Rig) -> None:
    """The shard that is in its id may be dead. What came there after the last symbol left isn't looked up at all, and nothing
    twice.
    """
    old, new = make_id(0, 5), make_id(0, 11)
    rig.store.placed["ZERO"], rig.store.left, rig.store.symbols = 1, {0: 10}, {old: "ZERO"}
    for places in (rig.places, *(server._places for server in rig.servers)):
        await places.read()
    rig.desks[1].open = {old}
    await rig.servers[0].stop()
    told: list[Answer | Exception] = []
    for _ in range(2):
        rig.entry.begin(CancelOrder(old, exists=True), told.append)
        await settle()
    assert [type(each) for each in told] == [Answer, Answer]
    assert [type(each) for each in await rig.entry.batch([CancelOrder(old, exists=True)])] == [Answer]
    assert rig.store.looked_up == [old]
    with pytest.raises(NotAccepting):
        await rig.entry.cancel(new)
    assert rig.store.looked_up == [old]


async def test_a_mass_cancel_that_has_cancelled_is_never_said_not_to_be_executed(rig: Rig) -> None:
    """It goes round again as a symbol was on its way, and nobody is there any more."""
    rig.store.in_transit = {"ONE"}
    cancelling = asyncio.create_task(rig.entry.cancel_all("ann", None, None))
    await settle()
    rig.nats.is_connected = False
    with pytest.raises(OutcomeUnknown):
        await cancelling
    rig.nats.is_connected = True


def on_its_way(time: int, data: bytes | None = None, symbol: str = "COME") -> MoveRecord:
    """A symbol in which alice has an order, and who had a timer that comes a second after it left."""
    instrument, orders = an_instrument(symbol), [an_order(1, symbol=symbol)]
    state = encode_state(SymbolState(STATE_FORMAT, time, 1, instrument, orders, [], [], [("alice", time + MICROSECONDS)]))
    return MoveRecord(0, 9, symbol, 1, time, hash_of_state(state), data or state)


async def test_a_timer_that_was_disarmed_while_a_symbol_was_on_its_way_cancels_nothing(rig: Rig) -> None:
    """I3: what became of it is looked up where the symbol came from, again where the engine says that this took too long."""
    left = now_us() - 10 * MICROSECONDS
    rig.store.moves = [on_its_way(left)]
    await rig.servers[1]._mover.look()
    rig.store.timers = [TimerChange("alice", left + MICROSECONDS // 2, None)]
    rig.desks[1].too_late = 1
    await rig.servers[1]._mover.look()
    assert [command.missed for command in rig.desks[1].moves if isinstance(command, Admit)] == [["alice"], []]


async def test_a_symbol_that_can_not_be_taken_keeps_no_other_waiting(rig: Rig) -> None:
    """One of another version, and one of a clock that is an hour ahead, which this shard's would follow."""
    now = now_us()
    rig.store.moves = [on_its_way(now, b"rubbish", "BAD"), on_its_way(now + 3600 * MICROSECONDS, symbol="AHEAD"), on_its_way(now)]
    with pytest.raises(Staying, match="clock"):
        await rig.servers[1]._mover.look()
    assert [command.symbol for command in rig.desks[1].moves] == ["COME"]


async def test_what_operators_do_is_written_down_while_shard_0_is_away(rig: Rig) -> None:
    """A kill switch must not wait for one engine; what happens to keys is asked of shard 0 alone, and waits for it."""
    rig.links[0].last = None
    entry = Administered("operator", "kill", "/admin/kill", "{}")
    await rig.entry.send(entry)
    assert [desk.asked for desk in rig.desks] == [[], [entry]]
    with pytest.raises(NotAccepting):
        await rig.entry.send(Administered("operator", KEY_REVOKED, "key", "{}"))
    rig.links[1].last = None
    with pytest.raises(NotAccepting):
        await rig.entry.send(entry)
