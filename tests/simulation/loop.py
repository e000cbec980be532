"""An event loop without a clock, without IO and without chance: every run repeats from its seed.

Time stands still while anything can run; then it jumps to the next timer. Of the callbacks that can run, the seed chooses the
next one (or the oldest comes first, as in asyncio: the plan says which), so that orderings occur which a real loop shows seldom.

Every callback belongs to a machine, by the context that it was made in: a machine can be stopped for a while, as SIGSTOP does, or
killed, as SIGKILL does: then nothing of it runs any more, at whatever await it was. Nothing of a killed machine is collected
before `bury`, so that no `finally` of it runs while the simulation goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from contextvars import Context, ContextVar, copy_context
from heapq import heappop, heappush
from random import Random
from typing import Any, Final, TypeVar, TypeVarTuple, Unpack

WORLD: Final = 0
"""The machine of whatever is neither killed nor stopped: clients, network, database."""
MACHINE: Final[ContextVar[int]] = ContextVar("MACHINE", default=WORLD)
STEPS_AT_A_MOMENT: Final = 200_000
"""Callbacks that may run without time going on; more are a loop that never waits."""
_BURIAL_ROUNDS: Final = 50

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")


class NothingToDo(RuntimeError):
    """Somebody waits, and nothing will ever happen again."""


class NeverWaits(RuntimeError):
    """Callbacks go on making callbacks while no time passes."""


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs one simulation, in virtual seconds from 0."""

    def __init__(self, random: Random, *, shuffled: bool) -> None:
        super().__init__()
        self.set_debug(False)
        self.steps = 0
        self.complaints: list[str] = []
        self._random = random
        self._shuffled = shuffled
        self._now = 0.0
        self._steps_now = 0
        self._runnable: list[tuple[int, asyncio.Handle]] = []
        self._timers: list[tuple[float, int, int, asyncio.TimerHandle]] = []
        self._timer_count = 0
        self._stopped: dict[int, list[tuple[int, asyncio.Handle]]] = {}
        self._tasks: list[asyncio.Task[Any]] = []
        self.set_task_factory(self._make_task)
        self.set_exception_handler(self._complain)

    # What asyncio asks of a loop

    def time(self) -> float:
        """Virtual seconds since the start."""
        return self._now

    def call_soon(self, callback: Callable[[Unpack[_Ts]], object], *args: *_Ts, context: Context | None = None) -> asyncio.Handle:
        """Have a callback run at this moment, in its turn."""
        handle = asyncio.Handle(callback, args, self, context)
        self._runnable.append((_machine_of(context), handle))
        return handle

    def call_at(
        self, when: float, callback: Callable[[Unpack[_Ts]], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Have a callback run at a moment."""
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._timer_count += 1
        heappush(self._timers, (when, self._timer_count, _machine_of(context), handle))
        return handle

    def run_in_executor(
        self,
        executor: Executor | None,  # noqa: ARG002  there is one kind only
        func: Callable[[Unpack[_Ts]], _T],
        *args: *_Ts,
    ) -> asyncio.Future[_T]:
        """There are no threads: what would run in one runs here, in one piece, at some turn."""
        future: asyncio.Future[_T] = self.create_future()

        def work() -> None:
            if not future.done():
                try:
                    future.set_result(func(*args))
                except Exception as error:  # noqa: BLE001  it is whoever waits who is told
                    future.set_exception(error)

        self.call_soon(work)
        return future

    def _run_once(self) -> None:
        """One callback."""
        if not self._runnable:
            self._pass_time()
        machine, handle = self._runnable.pop(self._random.randrange(len(self._runnable)) if self._shuffled else 0)
        if machine in self._stopped:
            self._stopped[machine].append((machine, handle))
        elif not handle.cancelled():
            self.steps += 1
            self._steps_now += 1
            if self._steps_now > STEPS_AT_A_MOMENT:
                raise NeverWaits(f"{STEPS_AT_A_MOMENT} callbacks ran at {self._now:.6f} s; the last one is {handle!r}")
            handle._run()

    def _pass_time(self) -> None:
        while self._timers and self._timers[0][-1].cancelled():
            heappop(self._timers)
        if not self._timers:
            raise NothingToDo(f"nothing will ever happen after {self._now:.6f} s")
        self._now = max(self._now, self._timers[0][0])
        self._steps_now = 0
        while self._timers and self._timers[0][0] <= self._now:
            _, _, machine, handle = heappop(self._timers)
            self._runnable.append((machine, handle))

    # Machines

    def spawn(self, machine: int, main: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        """Run a coroutine as (or on) a machine; all that it makes belongs to that machine."""
        return self.create_task(main, context=machine_context(machine))

    def stop_machine(self, machine: int) -> None:
        """Let nothing of a machine run from here on."""
        self._stopped.setdefault(machine, [])

    def resume_machine(self, machine: int) -> None:
        """Let a stopped machine go on where it was; what came due meanwhile is due now."""
        self._runnable += self._stopped.pop(machine, [])

    def bury(self) -> None:
        """End everything that still waits, killed machines included. Nobody may look at the world any more."""
        self.complaints = []  # whatever is said from here on is said of the dead
        for machine in list(self._stopped):
            self.resume_machine(machine)
        for _ in range(_BURIAL_ROUNDS):
            left = [task for task in self._tasks if not task.done()]
            if not left:
                break
            for task in left:
                task.cancel()
            self._timers.clear()
            while self._runnable:
                self._steps_now = 0
                self._run_in_order()
        self._runnable.clear()
        self._timers.clear()
        self.close()

    def _run_in_order(self) -> None:
        asyncio.events._set_running_loop(self)
        try:
            _, handle = self._runnable.pop(0)
            if not handle.cancelled():
                handle._run()
        finally:
            asyncio.events._set_running_loop(None)

    # Insides

    def _make_task(self, _: asyncio.AbstractEventLoop, main: Any, **more: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(main, loop=self, **more)
        self._tasks.append(task)
        return task

    def _complain(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.complaints.append(f"{context.get('message')}: {context.get('exception')!r}")


def machine_context(machine: int) -> Context:
    """A context whose callbacks belong to a machine."""
    context = copy_context()
    context.run(MACHINE.set, machine)
    return context


def _machine_of(context: Context | None) -> int:
    return MACHINE.get() if context is None else context.get(MACHINE, WORLD)
