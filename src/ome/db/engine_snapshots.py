"""Snapshots of all that the engine knows, taken from its tables while it goes on: where a replay of the journal can start.

A snapshot is read in one read transaction, off the event loop and in small pieces, and written beside the batches: its open
orders in parts first, the row that names it last, so that half a snapshot is none. It carries the state hash and the head of the
journal's chain, so that a replay can be checked from it on, and the journal before it may be trimmed (D6).
"""

from __future__ import annotations

import asyncio
import sqlite3
import zlib
from collections.abc import Iterable, Sequence
from contextlib import closing
from typing import Any, Final

from msgspec import Struct, msgpack

from ome.db import archive_sql, schema
from ome.db.beside import Beside, Write
from ome.db.connection import connect
from ome.db.recovery import EngineRow, records, shard_ids
from ome.db.statements import POSTGRESQL, SQLITE
from ome.db.url import DatabaseUrl
from ome.domain.ports import Recovered
from ome.domain.records import (
    AssetRecord,
    BalanceRecord,
    ControlRecord,
    EngineSettings,
    EngineState,
    InstrumentRecord,
    OrderRecord,
    PositionRecord,
)

ORDERS_IN_A_PART: Final = 20_000
ORDERS_AT_ONCE: Final = 500
"""Orders that are worked on without a break: about a millisecond."""
_LEVEL: Final = 1
"""Of zlib: most of the saving for little of the time."""

_orders: Final = msgpack.Decoder(list[OrderRecord])
_instruments: Final = msgpack.Decoder(list[InstrumentRecord])
_controls: Final = msgpack.Decoder(list[ControlRecord])
_positions: Final = msgpack.Decoder(list[PositionRecord])
_funds: Final = msgpack.Decoder(tuple[list[BalanceRecord], list[AssetRecord]])


class SnapshotRow(Struct, frozen=True, array_like=True):
    """A row of `engine_snapshots`, in the order of its columns."""

    shard: int
    position: int
    time: int
    trade_count: int
    priority_count: int
    settings: bytes
    state_hash: str
    chain_hash: bytes
    journal_format: int
    instruments: bytes
    orders: int
    positions: bytes | None = None
    funds: bytes | None = None
    controls: bytes | None = None


class Picture(Struct):
    """What was read: the engine row, the instruments, and the open orders in parts, each encoded already."""

    engine: EngineRow
    instruments: list[InstrumentRecord]
    positions: bytes
    funds: bytes | None
    controls: bytes
    parts: list[bytes]
    orders: int

    def row(self) -> SnapshotRow:
        """The row that names the snapshot."""
        engine = self.engine
        return SnapshotRow(
            engine.shard,
            engine.position,
            engine.time,
            engine.trade_count,
            engine.priority_count,
            engine.settings,
            engine.state_hash or "",
            engine.chain_hash,
            engine.journal_format,
            zlib.compress(msgpack.encode(self.instruments), _LEVEL),
            self.orders,
            self.positions,
            self.funds,
            self.controls,
        )


class Parts:
    """Open orders on their way into parts."""

    def __init__(self) -> None:
        self.orders = 0
        self._part: list[OrderRecord] = []
        self._done: list[bytes] = []

    def add(self, rows: Iterable[Sequence[Any]]) -> None:
        """Take in rows of orders."""
        found = records(rows, OrderRecord)
        self.orders += len(found)
        self._part += found
        if len(self._part) >= ORDERS_IN_A_PART:
            self._close()

    def done(self) -> list[bytes]:
        """All of them."""
        if self._part:
            self._close()
        return self._done

    def _close(self) -> None:
        self._done.append(zlib.compress(msgpack.encode(self._part), _LEVEL))
        self._part = []


def _packed(rows: Iterable[Sequence[Any]], kind: type[PositionRecord | ControlRecord]) -> bytes:
    return zlib.compress(msgpack.encode(records(rows, kind)), _LEVEL)


def _packed_funds(balances: Iterable[Sequence[Any]], assets: Iterable[Sequence[Any]]) -> bytes | None:
    funds = (records(balances, BalanceRecord), records(assets, AssetRecord))
    return zlib.compress(msgpack.encode(funds), _LEVEL) if any(funds) else None


def enough_since(newest: int | None, row: EngineRow, orders: int, least: int) -> bool:
    """Whether a snapshot is worth its while: a replay from the newest one would take longer than loading another."""
    if row.position == 0 or row.state_hash is None:
        return False
    return newest is None or row.position - newest >= max(least, orders)


async def picture(url: DatabaseUrl, shard: int, least: int) -> Picture | None:
    """All that the engine knows at the last commit; None where that isn't worth a snapshot yet."""
    if url.kind == "sqlite":
        return await asyncio.to_thread(_picture_of_sqlite, url.target, shard, least)
    return await _picture_of_postgres(url, shard, least)


def writes(taken: Picture, dialect: Any) -> list[Write]:
    """What has to be written, in this order."""
    row = taken.row()
    part = archive_sql.put(dialect, schema.engine_snapshot_orders)
    head = archive_sql.put(dialect, schema.engine_snapshots)
    parts = [(part, [(row.shard, row.position, number, orders)]) for number, orders in enumerate(taken.parts)]
    return [*parts, (head, [tuple(getattr(row, name) for name in row.__struct_fields__)])]


def recovered(row: SnapshotRow, parts: Iterable[bytes]) -> Recovered:
    """What an engine starts from."""
    balances, assets = ([], []) if row.funds is None else _funds.decode(zlib.decompress(row.funds))
    state = EngineState(
        shard=row.shard,
        position=row.position,
        time=row.time,
        trade_count=row.trade_count,
        priority_count=row.priority_count,
        settings=msgpack.decode(row.settings, type=EngineSettings),
        instruments=_instruments.decode(zlib.decompress(row.instruments)),
        orders=[order for part in parts for order in _orders.decode(zlib.decompress(part))],
        positions=[] if row.positions is None else _positions.decode(zlib.decompress(row.positions)),
        balances=balances,
        assets=assets,
        controls=[] if row.controls is None else _controls.decode(zlib.decompress(row.controls)),
    )
    return Recovered(state, int(row.state_hash, 16))


async def take(url: DatabaseUrl, shard: int, least: int, beside: Beside) -> int | None:
    """Take a snapshot; its position, or None where it isn't worth its while. Raises what the drivers raise."""
    taken = await picture(url, shard, least)
    if taken is None:
        return None
    for write in writes(taken, SQLITE if url.kind == "sqlite" else POSTGRESQL):
        await beside.write(None, [write])
    return taken.engine.position


def _picture_of_sqlite(path: str, shard: int, least: int) -> Picture | None:
    sql = archive_sql.snapshot_sources(SQLITE)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA query_only = ON")
        connection.execute("BEGIN")
        (engine,) = records(connection.execute(sql.engine, (shard,)).fetchall() or [()], EngineRow)
        (newest,) = connection.execute(sql.newest, (shard,)).fetchone()
        (orders,) = connection.execute(sql.open_orders, shard_ids(shard)).fetchone()
        if not enough_since(newest, engine, orders, least):
            return None
        instruments = records(connection.execute(sql.instruments, (shard,)).fetchall(), InstrumentRecord)
        positions = _packed(connection.execute(sql.positions, (shard,)), PositionRecord)
        funds = _packed_funds(connection.execute(sql.balances, (shard,)), connection.execute(sql.assets, (shard,)))
        controls = _packed(connection.execute(sql.controls, (shard,)), ControlRecord)
        parts, cursor = Parts(), connection.execute(sql.orders, shard_ids(shard))
        while rows := cursor.fetchmany(ORDERS_AT_ONCE):
            parts.add(rows)
        return Picture(engine, instruments, positions, funds, controls, parts.done(), parts.orders)


async def _picture_of_postgres(url: DatabaseUrl, shard: int, least: int) -> Picture | None:
    sql = archive_sql.snapshot_sources(POSTGRESQL)
    connection = await connect(url.target)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            (engine,) = records(map(tuple, await connection.fetch(sql.engine, shard)), EngineRow)
            newest = await connection.fetchval(sql.newest, shard)
            orders = await connection.fetchval(sql.open_orders, *shard_ids(shard))
            if not enough_since(newest, engine, orders, least):
                return None
            instruments = records(map(tuple, await connection.fetch(sql.instruments, shard)), InstrumentRecord)
            held = list(map(tuple, await connection.fetch(sql.positions, shard)))
            positions = await asyncio.to_thread(_packed, held, PositionRecord)
            has = [list(map(tuple, await connection.fetch(query, shard))) for query in (sql.balances, sql.assets)]
            funds = await asyncio.to_thread(_packed_funds, *has)
            controls = _packed(map(tuple, await connection.fetch(sql.controls, shard)), ControlRecord)
            parts, cursor = Parts(), await connection.cursor(sql.orders, *shard_ids(shard))
            while rows := await cursor.fetch(ORDERS_AT_ONCE):
                parts.add(map(tuple, rows))
                await asyncio.sleep(0)
            return Picture(engine, instruments, positions, funds, controls, parts.done(), parts.orders)
    finally:
        await connection.close(timeout=1)
