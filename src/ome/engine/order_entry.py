"""Order entry: what the engine can't know is looked up here, before a command is stamped, and travels in it (M6).

The engine holds open orders only. Whether an id was ever an order's, and whether a client order id was used before, is asked of
the database. A client order id is reserved from before its look-up until the fate of its command is certain, so that the
same id sent twice at once, or again after an unknown outcome, never executes twice (I1, HOLE4, HOLE6).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from math import inf
from typing import Any, Final, NamedTuple

from msgspec import structs

from ome.domain.commands import CancelOrder, CancelOrders, Command, DefineInstrument, ModifyOrder, NewOrder
from ome.domain.enums import OrderType, Side, TimeInForce
from ome.domain.errors import OmeError, OutcomeUnknown, Pending, StateMismatch
from ome.domain.events import CommandRefused, ControlChanged, Event, OrderAccepted, OrderCancelled, OrderRejected
from ome.domain.numbers import canonical
from ome.domain.ports import Answer, CommandBus, ControlCommand, Operation, ReadModels, Timely, command_of
from ome.domain.reasons import Reason
from ome.domain.records import OrderRecord, SpecialTerms

ClientKey = tuple[str, str, str]
"""User, symbol and client order id."""
ClientCommand = NewOrder | ModifyOrder | CancelOrder
Outcome = Answer | OmeError
"""What comes of one operation of a batch."""
CANCEL_CHUNK: Final = 500
"""Orders that one command of a mass cancel takes out: a few milliseconds of the engine's time."""


class OrderEntryDesk:
    """The OrderEntry of a single process."""

    def __init__(
        self, bus: CommandBus, reads: ReadModels, *, wait_s: float = 5.0, monotonic_s: Callable[[], float] = time.monotonic
    ) -> None:
        """`wait_s` is how long whoever asks what became of a client order id waits for it."""
        self._bus = bus
        self._reads = reads
        self._wait_s = wait_s
        self._monotonic_s = monotonic_s
        self._reserved: dict[ClientKey, _Reservation] = {}
        self._running: set[asyncio.Task[Any]] = set()

    async def submit(self, order: NewOrder | Timely, *, dry_run: bool = False) -> Answer:
        """See OrderEntry."""
        if isinstance(order, NewOrder) and order.client_order_id is None and not dry_run:
            return _answer(await self._bus.send(order))
        return _value((await self.batch([order], dry_run=dry_run))[0])

    async def modify(self, change: ModifyOrder | Timely, *, dry_run: bool = False) -> Answer:
        """See OrderEntry."""
        if dry_run or isinstance(change, Timely):
            return _value((await self.batch([change], dry_run=dry_run))[0])
        exists = await self._exists(change.order_id, change.account)
        return Answer(change.order_id, await self._bus.send(structs.replace(change, exists=exists)))

    async def cancel(self, order_id: int, account: str | None = None) -> Answer:
        """See OrderEntry."""
        exists = await self._exists(order_id, account)
        return Answer(order_id, await self._bus.send(CancelOrder(order_id, exists, account)))

    def begin(self, operation: Operation, told: Callable[[Answer | Exception], None], deadline_s: float = inf) -> None:
        """See TimedOrderEntry."""
        if isinstance(operation, Timely) or self._must_be_looked_up(operation):
            self._begin_batch([operation], [deadline_s]).add_done_callback(partial(_tell, told))
        else:
            self._bus.post(operation, _Told(operation, told), None, deadline_s)

    def _must_be_looked_up(self, operation: ClientCommand) -> bool:
        """Whether there is something about it that the engine can't know: `exists` is true of an order that is open."""
        if isinstance(operation, NewOrder):
            return operation.client_order_id is not None
        return not (operation.exists and self._bus.is_open(operation.order_id, operation.account))

    async def cancel_all(self, user_id: str | None, symbol: str | None, side: Side | None) -> list[int]:
        """See OrderEntry."""
        return [order.id for order in await self.cancel_orders(user_id, symbol, side)]

    async def cancel_orders(self, user_id: str | None, symbol: str | None, side: Side | None) -> list[OrderRecord]:
        """See TimedOrderEntry: in chunks, so that nobody waits long behind a large one (I2)."""
        cancelled: list[OrderRecord] = []
        while True:
            try:
                events = await self._bus.send(CancelOrders(user_id, symbol, side, CANCEL_CHUNK))
            except OmeError as error:
                if cancelled:  # it can't be said that nothing was executed
                    raise OutcomeUnknown(f"{len(cancelled)} orders are cancelled, the rest isn't known") from error
                raise
            chunk = [event.order for event in events if isinstance(event, OrderCancelled)]
            cancelled += chunk
            if len(chunk) < CANCEL_CHUNK:
                return cancelled

    async def settled(self) -> None:
        """See TimedOrderEntry."""
        if self._running:
            await asyncio.wait(list(self._running))

    async def wait_for_fate(self, user_id: str, client_order_id: str, symbol: str | None = None) -> None:
        """See OrderEntry. A reservation is given back when its command is durable or certainly not executed."""
        open_now = [
            reservation.released
            for (user, listed, client_id), reservation in self._reserved.items()
            if user == user_id and client_id == client_order_id and symbol in {None, listed}
        ]
        if open_now:
            _, still_open = await asyncio.wait(open_now, timeout=self._wait_s)
            if still_open:
                raise Pending

    async def control(self, command: ControlCommand) -> ControlChanged:
        """See OrderEntry."""
        events = await self._bus.send(command)
        return [event for event in events if isinstance(event, ControlChanged)][-1]  # timers that were due come before its own

    async def define_instrument(self, definition: DefineInstrument) -> Sequence[Event]:
        """See OrderEntry."""
        return await self._bus.send(definition)

    async def batch(
        self,
        operations: Sequence[Operation],
        *,
        dry_run: bool = False,
        queued: Callable[[], None] | None = None,
        deadlines_s: Sequence[float] | None = None,
    ) -> list[Outcome]:
        """See TimedOrderEntry. Everything is looked up first; then all of it joins the queue at once, in its order.

        It is a task of its own: once begun it goes on when its client goes away.
        """
        if dry_run:
            return await asyncio.shield(self._start(self._preview([command_of(operation) for operation in operations])))
        return await asyncio.shield(self._begin_batch(operations, deadlines_s or [inf] * len(operations), queued))

    def _begin_batch(
        self, operations: Sequence[Operation], deadlines_s: Sequence[float], queued: Callable[[], None] | None = None
    ) -> asyncio.Task[list[Outcome]]:
        """Client order ids are reserved before this returns: who asks for their fate from now on waits for it (HOLE4)."""
        commands = [command_of(operation) for operation in operations]
        places = [self._reserve(command) for command in commands]
        return self._start(self._batch(commands, places, self._deadlines(operations, deadlines_s), queued))

    def _start(self, work: Coroutine[Any, Any, list[Outcome]]) -> asyncio.Task[list[Outcome]]:
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    def _deadlines(self, operations: Sequence[Operation], bounds_s: Sequence[float]) -> list[float]:
        """When it is too late for each, counted from now or by its bound, as `time.monotonic` counts."""
        now = self._monotonic_s()
        return [
            min(bound, now + operation.valid_for_ms / 1000) if isinstance(operation, Timely) else bound
            for operation, bound in zip(operations, bounds_s, strict=True)
        ]

    async def _batch(
        self,
        operations: Sequence[ClientCommand],
        places: Sequence[_Place | None],
        deadlines: Sequence[float],
        queued: Callable[[], None] | None,
    ) -> list[Outcome]:
        found = await self._look_up_all(operations, places)
        outcomes = _Outcomes(len(operations))
        for index, (operation, place, deadline_s) in enumerate(zip(operations, places, deadlines, strict=True)):
            told = partial(outcomes.put, index)
            if place is None or place.is_mine:
                self._post(operation, found.get(index, operation), place, told, deadline_s)
            else:
                place.answer.add_done_callback(partial(_tell_again, told))
        if queued is not None:
            queued()
        return [_outcome(outcome) for outcome in await outcomes.all_of_them]

    async def _look_up_all(
        self, operations: Sequence[ClientCommand], places: Sequence[_Place | None]
    ) -> dict[int, Command | Answer | BaseException]:
        """What each operation, by its place in the list, has become that there was something to look up for."""
        sought = [
            index
            for index, (operation, place) in enumerate(zip(operations, places, strict=True))
            if (place is None or place.is_mine) and self._must_be_looked_up(operation)
        ]
        if not sought:
            return {}
        found = await asyncio.gather(*(self._look_up(operations[index]) for index in sought), return_exceptions=True)
        return dict(zip(sought, found, strict=True))

    def _reserve(self, operation: ClientCommand) -> _Place | None:
        """Keep a client order id for this operation, or find who has it (I1, HOLE6); None where it has none."""
        if not isinstance(operation, NewOrder) or operation.client_order_id is None:
            return None
        key = (operation.user_id, operation.symbol, operation.client_order_id)
        reserved = self._reserved.get(key)
        if reserved is not None:
            if reserved.order == operation:
                return _Place(key, reserved.answer, is_mine=False)
            refused: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
            refused.set_result(_CONFLICT)
            return _Place(key, refused, is_mine=False)
        answer = asyncio.get_running_loop().create_future()
        answer.add_done_callback(_retrieve)
        self._reserved[key] = _Reservation(operation, answer, asyncio.get_running_loop().create_future())
        return _Place(key, answer, is_mine=True)

    async def _look_up(self, operation: ClientCommand) -> Command | Answer:
        """The operation with what the engine can't know, or the answer that a client order id had already."""
        if isinstance(operation, ModifyOrder | CancelOrder):
            return structs.replace(operation, exists=await self._exists(operation.order_id, operation.account))
        if operation.client_order_id is not None:
            known = await self._reads.orders_by_client_id(operation.user_id, operation.client_order_id, operation.symbol)
            if known:
                return await self._first_answer(known[0], operation)
        return operation

    def _post(
        self,
        operation: ClientCommand,
        found: Command | Answer | BaseException,
        place: _Place | None,
        told: Callable[[Answer | BaseException], None],
        deadline_s: float,
    ) -> None:
        """Put the operation into the queue, unless its look-up has answered it already."""
        if place is not None:
            told = partial(_tell_both, place, told)
        if isinstance(found, (Answer, BaseException)):
            self._release(place)
            told(found)
            return
        settled = None if place is None else partial(self._release, place)
        try:
            self._bus.post(found, _Told(operation, told), settled, deadline_s)
        except OmeError as error:
            told(error)

    def _release(self, place: _Place | None) -> None:
        reservation = None if place is None else self._reserved.pop(place.key, None)
        if reservation is not None:
            reservation.released.set_result(None)

    async def _preview(self, operations: Sequence[ClientCommand]) -> list[Outcome]:
        """A dry run: nothing is reserved; an order whose client order id was used gets the answer that this one got."""
        looked_up = await asyncio.gather(*(self._look_up(operation) for operation in operations))
        commands = [found for found in looked_up if not isinstance(found, Answer)]
        events = iter(await self._bus.preview(commands))
        return [
            found if isinstance(found, Answer) else _answer_to(operation, next(events))
            for operation, found in zip(operations, looked_up, strict=True)
        ]

    async def _first_answer(self, known: OrderRecord, order: NewOrder) -> Answer:
        """What the first command with this client order id was answered, or the refusal where it asked for something else."""
        stored = await self._reads.command_events(known.id)
        if stored is None:
            raise StateMismatch(f"order {known.id} is stored without its events")
        answer = _answer(stored.events)
        return structs.replace(answer, replayed=True) if _asks_for(order, _submitted(stored.events)) else _CONFLICT

    async def _exists(self, order_id: int, account: str | None) -> bool:
        """Whether the id is an order's, and the account's: whose an order is never changes. An id that a
        client can know is that of a committed order, so the database has it.
        """
        return self._bus.is_open(order_id, account) or await self._reads.order(order_id, account) is not None


class _Told:
    """Receives the events of an operation that nothing had to be looked up for."""

    __slots__ = ("_is_done", "_operation", "_told")

    def __init__(self, operation: ClientCommand, told: Callable[[Any], None]) -> None:
        self._operation = operation
        self._told = told
        self._is_done = False

    def done(self) -> bool:
        return self._is_done

    def set_result(self, events: Sequence[Event]) -> None:
        self._is_done = True
        self._told(_answer_to(self._operation, events))

    def set_exception(self, error: OmeError) -> None:
        self._is_done = True
        self._told(error)


class _Outcomes:
    """The outcomes of several operations, in their order; `all_of_them` is done when none is missing."""

    __slots__ = ("_missing", "_outcomes", "all_of_them")

    def __init__(self, count: int) -> None:
        self._outcomes: list[Any] = [None] * count
        self._missing = count
        self.all_of_them: asyncio.Future[list[Answer | BaseException]] = asyncio.get_running_loop().create_future()
        if not count:
            self.all_of_them.set_result([])

    def put(self, index: int, outcome: Answer | BaseException) -> None:
        """What came of one."""
        self._outcomes[index] = outcome
        self._missing -= 1
        if not self._missing and not self.all_of_them.done():
            self.all_of_them.set_result(self._outcomes)


class _Reservation(NamedTuple):
    """A client order id that is being worked on: with which order, where its answer will be, and when its fate is certain."""

    order: NewOrder
    answer: asyncio.Future[Answer]
    released: asyncio.Future[None]


class _Place(NamedTuple):
    """Where the answer for a client order id will be; `is_mine`: this operation makes it, else another one does."""

    key: ClientKey
    answer: asyncio.Future[Answer]
    is_mine: bool


_CONFLICT = Answer(0, [CommandRefused(None, Reason.CLIENT_ORDER_ID_CONFLICT)])


def _retrieve(answer: asyncio.Future[Answer]) -> None:
    """Look at the exception, so that one whose clients have all gone is not reported as forgotten."""
    if not answer.cancelled():
        answer.exception()


def _tell(told: Callable[[Answer | Exception], None], batch: asyncio.Task[list[Outcome]]) -> None:
    """Tell what came of a batch of one."""
    if batch.cancelled():
        told(OutcomeUnknown("the service stopped"))
    else:
        error = batch.exception()
        told(batch.result()[0] if error is None else error if isinstance(error, Exception) else OutcomeUnknown(repr(error)))


def _tell_both(place: _Place, told: Callable[[Answer | BaseException], None], outcome: Answer | BaseException) -> None:
    """Tell whoever waits for the same client order id too."""
    if not place.answer.done():
        if isinstance(outcome, Answer):
            place.answer.set_result(outcome)
        else:
            place.answer.set_exception(outcome)
    told(outcome)


def _tell_again(told: Callable[[Answer | BaseException], None], answer: asyncio.Future[Answer]) -> None:
    """Tell what another operation with the same client order id was answered."""
    error = answer.exception()
    if error is not None:
        told(error)
    else:
        found = answer.result()
        told(found if found is _CONFLICT else structs.replace(found, replayed=True))


def _outcome(result: Answer | BaseException) -> Outcome:
    """An operation's answer or the error that it is told; anything else is a bug and goes on."""
    if isinstance(result, Answer | OmeError):
        return result
    raise result


def _value(outcome: Outcome) -> Answer:
    if isinstance(outcome, OmeError):
        raise outcome
    return outcome


def _answer_to(operation: ClientCommand, events: Sequence[Event]) -> Answer:
    return _answer(events) if isinstance(operation, NewOrder) else Answer(operation.order_id, events)


def _submitted(events: Sequence[Event]) -> OrderRecord:
    """The order as its submit's events first show it."""
    for event in events:
        if type(event) is OrderAccepted or type(event) is OrderRejected:
            return event.order
    raise LookupError("no event tells what was submitted")


def _answer(events: Sequence[Event]) -> Answer:
    """The answer to a submit; expiries that came due with it may stand before its own events."""
    return Answer(_submitted(events).id, events)


def _asks_for(order: NewOrder, record: OrderRecord) -> bool:
    """Whether a submit asks for what a stored order was submitted as; 1.5 and 1.50 are the same."""
    return (
        order.side is record.side
        and order.type is record.type
        and order.time_in_force is record.time_in_force
        and order.quantity == canonical(record.quantity)
        and order.price == _canonical(record.price)
        and order.self_trade_prevention is record.self_trade_prevention
        and (order.time_in_force is TimeInForce.DAY or order.expires_at == record.expires_at)
        and _asked(order.type, order.terms) == _asked(record.type, record.terms)
    )


def _asked(order_type: OrderType, terms: SpecialTerms | None) -> SpecialTerms:
    """What of terms a client asks for, in canonical numbers; where a trailing stop stands is the engine's to say (S6)."""
    if terms is None:
        return SpecialTerms()
    return SpecialTerms(
        stop_price=None if order_type is OrderType.TRAILING_STOP else _canonical(terms.stop_price),
        trail_amount=_canonical(terms.trail_amount),
        trail_percent=_canonical(terms.trail_percent),
        limit_offset=_canonical(terms.limit_offset),
        post_only=terms.post_only,
        display_quantity=_canonical(terms.display_quantity),
        min_quantity=_canonical(terms.min_quantity),
        max_slippage_bps=terms.max_slippage_bps,
    )


def _canonical(number: int | None) -> int | None:
    return None if number is None else canonical(number)
