"""Starting on what is there: migrations, durability, and stored data that contradicts itself."""

from __future__ import annotations

import asyncio
import importlib
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, NullPool, create_engine
from sqlalchemy.ext.asyncio import create_async_engine

from databases import Database
from factories import a_batch, an_instrument, an_order, resting_batch, trading_batch
from ome.db import schema
from ome.db.migrate import REVISIONS
from ome.db.postgres import PostgresSession
from ome.db.sqlite import SqliteSession
from ome.db.storage import Storage, open_storage
from ome.domain.errors import StateMismatch, StorageUnusable
from postgres import execute, with_database


async def start(database: Database) -> None:
    """Start and load, as an engine does, and stop again."""
    storage = open_storage(database.url)
    try:
        await storage.repository.start()
        await storage.repository.load()
    finally:
        await storage.close()


def test_the_revisions_are_those_that_alembic_finds() -> None:
    """In their order, each follows the one before: a start asks that list, and brings alembic in for an older schema alone."""
    config = Config()
    config.set_main_option("script_location", "ome.db:migrations")
    found = [(script.revision, script.down_revision) for script in ScriptDirectory.from_config(config).walk_revisions()]
    assert found[::-1] == list(zip(REVISIONS, (None, *REVISIONS), strict=False))


async def test_starting_again_changes_nothing(storage: Storage, database: Database) -> None:
    """Migrations that were applied aren't applied again; what was committed stays."""
    await storage.repository.commit(trading_batch(1, 1))
    before = await database.counts()
    incarnation = await database.scalar("SELECT incarnation FROM engine")
    await storage.close()
    await start(database)
    await start(database)
    assert await database.counts() == before
    assert await database.fetch("SELECT version_num FROM alembic_version") == [(REVISIONS[-1],)]
    assert await database.fetch("SELECT epoch, incarnation FROM engine") == [(3, incarnation)]


async def test_a_newer_schema_is_refused(storage: Storage, database: Database) -> None:
    """A database that a newer version has migrated is left alone, with a sentence."""
    await storage.close()
    await database.fetch("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StorageUnusable, match="schema revision 9999, which this version of OME doesn't know"):
        await start(database)
    assert await database.scalar("SELECT epoch FROM engine") == 1


async def test_the_migrations_make_what_the_schema_says(storage: Storage, database: Database) -> None:
    """Tables, columns, nullability and indexes of the migrated database are those that statements are made from."""
    await storage.close()
    autogenerate = importlib.import_module("alembic.autogenerate")
    migration = importlib.import_module("alembic.runtime.migration")

    def differences(connection: Connection) -> list[Any]:
        context = migration.MigrationContext.configure(connection, opts={"compare_type": True})
        found: list[Any] = autogenerate.compare_metadata(context, schema.metadata)
        return found

    if database.kind == "sqlite":
        engine = create_engine(database.url, poolclass=NullPool)
        with engine.connect() as connection:
            assert differences(connection) == []
    else:
        async_engine = create_async_engine(database.url.replace("postgresql:", "postgresql+asyncpg:"), poolclass=NullPool)
        async with async_engine.connect() as async_connection:
            assert await async_connection.run_sync(differences) == []


TAMPERED = [
    ("UPDATE engine SET position = position + 1", "the journal's last position says 4, the engine row says 5"),
    ("UPDATE engine SET time = time + 1", "the journal's last time"),
    ("UPDATE engine SET trade_count = 7", "the newest trade says 1, the engine row's count says 7"),
    ("UPDATE engine SET chain_hash = (SELECT chain_before FROM journal WHERE last_position = 4)", "the journal's chain hash"),
    ("UPDATE engine SET state_hash = 'zz'", "The engine row can't be read"),
    ("UPDATE engine SET priority_count = 1", "priority beyond"),
    ("DELETE FROM journal WHERE last_position = 4", "the journal's last position says 2, the engine row says 4"),
    ("DELETE FROM journal", "the journal, which is empty, says 0"),
    ("UPDATE journal SET commands = chain_before WHERE last_position = 4", "the hash of the journal's last row"),
    ("UPDATE journal SET first_position = 1 WHERE last_position = 4", "the hash of the journal's last row"),
    ("DELETE FROM journal WHERE last_position < 4", "The journal begins at position 3, and there is no snapshot"),
    ("DELETE FROM event_batches WHERE last_position = 4", "the newest batch of events says 2"),
    ("DELETE FROM stored_trades", "the newest trade says 0"),
    ("UPDATE stored_orders SET status = 2, priority = 2 WHERE id IN (1, 2)", "Orders [12] and [12] have the same priority"),
    ("UPDATE stored_orders SET status = 2 WHERE id = 2", "Order 2 waits for a price, and its terms are missing"),
    ('UPDATE stored_orders SET terms = \'{"stop_price": "low"}\' WHERE id = 2', "A stored OrderRecord can't be read"),
    ("UPDATE stored_orders SET terms = 'nonsense' WHERE id = 2", "A stored OrderRecord can't be read"),
    ("UPDATE stored_instruments SET rules = '[]'", "A stored InstrumentRecord can't be read"),
    ("UPDATE stored_orders SET id = 99 WHERE id = 2", "Order 99 is newer than the engine row"),
    ("UPDATE stored_orders SET side = 9 WHERE id = 2", "A stored OrderRecord can't be read: Invalid enum value 9"),
    ("UPDATE stored_instruments SET state = 9", "A stored InstrumentRecord can't be read"),
]


@pytest.mark.parametrize(("tamper", "sentence"), TAMPERED)
async def test_data_that_contradicts_itself_is_refused(storage: Storage, database: Database, tamper: str, sentence: str) -> None:
    """Each row that was changed, lost or added behind the engine's back is named, and the engine doesn't start."""
    await storage.repository.commit(a_batch(1, 2, orders=[an_order(1), an_order(2)], instruments=[an_instrument()]))
    await storage.repository.commit(trading_batch(3, 1))
    await storage.close()
    await start(database)
    await database.fetch(tamper)
    with pytest.raises(StateMismatch, match=sentence):
        await start(database)


async def test_another_journal_format_is_refused(storage: Storage, database: Database) -> None:
    """Bytes of another meaning aren't read."""
    await storage.close()
    await database.fetch("UPDATE engine SET journal_format = 2")
    with pytest.raises(StorageUnusable, match="journal format 2; this version of OME reads 1"):
        await start(database)


async def test_a_place_that_cannot_be_used_is_said_so(tmp_path: Path, postgres_url: str) -> None:
    """A missing folder, a file that is no database, an unknown database, nobody listening: a sentence, never a driver's error."""
    (tmp_path / "text.db").write_text("this is a text, not a database, and long enough to be one" * 100)
    places = [
        (f"sqlite:///{tmp_path}/nowhere/x.db", "There is no folder"),
        (f"sqlite:///{tmp_path}/text.db", "file is not a database"),
        (with_database(postgres_url, "missing"), 'database "missing" does not exist. Check DATABASE_URL'),
        ("postgresql://ome:secret@127.0.0.1:1/ome", "can't be reached at postgresql://ome:[*]{3}@127.0.0.1:1/ome"),
    ]
    for url, sentence in places:
        storage = open_storage(url)
        with pytest.raises(StorageUnusable, match=sentence) as raised:
            await storage.repository.start()
        assert "secret" not in str(raised.value)
        await storage.close()


async def test_a_role_without_rights_is_told_what_to_run(postgres_url: str) -> None:
    """On PostgreSQL 15 and later an ordinary role can't make tables in schema public: the sentence has the GRANT."""
    role = f"r{abs(hash(postgres_url)) % 10**9}"
    await execute(postgres_url, "REVOKE CREATE ON SCHEMA public FROM PUBLIC", f"CREATE ROLE {role} LOGIN PASSWORD 'secret'")
    place = postgres_url.partition("@")[2]
    storage = open_storage(f"postgresql://{role}:secret@{place}")
    try:
        with pytest.raises(StorageUnusable, match=f'GRANT CREATE, USAGE ON SCHEMA public TO "{role}";'):
            await storage.repository.start()
        await execute(postgres_url, f'GRANT CREATE, USAGE ON SCHEMA public TO "{role}"')
        await storage.repository.start()
        await storage.repository.commit(resting_batch(1, 1))
    finally:
        await storage.close()
        await execute(postgres_url, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


async def test_weak_durability_is_refused_or_said(postgres_url: str) -> None:
    """synchronous_commit=off is refused; a server without fsync is used and called relaxed."""
    name = postgres_url.rpartition("/")[2]
    await execute(postgres_url, f"ALTER DATABASE {name} SET synchronous_commit = off")
    storage = open_storage(postgres_url)
    with pytest.raises(StorageUnusable, match="synchronous_commit=off"):
        await storage.repository.start()
    await execute(postgres_url, f"ALTER DATABASE {name} RESET synchronous_commit")
    await storage.repository.start()
    session = storage.repository._session
    assert isinstance(session, PostgresSession)
    assert session._connection is not None
    flushes = await session._connection.fetchval("SHOW fsync") == "on"
    assert storage.repository.durability == ("full" if flushes else "relaxed")
    await storage.close()


async def test_sqlite_is_opened_for_durability(tmp_path: Path) -> None:
    """WAL and synchronous=FULL at each connect; the WAL is empty after a close, and the lock file names the process."""
    path = tmp_path / "orders.db"
    storage = open_storage(f"sqlite:///{path}")
    await storage.repository.start()
    session = storage.repository._session
    assert isinstance(session, SqliteSession)

    def pragmas() -> tuple[Any, ...]:
        connection = session._work._connected()
        return tuple(connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous"))

    assert await session._on_thread(pragmas) == ("wal", 2)
    assert storage.repository.durability == "full"
    await storage.repository.commit(resting_batch(1, 5))
    assert path.with_name("orders.db-wal").stat().st_size > 0
    await storage.close()
    assert not path.with_name("orders.db-wal").exists()
    assert path.with_name("orders.db.engine.lock").exists()


async def test_a_reader_in_its_middle_keeps_sqlite_from_starting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The WAL must be in the file before anything is written; whoever reads from it is named as the obstacle."""
    monkeypatch.setattr("ome.db.sqlite.BUSY_TIMEOUT_MS", 1)
    path = tmp_path / "orders.db"
    url = f"sqlite:///{path}"
    storage = open_storage(url)
    await storage.repository.start()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN")
    other.execute("SELECT * FROM engine").fetchall()
    await storage.repository.commit(resting_batch(1, 1))
    await storage.close()
    again = open_storage(url)
    with pytest.raises(StorageUnusable, match="Another program is in the middle of reading"):
        await again.repository.start()
    other.close()
    await again.repository.start()
    assert (await again.repository.load()).state.position == 1
    await again.close()


async def test_readers_of_sqlite_cannot_write(storage: Storage) -> None:
    """Whatever a question says, it changes nothing; on PostgreSQL rights are the operator's to give."""
    if not isinstance(storage.repository._session, SqliteSession):
        pytest.skip("on PostgreSQL rights are the operator's to give")
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        await storage.reads._reader.fetch("UPDATE engine SET epoch = 9", ())


async def test_many_questions_share_few_connections(database: Database) -> None:
    """More questions than connections: each waits its turn and gets its own answer."""
    storage = open_storage(database.url, pool_size=2)
    await storage.repository.start()
    await storage.repository.commit(resting_batch(1, 40))
    found = await asyncio.gather(*(storage.reads.order(number) for number in range(1, 41)))
    assert [order.id for order in found if order] == list(range(1, 41))
    await storage.close()


async def test_readers_come_back_after_the_server_cut_them_off(postgres_url: str) -> None:
    """Connections that PostgreSQL has ended are made anew, without an error to whoever asks next."""
    storage = open_storage(postgres_url)
    await storage.repository.start()
    await storage.repository.commit(resting_batch(1, 1))
    assert await storage.reads.order(1) is not None
    ended = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()"
    )
    await execute(postgres_url, ended)
    assert await storage.reads.order(1) is not None
    await storage.repository.commit(resting_batch(2, 1))
    await storage.close()


async def test_a_database_that_is_gone_gives_no_drivers_error(tmp_path: Path) -> None:
    """Whoever asks is told that there is no answer, in the language of the domain."""
    storage = open_storage(f"sqlite:///{tmp_path}/nothing.db")
    with pytest.raises(StorageUnusable, match="can't answer: no such table"):
        await storage.reads.order(1)
    await storage.close()
