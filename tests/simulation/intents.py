"""What clients ask of a service: the requests, each delivery of one, and what became of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final

from msgspec import structs

from ome.api.failures import problem_of
from ome.domain.commands import CancelOrder, CancelOrders, Command, DefineInstrument, ModifyOrder, NewOrder
from ome.domain.ports import Answer, Depth, Operation, Timely, command_of
from ome.domain.reasons import Reason

ClientKey = tuple[str, str, str]
"""User, symbol and client order id."""
NOT_EXECUTED: Final = "not_executed"
UNKNOWN: Final = "unknown"


@dataclass(eq=False)
class Request:
    """What a client wants, however often it is sent: operations (singly or as a batch), a mass cancel, a definition or a look."""

    number: int
    operations: Sequence[Operation] = ()
    alone: bool = False
    dry_run: bool = False
    cancel_all: CancelOrders | None = None
    definition: DefineInstrument | None = None
    look: Look | None = None

    @property
    def can_be_retried(self) -> bool:
        """Whether every order has a client order id, so that no retry can execute one twice (I1)."""
        return (
            bool(self.operations)
            and not self.dry_run
            and all(key_of(operation) is not None for operation in self.operations if is_submit(operation))
        )


@dataclass
class Look:
    """A read: the depth of a symbol, and what became of a client order id: `order_id` is what was acknowledged, if anything."""

    symbol: str
    key: ClientKey | None
    order_id: int | None


@dataclass(eq=False)
class Attempt:
    """One delivery of a request to a process; `after` is the position that was durable when it was sent."""

    request: Request
    operations: Sequence[Operation]
    after: int
    taken: set[int] = field(default_factory=set)
    """The operations that have reached the queue."""

    def operation_of(self, command: Command) -> int:
        """Which operation a command in the queue is; 0 for a definition, -1 for a part of a mass cancel."""
        if self.request.definition is not None:
            return 0
        for index, operation in enumerate(self.operations):
            if index not in self.taken and _is(operation, command):
                self.taken.add(index)
                return index
        return -1


@dataclass
class Outcome:
    """What came of one operation: an answer, or an error that says what is known (`error`) and why (`code`)."""

    answer: Answer | None
    error: str | None = None
    code: str | None = None

    @property
    def is_definite(self) -> bool:
        """Whether there is nothing more to ask: it was executed, or its time is over."""
        return self.answer is not None or self.code == Reason.TOO_LATE.code

    @property
    def is_conflict(self) -> bool:
        """Whether the client order id belongs to another order: then this one was not executed."""
        events = [] if self.answer is None else self.answer.events
        return bool(events) and getattr(events[-1], "reason", None) is Reason.CLIENT_ORDER_ID_CONFLICT

    def told(self) -> tuple[object, ...]:
        """For the trace."""
        if self.answer is None:
            return (self.error, self.code)
        return (self.answer.order_id, self.answer.replayed, len(self.answer.events), self.is_conflict)


@dataclass
class Reply:
    """What a client gets back: an outcome for each operation; a mass cancel's ids; a look's finds."""

    outcomes: list[Outcome]
    cancelled: list[int] | None = None
    depth: Depth | None = None


ATTEMPT: Final[ContextVar[Attempt | None]] = ContextVar("ATTEMPT", default=None)
"""The attempt that is being served, in the context of its handler and of all that this makes."""


def attempt_at(request: Request, after: int) -> Attempt:
    """A delivery: its operations are values of their own, as after a decoding."""
    return Attempt(request, [_copy(operation) for operation in request.operations], after)


def outcome_of(result: Answer | BaseException) -> Outcome:
    """An operation's outcome in the edge's own words."""
    if isinstance(result, Answer):
        return Outcome(result)
    if isinstance(result, asyncio.CancelledError) or not isinstance(result, Exception):
        raise result
    problem = problem_of(result, "", 1).document("POST", "/orders", "")
    return Outcome(None, problem.outcome, problem.code)


def is_submit(operation: Operation) -> bool:
    """Whether it brings a new order."""
    return isinstance(command_of(operation), NewOrder)


def key_of(operation: Operation) -> ClientKey | None:
    """The client order id of a submit, with whose it is."""
    command = command_of(operation)
    if not isinstance(command, NewOrder) or command.client_order_id is None:
        return None
    return command.user_id, command.symbol, command.client_order_id


def _copy(operation: Operation) -> Operation:
    if isinstance(operation, Timely):
        return Timely(structs.replace(operation.command), operation.valid_for_ms)
    return structs.replace(operation)


def _is(asked: Operation, command: Command) -> bool:
    operation = command_of(asked)
    match operation:
        case NewOrder():
            return command is operation
        case CancelOrder():
            return isinstance(command, CancelOrder) and command.order_id == operation.order_id
        case ModifyOrder():
            return isinstance(command, ModifyOrder) and structs.replace(command, exists=operation.exists) == operation
