"""The faulty disk from Python: `faulty_disk.c` compiled when it is first needed, its plan, and its log.

disk = FaultyDisk(folder)
service = Service(url, disk.environment)
disk.plan(Call.SYNC, File.WAL, first=1, last=FOR_EVER, error=errno.EIO)
"""

from __future__ import annotations

import atexit
import errno
import functools
import mmap
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from enum import IntEnum, IntFlag
from pathlib import Path
from typing import Final, NamedTuple

from faults.run import Missing

SOURCE: Final = Path(__file__).with_name("faulty_disk.c")
FOR_EVER: Final = 2**62
_PLAN: Final = struct.Struct("=9q")
_COUNTERS: Final = struct.Struct("=2q")
_RECORD: Final = struct.Struct("=iiqq")


class Call(IntFlag):
    """Kinds of calls; as in the C source."""

    SYNC = 1
    WRITE = 2
    TRUNCATE = 4
    UNLINK = 8


class File(IntFlag):
    """Files of an SQLite database."""

    DATABASE = 1
    WAL = 2


class Action(IntEnum):
    """What befalls a call."""

    FAIL = 0
    KILL = 1
    DELAY = 2


class Record(NamedTuple):
    """What happened on the disk, or an answer that was about to leave: see the C source."""

    kind: str
    file: int
    offset: int
    data: bytes


@functools.cache
def library() -> Path:
    """The compiled library, of this process's life. Raises Missing where there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise Missing("a C compiler (cc)")
    folder = tempfile.mkdtemp(prefix="ome-faulty-disk-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    target = Path(folder, "faulty_disk.so")
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", target, SOURCE, "-ldl"], check=True)
    return target


class FaultyDisk:
    """One plan, in `folder`; `environment` makes a process use this disk."""

    def __init__(self, folder: Path) -> None:
        plan = folder / "disk.plan"
        plan.write_bytes(bytes(_PLAN.size))
        with plan.open("r+b") as file:
            self._plan = mmap.mmap(file.fileno(), _PLAN.size)
        self.environment = {"LD_PRELOAD": str(library()), "FAULTY_DISK_PLAN": str(plan)}

    def plan(
        self,
        calls: Call,
        files: File,
        *,
        first: int = 1,
        last: int | None = None,
        action: Action = Action.FAIL,
        error: int = errno.EIO,
        delay_us: int = 0,
    ) -> None:
        """From now on the `first` to `last` matching call (counted anew) meets this; one call alone if `last` is None."""
        self.mend()
        last = first if last is None else last
        self._plan[8:] = _PLAN.pack(0, files, first, last, action, error, delay_us, 0, 0)[8:]
        self._plan[:8] = struct.pack("=q", calls)  # last, so that no half of a plan is followed

    def mend(self) -> None:
        """No more faults."""
        self._plan[:8] = bytes(8)

    @property
    def seen(self) -> int:
        """Matching calls since the plan was made."""
        return int(_COUNTERS.unpack(self._plan[56:])[0])

    @property
    def hit(self) -> int:
        """How many calls have met the fault."""
        return int(_COUNTERS.unpack(self._plan[56:])[1])


def read_log(log: bytes) -> Iterator[Record]:
    """The records of a log; the last may be missing its end where the process was killed in it."""
    at = 0
    while at + _RECORD.size <= len(log):
        kind, file, offset, length = _RECORD.unpack_from(log, at)
        at += _RECORD.size
        data = log[at : at + length]
        if len(data) < length:
            return
        at += length
        yield Record(chr(kind), file, offset, data)
