"""The service under test: started as users start it or, where it is started hundreds of times, forked from a warm process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any, Protocol

from faults.wire import Connection, NoAnswer, NotSent
from servers import Server, free_port

READY_WITHIN_S = 60.0
END_WITHIN_S = 40.0
LOOK_S = 0.01
"""Between two looks at whether it is ready."""


class NotReady(Exception):
    """The service ended before it took orders, or does not come to it; what it wrote is in the message."""


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

    def ask(self, **request: Any) -> int:
        """One request; the number in its answer."""
        self._requests.write(json.dumps(request).encode() + b"\n")
        self._requests.flush()
        number: int
        (number,) = json.loads(self._answers.readline()).values()
        return number

    def close(self) -> None:
        """End it; its children were ended by whoever had them."""
        self._requests.close()
        self._answers.close()
        self._process.wait()


class Fork:
    """A child of a nursery, as a process of ours."""

    def __init__(self, nursery: Nursery, environment: dict[str, str], log: str) -> None:
        self._nursery = nursery
        self.pid = nursery.ask(spawn={"environment": environment, "log": log})
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


class Service(Server):
    """One service on a database, on a port of its own: forked from a nursery, or without one as users start it."""

    def __init__(self, database_url: str, environment: dict[str, str] | None = None, *, nursery: Nursery | None = None) -> None:
        super().__init__(database_url, free_port(), {"LOG_LEVEL": "WARNING"} | (environment or {}))
        self._nursery = nursery

    def spawn(self) -> Any:
        """Start the process without waiting for it to answer."""
        hidden = {"API_KEY", "HOST", "PRIVATE_READS"}
        clean = {name: value for name, value in os.environ.items() if name not in hidden}
        environment = clean | {"DATABASE_URL": self.database_url, "PORT": str(self.port), "LOG_FORMAT": "json"} | self.environment
        process: Any
        if self._nursery is not None:
            process = Fork(self._nursery, environment | self._nursery.environment, f"/proc/{os.getpid()}/fd/{self.log.fileno()}")
        else:
            command = [sys.executable, "-m", "ome", "serve"]
            process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        self.process = process
        return process

    async def up(self, within_s: float = READY_WITHIN_S) -> float:
        """Start and wait until it takes orders; how many seconds that took."""
        began = asyncio.get_running_loop().time()
        self.spawn()
        return await self.ready(within_s) - began

    async def ready(self, within_s: float = READY_WITHIN_S) -> float:
        """Wait until it takes orders; when that was, by the loop's clock. What it wrote is in the error otherwise."""
        assert self.process is not None
        loop, connection = asyncio.get_running_loop(), Connection(self.port, within_s=5.0)
        deadline = loop.time() + within_s
        try:
            while loop.time() < deadline and self.process.poll() is None:
                with contextlib.suppress(NotSent, NoAnswer):
                    status, _ = await connection.request("GET", "/health/ready")
                    if status == 200:
                        return loop.time()
                await asyncio.sleep(LOOK_S)
        finally:
            connection.close()
        raise NotReady(f"the service did not get ready (status {self.process.poll()}):\n{self.output()[-3000:]}")

    async def ended(self, within_s: float = END_WITHIN_S) -> int | None:
        """Wait for its end; the exit status, None if it has not come."""
        assert self.process is not None
        try:
            return await asyncio.to_thread(self.process.wait, within_s)
        except subprocess.TimeoutExpired:
            return None

    async def terminated(self) -> int | None:
        """SIGTERM; the exit status, None if it did not end."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return await self.ended()

    def stop(self) -> None:
        """End the process: kill -9, whether it was stopped (SIGSTOP) or not."""
        self.kill()


@contextmanager
def a_nursery(*variants: str, environment: Mapping[str, str] | None = None) -> Iterator[Nursery]:
    """A nursery, ended with the block."""
    nursery = Nursery(*variants, environment=environment)
    try:
        yield nursery
    finally:
        nursery.close()


@contextmanager
def a_service(
    database_url: str, environment: dict[str, str] | None = None, *, nursery: Nursery | None = None
) -> Iterator[Service]:
    """A service that isn't started yet, killed with the block if it still runs."""
    service = Service(database_url, environment, nursery=nursery)
    try:
        yield service
    finally:
        service.close()
