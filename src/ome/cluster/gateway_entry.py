"""Order entry in a gateway: a router. Each operation goes to the shard that owns its symbol, whose own order entry does the rest.

- By symbol: the shard map says whose it is. By order id: the shard is in the id, unless the symbol was moved since: then that
  shard says so, and the database says which symbol it is. What came to the wrong shard was not executed there, and is sent to
  the right one; while a symbol is on its way, as soon as it has arrived.
- By user over all symbols (mass cancels, kill switches, timers, limits, risk): every shard is asked, and the answers are added
  up. Each shard's part is done at its own moment. Where one fails after another has done its part, the outcome is unknown, and
  doing it again is harmless.
- A batch is carried out in its order within each shard; different shards work on it at the same time (I4).
- Funds, the audit and keys are shard 0's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from typing import Final

import structlog
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
from ome.domain.clock import MICROSECONDS, now_us
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
from ome.domain.errors import NotAccepting, OmeError, OutcomeUnknown, StorageError, TooLate
from ome.domain.events import ControlChanged, Event
from ome.domain.ids import SHARD_STEP
from ome.domain.ports import Answer, ControlCommand, Operation, Timely, TransferAnswer
from ome.domain.shards import FUNDS_SHARD

MILLISECOND_US = 1000
MOVED: Final = "moved"
"""Why nothing was executed of what is about a symbol that is on its way to another shard."""
FIRST_PAUSE_S: Final = 0.01
"""Seconds before something is tried again that came to the wrong shard; doubled from one time to the next."""
LONGEST_PAUSE_S: Final = 0.25

log = structlog.get_logger(__name__)

Outcome = Answer | OmeError
SymbolOf = Callable[[int], Awaitable[str | None]]
"""The symbol that the order with this id is in, whoever gave it the id; None where there is no such order."""


async def _nowhere(_order_id: int) -> str | None:
    return None


class GatewayEntry:
    """The OrderEntry and FundsEntry of a gateway."""

    def __init__(self, links: Sequence[ShardLink], places: Places, symbol_of: SymbolOf = _nowhere, wait_s: float = 5.0) -> None:
        """`links` are by shard; `places` is the map as it is known here; `symbol_of` says which symbol an order is in. What comes
        to the wrong shard, or for a symbol that is on its way, is tried again for `wait_s` from when it was taken, no longer.
        """
        self._links = links
        self._places = places
        self._symbol_of = symbol_of
        self._wait_s = wait_s
        self._tries: set[asyncio.Task[None]] = set()

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
        taken, (command, until) = now_us(), _asked(operation)

        def take(result: Result | OmeError) -> None:
            if isinstance(result, Moved):
                task = asyncio.create_task(self._elsewhere(operation, taken, told))
                self._tries.add(task)
                task.add_done_callback(self._tries.discard)
            else:
                told(_outcome(result))

        self._link_of(command).post(lambda number: Operate(number, command, until), take)

    async def _elsewhere(self, operation: Operation, taken: int, told: Callable[[Answer | Exception], None]) -> None:
        """Try again, by the map as it is now."""
        try:
            told((await self._again([operation], taken, dry_run=False))[0])
        except Exception as error:  # noqa: BLE001  whatever it is, it is told
            told(error)

    async def batch(
        self, operations: Sequence[Operation], *, dry_run: bool = False, queued: Callable[[], None] | None = None
    ) -> list[Outcome]:
        """See OrderEntry: in its order within each shard."""
        taken = now_us()
        asked = [_asked(operation) for operation in operations]
        outcomes = await self._once(asked, [self._shard_of(command) for command, _ in asked], dry_run=dry_run, queued=queued)
        moved = [place for place, outcome in enumerate(outcomes) if isinstance(outcome, Moved)]
        if moved:
            again = await self._again([operations[place] for place in moved], taken, dry_run=dry_run)
            for place, outcome in zip(moved, again, strict=True):
                outcomes[place] = outcome
        return outcomes

    async def _again(self, operations: Sequence[Operation], taken: int, *, dry_run: bool) -> list[Outcome]:
        """What was refused as another shard's, by the map as it is now, until it has come where it belongs. Not beyond the time
        after which it is said that nothing more will come of it: each is to be executed by then, or not at all (HOLE4).
        """
        last = taken + int(self._wait_s * MICROSECONDS)
        asked = [(command, last if until is None else min(until, last)) for command, until in map(_asked, operations)]
        outcomes: list[Outcome] = [NotAccepting(MOVED)] * len(asked)
        left, pause_s = list(range(len(asked))), FIRST_PAUSE_S
        while left:
            try:
                await self._places.read()
                shards = [await self._home_of(asked[place][0]) for place in left]
            except StorageError as error:  # what is left was certainly not executed
                log.warning("not_routed", error=str(error))
                return outcomes
            found = await self._once([asked[place] for place in left], shards, dry_run=dry_run, queued=None)
            for place, outcome in zip(left, found, strict=True):
                outcomes[place] = _known(outcome, timely=isinstance(operations[place], Timely))
            left = [place for place, outcome in zip(left, found, strict=True) if isinstance(outcome, Moved)]
            if now_us() + pause_s * MICROSECONDS >= last:
                break
            if left:
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        return outcomes

    async def _home_of(self, command: NewOrder | ModifyOrder | CancelOrder) -> int:
        """The shard of the symbol that a command is about, whichever shard gave its order the id."""
        if isinstance(command, NewOrder):
            return self._places.shard_of(command.symbol)
        symbol = await self._symbol_of(command.order_id)
        return self._shard_of(command) if symbol is None else self._places.shard_of(symbol)

    async def _once(
        self,
        asked: Sequence[tuple[NewOrder | ModifyOrder | CancelOrder, int | None]],
        shards: Sequence[int],
        *,
        dry_run: bool,
        queued: Callable[[], None] | None,
    ) -> list[Outcome]:
        """Each command at the shard that it belongs to by what is known; Moved where that is wrong."""
        outcomes: list[Outcome] = [NotAccepting("away")] * len(asked)
        places: dict[int, list[int]] = {}
        for place, shard in enumerate(shards):
            places.setdefault(shard if shard < len(self._links) else 0, []).append(place)  # 0: an id that no shard can have given
        left = len(places)

        def one_queued() -> None:
            nonlocal left
            left -= 1
            if not left and queued is not None:
                queued()

        async def part(shard: int, mine: list[int]) -> None:
            found = await self._batch(
                shard, [asked[place] for place in mine], dry_run=dry_run, queued=one_queued if queued else None
            )
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
        cancelled: dict[int, int] = {}
        last = now_us() + int(self._wait_s * MICROSECONDS)
        while True:
            version = self._places.version
            for result in await self._of_each(symbol, lambda number: CancelAll(number, user_id, symbol, side)):
                if not isinstance(result, Cancelled):
                    raise unexpected(result)
                cancelled.update((order_id, created_at) for created_at, order_id in result.orders)
            if symbol is not None or not await self._has_missed(version, cancelled):
                return sorted(cancelled, key=lambda order_id: (cancelled[order_id], order_id))
            if now_us() >= last:
                raise OutcomeUnknown(
                    f"{len(cancelled)} orders are cancelled, and those of a symbol that is being moved may not be"
                )
            await asyncio.sleep(LONGEST_PAUSE_S)

    async def _has_missed(self, version: int, cancelled: Collection[int]) -> bool:
        """Whether a symbol may have been on its way when the shards were asked, so that none of them had it."""
        try:
            await self._places.read()
        except StorageError as error:
            raise OutcomeUnknown(f"{len(cancelled)} orders are cancelled, whether all of them isn't known") from error
        return self._places.version != version or bool(self._places.in_transit)

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
            return [await self._of_symbol(symbol, make)]
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

    async def _of_symbol(self, symbol: str, make: Callable[[int], Request]) -> Result:
        """The answer of a symbol's shard, once the symbol has arrived there."""
        last, pause_s = now_us() + int(self._wait_s * MICROSECONDS), FIRST_PAUSE_S
        while True:
            try:
                return await self._links[self._places.shard_of(symbol)].ask(make)
            except Moved as error:
                if now_us() + pause_s * MICROSECONDS >= last:
                    raise NotAccepting(MOVED) from error
            await self._places.read()
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

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


def _known(outcome: Outcome, *, timely: bool) -> Outcome:
    """An outcome as the edge knows it; TooLate is what a client has asked for, or it is ours, and nothing was executed either."""
    if isinstance(outcome, Moved) or (isinstance(outcome, TooLate) and not timely):
        return NotAccepting(MOVED)
    return outcome


def _value(outcome: Outcome) -> Answer:
    if isinstance(outcome, OmeError):
        raise outcome
    return outcome


def _control_in(events: Sequence[Event]) -> ControlChanged:
    return [event for event in events if isinstance(event, ControlChanged)][-1]  # timers that were due come before its own
