"""Builds of the service with one mistake each. The simulator must find every one of them, or it finds nothing.

`python -m simulation --canaries` prints what found each, and after how many seeds. (A commit that is not flushed is no
mistake that a process can see: power cuts are for the fault tests.)
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from math import inf
from typing import Any, Final

from msgspec import Struct, structs

from ome.db.repository import BatchRepository
from ome.db.statements import Change, Head
from ome.domain.errors import NotAccepting, OmeError, TooLate
from ome.domain.ports import Recovered
from ome.engine.order_entry import ClientCommand, OrderEntryDesk, _Place
from ome.engine.pending_batch import PendingBatch, Waiting
from ome.engine.runner import EngineRunner, RunnerLimits
from simulation.database import MemoryWork, SimulatedSession
from simulation.plan import plan_of
from simulation.service import Build
from simulation.world import Report, run

STEPS: Final = 120
"""Requests of a canary's run."""
MOST_SEEDS: Final = 40
"""Runs that a canary may survive at most."""


class _AnswersEarly(EngineRunner):
    def _begin_commit(self) -> None:
        pending = self._pending
        super()._begin_commit()
        if pending:
            pending.answer()


class _PublishesEarly(EngineRunner):
    def _begin_commit(self) -> None:
        for listener in self._listeners if self._pending else ():
            listener.committed(self._pending.events())
        super()._begin_commit()

    def _end_commit(self, commit: Any) -> None:
        listeners, self._listeners = self._listeners, []
        try:
            super()._end_commit(commit)
        finally:
            self._listeners = listeners


class _DeniesWhatIsInFlight(EngineRunner):
    def _look_for_impatience(self) -> None:
        since = asyncio.get_running_loop().time() - self._limits.client_wait_s
        self._in_flight.fail(NotAccepting("stalled"), since)
        super()._look_for_impatience()


class _BrokenFence(MemoryWork):
    def __init__(self, connection: sqlite3.Connection, landed: Callable[[Change], None], random: Any) -> None:
        super().__init__(connection, landed, random)
        self._compare_and_set = self._compare_and_set.partition(" WHERE ")[0]
        self._compare_and_set += " WHERE shard = ? AND (1 OR epoch = ? OR position = ? OR chain_hash = ?)"


class _FencesNobody(MemoryWork):
    def fence(self) -> Head:
        head = super().fence()
        if head.epoch == 1:
            return head
        self._memory.execute("UPDATE engine SET epoch = epoch - 1")
        return structs.replace(head, epoch=head.epoch - 1)


class _SkipsAnUpdate(MemoryWork):
    def _write(self, connection: sqlite3.Connection, change: Change) -> bool:
        old = [order for order in change.batch.orders if order.version > 1 or order.filled_quantity]
        if old and self.random.random() < 0.1:
            lost = self.random.choice(old)
            orders = [order for order in change.batch.orders if order is not lost]
            self._landed, landed = (lambda _: landed(change)), self._landed
            try:
                return super()._write(connection, structs.replace(change, batch=structs.replace(change.batch, orders=orders)))
            finally:
                self._landed = landed
        return super()._write(connection, change)


class _AppliesTwice(MemoryWork):
    def resolve(self, change: Change) -> bool:
        connection = self._connected()
        connection.execute("BEGIN IMMEDIATE")
        head = self._head(connection)
        return self._write(connection, structs.replace(change, before=head))


class _TakesItForCommitted(SimulatedSession):
    async def resolve(self, change: Change) -> bool:
        await super().load()
        return bool(change)


class _RecoversById(BatchRepository):
    async def load(self) -> Recovered:
        recovered = await super().load()
        orders = sorted(recovered.state.orders, key=lambda order: order.id)
        places = sorted(order.priority for order in orders)
        moved = [structs.replace(order, priority=place) for order, place in zip(orders, places, strict=True)]
        return Recovered(structs.replace(recovered.state, orders=moved), None)


class _ForgetsReservations(OrderEntryDesk):
    def _post(
        self, operation: ClientCommand, found: Any, place: _Place | None, told: Callable[[Any], None], deadline_s: float
    ) -> None:
        def told_and_freed(outcome: Any) -> None:
            told(outcome)
            self._release(place)

        super()._post(operation, found, place, told_and_freed, deadline_s)


class _WaitsForNoFate(OrderEntryDesk):
    async def wait_for_fate(self, user_id: str, client_order_id: str, symbol: str | None = None) -> None:
        del user_id, client_order_id, symbol


class _TrustsTheLookUp(OrderEntryDesk):
    def _reserve(self, operation: ClientCommand) -> _Place | None:
        self._reserved.clear()
        return super()._reserve(operation)


class _DeniesAfterHalt(EngineRunner):
    def _abandon(self, error: OmeError, state: str) -> None:
        del error
        super()._abandon(NotAccepting(state), state)


class _ExecutesWhatItDenied(EngineRunner):
    def _withdraw_queued(self, error: OmeError, since: float = inf) -> None:
        for _ in range(self._queue.qsize()):
            note = self._queue.get_nowait()
            if isinstance(note, Waiting) and note.since <= since:
                note.fail(error)
            self._queue.put_nowait(note)

    def _apply(self, waiting: Waiting) -> None:
        super()._apply(Waiting(waiting.command, settled=waiting.settled) if waiting.is_withdrawn else waiting)


class _ExecutesWhatIsTooLate(EngineRunner):
    def _apply(self, waiting: Waiting) -> None:
        if waiting.deadline_s < self._monotonic_s():
            waiting.fail(TooLate())
            waiting = Waiting(waiting.command, settled=waiting.settled)
        super()._apply(waiting)


class _LosesABatch(EngineRunner):
    def _begin_commit(self) -> None:
        if len(self._pending) > 1 and self._position % 10 == 3:
            self._pending.seal(self._engine)
            self._pending.answer()
            self._pending = PendingBatch()
        super()._begin_commit()


_OVERTAKEN: Final[dict[str, Any]] = {"commit_faults": {"committed but raised": 0.25}, "actions": {"takeover": 1}, "calm_s": 1.0}
_SLOW: Final[dict[str, Any]] = {"commit_faults": {"slow": 0.5, "hung": 0.1}, "think_s": 0.002, "clients": 16}
_STALLING: Final[dict[str, Any]] = {
    "commit_faults": {"slow": 0.9},
    "actions": {},
    "think_s": 0.002,
    "network_s": 0.05,
    "clients": 16,
    "limits": RunnerLimits(client_wait_s=0.2),
}


class Canary(Struct, frozen=True):
    """A build with a mistake; `plan` makes what brings it out frequent, where that is seldom."""

    build: Build
    plan: dict[str, Any] = {}


_BUILDS: Final[dict[str, Build]] = {
    "answers before the commit": Build(runner=_AnswersEarly),
    "publishes before the commit": Build(runner=_PublishesEarly),
    "says not_executed of a batch in flight": Build(runner=_DeniesWhatIsInFlight),
    "says not_executed of what was in flight at a halt": Build(runner=_DeniesAfterHalt),
    "answers a batch and forgets to commit it": Build(runner=_LosesABatch),
    "the fence lets everybody through": Build(work=_BrokenFence),
    "one row of an order is not written": Build(work=_SkipsAnUpdate),
    "takes an unclear commit for not committed": Build(work=_AppliesTwice),
    "takes an unclear commit for committed": Build(session=_TakesItForCommitted),
    "recovers in the order of ids": Build(repository=_RecoversById),
    "frees a client order id at its first answer": Build(desk=_ForgetsReservations),
    "reserves no client order id": Build(desk=_TrustsTheLookUp),
    "does not wait for the fate of what is asked after": Build(desk=_WaitsForNoFate),
    "executes what it has said was not executed": Build(runner=_ExecutesWhatItDenied),
    "executes what it has said came too late": Build(runner=_ExecutesWhatIsTooLate),
    "an engine that starts takes no new epoch": Build(work=_FencesNobody),
}
CANARIES: Final[dict[str, Canary]] = {name: Canary(build) for name, build in _BUILDS.items()} | {
    name: Canary(_BUILDS[name], plan)
    for name, plan in {
        "says not_executed of what was in flight at a halt": _OVERTAKEN,
        "executes what it has said was not executed": _STALLING
        | {"clients": 4, "limits": RunnerLimits(batch=1, client_wait_s=0.2)},
        "does not wait for the fate of what is asked after": _SLOW,
        "frees a client order id at its first answer": _STALLING,
        "executes what it has said came too late": _SLOW,
    }.items()
}


class Caught(Struct, frozen=True):
    """After how many seeds a canary was caught, and by what; None where it survived them all."""

    seeds: int
    report: Report | None


def catch(name: str, first_seed: int = 1, most: int = MOST_SEEDS) -> Caught:
    """Run a canary until something notices."""
    for seeds, seed in enumerate(range(first_seed, first_seed + most), 1):
        plan = structs.replace(plan_of(seed, STEPS), **CANARIES[name].plan)
        report = run(plan, CANARIES[name].build)
        if report.failure is not None:
            return Caught(seeds, report)
    return Caught(most, None)


def table(caught: dict[str, Caught]) -> Sequence[str]:
    """The table of the canaries, line by line."""
    width = max(map(len, CANARIES))
    lines = [f"{'mistake':{width}}  seeds  noticed as"]
    for name, found in caught.items():
        what = "NOT NOTICED" if found.report is None or found.report.failure is None else ": ".join(found.report.failure)
        lines.append(f"{name:{width}}  {found.seeds:5}  {what.splitlines()[0][:110]}")
    return lines
