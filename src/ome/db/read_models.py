"""Committed data for readers: the `ReadModels` of `domain.ports`, through SQLAlchemy's async Core, on connections of their own.

Cost: everything is found by an index, and no list reads more than its page, with two exceptions: a filter by symbol or by an
ended status reads through the user's own orders, and trades of a user or an order come out of the batches of events that hold
one, newest first, a few batches at a time, giving way to others between them.

Each answer is of one moment, after every commit that had returned when it was asked for: it comes from one statement, or from
several about what never changes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final

import asyncpg
from sqlalchemy import URL, ColumnElement, FromClause, Row, Select, and_, event, func, select, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from ome.db.recovery import records, shard_ids
from ome.db.schema import OPEN, event_batches, event_orders, event_users, stored_instruments, stored_orders, stored_trades
from ome.db.url import DatabaseUrl
from ome.domain.enums import LAST_OPEN, OrderStatus
from ome.domain.events import (
    CommandEvents,
    CommandRefused,
    PrivateEvent,
    SelfTradePrevented,
    Traded,
    decode_events,
)
from ome.domain.ids import SHARD_STEP
from ome.domain.ports import Page
from ome.domain.records import OrderRecord, TradeRecord

BATCHES_AT_ONCE: Final = 8
"""Batches of events that are fetched by one statement while looking for trades."""
TRADES_AT_ONCE: Final = 10_000
"""Trades that are fetched by one statement on the way back to a moment."""
BUSY_TIMEOUT_S: Final = 5.0


class StoredReads:
    """The `ReadModels` over the tables of one shard. Connects when first asked."""

    def __init__(self, url: DatabaseUrl, *, shard: int, pool_size: int) -> None:
        self._engine = _sqlite_engine(url, pool_size) if url.kind == "sqlite" else _postgresql_engine(url, pool_size)
        self._shard = shard

    async def close(self) -> None:
        """Close every connection."""
        await self._engine.dispose()

    async def ping(self) -> None:
        """Ask the database for a sign of life."""
        await self._rows(text("SELECT 1"))

    async def order(self, order_id: int) -> OrderRecord | None:
        """By its primary key."""
        rows = await self._rows(select(stored_orders).where(stored_orders.c.id == order_id))
        return records(rows, OrderRecord)[0] if rows else None

    async def orders_by_client_id(self, user_id: str, client_order_id: str, symbol: str | None = None) -> list[OrderRecord]:
        """By the unique index of client ids."""
        table = stored_orders.c
        query = select(stored_orders).where(table.user_id == user_id, table.client_order_id == client_order_id)
        if symbol is not None:
            query = query.where(table.symbol == symbol)
        return sorted(records(await self._rows(query), OrderRecord), key=lambda order: -order.id)

    async def orders_of_user(
        self, user_id: str, page: Page, *, symbol: str | None = None, statuses: Sequence[OrderStatus] = ()
    ) -> list[OrderRecord]:
        """By the index of users, or by that of their open orders where `statuses` are all open ones."""
        table = stored_orders.c
        query = _page(select(stored_orders).where(table.user_id == user_id), table.id, page)
        if symbol is not None:
            query = query.where(table.symbol == symbol)
        if statuses:
            query = query.where(table.status.in_([int(status) for status in statuses]))
            if max(statuses) <= LAST_OPEN:
                query = query.where(OPEN)
        return records(await self._rows(query), OrderRecord)

    async def open_orders(self, symbol: str) -> tuple[int, list[OrderRecord]]:
        """One statement, so that sequence and orders are of one moment; (0, []) for a symbol that isn't listed."""
        instruments, table = stored_instruments.c, stored_orders.c
        resting = and_(table.symbol == instruments.symbol, OPEN, table.status < int(OrderStatus.PENDING_TRIGGER))
        query = (
            select(instruments.sequence, stored_orders)
            .select_from(stored_instruments.outerjoin(stored_orders, resting))
            .where(instruments.symbol == symbol)
            .order_by(table.priority)
        )
        rows = [tuple(row) for row in await self._rows(query)]
        return (rows[0][0] if rows else 0), records((row[1:] for row in rows if row[1] is not None), OrderRecord)

    async def trades(
        self, page: Page, *, symbol: str | None = None, user_id: str | None = None, order_id: int | None = None
    ) -> list[TradeRecord]:
        """By id or by symbol; a user's or an order's out of the batches of events."""
        table = stored_trades.c
        if user_id is not None or order_id is not None:
            return await self._trades_in_events(page, _wanted(page, symbol, user_id, order_id), user_id, order_id)
        query = _page(select(stored_trades), table.id, page)
        if symbol is not None:
            query = query.where(table.symbol == symbol)
        return records(await self._rows(query), TradeRecord)

    async def command_events(self, position: int) -> CommandEvents | None:
        """Out of the batch that holds the position."""
        last = await self._batch_of(self._shard, position)
        if last is None:
            return None
        table = event_batches.c
        rows = await self._rows(select(table.events).where(table.shard == self._shard, table.last_position == last))
        return next((command for command in decode_events(rows[0][0]) if command.position == position), None)

    async def events_of_order(self, order_id: int) -> list[CommandEvents]:
        """Out of the batch that it came in with and those that the index of orders names."""
        found: list[CommandEvents] = []
        async for commands in self._batches_of_order(order_id, before=None):
            for command in reversed(commands):
                events = [each for each in command.events if _names(each, order_id)]
                if events:
                    found.append(CommandEvents(command.position, command.time, events))
        return found[::-1]

    async def trades_since(self, moment_us: int) -> list[TradeRecord]:
        """Back from the newest trade, page by page, since ids and times grow together."""
        table, (low, high) = stored_trades.c, shard_ids(self._shard)
        found: list[TradeRecord] = []
        while True:
            query = select(stored_trades).where(table.id >= low, table.id < high).order_by(table.id.desc()).limit(TRADES_AT_ONCE)
            trades = records(await self._rows(query), TradeRecord)
            found += (trade for trade in trades if trade.executed_at >= moment_us)
            if len(trades) < TRADES_AT_ONCE or trades[-1].executed_at < moment_us:
                return found[::-1]
            high = trades[-1].id

    async def _trades_in_events(
        self, page: Page, wanted: Callable[[Traded], bool], user_id: str | None, order_id: int | None
    ) -> list[TradeRecord]:
        before: int | None = None
        if page.before_id is not None:
            before = await self._batch_before_trade(page.before_id)
            if before is None:
                return []
        batches = self._batches_of_user(user_id or "", before) if order_id is None else self._batches_of_order(order_id, before)
        found: list[TradeRecord] = []
        async for commands in batches:
            traded = [each for command in commands for each in command.events if isinstance(each, Traded) and wanted(each)]
            found += (each.trade for each in reversed(traded))
            if len(found) >= page.limit:
                break
        return found[: page.limit]

    async def _batch_before_trade(self, trade_id: int) -> int | None:
        """The last position of the batch of the newest trade that is older than `trade_id`."""
        table, (low, _) = stored_trades.c, shard_ids(self._shard)
        older = select(table.position).where(table.id >= low, table.id < trade_id).order_by(table.id.desc()).limit(1)
        rows = await self._rows(older)
        return await self._batch_of(self._shard, rows[0][0]) if rows else None

    async def _batch_of(self, shard: int, position: int) -> int | None:
        """The last position of the batch that holds a position."""
        table = event_batches.c
        rows = await self._rows(
            select(func.min(table.last_position)).where(table.shard == shard, table.last_position >= position)
        )
        return rows[0][0] if position > 0 else None

    def _batches_of_user(self, user_id: str, before: int | None) -> AsyncIterator[list[CommandEvents]]:
        index = event_users.c
        mine = and_(index.user_id == user_id, index.shard == self._shard, index.traded == 1)
        return self._batches(event_users, index.last_position, mine, self._shard, before)

    async def _batches_of_order(self, order_id: int, before: int | None) -> AsyncIterator[list[CommandEvents]]:
        """Newest first; the last one is the batch that the order came in with."""
        shard, position = divmod(order_id, SHARD_STEP)
        first, index = await self._batch_of(shard, position), event_orders.c
        if first is None:
            return
        async for commands in self._batches(event_orders, index.last_position, index.order_id == order_id, shard, before):
            yield commands
        table = event_batches.c
        for row in await self._rows(select(table.events).where(table.shard == shard, table.last_position == first)):
            yield decode_events(row[0])

    async def _batches(
        self, index: FromClause, last: ColumnElement[int], condition: ColumnElement[bool], shard: int, before: int | None
    ) -> AsyncIterator[list[CommandEvents]]:
        """The batches that an index names, newest first, from the one that ends at `before` on."""
        table = event_batches.c
        joined = index.join(event_batches, and_(table.shard == shard, table.last_position == last))
        query = select(last, table.events).select_from(joined).where(condition).order_by(last.desc()).limit(BATCHES_AT_ONCE)
        bound = None if before is None else last <= before
        while True:
            rows = [tuple(row) for row in await self._rows(query if bound is None else query.where(bound))]
            for _, events in rows:
                yield decode_events(events)
                await asyncio.sleep(0)  # decoding takes a while; others come first
            if len(rows) < BATCHES_AT_ONCE:
                return
            bound = last < rows[-1][0]

    async def _rows(self, query: Any) -> Sequence[Row[Any]]:
        async with self._engine.connect() as connection:
            return (await connection.execute(query)).all()


def _page(query: Select[Any], identity: ColumnElement[int], page: Page) -> Select[Any]:
    if page.before_id is not None:
        query = query.where(identity < page.before_id)
    return query.order_by(identity.desc()).limit(page.limit)


def _wanted(page: Page, symbol: str | None, user_id: str | None, order_id: int | None) -> Callable[[Traded], bool]:
    def wanted(event: Traded) -> bool:
        trade = event.trade
        return (
            (page.before_id is None or trade.id < page.before_id)
            and (symbol is None or trade.symbol == symbol)
            and (user_id is None or user_id in {event.maker_user_id, event.taker_user_id})
            and (order_id is None or order_id in {trade.buy_order_id, trade.sell_order_id})
        )

    return wanted


def _names(event: PrivateEvent, order_id: int) -> bool:
    """Whether an event is about an order."""
    match event:
        case Traded(trade=trade):
            return order_id in {trade.buy_order_id, trade.sell_order_id}
        case SelfTradePrevented():
            return order_id in {event.maker_order_id, event.taker_order_id}
        case CommandRefused():
            return event.order_id == order_id
        case _:
            return event.order.id == order_id


def _sqlite_engine(url: DatabaseUrl, pool_size: int) -> AsyncEngine:
    engine = create_async_engine(
        URL.create("sqlite+aiosqlite", database=url.target),
        pool_size=pool_size,
        max_overflow=0,
        isolation_level="AUTOCOMMIT",
        skip_autocommit_rollback=True,
        connect_args={"timeout": BUSY_TIMEOUT_S},
    )

    @event.listens_for(engine.sync_engine, "connect")
    def _read_only(connection: Any, _: Any) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA query_only = ON")
        cursor.close()

    return engine


def _postgresql_engine(url: DatabaseUrl, pool_size: int) -> AsyncEngine:
    async def connect() -> asyncpg.Connection:
        return await asyncpg.connect(url.target, timeout=BUSY_TIMEOUT_S, command_timeout=60)

    return create_async_engine(
        "postgresql+asyncpg://",
        async_creator=connect,
        pool_size=pool_size,
        max_overflow=0,
        pool_pre_ping=True,
        isolation_level="AUTOCOMMIT",
        skip_autocommit_rollback=True,
    )
