"""Order entry in a gateway: a router. Each operation goes to the shard that owns its symbol, whose own order entry does the rest.

- By symbol: the shard map says whose it is. By order id: the shard is in the id.
- By user over all symbols (mass cancels, kill switches, timers, limits, risk): every shard is asked, and the answers are added
  up. Each shard's part is done at its own moment. Where one fails after another has done its part, the outcome is unknown, and
  doing it again is harmless.
- A batch is carried out in its order within each shard; different shards work on it at the same time (I4).
- Funds, the audit and keys are shard 0's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from heapq import merge

from msgspec import structs

from ome.cluster.places import Places
from ome.cluster.shard_link import ShardLink, unexpected
from ome.cluster.wire import (
    AwaitFate,
    CancelAll,
    Cancelled,
    Carried,
    Cede,
    Decided,
    Failed,
    LookAgain,
    Moved,
    MoveFunds,
    Operate,
    OperateAll,
    Request,
    Result,
    Send,
    Sent,
    Several,
    StillListed,
    Transferred,
    answer_of,
    error_of,
    transfer_answer_of,
)
from ome.domain.clock import now_us
from ome.domain.commands import (
    CancelAllAfter,
    CancelOrder,
    Command,
    DefineInstrument,
    ModifyOrder,
    NewOrder,
    SetKill,
    SetLimits,
    Transfer,
)
from ome.domain.enums import Side
from ome.domain.errors import NotAccepting, OmeError, OutcomeUnknown
from ome.domain.events import ControlChanged, Event
from ome.domain.ids import SHARD_STEP
from ome.domain.ports import Answer, ControlCommand, Operation, Timely, TransferAnswer, command_of
from ome.domain.shards import FUNDS_SHARD

MILLISECOND_US = 1000

Outcome = Answer | OmeError


class GatewayEntry:
    """The OrderEntry and FundsEntry of a gateway."""

    def __init__(self, links: Sequence[ShardLink], places: Places) -> None:
        """`links` are by shard; `places` is the map as it is known here."""
        self._links = links
        self._places = places
        self._again: set[asyncio.Task[None]] = set()

    # Orders

    async def submit(self, order: NewOrder | Timely, *, dry_run: bool = False) -> Answer:
        """See OrderEntry."""
        return _value((await self.batch([order], dry_run=dry_run))[0])

    async def modify(self, change: ModifyOrder | Timely, *, dry_run: bool = False) -> Answer:
        """See OrderEntry."""
        return _value((await self.batch([change], dry_run=dry_run))[0])

    async def cancel(self, order_id: int, account: str | None = None) -> Answer:
        """See OrderEntry."""
        return _value((await self.batch([CancelOrder(order_id, exists=True, account=account)]))[0])

    def begin(self, operation: Operation, told: Callable[[Answer | Exception], None]) -> None:
        """See OrderEntry."""
        command, until = _asked(operation)

        def take(result: Result | OmeError) -> None:
            if isinstance(result, Moved):
                task = asyncio.create_task(self._elsewhere(operation, told))
                self._again.add(task)
                task.add_done_callback(self._again.discard)
            else:
                told(_outcome(result))

        self._link_of(command).post(lambda number: Operate(number, command, until), take)

    async def _elsewhere(self, operation: Operation, told: Callable[[Answer | Exception], None]) -> None:
        """Try once more, by the map as it is now."""
        try:
            await self._places.read()
            told((await self.batch([operation]))[0])
        except Exception as error:  # noqa: BLE001  whatever it is, it is told
            told(error)

    async def batch(
        self, operations: Sequence[Operation], *, dry_run: bool = False, queued: Callable[[], None] | None = None
    ) -> list[Outcome]:
        """See OrderEntry."""
        outcomes = await self._once(operations, dry_run=dry_run, queued=queued)
        moved = [place for place, outcome in enumerate(outcomes) if isinstance(outcome, Moved)]
        if moved:
            await self._places.read()
            again = await self._once([operations[place] for place in moved], dry_run=dry_run, queued=None)
            for place, outcome in zip(moved, again, strict=True):
                outcomes[place] = outcome
        return [_known(outcome) if isinstance(outcome, Moved) else outcome for outcome in outcomes]

    async def _once(self, operations: Sequence[Operation], *, dry_run: bool, queued: Callable[[], None] | None) -> list[Outcome]:
        """Each operation at the shard that it belongs to by the map as it is known now; Moved where that is wrong."""
        outcomes: list[Outcome] = [NotAccepting("away")] * len(operations)
        places: dict[int, list[int]] = {}
        for place, operation in enumerate(operations):
            shard = self._shard_of(command_of(operation))
            if shard < len(self._links):
                places.setdefault(shard, []).append(place)
            else:  # of an id that no shard can have given
                places.setdefault(0, []).append(place)
        left = len(places)

        def one_queued() -> None:
            nonlocal left
            left -= 1
            if not left and queued is not None:
                queued()

        async def part(shard: int, mine: list[int]) -> None:
            asked = [_asked(operations[place]) for place in mine]
            found = await self._batch(shard, asked, dry_run=dry_run, queued=one_queued if queued else None)
            for place, outcome in zip(mine, found, strict=True):
                outcomes[place] = outcome

        await asyncio.gather(*(part(shard, mine) for shard, mine in places.items()))
        return outcomes

    async def _batch(
        self,
        shard: int,
        asked: list[tuple[NewOrder | ModifyOrder | CancelOrder, int | None]],
        *,
        dry_run: bool,
        queued: Callable[[], None] | None,
    ) -> list[Outcome]:
        """A batch's part of one shard; `queued` is called once, whatever becomes of it."""
        is_told = False

        def told() -> None:
            nonlocal is_told
            if not is_told and queued is not None:
                is_told = True
                queued()

        try:
            result = await self._links[shard].ask(lambda number: OperateAll(number, asked, dry_run, queued is not None), told)
        except OmeError as error:
            return [error] * len(asked)
        finally:
            told()
        if isinstance(result, Several) and len(result.outcomes) == len(asked):
            return [_outcome(outcome) for outcome in result.outcomes]
        return [unexpected(result)] * len(asked)

    async def cancel_all(self, user_id: str | None, symbol: str | None, side: Side | None) -> list[int]:
        """See OrderEntry; of a user in all symbols, each shard at its own moment."""
        found: list[list[tuple[int, int]]] = []
        for result in await self._of_each(symbol, lambda number: CancelAll(number, user_id, symbol, side)):
            if not isinstance(result, Cancelled):
                raise unexpected(result)
            found.append(result.orders)
        return [order_id for _, order_id in merge(*found)]

    async def wait_for_fate(self, user_id: str, client_order_id: str, symbol: str | None = None) -> None:
        """See OrderEntry. What another gateway has sent on its way just now isn't known to anybody: the watermark that this is
        asked with is to be as old as a command's way to its engine may last.
        """
        for result in await self._of_each(symbol, lambda number: AwaitFate(number, user_id, client_order_id, symbol)):
            if not isinstance(result, Decided):
                raise unexpected(result)

    # Controls, instruments, funds

    async def control(self, command: ControlCommand) -> ControlChanged:
        """See OrderEntry; over all symbols, each shard has the control, and what they found open is added up."""
        symbol = None if isinstance(command, CancelAllAfter) else command.symbol or None
        changed = [_control_in(events) for events in await self._send(symbol, command)]
        return structs.replace(changed[0], open_orders=sum(each.open_orders for each in changed))

    async def define_instrument(self, definition: DefineInstrument) -> Sequence[Event]:
        """See OrderEntry."""
        if definition.base_asset and self._places.shard_of(definition.symbol) != FUNDS_SHARD:
            with suppress(StillListed):  # its shard says why it can't be
                await self._to_funds(definition.symbol)
        return (await self._send(definition.symbol, definition))[0]

    async def _to_funds(self, symbol: str) -> None:
        """Have a symbol that isn't listed belong to the shard that has the money, before it is listed there."""
        target = FUNDS_SHARD
        await self._links[self._places.shard_of(symbol)].ask(lambda number: Cede(number, symbol, target))
        await self._links[target].ask(LookAgain)
        await self._places.read()

    async def transfer(self, asked: Transfer) -> TransferAnswer:
        """See FundsEntry."""
        result = await self._links[FUNDS_SHARD].ask(lambda number: MoveFunds(number, asked))
        if not isinstance(result, Transferred):
            raise unexpected(result)
        return transfer_answer_of(result)

    async def send(self, command: Command) -> Sequence[Event]:
        """Have a command that is about no symbol carried out by shard 0: an entry of the audit."""
        result = await self._links[0].ask(lambda number: Send(number, command))
        if not isinstance(result, Sent):
            raise unexpected(result)
        return result.events

    async def _send(
        self, symbol: str | None, command: DefineInstrument | SetLimits | SetKill | CancelAllAfter
    ) -> list[Sequence[Event]]:
        found = []
        for result in await self._of_each(symbol, lambda number: Send(number, command)):
            if not isinstance(result, Sent):
                raise unexpected(result)
            found.append(result.events)
        return found

    async def _of_each(self, symbol: str | None, make: Callable[[int], Request]) -> list[Result]:
        """The answers of a symbol's shard, or of all. Raises what a shard raises; where another one may have done its part,
        OutcomeUnknown.
        """
        if symbol is not None:
            try:
                return [await self._links[self._places.shard_of(symbol)].ask(make)]
            except Moved:
                await self._places.read()
            try:
                return [await self._links[self._places.shard_of(symbol)].ask(make)]
            except Moved as error:
                raise _known(error) from error
        links = list(self._links)
        found = await asyncio.gather(*(link.ask(make) for link in links), return_exceptions=True)
        errors = [result for result in found if isinstance(result, BaseException)]
        if errors and not all(isinstance(error, NotAccepting) for error in found):
            told = "; ".join(
                f"shard {link.shard}: {result}" for link, result in zip(links, found, strict=True) if result in errors
            )
            raise OutcomeUnknown(f"not certain of every shard: {told}") from errors[0]
        if errors:
            raise errors[0]
        return [result for result in found if not isinstance(result, BaseException)]

    # Where to

    def _shard_of(self, command: NewOrder | ModifyOrder | CancelOrder) -> int:
        if isinstance(command, NewOrder):
            return self._places.shard_of(command.symbol)
        return command.order_id // SHARD_STEP

    def _link_of(self, command: NewOrder | ModifyOrder | CancelOrder) -> ShardLink:
        shard = self._shard_of(command)
        return self._links[shard if shard < len(self._links) else 0]


def _asked(operation: Operation) -> tuple[NewOrder | ModifyOrder | CancelOrder, int | None]:
    """An operation's command, and the wall time until when it may be executed."""
    if isinstance(operation, Timely):
        return operation.command, now_us() + operation.valid_for_ms * MILLISECOND_US
    return operation, None


def _outcome(result: Result | OmeError) -> Outcome:
    match result:
        case Carried():
            return answer_of(result)
        case Failed():
            return error_of(result)
        case OmeError():
            return result
        case _:
            return unexpected(result)


def _known(error: OmeError) -> OmeError:
    """An error as the edge knows it."""
    return NotAccepting("moved") if isinstance(error, Moved) else error


def _value(outcome: Outcome) -> Answer:
    if isinstance(outcome, OmeError):
        raise outcome
    return outcome


def _control_in(events: Sequence[Event]) -> ControlChanged:
    return [event for event in events if isinstance(event, ControlChanged)][-1]  # timers that were due come before its own
