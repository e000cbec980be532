"""One process of the service: the real engine, runner, order entry, repository, read models and market view, wired as
`ome.bootstrap` wires them, on the simulated database and clock.

What it observes for the audit it takes down at the seams: which attempt's command got which position, what was published.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from math import inf
from typing import TYPE_CHECKING

from msgspec import Struct, structs

from ome.bootstrap import load_views
from ome.db.read_models import StoredReads
from ome.db.repository import BatchRepository, fenced
from ome.db.url import DatabaseUrl
from ome.domain.commands import CancelOrders, Command, ModifyOrder, NewOrder, Stamped
from ome.domain.errors import Fenced, OmeError
from ome.domain.events import CommandEvents, Event, OrderAccepted, OrderRejected, Traded
from ome.domain.ids import SHARD_STEP
from ome.domain.ports import Answer, Receiver, Timely, UserRisk
from ome.domain.records import EngineSettings
from ome.engine.engine import Engine
from ome.engine.order_book import OrderBook
from ome.engine.order_entry import OrderEntryDesk
from ome.engine.runner import EngineRunner
from ome.marketdata.feed import Feed
from ome.marketdata.view import MarketView
from simulation.database import MemoryWork, SimulatedReader, SimulatedSession
from simulation.intents import ATTEMPT, Attempt, ClientKey, Outcome, Reply, key_of, outcome_of

if TYPE_CHECKING:
    from simulation.world import World

_LAST_WORDS_S = 0.05
"""How long a process that ends goes on sending answers."""


class Build(Struct, frozen=True):
    """The parts that a service is made of; a canary has one with a mistake."""

    runner: type[EngineRunner] = EngineRunner
    desk: type[OrderEntryDesk] = OrderEntryDesk
    repository: type[BatchRepository] = BatchRepository
    session: type[SimulatedSession] = SimulatedSession
    work: type[MemoryWork] = MemoryWork


class Recovery(Struct, frozen=True):
    """What an engine started from, and the order of every queue."""

    position: int
    queues: dict[str, list[int]]
    state_hash: int


class Service:
    """A process; `published` is all that its listeners were told, in order."""

    def __init__(self, world: World, machine: int, settings: EngineSettings, *, breaks_lock: bool, standby: bool) -> None:
        self.world = world
        self.machine = machine
        self.is_alive = True
        self.is_serving = False
        self.is_paused = False
        self._is_stopping = False
        self.epoch = 0
        self.recovery: Recovery | None = None
        self.published: list[Event] = []
        self.commands: list[CommandEvents] = []
        self._by_key: dict[ClientKey, list[tuple[Attempt, int]]] = {}
        self._sent: dict[int, tuple[Command, Attempt, int]] = {}
        build, database = world.build, world.database
        self._session = build.session(database, machine, breaks_lock=breaks_lock)
        self.repository = build.repository(self._session, shard=0, stalled=self._stalled, standby=standby)
        self.runner = build.runner(
            self.repository,
            settings=settings,
            limits=world.plan.limits,
            metrics=self,
            on_halt=self._halted,
            clock_us=world.clock_us,
            monotonic_s=world.loop.time,
        )
        self.reads = StoredReads(DatabaseUrl("sqlite", "", ""), shard=0, pool_size=1)
        self.reads._reader = SimulatedReader(database)
        self.market = MarketView(world.clock_us)
        self._feed = Feed(self.market)
        self._desk = build.desk(
            _ObservedBus(self), self.reads, wait_s=world.plan.limits.client_wait_s, monotonic_s=world.loop.time
        )

    async def main(self) -> None:
        """Start, as `bootstrap.Service.start` does; what stands against it ends the process."""
        try:
            await self.runner.open()
            engine = await self.runner.recover(self._load_views)
            await self.runner.run([self._feed, self], [self])
        except OmeError as error:
            self.world.could_not_start(self, error)
            return
        except Exception as error:  # noqa: BLE001  the process would end with a traceback
            self.world.fail("no start", repr(error))
            return
        self.is_serving = True
        self.world.tell("serving", self.machine, self.epoch, engine.position)

    async def _load_views(self, engine: Engine) -> None:
        self.epoch = self.repository.epoch
        self._observe(engine)
        await load_views(engine, self.reads, self.market, self._feed, self.world.clock_us())

    def _observe(self, engine: Engine) -> None:
        queues = {book.instrument.symbol: queue_of(book) for book in engine.books()}
        self.recovery = Recovery(engine.position, queues, engine.state_hash())
        apply = engine.apply

        def observed(stamped: Stamped) -> list[Event]:
            sent = self._sent.get(id(stamped.command))
            if sent is not None:
                self.world.audit.applied(self.epoch, stamped.position, sent[1], sent[2])
            return apply(stamped)

        engine.apply = observed  # type: ignore[method-assign]

    def note(self, command: Command) -> None:
        """A command is about to join the queue for the attempt that is being served."""
        attempt = ATTEMPT.get()
        if attempt is not None:
            index = attempt.operation_of(command)
            self._sent[id(command)] = (command, attempt, index)
            key = key_of(command) if isinstance(command, NewOrder) else None
            if key is not None:
                self._by_key.setdefault(key, []).append((attempt, index))

    def _stalled(self, stalled: bool) -> None:
        self.runner.stalled(stalled)

    def overtaken(self) -> None:
        """The lease has run out and another engine has taken it."""
        self.runner.fail(fenced(0))

    # EngineMetrics and EventListener

    def batch_committed(
        self, commands: int, commit_seconds: float, queue_depth: int, wait_seconds: float, publish_seconds: float
    ) -> None:
        """See EngineMetrics."""

    def state_changed(self, state: str) -> None:
        """See EngineMetrics."""
        self.world.tell("state", self.machine, state)

    def committed(self, events: Sequence[Event]) -> None:
        """See EventListener: nothing may be published that isn't durable (D3)."""
        self.published += events
        self.world.audit.published(max((_position_of(event) for event in events), default=0))

    def commands_committed(self, position: int, commands: Sequence[CommandEvents]) -> None:
        """See CommandListener."""
        self.commands += commands
        self.world.audit.published(max([position, *(command.position for command in commands)]))

    # Requests

    def receive(self, attempt: Attempt, reply: Callable[[Reply], None]) -> asyncio.Task[None]:
        """Serve an attempt in a task of its own, which its client may cancel by going away."""
        return asyncio.get_running_loop().create_task(self._serve(attempt, reply))

    async def _serve(self, attempt: Attempt, reply: Callable[[Reply], None]) -> None:
        ATTEMPT.set(attempt)
        request = attempt.request
        answer = Reply([])
        if request.look is not None:
            answer = await self._look(attempt)
        elif request.cancel_all is not None:
            answer = await self._cancel_all(request.cancel_all)
        elif request.definition is not None:
            answer.outcomes.append(await _outcome(self._define(attempt)))
        elif request.alone:
            answer.outcomes.append(await _outcome(self._single(attempt)))
        else:
            answer.outcomes += await self._batch(attempt)
        self.world.audit.answered(self.epoch, attempt, answer)
        reply(answer)

    async def _single(self, attempt: Attempt) -> Answer:
        operation, dry_run = attempt.operations[0], attempt.request.dry_run
        match operation:
            case NewOrder() | Timely(command=NewOrder()):
                return await self._desk.submit(operation, dry_run=dry_run)
            case ModifyOrder() | Timely():
                return await self._desk.modify(operation, dry_run=dry_run)
            case _:
                return await self._desk.cancel(operation.order_id)

    async def _batch(self, attempt: Attempt) -> list[Outcome]:
        try:
            results = await self._desk.batch(attempt.operations, dry_run=attempt.request.dry_run)
        except Exception as error:  # noqa: BLE001  the edge answers whatever it is
            return [outcome_of(error) for _ in attempt.operations]
        return [outcome_of(result) for result in results]

    async def _define(self, attempt: Attempt) -> Answer:
        assert attempt.request.definition is not None
        return Answer(0, await self._desk.define_instrument(structs.replace(attempt.request.definition)))

    async def _cancel_all(self, what: CancelOrders) -> Reply:
        try:
            return Reply([], cancelled=await self._desk.cancel_all(what.user_id, what.symbol, what.side))
        except Exception as error:  # noqa: BLE001  likewise
            return Reply([outcome_of(error)])

    async def _look(self, attempt: Attempt) -> Reply:
        look = attempt.request.look
        assert look is not None
        depth = self.market.depth(look.symbol, 1000)
        if look.key is not None:
            user, symbol, client_id = look.key
            taken = list(self._by_key.get(look.key, ()))
            try:
                await self._desk.wait_for_fate(user, client_id, symbol)
                found = await self.reads.orders_by_client_id(user, client_id, symbol)
            except OmeError:
                return Reply([], depth=depth)
            self.world.audit.found(look, [order.id for order in found], taken)
        return Reply([], depth=depth)

    # The end

    def _halted(self, error: BaseException) -> None:
        self.world.tell("halted", self.machine, type(error).__name__)
        if isinstance(error, Fenced) and self.world.database.epoch > self.epoch:
            self.world.count("engines fenced")
        else:
            self.world.fail("halted", f"the engine of epoch {self.epoch} halted: {error!r}")
        self.stop()

    def stop(self) -> None:
        """End as on SIGTERM, or after a halt."""
        if not self._is_stopping:
            self._is_stopping = True
            self.world.loop.spawn(self.machine, self._stop())

    async def _stop(self) -> None:
        """Finish what can be finished, send the last answers, exit."""
        self.is_serving = False
        drained = await self.runner.stop()
        if drained and self.runner.position != self.world.database.position and self.epoch == self.world.database.epoch:
            self.world.fail("lost", f"stopped with everything durable at {self.runner.position}, but it isn't")
        await asyncio.sleep(_LAST_WORDS_S)
        self.world.exited(self)


class _ObservedBus:
    """The runner as order entry sees it; what goes through it is taken down."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def enqueue(
        self, command: Command, settled: Callable[[], None] | None = None, deadline_s: float = inf
    ) -> Awaitable[Sequence[Event]]:
        """See CommandBus."""
        self._service.note(command)
        return self._service.runner.enqueue(command, settled, deadline_s)

    def post(
        self,
        command: Command,
        receiver: Receiver[Sequence[Event]],
        settled: Callable[[], None] | None = None,
        deadline_s: float = inf,
    ) -> None:
        """See CommandBus."""
        self._service.note(command)
        self._service.runner.post(command, receiver, settled, deadline_s)

    async def send(self, command: Command, settled: Callable[[], None] | None = None, deadline_s: float = inf) -> Sequence[Event]:
        """See CommandBus."""
        self._service.note(command)
        return await self._service.runner.send(command, settled, deadline_s)

    async def risk(self, user_id: str) -> UserRisk:
        """Nobody asks."""
        raise NotImplementedError(user_id)

    async def preview(self, commands: Sequence[Command]) -> list[list[Event]]:
        """See CommandBus."""
        return await self._service.runner.preview(commands)

    def is_open(self, order_id: int, account: str | None = None) -> bool:
        """See CommandBus."""
        return self._service.runner.is_open(order_id, account)

    @property
    def state(self) -> str:
        """See CommandBus."""
        return self._service.runner.state

    @property
    def reason(self) -> str:
        """See CommandBus."""
        return self._service.runner.reason

    @property
    def waiting(self) -> int:
        """See CommandBus."""
        return self._service.runner.waiting

    @property
    def position(self) -> int:
        """See CommandBus."""
        return self._service.runner.position


def queue_of(book: OrderBook) -> list[int]:
    """The orders of a book in the order in which they trade, then its waiting stops in the order of acceptance."""
    return [*(order.id for order in book.orders()), *sorted(order.id for order in book.stops)]


async def _outcome(answer: Awaitable[Answer]) -> Outcome:
    try:
        return outcome_of(await answer)
    except Exception as error:  # noqa: BLE001  likewise
        return outcome_of(error)


def _position_of(event: Event) -> int:
    """The position that an event shows it is of, at least; 0 where it shows none."""
    match event:
        case OrderAccepted(order) | OrderRejected(order):
            return order.id % SHARD_STEP
        case Traded(trade):
            return trade.position
        case _:
            return 0
