"""Committed data for readers: the `ReadModels` of `domain.ports`, on connections of their own.

Cost: everything is found by an index, and no list reads more than its page, with two exceptions: a filter by symbol or by an
ended status reads through the user's own orders, and trades of a user or an order come out of the batches of events that hold
one, newest first, a few batches at a time, giving way to others between them.

Each answer is of one moment, after every commit that had returned when it was asked for: it comes from one statement, or from
several about what never changes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final, Literal

import msgspec
from msgspec import structs

from ome.db import queries
from ome.db.queries import Query
from ome.db.readers import FAILURES, Reader, may_pass, reader
from ome.db.recovery import records, shard_ids
from ome.db.statements import POSTGRESQL, SQLITE
from ome.db.url import DatabaseUrl
from ome.domain.enums import ControlKind, OrderStatus
from ome.domain.errors import StorageAway, StorageUnusable
from ome.domain.events import (
    CommandEvents,
    CommandRefused,
    PrivateEvent,
    SelfTradePrevented,
    Traded,
    UserEvent,
    decode_events,
    decode_events_naming,
    events_of,
)
from ome.domain.ids import MAX_ID, SHARD_STEP, make_id
from ome.domain.numbers import pack, unpack
from ome.domain.ports import Page
from ome.domain.records import (
    AuditEntry,
    BalanceRecord,
    ControlRecord,
    OrderRecord,
    PositionRecord,
    SpecialTerms,
    TradeRecord,
    TransferRecord,
)

BATCHES_AT_ONCE: Final = 8
"""Batches of events that are fetched by one statement while looking for trades."""
TRADES_AT_ONCE: Final = 10_000
"""Trades that are fetched by one statement on the way back to a moment."""


class StoredReads:
    """The `ReadModels` over the tables of one shard. Connects when asked; raises StorageAway where there is no answer now."""

    def __init__(self, url: DatabaseUrl, *, shard: int, pool_size: int, connections: Reader | None = None) -> None:
        """`connections` where they are shared with others."""
        self._reader = connections or reader(url, pool_size)
        self._dialect = SQLITE if url.kind == "sqlite" else POSTGRESQL
        self._shard = shard

    async def close(self) -> None:
        """Close every connection."""
        await self._reader.close()

    async def audit(self, page: Page, action: str | None = None) -> list[AuditEntry]:
        """By its primary key, or by the index of actions."""
        query = queries.audit_entries(self._dialect, before=page.before_id is not None, action=action is not None)
        rows = await self._rows(query, shard=self._shard, before=page.before_id, action=action, limit=page.limit)
        return records(rows, AuditEntry)

    async def key_entries(self) -> list[AuditEntry]:
        """By the index of actions."""
        return records(await self._rows(queries.key_entries(self._dialect), shard=self._shard), AuditEntry)

    async def ping(self) -> None:
        """Ask the database for a sign of life."""
        await self._fetch("SELECT 1", ())

    async def order(self, order_id: int, user_id: str | None = None) -> OrderRecord | None:
        """By its primary key."""
        rows = await self._rows(queries.order(self._dialect, user=user_id is not None), id=order_id, user_id=user_id)
        return records(rows, OrderRecord)[0] if rows else None

    async def positions_of_user(self, user_id: str) -> list[PositionRecord]:
        """By the table's key."""
        return records(await self._rows(queries.positions_of_user(self._dialect), user_id=user_id), PositionRecord)

    async def controls(self, kind: ControlKind, user_id: str | None = None) -> list[ControlRecord]:
        """By the table's key."""
        query = queries.controls(self._dialect, user=user_id is not None)
        return records(await self._rows(query, kind=int(kind), user_id=user_id), ControlRecord)

    async def orders_by_client_id(self, user_id: str, client_order_id: str, symbol: str | None = None) -> list[OrderRecord]:
        """By the unique index of client ids."""
        query = queries.orders_by_client_id(self._dialect, symbol=symbol is not None)
        rows = await self._rows(query, user_id=user_id, client_order_id=client_order_id, symbol=symbol)
        return sorted(records(rows, OrderRecord), key=lambda order: -order.id)

    async def orders_of_user(
        self, user_id: str, page: Page, *, symbol: str | None = None, statuses: Sequence[OrderStatus] = ()
    ) -> list[OrderRecord]:
        """Those with ids of this shard: by the index of users, or of their open orders where `statuses` are all open ones."""
        low, end = shard_ids(self._shard)
        before = end if page.before_id is None else min(page.before_id, end)
        query = queries.orders_of_user(self._dialect, symbol=symbol is not None, statuses=frozenset(statuses))
        rows = await self._rows(query, user_id=user_id, low=low, before=before, limit=page.limit, symbol=symbol)
        return records(rows, OrderRecord)

    async def first_order_since(self, moment_us: int) -> int:
        """The lowest id of this shard of which all orders from it on were made at or after a moment. Found by halving, since ids
        and times grow together.
        """
        low, end = shard_ids(self._shard)
        [(newest,)] = await self._rows(queries.newest_order(self._dialect), low=low, end=end)
        high, query = low if newest is None else newest + 1, queries.order_from(self._dialect)
        while low < high:
            middle = (low + high) // 2
            found = await self._rows(query, start=middle, end=end)
            if not found or found[0][1] >= moment_us:
                high = middle
            else:
                low = found[0][0] + 1
        return low

    async def balances_of_user(self, user_id: str) -> list[BalanceRecord]:
        """By the primary key."""
        return records(
            await self._rows(queries.balances_of_user(self._dialect), user_id=user_id, shard=self._shard), BalanceRecord
        )

    async def transfer_of_user(self, user_id: str, client_transfer_id: str) -> TransferRecord | None:
        """By the unique index of client ids."""
        rows = await self._rows(queries.transfer(self._dialect), user_id=user_id, client_transfer_id=client_transfer_id)
        return records(rows, TransferRecord)[0] if rows else None

    async def open_orders(self, symbol: str, levels: int) -> tuple[int, list[OrderRecord]]:
        """One statement, so that sequence and orders are of one moment; (0, []) for a symbol that isn't listed."""
        rows = await self._rows(queries.open_orders(self._dialect), symbol=symbol, levels=levels)
        orders = records((row[1:] for row in rows if row[1] is not None), OrderRecord)
        return (rows[0][0] if rows else 0), sorted(orders, key=lambda order: order.priority)

    async def queue_ahead(self, order: OrderRecord) -> tuple[int, int]:
        """By the index of levels; the numbers of one symbol's open orders all have the decimals of its lot."""
        query = queries.queue_ahead(self._dialect)
        place = {"symbol": order.symbol, "side": int(order.side), "price": order.price, "priority": order.priority}
        count, lots = 0, 0
        for alike, remaining, terms in await self._rows(query, **place):
            count += alike
            lots += alike * unpack(_shown(remaining, terms))[0]
        return count, pack(lots, unpack(order.remaining_quantity)[1])

    async def trades(
        self, page: Page, *, symbol: str | None = None, user_id: str | None = None, order_id: int | None = None
    ) -> list[TradeRecord]:
        """By id or by symbol; a user's or an order's out of the batches of events."""
        whose = user_id if order_id is None else order_id
        if whose is not None:
            return await self._trades_in_events(page, _wanted(page, symbol, user_id, order_id), whose)
        query = queries.trades(self._dialect, before=page.before_id is not None, symbol=symbol is not None)
        return records(await self._rows(query, before=page.before_id, limit=page.limit, symbol=symbol), TradeRecord)

    async def shards_of(self, symbol: str) -> list[int]:
        """The shards that a symbol was on, in their order; none where it was never moved."""
        return sorted(shard for (shard,) in await self._rows(queries.shards_of(self._dialect), symbol=symbol))

    async def trades_made(self, before: int | None, limit: int, symbol: str | None = None) -> list[TradeRecord]:
        """At most `limit` trades that were made on this shard, of a symbol or of all, with ids below `before`, newest first."""
        low, end = shard_ids(self._shard)
        query = queries.trades_between(self._dialect, symbol=symbol is not None)
        rows = await self._rows(query, symbol=symbol, low=low, before=end if before is None else min(before, end), limit=limit)
        return records(rows, TradeRecord)

    async def end_before_sequence(self, symbol: str, sequence: int) -> int:
        """An id: the trades of a symbol that were made on this shard and have a lower sequence are the ones below it. Found by
        halving, since ids and sequences grow together.
        """
        low, _ = shard_ids(self._shard)
        newest = await self.trades_made(None, 1, symbol)
        high = newest[0].id + 1 if newest else low
        while low < high:
            middle = (low + high) // 2
            found = await self.trades_made(middle + 1, 1, symbol)
            if found and found[0].sequence >= sequence:
                high = found[0].id
            else:
                low = middle + 1
        return low

    async def command_events(self, command_id: int) -> CommandEvents | None:
        """Out of the batch that holds the position."""
        shard, position = divmod(command_id, SHARD_STEP)
        batch = await self._batch_of(shard, position)
        commands = [] if batch is None else decode_events(batch)
        return next((command for command in commands if command.position == position), None)

    async def events_of_order(self, order_id: int, after: tuple[int, int], limit: int) -> list[CommandEvents]:
        """Out of the batch that it came in with and those that the index of orders names."""
        found: list[CommandEvents] = []
        position, seen = after
        async for commands in self._batches_of_order_since(order_id, position):
            for command in commands:
                if command.position < position:
                    continue
                events = [each for each in command.events if _names(each, order_id)]
                events = events[seen if command.position == position else 0 :][:limit]
                if events:
                    found.append(CommandEvents(command.position, command.time, events))
                    limit -= len(events)
                if not limit:
                    return found
        return found

    async def events_of_user(self, user_id: str, after: tuple[int, int], limit: int) -> list[UserEvent]:
        """Out of the batches that the index of users names, a few at a time, giving way to others between them."""
        query = queries.batches_of_user(self._dialect)
        found: list[UserEvent] = []
        since = after[0]
        while True:
            rows = await self._rows(query, user_id=user_id, shard=self._shard, since=since, limit=BATCHES_AT_ONCE)
            for end, events in rows:
                for command in decode_events_naming(user_id, events):
                    if command.position >= after[0]:
                        found += (each for each in events_of(user_id, command) if (each.position, each.number) > after)
                if len(found) >= limit:
                    return found[:limit]
                since = end + 1
                await asyncio.sleep(0)  # decoding takes a while; others come first
            if len(rows) < BATCHES_AT_ONCE:
                return found

    async def trades_since(self, moment_us: int) -> AsyncIterator[list[TradeRecord]]:
        """Forward by id from the first one, which is found by halving, since ids and times grow together."""
        query, (_, end) = queries.trades_from(self._dialect), shard_ids(self._shard)
        start = await self.first_trade_since(moment_us)
        while True:
            trades = records(await self._rows(query, start=start, end=end, limit=TRADES_AT_ONCE), TradeRecord)
            if trades:
                yield trades
                start = trades[-1].id + 1
            if len(trades) < TRADES_AT_ONCE:
                return

    async def first_trade_since(self, moment_us: int) -> int:
        """The lowest id of this shard of which all trades from it on were executed at or after a moment."""
        low, end = shard_ids(self._shard)
        newest = await self.trades_made(None, 1)
        high = newest[0].id + 1 if newest else low
        query = queries.trades_from(self._dialect)
        while low < high:
            middle = (low + high) // 2
            [trade] = records(await self._rows(query, start=middle, end=end, limit=1), TradeRecord)
            if trade.executed_at >= moment_us:
                high = middle
            else:
                low = trade.id + 1
        return low

    async def _trades_in_events(self, page: Page, wanted: Callable[[Traded], bool], who: str | int) -> list[TradeRecord]:
        """Those `wanted` of a user, or of an order by its id."""
        before: int | None = None
        if page.before_id is not None:
            before = await self._end_before_trade(page.before_id, None if isinstance(who, str) else who)
            if before is None:
                return []
        if isinstance(who, str):
            batches = self._batches("user's trade", self._shard, before, who)
        else:
            batches = self._batches_of_order(who, before)
        found: list[TradeRecord] = []
        async for commands in batches:
            traded = [each for command in commands for each in command.events if isinstance(each, Traded) and wanted(each)]
            found += (each.trade for each in reversed(traded))
            if len(found) >= page.limit:
                break
        return found[: page.limit]

    async def _end_before_trade(self, trade_id: int, order_id: int | None) -> int | None:
        """One more than the end of the batch of the newest trade that is older than `trade_id`; None where there is none.

        A trade of another shard than an order's id has a place in the order's index that tells that shard.
        """
        shard = trade_id // SHARD_STEP
        if order_id is not None and shard != order_id // SHARD_STEP:
            rows = await self._rows(queries.trades_between(self._dialect), low=make_id(shard, 0), before=trade_id, limit=1)
            end = await self._end(shard, records(rows, TradeRecord)[0].position) if rows else None
            return make_id(shard + 1, 0 if end is None else end) + 1
        low, _ = shard_ids(self._shard)
        rows = await self._rows(queries.trades_between(self._dialect), low=low, before=trade_id, limit=1)
        if not rows:
            return None
        end = await self._end(self._shard, records(rows, TradeRecord)[0].position)
        return None if end is None else end + 1

    async def _end(self, shard: int, position: int) -> int | None:
        """The last position of the batch that holds a position."""
        if position <= 0:
            return None
        end: int | None = (await self._rows(queries.batch_end(self._dialect), shard=shard, position=position))[0][0]
        return end

    async def _batch_of(self, shard: int, position: int) -> bytes | None:
        """The stored events of the batch that holds a position; None for a position that isn't reached."""
        end = await self._end(shard, position)
        return None if end is None else await self._batch_that_ends(shard, end)

    async def _batch_that_ends(self, shard: int, last: int) -> bytes:
        """The stored events of the batch that ends with a position."""
        events: bytes = (await self._rows(queries.events(self._dialect), shard=shard, last=last))[0][0]
        return events

    async def _batches_of_order_since(self, order_id: int, since: int) -> AsyncIterator[list[CommandEvents]]:
        """Oldest first, those that end at `since` or later; the first of all is the batch that the order came in with."""
        shard, position = divmod(order_id, SHARD_STEP)
        end = await self._end(shard, position)
        if end is not None and end >= since:
            yield decode_events_naming(order_id, await self._batch_that_ends(shard, end))
        query = queries.batches_of_order(self._dialect)
        while True:
            rows = await self._rows(query, order_id=order_id, shard=shard, since=since, limit=BATCHES_AT_ONCE)
            for last, events in rows:
                yield decode_events_naming(order_id, events)
                since = last + 1
                await asyncio.sleep(0)  # decoding takes a while; others come first
            if len(rows) < BATCHES_AT_ONCE:
                break
        query = queries.places_elsewhere(self._dialect, newest=False)
        for (place,) in await self._rows(query, order_id=order_id, low=max(since, SHARD_STEP), high=MAX_ID):
            yield await self._batch_elsewhere(order_id, place)

    async def _batch_elsewhere(self, order_id: int, place: int) -> list[CommandEvents]:
        """An order's events in a batch of another shard than its id, which the symbol was moved to, by its place in the order's
        index (`statements.batch_place`); their positions are places too, above all of the id's own shard.
        """
        above, last = divmod(place, SHARD_STEP)
        commands = decode_events_naming(order_id, await self._batch_that_ends(above - 1, last))
        return [structs.replace(each, position=each.position + above * SHARD_STEP) for each in commands]

    async def _batches_of_order(self, order_id: int, before: int | None) -> AsyncIterator[list[CommandEvents]]:
        """Newest first, of other shards than the id's before that; the last one is the batch that the order came in with."""
        shard, position = divmod(order_id, SHARD_STEP)
        if before is None or before > SHARD_STEP:
            query = queries.places_elsewhere(self._dialect, newest=True)
            for (place,) in await self._rows(query, order_id=order_id, low=SHARD_STEP, high=before or MAX_ID):
                yield await self._batch_elsewhere(order_id, place)
            before = None
        async for commands in self._batches("order", shard, before, order_id):
            yield commands
        if (batch := await self._batch_of(shard, position)) is not None:
            yield decode_events_naming(order_id, batch)

    async def _batches(
        self, what: Literal["order", "user's trade"], shard: int, before: int | None, who: str | int
    ) -> AsyncIterator[list[CommandEvents]]:
        """The commands with something of an order or a user, by batch, newest first, of batches that end below `before`."""
        whose = {"user_id" if isinstance(who, str) else "order_id": who}
        while True:
            query = queries.batches_with(self._dialect, what, before=before is not None)
            rows = await self._rows(query, shard=shard, before=before, limit=BATCHES_AT_ONCE, **whose)
            for end, events in rows:
                yield decode_events_naming(who, events)
                before = end
                await asyncio.sleep(0)  # decoding takes a while; others come first
            if len(rows) < BATCHES_AT_ONCE:
                return

    async def _rows(self, query: Query, **values: Any) -> list[tuple[Any, ...]]:
        return await self._fetch(query.sql, query.parameters(values))

    async def _fetch(self, sql: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        try:
            return await self._reader.fetch(sql, parameters)
        except FAILURES as error:
            kind = StorageAway if may_pass(error) else StorageUnusable
            raise kind(f"The database can't answer: {error or type(error).__name__}.") from error


def _shown(remaining: int, terms: str | None) -> int:
    """What the book shows of a resting order, a number: an iceberg's slice, or all that remains (T6)."""
    shown = None if terms is None else msgspec.json.decode(terms, type=SpecialTerms).shown_quantity
    return remaining if shown is None else shown


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
