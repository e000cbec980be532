"""An engine's ear on NATS: frames of requests to its order entry, answers back once they are durable.

What comes together goes to the engine together, and so shares a transaction; what is answered together goes back in one message
for each gateway. Requests join the queue in the order in which a gateway sent them.

A request is looked at for its time twice: here, and when its turn with the engine comes. One that came too late isn't executed,
so that a gateway can say after the deadline that nothing more will come of it (HOLE4, DUR9). A frame whose number isn't above the
gateway's last is a duplicate and is passed over.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import structlog

from ome.cluster.connection import NatsConnection
from ome.cluster.moving import Mover
from ome.cluster.places import Places
from ome.cluster.subjects import Subjects
from ome.cluster.wire import (
    AskRisk,
    AwaitFate,
    CancelAll,
    Cancelled,
    Cede,
    Decided,
    Frame,
    Give,
    LookAgain,
    Moved,
    MoveFunds,
    Operate,
    OperateAll,
    Queued,
    Reply,
    Request,
    Result,
    Risk,
    Send,
    Sent,
    Several,
    State,
    carried,
    encode,
    failed,
    read_frame,
    transferred,
)
from ome.domain.clock import MICROSECONDS, now_us
from ome.domain.commands import CancelOrder, Command, DefineInstrument, ModifyOrder, NewOrder, SetKill, SetLimits, Transfer
from ome.domain.enums import Side
from ome.domain.errors import NotAccepting, OmeError, TooLate
from ome.domain.events import CommandRefused
from ome.domain.ids import SHARD_STEP
from ome.domain.ports import Answer, CommandBus, FundsEntry, TimedOrderEntry
from ome.domain.reasons import Reason
from ome.domain.shards import FUNDS_SHARD

HEARTBEAT_S: Final = 0.5
GATEWAYS: Final = 1024
"""Gateways whose last frame is remembered; one that starts anew has a new name."""
QUIET_S: Final = 0.1
"""How long requests may be on their way whose gateways haven't heard yet that this engine takes no more."""
END_S: Final = 2.0
"""How long NATS may take to say that it sends no more requests."""
RUNNING: Final = "RUNNING"
DRAINING: Final = "DRAINING"
LATE: Final = "late"
"""Why something isn't executed whose sender no longer waits."""
_AWAY_FROM_FUNDS: Final = CommandRefused(None, Reason.SYMBOL_AWAY_FROM_FUNDS)

ClientCommand = NewOrder | ModifyOrder | CancelOrder

log = structlog.get_logger(__name__)


async def _no_reason(_symbol: str) -> str:
    return ""


async def _nowhere(_order_id: int) -> str | None:
    return None


async def _nothing() -> None:
    """Nothing is derived."""


class ShardServer:
    """Serves one engine, of one epoch, that is running. `places` is its copy of the shard map, `is_listed` says of a symbol
    whether the engine has it, as of its last commit.
    """

    def __init__(  # noqa: PLR0913  what it stands between
        self,
        *,
        shard: int,
        nats: NatsConnection,
        subjects: Subjects,
        entry: TimedOrderEntry,
        funds: FundsEntry,
        bus: CommandBus,
        lineage: Callable[[], tuple[int, str]],
        durability: Callable[[], str],
        places: Places,
        is_listed: Callable[[str], bool],
        why_it_stays: Callable[[str], Awaitable[str]] = _no_reason,
        symbol_of: Callable[[int], Awaitable[str | None]] = _nowhere,
        stored: Callable[[], Awaitable[object]] = _nothing,
        skew_s: float = 1.0,
    ) -> None:
        self._shard = shard
        self._nats = nats
        self._subjects = subjects
        self._entry = entry
        self._funds = funds
        self._bus = bus
        self._lineage = lineage
        self._durability = durability
        self._places = places
        self._is_listed = is_listed
        self._symbol_of = symbol_of
        self._mover = Mover(
            shard,
            bus,
            places,
            is_listed=is_listed,
            why_it_stays=why_it_stays,
            settled=self._settled,
            stored=stored,
            epoch=lambda: lineage()[0],
            skew_s=skew_s,
        )
        self._cancelling: set[asyncio.Task[Any]] = set()
        self._frames: OrderedDict[str, int] = OrderedDict()
        self._replies: dict[str, list[tuple[int, Result]]] = {}
        self._running: set[asyncio.Task[Any]] = set()
        self._ends: list[Callable[[], Awaitable[None]]] = []
        self._heart: asyncio.Task[None] | None = None
        self._is_ending = False

    async def start(self) -> None:
        """Take in what is on its way here; then hear requests from now on, and tell how the engine is."""
        await self._mover.start()
        epoch, _ = self._lineage()
        self._ends = [
            await self._nats.hear(self._subjects.commands(self._shard, epoch), lambda _, data: self.take(read_frame(data))),
            await self._nats.hear(self._subjects.hello, lambda _subject, _data: self.tell_state()),
        ]
        self._heart = asyncio.create_task(self._beat(), name="heartbeat")

    async def stop(self) -> None:
        """Hear nothing more, once all is taken that has come; what was taken is answered as it ends. `tell_state` still works.

        Gateways are told first, and send nothing more: a request that crosses the end of hearing it may get no answer at all.
        """
        self._mover.stop()
        heart, self._heart = self._heart, None
        if heart is not None:
            heart.cancel()
            self._is_ending = True
            self.tell_state()
            await asyncio.sleep(QUIET_S)
        for end in self._ends[:1]:
            try:
                async with asyncio.timeout(END_S):
                    await end()
            except Exception as error:  # noqa: BLE001  the connection is lost: nothing is heard
                log.warning("not_unsubscribed", error=str(error))
        self._ends = []

    def tell_state(self) -> None:
        """Tell every gateway how the engine is."""
        epoch, incarnation = self._lineage()
        bus = self._bus
        name = DRAINING if self._is_ending and bus.state == RUNNING else bus.state
        state = State(self._shard, epoch, incarnation, name, bus.reason, bus.position, bus.waiting, self._durability())
        self._nats.send(self._subjects.state(self._shard), encode(state))

    async def _beat(self) -> None:
        while True:
            self.tell_state()
            await asyncio.sleep(HEARTBEAT_S)

    # In

    def take(self, frame: Frame) -> None:
        """A gateway's frame has come."""
        if frame.number <= self._frames.get(frame.gateway, 0):
            log.warning("duplicate_frame", gateway=frame.gateway, number=frame.number)
            return
        self._frames[frame.gateway] = frame.number
        self._frames.move_to_end(frame.gateway)
        if len(self._frames) > GATEWAYS:
            self._frames.popitem(last=False)
        left_s = (frame.deadline - now_us()) / MICROSECONDS
        deadline_s = time.monotonic() + left_s
        for request in frame.requests:
            try:
                if left_s <= 0:
                    raise NotAccepting(LATE)
                self._carry_out(frame.gateway, request, deadline_s)
            except Exception as error:  # noqa: BLE001  whatever it is, it is told
                self._fail(frame.gateway, request.id, error)

    def _carry_out(self, gateway: str, request: Request, deadline_s: float) -> None:
        if isinstance(request, Operate):
            operation, until = request.operation, request.until
            if isinstance(operation, NewOrder):
                self._check_owns(operation.symbol)
            elif self._may_be_elsewhere(operation.order_id):
                self._start(gateway, request.id, self._by_id(operation, until, deadline_s))
                return
            self._entry.begin(operation, _Begun(self, gateway, request, until), _earlier(deadline_s, until))
        else:
            self._start(gateway, request.id, self._work(gateway, request, deadline_s))

    async def _work(self, gateway: str, request: Request, deadline_s: float) -> Result:
        """What takes more than one turn of the loop."""
        result: Result = Decided()
        match request:
            case OperateAll():
                result = await self._batch(gateway, request, deadline_s)
            case CancelAll(user_id=user_id, symbol=symbol, side=side):
                result = await self._cancel_all(user_id, symbol, side)
            case AwaitFate(user_id=user_id, client_order_id=client_order_id, symbol=symbol):
                if symbol is not None:
                    self._check_owns(symbol)
                await self._entry.wait_for_fate(user_id, client_order_id, symbol)
            case Send(command=command):
                result = await self._send(command, deadline_s)
            case MoveFunds(command=Transfer() as transfer):
                result = transferred(await self._funds.transfer(transfer))
            case AskRisk(user_id=user_id):
                result = Risk(await self._bus.risk(user_id))
            case Cede() | Give() | LookAgain():
                await self._place(request, deadline_s)
            case _:
                raise NotAccepting("not_supported")
        return result

    def _check_owns(self, symbol: str) -> None:
        if not self._mover.owns(symbol):
            raise Moved(symbol)

    async def _settled(self) -> None:
        """Whatever was taken before now is in the engine's queue, or will never be."""
        if self._cancelling:
            await asyncio.wait(set(self._cancelling))
        await self._entry.settled()

    async def _cancel_all(self, user_id: str | None, symbol: str | None, side: Side | None) -> Cancelled:
        """In several commands, perhaps: no symbol may leave in the middle."""
        if symbol is not None:
            self._check_owns(symbol)
        task = asyncio.ensure_future(self._entry.cancel_orders(user_id, symbol, side))
        self._cancelling.add(task)
        task.add_done_callback(self._cancelling.discard)
        return Cancelled([(order.created_at, order.id) for order in await task])

    # By id

    def _may_be_elsewhere(self, order_id: int) -> bool:
        """Whether an order may be in a symbol that isn't this shard's. One that is open is here, and will be when its turn comes,
        unless a symbol is just about to leave.
        """
        if not self._mover.has_moved and order_id // SHARD_STEP == self._shard:
            return False
        return self._mover.is_giving or not self._bus.is_open(order_id)

    async def _check_owns_all(self, operations: Sequence[ClientCommand]) -> None:
        """Raises Moved where one of them is about a symbol that isn't this shard's. Nothing is awaited after the last look: what
        joins the queue at once has its turn before its symbol can leave.
        """
        symbols: dict[int, str | None] = {}
        while True:
            unknown: list[int] = []
            for operation in operations:
                if isinstance(operation, NewOrder):
                    self._check_owns(operation.symbol)
                elif operation.order_id in symbols:
                    if (symbol := symbols[operation.order_id]) is not None:
                        self._check_owns(symbol)
                elif self._may_be_elsewhere(operation.order_id):
                    unknown.append(operation.order_id)
            if not unknown:
                return
            found = await asyncio.gather(*map(self._symbol_of, unknown))
            symbols.update(zip(unknown, found, strict=True))

    async def _by_id(self, operation: ModifyOrder | CancelOrder, until: int | None, deadline_s: float) -> Result:
        """A change or cancel of an order that may be elsewhere."""
        await self._check_owns_all([operation])
        try:
            [outcome] = await self._entry.batch([operation], deadlines_s=[_earlier(deadline_s, until)])
        except OmeError as error:
            raise _as_told(error, until) from None
        if not isinstance(outcome, Answer):
            raise _as_told(outcome, until)
        return carried(outcome)

    def _start(self, gateway: str, number: int, work: Awaitable[Result]) -> None:
        async def told() -> None:
            try:
                self.answer(gateway, number, await work)
            except Exception as error:  # noqa: BLE001  as above
                self._fail(gateway, number, error)

        task = asyncio.create_task(told())
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _batch(self, gateway: str, request: OperateAll, deadline_s: float) -> Result:
        operations = [operation for operation, _ in request.operations]
        deadlines = [_earlier(deadline_s, until) for _, until in request.operations]

        def queued() -> None:
            if request.tells_queued:
                self.answer(gateway, request.id, Queued())

        await self._check_owns_all(operations)
        outcomes = await self._entry.batch(operations, dry_run=request.dry_run, queued=queued, deadlines_s=deadlines)
        return Several(
            [
                carried(outcome) if isinstance(outcome, Answer) else failed(_as_told(outcome, until))
                for outcome, (_, until) in zip(outcomes, request.operations, strict=True)
            ]
        )

    async def _send(self, command: Command, deadline_s: float) -> Result:
        if isinstance(command, DefineInstrument | SetLimits | SetKill) and command.symbol:
            self._check_owns(command.symbol)
        if isinstance(command, DefineInstrument) and command.base_asset and self._shard != FUNDS_SHARD:
            [events] = await self._bus.preview([command])  # what is wrong with it anyway comes first
            return Sent([event for event in events if isinstance(event, CommandRefused)] or [_AWAY_FROM_FUNDS])
        try:
            return Sent(await self._bus.send(command, deadline_s=deadline_s))
        except TooLate:
            raise NotAccepting(LATE) from None

    async def _place(self, request: Cede | Give | LookAgain, deadline_s: float) -> None:
        """Where symbols are has changed, or is to."""
        match request:
            case Cede(symbol=symbol, target=target):
                await self._mover.cede(symbol, target)
            case Give(symbol=symbol, target=target):
                await self._mover.give(symbol, target, deadline_s)
            case LookAgain():
                await self._mover.look()
                await self._places.read()

    # Out

    def answer(self, gateway: str, number: int, result: Result) -> None:
        """Tell a gateway what came of its request, together with all else that it is told in this turn of the loop."""
        if not self._replies:
            asyncio.get_running_loop().call_soon(self._flush)
        self._replies.setdefault(gateway, []).append((number, result))

    def _fail(self, gateway: str, number: int, error: Exception) -> None:
        if not isinstance(error, OmeError):
            log.error("request_failed", exc_info=error)
        self.answer(gateway, number, failed(error))

    def _flush(self) -> None:
        replies, self._replies = self._replies, {}
        position = self._bus.position
        for gateway, results in replies.items():
            self._nats.send(self._subjects.reply(gateway, 0), encode(Reply(self._shard, position, results)))


class _Begun:
    """Is told what came of one operation."""

    __slots__ = ("_gateway", "_request", "_server", "_until")

    def __init__(self, server: ShardServer, gateway: str, request: Operate, until: int | None) -> None:
        self._server = server
        self._gateway = gateway
        self._request = request
        self._until = until

    def __call__(self, outcome: Answer | Exception) -> None:
        if isinstance(outcome, Answer):
            self._server.answer(self._gateway, self._request.id, carried(outcome))
        else:
            self._server.answer(self._gateway, self._request.id, failed(_as_told(outcome, self._until)))


def _earlier(deadline_s: float, until: int | None) -> float:
    """The earlier of the two deadlines, as `time.monotonic` counts."""
    if until is None:
        return deadline_s
    return min(deadline_s, time.monotonic() + (until - now_us()) / MICROSECONDS)


def _as_told(error: Exception, until: int | None) -> Exception:
    """TooLate is what a client has asked for; where it hasn't, its gateway has stopped waiting."""
    if isinstance(error, TooLate) and (until is None or until > now_us()):
        return NotAccepting(LATE)
    return error
