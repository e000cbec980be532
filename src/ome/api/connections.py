"""Who is connected, and how long each may take: uvicorn bounds neither.

One `Connections` watches over all connections of a process. A client owes a whole request, head and body, within
`receive_timeout_s` of its first byte (and its first byte within that of connecting), and has to take its answer within
`send_timeout_s`; between requests a connection may be silent for `keep_alive_s`. One timer looks at all of them, once a second
at most, so that thousands of idle or slow connections cost an order nothing: a deadline is a number that is set, never a timer.
A connection is therefore closed up to a second after its deadline.

Admission comes here too, before a request costs more than the reading of its head: beyond `requests` that are worked on, it is
refused with OVERLOADED, and certainly wasn't executed.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Final, Protocol

from msgspec import Struct

from ome.api.plain_requests import forget_heads
from ome.api.problems import Header, header_lines
from ome.domain.reasons import Reason

if TYPE_CHECKING:
    from ome.api.protocol import Connection

SWEEPS_PER_TIMEOUT: Final = 10
"""How often the shortest timeout is looked at before it has passed; at least once a second."""
_SPARE_PART: Final = 10
_LEAST_SPARE: Final = 8
"""For each tenth request that may be worked on there is a slot more for cancels, what stops a runaway, and the service's health,
and these eight.
"""
_SPARED: Final = ("/health", "/metrics", "/admin/kill")
_TIMER: Final = "/cancel_all_after"
_AT_A_TIME: Final = 10
_PAUSE_S: Final = 0.005
"""So many connections are ended without a pause, and the pause, in seconds: two thousand a second."""
LINGER_S: Final = 2.0
"""How long a connection that was told why it ends is still read from, in seconds: closed at once, its client could miss why."""
LINGER_BYTES: Final = 16 * 1024 * 1024
"""How much of what it still sends is read."""
REMEMBERED_S: Final = 60.0
"""How long the head of a request is remembered at most, in seconds, and the key in it; not beyond the last connection."""


class ConnectionLimits(Struct, frozen=True, kw_only=True):
    """Bounds of the server. 0 connections per address: no bound; loopback has none ever."""

    connections: int = 10_000
    connections_per_address: int = 1000
    requests: int = 2048
    """Requests that may be worked on at the same time; cancels and what else is spared may be a tenth more."""
    pipelined: int = 16
    """Requests that may wait behind one on the same connection; what comes after is left unread until there is room."""
    head_bytes: int = 16 * 1024
    """Request line and headers."""
    message_bytes: int = 2 * 1024 * 1024
    """All bytes of a request, framing and trailers included: twice the largest body leaves room for small chunks."""
    receive_timeout_s: float = 10.0
    send_timeout_s: float = 10.0
    keep_alive_s: float = 75.0
    retry_after_s: int = 1


class ConnectionMetrics(Protocol):
    """Whoever counts."""

    def connections_open(self, count: int) -> None:
        """So many are connected now."""

    def connection_refused(self, code: str, count: int) -> None:
        """So many requests or connections were refused by the server itself, for this reason, since the last call."""


class Connections:
    """All connections of one server, the requests that are worked on, and the timer."""

    def __init__(self, limits: ConnectionLimits, metrics: ConnectionMetrics) -> None:
        self.limits = limits
        self.requests = 0
        """How many are worked on; streams, which last, aren't counted."""
        self._metrics = metrics
        self._open: set[Connection] = set()
        self._by_address: Counter[str] = Counter()
        self._refusals: Counter[Reason] = Counter()
        self._defaults: list[Header] = []
        self._default_lines = b""
        self._timer: asyncio.TimerHandle | None = None
        self._forgets_at = 0.0
        shortest = min(limits.receive_timeout_s, limits.send_timeout_s, limits.keep_alive_s)
        self._period_s = min(1.0, shortest / SWEEPS_PER_TIMEOUT)

    def __len__(self) -> int:
        return len(self._open)

    def has_room_for(self, address: str, connected: int) -> bool:
        """Whether one more connection from this address may stay; `connected` counts all, WebSockets and this one included."""
        most = self.limits.connections_per_address
        if most and self._by_address[address] >= most and not _is_loopback(address):
            return False
        return connected <= self.limits.connections

    @property
    def is_full(self) -> bool:
        """Whether orders are refused now."""
        return self.requests >= self.limits.requests

    def admits(self, method: str, path: str) -> bool:
        """Whether one more request may be worked on now; the last slots are kept for cancels, kill switches, dead-man timers and
        the service's health.
        """
        most = self.limits.requests
        if self.requests < most:
            return True
        is_spared = method == "DELETE" or path.startswith(_SPARED) or path.endswith(_TIMER)
        return is_spared and self.requests < most + most // _SPARE_PART + _LEAST_SPARE

    def default_lines(self, headers: list[Header]) -> bytes:
        """The server's own headers as they go over the wire; it makes them anew once a second, for the date."""
        if headers is not self._defaults:
            self._defaults, self._default_lines = headers, header_lines(headers)
        return self._default_lines

    def join(self, connection: Connection, address: str) -> None:
        """Watch over a connection."""
        self._open.add(connection)
        self._by_address[address] += 1
        if self._timer is None:
            self._timer = connection.loop.call_later(self._period_s, self._sweep, connection.loop)

    def leave(self, connection: Connection, address: str) -> None:
        """It is closed, or has become something else."""
        if connection in self._open:
            self._open.discard(connection)
            self._by_address[address] -= 1
            if not self._by_address[address]:
                del self._by_address[address]

    def refused(self, reason: Reason) -> None:
        """Count a refusal that no request log sees."""
        self._refusals[reason] += 1

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        """End what has been waited for too long, and forget requests of a minute ago."""
        now = loop.time()
        if now >= self._forgets_at or not self._open:
            self._forgets_at = now + REMEMBERED_S
            forget_heads()
        try:
            self._end_some([each for each in self._open if each.receive_by <= now or each.send_by <= now], loop)
            self._metrics.connections_open(len(self._open))
            for reason, count in self._refusals.items():
                self._metrics.connection_refused(reason.code, count)
            self._refusals.clear()
        finally:  # without a timer no deadline would hold any more
            self._timer = loop.call_later(self._period_s, self._sweep, loop) if self._open else None

    def _end_some(self, late: list[Connection], loop: asyncio.AbstractEventLoop) -> None:
        """A few at a time: a thousand that are late together must not keep an order waiting."""
        now = loop.time()
        for connection in late[-_AT_A_TIME:]:
            if connection in self._open:  # it may have left while it had to wait
                try:
                    connection.is_late(now)
                except Exception as error:  # noqa: BLE001  a bug in one must not keep the others open
                    loop.call_exception_handler({"message": "a connection could not be ended", "exception": error})
                    connection.transport.abort()
        del late[-_AT_A_TIME:]
        if late:
            loop.call_later(_PAUSE_S, self._end_some, late, loop)


def _is_loopback(address: str) -> bool:
    return address.startswith("127.") or address in {"::1", "::ffff:127.0.0.1", ""}
