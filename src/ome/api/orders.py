"""The routes that carry orders: POST /orders, POST /orders/batch; GET, PUT and DELETE of /orders/{order_id}.

The dispatcher calls them. Each takes a request as ASGI hands it over, once the gate has let it through, and
returns (status, body, further headers), or raises
Problem. An answer is made from its commands' events alone, after they are durable (D3). Query parameters that aren't
known are refused: a misspelt `dry_run` must not place an order.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final, NamedTuple
from urllib.parse import parse_qsl

import msgspec
from msgspec import UNSET
from starlette.types import Receive, Scope

from ome.api.auth import Caller, Headers, caller_of
from ome.api.bodies import check_declared, read_json
from ome.api.decoding import read_batch, read_modify, read_new_order
from ome.api.failures import problem_of
from ome.api.outcomes import order_after
from ome.api.problems import REPLAYED_HEADER, FieldError, Header, Problem
from ome.api.rate_limits import RateLimits
from ome.api.schemas import BatchAnswer, OperationResult
from ome.api.settings import ApiSettings
from ome.api.views import dry_run_answer, order_answer, order_view
from ome.domain.access import Access
from ome.domain.commands import CancelOrder, ModifyOrder, NewOrder
from ome.domain.errors import OmeError
from ome.domain.ids import parse_id
from ome.domain.ports import Answer, Operation, OrderEntry, ReadModels, Timely, command_of
from ome.domain.reasons import Reason

PREFIX: Final = "/orders/"
BATCH: Final = "/orders/batch"
USERS: Final = "/orders/user"
ORDER: Final = "/orders/{order_id}"
HOT_ACCESS: Final[dict[tuple[str, str], Access]] = {
    ("POST", "/orders"): Access.TRADE,
    ("POST", BATCH): Access.TRADE,
    ("GET", ORDER): Access.READ,
    ("PUT", ORDER): Access.TRADE,
    ("DELETE", ORDER): Access.TRADE,
}
"""What each of these routes asks for, of the dispatcher and of FastAPI alike."""
Outcome = Answer | OmeError | Problem
"""What comes of one operation of a batch: a Problem for one that could not be read."""
Reply = tuple[int, bytes, Sequence[Header]]
_NO_HEADERS: Final[Sequence[Header]] = ()
_REPLAYED: Final = (REPLAYED_HEADER,)
_encoder: Final = msgspec.json.Encoder()


class _DryRun(NamedTuple):
    """The ids of its new orders, which mean nothing outside of it, and whether its caller sees no other user's."""

    unreal: Collection[int]
    is_alone: bool


class Direct(NamedTuple):
    """How a route is served without a coroutine: `read` gives what a request asks for, or raises; `show` answers it."""

    access: Access
    read: Callable[[Scope, Headers, bytes], Operation]
    show: Callable[[Answer], Reply]


class OrderRoutes:
    """The handlers; they hold nothing between requests."""

    def __init__(self, entry: OrderEntry, reads: ReadModels, limits: RateLimits, settings: ApiSettings) -> None:
        self._entry = entry
        self._reads = reads
        self._limits = limits
        self._max_body_bytes = settings.max_body_bytes
        self._max_batch_bytes = settings.max_batch_bytes
        self._retry_after_seconds = settings.retry_after_seconds

    async def submit(self, scope: Scope, headers: Headers, receive: Receive) -> Reply:
        """POST /orders: 201 and the order after its command, with the trades that it made."""
        dry_run = bool(scope["query_string"]) and _dry_run(scope["query_string"])
        order = self._read_submit(scope, await read_json(headers, receive, self._max_body_bytes))
        if not dry_run:
            return _submitted(await self._entry.submit(order))
        answer = await self._entry.submit(order, dry_run=True)
        shown = dry_run_answer(answer, [answer.order_id], is_alone=caller_of(scope).account is not None)
        return 201, _encoder.encode(shown), _REPLAYED if answer.replayed else _NO_HEADERS

    def _read_submit(self, scope: Scope, body: bytes) -> NewOrder | Timely:
        caller = caller_of(scope)
        order = read_new_order(body, caller)
        self._limits.take(self._limits.orders, 1, caller, scope)
        return order

    async def modify(self, scope: Scope, headers: Headers, receive: Receive) -> Reply:
        """PUT /orders/{order_id}: 200 and the order after its change, with the trades that it made."""
        order_id = _order_id(scope)
        dry_run = bool(scope["query_string"]) and _dry_run(scope["query_string"], "symbol")
        change = self._read_change(scope, order_id, await read_json(headers, receive, self._max_body_bytes))
        if not dry_run:
            return _changed(await self._entry.modify(change))
        is_alone = caller_of(scope).account is not None
        shown = dry_run_answer(await self._entry.modify(change, dry_run=True), [], is_alone=is_alone)
        return 200, _encoder.encode(shown), _NO_HEADERS

    def _read_change(self, scope: Scope, order_id: int, body: bytes) -> ModifyOrder | Timely:
        caller = caller_of(scope)
        change = read_modify(body, order_id, caller)
        self.count(change, caller, scope)
        return change

    async def cancel(self, scope: Scope, _headers: Headers, _receive: Receive) -> Reply:
        """DELETE /orders/{order_id}: 200 and the order, CANCELLED."""
        command = self._read_cancel(scope, _headers, b"")
        return _cancelled(await self._entry.cancel(command.order_id, command.account))

    def _read_cancel(self, scope: Scope, _headers: Headers, _body: bytes) -> CancelOrder:
        order_id = _order_id(scope)
        if scope["query_string"]:
            _check_query(scope["query_string"], ("symbol",))
        caller = caller_of(scope)
        self._limits.take(self._limits.cancels, 1, caller, scope)
        return CancelOrder(order_id, exists=True, account=caller.account)

    def direct(self) -> dict[str, Direct]:
        """The routes of single orders by their methods, for requests that came whole and have no query."""

        def submit(scope: Scope, headers: Headers, body: bytes) -> NewOrder | Timely:
            check_declared(headers, self._max_body_bytes)
            return self._read_submit(scope, body)

        def modify(scope: Scope, headers: Headers, body: bytes) -> ModifyOrder | Timely:
            order_id = _order_id(scope)
            check_declared(headers, self._max_body_bytes)
            return self._read_change(scope, order_id, body)

        return {
            "POST": Direct(HOT_ACCESS["POST", "/orders"], submit, _submitted),
            "PUT": Direct(HOT_ACCESS["PUT", ORDER], modify, _changed),
            "DELETE": Direct(HOT_ACCESS["DELETE", ORDER], self._read_cancel, _cancelled),
        }

    def begin(self, operation: Operation, told: Callable[[Answer | Exception], None]) -> None:
        """Carry out what a direct route has read; see `OrderEntry.begin`."""
        self._entry.begin(operation, told)

    async def batch(self, scope: Scope, headers: Headers, receive: Receive) -> Reply:
        """POST /orders/batch: 200 and a result for each operation, as it would have been answered by itself (I4)."""
        dry_run = bool(scope["query_string"]) and _dry_run(scope["query_string"])
        asked = await read_json(headers, receive, self._max_batch_bytes)
        return 200, _encoder.encode(await self.answer_batch(asked, scope, caller_of(scope), dry_run=dry_run)), _NO_HEADERS

    async def answer_batch(
        self, body: bytes, scope: Scope, caller: Caller, *, dry_run: bool = False, queued: Callable[[], None] | None = None
    ) -> BatchAnswer:
        """The answer to a batch's body; raises Problem where it can't be read. `queued` as in OrderEntry."""
        asked = [self._counted(each, caller, scope) for each in read_batch(body, caller)]
        operations = [operation for operation in asked if not isinstance(operation, Problem)]
        outcomes = iter(await self._entry.batch(operations, dry_run=dry_run, queued=queued) if operations else [])
        found = [each if isinstance(each, Problem) else next(outcomes) for each in asked]
        results = self.results(asked, found, scope, tried_by=caller if dry_run else None)
        return BatchAnswer(results=results, dry_run=True if dry_run else UNSET)

    def results(
        self,
        operations: Sequence[Operation | Problem],
        outcomes: Sequence[Outcome],
        scope: Scope,
        *,
        tried_by: Caller | None = None,
    ) -> list[OperationResult]:
        """The answer of each operation; `tried_by` is whose dry run it is, if it is one."""
        answered = list(zip(operations, outcomes, strict=True))
        dry = None if tried_by is None else _DryRun(_unreal_ids(answered), tried_by.account is not None)
        return [self._result(operation, outcome, scope, dry) for operation, outcome in answered]

    def _result(self, operation: Operation | Problem, outcome: Outcome, scope: Scope, dry: _DryRun | None) -> OperationResult:
        """One operation's answer; `dry` is None where it isn't a dry run."""
        try:
            if isinstance(outcome, Exception):
                raise outcome
            order = order_answer(outcome) if dry is None else dry_run_answer(outcome, dry.unreal, is_alone=dry.is_alone)
        except (Problem, OmeError) as error:
            request_id = scope["ome.request_id"]
            problem = problem_of(error, request_id, self._retry_after_seconds)
            document = problem.document(scope["method"], scope["path"], request_id)
            return OperationResult(status=problem.status, problem=document)
        return OperationResult(status=201 if _is_submit(operation) else 200, order=order)

    def count(self, operation: Operation, caller: Caller, scope: Scope) -> None:
        """Count an operation for its caller's rate limits; raises RATE_LIMITED. What takes out, or only lowers, has more (R3)."""
        limits, command = self._limits, command_of(operation)
        if isinstance(command, CancelOrder):
            limits.take(limits.cancels, 1, caller, scope)
        else:
            limits.take(limits.orders, 1, caller, scope, instead=limits.cancels if _changes_quantity_alone(command) else None)

    def _counted(self, operation: Operation | Problem, caller: Caller, scope: Scope) -> Operation | Problem:
        """The operation, or the refusal of it alone: the rest of its batch goes on (I4)."""
        if isinstance(operation, Problem):
            return operation
        try:
            self.count(operation, caller, scope)
        except Problem as problem:
            return problem
        return operation

    async def read(self, scope: Scope, _headers: Headers, _receive: Receive) -> Reply:
        """GET /orders/{order_id}: 200 and the order as it stands."""
        if scope["query_string"]:
            _check_query(scope["query_string"], ("symbol",))
        caller = caller_of(scope)
        self._limits.take(self._limits.reads, 1, caller, scope)
        order = await self._reads.order(_order_id(scope), caller.account)
        if order is None:
            raise Problem(Reason.ORDER_NOT_FOUND)
        return 200, _encoder.encode(order_view(order)), _NO_HEADERS


def _submitted(answer: Answer) -> Reply:
    return 201, _encoder.encode(order_answer(answer)), _REPLAYED if answer.replayed else _NO_HEADERS


def _changed(answer: Answer) -> Reply:
    return 200, _encoder.encode(order_answer(answer)), _NO_HEADERS


def _cancelled(answer: Answer) -> Reply:
    order, _ = order_after(answer)
    return 200, _encoder.encode(order_view(order)), _NO_HEADERS


def _unreal_ids(answered: Iterable[tuple[Operation | Problem, Outcome]]) -> set[int]:
    """The ids that a dry run's new orders have: they mean nothing outside of it."""
    return {
        outcome.order_id
        for operation, outcome in answered
        if _is_submit(operation) and isinstance(outcome, Answer) and not outcome.replayed
    }


def _changes_quantity_alone(command: NewOrder | ModifyOrder) -> bool:
    """Whether all that changes is `quantity`; that it is lowered, the engine alone could say."""
    if not isinstance(command, ModifyOrder) or command.quantity is None:
        return False
    return command == ModifyOrder(
        command.order_id,
        command.exists,
        quantity=command.quantity,
        expected_version=command.expected_version,
        account=command.account,
    )


def _is_submit(operation: Operation | Problem) -> bool:
    return not isinstance(operation, Problem) and isinstance(command_of(operation), NewOrder)


def _order_id(scope: Scope) -> int:
    path: str = scope["path"]
    order_id = parse_id(path[path.rindex("/") + 1 :])
    if order_id is None:
        raise Problem(Reason.ORDER_NOT_FOUND)
    return order_id


def _dry_run(query: bytes, *known: str) -> bool:
    """What the query says of `dry_run`; raises Problem for any other parameter that isn't known."""
    value = _check_query(query, ("dry_run", *known)).get("dry_run", "false")
    if value not in {"true", "false"}:
        raise Problem(Reason.INVALID_REQUEST, errors=[FieldError("dry_run", "must be true or false")])
    return value == "true"


def _check_query(query: bytes, known: Collection[str]) -> dict[str, str]:
    """The parameters; raises Problem for any that isn't known. `symbol` beside an order's id is accepted, never needed."""
    given = dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True, errors="replace"))
    unknown = [name for name in given if name not in known]
    if unknown:
        raise Problem(Reason.INVALID_REQUEST, errors=[FieldError(name[:64], "is no parameter of this route") for name in unknown])
    return given
