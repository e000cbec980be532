"""One run: a safety phase in which the seed's faults happen, then a liveness phase without any.

Safety: nothing that was acknowledged is lost, doubled or moved, nobody is told what isn't so (see `audit`). Liveness: once the
faults are over an engine serves, and every request that may be asked again gets a definite answer, within `LIVENESS_S`.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from random import Random
from typing import Final

from msgspec import Struct
from structlog.testing import capture_logs

from ome.domain.clock import MICROSECONDS
from ome.domain.errors import EngineRunning, Fenced, NotAccepting, OmeError, OutcomeUnknown
from ome.domain.records import EngineSettings
from properties.flow import SYMBOLS, Flow
from properties.pair import START
from simulation.audit import Audit
from simulation.clients import Client, Network, list_symbols
from simulation.database import Database
from simulation.intents import ClientKey
from simulation.loop import WORLD, NeverWaits, NothingToDo, VirtualLoop, machine_context
from simulation.plan import Plan, plan_of, random_of
from simulation.service import Build, Service

LIVENESS_S: Final = 120.0
"""Virtual seconds within which everything must have settled once there are no more faults."""
SAFETY_S: Final = 600.0
"""Virtual seconds after which the faults end at the latest."""
_SETTINGS: Final = (EngineSettings(keeps_positions=True), EngineSettings(max_cascade=2, keeps_positions=True))
_STEPS_US: Final = (-3600 * MICROSECONDS, -MICROSECONDS, -1000, 1000, MICROSECONDS, 3600 * MICROSECONDS, 86_400 * MICROSECONDS)
PLURAL: Final = {
    "crash": "crashes",
    "pause": "pauses",
    "takeover": "takeovers",
    "standby": "standbys",
    "stop": "stops",
    "disk low": "disks almost full",
    "outage": "outages",
    "clock step": "clock steps",
}
_LOOK_S: Final = 0.1
_HEARS: Final = 0.3
"""How often an engine hears that it was overtaken before it tries to commit."""
_PAUSES_S: Final = (0.05, 0.4, 2.0, 6.0)


class Report(Struct, frozen=True):
    """What came of a run; `failure` is None when every promise was kept, else its kind and what happened."""

    seed: int
    steps: int
    failure: tuple[str, str] | None
    trace: str
    """SHA-256 over everything that happened, in order: the same for the same seed, always."""
    counts: dict[str, int]
    seconds: float
    """Virtual."""


class Broken(Exception):
    """The run has failed: nothing more needs to be simulated."""


class World:
    """Everything there is in one run, and the hand that breaks it."""

    def __init__(self, plan: Plan, build: Build, *, verbose: bool = False) -> None:
        self.plan = plan
        self.build = build
        self.loop = VirtualLoop(random_of(plan.seed, "loop"), shuffled=plan.shuffled)
        self.database = Database(self.loop, plan, self.tell, build.work)
        self.network = Network(self)
        self.audit = Audit(self)
        self.services: list[Service] = []
        self.peace = False
        self.failure: tuple[str, str] | None = None
        self.counts: Counter[str] = Counter()
        self.latest_keys: deque[ClientKey] = deque(maxlen=10)
        """The client order ids that were sent last, by whomever."""
        self._verbose = verbose
        self._random = random_of(plan.seed, "chaos")
        self._trace = sha256()
        self._skew_us = 0
        self._steps_left = plan.steps
        self._numbers = 0
        self._is_over = False
        self._broken: asyncio.Future[None] = self.loop.create_future()
        self.database.on_landed = self._crash_at_commit
        self.database.on_fenced = self._has_fenced

    # What everybody asks

    def clock_us(self) -> int:
        """The wall clock, which may be stepped."""
        return START + int(self.loop.time() * MICROSECONDS) + self._skew_us

    def tell(self, *what: object) -> None:
        """Something happened; it becomes part of the trace."""
        if self._is_over:
            return
        line = f"{self.loop.time():.6f} {self.loop.steps} {what}"
        self._trace.update(line.encode())
        if self._verbose:
            print(line)  # noqa: T201  that is what was asked for

    def count(self, what: str) -> None:
        """Count something for the report."""
        self.counts[what] += 1

    def fail(self, kind: str, what: str) -> None:
        """A promise was broken; the first one counts."""
        self.tell("FAILED", kind, what)
        if self.failure is None and not self._is_over:
            self.failure = (kind, what)
            if not self._broken.done():
                self._broken.set_result(None)

    def take_step(self) -> bool:
        """Whether there is another request to make in the safety phase."""
        self._steps_left -= 1
        return self._steps_left >= 0 and self.loop.time() < SAFETY_S

    def next_number(self) -> int:
        """A number for a request."""
        self._numbers += 1
        return self._numbers

    def route(self, random: Random) -> Service | None:
        """The process that a request reaches: the newest that serves, while two do sometimes the other; None: none does."""
        serving = [service for service in self.services if service.is_serving and service.is_alive]
        if not serving:
            return None
        return random.choice(serving) if random.random() < 0.3 and not self.peace else serving[-1]

    # Processes

    def start(self, *, breaks_lock: bool = False, standby: bool = False) -> Service:
        """Start another process."""
        machine = len(self.services) + 1
        service = Service(self, machine, self._random.choice(_SETTINGS), breaks_lock=breaks_lock, standby=standby)
        self.services.append(service)
        self.count("starts")
        self.tell("start", machine, breaks_lock)
        self.loop.spawn(machine, service.main())
        return service

    def kill(self, service: Service) -> None:
        """SIGKILL: nothing of it runs any more; the system gives back its lock."""
        service.is_alive = service.is_serving = False
        self.loop.stop_machine(service.machine)
        self.database.dead.add(service.machine)
        if self.database.lock_holder == service.machine:
            self.database.lock_holder = None
        self.tell("dead", service.machine)

    def could_not_start(self, service: Service, error: OmeError) -> None:
        """A start was refused; what the faults explain is tried again, all else is a finding."""
        excused = isinstance(error, EngineRunning | Fenced | NotAccepting | OutcomeUnknown)
        self.count("starts refused")
        if not excused:
            self.fail("no start", f"{type(error).__name__}: {error}")
        self.kill(service)

    def exited(self, service: Service) -> None:
        """A process has ended by itself."""
        self.kill(service)

    def _has_fenced(self, epoch: int) -> None:
        if epoch <= self.database.epoch:
            self.fail("fence", f"an engine starts with epoch {epoch} after epoch {self.database.epoch}")
        for service in self.services:
            if service.is_serving and self._random.random() < _HEARS:
                delay_s = self._random.choice(_PAUSES_S)
                self.loop.call_later(delay_s, service.overtaken, context=machine_context(service.machine))

    def _crash_at_commit(self, _: object) -> None:
        if not self.peace and self._random.random() < self.plan.crash_at_commit:
            for service in self.services:
                if service.is_alive and not service.is_paused and service.epoch == self.database.epoch:
                    delay_s = self._random.choice([0.0, 0.0, self.plan.database_s, self.plan.network_s])
                    self.loop.call_later(delay_s, self._crash, service)

    def _crash(self, service: Service) -> None:
        if service.is_alive and not self.peace:
            self.count("crashes")
            self.kill(service)

    # The run

    async def main(self) -> None:
        """Both phases and the end."""
        flow = Flow(random_of(self.plan.seed, "flow"), SYMBOLS, plain=self.plan.plain)
        supervisor = self.loop.spawn(WORLD, self._supervise())
        chaos = self.loop.spawn(WORLD, self._break())
        await list_symbols(self, flow.listing())
        clients = [Client(self, number, flow) for number in range(self.plan.clients)]
        await asyncio.gather(*(client.work() for client in clients))
        chaos.cancel()
        self.tell("peace")
        self.peace = self.database.peace = True
        self.database.go_down(0.0)
        for service in self.services:
            self._resume(service)
        try:
            async with asyncio.timeout(LIVENESS_S):
                await asyncio.gather(*(client.settle() for client in clients))
                await self._until_serving()
                supervisor.cancel()
                await self._stop_all()
        except TimeoutError:
            states = {service.machine: service.runner.state for service in self.services if service.is_alive}
            self.fail("stuck", f"{LIVENESS_S:.0f} s after the last fault not everything has settled; engines: {states}")

    async def _until_serving(self) -> None:
        while (service := self.route(self._random)) is None or service.runner.state != "RUNNING":
            await asyncio.sleep(_LOOK_S)

    async def _stop_all(self) -> None:
        """SIGTERM to whoever serves; one that was fenced learns of it now at the latest."""
        while any(service.is_alive for service in self.services):
            for service in self.services:
                if service.is_serving:
                    service.stop()
            await asyncio.sleep(_LOOK_S)

    async def _supervise(self) -> None:
        """Have an engine running, as a supervisor of processes would."""
        while True:
            if not any(service.is_alive for service in self.services):
                self.start()
            await asyncio.sleep(self._random.choice([0.05, 0.3, 1.0]))

    async def _break(self) -> None:
        """The safety phase's hand: now and then it does one of the plan's actions."""
        actions = list(self.plan.actions)
        while actions and self.loop.time() < SAFETY_S:
            await asyncio.sleep(self._random.expovariate(1 / self.plan.calm_s))
            action = self._random.choices(actions, [self.plan.actions[each] for each in actions])[0]
            alive = [service for service in self.services if service.is_alive and not service.is_paused]
            if action == "clock step":
                self._skew_us += self._random.choice(_STEPS_US)
            elif action == "outage":
                self.database.go_down(self._random.choice(_PAUSES_S))
            elif action == "standby":
                if len(alive) > 2:
                    continue
                self.start(standby=True)
            elif alive:
                self._act_on(self._random.choice(alive), action)
            else:
                continue
            self.count(PLURAL[action])
            self.tell(action)

    def _act_on(self, service: Service, action: str) -> None:
        match action:
            case "crash":
                self.kill(service)
            case "stop":
                if service.is_serving:
                    service.stop()
            case "disk low":
                for low, after_s in ((True, 0.0), (False, self._random.choice(_PAUSES_S))):
                    told = partial(service.runner.storage_low, low)
                    self.loop.call_later(after_s, told, context=machine_context(service.machine))
            case _:
                service.is_paused = True
                self.loop.stop_machine(service.machine)
                self.loop.call_later(self._random.choice(_PAUSES_S), self._resume, service)
                if action == "takeover":
                    self.start(breaks_lock=True)

    def _resume(self, service: Service) -> None:
        if service.is_alive and service.is_paused:
            service.is_paused = False
            self.loop.resume_machine(service.machine)

    def run(self) -> Report:
        """Simulate, judge, clear up."""
        main = self.loop.create_task(self.main())
        try:
            self.loop.run_until_complete(asyncio.wait([main, self._broken], return_when=asyncio.FIRST_COMPLETED))
            if main.done():
                main.result()
        except (NothingToDo, NeverWaits) as error:
            self.fail("stuck", str(error))
        if self.failure is None:
            self.audit.check()
        for complaint in self.loop.complaints:
            self.fail("complaint", complaint)
        self.tell("end", self.database.position, [landed.change.after.chain_hash.hex() for landed in self.database.history])
        self._is_over = True
        counts = self.counts + Counter(self.database.faults)
        counts["acknowledged"] = self.audit.acknowledged
        counts["committed"] = self.database.position
        counts["callbacks"] = self.loop.steps
        report = Report(self.plan.seed, self.plan.steps, self.failure, self._trace.hexdigest(), dict(counts), self.loop.time())
        self.loop.bury()
        gc.unfreeze()  # what each start has set apart is this run's, and no more needed
        self.database.connection.close()
        return report


def simulate(seed: int, steps: int, build: Build | None = None, *, verbose: bool = False) -> Report:
    """One run of a seed, with a mistake in it where `build` has one."""
    return run(plan_of(seed, steps), build or Build(), verbose=verbose)


def run(plan: Plan, build: Build, *, verbose: bool = False) -> Report:
    """One run of a plan."""
    with _silence():
        return World(plan, build, verbose=verbose).run()


@contextmanager
def _silence() -> Iterator[None]:
    """Without what the service logs."""
    logging.disable(logging.CRITICAL)
    try:
        with capture_logs():
            yield
    finally:
        logging.disable(logging.NOTSET)
