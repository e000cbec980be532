"""The single writer: one coroutine that owns the engine, and the one door to it (LMAX's business logic processor).

Commands come through a bounded queue (`RunnerLimits`). The coroutine drains what waits, stamps each command with position and
time, applies it, and hands everything applied to the database as one batch as soon as the batch before is durable: while one
commits the next is matched, never more than one is in flight. After a commit the views take in its events, then the waiting are
answered: nobody sees what isn't durable (D3), and whoever was answered finds it everywhere (DUR4).

States, of which `reason` says why: STARTING (no lock yet), RECOVERING (loading, or waiting for a database that is away), RUNNING,
STALLED (the database doesn't answer; trying on), DRAINING (stopping), HALTED (stopped for a reason that a person must look at;
or, with `storage_low`, almost out of disk: cancels are taken, and it runs again by itself once there is space).
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count, pairwise
from math import inf
from typing import Any, Final

import structlog
from msgspec import Struct

from ome.domain.clock import MICROSECONDS, now_us
from ome.domain.commands import (
    Administered,
    Admit,
    AdoptPositions,
    AdvanceTime,
    CancelAllAfter,
    CancelOrder,
    CancelOrders,
    Command,
    Configure,
    ModifyOrder,
    SetKill,
    Stamped,
)
from ome.domain.errors import (
    InvariantBroken,
    NotAccepting,
    OmeError,
    OutcomeUnknown,
    Overloaded,
    StandingBy,
    StateMismatch,
    StorageAway,
    TooLate,
)
from ome.domain.events import Event
from ome.domain.ports import CommandListener, EngineMetrics, EventListener, Receiver, Recovered, Repository, UserRisk
from ome.domain.records import EngineSettings, PositionRecord
from ome.engine.engine import Engine
from ome.engine.pending_batch import PendingBatch, Preview, Seen, Waiting
from ome.engine.preview import preview

CLOCK_STEP_US: Final = MICROSECONDS
"""A clock that has gone back by more than this is logged; the engine's time stands still until it has caught up (N2)."""

_SPARE_SLOTS: Final = 64
"""Room in the queue beside commands, for ended commits and the stop: those must always fit."""
_CANCELS: Final = frozenset({CancelOrder, CancelOrders, SetKill, CancelAllAfter, Administered})
"""What takes out alone, or is an operator's."""
_FIRST: Final = frozenset({SetKill, Administered})
"""What an operator does is written down before it is done."""
SWEEPS_IN_A_BATCH: Final = 4
"""Chunks of a kill in one transaction: with 500 orders each it takes a tenth of a second."""
ADOPTED_AT_ONCE: Final = 1_000
"""Positions from before any were kept, in one command; more where that would be more commands than there is room for."""
_ADOPTIONS: Final = _SPARE_SLOTS // 2
_STAGES: Final = ("read", "restore")
"""Of a recovery: read the rows; build the books and check them."""
FIRST_PAUSE_S: Final = 0.1
"""Seconds between two attempts to start on a database that is away; doubled from one to the next."""
LONGEST_PAUSE_S: Final = 1.0
LOGGED_ATTEMPTS: Final = 60
"""So many attempts are logged one by one, then every so many: a line a minute is enough for a night."""
STORAGE_LOW: Final = "storage_low"
"""The reason of a HALTED state that passes by itself."""
_DAY_S: Final = 86_400.0
"""The longest that an alarm sleeps, in seconds; timers beyond that are not exact everywhere."""

log = structlog.get_logger(__name__)


class RunnerLimits(Struct, frozen=True):
    """Bounds of the runner, each for a reason.

    `queue` commands may wait (beyond it answers would be late anyway); of these the last `cancel_slots` are for what takes
    out alone (cancels, mass cancels, changes that only lower a quantity: R3), so that a flood of orders can't keep anybody from
    leaving. `batch` commands share a transaction at most, which bounds its
    size and what is lost sight of at once. `client_wait_s` is how long an answer may take: after that what was matched is
    unknown and what still waits is not executed (looked at four times as often). `drain_s` is how long stopping may take.
    """

    queue: int = 8192
    cancel_slots: int = 819
    batch: int = 2048
    client_wait_s: float = 5.0
    drain_s: float = 10.0


class _Wake:
    """Something stands in front of an empty queue."""


_Note = Waiting | Preview[Any] | asyncio.Task[None] | _Wake | None
"""What the queue holds: a command, a dry run, a commit that has ended, that something stands in front, or None to stop."""


class EngineRunner:
    """Owns one engine and one repository; the CommandBus of a single process."""

    def __init__(
        self,
        repository: Repository,
        *,
        settings: EngineSettings,
        limits: RunnerLimits,
        metrics: EngineMetrics,
        on_halt: Callable[[BaseException], None],
        clock_us: Callable[[], int] = now_us,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """`on_halt` is called once, when the engine has stopped for a reason that trying on can't mend."""
        self._repository = repository
        self._settings = settings
        self._limits = limits
        self._order_slots = limits.queue - limits.cancel_slots
        self._metrics = metrics
        self._on_halt = on_halt
        self._clock_us = clock_us
        self._monotonic_s = monotonic_s
        self._listeners: list[EventListener] = []
        self._command_listeners: list[CommandListener] = []
        self._front: deque[Waiting] = deque()
        self._queue: asyncio.Queue[_Note] = asyncio.Queue(maxsize=limits.queue + _SPARE_SLOTS)
        self._engine = Engine()
        self._to_adopt: Sequence[PositionRecord] = ()
        self._pending = PendingBatch()
        self._committing: asyncio.Task[None] | None = None
        self._in_flight = PendingBatch()
        self._durable: PendingBatch | None = None
        """Whose waiting are answered next."""
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self._state = "STARTING"
        self._reason = ""
        self._is_stalled = False
        self._storage_low = False
        self._position = 0
        self._commit_started = 0.0
        self._waited_s = 0.0
        """How long the first command of the batch in flight took from its arrival until the commit began."""
        self._watch: asyncio.TimerHandle | None = None
        self._gave_up = False
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at: int | None = None

    # The door

    def enqueue(
        self, command: Command, settled: Callable[[], None] | None = None, deadline_s: float = inf
    ) -> asyncio.Future[Sequence[Event]]:
        """See CommandBus: the command's events, once they are durable."""
        future: asyncio.Future[Sequence[Event]] = asyncio.get_running_loop().create_future()
        self.post(command, future, settled, deadline_s)
        return future

    def post(
        self,
        command: Command,
        receiver: Receiver[Sequence[Event]],
        settled: Callable[[], None] | None = None,
        deadline_s: float = inf,
    ) -> None:
        """See CommandBus."""
        kind, bound = type(command), self._order_slots
        cancels = kind in _CANCELS
        takes_out = cancels or (
            self._queue.qsize() >= bound and isinstance(command, ModifyOrder) and self._engine.only_lowers(command)
        )
        try:
            self._check_room(self._limits.queue if takes_out else bound, cancels=cancels)
        except OmeError:
            _settle(settled)
            raise
        waiting = Waiting(command, receiver, settled, asyncio.get_running_loop().time(), deadline_s)
        if kind in _FIRST:
            self._put_in_front(waiting)
        else:
            self._queue.put_nowait(waiting)

    def _put_in_front(self, waiting: Waiting) -> None:
        """Let a command pass all that wait: whoever stops a runaway must not stand behind it."""
        self._front.append(waiting)
        if not self._queue.qsize():
            self._queue.put_nowait(_Wake())

    async def send(self, command: Command, settled: Callable[[], None] | None = None, deadline_s: float = inf) -> Sequence[Event]:
        """See CommandBus."""
        return await self.enqueue(command, settled, deadline_s)

    async def preview(self, commands: Sequence[Command]) -> list[list[Event]]:
        """See CommandBus."""
        return await self._look(lambda engine: preview(engine, commands, self._clock_us()))

    async def risk(self, user_id: str) -> UserRisk:
        """See CommandBus."""
        return await self._look(lambda engine: engine.risk_of(user_id))

    async def why_it_stays(self, symbol: str) -> str:
        """Why a symbol can't be given to another shard, after all commands that wait now; "" where it can. Raises as `risk`."""
        return await self._look(lambda engine: engine.why_it_stays(symbol))

    async def _look(self, look: Callable[[Engine], Seen]) -> Seen:
        """What there is to see of the engine when the turn comes, once all of that is durable (D3)."""
        self._check_room(self._order_slots)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Seen] = loop.create_future()
        self._queue.put_nowait(Preview(look, future, loop.time()))
        return await future

    def _check_room(self, room: int, *, cancels: bool = False) -> None:
        if self._state != "RUNNING" and not (cancels and self._takes_cancels):
            raise NotAccepting(STORAGE_LOW if self._takes_cancels else self._state.lower())
        if self._queue.qsize() >= room:
            raise Overloaded

    def is_open(self, order_id: int, account: str | None = None) -> bool:
        """See CommandBus: a hint for what to look up."""
        order = self._engine.open_order(order_id)
        return order is not None and account in {None, order.user_id}

    @property
    def state(self) -> str:
        """One of the states of the module's docstring."""
        return self._state

    @property
    def reason(self) -> str:
        """See CommandBus."""
        return self._reason

    @property
    def position(self) -> int:
        """The last committed position."""
        return self._position

    @property
    def open_orders(self) -> int:
        """How many orders are open, waiting stops too."""
        return self._engine.open_orders

    @property
    def waiting(self) -> int:
        """How many commands have been taken and aren't durable yet."""
        return self._queue.qsize() + len(self._front) + len(self._pending) + len(self._in_flight)

    def stalled(self, stalled: bool) -> None:  # noqa: FBT001  the repository's callback
        """The repository tells when the database stops answering and when it answers again."""
        self._is_stalled = stalled
        self._go_on()

    def storage_low(self, low: bool) -> None:  # noqa: FBT001  likewise
        """The repository tells when the disk is almost full, and when there is space again."""
        if low != self._storage_low:
            self._storage_low = low
            self._go_on()

    @property
    def _takes_cancels(self) -> bool:
        return self._state == "HALTED" and self._reason == STORAGE_LOW

    def _go_on(self) -> None:
        """Enter the state that the database is in, unless the engine isn't taking commands for another reason."""
        if self._state not in {"RUNNING", "STALLED"} and not self._takes_cancels:
            return
        if self._storage_low:
            self._enter("HALTED", STORAGE_LOW)
        elif self._is_stalled:
            self._enter("STALLED", "the database does not answer")
        else:
            self._enter("RUNNING")

    def fail(self, error: OmeError) -> None:
        """Stop for good: something outside of the engine says that it must not go on."""
        if self._task is not None and not self._task.done() and not self._stopping and not self._gave_up:
            self._gave_up = True
            self._task.cancel()
            self._halt(error)

    # Life

    async def open(self) -> None:
        """Take the lock. Raises what stands against it, but for a database that is away: `recover` waits for that."""
        try:
            await self._repository.open()
        except StorageAway as error:
            self._enter("RECOVERING", str(error))
        else:
            self._enter("RECOVERING")

    async def recover(self, views: Callable[[Engine], Awaitable[None]] | None = None) -> Engine:
        """Lock, fence, load and verify; the engine that results, of which `views` hear. Nothing is served yet.

        A database that is away is waited for, for as long as it takes. Raises a StorageError that says what else stands against
        it; a state that contradicts itself is never mended silently.
        """
        pause, stands_by = FIRST_PAUSE_S, False
        for attempt in count():
            try:
                await self._repository.start()
                self._enter("RECOVERING")
                with _collections_put_off():
                    engine = await self._recover()
                    if views is not None:
                        await views(engine)
            except StorageAway as error:
                await self._repository.close()
                self._enter("RECOVERING", str(error))
                is_standby = isinstance(error, StandingBy)
                if is_standby and not stands_by:
                    log.info("standing_by")
                elif not is_standby and (attempt < LOGGED_ATTEMPTS or attempt % LOGGED_ATTEMPTS == 0):
                    log.warning("waiting_for_database", error=str(error), again_in_s=pause)
                await asyncio.sleep(pause)
                pause, stands_by = min(pause * 2, LONGEST_PAUSE_S), is_standby
            else:
                return engine
        raise AssertionError  # `count` has no end

    async def _recover(self) -> Engine:
        times = [time.perf_counter()]
        recovered = await self._repository.load()
        times.append(time.perf_counter())
        engine = await asyncio.to_thread(_verified_engine, recovered)  # seconds, with a large book: the loop stays free
        times.append(time.perf_counter())
        self._engine, self._position, self._to_adopt = engine, engine.position, recovered.to_adopt
        seconds = {stage: round(end - begun, 3) for stage, (begun, end) in zip(_STAGES, pairwise(times), strict=True)}
        log.info(
            "recovered", position=engine.position, open_orders=engine.open_orders, trades=engine.trade_count, seconds=seconds
        )
        return engine

    async def run(self, listeners: Sequence[EventListener], command_listeners: Sequence[CommandListener] = ()) -> None:
        """Begin to take commands; `listeners`, then `command_listeners`, are told of every batch once it is durable."""
        self._listeners, self._command_listeners = list(listeners), list(command_listeners)
        self._task = asyncio.create_task(self._loop(), name="engine")
        self._enter("RUNNING")
        self._go_on()
        self._look_for_impatience()
        if self._engine.settings != self._settings:
            await self._configure()
        self._set_alarm()

    async def drain(self, within_s: float | None = None) -> bool:
        """Take nothing new and make durable what was taken.

        Whether all of it is durable; what is not after `within_s` seconds (`drain_s` if None) is unknown to whoever sent it.
        """
        if self._state != "STARTING" and (self._state != "HALTED" or self._takes_cancels):
            self._enter("DRAINING")
        if self._alarm is not None:
            self._alarm.cancel()
        drained = True
        if self._task is not None:
            if not self._task.done():
                self._queue.put_nowait(None)
            done, _ = await asyncio.wait([self._task], timeout=self._limits.drain_s if within_s is None else within_s)
            drained = bool(done)
            if not drained:
                log.error("drain_timed_out", matched=len(self._in_flight) + len(self._pending), queued=self._queue.qsize())
                self._gave_up = True
                self._task.cancel()
                if self._committing is not None:
                    self._committing.add_done_callback(_look_at)
        if self._watch is not None:  # until here nobody waits longer for an answer than otherwise
            self._watch.cancel()
        self._abandon(OutcomeUnknown("the service stopped"), self._state.lower())
        return drained and self._state != "HALTED"

    async def stop(self, within_s: float | None = None) -> bool:
        """`drain`, and give back the database."""
        drained = await self.drain(within_s)
        await self._repository.close()
        return drained

    # The coroutine

    async def _loop(self) -> None:
        try:
            while not (self._stopping and self._committing is None and not self._pending):
                note, before = await self._queue.get(), self._engine.position
                self._take(note)
                self._drain()
                if self._engine.position != before and self._engine.next_deadline() != self._alarm_at:
                    self._set_alarm()
                if self._committing is None:
                    self._begin_commit()
                    self._answer()
                elif len(self._pending) >= self._limits.batch:
                    await asyncio.wait([self._committing])
                    self._end_commit(self._committing)
                    self._begin_commit()
                    self._answer()
        except BaseException as error:
            if not self._gave_up:  # whatever it is, the engine stops rather than guess, and says so
                self._halt(error)
            if not isinstance(error, Exception | asyncio.CancelledError):
                raise

    def _drain(self) -> None:
        while len(self._pending) < self._limits.batch:
            if not self._queue.qsize():
                return
            self._take(self._queue.get_nowait())

    def _take(self, note: _Note) -> None:
        while self._front:
            self._apply(self._front.popleft())
        if isinstance(note, Waiting):
            self._apply(note)
        elif note is None:
            self._stopping = True
        elif isinstance(note, Preview):
            self._preview(note)
        elif note is self._committing:
            self._end_commit(note)

    def _apply(self, waiting: Waiting) -> None:
        if waiting.is_withdrawn:
            waiting.settle()
            return
        if waiting.deadline_s != inf and waiting.deadline_s < self._monotonic_s():  # not stamped yet: the engine has no clock
            waiting.fail(TooLate())
            waiting.settle()
            return
        engine = self._engine
        now, last = self._clock_us(), engine.time
        if now < last:
            if now < last - CLOCK_STEP_US:
                log.warning("clock_went_back", by_us=last - now)
            now = last
        if isinstance(waiting.command, Admit):  # of another machine's clock: what comes is never younger than the engine's time
            now = max(now, waiting.command.time)
        while engine.has_crowd_due(now):
            self._stamp(Waiting(AdvanceTime()), now)
        if engine.is_sweeping and not self._sweep(now, is_tick=isinstance(waiting.command, AdvanceTime)):
            return
        self._stamp(waiting, now)

    def _sweep(self, now: int, *, is_tick: bool) -> bool:
        """Let a kill go on by a chunk before each command, a few in a batch; whether the command itself is to be applied: not a
        tick, which there would be nothing else for, once the batch has enough.
        """
        if self._pending.sweeps >= SWEEPS_IN_A_BATCH:
            return not is_tick
        self._pending.sweeps += 1
        if not is_tick:
            self._stamp(Waiting(AdvanceTime()), now)
        return True

    def _stamp(self, waiting: Waiting, now: int) -> None:
        """Give a command its place and time, and apply it."""
        engine = self._engine
        stamped = Stamped(engine.position + 1, now, waiting.command)
        try:
            self._pending.add(stamped, engine.apply(stamped), waiting)
        except BaseException:
            waiting.fail(OutcomeUnknown("the engine stopped"))
            raise

    def _preview(self, request: Preview[Seen]) -> None:
        """Look at the engine in its turn; a bug in that harms nobody but whoever asked."""
        try:
            seen = request.look(self._engine)
        except Exception as error:  # noqa: BLE001  the engine itself is untouched
            request.fail(error)
            return
        if self._pending:
            self._pending.add_preview(request, seen)
        elif self._committing is not None:
            self._in_flight.add_preview(request, seen)
        else:
            request.answer(seen)

    def _begin_commit(self) -> None:
        if not self._pending:
            return
        batch = self._pending.seal(self._engine)
        self._in_flight, self._pending = self._pending, PendingBatch()
        self._waited_s = max(0.0, asyncio.get_running_loop().time() - self._in_flight.waiting[0].since)
        self._commit_started = time.perf_counter()
        self._committing = asyncio.create_task(self._repository.commit(batch), name="commit")
        self._committing.add_done_callback(self._queue.put_nowait)

    def _end_commit(self, commit: asyncio.Task[None]) -> None:
        """The batch in flight is durable: the views first, then the answers. Raises what the commit raised."""
        commit.result()
        durable = self._in_flight
        self._position += len(durable)
        ended = time.perf_counter()
        events = durable.events()
        for listener in self._listeners:
            listener.committed(events)
        for command_listener in self._command_listeners:
            command_listener.commands_committed(self._position, durable.private)
        self._metrics.batch_committed(
            len(durable), ended - self._commit_started, self._queue.qsize(), self._waited_s, time.perf_counter() - ended
        )
        self._durable = durable
        self._committing, self._in_flight = None, PendingBatch()
        if self._is_stalled:
            self.stalled(stalled=False)
            self._set_alarm()
        elif self._engine.is_sweeping:
            self._set_alarm()

    def _answer(self) -> None:
        """Give the waiting of a batch that is durable their answers, all in one turn of the loop, once the next is on its way."""
        durable, self._durable = self._durable, None
        if durable is not None:
            asyncio.get_running_loop().call_soon(durable.answer)

    # When things go wrong

    def _look_for_impatience(self) -> None:
        """Answer those who have waited too long: what was matched is unknown, what only waits was certainly not executed."""
        loop = asyncio.get_running_loop()
        since = loop.time() - self._limits.client_wait_s
        if self._in_flight.waiting_since <= since:
            self.stalled(stalled=True)
        unknown = OutcomeUnknown("the database has not confirmed it yet")
        self._in_flight.fail(unknown, since)
        self._pending.fail(unknown, since)
        self._withdraw_queued(NotAccepting("stalled"), since)
        self._watch = loop.call_later(self._limits.client_wait_s / 4, self._look_for_impatience)

    def _withdraw_queued(self, error: OmeError, since: float = inf) -> None:
        """Take the commands that somebody has waited for since this moment or longer out of the queue; the rest stays in it."""
        for waiting in [waiting for waiting in self._front if waiting.since <= since]:
            self._front.remove(waiting)
            waiting.fail(error)
            waiting.settle()
        for _ in range(self._queue.qsize()):
            note = self._queue.get_nowait()
            if isinstance(note, (Waiting, Preview)) and note.receiver is not None and note.since <= since:
                note.fail(error)
                if isinstance(note, Waiting):
                    note.settle()
            else:
                self._queue.put_nowait(note)

    def _abandon(self, error: OmeError, state: str) -> None:
        """Nothing more will come of what was taken: what was matched is unknown, what only waited was not executed."""
        self._answer()
        self._in_flight.fail(error)
        self._pending.fail(error)
        self._withdraw_queued(NotAccepting(state))

    def _halt(self, error: BaseException) -> None:
        if self._watch is not None:
            self._watch.cancel()
        if self._committing is not None:
            self._committing.add_done_callback(_look_at)  # whatever comes of it, nobody waits for it any more
        log.critical("engine_halted", error=str(error), error_type=type(error).__name__, exc_info=error)
        self._enter("HALTED", str(error) or type(error).__name__)
        self._abandon(OutcomeUnknown("the engine halted"), "halted")
        self._on_halt(error)

    def _enter(self, state: str, reason: str = "") -> None:
        self._reason = reason
        if state != self._state:
            log.info("engine_state", state=state, was=self._state, **({"reason": reason} if reason else {}))
            self._state = state
            self._metrics.state_changed(state)

    async def _configure(self) -> None:
        """Journal settings that have changed, and before them what they begin with; not subject to admission."""
        loop = asyncio.get_running_loop()
        adopted, self._to_adopt = self._to_adopt, ()
        size = max(ADOPTED_AT_ONCE, -(-len(adopted) // _ADOPTIONS))
        for start in range(0, len(adopted), size):
            self._queue.put_nowait(Waiting(AdoptPositions(list(adopted[start : start + size]))))
        future: asyncio.Future[Sequence[Event]] = loop.create_future()
        self._queue.put_nowait(Waiting(Configure(self._settings), future))
        await future

    # Deadlines

    def _set_alarm(self) -> None:
        """Have time advanced when the next deadline comes, commands or none (T5)."""
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm, self._alarm_at = None, self._engine.next_deadline()
        if self._alarm_at is not None:
            wait_s = max(0, self._alarm_at - self._clock_us()) / MICROSECONDS
            self._alarm = asyncio.get_running_loop().call_later(min(wait_s, _DAY_S), self._ring)

    def _ring(self) -> None:
        self._alarm_at = None
        if (self._state == "RUNNING" or self._takes_cancels) and self._queue.qsize() < self._limits.queue:
            self._queue.put_nowait(Waiting(AdvanceTime()))
        else:
            self._alarm = asyncio.get_running_loop().call_later(1.0, self._ring)


def _verified_engine(recovered: Recovered) -> Engine:
    """The engine that was stored, with its books checked and its state hash compared."""
    try:
        engine = Engine.restore(recovered.state, recovered.more)
        engine.check_invariants()
    except InvariantBroken as error:
        raise StateMismatch(f"the stored orders contradict each other: {error}") from error
    if recovered.state_hash is not None and engine.state_hash() != recovered.state_hash:
        raise StateMismatch(
            f"the stored orders and instruments have the state hash {engine.state_hash():016x}, "
            f"but {recovered.state_hash:016x} was stored with position {engine.position}"
        )
    return engine


@contextmanager
def _collections_put_off() -> Iterator[None]:
    """No garbage is collected meanwhile, and what is there afterwards is never looked at again: walking through a million open
    orders, again and again while they are made, takes longer than making them, and later it would stop the engine for a second
    each time. They are freed by their reference counts all the same.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _look_at(task: asyncio.Task[None]) -> None:
    """Take note of how a task ended, so that its error isn't reported as forgotten."""
    if not task.cancelled():
        task.exception()


def _settle(settled: Callable[[], None] | None) -> None:
    if settled is not None:
        settled()
