"""Power cuts: the real service trades on a disk that remembers, then the power is cut thousands of times (`power_cuts`)."""

from __future__ import annotations

import asyncio
from pathlib import Path

from faults import places
from faults.faulty_disk import Action, Call, FaultyDisk, File
from faults.load import Load, loaded
from faults.oracle import Findings, audit
from faults.power_cuts import cut
from faults.run import Fault, Outcome, Run
from faults.service import a_nursery, a_service

LIVES = 3
"""Lives of the service in one recording: all but the last end by kill -9 in the middle of a commit."""
LIFE_S = 1.5
CUTS = 2_500
"""Cuts of one recording; then a new one is made."""


async def power_cut(run: Run) -> Outcome:
    """What was answered is there after a cut at any moment."""
    return await recorded_and_cut(run)


async def canary_normal(run: Run) -> Outcome:
    """With synchronous=NORMAL the same cuts lose what was answered."""
    return await recorded_and_cut(run, "normal")


async def canary_answer_before_commit(run: Run) -> Outcome:
    """A build that answers first is found out by the same cuts."""
    return await recorded_and_cut(run, "answer-before-commit")


async def recorded_and_cut(run: Run, *mistakes: str) -> Outcome:
    """Record, then cut, until the budget is spent."""
    outcome, number = Outcome(), 0
    while run.goes_on(outcome.injected):
        cuts = min(run.least, CUTS)
        logs, ledger = await recorded(run, number, *mistakes)
        findings = await asyncio.to_thread(cut, logs, cuts, f"{run.seed}:{number}")
        findings.acknowledged, findings.stored, findings.trades = (
            outcome.findings.acknowledged + ledger.acknowledged,
            outcome.findings.stored + ledger.stored,
            outcome.findings.trades + ledger.trades,
        )
        outcome.findings.add(findings)
        outcome.injected += cuts
        number += 1
    return outcome


async def recorded(run: Run, number: int, *mistakes: str) -> tuple[list[Path], Findings]:
    """The log of a few lives of the service, and the audit at their end."""
    disk, log = FaultyDisk(run.folder), run.folder / f"disk{number}.log"
    url = places.sqlite(run, f"recording{number}")
    with (
        a_nursery("small-wal", *mistakes, environment=disk.environment | {"FAULTY_DISK_LOG": str(log)}) as nursery,
        a_service(url, nursery=nursery) as service,
    ):
        load = Load(service.port, f"{run.seed}:{number}", clients=6)
        async with loaded(load):
            await service.up()
            for _ in range(LIVES - 1):
                await asyncio.sleep(LIFE_S)
                disk.plan(Call.SYNC, File.WAL, first=run.rng.randrange(1, 5), action=Action.KILL)
                await service.ended()
                disk.mend()
                await service.up()
            await asyncio.sleep(LIFE_S)
            await load.stop()
            findings = await audit(load.ledger, url, service.port, load.watcher)
            await service.terminated()
    return [log], findings


FAULTS = (Fault("power-cut", power_cut, 5_000, 100),)
CANARIES = (
    Fault("canary-normal", canary_normal, 400, 20, is_canary=True),
    Fault("canary-answer-first", canary_answer_before_commit, 400, 20, is_canary=True),
)
