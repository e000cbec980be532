"""One suite, every database: `database` is a fresh one of each kind, `storage` it opened as the engine opens it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from databases import Database
from ome.db import Storage, open_storage


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    """A fresh, empty database of each kind."""
    if request.param == "sqlite":
        return Database("sqlite", f"sqlite:///{tmp_path}/orders.db", f"{tmp_path}/orders.db")
    url: str = request.getfixturevalue("postgres_url")
    return Database("postgresql", url, url)


@pytest.fixture
async def storage(database: Database) -> AsyncIterator[Storage]:
    """The database as an engine has it: started, fenced, loaded from."""
    storage = open_storage(database.url)
    await storage.repository.start()
    yield storage
    await storage.close()
