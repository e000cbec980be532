"""A way to PostgreSQL that swallows what is sent and tells nobody: everything that waits on it gives up, and finds a new one."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from urllib.parse import urlsplit, urlunsplit

import pytest

from factories import resting_batch
from faults.proxy import Swallower
from ome.db import beside, postgres, readers
from ome.db.beside import PostgresBeside
from ome.db.connection import connect
from ome.db.storage import Storage, open_storage
from ome.db.url import parse_url
from ome.domain.errors import StorageAway

SOON_S = 0.05
"""What stands in for the times in which the service gives up."""
NOBODY = 99
MARK = "INSERT INTO archive_marks (shard, name, value) VALUES ($1, $2, $3)"


@pytest.fixture
async def way(postgres_url: str) -> AsyncIterator[Swallower]:
    """A proxy in front of the server."""
    proxy = Swallower(urlsplit(postgres_url).port or 5432)
    await proxy.start()
    yield proxy
    await proxy.close()


@pytest.fixture
def url(postgres_url: str, way: Swallower) -> str:
    """The database, by way of the proxy; asyncpg forgets an exception where TLS is tried and nobody answers."""
    parts = urlsplit(postgres_url)
    credentials, at, _ = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{credentials}{at}127.0.0.1:{way.port}", query="sslmode=disable"))


@pytest.fixture
async def storage(url: str) -> AsyncIterator[Storage]:
    """A storage with a batch in it, whose connections for reading and writing are all made."""
    storage = open_storage(url)
    await storage.repository.start()
    await storage.repository.commit(resting_batch(1, 1))
    assert await storage.reads.order(1) is not None
    yield storage
    await storage.close()


async def test_a_question_that_nobody_answers_is_put_again(
    storage: Storage, way: Swallower, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over a new connection: whoever asks hears nothing of it. An order's look-up of its client order id is such a question."""
    monkeypatch.setattr(readers, "SILENCE_S", SOON_S)
    with way.silence() as swallowed:
        asked = asyncio.create_task(storage.reads.order(1))
        await swallowed.wait()
        monkeypatch.undo()
    assert await asked is not None
    assert way.swallowed == 1


async def test_questions_are_given_up_while_the_silence_lasts(
    storage: Storage, way: Swallower, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each comes to its end, an error that may pass, and leaves its place to the next; afterwards all is well."""
    monkeypatch.setattr(readers, "SILENCE_S", SOON_S)
    with way.silence():
        for outcome in await asyncio.gather(*(storage.reads.order(1) for _ in range(12)), return_exceptions=True):
            assert isinstance(outcome, StorageAway)
    monkeypatch.undo()
    assert await storage.reads.order(1) is not None


async def test_a_commit_that_nobody_answers_is_looked_up(
    storage: Storage, way: Swallower, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over a new connection: it was not there, and is made."""
    monkeypatch.setattr(postgres, "COMMIT_TIMEOUT_S", SOON_S)
    with way.silence() as swallowed:
        commit = asyncio.create_task(storage.repository.commit(resting_batch(2, 1)))
        await swallowed.wait()
        monkeypatch.undo()
    await commit
    assert await storage.reads.order(2) is not None


@pytest.mark.usefixtures("storage")
async def test_derived_rows_that_nobody_takes_are_given_up(url: str, way: Swallower, monkeypatch: pytest.MonkeyPatch) -> None:
    """And written when they come again: neither the transaction's end nor the connection's is waited for."""
    derived = PostgresBeside(parse_url(url))
    assert await derived.write(None, [(MARK, [(NOBODY, "first", 1)])])
    monkeypatch.setattr(beside, "TIMEOUT_S", SOON_S)
    with way.silence(), pytest.raises(TimeoutError):
        await derived.write(None, [(MARK, [(NOBODY, "second", 2)])])
    monkeypatch.undo()
    assert await derived.write(None, [(MARK, [(NOBODY, "second", 2)])])
    await derived.close()


async def test_a_start_that_falls_silent_is_given_up(url: str, way: Swallower, monkeypatch: pytest.MonkeyPatch) -> None:
    """Taking the fence too: it is tried again, as for every database that is away."""
    storage = open_storage(url)
    await storage.repository.open()
    await storage.repository.migrate()
    monkeypatch.setattr(postgres.PostgresSession, "migrate", _nothing)
    monkeypatch.setattr(postgres, "FENCE_TIMEOUT_S", SOON_S)
    with way.silence(), pytest.raises(StorageAway):
        await storage.repository.start()
    monkeypatch.undo()
    await storage.repository.start()
    await storage.close()


async def test_the_kernel_asks_for_a_sign_of_life(postgres_url: str) -> None:
    """A statement that may take long is told that way from one that nobody will ever answer."""
    connection = await connect(postgres_url)
    connected = connection._transport.get_extra_info("socket")  # type: ignore[attr-defined]
    assert connected.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    assert connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 10
    await connection.close()


async def _nothing(_: object) -> None:
    """In place of what has been done."""
