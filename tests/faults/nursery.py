"""Services that start quickly: a process that has imported `ome` forks one for each start. `python -m faults.nursery [VARIANT]`.

Each child is the service as it is (or a variant of it), an ordinary process that `ome serve` runs in, and is killed like any
other; what is spared is two seconds of imports at each of hundreds of starts. What was preloaded into the nursery, such as a
faulty disk, its children have too. One JSON object a line, on standard input and output:

    {"spawn": {"environment": {...}, "log": path, "command": "serve"}} -> {"pid": n}
    {"wait": pid} -> {"status": n}, once it has ended (negative: by that signal, as in `subprocess`)
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import sys

from faults.variant import VARIANTS
from ome.cli import main as ome

WARM = ("ome.bootstrap", "uvloop", "httptools", "aiosqlite", "alembic.command", "alembic.runtime.migration", "asyncpg")
"""What a service imports when it starts, and not before."""


def main() -> int:
    """Serve requests until standard input ends."""
    for name in (*WARM, "uvicorn.loops.auto", "sqlalchemy.ext.asyncio", "sqlalchemy.dialects.postgresql.asyncpg"):
        importlib.import_module(name)
    for name in sys.argv[1:]:
        VARIANTS[name]()
    gc.freeze()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever asks; that input ends, ends this
    for line in sys.stdin.buffer:
        request = json.loads(line)
        answer = {"pid": spawn(**request["spawn"])} if "spawn" in request else {"status": wait(request["wait"])}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    return 0


def spawn(environment: dict[str, str], log: str, command: str = "serve") -> int:
    """Fork a service, or whatever else this command of `ome` runs; its process id."""
    pid = os.fork()
    if pid:
        return pid
    try:
        become(environment, log)
        sys.argv = ["ome", command]
        ome()
    except SystemExit as end:
        os._exit(end.code if isinstance(end.code, int) else 1)
    except BaseException:  # noqa: BLE001  this is the last frame of the child
        sys.excepthook(*sys.exc_info())
    os._exit(1)


def become(environment: dict[str, str], log: str) -> None:
    """Give the child its own environment and files, and the signals of a fresh process."""
    os.environ.clear()
    os.environ.update(environment)
    nothing, written = os.open(os.devnull, os.O_RDONLY), os.open(log, os.O_WRONLY | os.O_APPEND)
    for descriptor, number in ((nothing, 0), (written, 1), (written, 2)):
        os.dup2(descriptor, number)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def wait(pid: int) -> int:
    """How a child ended."""
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main())
