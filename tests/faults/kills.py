"""kill -9 under load, in recovery and in a migration; SIGTERM under load."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from contextlib import suppress

from faults import places
from faults.faulty_disk import Action, Call, FaultyDisk, File
from faults.load import Load, loaded
from faults.oracle import audit
from faults.run import Fault, Outcome, Run
from faults.service import NotReady, Service, a_nursery, a_service


async def kill_on_sqlite(run: Run) -> Outcome:
    """The service dies at random instants while clients trade; it is started again on the same file."""
    return await killed(run, places.sqlite(run))


async def kill_on_postgresql(run: Run) -> Outcome:
    """The same over PostgreSQL, where the dead engine's backend may still be in its commit."""
    return await killed(run, (await places.postgresql(run)).url)


async def killed(run: Run, url: str) -> Outcome:
    """Kill and start again under one load that never pauses."""
    outcome, starts = Outcome(), list[float]()
    with a_nursery() as nursery, a_service(url, nursery=nursery) as service:
        load = Load(service.port, run.seed)
        async with loaded(load):
            starts.append(await service.up())
            while run.goes_on(outcome.injected):
                await load.acknowledge_next()
                await asyncio.sleep(run.rng.uniform(0.0, 0.5))
                service.kill()
                outcome.injected += 1
                starts.append(await service.up())
            await load.stop()
            outcome.findings = await audit(load.ledger, url, service.port, load.watcher)
    outcome.notes.append(facts(load, starts))
    return outcome


async def kill_in_recovery(run: Run) -> Outcome:
    """The service dies again and again while it starts: at random instants, and at chosen writes and flushes of the start."""
    outcome, starts, url, disk = Outcome(), list[float](), places.sqlite(run), FaultyDisk(run.folder)
    with a_nursery(environment=disk.environment) as nursery, a_service(url, nursery=nursery) as service:
        load = Load(service.port, run.seed, clients=4)
        async with loaded(load):
            starts.append(await service.up())
            while run.goes_on(outcome.injected):
                await load.acknowledge_next()
                await asyncio.sleep(run.rng.uniform(0.0, 0.2))
                service.kill()
                for _ in range(5):
                    await killed_while_it_starts(run, service, disk)
                    outcome.injected += 1
                starts.append(await service.up())
            await load.stop()
            outcome.findings = await audit(load.ledger, url, service.port, load.watcher)
    outcome.notes.append(facts(load, starts))
    return outcome


async def killed_while_it_starts(run: Run, service: Service, disk: FaultyDisk) -> None:
    """One start that doesn't get far."""
    if run.rng.random() < 0.5:
        disk.plan(
            Call.SYNC | Call.WRITE | Call.TRUNCATE, File.DATABASE | File.WAL, first=run.rng.randrange(1, 12), action=Action.KILL
        )
    service.spawn()
    await asyncio.sleep(run.rng.uniform(0.0, 0.25))
    service.kill()
    disk.mend()


async def kill_in_migration(run: Run) -> Outcome:
    """A new database: the service dies at each write and flush that making its tables takes, one after another."""
    outcome, disk, number, starts = Outcome(), FaultyDisk(run.folder), 0, list[float]()
    with a_nursery(environment=disk.environment) as nursery:
        while run.goes_on(outcome.injected):
            number += 1
            url = places.sqlite(run, f"new{number}")
            with a_service(url, nursery=nursery) as service:
                disk.plan(Call.SYNC | Call.WRITE | Call.TRUNCATE, File.DATABASE | File.WAL, first=number, action=Action.KILL)
                with suppress(NotReady):
                    await service.up()
                    number = 0  # the whole start took fewer calls: from the beginning
                    continue
                outcome.injected += 1
                disk.mend()
                starts.append(await service.up())
                load = Load(service.port, f"{run.seed}:{number}", clients=2)
                async with loaded(load):
                    await load.acknowledge_next()
                    await load.stop()
                findings = await audit(load.ledger, url, service.port, load.watcher)
            findings.acknowledged += outcome.findings.acknowledged
            outcome.findings.add(findings)
            shutil.rmtree(places.file_of(url).parent)
    outcome.notes.append(facts(load, starts))
    return outcome


async def terminate(run: Run) -> Outcome:
    """SIGTERM under load: it leaves with status 0, and no client is left without a definite answer."""
    outcome, starts, url = Outcome(), list[float](), places.sqlite(run)
    with a_nursery() as nursery, a_service(url, nursery=nursery) as service:
        load = Load(service.port, run.seed)
        async with loaded(load):
            starts.append(await service.up())
            while run.goes_on(outcome.injected):
                await load.acknowledge_next()
                await asyncio.sleep(run.rng.uniform(0.0, 0.5))
                status = await service.terminated()
                outcome.expect(status == 0, f"SIGTERM ended it with status {status}:\n{service.output()[-1000:]}")
                outcome.injected += 1
                starts.append(await service.up())
            await load.stop()
            findings = await audit(load.ledger, url, service.port, load.watcher)
            outcome.findings.add(findings)
    outcome.expect(not load.ledger.unknown, f"{load.ledger.unknown} requests were left without a definite answer")
    outcome.notes.append(facts(load, starts))
    return outcome


def facts(load: Load, starts: Sequence[float]) -> str:
    """Figures of a row with restarts, in a sentence."""
    middle, longest = sorted(starts)[len(starts) // 2], max(starts)
    answers = f"{load.ledger.unknown} answers lost and asked for again"
    return f"{answers}; {load.watcher.looks} looks of a stranger; ready again after {middle:.2f} s (longest {longest:.2f} s)"


FAULTS = (
    Fault("kill", kill_on_sqlite, 150, 90),
    Fault("kill-postgresql", kill_on_postgresql, 60, 60),
    Fault("kill-recovery", kill_in_recovery, 50, 25),
    Fault("kill-migration", kill_in_migration, 30, 25),
    Fault("sigterm", terminate, 20, 25),
)
