"""The servers that the benchmarks measure: each a process of its own on a free loopback port, on fixed processor cores."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

START_SECONDS: Final = 30.0
STOP_SECONDS: Final = 30.0
CLOCK_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100

UVICORN_FLAGS: Final = [
    *("--host", "127.0.0.1", "--loop", "uvloop", "--http", "httptools", "--ws", "none", "--timeout-keep-alive", "75"),
    *("--no-server-header", "--no-proxy-headers", "--no-access-log", "--log-level", "warning"),
]
"""How the baseline is run: as `ome serve` runs uvicorn; with LOG_LEVEL=WARNING neither logs requests."""


@dataclass(frozen=True)
class Cores:
    """Which processor cores the measured server and the load generator run on; empty means any (not Linux, or only one core)."""

    server: frozenset[int]
    client: frozenset[int]

    @classmethod
    def anywhere(cls) -> Cores:
        """Wherever there is room."""
        return cls(frozenset(), frozenset())

    @classmethod
    def of_this_machine(cls) -> Cores:
        """The last core makes the load, the others serve."""
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        return cls(frozenset(cores[:-1]), frozenset(cores[-1:])) if len(cores) > 1 else cls.anywhere()


def on_cores(cores: frozenset[int], command: Sequence[str]) -> list[str]:
    """The command, bound to these cores from its first instruction; taskset is part of every Linux's util-linux."""
    return ["taskset", "--cpu-list", ",".join(map(str, sorted(cores))), *command] if cores else list(command)


@dataclass(frozen=True)
class Server:
    """A running server."""

    name: str
    process: subprocess.Popen[bytes]
    url: str

    def cpu_seconds(self) -> float | None:
        """Processor time that the process has used so far, all its threads together; None where /proc doesn't say."""
        try:
            fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS_PER_SECOND


@contextmanager
def baseline(cores: Cores) -> Iterator[Server]:
    """The FastAPI route that does nothing."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "--factory", "loadtests.baseline:create_app", "--port", str(port), *UVICORN_FLAGS]
    with running("baseline", on_cores(cores.server, command), {}, port, "/openapi.json") as server:
        yield server


@contextmanager
def service(cores: Cores, database_url: str, **more: str) -> Iterator[Server]:
    """The service itself, as `ome serve` starts it; `more` are further settings."""
    port = free_port()
    settings = {"HOST": "127.0.0.1", "PORT": str(port), "DATABASE_URL": database_url, "LOG_LEVEL": "WARNING", **more}
    with running("service", on_cores(cores.server, [sys.executable, "-m", "ome", "serve"]), settings, port, "/health") as server:
        yield server


@contextmanager
def running(name: str, command: list[str], settings: Mapping[str, str], port: int, path: str) -> Iterator[Server]:
    """Start a server, wait until it answers, stop it with SIGTERM at the end. RuntimeError where it doesn't start or stop."""
    process = subprocess.Popen(command, env=os.environ | settings, stdout=subprocess.DEVNULL)
    server = Server(name, process, f"http://127.0.0.1:{port}")
    try:
        wait_until_it_answers(server, path)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise RuntimeError(f"{name} did not stop within {STOP_SECONDS:.0f} s of SIGTERM") from None


def wait_until_it_answers(server: Server, path: str) -> None:
    """Return once a GET of `path` is answered with 200."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            raise RuntimeError(f"{server.name} ended at its start with status {server.process.returncode}")
        try:
            with urllib.request.urlopen(server.url + path, timeout=2):  # noqa: S310  our own loopback address
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    raise RuntimeError(f"{server.name} did not answer within {START_SECONDS:.0f} s")


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
