"""One reader's way out: what it hears, where it is in it, and what becomes of it when it doesn't keep up (D2).

A reader of a topic is a place in that topic's ring; messages for it alone wait in a list of its own. While its connection takes
bytes, everything new is written in one piece. While it doesn't, the reader falls behind; beyond the limits, in messages or in
bytes, it is closed with SLOW_CONSUMER. Nothing is ever left out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from time import monotonic
from typing import Final, Protocol

from ome.api.streams.ring import QueueLimits, Ring

SLOW_CONSUMER: Final = 4008
"""The WebSocket close code of a reader that fell too far behind."""
SLOW_REASON: Final = "slow consumer: read faster, or ask for less; then subscribe again"


class Socket(Protocol):
    """A connection as an outlet writes to it; `Outlet.resume` is called when it takes bytes again."""

    @property
    def is_paused(self) -> bool:
        """Whether so much is unsent that it should be given no more for now."""

    def write(self, data: bytes) -> None:
        """Send bytes; never waits."""

    def close(self, code: int, reason: str) -> None:
        """End the connection, after what was written."""


class Outlet:
    """Lives on the event loop. `written_at` is when something was last written, on the monotonic clock, in seconds."""

    __slots__ = ("_limits", "_own", "_own_bytes", "_places", "_resumed", "_socket", "close_code", "written_at")

    def __init__(self, socket: Socket, limits: QueueLimits) -> None:
        self._socket = socket
        self._limits = limits
        self._places: dict[Ring, int] = {}
        self._own: list[bytes] | None = None
        self._own_bytes = 0
        self._resumed: asyncio.Future[None] | None = None
        self.close_code: int | None = None
        """Why it was closed from this side; None while it is open."""
        self.written_at = monotonic()

    @property
    def is_closed(self) -> bool:
        """Whether nothing more is written to it."""
        return self.close_code is not None

    @property
    def is_paused(self) -> bool:
        """Whether its connection takes no more for now."""
        return self._socket.is_paused

    def follow(self, ring: Ring, index: int) -> None:
        """Hear a topic from a message on."""
        self._places[ring] = index
        if index < ring.end:
            self.flush((ring,))

    def leave(self, ring: Ring) -> None:
        """Hear a topic no more."""
        self._places.pop(ring, None)

    def say(self, message: bytes) -> None:
        """Send a message to this reader alone."""
        if self.close_code is not None:
            return
        if self._own is None and not self._socket.is_paused:
            self.written_at = monotonic()
            self._socket.write(message)
            return
        if self._own is None:
            self._own = []
        self._own.append(message)
        self._own_bytes += len(message)
        self._check_lag()

    def flush(self, rings: Collection[Ring]) -> None:
        """Write what is new in these topics, or see whether it has fallen too far behind."""
        if self.close_code is not None:
            return
        if self._socket.is_paused:
            self._check_lag()
            return
        pieces: list[bytes] = []
        if self._own is not None:
            pieces, self._own, self._own_bytes = self._own, None, 0
        places = self._places
        for ring in rings:
            place = places.get(ring)
            if place is None or place == (end := ring.end):
                continue
            if place < ring.first:
                self.close(SLOW_CONSUMER, SLOW_REASON)
                return
            pieces.append(ring.since(place))
            places[ring] = end
        if pieces:
            self.written_at = monotonic()
            self._socket.write(pieces[0] if len(pieces) == 1 else b"".join(pieces))

    def resume(self) -> None:
        """The connection takes bytes again."""
        self.flush(self._places)
        if self._resumed is not None and not self._socket.is_paused:
            if not self._resumed.done():
                self._resumed.set_result(None)
            self._resumed = None

    async def drained(self) -> None:
        """Wait until the connection takes bytes, or is closed."""
        while self._socket.is_paused and self.close_code is None:
            if self._resumed is None:
                self._resumed = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._resumed)

    def close(self, code: int, reason: str) -> None:
        """End it: what it wasn't given yet is dropped, what was written is still sent."""
        if self.close_code is not None:
            return
        self.close_code = code
        self._places, self._own = {}, None
        if self._resumed is not None and not self._resumed.done():
            self._resumed.set_result(None)
        self._socket.close(code, reason)

    @property
    def lag(self) -> int:
        """How many messages it is behind, where its connection takes no more for now; else 0: it gets them in a moment."""
        return self._behind()[0] if self._socket.is_paused else 0

    def _check_lag(self) -> None:
        messages, size = self._behind()
        if messages > self._limits.messages or size > self._limits.bytes:
            self.close(SLOW_CONSUMER, SLOW_REASON)

    def _behind(self) -> tuple[int, int]:
        messages, size = len(self._own or ()), self._own_bytes
        if messages <= 1:
            size = 0  # a snapshot may be larger than any limit
        for ring, place in self._places.items():
            if place < ring.end:
                more, bytes_more = ring.behind(place)
                messages, size = messages + more, size + bytes_more
        return messages, size
