"""When a read replica is asked, and when the primary: what it answers is what the primary would have answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from asyncpg import UndefinedTableError

import ome.db.replica
from ome.db.replica import Look, Marks, Replica, has_all
from ome.db.replica_reads import ReadReplica, ReplicaReads
from ome.domain.enums import OrderStatus
from ome.domain.errors import StorageAway, StorageUnusable
from ome.domain.ports import Page
from ome.observability import Metrics

POSTGRES = "postgresql://ome@127.0.0.1/ome"


class Told(Metrics):
    """What was counted."""

    def __init__(self) -> None:
        super().__init__()
        self.answered_by: list[str] = []
        self.lag = -1.0

    def replica_read(self) -> None:
        """See Metrics."""
        self.answered_by.append("copy")

    def replica_fell_back(self, cause: str) -> None:
        """See Metrics."""
        self.answered_by.append(cause)

    def replica_lag(self, seconds: float) -> None:
        """See Metrics."""
        self.lag = seconds


class FakeServer:
    """Says how far it is: `position` of shard 0, or what `fails` raises; `look` is called before."""

    def __init__(self, position: int) -> None:
        self.position = position
        self.epoch = 1
        self.incarnation = "one"
        self.fails: Exception | None = None
        self.asked = 0
        self.look: Callable[[], None] = lambda: None

    async def fetch(self, sql: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        """See Reader."""
        del sql, parameters
        self.asked += 1
        await asyncio.sleep(0)
        self.look()
        if self.fails is not None:
            raise self.fails
        return [(0, self.incarnation, self.epoch, self.position)]

    async def close(self) -> None:
        """See Reader."""


class Pair:
    """A primary and a copy, both at position 7, and a question to whoever may answer it."""

    def __init__(self) -> None:
        self.primary, self.copy = FakeServer(7), FakeServer(7)
        self.told = Told()
        self.replica = Replica(self.primary, self.copy, self.told)
        self.copy_fails: Exception | None = None

    async def ask(self, within_s: float | None = None) -> str:
        """Whose answer it was."""

        async def copy() -> str:
            if self.copy_fails is not None:
                raise self.copy_fails
            return "copy"

        async def primary() -> str:
            return "primary"

        return await self.replica.ask(copy, primary, within_s)


@asynccontextmanager
async def pair() -> AsyncIterator[Pair]:
    """Started, and closed at the end."""
    made = Pair()
    made.replica.start()
    await made.replica.looked()
    try:
        yield made
    finally:
        await made.replica.close()


async def test_a_copy_that_has_everything_is_asked() -> None:
    """And it is counted."""
    async with pair() as made:
        assert await made.ask() == "copy"
        assert (made.told.answered_by, made.told.lag) == (["copy"], 0.0)


async def test_a_question_waits_for_what_was_committed_before_it() -> None:
    """DUR4: a copy that is a moment behind is asked only once it has everything."""
    async with pair() as made:
        made.primary.position = 9
        looks = made.copy.asked

        def follow() -> None:
            if made.copy.asked == looks + 3:
                made.copy.position = 9

        made.copy.look = follow
        assert await made.ask() == "copy"
        assert made.copy.asked == looks + 3


async def test_a_copy_that_stays_behind_isnt_asked() -> None:
    """The primary is, and nobody else waits for that copy until it has caught up."""
    async with pair() as made:
        made.primary.position = 9
        assert await made.ask() == "primary"
        looks = made.copy.asked
        assert await made.ask() == "primary"
        assert made.copy.asked == looks
        assert made.told.answered_by == ["behind", "behind"]
        made.copy.position = 9
        async with asyncio.timeout(20):
            while await made.ask() != "copy":
                await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("cause", "change"),
    [
        ("away", lambda made: setattr(made.copy, "fails", OSError("gone"))),
        ("other", lambda made: setattr(made.copy, "incarnation", "two")),
        ("other", lambda made: setattr(made.copy, "fails", UndefinedTableError("no engine"))),
        ("primary", lambda made: setattr(made.primary, "fails", OSError("gone"))),
        ("behind", lambda made: setattr(made.primary, "epoch", 2)),
    ],
)
async def test_why_the_primary_is_asked(cause: str, change: Callable[[Pair], None]) -> None:
    """A copy that is gone, one of another history, one that lacks a takeover, and a primary that doesn't say what there is."""
    async with pair() as made:
        change(made)
        assert await made.ask() == "primary"
        assert made.told.answered_by == [cause]


async def test_the_log_says_when_a_copy_isnt_asked_and_why(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the start, and once for each change."""
    monkeypatch.setattr(ome.db.replica, "SAY_S", 0.0)
    caplog.set_level("INFO", "ome.db.replica")
    made = Pair()
    made.copy.fails = OSError("nobody listens")
    made.replica.start()
    await made.replica.looked()
    try:
        await made.ask()
        made.copy.fails = None
        async with asyncio.timeout(20):
            while await made.ask() != "copy":
                await asyncio.sleep(0.05)
    finally:
        await made.replica.close()
    said = [record.getMessage() for record in caplog.records]
    assert said == ["the read replica isn't asked: it doesn't answer. nobody listens", "the read replica is asked"]


async def test_the_log_isnt_filled_by_a_copy_that_comes_and_goes(caplog: pytest.LogCaptureFixture) -> None:
    """A change right after another isn't said before some time is over."""
    caplog.set_level("INFO", "ome.db.replica")
    async with pair() as made:
        made.copy_fails = StorageAway("gone")
        assert await made.ask() == "primary"
        made.copy_fails = None
        async with asyncio.timeout(20):
            while await made.ask() != "copy":
                await asyncio.sleep(0.05)
    assert [record.getMessage() for record in caplog.records] == ["the read replica is asked"]


async def test_a_copy_that_fails_costs_nobody_an_answer() -> None:
    """The question goes to the primary, whatever the copy's trouble is, also where it takes too long."""
    async with pair() as made:
        made.copy_fails = StorageAway("cancelled by recovery")
        assert await made.ask() == "primary"
        made.copy_fails = None
        assert await made.ask() == "primary"
        assert made.told.answered_by == ["away", "away"]
        with pytest.raises(KeyError):
            await Replica.ask(made.replica, _bug, _bug)


async def _bug() -> str:
    raise KeyError


async def test_however_many_ask_each_server_is_asked_once_at_a_time() -> None:
    """Those that come while a look is under way share the next one: theirs begins after they came."""
    server = FakeServer(1)
    look = Look(server)
    first = asyncio.create_task(look.take())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert server.asked == 1
    server.look = lambda: setattr(server, "position", server.asked)
    others = await asyncio.gather(*(look.take() for _ in range(20)))
    assert (server.asked, [marks[0][2] for marks in others]) == (2, [2] * 20)
    await first
    await look.close()


def test_what_a_copy_has() -> None:
    """Every shard's history, up to the same engine's last position."""
    primary: Marks = {0: ("a", 2, 10), 1: ("b", 1, 5)}
    assert has_all(primary, primary)
    assert has_all({0: ("a", 3, 11), 1: ("b", 1, 5)}, primary)
    for lacking in ({}, {0: ("a", 2, 10)}, primary | {1: ("b", 1, 4)}, primary | {0: ("a", 1, 10)}, primary | {1: ("c", 1, 5)}):
        assert not has_all(lacking, primary)


class Reads:
    """ReadModels whose trades come in pages, and whose copy fails after the first."""

    def __init__(self, *, fails: bool) -> None:
        self.fails = fails

    async def trades_since(self, moment_us: int) -> AsyncIterator[list[Any]]:
        """See ReadModels."""
        for page in ([1, 2], [3, 4]):
            yield [SimpleNamespace(id=moment_us + number) for number in page]
            if self.fails:
                raise StorageAway("gone")

    async def orders_of_user(self, *_: object, **__: object) -> list[str]:
        """See ReadModels."""
        return ["copy" if self.fails else "primary"]


async def test_the_primary_goes_on_where_the_copy_stopped() -> None:
    """A day's trades, read page by page, come once each."""
    async with pair() as made:
        reads: Any = ReplicaReads(made.replica, Reads(fails=True), Reads(fails=False))  # type: ignore[arg-type]
        async with aclosing(reads.trades_since(10)) as pages:
            assert [[trade.id for trade in page] async for page in pages] == [[11, 12], [13, 14]]


async def test_open_orders_are_the_primarys() -> None:
    """What is now isn't asked of a copy; what was is."""
    async with pair() as made:
        reads: Any = ReplicaReads(made.replica, Reads(fails=True), Reads(fails=False))  # type: ignore[arg-type]
        assert await reads.orders_of_user("ann", Page(), statuses=[OrderStatus.PENDING]) == ["primary"]
        assert await reads.orders_of_user("ann", Page(), statuses=[OrderStatus.FILLED]) == ["copy"]
        assert await reads.orders_of_user("ann", Page()) == ["copy"]


@pytest.mark.parametrize(
    ("url", "read_url", "words"),
    [
        ("sqlite:///ome.db", POSTGRES, "DATABASE_READ_URL is for PostgreSQL"),
        (POSTGRES, "sqlite:///ome.db", "DATABASE_READ_URL is for PostgreSQL"),
        (POSTGRES, "replica:5432", "DATABASE_READ_URL is no URL"),
    ],
)
def test_a_url_that_cant_be_used_is_refused(url: str, read_url: str, words: str) -> None:
    """By the name of its setting."""
    with pytest.raises(StorageUnusable, match=words):
        ReadReplica(url, read_url, shards=1, pool_size=1, told=Metrics())


async def test_without_a_url_there_is_no_replica() -> None:
    """Readers are the primary's own."""
    replica = ReadReplica("sqlite:///ome.db", "", shards=1, pool_size=1, told=Metrics())
    reads: Any = object()
    past: Any = object()
    replica.start()
    await replica.looked()
    assert (replica.reads(reads), replica.past(past, lambda _: past)) == (reads, past)
    await replica.close()
