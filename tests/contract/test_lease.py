"""Taking over on PostgreSQL from an engine that has said nothing for a whole lease, and leaving alone one that has."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import asyncpg
import pytest

from factories import resting_batch
from ome.db.postgres import PostgresSession
from ome.db.storage import Storage, open_storage
from ome.domain.errors import EngineRunning, Fenced, StandingBy, StorageError
from postgres import execute

SHORT_S = 0.3
"""A lease that has run out as soon as nobody renews it: the time in which the server wasn't there doesn't count."""
END_ALL = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()"
LOCKS = (
    "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database"
    " WHERE locktype = 'advisory' AND granted AND datname = current_database()"
)
LONG_AGO = "UPDATE lease SET renewed_at = renewed_at - interval '1 hour'"


@pytest.fixture(autouse=True)
def no_long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that is refused is refused soon."""
    monkeypatch.setattr("ome.db.postgres.LOCK_WAIT_S", 0.2)
    monkeypatch.setattr("ome.db.repository.FIRST_PAUSE_S", 0.001)


def silent(storage: Storage) -> None:
    """Let this engine renew its lease no more, as one that was stopped doesn't."""
    session = storage.repository._session
    assert isinstance(session, PostgresSession)
    assert session._lease._task is not None
    session._lease._task.cancel()


async def started(url: str, **options: Any) -> Storage:
    """An engine's storage, started."""
    storage = open_storage(url, **options)
    await storage.repository.start()
    return storage


async def test_an_engine_that_renews_its_lease_is_left_alone(postgres_url: str) -> None:
    """However long the second one tries: it is refused, or stands by, and the first goes on."""
    first = await started(postgres_url, lease_s=1)
    for standby, error in ((False, EngineRunning), (True, StandingBy)):
        second = open_storage(postgres_url, standby=standby, lease_s=1)
        with pytest.raises(error, match="nother engine is running"):
            await second.repository.open()
        await second.close()
    await first.repository.commit(resting_batch(1, 1))
    await first.close()


async def test_a_standby_starts_when_the_first_has_stopped(postgres_url: str) -> None:
    """The lock is free: no lease is waited for."""
    first, second = await started(postgres_url), open_storage(postgres_url, standby=True)
    with pytest.raises(StandingBy):
        await second.repository.open()
    await first.close()
    await second.repository.start()
    await second.repository.commit(resting_batch(1, 1))
    await second.close()


async def test_one_that_stops_as_soon_as_it_has_started_leaves_no_lease(postgres_url: str) -> None:
    """Nobody waits for an engine that was there for a moment, as commands of the command line are."""
    await (await started(postgres_url)).close()
    connection = await asyncpg.connect(postgres_url)
    assert await connection.fetchval("SELECT count(*) FROM lease") == 0
    await connection.close()


async def test_a_holder_that_says_nothing_is_taken_over_from_and_fenced(postgres_url: str) -> None:
    """DUR8, HOLE22: the second commits; the first, when it wakes up, commits nothing."""
    first = await started(postgres_url)
    await first.repository.commit(resting_batch(1, 1))
    silent(first)
    await execute(postgres_url, LONG_AGO)
    second = await started(postgres_url, lease_s=SHORT_S)
    assert (await second.repository.load()).state.position == 1
    await second.repository.commit(resting_batch(2, 1))
    with pytest.raises(Fenced):
        await first.repository.commit(resting_batch(2, 1))
    await second.repository.commit(resting_batch(3, 1))
    assert (await second.repository.load()).state.position == 3
    await first.close()
    await second.close()


async def test_a_connection_that_may_not_be_ended_is_no_obstacle(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """HOLE21: without rights to end the holder's connection, and without its lock, the fence is enough."""
    monkeypatch.setattr("ome.db.postgres._LOCK_LOOKS", 1)
    monkeypatch.setattr("ome.db.postgres._END_HOLDER", "SELECT pg_read_file('/etc/passwd'), $1::int, $2::int")
    role = f"r{abs(hash(postgres_url)) % 10**9}"
    await execute(
        postgres_url,
        f"CREATE ROLE {role} LOGIN PASSWORD 'x'",
        f"GRANT ALL ON SCHEMA public TO {role}",
    )
    first = await started(postgres_url)
    silent(first)
    await execute(postgres_url, LONG_AGO, f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
    second = await started(f"postgresql://{role}:x@{postgres_url.partition('@')[2]}", lease_s=SHORT_S)
    await second.repository.commit(resting_batch(1, 1))
    with pytest.raises(Fenced):
        await first.repository.commit(resting_batch(1, 1))
    await first.close()
    await second.close()
    await execute(postgres_url, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


async def test_an_idle_engine_notices_that_it_was_overtaken(postgres_url: str) -> None:
    """Its renewal finds another name: it hears so without having committed anything."""
    told: asyncio.Future[StorageError] = asyncio.get_running_loop().create_future()

    def overtaken(error: StorageError) -> None:
        if not told.done():
            told.set_result(error)

    first = await started(postgres_url, lease_s=0.15, failed=overtaken)
    assert not told.done()
    await execute(postgres_url, "UPDATE lease SET holder = 'somebody else'")
    error = await asyncio.wait_for(told, 20)
    assert "Another engine has taken over shard 0" in str(error)
    await first.close()


async def test_a_lease_is_renewed_again_after_its_connection_was_cut(postgres_url: str) -> None:
    """The row's time goes on although the server ended every connection of the engine."""
    first = await started(postgres_url, lease_s=0.15)
    connection = await asyncpg.connect(postgres_url)
    times = [await connection.fetchval("SELECT renewed_at FROM lease")]
    for _ in range(2):
        await connection.execute(END_ALL)
        while (now := await connection.fetchval("SELECT renewed_at FROM lease")) <= times[-1]:
            await asyncio.sleep(0.02)
        times.append(now)
    assert times[0] < times[1] < times[2]
    await first.repository.commit(resting_batch(1, 1))
    await first.close()
    with suppress(OSError):
        await connection.close()


async def test_an_idle_engine_retakes_its_lock(postgres_url: str) -> None:
    """DUR7: the lock goes with the connection when the server ends it, as in a restart; the next renewal has it again."""
    first = await started(postgres_url, lease_s=SHORT_S)
    connection = await asyncpg.connect(postgres_url)
    try:
        await connection.execute(END_ALL)
        while not await connection.fetchval(LOCKS):
            await asyncio.sleep(0.02)
        assert first.repository.epoch == await connection.fetchval("SELECT epoch FROM engine") == 1
    finally:
        await connection.close()
    await first.repository.commit(resting_batch(1, 1))
    await first.close()


async def test_a_living_engine_without_its_lock_is_left_alone(postgres_url: str) -> None:
    """DUR7: its connections were ended a moment ago and the lock is free, but it says that it lives: no takeover."""
    first = await started(postgres_url, lease_s=1)
    await execute(postgres_url, END_ALL)
    second = open_storage(postgres_url, lease_s=1)
    with pytest.raises(EngineRunning):
        await second.repository.open()
    await second.close()
    await first.repository.commit(resting_batch(1, 1))
    await first.close()


async def test_a_dead_engine_is_not_waited_for_longer_than_a_renewal_takes(postgres_url: str) -> None:
    """Killed, its lock free and its lease fresh: it is listened for, and then the next one starts, before the lease's end."""
    first = await started(postgres_url, lease_s=3)
    silent(first)
    await execute(postgres_url, END_ALL)
    second = await started(postgres_url, lease_s=3)
    connection = await asyncpg.connect(postgres_url)
    assert await connection.fetchval("SELECT epoch FROM engine") == 2
    await connection.close()
    await second.close()
    await first.close()


@pytest.mark.parametrize("step", ["_try_lock", "_head"])
async def test_a_look_that_hears_nothing_is_given_up(postgres_url: str, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """The way to the database swallows a step of looking up a commit: the next look goes over a new connection."""
    monkeypatch.setattr("ome.db.postgres.PROBE_TIMEOUT_S", 5.0)
    first = await started(postgres_url)
    real, hung = getattr(PostgresSession, step), list[str]()

    async def swallowed_once(session: PostgresSession, *given: Any) -> Any:
        if not hung:
            hung.append(step)
            await asyncio.Event().wait()
        return await real(session, *given)

    monkeypatch.setattr(PostgresSession, step, swallowed_once)
    for position in range(1, 10):  # whoever looks after the lock may come before the commit, and connect anew
        await execute(postgres_url, END_ALL)
        await first.repository.commit(resting_batch(position, 1))
        if hung:
            break
    assert hung == [step]
    await first.close()
