"""Committed data of all shards for a gateway's readers: the `ReadModels` over the same tables, whoever wrote them.

What is found by an id, a symbol or a client id is found as ever. Lists of several shards are newest first as those of one are:
the trades of a symbol that was moved by its sequence, others by time, then id. A cursor is the last id that was seen; where each
other shard's part goes on is found by halving, since a shard's ids grow with its time. The audit alone comes shard after shard.
Keys and money are shard 0's. What is in force over all symbols is in force in every shard, and shown once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final, TypeVar

from ome.db.archive import StoredArchive
from ome.db.beside import PostgresBeside
from ome.db.read_models import StoredReads
from ome.db.readers import reader
from ome.db.url import parse_url
from ome.domain.enums import ControlKind, OrderStatus
from ome.domain.events import CommandEvents, UserEvent
from ome.domain.ids import SHARD_STEP
from ome.domain.ports import Page
from ome.domain.records import (
    AuditEntry,
    BalanceRecord,
    ControlRecord,
    OrderRecord,
    PositionRecord,
    TradeRecord,
    TransferRecord,
)

ARCHIVE_CONNECTIONS: Final = 2
"""Connections for what was: its long questions stand in nobody's way."""


Item = TypeVar("Item", OrderRecord, TradeRecord)


def _by_sequence(trade: TradeRecord) -> tuple[int, int]:
    return trade.sequence, trade.id


class ClusterReads:
    """The ReadModels of a gateway; `of_shard` are those of each shard, on the same connections."""

    def __init__(self, url: str, *, shards: int, pool_size: int) -> None:
        parsed = parse_url(url)
        self._reader = reader(parsed, pool_size)
        self.of_shard = [
            StoredReads(parsed, shard=shard, pool_size=pool_size, connections=self._reader) for shard in range(shards)
        ]
        self._any = self.of_shard[0]

    async def close(self) -> None:
        """Close every connection."""
        await self._reader.close()

    async def order(self, order_id: int, user_id: str | None = None) -> OrderRecord | None:
        """See ReadModels."""
        return await self._any.order(order_id, user_id)

    async def orders_by_client_id(self, user_id: str, client_order_id: str, symbol: str | None = None) -> list[OrderRecord]:
        """See ReadModels."""
        return await self._any.orders_by_client_id(user_id, client_order_id, symbol)

    async def orders_of_user(
        self, user_id: str, page: Page, *, symbol: str | None = None, statuses: Sequence[OrderStatus] = ()
    ) -> list[OrderRecord]:
        """See ReadModels."""
        last = None
        if page.before_id is not None:
            seen = await self._any.order(page.before_id)
            if seen is None:
                return []
            last = seen.created_at, seen.id

        def orders(reads: StoredReads, end: int | None) -> Awaitable[list[OrderRecord]]:
            return reads.orders_of_user(user_id, Page(end, page.limit), symbol=symbol, statuses=statuses)

        found = await self._of_all(last, lambda reads, moment_us: reads.first_order_since(moment_us), orders)
        return sorted(found, key=lambda order: (order.created_at, order.id), reverse=True)[: page.limit]

    async def open_orders(self, symbol: str, levels: int) -> tuple[int, list[OrderRecord]]:
        """See ReadModels."""
        return await self._any.open_orders(symbol, levels)

    async def trades(
        self, page: Page, *, symbol: str | None = None, user_id: str | None = None, order_id: int | None = None
    ) -> list[TradeRecord]:
        """See ReadModels; an order's are its shard's to find."""
        if order_id is not None:
            shard = order_id // SHARD_STEP
            reads = self.of_shard[shard] if shard < len(self.of_shard) else self._any
            return await reads.trades(page, symbol=symbol, user_id=user_id, order_id=order_id)
        if user_id is None and symbol is not None:
            shards = await self._any.shards_of(symbol)
            if shards:
                return await self._tape(page, symbol, [shard for shard in shards if shard < len(self.of_shard)])
            return await self._any.trades(page, symbol=symbol)
        return await self._trades_by_time(page, symbol, user_id)

    async def _trades_by_time(self, page: Page, symbol: str | None, user_id: str | None) -> list[TradeRecord]:
        """Everybody's, or a user's."""
        last = None
        if page.before_id is not None:
            home = page.before_id // SHARD_STEP
            seen = await self.of_shard[home].trades_made(page.before_id + 1, 1) if home < len(self.of_shard) else []
            if not seen:
                return []
            last = seen[0].executed_at, page.before_id

        def trades(reads: StoredReads, end: int | None) -> Awaitable[list[TradeRecord]]:
            if user_id is None:
                return reads.trades_made(end, page.limit)
            return reads.trades(Page(end, page.limit), symbol=symbol, user_id=user_id)

        found = await self._of_all(last, lambda reads, moment_us: reads.first_trade_since(moment_us), trades)
        return sorted(found, key=lambda trade: (trade.executed_at, trade.id), reverse=True)[: page.limit]

    async def _of_all(
        self,
        last: tuple[int, int] | None,
        first_since: Callable[[StoredReads, int], Awaitable[int]],
        part: Callable[[StoredReads, int | None], Awaitable[list[Item]]],
    ) -> list[Item]:
        """Every shard's part of a list by time, behind what was seen last: its time and its id. `part` is given the id below
        which a shard's goes on: the first that `first_since` finds at that time, or, where its ids are the lower ones, after it.
        """

        async def of(shard: int, reads: StoredReads) -> list[Item]:
            if last is None:
                return await part(reads, None)
            moment_us, seen = last
            home = seen // SHARD_STEP
            return await part(reads, seen if shard == home else await first_since(reads, moment_us + (shard < home)))

        parts = await asyncio.gather(*(of(shard, reads) for shard, reads in enumerate(self.of_shard)))
        return [each for found in parts for each in found]

    async def _tape(self, page: Page, symbol: str, shards: list[int]) -> list[TradeRecord]:
        """Trades of a symbol that was moved: of each shard the newest ones that come after the page before, by sequence."""
        before, found = page.before_id, list[TradeRecord]()
        ends: dict[int, int | None] = dict.fromkeys(shards)
        if before is not None:
            home = before // SHARD_STEP
            seen = await self.of_shard[home].trades_made(before + 1, 1, symbol) if home in ends else []
            if not seen:
                return []
            sequence = seen[0].sequence + (seen[0].id != before)
            for shard in shards:
                ends[shard] = before if shard == home else await self.of_shard[shard].end_before_sequence(symbol, sequence)
        for shard, end in ends.items():
            found += await self.of_shard[shard].trades_made(end, page.limit, symbol)
        return sorted(found, key=_by_sequence, reverse=True)[: page.limit]

    async def command_events(self, position: int) -> CommandEvents | None:
        """See ReadModels, of shard 0."""
        return await self._any.command_events(position)

    async def events_of_order(self, order_id: int, after: tuple[int, int], limit: int) -> list[CommandEvents]:
        """See ReadModels."""
        return await self._any.events_of_order(order_id, after, limit)

    async def events_of_user(self, user_id: str, after: tuple[int, int], limit: int) -> list[UserEvent]:
        """See ReadModels, of shard 0: each shard has places of its own."""
        return await self._any.events_of_user(user_id, after, limit)

    async def queue_ahead(self, order: OrderRecord) -> tuple[int, int]:
        """See ReadModels."""
        return await self._any.queue_ahead(order)

    async def trades_since(self, moment_us: int) -> AsyncIterator[list[TradeRecord]]:
        """See ReadModels; shard after shard."""
        for reads in self.of_shard:
            async for trades in reads.trades_since(moment_us):
                yield trades

    async def audit(self, page: Page, action: str | None = None) -> list[AuditEntry]:
        """See ReadModels; from shard to shard, the last one first: those but shard 0 have what was done while that was away."""
        last, before = divmod(page.before_id, SHARD_STEP) if page.before_id is not None else (len(self.of_shard) - 1, None)
        found: list[AuditEntry] = []
        for shard in range(min(last, len(self.of_shard) - 1), -1, -1):
            of_shard = Page(before if shard == last else None, page.limit - len(found))
            found += await self.of_shard[shard].audit(of_shard, action)
            if len(found) >= page.limit:
                break
        return found

    async def key_entries(self) -> list[AuditEntry]:
        """See ReadModels."""
        return await self._any.key_entries()

    async def balances_of_user(self, user_id: str) -> list[BalanceRecord]:
        """See ReadModels."""
        return await self._any.balances_of_user(user_id)

    async def transfer_of_user(self, user_id: str, client_transfer_id: str) -> TransferRecord | None:
        """See ReadModels."""
        return await self._any.transfer_of_user(user_id, client_transfer_id)

    async def positions_of_user(self, user_id: str) -> list[PositionRecord]:
        """See ReadModels."""
        return await self._any.positions_of_user(user_id)

    async def controls(self, kind: ControlKind, user_id: str | None = None) -> list[ControlRecord]:
        """See ReadModels; one for each user and symbol, the one that was changed last."""
        found = await self._any.controls(kind, user_id)
        newest: dict[tuple[str, str], ControlRecord] = {}
        for control in sorted(found, key=lambda each: each.changed_at):
            newest[control.user_id, control.symbol] = control
        return [newest[key] for key in sorted(newest)]

    async def ping(self) -> None:
        """See ReadModels."""
        await self._any.ping()


class ClusterStorage:
    """What a gateway reads: `reads`, and the `archives` by shard. Nothing is connected before the first question."""

    def __init__(self, url: str, *, shards: int, pool_size: int) -> None:
        parsed = parse_url(url)
        self.reads = ClusterReads(url, shards=shards, pool_size=pool_size)
        self._reader = reader(parsed, ARCHIVE_CONNECTIONS)
        self._beside = PostgresBeside(parsed)
        self.archives = [StoredArchive(parsed, shard, self._reader, self._beside) for shard in range(shards)]

    async def close(self) -> None:
        """Give back every connection."""
        await self.reads.close()
        await self._reader.close()
        await self._beside.close()
