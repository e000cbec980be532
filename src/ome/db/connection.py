"""A connection to PostgreSQL that doesn't wait for ever, whatever the way to the server does.

Where packets are swallowed and nobody says so, neither side hears that the connection is dead. So everything has a time:
connecting, each statement, and with it the cancelling of a statement whose time is up. A statement that may rightly take minutes
is told from one that nobody will ever answer by the kernel, which asks the other machine for a sign of life.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Final

import asyncpg

CONNECT_TIMEOUT_S: Final = 10.0
STATEMENT_TIMEOUT_S: Final = 300.0
"""How long a statement may take where nothing shorter is said; the longest read all of a large database at start."""
LOCK_CLASS: Final = 0x4F4D45
"""The first half of the keys of our advisory locks; the second is the shard, -1 while migrating, -2 for a whole cluster."""
_KEEPALIVE: Final = (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 25_000))
"""Seconds of silence until the other machine is asked for a sign of life, seconds between such questions, how many may stay
without an answer; milliseconds that what was sent may stay without one.
"""


async def connect(
    dsn: str, timeout_s: float = CONNECT_TIMEOUT_S, statement_timeout_s: float | None = STATEMENT_TIMEOUT_S
) -> asyncpg.Connection:
    """A connection of its own to the database that `dsn` names; raises what asyncpg raises."""
    connection = await asyncpg.connect(dsn, timeout=timeout_s, command_timeout=statement_timeout_s)
    transport: asyncio.Transport = connection._transport  # type: ignore[attr-defined]  # noqa: SLF001  no other way to its socket
    _keep_alive(transport.get_extra_info("socket"))
    return connection


def _keep_alive(connected: socket.socket) -> None:
    if connected.family == socket.AF_UNIX:
        return
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE:
        if hasattr(socket, name):  # each system has some of them
            connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
