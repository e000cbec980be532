"""TCP proxies on 127.0.0.1: one drops connections, one swallows what is sent over them, as they are told to while they run."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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


class Forwarder:
    """Takes connections on a free port and passes on what comes to `target`, a port, as the classes below do."""

    def __init__(self, target: int) -> None:
        self.target = target
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()

    async def start(self) -> int:
        """Listen; the port."""
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        return self.port

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._server is not None
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
            server, to_server = await asyncio.open_connection("127.0.0.1", self.target)
            try:
                await self._pass_on(reader, writer, server, to_server)
            finally:
                to_server.close()
        writer.close()

    async def _pass_on(
        self,
        client: asyncio.StreamReader,
        to_client: asyncio.StreamWriter,
        server: asyncio.StreamReader,
        to_server: asyncio.StreamWriter,
    ) -> None:
        raise NotImplementedError


class Proxy(Forwarder):
    """Each request that passes is cut with probability `rate`, at one of the stages of `Cut`; `target` may be changed.

    What the service sees is a client that vanishes, what the client sees a service that does; half of the cuts are resets.
    `cuts` counts them.
    """

    def __init__(self, target: int, rng: random.Random, rate: float = 0.0) -> None:
        super().__init__(target)
        self.rate = rate
        self.cuts: Counter[Cut] = Counter()
        self._rng = rng

    async def _pass_on(
        self,
        client: asyncio.StreamReader,
        to_client: asyncio.StreamWriter,
        server: asyncio.StreamReader,
        to_server: asyncio.StreamWriter,
    ) -> None:
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


class Swallower(Forwarder):
    """Passes on everything, but for the time of a `silence`: a connection that carries something then is dead from then on, yet
    stays open, as where a firewall has forgotten it; nobody hears that it is. `swallowed` counts them.
    """

    def __init__(self, target: int) -> None:
        super().__init__(target)
        self.swallowed = 0
        self._is_silent = False
        self._dead = asyncio.Event()

    @contextmanager
    def silence(self) -> Iterator[asyncio.Event]:
        """Swallow what is sent in this block; the event is set as soon as something is."""
        self._is_silent, self._dead = True, asyncio.Event()
        try:
            yield self._dead
        finally:
            self._is_silent = False

    async def _pass_on(
        self,
        client: asyncio.StreamReader,
        to_client: asyncio.StreamWriter,
        server: asyncio.StreamReader,
        to_server: asyncio.StreamWriter,
    ) -> None:
        back = asyncio.create_task(self._answers(server, to_client))
        try:
            is_dead = False
            while data := await client.read(65536):
                if self._is_silent and not is_dead:
                    is_dead = True
                    self.swallowed += 1
                    self._dead.set()
                    back.cancel()
                if not is_dead:
                    to_server.write(data)
                    await to_server.drain()
        finally:
            back.cancel()
            await asyncio.gather(back, return_exceptions=True)

    async def _answers(self, server: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        while data := await server.read(65536):
            to_client.write(data)
            await to_client.drain()
        to_client.close()


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
