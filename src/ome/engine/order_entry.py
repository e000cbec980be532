"""Order entry: what the engine can't know is looked up here, before a command is stamped, and travels in it (M6).

The engine holds open orders only. Whether an id was ever an order's, and whether a client order id was used before, is asked of
the database. A client order id is reserved from before its look-up until the fate of its command is certain, so that the
same id sent twice at once, or again after an unknown outcome, never executes twice (I1, HOLE4, HOLE6).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from msgspec import structs

from ome.domain.commands import CancelOrder, DefineInstrument, ModifyOrder, NewOrder
from ome.domain.errors import StateMismatch
from ome.domain.events import CommandRefused, Event, OrderAccepted, OrderRejected
from ome.domain.ids import SHARD_STEP
from ome.domain.numbers import canonical
from ome.domain.ports import Answer, CommandBus, ReadModels
from ome.domain.reasons import Reason
from ome.domain.records import OrderRecord

ClientKey = tuple[str, str, str]
"""User, symbol and client order id."""


class OrderEntryDesk:
    """The OrderEntry of a single process."""

    def __init__(self, bus: CommandBus, reads: ReadModels) -> None:
        self._bus = bus
        self._reads = reads
        self._reserved: dict[ClientKey, tuple[NewOrder, asyncio.Task[Answer]]] = {}

    async def submit(self, order: NewOrder) -> Answer:
        """See OrderEntry."""
        if order.client_order_id is None:
            return _answer(await self._bus.send(order))
        key = (order.user_id, order.symbol, order.client_order_id)
        reserved = self._reserved.get(key)
        if reserved is not None:
            first, task = reserved
            if first != order:
                return _CONFLICT
            return structs.replace(await asyncio.shield(task), replayed=True)
        task = asyncio.create_task(self._submit_once(key, order))
        task.add_done_callback(_retrieve)
        self._reserved[key] = (order, task)
        return await asyncio.shield(task)

    async def _submit_once(self, key: ClientKey, order: NewOrder) -> Answer:
        """The one task that may execute this client order id; it goes on when its client goes away."""
        sent = False
        try:
            user_id, symbol, client_order_id = key
            known = await self._reads.orders_by_client_id(user_id, client_order_id, symbol)
            if known:
                return await self._first_answer(known[0], order)
            sent = True
            return _answer(await self._bus.send(order, lambda: self._release(key)))
        finally:
            if not sent:
                self._release(key)

    def _release(self, key: ClientKey) -> None:
        self._reserved.pop(key, None)

    async def _first_answer(self, known: OrderRecord, order: NewOrder) -> Answer:
        """What the first command with this client order id was answered, or the refusal where it asked for something else."""
        stored = await self._reads.command_events(known.id % SHARD_STEP)
        if stored is None:
            raise StateMismatch(f"order {known.id} is stored without its events")
        answer = _answer(stored.events)
        return structs.replace(answer, replayed=True) if _asks_for(order, _submitted(stored.events)) else _CONFLICT

    async def modify(self, change: ModifyOrder) -> Answer:
        """See OrderEntry."""
        exists = await self._exists(change.order_id)
        return Answer(change.order_id, await self._bus.send(structs.replace(change, exists=exists)))

    async def cancel(self, order_id: int) -> Answer:
        """See OrderEntry."""
        exists = await self._exists(order_id)
        return Answer(order_id, await self._bus.send(CancelOrder(order_id, exists)))

    async def _exists(self, order_id: int) -> bool:
        """Whether the id is an order's. An id that a client can know is that of a committed order, so the database has it."""
        return self._bus.is_open(order_id) or await self._reads.order(order_id) is not None

    async def define_instrument(self, definition: DefineInstrument) -> Sequence[Event]:
        """See OrderEntry."""
        return await self._bus.send(definition)


_CONFLICT = Answer(0, [CommandRefused(None, Reason.CLIENT_ORDER_ID_CONFLICT)])


def _retrieve(task: asyncio.Task[Answer]) -> None:
    """Look at the task's exception, so that one whose clients have all gone is not reported as forgotten."""
    if not task.cancelled():
        task.exception()


def _submitted(events: Sequence[Event]) -> OrderRecord:
    """The order as its submit's events first show it."""
    return next(event.order for event in events if isinstance(event, OrderAccepted | OrderRejected))


def _answer(events: Sequence[Event]) -> Answer:
    return Answer(_submitted(events).id, events)


def _asks_for(order: NewOrder, record: OrderRecord) -> bool:
    """Whether a submit asks for what a stored order was submitted as; 1.5 and 1.50 are the same."""
    return (
        order.side is record.side
        and order.type is record.type
        and order.time_in_force is record.time_in_force
        and order.quantity == canonical(record.quantity)
        and order.price == (None if record.price is None else canonical(record.price))
        and order.self_trade_prevention is record.self_trade_prevention
        and order.expires_at == record.expires_at
    )
