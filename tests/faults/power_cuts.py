"""Power cuts, replayed from a recording of what reached the disk: `faulty_disk.c` made it of the real service.

A cut at a moment leaves of each file what was flushed by then; of each write that wasn't, nothing, all of it or its first
sectors, each for itself, as a disk without power does. A flush that failed makes it worse: the system may call the pages that it
could not write clean, and never write them. The database is made from that, opened, and asked:

- it opens, `integrity_check` is ok, and its engine row, journal and orders go together
- every order that an answer had told anybody of is there, no less far than it was told; so is every trade. A cut after which
  one is missing counts as one lost

A sample of the cuts is recovered by the service's own code, with all checks of a start, and its journal is replayed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
import os
import random
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from faults.faulty_disk import File, Record, read_log
from faults.ledger import OPEN
from faults.oracle import Findings, judge_journal
from ome.db.storage import open_storage
from ome.domain.errors import OmeError
from ome.engine.engine import Engine

SECTOR = 512
NAMES = {File.DATABASE: "ome.db", File.WAL: "ome.db-wal"}
SAMPLE = 60
"""One cut in so many is recovered in full."""
_SCRATCH = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: PTH112, S108  a folder in memory, where there is one


class Told(NamedTuple):
    """How far an order was, as somebody was told."""

    version: int
    filled: Decimal
    has_ended: bool

    def or_further(self, other: Told) -> Told:
        """What both together tell: answers of one order may overtake each other."""
        return Told(max(self.version, other.version), max(self.filled, other.filled), self.has_ended or other.has_ended)


class Disk:
    """Files as the disk has them, and the writes that it has not flushed yet."""

    def __init__(self) -> None:
        self._flushed: dict[int, bytearray] = {}
        self._waiting: dict[int, list[Record]] = {}

    def take(self, record: Record) -> None:
        """Let one more thing happen."""
        if record.kind in "WT":
            self._waiting.setdefault(record.file, []).append(record)
        elif record.kind == "S":
            for waiting in self._waiting.pop(record.file, ()):
                _write(self._flushed.setdefault(record.file, bytearray()), waiting, len(waiting.data))
        elif record.kind == "F":
            self._waiting.pop(record.file, None)
        elif record.kind == "U":
            self._flushed.pop(record.file, None)
            self._waiting.pop(record.file, None)

    def after_a_cut(self, rng: random.Random) -> dict[int, bytes]:
        """The files as a power cut leaves them now."""
        survives, torn = rng.choice([(0.0, 0.0), (0.4, 0.2), (0.7, 0.2), (1.0, 0.0)])
        files = {}
        for file in self._flushed.keys() | self._waiting.keys():
            image = bytearray(self._flushed.get(file, b""))
            for record in self._waiting.get(file, ()):
                draw = rng.random()
                if draw < survives:
                    _write(image, record, len(record.data))
                elif draw < survives + torn and len(record.data) > SECTOR:
                    _write(image, record, SECTOR * rng.randrange(1, len(record.data) // SECTOR + 1))
            files[file] = bytes(image)
        return files


def _write(image: bytearray, record: Record, length: int) -> None:
    """Carry out a write, or its first `length` bytes; or a truncation."""
    if record.kind == "T":
        del image[record.offset :]
        image.extend(bytes(record.offset - len(image)))
        return
    if len(image) < record.offset:
        image.extend(bytes(record.offset - len(image)))
    image[record.offset : record.offset + length] = record.data[:length]


class Tellings:
    """What answers had told by a moment."""

    def __init__(self) -> None:
        self.orders: dict[int, Told] = {}
        self.trades: set[int] = set()

    def take(self, record: Record) -> None:
        """Read one more answer."""
        for body in bodies(record.data):
            if "order_id" in body and "version" in body:
                now = Told(body["version"], Decimal(body["filled_quantity"]), body["status"] not in OPEN)
                order_id = int(body["order_id"])
                self.orders[order_id] = self.orders.get(order_id, now).or_further(now)
            elif "order_id" in body:
                self.orders.setdefault(int(body["order_id"]), Told(1, Decimal(0), has_ended=True))
            self.trades |= {int(trade["trade_id"]) for trade in [*body.get("executed_trades", ()), *body.get("trades", ())]}


def bodies(data: bytes) -> Iterator[dict[str, Any]]:
    """The JSON objects among the bytes of one or several answers."""
    text, at = data.decode(errors="replace"), 0
    decoder = json.JSONDecoder()
    while at >= 0:
        if text.startswith("{", at):
            with contextlib.suppress(ValueError):
                body, _ = decoder.raw_decode(text, at)
                yield body
        at = text.find("\r\n\r\n", at)
        at = at + 4 if at >= 0 else at


def cut(logs: Sequence[Path], cuts: int, seed: str) -> Findings:
    """Cut the power `cuts` times at random moments of a recording, on all processors; what was found."""
    moments = sum(1 for _ in records(logs))
    rng = random.Random(seed)
    chosen = sorted(rng.randrange(1, moments + 1) for _ in range(cuts))
    workers = os.cpu_count() or 1
    parts = [(logs, chosen[index::workers], f"{seed}:{index}") for index in range(workers)]
    findings = Findings()
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        for part in pool.map(_cut_part, parts):
            findings.add(part)
    return findings


def records(logs: Iterable[Path]) -> Iterator[Record]:
    """All that was written down, process after process."""
    for log in logs:
        yield from read_log(log.read_bytes())


def _cut_part(part: tuple[Sequence[Path], list[int], str]) -> Findings:
    logs, chosen, seed = part
    rng, findings, disk, told = random.Random(seed), Findings(), Disk(), Tellings()
    waiting = iter(chosen)
    moment = next(waiting, None)
    with tempfile.TemporaryDirectory(prefix="ome-power-", dir=_SCRATCH) as folder:
        for number, record in enumerate(records(logs), 1):
            if record.kind == "A":
                told.take(record)
            else:
                disk.take(record)
            while moment == number:
                files = disk.after_a_cut(rng)
                judge(Path(folder), files, told, findings, f"cut {number}", in_full=rng.randrange(SAMPLE) == 0)
                moment = next(waiting, None)
    return findings


def judge(folder: Path, files: dict[int, bytes], told: Tellings, findings: Findings, name: str, *, in_full: bool) -> None:
    """Open the files of a cut and compare them with what had been told."""
    for left in folder.iterdir():
        left.unlink()
    for file, image in files.items():
        (folder / NAMES[File(file)]).write_bytes(image)
    path = folder / NAMES[File.DATABASE]
    try:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            judge_rows(connection, told, findings, name)
        if in_full and path.stat().st_size:
            asyncio.run(recover(f"sqlite:///{path}", findings, name))
    except (sqlite3.Error, OmeError) as error:
        findings.say("other", f"{name}: it does not open: {error!r}")


def judge_rows(connection: sqlite3.Connection, told: Tellings, findings: Findings, name: str) -> None:
    """What can be asked quickly: integrity, the journal's extent, and each order and trade that somebody knows of."""
    if connection.execute("PRAGMA integrity_check").fetchone() != ("ok",):
        findings.say("other", f"{name}: integrity_check is not ok")
    if not connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'engine'").fetchone()[0]:
        if told.orders:
            findings.say("lost", f"{name}: there are no tables, and {len(told.orders)} orders were told")
        return
    position = (connection.execute("SELECT position FROM engine").fetchone() or (0,))[0]
    journal = "SELECT coalesce(max(last_position), 0), coalesce(sum(last_position - first_position + 1), 0) FROM journal"
    if connection.execute(journal).fetchone() != (position, position):
        findings.say("other", f"{name}: the engine row says {position}, the journal {connection.execute(journal).fetchone()}")
    stored = {
        row[0]: row[1:] for row in connection.execute("SELECT id, version, filled_quantity / 10, status FROM stored_orders")
    }
    if any(order_id > position for order_id in stored):
        findings.say("other", f"{name}: there are orders beyond position {position}")
    lost = [order_id for order_id, how_far in told.orders.items() if not reaches(stored.get(order_id), how_far)]
    trades = told.trades - {row[0] for row in connection.execute("SELECT id FROM stored_trades")}
    if lost or trades:
        first = f", the first {lost[0]}: told {told.orders[lost[0]]}, stored {stored.get(lost[0])}" if lost else ""
        findings.say("lost", f"{name}: {len(lost)} orders and {len(trades)} trades were told and are not there{first}")


def reaches(found: tuple[int, int, int] | None, told: Told) -> bool:
    """Whether a stored order (version, filled, status) is as far as somebody was told."""
    return found is not None and found[0] >= told.version and found[1] >= told.filled and (found[2] > 2 or not told.has_ended)


async def recover(url: str, findings: Findings, name: str) -> None:
    """Recover as the service does, then replay the journal."""
    storage = open_storage(url)
    try:
        await storage.repository.start()
        recovered = await storage.repository.load()
        engine = Engine.restore(recovered.state)
        engine.check_invariants()
        if recovered.state_hash is not None and engine.state_hash() != recovered.state_hash:
            findings.say("other", f"{name}: the state hash differs")
    finally:
        await storage.close()
    await judge_journal(url, findings)
