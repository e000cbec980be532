"""Orders sent on one socket: carried out in the order in which they were sent, many at a time, each answered with its id.

What has arrived while the group before was on its way into the engine's queue is the next group, and joins it in one go:
whatever a look-up takes, nothing overtakes. A group's answers come when it is durable, so several groups are in flight. At
`max_in_flight` operations the lane is full and its connection isn't read until some are answered. A dry run goes by itself and is
answered before what came behind it joins: it shows what would happen after all that was sent before it, and nothing else.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final, NamedTuple

from msgspec import UNSET, Raw
from starlette.types import Scope

from ome.api.auth import Caller
from ome.api.decoding import OPERATION_FORMS, Asked, pop_dry_run, pop_order_id, read_form, read_modify, read_new_order
from ome.api.failures import problem_of
from ome.api.orders import OrderRoutes
from ome.api.problems import Problem
from ome.api.schemas import OperationResult
from ome.api.streams.messages import Reply, as_frame, encode
from ome.domain.commands import CancelOrder, NewOrder
from ome.domain.enums import OrderStatus
from ome.domain.numbers import pack
from ome.domain.ports import CommandBus, Operation, OrderEntry, command_of
from ome.domain.reasons import Reason

OPERATIONS: Final = frozenset({"submit", "modify", "cancel", "batch"})
GROUP: Final = 500
"""Operations that join the queue in one go."""
CANCEL_CHUNK: Final = 100
"""Cancels that join the queue in one go after a disconnect."""
_OPEN: Final = frozenset({OrderStatus.PENDING.name, OrderStatus.PARTIALLY_FILLED.name, OrderStatus.PENDING_TRIGGER.name})
_PRUNE_AT: Final = 1024


class Desk(NamedTuple):
    """Where a lane leads to."""

    entry: OrderEntry
    bus: CommandBus
    routes: OrderRoutes
    retry_after_seconds: int


class _Sent(NamedTuple):
    """An operation, or a batch's body, and the id that its answer carries."""

    id: Raw | None
    operation: Operation | None
    caller: Caller
    body: bytes = b""
    dry_run: bool = False

    @property
    def goes_alone(self) -> bool:
        """Whether nothing else may be in its group."""
        return self.operation is None or self.dry_run


class OrderLane:
    """The orders of one connection; `say` takes the frames of the answers."""

    def __init__(self, desk: Desk, say: Callable[[bytes], None], max_in_flight: int, request_id: str) -> None:
        self._desk = desk
        self._say = say
        self._max_in_flight = max_in_flight
        self._scope: Scope = {"ome.request_id": request_id, "method": "POST", "path": "/ws"}
        self._waiting: deque[_Sent] = deque()
        self._in_flight = 0
        self._room = asyncio.Event()
        self._room.set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._worker: asyncio.Task[None] | None = None
        self._open_orders: dict[int, None] = {}
        self._prune_at = _PRUNE_AT
        self.cancel_on_disconnect = False

    async def room(self) -> None:
        """Wait until the lane isn't full."""
        await self._room.wait()

    def take(self, asked: Asked, caller: Caller) -> None:
        """Put an operation into the lane; raises Problem where it can't be read, or isn't the caller's to ask for."""
        sent = _read(asked, caller)
        if sent.operation is not None:
            self._desk.routes.count(sent.operation, caller, self._scope)
        self._waiting.append(sent)
        self._in_flight += 1
        if self._in_flight >= self._max_in_flight:
            self._room.clear()
        if self._worker is None:
            self._worker = self._start(self._work())

    async def settled(self) -> None:
        """Wait until everything that was taken is answered."""
        while self._tasks:
            await asyncio.wait(list(self._tasks))

    async def disconnected(self) -> None:
        """Cancel what is still open of the orders that were submitted here, where that was asked for, in chunks."""
        await self.settled()
        if not self.cancel_on_disconnect:
            return
        ids = self._still_open()
        for start in range(0, len(ids), CANCEL_CHUNK):
            chunk: list[Operation] = [CancelOrder(order_id, exists=True) for order_id in ids[start : start + CANCEL_CHUNK]]
            await self._desk.entry.batch(chunk)

    def _start(self, work: Any) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _work(self) -> None:
        """One group after the other, each as soon as the one before it has joined the queue."""
        while self._waiting:
            group = self._next_group()
            queued = asyncio.Event()
            task = self._start(
                self._answer_batch(group[0], queued) if group[0].operation is None else self._answer(group, queued)
            )
            task.add_done_callback(lambda _, queued=queued: queued.set())  # type: ignore[misc]
            await queued.wait()
        self._worker = None

    def _next_group(self) -> list[_Sent]:
        """The operations that go together."""
        group = [self._waiting.popleft()]
        if not group[0].goes_alone:
            while self._waiting and not self._waiting[0].goes_alone and len(group) < GROUP:
                group.append(self._waiting.popleft())
        return group

    async def _answer(self, group: list[_Sent], queued: asyncio.Event) -> None:
        operations = [sent.operation for sent in group if sent.operation is not None]
        dry_run = group[0].dry_run
        try:
            outcomes = await self._desk.entry.batch(operations, dry_run=dry_run, queued=queued.set)
            results = self._desk.routes.results(operations, outcomes, self._scope, tried_by=group[0].caller if dry_run else None)
        except Exception as error:  # noqa: BLE001  whatever it is, each is answered
            results = [self._failed(error)] * len(group)
        if not dry_run:
            for operation, result in zip(operations, results, strict=True):
                self._note(operation, result)
        self._reply([self._outcome(sent, result) for sent, result in zip(group, results, strict=True)])

    async def _answer_batch(self, sent: _Sent, queued: asyncio.Event) -> None:
        try:
            answer = await self._desk.routes.answer_batch(
                sent.body, self._scope, sent.caller, dry_run=sent.dry_run, queued=queued.set
            )
        except Exception as error:  # noqa: BLE001  as above
            self._reply([self._outcome(sent, self._failed(error))])
            return
        for result in answer.results:
            if result.status == 201 and not sent.dry_run:
                self._note(None, result)
        self._reply([Reply(id=_id(sent), status=200, results=answer.results, dry_run=answer.dry_run)])

    def _failed(self, error: Exception) -> OperationResult:
        problem = problem_of(error, self._scope["ome.request_id"], self._desk.retry_after_seconds)
        document = problem.document(self._scope["method"], self._scope["path"], self._scope["ome.request_id"])
        return OperationResult(status=problem.status, problem=document)

    def _outcome(self, sent: _Sent, result: OperationResult) -> Reply:
        again = self._desk.retry_after_seconds if result.status == HTTPStatus.SERVICE_UNAVAILABLE else UNSET
        return Reply(id=_id(sent), status=result.status, retry_after_seconds=again, order=result.order, problem=result.problem)

    def _reply(self, replies: list[Reply]) -> None:
        """Answer a group, a frame each, in one write: a system call for each answer costs as much as to make it."""
        self._in_flight -= len(replies)
        if self._in_flight < self._max_in_flight:
            self._room.set()
        self._say(b"".join([as_frame(encode(reply)) for reply in replies]))

    def _note(self, operation: Operation | None, result: OperationResult) -> None:
        """Remember an order that was submitted here and stays open, for as long as it does."""
        if operation is not None and not isinstance(command_of(operation), NewOrder):
            return
        order = result.order
        if order is UNSET or order.order_id is None or order.status not in _OPEN:
            return
        self._open_orders[int(order.order_id)] = None
        if len(self._open_orders) >= self._prune_at:
            self._open_orders = dict.fromkeys(self._still_open())
            self._prune_at = max(_PRUNE_AT, 2 * len(self._open_orders))

    def _still_open(self) -> list[int]:
        return [order_id for order_id in self._open_orders if self._desk.bus.is_open(order_id)]


def _id(sent: _Sent) -> Any:
    return UNSET if sent.id is None else sent.id


def _read(asked: Asked, caller: Caller) -> _Sent:
    """The command that a message asks for, read as REST reads it."""
    op, members = asked.op, asked.members
    if op == "cancel":
        order_id = pop_order_id(members)
        read_form(members, OPERATION_FORMS["cancel"]._replace(required=()))
        return _Sent(asked.id, CancelOrder(order_id, exists=True, account=caller.account), caller)
    dry_run = pop_dry_run(members)
    if op == "batch":
        return _Sent(asked.id, None, caller, asked.body, dry_run)
    if op == "submit":
        return _Sent(asked.id, read_new_order(asked.body, caller), caller, dry_run=dry_run)
    order_id = pop_order_id(members)
    return _Sent(asked.id, read_modify(asked.body, order_id, caller), caller, dry_run=dry_run)


def check_size(asked: Asked, size: int, max_bytes: int) -> None:
    """Raises Problem for a message that is larger than a body may be, unless it is a batch."""
    if size > max_bytes and asked.op != "batch":
        raise Problem(Reason.BODY_TOO_LARGE, limit=pack(max_bytes, 0))
