"""Order entry in a gateway: a router. Each operation goes to the shard that owns its symbol, whose own order entry does the rest.

- By symbol: the shard map says whose it is. By order id: the shard is in the id, unless a symbol has left that shard since: then
  the database says which symbol the order is in, and no engine is needed but that of the shard where this is now. What came to
  the wrong shard was not executed there, and is sent to the right one; while a symbol is on its way, as soon as it has arrived.
- By user over all symbols (mass cancels, kill switches, timers, limits, risk): every shard is asked, and the answers are added
  up. Each shard's part is done at its own moment. Where one fails after another has done its part, the outcome is unknown, and
  doing it again is harmless.
- A batch is carried out in its order within each shard; different shards work on it at the same time (I4). It has joined the
  queues once nothing of it is to be tried again: whoever waits for that before sending more is never overtaken by it.
- Funds, the audit and keys are shard 0's; while it is away what operators do is written down by another one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from typing import Any, Final

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
    Give,
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
    Staying,
    StillListed,
    Transferred,
    answer_of,
    error_of,
    transfer_answer_of,
)
from ome.domain.clock import MICROSECONDS, now_us
from ome.domain.commands import (
    Administered,
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
from ome.domain.events import CommandRefused, ControlChanged, Event
from ome.domain.ids import SHARD_STEP
from ome.domain.keys import KEY_ACTIONS
from ome.domain.ports import Answer, ControlCommand, Operation, Timely, TransferAnswer
from ome.domain.reasons import Reason
from ome.domain.shards import FUNDS_SHARD

MILLISECOND_US = 1000
_AWAY: Final = Reason.SYMBOL_AWAY_FROM_FUNDS
MOVED: Final = "moved"
"""Why nothing was executed of what is about a symbol that is on its way to another shard."""
FIRST_PAUSE_S: Final = 0.01
"""Seconds before something is tried again that came to the wrong shard; doubled from one time to the next."""
LONGEST_PAUSE_S: Final = 0.25
REMEMBERED: Final = 100_000
"""Orders whose symbol is remembered that had to be looked up."""

log = structlog.get_logger(__name__)

ClientCommand = NewOrder | ModifyOrder | CancelOrder
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
        self._symbols: dict[int, str] = {}
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
        shard = self._home(command)

        def take(result: Result | OmeError) -> None:
            if isinstance(result, Moved):
                self._try(self._again([operation], taken, dry_run=False), told)
            else:
                told(_outcome(result))

        if shard is None:
            self._try(self.batch([operation]), told)
        else:
            self._links[shard].post(lambda number: Operate(number, command, until), take)

    def _try(self, work: Coroutine[Any, Any, list[Outcome]], told: Callable[[Answer | Exception], None]) -> None:
        """Tell what comes of one operation that takes more than one turn of the loop."""

        async def tell() -> None:
            try:
                told((await work)[0])
            except Exception as error:  # noqa: BLE001  whatever it is, it is told
                told(error)

        task = asyncio.create_task(tell())
        self._tries.add(task)
        task.add_done_callback(self._tries.discard)

    async def batch(
        self, operations: Sequence[Operation], *, dry_run: bool = False, queued: Callable[[], None] | None = None
    ) -> list[Outcome]:
        """See OrderEntry: in its order within each shard."""
        taken = now_us()
        joined = None if queued is None else _Once(queued)
        asked = [_asked(operation) for operation in operations]
        if any(self._home(command) is None for command, _ in asked):  # a look-up takes a while, and adds nothing to the time
            asked = self._by_then(operations, taken)
        try:
            shards = await self._homes([command for command, _ in asked])
            outcomes = await self._once(asked, shards, dry_run=dry_run, queued=joined)
            moved = [place for place, outcome in enumerate(outcomes) if isinstance(outcome, Moved)]
            if moved:
                again = await self._again([operations[place] for place in moved], taken, dry_run=dry_run, queued=joined)
                for place, outcome in zip(moved, again, strict=True):
                    outcomes[place] = outcome
        finally:
            if joined is not None:
                joined()
        return [_known(outcome, operation) for outcome, operation in zip(outcomes, operations, strict=True)]

    def _by_then(self, operations: Sequence[Operation], taken: int) -> list[tuple[ClientCommand, int | None]]:
        """Operations, each to be executed by the time after which it is said that nothing more will come of it, or not at all
        (HOLE4).
        """
        last = taken + int(self._wait_s * MICROSECONDS)
        return [(command, last if until is None else min(until, last)) for command, until in map(_asked, operations)]

    async def _again(
        self, operations: Sequence[Operation], taken: int, *, dry_run: bool, queued: _Once | None = None
    ) -> list[Outcome]:
        """What was refused as another shard's, by the map as it is now, until it has come where it belongs, for so long as
        somebody waits. All that is left is tried together, in its order.
        """
        last = taken + int(self._wait_s * MICROSECONDS)
        asked = self._by_then(operations, taken)
        outcomes: list[Outcome] = [NotAccepting(MOVED)] * len(asked)
        left, pause_s = list(range(len(asked))), FIRST_PAUSE_S
        while left:
            try:
                await self._places.read()
                shards = await self._homes([asked[place][0] for place in left])
            except StorageError as error:  # what is left was certainly not executed
                log.warning("not_routed", error=str(error))
                return outcomes
            found = await self._once([asked[place] for place in left], shards, dry_run=dry_run, queued=queued)
            for place, outcome in zip(left, found, strict=True):
                outcomes[place] = _known(outcome, operations[place])
            left = [place for place, outcome in zip(left, found, strict=True) if isinstance(outcome, Moved)]
            if now_us() + pause_s * MICROSECONDS >= last:
                break
            if left:
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        return outcomes

    async def _once(
        self,
        asked: Sequence[tuple[ClientCommand, int | None]],
        shards: Sequence[int],
        *,
        dry_run: bool,
        queued: _Once | None,
    ) -> list[Outcome]:
        """Each command at the shard that it belongs to by what is known; Moved where that is wrong. `queued` is called once all
        of them have joined a queue, or never will: not where one is Moved.
        """
        outcomes: list[Outcome] = [NotAccepting("away")] * len(asked)
        places: dict[int, list[int]] = {}
        for place, shard in enumerate(shards):
            places.setdefault(shard, []).append(place)
        left = len(places)

        def one_queued() -> None:
            nonlocal left
            left -= 1
            if not left and queued is not None:
                queued()

        async def part(shard: int, mine: list[int]) -> None:
            joined = None if queued is None else _Once(one_queued)
            found = await self._batch(shard, [asked[place] for place in mine], dry_run=dry_run, queued=joined)
            if joined is not None and not any(isinstance(outcome, Moved) for outcome in found):
                joined()
            for place, outcome in zip(mine, found, strict=True):
                outcomes[place] = outcome

        await asyncio.gather(*(part(shard, mine) for shard, mine in places.items()))
        return outcomes

    async def _batch(
        self, shard: int, asked: list[tuple[ClientCommand, int | None]], *, dry_run: bool, queued: _Once | None
    ) -> list[Outcome]:
        """A batch's part of one shard, which is Moved as a whole or not at all."""
        try:
            result = await self._links[shard].ask(lambda number: OperateAll(number, asked, dry_run, queued is not None), queued)
        except OmeError as error:
            return [error] * len(asked)
        if isinstance(result, Several) and len(result.outcomes) == len(asked):
            return [_outcome(outcome) for outcome in result.outcomes]
        return [unexpected(result)] * len(asked)

    async def cancel_all(self, user_id: str | None, symbol: str | None, side: Side | None) -> list[int]:
        """See OrderEntry; of a user in all symbols, each shard at its own moment."""
        cancelled: dict[int, int] = {}
        last = now_us() + int(self._wait_s * MICROSECONDS)
        while True:
            version = self._places.version
            try:
                results = await self._of_each(symbol, lambda number: CancelAll(number, user_id, symbol, side))
            except NotAccepting as error:
                if cancelled:  # in the round before: it can't be said that nothing was executed
                    raise OutcomeUnknown(f"{len(cancelled)} orders are cancelled, the rest isn't known") from error
                raise
            for result in results:
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
            try:
                await self._to_funds(definition.symbol, Cede)
            except StillListed:
                [events] = await self._send(definition.symbol, definition)
                if not any(isinstance(event, CommandRefused) and event.reason is _AWAY for event in events):
                    return events
                try:
                    await self._to_funds(definition.symbol, Give)
                except Staying:
                    return events
        return (await self._send(definition.symbol, definition))[0]

    async def _to_funds(self, symbol: str, how: type[Cede | Give]) -> None:
        """Have a symbol belong to the shard that has the money, before it is listed there, or listed anew."""
        await self._of_symbol(symbol, lambda number: how(number, symbol, FUNDS_SHARD))
        await self._links[FUNDS_SHARD].ask(LookAgain)
        await self._places.read()

    async def transfer(self, asked: Transfer) -> TransferAnswer:
        """See FundsEntry."""
        result = await self._links[FUNDS_SHARD].ask(lambda number: MoveFunds(number, asked))
        if not isinstance(result, Transferred):
            raise unexpected(result)
        return transfer_answer_of(result)

    async def send(self, command: Command) -> Sequence[Event]:
        """Have a command that is about no symbol carried out by shard 0: an entry of the audit. While that is certainly away
        another shard takes it, so that a kill switch works; but not one about keys, which shard 0 alone is asked for.
        """
        takes_any = isinstance(command, Administered) and command.action not in KEY_ACTIONS
        refused: list[NotAccepting] = []
        for link in self._links if takes_any else self._links[:1]:
            try:
                result = await link.ask(lambda number: Send(number, command))
            except NotAccepting as error:
                refused.append(error)
                continue
            if not isinstance(result, Sent):
                raise unexpected(result)
            return result.events
        raise refused[0]

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

    def _home(self, command: ClientCommand) -> int | None:
        """The shard of the symbol that a command is about; None where it has to be looked up which symbol that is: one may have
        left the shard that is in the order's id since this was given.
        """
        if isinstance(command, NewOrder):
            return self._places.shard_of(command.symbol)
        symbol = self._symbols.get(command.order_id)
        if symbol is not None:
            return self._places.shard_of(symbol)
        shard, position = divmod(command.order_id, SHARD_STEP)
        return None if position <= self._places.left.get(shard, 0) else self._in_id(command.order_id)

    async def _homes(self, commands: Sequence[ClientCommand]) -> list[int]:
        """The shard of each; where the database doesn't tell, that of the id, whose engine knows what isn't there any more."""
        homes = [self._home(command) for command in commands]
        unknown = [place for place, home in enumerate(homes) if home is None]
        found = await asyncio.gather(*(self._look_up(commands[place]) for place in unknown))
        looked_up = dict(zip(unknown, found, strict=True))
        return [looked_up[place] if home is None else home for place, home in enumerate(homes)]

    async def _look_up(self, command: ClientCommand) -> int:
        if isinstance(command, NewOrder):
            return self._places.shard_of(command.symbol)
        order_id = command.order_id
        try:
            symbol = await self._symbol_of(order_id)
        except StorageError as error:
            log.warning("order_not_looked_up", error=str(error))
            symbol = None
        if symbol is None:
            return self._in_id(order_id)
        if len(self._symbols) >= REMEMBERED:
            self._symbols.clear()
        self._symbols[order_id] = symbol
        return self._places.shard_of(symbol)

    def _in_id(self, order_id: int) -> int:
        shard = order_id // SHARD_STEP
        return shard if shard < len(self._links) else 0  # an id that no shard can have given


class _Once:
    """Calls what it is given at its first call, and never again."""

    __slots__ = ("_is_called", "_told")

    def __init__(self, told: Callable[[], None]) -> None:
        self._told = told
        self._is_called = False

    def __call__(self) -> None:
        if not self._is_called:
            self._is_called = True
            self._told()


def _asked(operation: Operation) -> tuple[ClientCommand, int | None]:
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


def _known(outcome: Outcome, operation: Operation) -> Outcome:
    """An outcome as the edge knows it; TooLate is what a client has asked for, or it is ours, and nothing was executed either."""
    if isinstance(outcome, Moved) or (isinstance(outcome, TooLate) and not isinstance(operation, Timely)):
        return NotAccepting(MOVED)
    return outcome


def _value(outcome: Outcome) -> Answer:
    if isinstance(outcome, OmeError):
        raise outcome
    return outcome


def _control_in(events: Sequence[Event]) -> ControlChanged:
    return [event for event in events if isinstance(event, ControlChanged)][-1]  # timers that were due come before its own
