"""One kept HTTP/1.1 connection, as plain as can be: the load must not cost more than the service that it is put on."""

from __future__ import annotations

import asyncio
import json
from typing import Any

ANSWER_WITHIN_S = 15.0
"""When an answer counts as lost: well beyond the service's own CLIENT_WAIT_SEC."""


class NoAnswer(Exception):
    """The request was sent, or part of it, and no whole answer came: its outcome is unknown."""


class NotSent(Exception):
    """Nobody listens: certainly nothing was executed."""


class Connection:
    """Requests to one port of 127.0.0.1, over a connection that is opened when needed."""

    def __init__(self, port: int, within_s: float = ANSWER_WITHIN_S) -> None:
        self._port = port
        self._within_s = within_s
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def request(self, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        """(status, JSON). Raises NotSent, or NoAnswer once a byte may have left."""
        try:
            if self._streams is None:
                self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError as error:
            raise NotSent from error
        data = json.dumps(body).encode() if body is not None else b""
        fields = f"Host: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(data)}"
        try:
            async with asyncio.timeout(self._within_s):
                return await self._exchange(*self._streams, f"{method} {path} HTTP/1.1\r\n{fields}\r\n\r\n".encode() + data)
        except (OSError, TimeoutError, EOFError, ValueError, IndexError) as error:
            self.close()
            raise NoAnswer from error
        except asyncio.CancelledError:
            self.close()
            raise

    async def _exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes
    ) -> tuple[int, dict[str, Any]]:
        writer.write(data)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
        body = await reader.readexactly(length)
        if b"connection: close" in head:
            self.close()
        return int(head[9:12]), json.loads(body) if body[:1] == b"{" else {}

    def close(self) -> None:
        """Drop the connection."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None
