"""A gateway's copy of what is public about a shard: every batch once, in order, whatever gets lost on the way."""

from __future__ import annotations

from msgspec import Raw

from nats_fake import FakeNats, settle
from ome.cluster.follower import ShardFollower
from ome.cluster.subjects import Subjects
from ome.cluster.wire import Books, Told, encode
from ome.domain.events import BookChanged

SUBJECTS = Subjects("test")


class Views:
    """Keeps the sequences that it was told of since it was loaded."""

    def __init__(self) -> None:
        self.loaded: list[int] = []
        self.sequences: list[int] = []

    async def load(self, books: Books) -> None:
        """See follower.Views."""
        self.loaded.append(books.position)
        self.sequences = []

    def committed(self, batch: Told) -> None:
        """See follower.Views."""
        self.sequences += [event.sequence for event in batch.events if isinstance(event, BookChanged)]


def batch(first: int, last: int) -> Told:
    """A batch whose one change has its last position as sequence."""
    return Told(0, 1, first, last, [BookChanged("AAPL", last, 0, [])], Raw(encode([])))


class Market0:
    """A follower of shard 0, and the engine's side of it."""

    def __init__(self) -> None:
        self.nats, self.views, self.seen, self.position = FakeNats(), Views(), list[int](), 10
        self.follower = ShardFollower(0, self.nats.connection(), SUBJECTS, self.views, self.seen.append)

    async def start(self) -> None:
        """The follower starts, and the engine answers."""
        await self.nats.answer("ome.test.snapshot.0", lambda _: encode(Books(0, self.position, [], [])))
        await self.follower.start()

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
    assert market.seen == [12, 12, 13]
    assert market.follower.loaded.is_set()


async def test_a_lost_batch_has_the_books_asked_for_again() -> None:
    """Nothing is skipped and nothing doubled: what came after the gap is in the new books."""
    market = Market0()
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


async def test_a_lost_last_batch_is_noticed() -> None:
    """The engine tells how far it is; what hasn't come by the next time that it does so is lost."""
    market = Market0()
    await market.start()
    await settle()
    market.position = 12
    market.follower.notice(12)
    await settle()
    assert market.views.loaded == [10]
    market.follower.notice(12)
    await settle()
    assert market.views.loaded == [10, 12]


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
