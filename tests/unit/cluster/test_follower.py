"""A gateway's copy of what is public about a shard: every batch once, in order, whatever gets lost on the way."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator

import pytest
from msgspec import Raw

from nats_fake import FakeNats, settle
from ome.cluster import follower
from ome.cluster.event_log import LogAway, LogTrimmed
from ome.cluster.follower import ShardFollower
from ome.cluster.subjects import Subjects
from ome.cluster.wire import Books, Told, encode
from ome.domain.events import BookChanged

SUBJECTS = Subjects("test")
INCARNATION = "0123456789abcdef"


class Views:
    """Keeps the sequences that it was told of since it was loaded."""

    def __init__(self) -> None:
        self.loaded: list[int] = []
        self.anew: list[bool] = []
        self.sequences: list[int] = []
        self.waits_from = math.inf
        self.fails: Exception | None = None

    async def load(self, books: Books, *, anew: bool) -> None:
        """See follower.Views."""
        if self.fails is not None:
            raise self.fails
        self.loaded.append(books.position)
        self.anew.append(anew)
        self.sequences = []

    def committed(self, batch: Told) -> bool:
        """See follower.Views."""
        if batch.last >= self.waits_from:
            return False
        self.sequences += [event.sequence for event in batch.events if isinstance(event, BookChanged)]
        return True


class Counted:
    """What was missed, and by what it was made up for."""

    def __init__(self) -> None:
        self.gaps = 0
        self.mended: list[str] = []

    def market_data_gap(self) -> None:
        """See GapMetrics."""
        self.gaps += 1

    def market_data_mended(self, by: str) -> None:
        """See GapMetrics."""
        self.mended.append(by)


class Log:
    """What JetStream has: nothing where `batches` is None."""

    def __init__(self) -> None:
        self.batches: list[Told] | None = None
        self.asked: list[tuple[int, str]] = []
        self.missing: Exception = LogTrimmed("gone")

    async def after(self, position: int, history: str) -> AsyncGenerator[Told, None]:
        """See follower.Log."""
        self.asked.append((position, history))
        if self.batches is None:
            raise self.missing
        for batch in self.batches:
            await asyncio.sleep(0)
            yield batch


def batch(first: int, last: int, epoch: int = 1) -> Told:
    """A batch whose one change has its last position as sequence."""
    return Told(0, epoch, first, last, [BookChanged("AAPL", last, 0, [])], Raw(encode([])))


class Market0:
    """A follower of shard 0, and the engine's side of it."""

    def __init__(self) -> None:
        self.nats, self.views, self.seen, self.position, self.log = FakeNats(), Views(), list[int](), 10, Log()
        self.told = Counted()
        self.follower = ShardFollower(0, self.nats.connection(), SUBJECTS, self.views, self.seen.append, self.log, self.told)

    async def start(self) -> None:
        """The follower starts, and the engine answers."""
        await self.nats.answer("ome.test.snapshot.0", lambda _: encode(Books(0, self.position, [], [])))
        await self.follower.start()
        self.follower.notice(self.position, INCARNATION)

    def publish(self, first: int, last: int) -> None:
        """The engine tells of a batch."""
        self.nats.send("ome.test.told.0", encode(batch(first, last)))


async def test_batches_are_taken_in_behind_the_books() -> None:
    """What the books hold already is passed over, what comes again too."""
    market = Market0()
    await market.start()
    market.publish(9, 10)
    market.publish(11, 12)
    await settle()
    market.publish(13, 13)
    market.publish(13, 13)
    await settle()
    assert market.views.loaded == [10]
    assert market.views.sequences == [12, 13]
    assert market.seen[-2:] == [12, 13]
    assert market.follower.loaded.is_set()


async def test_a_lost_batch_is_read_in_the_log() -> None:
    """Behind where the views are, in the engine's history; what was told meanwhile follows, and nothing starts anew."""
    market = Market0()
    await market.start()
    await settle()
    market.log.batches = [batch(11, 12), batch(11, 12), batch(13, 13), batch(14, 14)]
    market.publish(14, 14)
    await settle()
    market.publish(15, 15)
    await settle()
    assert market.log.asked == [(10, INCARNATION[:8])]
    assert market.views.loaded == [10]
    assert (market.told.gaps, market.told.mended) == (1, ["log"])
    assert market.views.sequences == [12, 13, 14, 15]


async def test_what_the_log_has_in_another_order_is_told_in_the_right_one() -> None:
    """An engine sends again what may have got lost, behind what it has told since."""
    market = Market0()
    await market.start()
    await settle()
    market.log.batches = [batch(14, 14), batch(13, 13), batch(11, 12)]
    market.publish(15, 15)
    await settle()
    assert (market.views.loaded, market.views.sequences) == ([10], [12, 13, 14, 15])


async def test_what_is_sent_again_needs_no_log() -> None:
    """The missing batches may come behind the one that showed the gap."""
    market = Market0()
    await market.start()
    await settle()
    market.log.batches = []
    market.publish(12, 12)
    await settle()
    market.publish(11, 11)
    await settle()
    assert (market.views.loaded, market.views.sequences) == ([10], [11, 12])


@pytest.mark.parametrize("missing", [LogTrimmed("gone"), LogAway("no JetStream")])
async def test_what_the_log_lacks_is_made_up_for_by_the_books(missing: Exception) -> None:
    """Nothing is skipped and nothing doubled: what came after the gap is in the new books."""
    market = Market0()
    market.log.missing = missing
    await market.start()
    await settle()
    market.publish(11, 11)
    await settle()
    market.position = 14
    market.publish(13, 14)
    market.publish(15, 15)
    await settle()
    assert market.views.loaded == [10, 14]
    assert market.views.sequences == [15]
    assert market.seen[-1] == 15
    assert (market.told.gaps, market.told.mended) == (1, ["books"])


async def test_a_log_that_never_gets_it_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after an engine that has stopped between commit and telling."""
    monkeypatch.setattr(follower, "PAUSE_S", 0)
    market = Market0()
    await market.start()
    await settle()
    market.position, market.log.batches = 14, [batch(13, 14)]
    market.publish(13, 14)
    await settle()
    await settle()
    assert len(market.log.asked) == follower.LOOKS
    assert (market.views.loaded, market.views.sequences) == ([10, 14], [])


async def test_what_an_engine_that_has_gone_never_told_is_not_waited_for() -> None:
    """Another one has taken over: two looks, then the books."""
    market = Market0()
    await market.start()
    await settle()
    market.publish(11, 11)
    await settle()
    market.position, market.log.batches = 13, [batch(13, 13, epoch=2)]
    market.nats.send("ome.test.told.0", encode(batch(13, 13, epoch=2)))
    async with asyncio.timeout(10):
        while len(market.views.loaded) < 2:
            await asyncio.sleep(0.01)
    assert len(market.log.asked) == 2
    assert (market.views.loaded, market.views.sequences) == ([10, 13], [])


async def test_a_lost_last_batch_is_noticed() -> None:
    """The engine tells how far it is; what hasn't come by the next time that it does so is lost."""
    market = Market0()
    await market.start()
    await settle()
    market.log.batches = [batch(11, 12)]
    market.follower.notice(12, INCARNATION)
    await settle()
    assert market.views.sequences == []
    market.follower.notice(12, INCARNATION)
    await settle()
    assert (market.views.loaded, market.views.sequences) == ([10], [12])


async def test_another_history_starts_from_its_books() -> None:
    """A database that was put back has the same positions again, for other batches (HOLE12)."""
    market = Market0()
    await market.start()
    await settle()
    market.position, market.log.batches = 5, [batch(11, 11)]
    market.follower.notice(5, "fedcba9876543210")
    await settle()
    market.publish(6, 6)
    await settle()
    assert (market.views.loaded, market.views.sequences) == ([10, 5], [6])
    assert market.views.anew == [False, True]


async def test_books_that_are_older_than_what_was_told_are_asked_for_again() -> None:
    """As from an engine that answers before a batch is told, whose telling then gets lost."""
    market = Market0()
    market.nats.lose = "ome.test.snapshot"
    await market.start()
    market.publish(13, 13)
    await settle()
    market.nats.lose, market.position = "", 13
    await market.follower.loaded.wait()
    assert market.views.loaded == [13]
    assert market.seen == [13]


async def test_a_batch_that_has_to_wait_is_no_gap() -> None:
    """Nor is what comes behind it: all of it is taken in, in its order, once another shard has told what comes first."""
    market = Market0()
    await market.start()
    await settle()
    market.views.waits_from = 12
    for position in (11, 12, 13):
        market.publish(position, position)
    await settle()
    market.follower.notice(13, INCARNATION)
    market.follower.notice(13, INCARNATION)
    market.follower.resume()
    assert (market.follower.is_waiting, market.views.sequences, market.seen) == (True, [11], [10, 11])
    market.views.waits_from = math.inf
    market.follower.resume()
    assert (market.follower.is_waiting, market.views.sequences, market.seen[-1]) == (False, [11, 12, 13], 13)
    assert (market.views.loaded, market.log.asked, market.told.gaps) == ([10], [], 0)


async def test_what_got_lost_behind_a_batch_that_waits_is_read_in_the_log() -> None:
    """It is looked for as soon as the wait is over."""
    market = Market0()
    await market.start()
    await settle()
    market.views.waits_from = 11
    market.publish(11, 11)
    market.publish(13, 13)
    await settle()
    market.log.batches = [batch(12, 12)]
    market.views.waits_from = math.inf
    market.follower.resume()
    await settle()
    assert (market.views.loaded, market.views.sequences, market.told.mended) == ([10], [11, 12, 13], ["log"])


async def test_a_wait_in_vain_ends_with_the_books(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the other shard had to tell was lost with it."""
    monkeypatch.setattr(follower, "WAIT_S", 0)
    market = Market0()
    await market.start()
    await settle()
    market.views.waits_from, market.position = 11, 12
    market.publish(11, 11)
    market.publish(12, 12)
    await settle()
    market.views.waits_from = math.inf
    await settle()
    market.publish(13, 13)
    await settle()
    assert (market.views.loaded, market.views.sequences) == ([10, 12], [13])
    assert (market.told.gaps, market.told.mended) == (1, ["books"])


async def test_books_that_cannot_be_taken_in_are_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever stands against it: given up, the shard would stand still for good."""
    monkeypatch.setattr(follower, "BOOKS_PAUSE_S", 0)
    market = Market0()
    market.views.fails = RuntimeError("what nobody foresaw")
    await market.start()
    await settle()
    assert not market.follower.loaded.is_set()
    market.views.fails = None
    await market.follower.loaded.wait()
    assert market.views.loaded == [10]
