"""The service under test: started as users start it or, where it is started hundreds of times, forked from a warm process."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import ClassVar

from faults.wire import Connection, NoAnswer, NotSent
from forks import Nursery
from servers import Server, free_port

READY_WITHIN_S = 60.0
END_WITHIN_S = 40.0
LOOK_S = 0.01
"""Between two looks at whether it is ready."""


class NotReady(Exception):
    """The service ended before it took orders, or does not come to it; what it wrote is in the message."""


class Service(Server):
    """One service on a database, on a port of its own: forked from a nursery, or without one as users start it."""

    ALWAYS: ClassVar = {"LOG_FORMAT": "json"}

    def __init__(self, database_url: str, environment: dict[str, str] | None = None, *, nursery: Nursery | None = None) -> None:
        super().__init__(database_url, free_port(), {"LOG_LEVEL": "WARNING"} | (environment or {}), nursery)

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
