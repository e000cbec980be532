"""What waits for one reader: notes in the order in which they came.

As an `asyncio.Queue` that one coroutine reads, at a third of its cost, which an order pays twice. It has no bound of its own:
whoever puts something in looks at `qsize` first.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

Note = TypeVar("Note")


class Inbox(Generic[Note]):
    """Lives on the event loop."""

    __slots__ = ("_notes", "_reader")

    def __init__(self) -> None:
        self._notes: deque[Note] = deque()
        self._reader: asyncio.Future[None] | None = None

    def qsize(self) -> int:
        """How many notes wait."""
        return len(self._notes)

    def put_nowait(self, note: Note) -> None:
        """Add one, and wake up the reader."""
        self._notes.append(note)
        reader = self._reader
        if reader is not None:
            self._reader = None
            if not reader.done():
                reader.set_result(None)

    def get_nowait(self) -> Note:
        """Take the oldest one out. IndexError where there is none."""
        return self._notes.popleft()

    async def get(self) -> Note:
        """Take the oldest one out, once there is one."""
        while not self._notes:
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        return self._notes.popleft()
