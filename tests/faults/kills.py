"""kill -9 under load, in recovery and in a migration; SIGTERM under load."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path

from faults import places
from faults.faulty_disk import FOR_EVER, Action, Call, FaultyDisk, File
from faults.load import Load, loaded
from faults.oracle import Findings, Reader, audit, judge_book, judge_journal
from faults.run import Fault, Outcome, Run
from faults.service import NotReady, Service, a_nursery, a_service
from integration.test_upgrade import made_in

UPGRADED = "SELECT id, user_id, symbol, side, type, quantity, price, filled_quantity, priority, version FROM stored_orders"
"""What of an order no upgrade changes; one whose deadline has passed since expires when the service starts."""
EVERY_CALL = Call.SYNC | Call.WRITE | Call.TRUNCATE


async def kill_on_sqlite(run: Run) -> Outcome:
    """The service dies at random instants while clients trade; it is started again on the same file."""
    return await killed(run, places.sqlite(run))


async def kill_on_postgresql(run: Run) -> Outcome:
    """The same over PostgreSQL, where the dead engine's backend may still be in its commit."""
    return await killed(run, (await places.postgresql(run)).url)


async def killed(run: Run, url: str) -> Outcome:
    """Kill and start again under one load that never pauses."""
    outcome, starts = Outcome(), list[float]()
    # on PostgreSQL the next one listens for the one that was killed: a third of its lease, and a little more
    with a_nursery() as nursery, a_service(url, {"LEASE_SEC": "1"}, nursery=nursery) as service:
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
        disk.plan(EVERY_CALL, File.DATABASE | File.WAL, first=run.rng.randrange(1, 12), action=Action.KILL)
    service.spawn()
    await asyncio.sleep(run.rng.uniform(0.0, 0.25))
    service.kill()
    disk.mend()


async def kill_in_migration(run: Run) -> Outcome:
    """A new database: the service dies at a write or flush of the start that makes its tables."""

    async def after(service: Service, number: int) -> Findings:
        load = Load(service.port, f"{run.seed}:{number}", clients=2)
        async with loaded(load):
            await load.acknowledge_next()
            await load.stop()
        return await audit(load.ledger, service.database_url, service.port, load.watcher)

    return await killed_in_first_starts(run, lambda _: None, after)


async def kill_in_upgrade(run: Run) -> Outcome:
    """A database of the first version, with open orders: the service dies at a write or flush of the start that upgrades it."""
    made_in(run.folder / "as-it-was.db")
    before = await Reader(f"sqlite:///{run.folder / 'as-it-was.db'}").rows(UPGRADED)

    async def after(service: Service, _: int) -> Findings:
        findings, reader = Findings(), Reader(service.database_url)
        found = {row[0]: row for row in await reader.rows(UPGRADED)}
        for row in before:
            if found.get(row[0]) != row:
                findings.say("lost", f"order {row} became {found.get(row[0])}")
        await judge_journal(service.database_url, findings)
        await judge_book(reader, service.port, findings)
        return findings

    return await killed_in_first_starts(run, made_in, after)


async def killed_in_first_starts(
    run: Run, make: Callable[[Path], object], after: Callable[[Service, int], Awaitable[Findings]]
) -> Outcome:
    """Databases that `make` makes; the first start of each ends at a call of its own, the second is looked at by `after`."""
    outcome, disk, starts = Outcome(), FaultyDisk(run.folder), list[float]()
    with a_nursery(environment=disk.environment) as nursery:
        calls = 0
        while run.goes_on(outcome.injected):
            number = outcome.injected
            url = places.sqlite(run, f"made{number}-{calls}")
            make(places.file_of(url))
            with a_service(url, nursery=nursery) as service:
                fatal = run.rng.randrange(1, calls + 1) if calls else FOR_EVER
                disk.plan(EVERY_CALL, File.DATABASE | File.WAL, first=fatal, action=Action.KILL)
                with suppress(NotReady):
                    starts.append(await service.up())  # the first of all tells how many calls there are
                    calls = disk.seen
                    continue
                outcome.injected += 1
                disk.mend()
                starts.append(await service.up())
                findings = await after(service, number)
            findings.acknowledged += outcome.findings.acknowledged
            outcome.findings.add(findings)
            shutil.rmtree(places.file_of(url).parent)
    outcome.notes.append(f"a start makes {calls} writes and flushes; ready again after {max(starts):.2f} s at the longest")
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
    Fault("kill-migration", kill_in_migration, 20, 20),
    Fault("kill-upgrade", kill_in_upgrade, 20, 20),
    Fault("sigterm", terminate, 20, 25),
)
