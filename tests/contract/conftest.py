"""One suite, every database: `database` is a fresh one of each kind, `storage` it opened as the engine opens it.

What many tests begin with is made once and copied (`Templates`): a schema, a history.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from databases import Database
from ome.db.storage import Storage, open_storage
from postgres import execute, with_database


class Templates:
    """Databases that are made once and copied into the empty ones of tests."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, Path] = {}
        self._databases: dict[str, str] = {}

    async def fill(self, database: Database, name: str, make: Callable[[str], Awaitable[object]]) -> None:
        """Let an empty database, which nobody is connected to, be what `make` makes of one, given its URL."""
        if database.kind == "sqlite":
            await self._fill_file(database, name, make)
        else:
            await self._fill_on_server(database, name, make)

    async def _fill_file(self, database: Database, name: str, make: Callable[[str], Awaitable[object]]) -> None:
        if name not in self._files:
            path = self._folder / f"{name}.db"
            await make(f"sqlite:///{path}")
            assert not path.with_name(f"{path.name}-wal").exists(), "the file is whole"
            self._files[name] = path
        shutil.copy(self._files[name], database.url.removeprefix("sqlite:///"))

    async def _fill_on_server(self, database: Database, name: str, make: Callable[[str], Awaitable[object]]) -> None:
        server, _, mine = database.url.rpartition("/")
        if name not in self._databases:
            template = f"ome_{uuid.uuid4().hex}"
            await execute(with_database(server, "postgres"), f"CREATE DATABASE {template}")
            await make(with_database(server, template))
            self._databases[name] = with_database(server, template)
        template = self._databases[name].rpartition("/")[2]
        await execute(with_database(server, "postgres"), f"DROP DATABASE {mine}", f"CREATE DATABASE {mine} TEMPLATE {template}")

    async def remove(self) -> None:
        """Drop those of a server that stays."""
        for url in self._databases.values():
            server, _, name = url.rpartition("/")
            await execute(with_database(server, "postgres"), f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Templates]:
    """For the whole run."""
    made = Templates(tmp_path_factory.mktemp("templates"))
    yield made
    if "TEST_POSTGRES_DSN" in os.environ:  # our own server is gone with all that it has
        asyncio.run(made.remove())


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    """A fresh, empty database of each kind."""
    if request.param == "sqlite":
        return Database("sqlite", f"sqlite:///{tmp_path}/orders.db", f"{tmp_path}/orders.db")
    url: str = request.getfixturevalue("postgres_url")
    return Database("postgresql", url, url)


@pytest.fixture
async def storage(database: Database, templates: Templates) -> AsyncIterator[Storage]:
    """The database as an engine has it: started, fenced, loaded from."""
    await templates.fill(database, "schema", migrated)
    storage = open_storage(database.url)
    await storage.repository.start()
    yield storage
    await storage.close()


async def migrated(url: str) -> None:
    """Make the tables, and nothing more."""
    storage = open_storage(url)
    await storage.repository.migrate()
    await storage.close()
