"""What is kept beside the batches, as its keepers and readers ask for it: the `Archive` of `domain.ports`.

Candles: a mark says which trade is the last in them; it moves in the transaction that changes them, from the value that was seen
and no other, so that each trade is counted once whoever counts and however often a write is repeated. Snapshots never change.
What is trimmed leaves a mark too: from before which time something is gone, so that who asks for it is told (D6).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from msgspec import msgpack

from ome.db import archive_sql, engine_snapshots, schema
from ome.db.beside import Beside, Write
from ome.db.engine_snapshots import SnapshotRow
from ome.db.queries import Query
from ome.db.readers import FAILURES, Reader
from ome.db.recovery import records, shard_ids
from ome.db.statements import POSTGRESQL, SQLITE
from ome.db.url import DatabaseUrl
from ome.domain.commands import Stamped, decode_commands
from ome.domain.errors import StorageAway
from ome.domain.ports import Recovered
from ome.domain.records import BookSnapshot, CandleRecord, TradeRecord

CANDLES: Final = "candles"
TRIMMED_BOOKS: Final = "trimmed book snapshots"
TRIMMED_CANDLES: Final = "trimmed candles of {seconds} s"
LAST_POSITION: Final = 2**62
ROWS_AT_ONCE: Final = 500
"""Rows that one transaction writes at most: on SQLite a batch may wait for it."""
POSITIONS_AT_ONCE: Final = 5_000
"""Positions whose commands one transaction trims."""

_Levels = list[tuple[int, int, int]]
_levels: Final = msgpack.Decoder(_Levels)


class StoredArchive:
    """The archive of one shard. Connects when asked; raises StorageAway where there is no answer."""

    def __init__(self, url: DatabaseUrl, shard: int, reader: Reader, beside: Beside) -> None:
        self._url = url
        self._reader = reader
        self._beside = beside
        self._shard = shard
        self._dialect = SQLITE if url.kind == "sqlite" else POSTGRESQL

    async def close(self) -> None:
        """Close the connections that it reads from."""
        await self._reader.close()

    async def last_trade_in_candles(self) -> int:
        """See `Archive`."""
        return await self._mark(CANDLES, shard_ids(self._shard)[0])

    async def trades_after(self, trade_id: int, limit: int, symbol: str | None = None) -> list[TradeRecord]:
        """See `Archive`."""
        query = archive_sql.trades_after(self._dialect, symbol=symbol is not None)
        high = shard_ids(self._shard)[1]
        return records(await self._rows(query, after=trade_id, high=high, symbol=symbol, limit=limit), TradeRecord)

    async def candle(self, symbol: str, seconds: int, open_time: int) -> CandleRecord | None:
        """See `Archive`."""
        query = archive_sql.candle(self._dialect)
        rows = await self._rows(query, symbol=symbol, seconds=seconds, open_time=open_time)
        return records(rows, CandleRecord)[0] if rows else None

    async def put_candles(self, candles: Sequence[CandleRecord], before: int, after: int) -> bool:
        """See `Archive`."""
        rows = [_values(candle) for candle in candles]
        put = archive_sql.put(self._dialect, schema.stored_candles, archive_sql.CANDLE_CHANGES)
        guard = (archive_sql.move_mark(self._dialect), [(self._shard, CANDLES, after, before)])
        return await self._write(guard, [(put, rows)])

    async def candles(
        self, symbol: str, seconds: int, start: int, end: int, limit: int, *, newest: bool = False
    ) -> list[CandleRecord]:
        """See `Archive`."""
        query = archive_sql.candles(self._dialect, newest=newest)
        rows = await self._rows(query, symbol=symbol, seconds=seconds, start=start, end=end, limit=limit)
        return records(rows, CandleRecord)

    async def put_books(self, books: Sequence[BookSnapshot]) -> None:
        """See `Archive`."""
        put = archive_sql.put(self._dialect, schema.book_snapshots)
        rows = [(*_values(book)[:4], msgpack.encode(book.bids), msgpack.encode(book.asks)) for book in books]
        for start in range(0, len(rows), ROWS_AT_ONCE):
            await self._write(None, [(put, rows[start : start + ROWS_AT_ONCE])])

    async def books(self, symbol: str, before: int, limit: int) -> list[BookSnapshot]:
        """See `Archive`."""
        rows = await self._rows(archive_sql.books(self._dialect), symbol=symbol, before=before, limit=limit)
        return [
            BookSnapshot(symbol, sequence, position, time, _levels.decode(bids), _levels.decode(asks))
            for symbol, sequence, position, time, bids, asks in rows
        ]

    async def book_position_after(self, symbol: str, sequence: int) -> int | None:
        """See `Archive`."""
        rows = await self._rows(archive_sql.position_of_book_after(self._dialect), symbol=symbol, sequence=sequence)
        return int(rows[0][0]) if rows else None

    async def take_engine_snapshot(self, least_commands: int) -> int | None:
        """See `Archive`."""
        try:
            return await engine_snapshots.take(self._url, self._shard, least_commands, self._beside)
        except FAILURES as error:
            raise StorageAway(f"The database can't take a snapshot: {error or type(error).__name__}.") from error

    async def engine_at(self, *, position: int | None = None, time: int | None = None) -> Recovered | None:
        """See `Archive`."""
        by, most = ("time", time) if time is not None else ("position", position)
        query = archive_sql.engine_snapshot(self._dialect, by=by)
        found = await self._rows(query, shard=self._shard, most=LAST_POSITION if most is None else most)
        if not found:
            return None
        row = records(found, SnapshotRow)[0]
        parts: list[bytes] = []
        query = archive_sql.engine_snapshot_part(self._dialect)
        while rows := await self._rows(query, shard=self._shard, position=row.position, part=len(parts)):
            parts.append(rows[0][0])
        return await asyncio.to_thread(engine_snapshots.recovered, row, parts)

    async def first_position(self) -> int:
        """See `Archive`."""
        return int((await self._rows(archive_sql.journal_begins(self._dialect), shard=self._shard))[0][0] or 1)

    async def commands_after(self, position: int, batches: int) -> list[Stamped]:
        """See `Archive`."""
        rows = await self._rows(archive_sql.journal_after(self._dialect), shard=self._shard, after=position, limit=batches)
        return [stamped for _, _, commands in rows for stamped in decode_commands(commands)]

    async def trim_journal(self, before: int) -> int:
        """See `Archive`."""
        found = await self._rows(archive_sql.newest_snapshot(self._dialect), shard=self._shard, time=before)
        if not found:
            return 0
        position, chain = found[0]
        stored = await self._rows(archive_sql.chain_at(self._dialect), shard=self._shard, position=position)
        if [(chain,)] != [(bytes(row[0]),) for row in stored]:
            return 0  # trimmed up to there already, or not this history's: then nothing is thrown away
        first = await self.first_position()
        for upto in range(first - 1, position, POSITIONS_AT_ONCE):
            end = min(upto + POSITIONS_AT_ONCE, position)
            await self._write(None, [(archive_sql.trim(self._dialect, "journal"), [(self._shard, end)])])
        for name in ("engine_snapshots", "engine_snapshot_orders"):
            await self._write(None, [(archive_sql.trim(self._dialect, name), [(self._shard, position)])])
        return int(position)

    async def trim_books(self, before: int) -> None:
        """See `Archive`."""
        if await self._rows(archive_sql.any_older(self._dialect, "book_snapshots"), time=before):
            await self._trim_derived("book_snapshots", TRIMMED_BOOKS, before, (before,))

    async def books_trimmed_before(self) -> int:
        """See `Archive`."""
        return await self._mark(TRIMMED_BOOKS, 0)

    async def trim_candles(self, seconds: int, before: int) -> None:
        """See `Archive`."""
        if await self._rows(archive_sql.any_older(self._dialect, "stored_candles"), seconds=seconds, time=before):
            await self._trim_derived("stored_candles", TRIMMED_CANDLES.format(seconds=seconds), before, (seconds, before))

    async def candles_trimmed_before(self, seconds: int) -> int:
        """See `Archive`."""
        return await self._mark(TRIMMED_CANDLES.format(seconds=seconds), 0)

    async def _trim_derived(self, table: str, name: str, before: int, values: tuple[int, ...]) -> None:
        """Delete, and leave the mark `name`, both or neither."""
        old = await self._mark(name, 0)
        guard = (archive_sql.move_mark(self._dialect), [(self._shard, name, max(before, old), old)])
        await self._write(guard, [(archive_sql.trim(self._dialect, table), [values])])

    async def _mark(self, name: str, default: int) -> int:
        rows = await self._rows(archive_sql.mark(self._dialect), shard=self._shard, name=name)
        return int(rows[0][0]) if rows else default

    async def _write(self, guard: Write | None, writes: Sequence[Write]) -> bool:
        try:
            return await self._beside.write(guard, writes)
        except FAILURES as error:
            raise StorageAway(f"The database can't take derived rows: {error or type(error).__name__}.") from error

    async def _rows(self, query: Query, **values: Any) -> list[tuple[Any, ...]]:
        try:
            return await self._reader.fetch(query.sql, query.parameters(values))
        except FAILURES as error:
            raise StorageAway(f"The database can't answer: {error or type(error).__name__}.") from error


def _values(record: CandleRecord | BookSnapshot) -> tuple[Any, ...]:
    return tuple(getattr(record, name) for name in record.__struct_fields__)
