"""Child processes that belong together: started in order, started again when they end, stopped in the opposite order.

A child that ends by itself is started again, after a pause that doubles while it keeps ending; one that says by its exit status
that a person must look at it (a wrong setting, no rights) ends them all with that status.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import structlog
from msgspec import Struct

FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 5.0
SETTLED_S: Final = 10.0
"""A child that has run for so long has started well."""
STOP_S: Final = 20.0
"""How long a child may take to stop; then it is killed."""
HOPELESS: Final = frozenset({2, 5, 6, 69})
"""Exit statuses that starting again doesn't mend: see docs/design.md."""
TAKEN: Final = 3
"""The exit status of an engine that has found another one: hopeless for one of ours that has never run."""
_PR_SET_PDEATHSIG: Final = 1

log = structlog.get_logger(__name__)


class Child(Struct, frozen=True):
    """A process to run: what it is called in the log, its command, and what its environment has beside ours."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = {}


class Children:
    """Some processes; each is in a session of its own, so that Ctrl-C reaches only whoever looks after them."""

    def __init__(self, children: Sequence[Child]) -> None:
        self._children = children
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._watches: dict[str, asyncio.Task[None]] = {}
        self._ended: asyncio.Future[int] | None = None
        self._stopping = False

    async def start(self) -> None:
        """Start all of them, in order."""
        self._ended = asyncio.get_running_loop().create_future()
        for child in self._children:
            await self._start(child)
            self._watches[child.name] = asyncio.create_task(self._watch(child), name=child.name)

    async def ended(self) -> int:
        """Wait until one of them has ended for good; its exit status."""
        if self._ended is None:
            raise AssertionError  # they aren't started
        return await asyncio.shield(self._ended)

    def pid(self, name: str) -> int:
        """The process id of a child."""
        return self._processes[name].pid

    async def stop(self) -> None:
        """Stop all of them: those of a kind together, the last kind first."""
        self._stopping = True
        for watch in self._watches.values():
            watch.cancel()
        kinds = list(dict.fromkeys(_kind(child.name) for child in self._children))
        for kind in reversed(kinds):
            await asyncio.gather(
                *(self._stop(process) for name, process in self._processes.items() if _kind(name) == kind),
            )

    async def _start(self, child: Child) -> None:
        self._processes[child.name] = await asyncio.create_subprocess_exec(
            *child.command,
            stdin=asyncio.subprocess.DEVNULL,
            env={**os.environ, **child.environment},
            start_new_session=True,
            preexec_fn=_end_with_parent(),
        )
        log.info("started", process=child.name, pid=self._processes[child.name].pid)

    async def _watch(self, child: Child) -> None:
        loop = asyncio.get_running_loop()
        pause_s, has_settled = FIRST_PAUSE_S, False
        while True:
            began = loop.time()
            status = await self._processes[child.name].wait()
            log.warning("ended", process=child.name, exit_status=status)
            has_settled = has_settled or loop.time() - began > SETTLED_S
            if self._ended is not None and (status in HOPELESS or (status == TAKEN and not has_settled)):
                if not self._ended.done():
                    self._ended.set_result(status)
                return
            pause_s = FIRST_PAUSE_S if loop.time() - began > SETTLED_S else min(pause_s * 2, LONGEST_PAUSE_S)
            await asyncio.sleep(pause_s)
            await self._start(child)

    @staticmethod
    async def _stop(process: asyncio.subprocess.Process) -> None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(STOP_S):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def _kind(name: str) -> str:
    """What children with numbered names have in common."""
    return name.partition(" ")[0]


def _end_with_parent() -> Callable[[], object] | None:
    """On Linux a child is told to stop when its parent is gone, however that ended."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))


def ome(*arguments: str) -> list[str]:
    """The command of one of our own."""
    return [sys.executable, "-m", "ome", *arguments]
