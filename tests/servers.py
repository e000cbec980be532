"""Real servers for tests: `ome serve` in a process of its own, on loopback and a free port, stopped by its id.

Most are forked from a process that has imported all that they need (`faults.nursery`): importing it is two seconds of work, and
the tests start hundreds. Those that are about starting have a `cold_server`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import httpx

from forks import Fork, Nursery, Process, own_nursery

START_SECONDS = 60.0
"""How long a start, a stop or whatever else is waited for may take; on a crowded machine that is long."""


def free_port() -> int:
    """A port on loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def is_well(answer: httpx.Response) -> bool:
    """Whether an answer of /health says nothing against the service, nor, of a gateway, against any engine."""
    return answer.status_code == 200 and "reason" not in answer.json()


class Server:
    """One `ome serve`; it can be killed and started again on the same port and database. Forked from a nursery, or without one
    started as users start it.
    """

    ALWAYS: ClassVar = {"LOG_FORMAT": "json", "DISK_RESERVE_MB": "0"}
    """Settings of every one, unless `environment` says otherwise."""
    COMMAND: ClassVar = "serve"

    def __init__(self, database_url: str, port: int, environment: dict[str, str], nursery: Nursery | None = None) -> None:
        self.database_url = database_url
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.environment = environment
        self.log = tempfile.TemporaryFile()  # noqa: SIM115  closed in `close`
        self.process: Process | None = None
        self._nursery = nursery

    def spawn(self) -> Process:
        """Start the process without waiting for it to answer."""
        clean = {name: value for name, value in os.environ.items() if name not in {"API_KEY", "HOST", "PRIVATE_READS"}}
        place = {"DATABASE_URL": self.database_url, "PORT": str(self.port)}
        environment = clean | place | self.ALWAYS | self.environment
        if self._nursery is not None:
            log = f"/proc/{os.getpid()}/fd/{self.log.fileno()}"
            self.process = Fork(self._nursery, environment | self._nursery.environment, log, self.COMMAND)
        else:
            command = [sys.executable, "-m", "ome", self.COMMAND]
            self.process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        return self.process

    def start(self) -> None:
        """Start the process and wait until it is healthy; what it wrote is in the error otherwise."""
        process = self.spawn()
        deadline = time.monotonic() + START_SECONDS
        with httpx.Client(base_url=self.url, timeout=5) as client:
            while time.monotonic() < deadline and process.poll() is None:
                with contextlib.suppress(httpx.TransportError):
                    if is_well(client.get("/health")):
                        return
                time.sleep(0.05)
        self.stop()
        raise RuntimeError(f"the server did not start ({process.poll()}):\n{self.output()}")

    def kill(self) -> None:
        """Kill -9."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    def terminate(self) -> int:
        """SIGTERM, and the exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(START_SECONDS)

    def restart(self) -> None:
        """Kill and start again."""
        self.kill()
        self.start()

    def stop(self) -> None:
        """End the process, gently at first."""
        if self.process is not None and self.process.poll() is None:
            try:
                self.terminate()
            except subprocess.TimeoutExpired:
                self.kill()

    def output(self) -> str:
        """What it has written so far."""
        descriptor = self.log.fileno()  # read in place: the process writes at the offset that it shares with us
        return os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode(errors="replace")

    def close(self) -> None:
        """End it and drop its log."""
        self.stop()
        self.log.close()


def sqlite_url(folder: Path) -> str:
    """The URL of a fresh SQLite database in a folder."""
    return f"sqlite+aiosqlite:///{folder / 'ome.db'}"


@contextlib.contextmanager
def running_server(database_url: str, **environment: str) -> Iterator[Server]:
    """A healthy server on this database; settings are keywords, as `API_KEY="..."`."""
    with _healthy(Server(database_url, free_port(), environment, own_nursery())) as server:
        yield server


@contextlib.contextmanager
def cold_server(database_url: str, **environment: str) -> Iterator[Server]:
    """Likewise, started as users start it."""
    with _healthy(Server(database_url, free_port(), environment)) as server:
        yield server


@contextlib.contextmanager
def _healthy(server: Server) -> Iterator[Server]:
    try:
        server.start()
        yield server
    finally:
        server.close()


def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds; a test that waits too long fails."""
    deadline = time.monotonic() + START_SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def answers(server: Server, path: str, status: int) -> Callable[[], bool]:
    """Whether the service answers with this status now."""

    def holds() -> bool:
        assert server.process is not None
        assert server.process.poll() is None, server.output()
        try:
            return httpx.get(server.url + path, timeout=5).status_code == status
        except httpx.TransportError:
            return False

    return holds


@contextlib.contextmanager
def spawned(database_url: str, **environment: str) -> Iterator[Server]:
    """A server that has just been started and need not be healthy."""
    server = Server(database_url, free_port(), environment, own_nursery())
    try:
        server.spawn()
        yield server
    finally:
        server.close()
