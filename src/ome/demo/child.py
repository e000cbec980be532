"""The demo as a process of its own beside the service, so that its work costs the service nothing but its requests.

The child ends when its standard input does: however the service ends, the demo ends with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from typing import Final

STOP_SECONDS: Final = 10.0
"""How long the traders may take to cancel what they have open; then they are killed, and their timers do it."""


class ChildDemo:
    """`ome demo --attached`, started and stopped by the service at `url`."""

    def __init__(self) -> None:
        self.url = ""
        self.seed = 0
        self._process: asyncio.subprocess.Process | None = None
        self._lock = asyncio.Lock()

    @property
    def is_running(self) -> bool:
        """Whether the traders are at work."""
        return self._process is not None and self._process.returncode is None

    async def start(self, seed: int, api_key: str) -> None:
        """Start the traders; where they are at work already nothing changes. The key goes by the environment, not the command."""
        async with self._lock:
            if self.is_running or not self.url:
                return
            environment = {**os.environ, "API_KEY": api_key}
            command = (sys.executable, "-m", "ome", "demo", "--attached", "--url", self.url, "--seed", str(seed))
            self.seed = seed
            self._process = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL, env=environment
            )

    async def stop(self) -> None:
        """Stop them and wait until what they had open is cancelled."""
        async with self._lock:
            process = self._process
            if process is None or process.returncode is not None:
                return
            if process.stdin is not None:
                process.stdin.close()
            try:
                async with asyncio.timeout(STOP_SECONDS):
                    await process.wait()
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
