"""What was, asked of a read replica where it has all of it (`replica`): orders of the past, trades, events, the audit, candles,
books. What is now stays the primary's: an order by its id or client id, open orders, books, balances, positions, controls.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final, TypeVar

from ome.db.archive import StoredArchive
from ome.db.cluster_reads import ClusterStorage
from ome.db.readers import reader
from ome.db.replica import ANSWER_S, Replica
from ome.db.url import parse_url
from ome.domain.enums import LAST_OPEN, ControlKind, OrderStatus
from ome.domain.errors import StorageError, StorageUnusable
from ome.domain.events import CommandEvents, UserEvent
from ome.domain.ports import Depth, Page, Past, ReadModels, ReplicaMetrics
from ome.domain.records import (
    AuditEntry,
    BalanceRecord,
    BookSnapshot,
    CandleRecord,
    ControlRecord,
    OrderRecord,
    PositionRecord,
    TradeRecord,
    TransferRecord,
)

NAME: Final = "DATABASE_READ_URL"
T = TypeVar("T")


class ReadReplica:
    """The server that DATABASE_READ_URL names; without one, everything is asked of the primary."""

    def __init__(self, url: str, read_url: str, *, shards: int, pool_size: int, told: ReplicaMetrics) -> None:
        """Raises StorageUnusable for a URL that can't be used."""
        self._replica: Replica | None = None
        if not read_url:
            return
        primary, copy = parse_url(url), parse_url(read_url, NAME)
        if primary.kind == "sqlite" or copy.kind == "sqlite":
            raise StorageUnusable(f"{NAME} is for PostgreSQL: an SQLite file has no replica. Leave it out.")
        self._storage = ClusterStorage(read_url, shards=shards, pool_size=pool_size)
        self._replica = Replica(reader(primary, 1), reader(copy, 1), told)

    def start(self) -> None:
        """Begin to look how far it is; once that is known it may be asked."""
        if self._replica is not None:
            self._replica.start()

    async def looked(self) -> None:
        """Wait until that is known for the first time."""
        if self._replica is not None:
            await self._replica.looked()

    async def close(self) -> None:
        """Give back every connection."""
        if self._replica is not None:
            await self._replica.close()
            await self._storage.close()

    def reads(self, primary: ReadModels, shard: int | None = None) -> ReadModels:
        """Those of a shard, or of all, with their past from the replica."""
        if self._replica is None:
            return primary
        copy = self._storage.reads if shard is None else self._storage.reads.of_shard[shard]
        return ReplicaReads(self._replica, copy, primary)

    def past(self, primary: Past, make: Callable[[Sequence[StoredArchive]], Past]) -> Past:
        """The Past that `make` makes of the replica's archives, by shard, with the primary's behind it."""
        return primary if self._replica is None else ReplicaPast(self._replica, make(self._storage.archives), primary)


class ReplicaReads:
    """The ReadModels of a primary and its copy."""

    def __init__(self, replica: Replica, copy: ReadModels, primary: ReadModels) -> None:
        self._replica = replica
        self._copy = copy
        self._primary = primary

    # What was

    async def orders_of_user(
        self, user_id: str, page: Page, *, symbol: str | None = None, statuses: Sequence[OrderStatus] = ()
    ) -> list[OrderRecord]:
        """See ReadModels; open ones alone are the primary's."""

        def orders(reads: ReadModels) -> Awaitable[list[OrderRecord]]:
            return reads.orders_of_user(user_id, page, symbol=symbol, statuses=statuses)

        if statuses and max(statuses) <= LAST_OPEN:
            return await orders(self._primary)
        return await self._ask(orders)

    async def trades(
        self, page: Page, *, symbol: str | None = None, user_id: str | None = None, order_id: int | None = None
    ) -> list[TradeRecord]:
        """See ReadModels."""
        return await self._ask(lambda reads: reads.trades(page, symbol=symbol, user_id=user_id, order_id=order_id))

    async def command_events(self, position: int) -> CommandEvents | None:
        """See ReadModels."""
        return await self._ask(lambda reads: reads.command_events(position))

    async def events_of_order(self, order_id: int, after: tuple[int, int], limit: int) -> list[CommandEvents]:
        """See ReadModels."""
        return await self._ask(lambda reads: reads.events_of_order(order_id, after, limit))

    async def events_of_user(self, user_id: str, after: tuple[int, int], limit: int) -> list[UserEvent]:
        """See ReadModels."""
        return await self._ask(lambda reads: reads.events_of_user(user_id, after, limit))

    async def trades_since(self, moment_us: int) -> AsyncIterator[list[TradeRecord]]:
        """See ReadModels; where the copy fails on the way, the primary goes on behind the last trade that it gave."""
        last = -1
        if await self._replica.may_answer():
            try:
                async for trades in self._copy.trades_since(moment_us):
                    yield trades
                    last = trades[-1].id
            except StorageError as error:
                self._replica.failed(error)
            else:
                self._replica.answered()
                return
        async for trades in self._primary.trades_since(moment_us):
            if trades := [trade for trade in trades if trade.id > last]:
                yield trades

    async def audit(self, page: Page, action: str | None = None) -> list[AuditEntry]:
        """See ReadModels."""
        return await self._ask(lambda reads: reads.audit(page, action))

    async def _ask(self, question: Callable[[ReadModels], Awaitable[T]]) -> T:
        return await self._replica.ask(lambda: question(self._copy), lambda: question(self._primary), ANSWER_S)

    # What is

    async def order(self, order_id: int, user_id: str | None = None) -> OrderRecord | None:
        """See ReadModels."""
        return await self._primary.order(order_id, user_id)

    async def orders_by_client_id(self, user_id: str, client_order_id: str, symbol: str | None = None) -> list[OrderRecord]:
        """See ReadModels."""
        return await self._primary.orders_by_client_id(user_id, client_order_id, symbol)

    async def open_orders(self, symbol: str, levels: int) -> tuple[int, list[OrderRecord]]:
        """See ReadModels."""
        return await self._primary.open_orders(symbol, levels)

    async def queue_ahead(self, order: OrderRecord) -> tuple[int, int]:
        """See ReadModels."""
        return await self._primary.queue_ahead(order)

    async def key_entries(self) -> list[AuditEntry]:
        """See ReadModels."""
        return await self._primary.key_entries()

    async def balances_of_user(self, user_id: str) -> list[BalanceRecord]:
        """See ReadModels."""
        return await self._primary.balances_of_user(user_id)

    async def transfer_of_user(self, user_id: str, client_transfer_id: str) -> TransferRecord | None:
        """See ReadModels."""
        return await self._primary.transfer_of_user(user_id, client_transfer_id)

    async def positions_of_user(self, user_id: str) -> list[PositionRecord]:
        """See ReadModels."""
        return await self._primary.positions_of_user(user_id)

    async def controls(self, kind: ControlKind, user_id: str | None = None) -> list[ControlRecord]:
        """See ReadModels."""
        return await self._primary.controls(kind, user_id)

    async def ping(self) -> None:
        """See ReadModels."""
        await self._primary.ping()


class ReplicaPast:
    """The Past of a primary and its copy. Rebuilding a book may take long: it has no time limit here."""

    def __init__(self, replica: Replica, copy: Past, primary: Past) -> None:
        self._replica = replica
        self._copy = copy
        self._primary = primary

    async def candles(
        self, symbol: str, seconds: int, start: int, end: int, limit: int, *, newest: bool = False
    ) -> list[CandleRecord]:
        """See Past."""
        return await self._ask(lambda past: past.candles(symbol, seconds, start, end, limit, newest=newest))

    async def candles_trimmed_before(self, seconds: int) -> int:
        """See Past."""
        return await self._ask(lambda past: past.candles_trimmed_before(seconds))

    async def books(self, symbol: str, before: int, limit: int) -> list[BookSnapshot]:
        """See Past."""
        return await self._ask(lambda past: past.books(symbol, before, limit))

    async def books_trimmed_before(self) -> int:
        """See Past."""
        return await self._ask(lambda past: past.books_trimmed_before())

    async def depth_at_sequence(self, symbol: str, sequence: int) -> Depth:
        """See Past."""
        return await self._ask(lambda past: past.depth_at_sequence(symbol, sequence))

    async def depth_at_time(self, symbol: str, time: int) -> Depth | None:
        """See Past."""
        return await self._ask(lambda past: past.depth_at_time(symbol, time))

    async def _ask(self, question: Callable[[Past], Awaitable[T]]) -> T:
        return await self._replica.ask(lambda: question(self._copy), lambda: question(self._primary))
