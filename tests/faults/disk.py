"""A disk that can't flush, is full, is slow, or has a limit; a file that somebody else has locked. The service is on SQLite.

What must hold besides the ledger: a flush that failed ends the process with status 74, for what was written can't be trusted
any more; everything else that may pass is waited for, without a restart.
"""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import sqlite3
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path

from faults import places
from faults.faulty_disk import FOR_EVER, Action, Call, FaultyDisk, File
from faults.ledger import Ledger
from faults.load import Load, loaded
from faults.oracle import audit
from faults.power_cuts import cut
from faults.run import Fault, Missing, Outcome, Run
from faults.service import Service, a_nursery, a_service
from faults.wire import Connection, NoAnswer, NotSent
from servers import sqlite_url

DISK_FAILED = 74
DISK_MIB = 128
"""Room for what minutes of orders leave in the database, beside the ballast that is taken away again."""
RESERVE = {"DISK_RESERVE_MB": "4", "DISK_LOW_MB": "2"}
STRUCK_WITHIN_S = 10.0
EFFECT_S = 1.0
FLUSH_DELAY_US = 50_000


@asynccontextmanager
async def trading(
    run: Run,
    outcome: Outcome,
    disk: FaultyDisk,
    *variants: str,
    url: str = "",
    settings: dict[str, str] | None = None,
    log: Path | None = None,
) -> AsyncIterator[tuple[Service, Load]]:
    """A service on a faulty disk, under load; audited at the end, when it has to be running."""
    url = url or places.sqlite(run)
    preloaded = disk.environment | ({"FAULTY_DISK_LOG": str(log)} if log else {})
    with a_nursery(*variants, environment=preloaded) as nursery, a_service(url, settings, nursery=nursery) as service:
        load = Load(service.port, run.seed, clients=8)
        async with loaded(load):
            await service.up()
            yield service, load
            await load.stop()
            outcome.findings.add(await audit(load.ledger, url, service.port, load.watcher))
        if log:
            await service.terminated()


async def fsync_of_the_wal(run: Run) -> Outcome:
    """Fdatasync of the -wal fails, once or for ever: status 74, and nothing that was refused comes back to life."""
    return await flush_failed(run, File.WAL)


async def fsync_of_the_database(run: Run) -> Outcome:
    """Fdatasync of the database file fails, in a checkpoint: it may go on (the WAL has everything), or leave with status 74."""
    return await flush_failed(run, File.DATABASE)


async def flush_failed(run: Run, file: File) -> Outcome:
    """Let flushes of a file fail under load, then start again; now and then also while it starts."""
    outcome, disk, statuses = Outcome(), FaultyDisk(run.folder), list[int | None]()
    async with trading(run, outcome, disk, "small-wal") as (service, load):
        while run.goes_on(outcome.injected):
            await load.acknowledge_next()
            for_ever = run.rng.random() < 0.5
            first = run.rng.randrange(1, 8)
            disk.plan(Call.SYNC, file, first=first, last=FOR_EVER if for_ever else first)
            status = await (service.ended() if file is File.WAL else ended_or_not(service, disk))
            statuses.append(status)
            outcome.injected += 1
            if file is File.WAL or status is not None:
                outcome.expect(status == DISK_FAILED, f"it ended with {status}, not {DISK_FAILED}:\n{service.output()[-1000:]}")
            service.kill()
            if for_ever and disk.hit:
                service.spawn()
                again = await ended_or_not(service, disk)
                outcome.expect(again in {DISK_FAILED, None}, f"the start on a disk that can't flush ended with {again}")
                service.kill()
            disk.mend()
            await service.up()
    outcome.notes.append(f"ended with {DISK_FAILED} in {statuses.count(DISK_FAILED)} of {len(statuses)}")
    return outcome


async def ended_or_not(service: Service, disk: FaultyDisk) -> int | None:
    """Wait until the fault has struck, and a moment for its effect; the exit status, None if it runs on."""
    assert service.process is not None
    deadline = asyncio.get_running_loop().time() + STRUCK_WITHIN_S
    while not disk.hit and service.process.poll() is None and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0.01)
    return await service.ended(EFFECT_S)


async def lost_pages(run: Run) -> Outcome:
    """After a flush that failed the pages stay lost, though later flushes succeed; then the power goes, at any moment."""
    outcome, disk, log = Outcome(), FaultyDisk(run.folder), run.folder / "disk.log"
    async with trading(run, outcome, disk, "small-wal", log=log) as (service, load):
        for file in (File.WAL, File.DATABASE, File.WAL, File.WAL):
            await load.acknowledge_next()
            await asyncio.sleep(0.3)
            disk.plan(Call.SYNC, file, first=run.rng.randrange(1, 4))
            await ended_or_not(service, disk)
            service.kill()
            disk.mend()
            await service.up()
        await asyncio.sleep(0.5)
    number = 0
    while run.goes_on(outcome.injected):
        findings = await asyncio.to_thread(cut, [log], run.least, f"{run.seed}:{number}")
        findings.acknowledged, findings.stored = outcome.findings.acknowledged, outcome.findings.stored
        outcome.findings.add(findings)
        outcome.injected += run.least
        number += 1
    return outcome


async def slow_disk(run: Run) -> Outcome:
    """Every flush takes 50 ms longer: answers take longer, and everything else is as ever."""
    outcome, disk = Outcome(), FaultyDisk(run.folder)
    async with trading(run, outcome, disk) as (service, load):
        await load.acknowledge_next()
        disk.plan(Call.SYNC, File.DATABASE | File.WAL, last=FOR_EVER, action=Action.DELAY, delay_us=FLUSH_DELAY_US)
        while run.goes_on(disk.hit):
            await load.acknowledge_next()
            outcome.expect(service.process is not None and service.process.poll() is None, "it ended")
        outcome.injected = disk.hit
        disk.mend()
    return outcome


async def disk_full(run: Run) -> Outcome:
    """No room is left: orders are refused, cancels and reads go on; when there is room again it trades, without a restart."""
    outcome, reserves, disk = Outcome(), 0, FaultyDisk(run.folder)
    room = mounted(run)
    async with trading(run, outcome, disk, url=sqlite_url(room), settings=RESERVE) as (service, load):
        while run.goes_on(outcome.injected):
            await load.acknowledge_next()
            await asyncio.sleep(0.5)
            fill(room)
            outcome.injected += 1
            refusal = await refused_order(service.port)
            outcome.expect(refusal is not None, "orders were taken for 30 s on a full disk")
            outcome.expect(refusal is None or refusal == 503, f"an order on a full disk was answered {refusal}, not 503")
            cancelled = await a_cancel(service.port, load.ledger)
            reserves += cancelled == 200
            outcome.expect(cancelled == 200, f"a cancel on a full disk was answered {cancelled}")
            outcome.expect(await a_read(service.port), "the book was not served on a full disk")
            (room / "ballast").unlink()
            outcome.expect(await load.acknowledge_next(), "it does not trade again")
    outcome.notes.append(f"cancels committed on the full disk in {reserves} of {outcome.injected}")
    return outcome


def mounted(run: Run) -> Path:
    """A small file system of its own, unmounted with the run."""
    room, mount = run.folder / "small", shutil.which("mount")
    if os.geteuid() != 0 or mount is None:
        raise Missing("root and mount (for a tmpfs)")
    room.mkdir()
    done = subprocess.run(
        [mount, "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", room], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise Missing(f"the right to mount a tmpfs ({done.stderr.strip()})")
    run.stack.callback(unmount, room)
    return room


def unmount(room: Path) -> None:
    """Give the file system back."""
    subprocess.run(["umount", "-l", room], check=True)  # noqa: S607  the system's own


def fill(room: Path) -> None:
    """Take all the room that is left."""
    with (room / "ballast").open("wb", buffering=0) as ballast, suppress(OSError):
        for size in (1 << 16, 1 << 12):
            with suppress(OSError):
                while True:
                    ballast.write(bytes(size))


async def refused_order(port: int) -> int | None:
    """Send orders until one is refused with certainty; its status, None after 30 s."""
    connection, loop = Connection(port), asyncio.get_running_loop()
    deadline = loop.time() + 30
    body = {"user_id": "probe", "symbol": "AAA", "side": "BUY", "quantity": 1, "price": "1.00"}
    try:
        while loop.time() < deadline:
            with suppress(NotSent, NoAnswer):
                status, answer = await connection.request("POST", "/orders", body)
                if answer.get("outcome") == "not_executed":
                    return status
            await asyncio.sleep(0.05)
        return None
    finally:
        connection.close()


async def a_cancel(port: int, ledger: Ledger) -> int:
    """Cancel orders of the ledger until one was open; the status."""
    connection, status = Connection(port), 0
    try:
        for page in [page for page in ledger.pages.values() if page.is_open]:
            assert page.order is not None
            with suppress(NotSent, NoAnswer):
                status, answer = await connection.request("DELETE", f"/orders/{page.order['order_id']}")
                if status == 200:
                    page.acknowledge(answer)
                if status != 409:
                    return status
        return status
    finally:
        connection.close()


async def a_read(port: int) -> bool:
    """Whether the book can be read."""
    connection = Connection(port)
    try:
        status, _ = await connection.request("GET", "/market/AAA/depth")
    except (NotSent, NoAnswer):
        return False
    else:
        return status == 200
    finally:
        connection.close()


async def size_limit(run: Run) -> Outcome:
    """The process may not make its files larger (RLIMIT_FSIZE), for a second: it stalls, then trades on, without a restart."""
    outcome, disk, url = Outcome(), FaultyDisk(run.folder), places.sqlite(run)
    wal = Path(f"{places.file_of(url)}-wal")
    async with trading(run, outcome, disk, url=url) as (service, load):
        assert service.process is not None
        while run.goes_on(outcome.injected):
            await load.acknowledge_next()
            _, hard = resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE, (size_of(wal) + 4096, hard))
            await asyncio.sleep(run.rng.uniform(0.5, 1.5))
            resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
            outcome.injected += 1
            outcome.expect(await load.acknowledge_next(), "it does not trade again")
        outcome.expect(service.process.poll() is None, "it ended")
    return outcome


def size_of(path: Path) -> int:
    """Bytes in a file."""
    return path.stat().st_size


async def locked(run: Run) -> Outcome:
    """Another process writes to the file for 1, 6 and, with time enough, 30 seconds: it stalls, then trades on by itself."""
    outcome, disk, url, after = Outcome(), FaultyDisk(run.folder), places.sqlite(run), list[float]()
    loop = asyncio.get_running_loop()
    async with trading(run, outcome, disk, url=url) as (service, load):
        for seconds in (1.0, 6.0, *([30.0] if run.left_s > 60 else [])):
            await load.acknowledge_next()
            with closing(sqlite3.connect(places.file_of(url), isolation_level=None, timeout=10)) as other:
                other.execute("BEGIN IMMEDIATE")
                await asyncio.sleep(seconds)
                other.execute("ROLLBACK")
            unlocked = loop.time()
            outcome.expect(await load.acknowledge_next(), "it does not trade again")
            after.append(loop.time() - unlocked)
            outcome.injected += 1
        outcome.expect(service.process is not None and service.process.poll() is None, "it ended")
    outcome.notes.append(f"trading again {max(after):.2f} s after the lock was gone, at the longest")
    return outcome


FAULTS = (
    Fault("fsync-wal", fsync_of_the_wal, 10, 20),
    Fault("fsync-db", fsync_of_the_database, 6, 20),
    Fault("fsync-pages-lost", lost_pages, 1_000, 25),
    Fault("disk-full", disk_full, 2, 20),
    Fault("file-size-limit", size_limit, 3, 10),
    Fault("sqlite-locked", locked, 2, 15),
    Fault("slow-disk", slow_disk, 100, 10),
)
