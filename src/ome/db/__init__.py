"""Durability: one transaction per batch, recovery, and the committed data for readers, on SQLite and PostgreSQL.

`open_storage` is the way in. Nothing is connected before the repository's `start`, or a reader's first question.
"""

from __future__ import annotations

from collections.abc import Callable

from ome.db.postgres import PostgresSession
from ome.db.read_models import StoredReads
from ome.db.repository import BatchRepository, Session
from ome.db.sqlite import SqliteSession
from ome.db.url import DatabaseUrl, parse_url

__all__ = ["Storage", "open_storage"]


class Storage:
    """A shard's database: the one writer, `repository`, and `reads`, which any number may ask at once."""

    def __init__(self, url: DatabaseUrl, shard: int, stalled: Callable[[bool], None] | None, pool_size: int) -> None:
        session: Session = SqliteSession(url.target, shard) if url.kind == "sqlite" else PostgresSession(url, shard)
        self.repository = BatchRepository(session, shard=shard, stalled=stalled)
        self.reads = StoredReads(url, shard=shard, pool_size=pool_size)
        self.shown_url = url.shown

    async def close(self) -> None:
        """Give back every connection and the lock; the readers go first, so that SQLite can empty its WAL."""
        await self.reads.close()
        await self.repository.close()


def open_storage(
    url: str,
    *,
    shard: int = 0,
    stalled: Callable[[bool], None] | None = None,
    pool_size: int = 5,
) -> Storage:
    """The database that `url` (DATABASE_URL as people write it) names.

    `stalled` is called with True when a commit's outcome isn't clear and with False once it is. Raises StorageUnusable for a URL
    that can't be used.
    """
    return Storage(parse_url(url), shard, stalled, pool_size)
