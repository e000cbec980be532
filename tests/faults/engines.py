"""Two engines on one database: at most one commits."""

from __future__ import annotations

import asyncio
import signal

from faults import places
from faults.load import Load, loaded
from faults.oracle import audit
from faults.proxy import Proxy
from faults.run import Fault, Outcome, Run
from faults.service import NotReady, Service, a_nursery, a_service
from forks import Nursery

RUNNING_ALREADY, TAKEN_OVER = 3, 4
TAKEOVER_WITHIN_S = 60.0


async def second_engine(run: Run) -> Outcome:
    """A second one is refused with status 3, and the first doesn't notice; on SQLite."""
    return await refused(run, places.sqlite(run))


async def second_engine_on_postgresql(run: Run) -> Outcome:
    """The same on PostgreSQL."""
    return await refused(run, (await places.postgresql(run)).url)


async def refused(run: Run, url: str) -> Outcome:
    """Start second engines beside one that trades."""
    outcome = Outcome()
    with a_nursery() as nursery, a_service(url, nursery=nursery) as first:
        load = Load(first.port, run.seed)
        async with loaded(load):
            await first.up()
            while run.goes_on(outcome.injected):
                with a_service(url, nursery=nursery) as second:
                    second.spawn()
                    status = await second.ended()
                    outcome.expect(status == RUNNING_ALREADY, f"a second engine ended with {status}, not {RUNNING_ALREADY}")
                outcome.injected += 1
                outcome.expect(await load.acknowledge_next(), "the first does not trade any more")
            await load.stop()
        outcome.expect(not load.ledger.unknown, f"{load.ledger.unknown} answers of the first were lost")
        outcome.findings.add(await audit(load.ledger, url, first.port, load.watcher))
    return outcome


async def lock_deleted(run: Run) -> Outcome:
    """The lock file is deleted, so that a second engine starts: the first one's next commit is refused, and it leaves with 4."""
    return await overtaken(run)


async def canary_broken_fence(run: Run) -> Outcome:
    """The same with a build whose compare-and-set compares nothing."""
    return await overtaken(run, "broken-fence")


async def overtaken(run: Run, *mistakes: str) -> Outcome:
    """Two engines past the lock, one after another; clients go over to the younger one."""
    outcome, url = Outcome(), places.sqlite(run)
    lock = places.file_of(url).with_name("ome.db.engine.lock")
    with a_nursery(*mistakes) as nursery:
        older = Service(url, nursery=nursery)
        proxy = Proxy(older.port, run.rng)
        load = Load(await proxy.start(), run.seed)
        try:
            async with loaded(load):
                await older.up()
                while run.goes_on(outcome.injected):
                    await load.acknowledge_next()
                    lock.unlink()
                    younger = Service(url, nursery=nursery)
                    await younger.up()
                    outcome.injected += 1
                    goes_on = await gone_over(load, proxy, older, younger, outcome)
                    older = younger
                    if not goes_on:
                        return outcome
                await load.stop(15.0)
                outcome.findings.add(await audit(load.ledger, url, older.port, load.watcher))
        finally:
            older.close()
            await proxy.close()
    return outcome


async def gone_over(load: Load, proxy: Proxy, older: Service, younger: Service, outcome: Outcome) -> bool:
    """The older engine is found out by its next commit; then the clients go over to the younger one, and whether it trades."""
    status = await older.ended(10.0)
    outcome.expect(status == TAKEN_OVER, f"the engine that was overtaken ended with {status}, not {TAKEN_OVER}")
    proxy.target = younger.port
    older.close()
    outcome.findings.acknowledged = load.ledger.acknowledged
    trades = await load.acknowledge_next(10.0)
    outcome.expect(trades, "the younger one does not trade")
    return trades


async def canary_skipped_update(run: Run) -> Outcome:
    """A build that now and then doesn't write an order that changed."""
    outcome, url = Outcome(), places.sqlite(run)
    with a_nursery("skipped-update") as nursery, a_service(url, nursery=nursery) as service:
        load = Load(service.port, run.seed)
        async with loaded(load):
            await service.up()
            while run.goes_on(load.ledger.acknowledged // 100):
                await load.acknowledge_next()
            await load.stop()
        outcome.injected = load.ledger.acknowledged // 100
        outcome.findings.add(await audit(load.ledger, url, service.port, load.watcher))
    return outcome


async def takeover(run: Run) -> Outcome:
    """The engine is stopped (SIGSTOP); when its lease has run out a second one takes over. Woken up, the first leaves with 4."""
    outcome, took = Outcome(), list[float]()
    url, loop = (await places.postgresql(run)).url, asyncio.get_running_loop()
    with a_nursery() as nursery:
        older = Service(url, nursery=nursery)
        proxy = Proxy(older.port, run.rng)
        load = Load(await proxy.start(), run.seed)
        try:
            async with loaded(load):
                await older.up()
                while run.goes_on(outcome.injected):
                    await load.acknowledge_next()
                    assert older.process is not None
                    older.process.send_signal(signal.SIGSTOP)
                    began = loop.time()
                    younger = await taken_over(url, nursery)
                    took.append(loop.time() - began)
                    proxy.target = younger.port
                    outcome.expect(await load.acknowledge_next(), "the younger one does not trade")
                    older.process.send_signal(signal.SIGCONT)
                    outcome.injected += 1
                    status = await older.ended(30.0)
                    outcome.expect(status == TAKEN_OVER, f"the one that was woken up ended with {status}, not {TAKEN_OVER}")
                    older.close()
                    older = younger
                await load.stop()
                outcome.findings.add(await audit(load.ledger, url, older.port, load.watcher))
        finally:
            older.close()
            await proxy.close()
    outcome.notes.append(f"taken over {max(took):.1f} s after the stop, at the longest")
    return outcome


async def taken_over(url: str, nursery: Nursery) -> Service:
    """Start a second engine until one isn't refused any more."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + TAKEOVER_WITHIN_S
    while True:
        younger = Service(url, nursery=nursery)
        try:
            await younger.up()
        except NotReady:
            younger.close()
            if loop.time() > deadline:
                raise
        else:
            return younger


FAULTS = (
    Fault("second-engine", second_engine, 5, 8),
    Fault("second-engine-postgresql", second_engine_on_postgresql, 3, 20),
    Fault("lock-deleted", lock_deleted, 5, 15),
    Fault("takeover", takeover, 1, 40),
)
CANARIES = (
    Fault("canary-broken-fence", canary_broken_fence, 1, 15, is_canary=True),
    Fault("canary-skipped-update", canary_skipped_update, 3, 10, is_canary=True),
)
