"""A repository in memory whose commits a test can hold back or make fail, and read models over what it holds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from ome.domain.batch import Batch
from ome.domain.enums import ControlKind, OrderStatus
from ome.domain.events import CommandEvents, UserEvent, decode_events, events_of
from ome.domain.ports import Page, Recovered
from ome.domain.records import (
    AuditEntry,
    BalanceRecord,
    ControlRecord,
    EngineSettings,
    EngineState,
    OrderRecord,
    PositionRecord,
    TradeRecord,
    TransferRecord,
)


class MemoryRepository:
    """Holds batches in a list; `gate` lets commits through while it is set, each takes `delay_s`, `error` is raised
    by the next.
    """

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: BaseException | None = None
        self.delay_s = 0.0
        self.in_flight = 0
        self.most_in_flight = 0
        self.closed = False

    async def open(self) -> None:
        """Nothing to lock."""

    async def start(self) -> None:
        """Nothing to migrate."""

    async def load(self) -> Recovered:
        """A fresh engine's state."""
        return Recovered(EngineState(0, 0, 0, 0, 0, EngineSettings(), [], []), None)

    async def commit(self, batch: Batch) -> None:
        """Keep the batch, when the gate is open and no error is due."""
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await self.gate.wait()
            await asyncio.sleep(self.delay_s)
            if self.error is not None:
                raise self.error
            self.batches.append(batch)
        finally:
            self.in_flight -= 1

    async def close(self) -> None:
        """Nothing more is asked of it."""
        self.closed = True


class MemoryReads:
    """The ReadModels that order entry needs, over a MemoryRepository; what it doesn't need is not there."""

    def __init__(self, repository: MemoryRepository) -> None:
        self._repository = repository

    def _orders(self) -> dict[int, OrderRecord]:
        return {order.id: order for batch in self._repository.batches for order in batch.orders}

    async def order(self, order_id: int, user_id: str | None = None) -> OrderRecord | None:
        """An order as it stands, if it is this user's."""
        await asyncio.sleep(0)
        order = self._orders().get(order_id)
        return order if order is not None and user_id in {None, order.user_id} else None

    async def orders_by_client_id(self, user_id: str, client_order_id: str, symbol: str | None = None) -> list[OrderRecord]:
        """Orders with this client id."""
        await asyncio.sleep(0)
        return [
            order
            for order in self._orders().values()
            if (order.user_id, order.client_order_id) == (user_id, client_order_id) and symbol in {None, order.symbol}
        ]

    async def audit(self, page: Page, action: str | None = None) -> list[AuditEntry]:
        """Nobody asks."""
        raise NotImplementedError(page, action)

    async def key_entries(self) -> list[AuditEntry]:
        """Nobody asks."""
        raise NotImplementedError

    async def command_events(self, position: int) -> CommandEvents | None:
        """The stored events of one command."""
        stored = (events for batch in self._repository.batches for events in decode_events(batch.events))
        return next((events for events in stored if events.position == position), None)

    async def transfer_of_user(self, user_id: str, client_transfer_id: str) -> TransferRecord | None:
        """The transfer with this client id."""
        await asyncio.sleep(0)
        made = (transfer for batch in self._repository.batches for transfer in batch.transfers)
        mine = (user_id, client_transfer_id)
        return next((each for each in made if (each.user_id, each.client_transfer_id) == mine), None)

    async def balances_of_user(self, user_id: str) -> list[BalanceRecord]:
        """What the last batches say of a user's accounts."""
        await asyncio.sleep(0)
        told = {each.asset: each for batch in self._repository.batches for each in batch.balances if each.user_id == user_id}
        return [told[asset] for asset in sorted(told)]

    async def orders_of_user(
        self, user_id: str, page: Page, *, symbol: str | None = None, statuses: Sequence[OrderStatus] = ()
    ) -> list[OrderRecord]:
        """Not needed."""
        raise NotImplementedError

    async def open_orders(self, symbol: str, levels: int) -> tuple[int, list[OrderRecord]]:
        """Not needed."""
        raise NotImplementedError

    async def trades(
        self, page: Page, *, symbol: str | None = None, user_id: str | None = None, order_id: int | None = None
    ) -> list[TradeRecord]:
        """Not needed."""
        raise NotImplementedError

    async def events_of_order(self, order_id: int, after: tuple[int, int], limit: int) -> list[CommandEvents]:
        """Not needed."""
        raise NotImplementedError

    async def events_of_user(self, user_id: str, after: tuple[int, int], limit: int) -> list[UserEvent]:
        """A user's events behind a place."""
        await asyncio.sleep(0)
        stored = (command for batch in self._repository.batches for command in decode_events(batch.events))
        mine = (each for command in stored for each in events_of(user_id, command))
        return [each for each in mine if (each.position, each.number) > after][:limit]

    async def queue_ahead(self, order: OrderRecord) -> tuple[int, int]:
        """Not needed."""
        raise NotImplementedError

    def trades_since(self, moment_us: int) -> AsyncIterator[list[TradeRecord]]:
        """Not needed."""
        raise NotImplementedError

    async def positions_of_user(self, user_id: str) -> list[PositionRecord]:
        """Not needed."""
        raise NotImplementedError

    async def controls(self, kind: ControlKind, user_id: str | None = None) -> list[ControlRecord]:
        """Not needed."""
        raise NotImplementedError

    async def ping(self) -> None:
        """Not needed."""
        raise NotImplementedError
