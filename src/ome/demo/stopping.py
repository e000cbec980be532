"""Until when a demo goes on: Ctrl+C, SIGTERM, or the end of standard input where a service has started it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Coroutine
from typing import Any


async def until_stopped(work: Coroutine[Any, Any, None], *, is_attached: bool = False) -> None:
    """Do the work until it ends or is stopped; it is cancelled then, and waited for while it cleans up."""
    loop = asyncio.get_running_loop()
    task = asyncio.create_task(work)
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    descriptor = sys.stdin.fileno() if is_attached else -1
    if is_attached:
        os.set_blocking(descriptor, False)
        loop.add_reader(descriptor, _stop_at_end, descriptor, task)
    try:
        with contextlib.suppress(asyncio.CancelledError):
            await task
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
        if is_attached:
            loop.remove_reader(descriptor)


def _stop_at_end(descriptor: int, task: asyncio.Task[None]) -> None:
    with contextlib.suppress(BlockingIOError):
        if not os.read(descriptor, 1024):
            asyncio.get_running_loop().remove_reader(descriptor)
            task.cancel()
