"""The sweep: a short script on a new database, again and again, whose k-th write or flush fails or is the last of the process."""

from __future__ import annotations

import errno
import shutil

from faults import places
from faults.faulty_disk import FOR_EVER, Action, Call, FaultyDisk, File
from faults.load import Load, loaded
from faults.oracle import audit
from faults.run import Fault, Outcome, Run
from faults.service import NotReady, Service, a_nursery, a_service
from forks import Nursery

CALLS, FILES = Call.SYNC | Call.WRITE | Call.TRUNCATE, File.DATABASE | File.WAL
ORDERS = 12
"""The script: one client's requests, which the seed decides, until so many orders are acknowledged."""
ENDS = {
    "EIO": (Action.FAIL, errno.EIO),
    "ENOSPC": (Action.FAIL, errno.ENOSPC),
    "kill": (Action.KILL, 0),
}


async def sweep(run: Run) -> Outcome:
    """Each k in turn with each error; where there is no time for all of them, a seeded sample."""
    outcome, disk = Outcome(), FaultyDisk(run.folder)
    with a_nursery(environment=disk.environment) as nursery:
        in_all = await script(run, outcome, disk, nursery, 0, "kill")
        every = [(k, how) for k in range(1, in_all + 1) for how in ENDS]
        run.rng.shuffle(every)
        for k, how in every:
            if not run.goes_on(outcome.injected):
                break
            await script(run, outcome, disk, nursery, k, how)
            outcome.injected += 1
    outcome.notes.append(f"the script makes {in_all} writes and flushes; {outcome.injected} of {len(every)} cases tried")
    return outcome


async def script(run: Run, outcome: Outcome, disk: FaultyDisk, nursery: Nursery, k: int, how: str) -> int:
    """The script with a fault at its k-th call; how many calls it made in all."""
    url = places.sqlite(run, f"{k}-{how}")
    with a_service(url, nursery=nursery) as service:
        load = Load(service.port, run.seed, clients=1)
        async with loaded(load):
            action, error = ENDS[how]
            disk.plan(CALLS, FILES, first=k or FOR_EVER, action=action, error=error)
            if not await started(service):
                disk.mend()
                await service.up()
            while load.ledger.acknowledged < ORDERS:
                if service.process is not None and service.process.poll() is not None:
                    disk.mend()
                    await service.up()
                await load.acknowledge_next(0.1)
            calls = disk.seen
            disk.mend()
            await load.stop()
            findings = await audit(load.ledger, url, service.port, load.watcher)
    findings.acknowledged += outcome.findings.acknowledged
    findings.sentences = [f"call {k}, {how}: {sentence}" for sentence in findings.sentences]
    outcome.findings.add(findings)
    shutil.rmtree(places.file_of(url).parent)
    return calls


async def started(service: Service) -> bool:
    """Whether it came up, with the fault in its way."""
    try:
        await service.up()
    except NotReady:
        return False
    return True


FAULTS = (Fault("syscalls", sweep, 60, 50),)
