"""What engines tell, kept by a real JetStream: read from any place, in order, and kept up whatever becomes of NATS."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest
from structlog.testing import capture_logs

from nats_server import NatsServer, running_nats
from ome.cluster.connection import NatsConnection, Unheard
from ome.cluster.event_log import EventLog, LogAway, LogTrimmed, history_of
from ome.cluster.follower import ShardFollower
from ome.cluster.publisher import Publisher
from ome.cluster.subjects import Subjects
from ome.cluster.wire import Books, Told
from ome.domain.events import BookChanged, CommandEvents
from ome.domain.ports import MarketData
from ome.observability import Metrics

INCARNATION = "0123456789abcdef"
HISTORY = history_of(INCARNATION)
CLUSTER_DOCUMENT = Path(__file__).parents[2] / "docs/cluster.md"
MIB = 1024 * 1024
SETTLES_WITHIN_S = 15.0


class Market:
    """A market without symbols."""

    def instruments(self) -> list[object]:
        """See MarketData."""
        return []


class Views:
    """Keeps what it was told of since it was loaded, and how often it was."""

    def __init__(self) -> None:
        self.loads = 0
        self.positions: list[tuple[int, int]] = []

    async def load(self, books: Books, *, anew: bool) -> None:
        """See follower.Views."""
        del anew
        self.loads += 1
        self.positions = [(0, books.position)]

    def committed(self, batch: Told) -> bool:
        """See follower.Views."""
        self.positions.append((batch.first, batch.last))
        return True


class Shard:
    """The engine's side of a shard: batches of one position after another."""

    def __init__(self, nats: NatsConnection, subjects: Subjects, log_bytes: int = 8 * MIB) -> None:
        self.position = 0
        self.epoch = 1
        self.publisher = Publisher(0, nats, subjects, cast("MarketData", Market()), lambda: (self.epoch, INCARNATION), log_bytes)

    def commit(self, count: int = 1, text: str = "") -> None:
        """So many batches; `text` is in each of them."""
        for _ in range(count):
            self.position += 1
            self.publisher.committed([BookChanged(text, self.position, 0, [])])
            self.publisher.commands_committed(self.position, list[CommandEvents]())


@pytest.fixture(scope="module")
def nats() -> Iterator[NatsServer]:
    """One server for all tests here: each has a cluster of its own."""
    with running_nats() as server:
        yield server


@pytest.fixture
def subjects() -> Subjects:
    """Those of a cluster that nobody else uses."""
    return Subjects(secrets.token_hex(4))


@asynccontextmanager
async def connected(server: NatsServer, name: str = "test") -> AsyncIterator[NatsConnection]:
    """A connection to a server."""
    connection = NatsConnection(server.url, name)
    await connection.open()
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def running_shard(nats: NatsConnection, subjects: Subjects, log_bytes: int = 8 * MIB) -> AsyncIterator[Shard]:
    """A shard that tells."""
    shard = Shard(nats, subjects, log_bytes)
    await shard.publisher.start(0)
    try:
        await begins(shard)
        yield shard
    finally:
        shard.publisher.stop()


async def begins(shard: Shard) -> None:
    """Wait until it has seen what JetStream has: before that nothing is told."""
    async with asyncio.timeout(SETTLES_WITHIN_S):
        while shard.publisher._holds:
            await asyncio.sleep(0.01)


async def kept(log: EventLog, position: int, history: str = HISTORY) -> list[tuple[int, int]]:
    """The positions of the batches that the log has behind a place."""
    return [(batch.first, batch.last) async for batch in log.after(position, history)]


async def reaches(log: EventLog, position: int) -> None:
    """Wait until the log has come so far."""
    async with asyncio.timeout(SETTLES_WITHIN_S):
        while True:
            try:
                last = await log.last()
            except LogAway:
                last = None
            if last is not None and last.last >= position:
                return
            await asyncio.sleep(0.01)


async def test_a_log_is_read_from_any_place(nats: NatsServer, subjects: Subjects, monkeypatch: pytest.MonkeyPatch) -> None:
    """All batches behind it, once each and in order, and none at the end; those of other histories aren't given out."""
    monkeypatch.setattr("ome.cluster.connection.JETSTREAM_S", SETTLES_WITHIN_S)  # however busy the machine is
    async with connected(nats) as connection, running_shard(connection, subjects) as shard:
        log = EventLog(0, connection, subjects)
        assert await kept(log, 0) == []
        shard.commit(140)
        await reaches(log, 140)
        for position in (0, 70, 140):
            assert await kept(log, position) == [(each, each) for each in range(position + 1, 141)]
        with pytest.raises(LogTrimmed):
            await kept(log, 10, "ffffffff")


async def test_a_batch_that_nats_would_refuse_for_its_size_is_kept_in_pieces(nats: NatsServer, subjects: Subjects) -> None:
    """The whole message is larger than NATS's limit; it comes out as it went in."""
    async with connected(nats) as connection, running_shard(connection, subjects, 64 * MIB) as shard:
        log = EventLog(0, connection, subjects)
        text = "x" * (connection.most_bytes + 1000)
        shard.commit(2)
        shard.commit(text=text)
        shard.commit(2)
        await reaches(log, 5)
        batches = [batch async for batch in log.after(1, HISTORY)]
        assert [batch.last for batch in batches] == [2, 3, 4, 5]
        assert [event.symbol for event in batches[1].events if isinstance(event, BookChanged)] == [text]


async def test_what_is_sent_twice_is_kept_once(nats: NatsServer, subjects: Subjects) -> None:
    """Each batch has an id of its own."""
    async with connected(nats) as connection, running_shard(connection, subjects) as shard:
        log = EventLog(0, connection, subjects)
        shard.commit(3)
        for sent in list(shard.publisher._recent):
            shard.publisher._send(sent)
        shard.commit()
        await reaches(log, 4)
        assert await kept(log, 0) == [(each, each) for each in range(1, 5)]


async def test_a_log_that_is_full_drops_what_is_oldest(nats: NatsServer, subjects: Subjects) -> None:
    """Whoever lacks that is told so; the rest can still be read."""
    async with connected(nats) as connection, running_shard(connection, subjects, MIB) as shard:
        log = EventLog(0, connection, subjects)
        shard.commit(40, "x" * 100_000)
        await reaches(log, 40)
        with pytest.raises(LogTrimmed):
            await kept(log, 3)
        assert await kept(log, 38) == [(39, 39), (40, 40)]


async def test_a_log_that_is_deleted_is_made_again(nats: NatsServer, subjects: Subjects) -> None:
    """Without anybody's help, and what is told from then on is in it; nobody who listens has noticed."""
    async with connected(nats) as connection, running_shard(connection, subjects) as shard:
        log, views = EventLog(0, connection, subjects), Views()
        follower = ShardFollower(0, connection, subjects, views, lambda _: None, log, Metrics())
        await follower.start()
        await follower.loaded.wait()
        shard.commit(5)
        await reaches(log, 5)
        await connection.jetstream().delete_stream(subjects.stream(0))
        with pytest.raises(LogAway, match="no stream"):
            await log.last()
        shard.commit(5)
        await reaches(log, 10)
        assert views.loads == 1
        assert views.positions == [(0, 0), *((each, each) for each in range(1, 11))]
        follower.stop()


async def test_a_log_of_positions_that_never_were_is_emptied(nats: NatsServer, subjects: Subjects) -> None:
    """A database that was put back goes on from an earlier position: nobody must resume into what isn't so any more (HOLE12)."""
    async with connected(nats) as connection:
        log = EventLog(0, connection, subjects)
        async with running_shard(connection, subjects) as shard:
            shard.commit(20)
            await reaches(log, 20)
        again = Shard(connection, subjects)
        again.position, again.epoch = 7, 2
        await again.publisher.start(7)
        again.commit()
        await begins(again)
        await reaches(log, 8)
        assert [(batch.first, batch.last) async for batch in log.after(7, HISTORY)] == [(8, 8)]
        again.publisher.stop()


@pytest.mark.parametrize("is_empty", [False, True])
async def test_what_is_told_while_nats_is_away_is_told_when_it_is_back(subjects: Subjects, *, is_empty: bool) -> None:
    """NATS is killed again and again, with its store or without: a gateway gets every batch, and never has to start anew."""
    with running_nats() as server:
        async with (
            connected(server, "engine") as one,
            connected(server, "gateway") as other,
            running_shard(one, subjects) as shard,
        ):
            log, views = EventLog(0, other, subjects), Views()
            follower = ShardFollower(0, other, subjects, views, lambda _: None, log, Metrics())
            await follower.start()
            await follower.loaded.wait()
            follower.notice(0, INCARNATION)
            for _ in range(2):
                shard.commit(50)
                server.stop(signal.SIGKILL)
                if is_empty:
                    server.forget()
                for _ in range(50):
                    shard.commit()
                    await asyncio.sleep(0)
                await asyncio.to_thread(server.start)
                async with asyncio.timeout(SETTLES_WITHIN_S):
                    while views.positions[-1][1] < shard.position:
                        if other.is_connected:
                            follower.notice(shard.position, INCARNATION)
                        await asyncio.sleep(0.1)
            assert views.loads == 1
            assert views.positions == [(0, 0), *((each, each) for each in range(1, 201))]
            follower.stop()


async def test_books_are_asked_for_until_nats_is_back(subjects: Subjects) -> None:
    """A gateway that has no books yet when NATS goes away gets them afterwards."""
    with running_nats() as server:
        async with connected(server, "engine") as one, connected(server, "gateway") as other:
            follower = ShardFollower(0, other, subjects, Views(), lambda _: None, EventLog(0, other, subjects), Metrics())
            await follower.start()
            server.stop(signal.SIGKILL)
            async with asyncio.timeout(SETTLES_WITHIN_S):
                while other.is_connected:
                    await asyncio.sleep(0.01)
            with pytest.raises(Unheard):
                await other.ask(subjects.snapshot(0), b"?", 1)
            await asyncio.to_thread(server.start)
            async with running_shard(one, subjects):
                await asyncio.wait_for(follower.loaded.wait(), SETTLES_WITHIN_S)
            follower.stop()


def permitted(subjects: Subjects) -> str:
    """Users of NATS who may do what docs/cluster.md says that each has to be permitted."""
    users = []
    for name, publishes, hears in re.findall(
        r"^\| (gateway|engine) \| (`.*`) \| (`.*`) \|$", CLUSTER_DOCUMENT.read_text(), re.MULTILINE
    ):
        allowed = [
            json.dumps([each.replace("CLUSTER", subjects.cluster).replace("_N", "_0").replace(".N", ".0") for each in listed])
            for listed in (re.findall(r"`([^`]+)`", publishes), re.findall(r"`([^`]+)`", hears))
        ]
        users.append(f"{{user: {name}, password: p, permissions: {{publish: {allowed[0]}, subscribe: {allowed[1]}}}}}")
    return f"authorization {{users: [{', '.join(users)}]}}\n"


async def test_what_the_document_permits_is_enough(subjects: Subjects) -> None:
    """An engine makes, empties and reads its stream; a gateway gets books, and reads what it has missed."""
    with running_nats(settings=permitted(subjects)) as server:
        address = server.url.partition("//")[2]
        one, other = (NatsConnection(f"nats://{user}:p@{address}", user) for user in ("engine", "gateway"))
        await one.open()
        await other.open()
        async with running_shard(one, subjects) as shard:
            log, views = EventLog(0, other, subjects), Views()
            follower = ShardFollower(0, other, subjects, views, lambda _: None, log, Metrics())
            await follower.start()
            await follower.loaded.wait()
            follower.notice(0, INCARNATION)
            shard.commit(3)
            await reaches(log, 3)
            assert await kept(log, 1) == [(2, 2), (3, 3)]
            assert views.positions == [(0, 0), (1, 1), (2, 2), (3, 3)]
            await EventLog(0, one, subjects).purge()
            assert await log.last() is None
            follower.stop()
        await one.close()
        await other.close()


async def test_a_server_without_jetstream_is_told_of_once_and_does_without(subjects: Subjects) -> None:
    """Batches are told as ever; a gap has the books asked for."""
    with running_nats(jetstream=False) as server, capture_logs() as logs:
        async with connected(server) as connection, running_shard(connection, subjects) as shard:
            views = Views()
            follower = ShardFollower(0, connection, subjects, views, lambda _: None, EventLog(0, connection, subjects), Metrics())
            await follower.start()
            await follower.loaded.wait()
            shard.commit(2)
            await shard.publisher._look()
            await shard.publisher._look()
            shard.position += 1  # a batch that was never told
            shard.publisher._position += 1
            shard.commit()
            async with asyncio.timeout(SETTLES_WITHIN_S):
                while views.positions[-1][1] < 4:
                    await asyncio.sleep(0.01)
            assert views.loads == 2
            follower.stop()
    said = [each for each in logs if each["event"] == "event_log_away"]
    assert [each["error"] for each in said] == ["this NATS server has no JetStream: start it with --jetstream"]
