"""The WebSocket connection below the edge: uvicorn's, which an outlet can write frames to without a task or a copy for each.

What it adds: bytes that are frames already go straight to the transport; it tells when the transport is full and when it takes
bytes again; how long ago the peer was heard; and a close that isn't answered ends in a reset. Pings are left to whoever sweeps
all connections (`streams.sessions`), so that an idle connection has no timer. It keeps little: no handshake after the
handshake.
"""

from __future__ import annotations

import contextlib
import logging
import socket
from asyncio.transports import BaseTransport
from collections.abc import Callable
from time import monotonic
from typing import Any, Final

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidState

HIGH_WATER_BYTES: Final = 64 * 1024
"""Unsent bytes of a connection at which no more is written to it for now."""
SEND_BUFFER_BYTES: Final = 256 * 1024
"""What the system may hold of a connection's unsent bytes: without a bound it is megabytes, and a reader that has stopped would
be noticed that much later."""
CLOSE_SECONDS: Final = 10.0
"""How long a closed connection may take to read what was written, the reason behind it, and to answer."""
STOP_SECONDS: Final = 2.0
"""The same when the server stops."""
SOCKET: Final = "ome.socket"
"""Where the connection is in its ASGI scope."""

_logger: Final = logging.getLogger("ome.websocket")
_logger.setLevel(logging.WARNING)  # uvicorn logs each handshake with its address and query


class WebSocketConnection(WebSocketsSansIOProtocol):
    """One client's connection; the Socket of its outlet."""

    scope: dict[str, Any]  # type: ignore[assignment]  # what is kept in it here, uvicorn's type doesn't know

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.logger = self.conn.logger = _logger
        self.heard_at = monotonic()
        self.pinged_at = 0.0
        self.on_resume: Callable[[], None] | None = None

    def connection_made(self, transport: BaseTransport) -> None:
        """Bound what is unsent, here and in the system."""
        super().connection_made(transport)
        self.transport.set_write_buffer_limits(high=HIGH_WATER_BYTES)
        own: socket.socket | None = transport.get_extra_info("socket")
        if own is not None:
            own.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)

    def data_received(self, data: bytes) -> None:
        """The peer is there."""
        self.heard_at = monotonic()
        super().data_received(data)

    def resume_writing(self) -> None:
        """The transport takes bytes again."""
        super().resume_writing()
        if self.on_resume is not None:
            self.on_resume()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of everything, cycles too: what was frozen (see `streams.hub`) is freed by its reference counts alone."""
        self.on_resume = None
        super().connection_lost(exc)
        self.conn.parser.close()
        self.scope.pop(SOCKET, None)

    async def run_asgi(self) -> None:
        """Hand the connection itself to the application."""
        self.scope[SOCKET] = self
        await super().run_asgi()

    async def send(self, message: Any) -> None:
        """As uvicorn does; a handshake that was refused in words is complete, too, and no error to log."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body":
            self.handshake_complete = True

    def shutdown(self) -> None:
        """The server stops: what isn't read within STOP_SECONDS isn't waited for."""
        super().shutdown()
        self.loop.call_later(STOP_SECONDS, self.transport.abort)

    # Socket

    @property
    def is_paused(self) -> bool:
        """See Socket."""
        return not self.writable.is_set()

    def write(self, data: bytes) -> None:
        """See Socket; `data` are whole frames."""
        if not (self.close_sent or self.disconnected or self.transport.is_closing()):
            self.transport.write(data)

    def close(self, code: int, reason: str) -> None:
        """See Socket: the application hears of it as of a disconnect."""
        if self.close_sent or self.disconnected or self.transport.is_closing():
            return
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        with contextlib.suppress(InvalidState):  # the peer's own close was read this very moment
            self.conn.send_close(code, reason)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        self.close_timer = self.loop.call_later(CLOSE_SECONDS, self.transport.abort)

    def abort(self) -> None:
        """End it at once."""
        self.transport.abort()

    def forget_handshake(self) -> None:
        """Drop what only the handshake needed."""
        del self.request, self.response
        self.scope["headers"] = []
