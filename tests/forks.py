"""Services that start quickly, forked from a warm process (`faults.nursery`), as processes of ours."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from functools import cache
from typing import IO, Any, Protocol


class Process(Protocol):
    """What is needed of `subprocess.Popen`, also of a process that is somebody else's child."""

    pid: int

    def poll(self) -> int | None:
        """The exit status, None while it runs."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end; the exit status. Raises subprocess.TimeoutExpired."""

    def send_signal(self, sig: int) -> None:
        """Send a signal."""


class Nursery:
    """A warm process that forks services (`faults.nursery`), each with these variants and with what `environment` preloads."""

    def __init__(self, *variants: str, environment: Mapping[str, str] | None = None) -> None:
        program = [sys.executable, "-m", "faults.nursery", *variants]
        self.environment = dict(environment or {})
        path = os.pathsep.join(filter(None, sys.path))  # pytest puts `tests` there, for itself alone
        everything = os.environ | {"PYTHONPATH": path} | self.environment
        self._process = subprocess.Popen(program, env=everything, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests: IO[bytes] = self._process.stdin
        self._answers: IO[bytes] = self._process.stdout
        self._turn = threading.Lock()

    def ask(self, **request: Any) -> int:
        """One request, which is answered at once; the number in its answer. Any thread may ask."""
        with self._turn:
            self._requests.write(json.dumps(request).encode() + b"\n")
            self._requests.flush()
            answer = self._answers.readline()
        number: int
        (number,) = json.loads(answer).values()
        return number

    def close(self) -> None:
        """End it; its children were ended by whoever had them."""
        self._requests.close()
        self._answers.close()
        self._process.wait()


class Fork:
    """A child of a nursery, as a process of ours."""

    def __init__(self, nursery: Nursery, environment: dict[str, str], log: str, command: str = "serve") -> None:
        self._nursery = nursery
        self.pid = nursery.ask(spawn={"environment": environment, "log": log, "command": command})
        self._handle = os.pidfd_open(self.pid)
        self._status: int | None = None

    def poll(self) -> int | None:
        """See Process."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None

    def wait(self, timeout: float | None = None) -> int:
        """See Process."""
        if self._status is None:
            if not select.select([self._handle], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("ome serve", timeout or 0)
            self._status = self._nursery.ask(wait=self.pid)
            os.close(self._handle)
        return self._status

    def send_signal(self, sig: int) -> None:
        """See Process."""
        if self._status is None:
            signal.pidfd_send_signal(self._handle, sig)


@cache
def own_nursery() -> Nursery | None:
    """The one of this process, for as long as it lives and without variants; None where this system can't have one."""
    if not hasattr(os, "pidfd_open"):
        return None
    nursery = Nursery()
    atexit.register(nursery.close)
    return nursery
