"""A TCP proxy on 127.0.0.1 that drops connections as it is told to; its target can be changed while it runs."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections import Counter
from contextlib import suppress
from enum import Enum

_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: closing sends a reset."""


class Cut(Enum):
    """Where a connection breaks."""

    IN_REQUEST = "before the request has been sent"
    AFTER_REQUEST = "before its answer"
    IN_ANSWER = "in the middle of the answer"
    AFTER_ANSWER = "after the answer"
    HALF_CLOSED = "half closed behind the request"


class Proxy:
    """Forwards to `target`, a port; each request that passes is cut with probability `rate`, at one of the stages of `Cut`.

    What the service sees is a client that vanishes, what the client sees a service that does; half of the cuts are resets.
    `cuts` counts them.
    """

    def __init__(self, target: int, rng: random.Random, rate: float = 0.0) -> None:
        self.target, self.rate = target, rate
        self.cuts: Counter[Cut] = Counter()
        self._rng = rng
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()

    async def start(self) -> int:
        """Listen; the port."""
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def close(self) -> None:
        """Listen no more and drop every connection."""
        assert self._server is not None
        self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        with suppress(OSError, EOFError, asyncio.CancelledError):
            await self._pass_on(reader, writer)
        writer.close()

    async def _pass_on(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        server, to_server = await asyncio.open_connection("127.0.0.1", self.target)
        try:
            while True:
                request = await whole_message(client)
                cut = self._rng.choice(list(Cut)) if self._rng.random() < self.rate else None
                if cut is Cut.IN_REQUEST:
                    to_server.write(request[: self._rng.randrange(len(request))])
                    await to_server.drain()
                else:
                    to_server.write(request)
                    if cut is Cut.HALF_CLOSED:
                        to_server.write_eof()
                    if cut is not Cut.AFTER_REQUEST:
                        answer = await whole_message(server)
                        to_client.write(answer[: self._rng.randrange(len(answer))] if cut is Cut.IN_ANSWER else answer)
                        await to_client.drain()
                if cut is not None:
                    self.cuts[cut] += 1
                    if self._rng.random() < 0.5:
                        reset(to_server)
                        reset(to_client)
                    return
        finally:
            to_server.close()


async def whole_message(reader: asyncio.StreamReader) -> bytes:
    """One HTTP message, as it came."""
    head = await reader.readuntil(b"\r\n\r\n")
    _, found, rest = head.lower().partition(b"content-length: ")
    return head + (await reader.readexactly(int(rest.split(b"\r\n")[0])) if found else b"")


def reset(writer: asyncio.StreamWriter) -> None:
    """Let closing this be a reset."""
    connection = writer.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
