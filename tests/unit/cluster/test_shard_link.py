"""A gateway's way to one engine: what is certain, what is unknown, and when it is said."""

from __future__ import annotations

from typing import Any

import pytest

from factories import a_command
from nats_fake import FakeNats, settle
from ome.cluster.shard_link import ShardLink
from ome.cluster.subjects import Subjects
from ome.cluster.wire import Carried, Failed, Operate, Queued, Reply, State, encode, read_frame
from ome.domain.errors import NotAccepting, OmeError, OutcomeUnknown, Overloaded

SUBJECTS = Subjects("test")


def state(epoch: int = 1, name: str = "RUNNING") -> State:
    """An engine of shard 0 as it tells of itself."""
    return State(0, epoch, "abc", name, "", 10, 0, "full")


class Waiting:
    """Collects what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def __call__(self, outcome: object) -> None:
        """See shard_link.Told."""
        self.told.append(outcome)


@pytest.fixture
def nats() -> FakeNats:
    """A server that everybody reaches."""
    return FakeNats()


async def link_to(nats: FakeNats, wait_s: float = 5.0) -> ShardLink:
    """A link to an engine that runs and is heard by nobody yet."""
    link = ShardLink(0, "gateway", nats.connection(), SUBJECTS, wait_s)
    await link.open()
    link.heard(state())
    return link


def operate(number: int) -> Operate:
    """A request."""
    return Operate(number, a_command())


async def test_requests_of_one_turn_go_in_one_frame_to_the_engine_of_this_epoch(nats: FakeNats) -> None:
    """In the order in which they came."""
    await nats.hear("ome.test.cmd.0.1", lambda _subject, _data: None)
    link, waiting = await link_to(nats), Waiting()
    for _ in range(3):
        link.post(operate, waiting)
    await settle()
    [data] = nats.of("ome.test.cmd.0.1")
    frame = read_frame(data)
    assert [request.id for request in frame.requests] == [1, 2, 3]
    assert (frame.gateway, frame.number) == ("gateway-0", 1)
    assert waiting.told == []
    link.close()


@pytest.mark.parametrize("told", [Carried(7, []), Failed("Overloaded", "")])
async def test_an_answer_reaches_whoever_waits_for_it_once(nats: FakeNats, told: Carried | Failed) -> None:
    """Also where the message comes twice."""
    await nats.hear("ome.test.cmd.0.1", lambda _subject, _data: None)
    link, waiting = await link_to(nats), Waiting()
    link.post(operate, waiting)
    await settle()
    for _ in range(2):
        nats.send("ome.test.reply.gateway-0.0", encode(Reply(0, 11, [(1, told)])))
    await settle()
    assert len(waiting.told) == 1
    assert isinstance(waiting.told[0], Overloaded) if isinstance(told, Failed) else waiting.told == [told]
    assert link.waiting == 0


@pytest.mark.parametrize("name", ["STARTING", "RECOVERING", "STALLED", "DRAINING"])
async def test_an_engine_that_is_not_running_is_sent_nothing(nats: FakeNats, name: str) -> None:
    """It is certain that nothing was executed."""
    link = await link_to(nats)
    link.heard(state(name=name))
    with pytest.raises(NotAccepting, match=name.lower()):
        link.post(operate, Waiting())
    assert nats.sent == []


async def test_an_engine_that_was_never_heard_is_away(nats: FakeNats) -> None:
    """So is every engine while NATS is."""
    link = ShardLink(0, "gateway", nats.connection(), SUBJECTS, 5.0)
    with pytest.raises(NotAccepting, match="away"):
        link.post(operate, Waiting())
    link.heard(state())
    nats.is_connected = False
    with pytest.raises(NotAccepting, match="away"):
        link.post(operate, Waiting())


async def test_what_nobody_hears_was_certainly_not_executed(nats: FakeNats) -> None:
    """NATS says so at once: the engine is gone."""
    link, waiting = await link_to(nats), Waiting()
    link.post(operate, waiting)
    await settle()
    assert [type(each) for each in waiting.told] == [NotAccepting]


async def test_what_an_overtaken_engine_was_sent_is_unknown(nats: FakeNats) -> None:
    """It may have committed it before; what comes from now on goes to its successor."""
    await nats.hear("ome.test.cmd.0.*", lambda _subject, _data: None)
    link, first, second = await link_to(nats), Waiting(), Waiting()
    link.post(operate, first)
    await settle()
    link.heard(state(epoch=2))
    link.heard(state(epoch=1, name="HALTED"))  # the old one wakes up: it has nothing to say any more
    link.post(operate, second)
    await settle()
    assert [type(each) for each in first.told] == [OutcomeUnknown]
    assert len(nats.of("ome.test.cmd.0.2")) == 1
    assert second.told == []
    link.close()
    assert [type(each) for each in second.told] == [OutcomeUnknown]


async def test_without_an_answer_by_the_deadline_the_outcome_is_unknown(nats: FakeNats) -> None:
    """A deadline that has passed already stands for any."""
    await nats.hear("ome.test.cmd.0.1", lambda _subject, _data: None)
    link = await link_to(nats, wait_s=0.0)
    with pytest.raises(OutcomeUnknown):
        await link.ask(operate)


async def test_an_answer_waits_for_the_market_data_from_before_it(nats: FakeNats) -> None:
    """Whoever was answered finds what was answered in the book too; later answers don't pass it."""
    await nats.hear("ome.test.cmd.0.1", lambda _subject, _data: None)
    link, waiting = await link_to(nats), Waiting()
    link.follows = True
    link.catch_up(10)
    link.post(operate, waiting)
    link.post(operate, waiting)
    await settle()
    link.take(Reply(0, 12, [(1, Carried(1, []))]))
    link.take(Reply(0, 11, [(2, Carried(2, []))]))
    link.catch_up(11)
    assert waiting.told == []
    link.catch_up(12)
    assert waiting.told == [Carried(1, []), Carried(2, [])]


async def test_a_batch_that_has_joined_the_queue_is_told_before_its_answer(nats: FakeNats) -> None:
    """And still has its answer to come."""
    await nats.hear("ome.test.cmd.0.1", lambda _subject, _data: None)
    link, waiting, queued = await link_to(nats), Waiting(), list[str]()
    link.post(operate, waiting, lambda: queued.append("queued"))
    await settle()
    link.take(Reply(0, 11, [(1, Queued())]))
    assert (queued, waiting.told) == (["queued"], [])
    link.take(Reply(0, 11, [(1, Carried(1, []))]))
    await link.idle()
    assert waiting.told == [Carried(1, [])]
    assert not isinstance(waiting.told[0], OmeError)


async def test_an_engine_of_an_older_database_is_heard_once_the_newer_one_is_silent(
    nats: FakeNats, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backup was put back: epochs begin at a lower number, and no gateway has to be started anew for it."""
    await nats.hear("ome.test.cmd.0.3", lambda _subject, _data: None)
    link, waiting = await link_to(nats), Waiting()
    link.heard(state(epoch=9))
    link.heard(state(epoch=3))
    assert link.last == state(epoch=9)
    monkeypatch.setattr("ome.cluster.shard_link.SILENCE_S", 0.0)
    link.heard(state(epoch=3))
    monkeypatch.undo()
    assert link.state == "RUNNING"
    link.post(operate, waiting)
    await settle()
    assert len(nats.of("ome.test.cmd.0.3")) == 1
    link.close()
