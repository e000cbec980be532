"""Rows that somebody edited and bytes that flipped: the start is refused, or `ome verify` says so; nothing is mended silently.

A database that has traded is copied, one thing in the copy is changed, and both are asked. A byte that no row is made of (a free
page, the gap in a page) may pass: the copy then holds what the original holds, value for value. Rows that are kept beside the
batches (candles, snapshots, marks) are left alone: nothing is recovered from them, and nothing says what they should be.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from databases import WRITTEN
from faults import places
from faults.load import Load, loaded
from faults.oracle import Findings, audit
from faults.run import Fault, Outcome, Run
from faults.service import NotReady, a_nursery, a_service
from forks import Nursery
from ome.domain.errors import StorageError
from ome.verification import verify
from servers import sqlite_url

REFUSED = (5, 6)
"""Exit statuses of a start on data that contradicts itself, or that can't be read."""
TABLES = ("engine", *WRITTEN)
"""What a commit writes."""
UNCHECKED = {("engine", "incarnation"), ("engine", "epoch")}
"""Columns that nothing else in a database says anything about."""


async def corrupted(run: Run) -> Outcome:
    """One edit or one flipped byte at a time."""
    outcome, found_by = Outcome(), {"the start": 0, "ome verify": 0}
    harmless = 0
    original = places.file_of(places.sqlite(run))
    with a_nursery() as nursery:
        outcome.findings.add(await traded(run, nursery))
        contents = digest(original)
        while run.goes_on(outcome.injected):
            copy = run.folder / f"copy{outcome.injected}" / original.name
            copy.parent.mkdir()
            shutil.copy(original, copy)
            what = edit(copy, run.rng) if outcome.injected % 2 else flip(copy, run.rng)
            outcome.injected += 1
            is_harmless = digest(copy) == contents
            harmless += is_harmless
            verified = await asyncio.to_thread(is_found, copy)
            status = await status_of_a_start(copy, nursery)
            found_by["the start"] += status in REFUSED
            found_by["ome verify"] += verified
            outcome.expect(
                is_harmless or verified or status in REFUSED, f"{what}: neither the start nor the verification says so"
            )
            outcome.expect(status in (*REFUSED, None), f"{what}: the start ended with {status}")
            shutil.rmtree(copy.parent)
    found = ", ".join(f"{count} by {who}" for who, count in found_by.items())
    outcome.notes.append(f"found: {found}; {harmless} hit nothing that is stored")
    return outcome


async def traded(run: Run, nursery: Nursery) -> Findings:
    """Let a service trade a little and stop in order."""
    url = sqlite_url(run.folder / "data")
    with a_service(url, nursery=nursery) as service:
        load = Load(service.port, run.seed, clients=4)
        async with loaded(load):
            await service.up()
            while load.ledger.acknowledged < 150:
                await load.acknowledge_next()
            await load.stop()
        findings = await audit(load.ledger, url, service.port, load.watcher)
        await service.terminated()
    return findings


def edit(path: Path, rng: random.Random) -> str:
    """Change one value of one row, as a person at a SQL prompt might; what was changed."""
    with closing(sqlite3.connect(path)) as connection, connection:
        while True:
            table = rng.choice(TABLES)
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            column, rows = rng.choice(columns), connection.execute(f"SELECT * FROM {table}").fetchall()  # noqa: S608  names of our own
            if not rows or (table, column) in UNCHECKED:
                continue
            row = rng.choice(rows)
            value = row[columns.index(column)]
            new = changed(value, rng)
            where = " AND ".join(f"{name} IS ?" for name in columns)
            try:
                connection.execute(f"UPDATE {table} SET {column} = ? WHERE {where}", (new, *row))  # noqa: S608  likewise
            except sqlite3.IntegrityError:
                continue
            return f"{table}.{column} from {value!r} to {new!r}"


def changed(value: object, rng: random.Random) -> object:
    """Another value of the same kind."""
    match value:
        case int():
            return value + rng.choice([-10, 10, 20])
        case str():
            return f"{value}x"
        case bytes() if value:
            at = rng.randrange(len(value))
            return value[:at] + bytes([value[at] ^ 1 << rng.randrange(8)]) + value[at + 1 :]
        case _:
            return rng.randrange(1, 100)


def flip(path: Path, rng: random.Random) -> str:
    """Flip one bit of the file; which one."""
    at, bit = rng.randrange(path.stat().st_size), rng.randrange(8)
    with path.open("r+b") as file:
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 1 << bit]))
    return f"bit {bit} of byte {at}"


def digest(path: Path) -> str:
    """A digest of all that commits wrote, row by row, and of the schema; the error where it can't be read."""
    seen = hashlib.sha256()
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            connection.text_factory = bytes
            for table in TABLES:
                for row in connection.execute(f"SELECT * FROM {table}"):  # noqa: S608  names of our own
                    seen.update(repr(row).encode())
            seen.update(repr(connection.execute("SELECT * FROM sqlite_master").fetchall()).encode())
    except sqlite3.Error as error:
        return repr(error)
    return seen.hexdigest()


def is_found(path: Path) -> bool:
    """Whether `ome verify` finds something wrong."""
    try:
        return not verify(f"sqlite:///{path}").ok
    except StorageError:
        return True


async def status_of_a_start(path: Path, nursery: Nursery) -> int | None:
    """The exit status of a start; None where it takes orders."""
    with a_service(f"sqlite:///{path}", nursery=nursery) as service:
        try:
            await service.up()
        except NotReady:
            return await service.ended()
    return None


FAULTS = (Fault("corruption", corrupted, 40, 30),)
