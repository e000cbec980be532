"""What the edge asks of a command bus, answered by a gateway: how the engines are, the operators' entries, a user's risk."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from math import inf

from ome.cluster.gateway_entry import GatewayEntry
from ome.cluster.shard_link import RUNNING, ShardLink, unexpected
from ome.cluster.wire import AskRisk, Risk
from ome.domain.commands import CancelOrder, Command, ModifyOrder, NewOrder
from ome.domain.errors import OmeError
from ome.domain.events import Event
from ome.domain.ports import Receiver, UserRisk

STARTING = "STARTING"
DRAINING = "DRAINING"
STALLED = "STALLED"


class GatewayBus:
    """The CommandBus of a gateway.

    Its state is its own: RUNNING once it knows the engines' books, though some engine may be away (then the symbols of that one
    are refused, and `reason` says so); STALLED while none answers.
    """

    def __init__(self, links: Sequence[ShardLink], entry: GatewayEntry) -> None:
        self._links = links
        self._entry = entry
        self._own_state = STARTING
        self._running: set[asyncio.Task[Sequence[Event]]] = set()

    def enter(self, state: str) -> None:
        """The gateway is in this state now, as far as it is for the gateway to say."""
        self._own_state = state

    @property
    def state(self) -> str:
        """See CommandBus."""
        if self._own_state != RUNNING or any(link.state == RUNNING for link in self._links):
            return self._own_state
        return STALLED

    @property
    def reason(self) -> str:
        """See CommandBus: which engines aren't running, and why."""
        unwell = [link for link in self._links if link.state != RUNNING]
        return "; ".join(
            f"shard {link.shard} is {link.state}" + (f": {link.last.reason}" if link.last and link.last.reason else "")
            for link in unwell
        )

    @property
    def position(self) -> int:
        """The commands that were committed, of all shards together, as far as it is known here."""
        return sum(link.last.position for link in self._links if link.last is not None)

    @property
    def waiting(self) -> int:
        """How many requests have no answer yet."""
        return sum(link.waiting for link in self._links)

    def is_open(self, order_id: int, account: str | None = None) -> bool:
        """See CommandBus: a gateway knows no books, and a hint that is wrong costs a look."""
        del order_id, account
        return True

    async def risk(self, user_id: str) -> UserRisk:
        """See CommandBus: of all shards, each at its own moment. The limit over all symbols is each shard's own; what is left of
        it is what is left where it is least.
        """
        found = []
        for result in await asyncio.gather(*(link.ask(lambda number: AskRisk(number, user_id)) for link in self._links)):
            if not isinstance(result, Risk):
                raise unexpected(result)
            found.append(result.risk)
        left = [each.open_orders_left for each in found if each.open_orders_left is not None]
        limits = [each.max_open_orders for each in found if each.max_open_orders is not None]
        timers = [each.cancel_at for each in found if each.cancel_at is not None]
        return UserRisk(
            user_id,
            is_killed=any(each.is_killed for each in found),
            cancel_at=min(timers, default=None),
            open_orders=sum(each.open_orders for each in found),
            max_open_orders=min(limits, default=None),
            open_orders_left=min(left, default=None),
            symbols=sorted((symbol for each in found for symbol in each.symbols), key=lambda each: each.symbol),
        )

    async def preview(self, commands: Sequence[Command]) -> list[list[Event]]:
        """See CommandBus; of submits, changes and cancels."""
        operations = [command for command in commands if isinstance(command, NewOrder | ModifyOrder | CancelOrder)]
        outcomes = await self._entry.batch(operations, dry_run=True)
        for outcome in outcomes:
            if isinstance(outcome, OmeError):
                raise outcome
        return [list(outcome.events) for outcome in outcomes if not isinstance(outcome, OmeError)]

    async def send(self, command: Command, settled: Callable[[], None] | None = None, deadline_s: float = inf) -> Sequence[Event]:
        """See CommandBus; of commands that are about no symbol, which shard 0 carries out."""
        del deadline_s  # each request has its own
        try:
            return await self._entry.send(command)
        finally:
            if settled is not None:
                settled()

    def enqueue(
        self, command: Command, settled: Callable[[], None] | None = None, deadline_s: float = inf
    ) -> Awaitable[Sequence[Event]]:
        """See CommandBus."""
        task = asyncio.create_task(self.send(command, settled, deadline_s))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    def post(
        self,
        command: Command,
        receiver: Receiver[Sequence[Event]],
        settled: Callable[[], None] | None = None,
        deadline_s: float = inf,
    ) -> None:
        """See CommandBus."""

        async def told() -> Sequence[Event]:
            try:
                events = await self.send(command, settled, deadline_s)
            except OmeError as error:
                if not receiver.done():
                    receiver.set_exception(error)
                return ()
            if not receiver.done():
                receiver.set_result(events)
            return events

        task = asyncio.create_task(told())
        self._running.add(task)
        task.add_done_callback(self._running.discard)
