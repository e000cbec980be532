"""A shard's database as one thing: who writes, who reads, and the archive. `open_storage` is the way in.

Nothing is connected before the repository's `start`, or a reader's first question.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from ome.db.archive import StoredArchive
from ome.db.beside import Beside, PostgresBeside
from ome.db.disk_reserve import DiskReserve
from ome.db.postgres import PostgresSession
from ome.db.read_models import StoredReads
from ome.db.readers import reader
from ome.db.repository import BatchRepository, Session, fenced
from ome.db.sqlite import SqliteSession
from ome.db.url import DatabaseUrl, parse_url
from ome.domain.errors import StorageError


class StorageOptions(Struct, frozen=True, kw_only=True):
    """What a storage can be told. `pool_size` connections read.

    `lease_s` seconds without a sign of life, and another engine on PostgreSQL is taken for gone; `standby`: one that is running
    is a reason to try again (StorageAway) instead of EngineRunning. `stalled` hears True when a commit's outcome isn't clear and
    False once it is, `failed` what the engine must stop for: it was overtaken, or the disk failed.

    On SQLite, `ballast_bytes` are kept in a file for when the disk is full; with less than `low_bytes` free `space_is_low` hears
    True, and False when there is space again; `measured` hears the bytes of the WAL and of what is free, every half second.
    """

    shard: int = 0
    pool_size: int = 5
    lease_s: float = 10.0
    standby: bool = False
    stalled: Callable[[bool], None] = lambda _: None
    ballast_bytes: int = 0
    low_bytes: int = 0
    space_is_low: Callable[[bool], None] = lambda _: None
    measured: Callable[[int, int], None] = lambda _wal, _free: None
    failed: Callable[[StorageError], None] = lambda _: None


ARCHIVE_CONNECTIONS: Final = 2
"""Connections that the archive reads from, so that its long questions stand in nobody's way."""


class Storage:
    """A shard's database: the one writer, `repository`, `reads`, which any number may ask at once, and the `archive`."""

    def __init__(self, url: DatabaseUrl, options: StorageOptions) -> None:
        shard = options.shard
        session: Session
        if url.kind == "sqlite":
            reserve = DiskReserve(Path(url.target), ballast_bytes=options.ballast_bytes, low_bytes=options.low_bytes)
            session = SqliteSession(url.target, shard, reserve, options)
        else:
            session = PostgresSession(url, shard, options.lease_s, lambda: options.failed(fenced(shard)))
        self.repository = BatchRepository(session, shard=shard, stalled=options.stalled, standby=options.standby)
        self.reads = StoredReads(url, shard=shard, pool_size=options.pool_size)
        self._beside: Beside = session if isinstance(session, SqliteSession) else PostgresBeside(url)
        self.archive = StoredArchive(url, shard, reader(url, ARCHIVE_CONNECTIONS), self._beside)
        self.shown_url = url.shown

    async def close(self) -> None:
        """Give back every connection and the lock; the readers go first, so that SQLite can empty its WAL."""
        await self.reads.close()
        await self.archive.close()
        await self._beside.close()
        await self.repository.close()


def open_storage(url: str, **options: Any) -> Storage:
    """The database that `url` (DATABASE_URL as people write it) names; `options` are those of StorageOptions.

    Raises StorageUnusable for a URL that can't be used.
    """
    return Storage(parse_url(url), StorageOptions(**options))
