"""A load generator that doesn't wait: requests leave when they are due, at a fixed rate, whatever has become of those before.

Latency counts from the moment when a request was due, so that a server which stalls is charged for all that it held up (no
coordinated omission). Connections are opened beforehand. Each request has one of its own while it is under way; when all are
taken, requests wait here, and their wait counts. One event loop, raw bytes and httptools: some tens of microseconds per request.
"""

from __future__ import annotations

import asyncio
import resource
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from typing import Final, cast

import httptools
from msgspec import Struct, field

HELLO: Final = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
CONNECTING: Final = 100
"""Connections that are opened without a pause."""
TICK_S: Final = 0.002
"""How often due requests are sent, in seconds."""


class Tally(Struct):
    """What came of a run's requests of one kind: latencies in seconds, of those with a good answer and of refusals."""

    offered: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    good_s: list[float] = field(default_factory=list)
    refused_s: list[float] = field(default_factory=list)
    without_retry_after: int = 0
    lost: int = 0
    """Connections that broke before the answer."""

    @property
    def good(self) -> int:
        """How many were answered 2xx."""
        return len(self.good_s)


class Request(Struct):
    """What to send, as bytes, and of which kind it is counted."""

    data: bytes
    tally: Tally
    due: float = 0.0


class Client(asyncio.Protocol):
    """One connection of a `Load`."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._parser = httptools.HttpResponseParser(self)
        self._request: Request | None = None
        self._body = b""
        self._says_when = False
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ready."""
        self.transport = cast("asyncio.Transport", transport)
        self._load.is_free(self)

    def send(self, request: Request) -> None:
        """Send a request; there is no other under way."""
        self._request, self._body, self._says_when = request, b"", False
        self.transport.write(request.data)

    def data_received(self, data: bytes) -> None:
        """Some of an answer."""
        self._parser.feed_data(data)

    def on_header(self, name: bytes, _value: bytes) -> None:
        """One of its headers."""
        if name.lower() == b"retry-after":
            self._says_when = True

    def on_body(self, body: bytes) -> None:
        """Some of its body."""
        self._body += body

    def on_message_complete(self) -> None:
        """All of it."""
        request, self._request = self._request, None
        if request is not None:
            self._load.answered(request, self._parser.get_status_code(), self._body, says_when=self._says_when)
        if self._parser.should_keep_alive():
            self._load.is_free(self)

    def connection_lost(self, _error: Exception | None) -> None:
        """It is gone, with its request if there was one."""
        self._load.is_gone(self, self._request)


class Load:
    """Requests of a source, sent to one server.

    `on_answer` sees each good answer's body, in order, for sources that go on from there.
    """

    def __init__(self, port: int, on_answer: Callable[[Request, bytes], None] | None = None) -> None:
        self._port = port
        self._on_answer = on_answer
        self._free: deque[Client] = deque()
        self._clients: set[Client] = set()
        self._waiting: deque[Request] = deque()
        self._source: Iterator[Request] | None = None
        self._under_way = 0
        self.most_waiting = 0
        """The longest that the queue on this side was: what the generator itself held back."""

    async def connect(self, count: int) -> None:
        """Open so many connections, and have each answered once, so that none counts as silent."""
        loop = asyncio.get_running_loop()
        for _ in range(count):
            _, client = await loop.create_connection(lambda: Client(self), "127.0.0.1", self._port)
            self._clients.add(client)
            if len(self._clients) % CONNECTING == 0:
                await asyncio.sleep(TICK_S)
        hello = Tally()
        while self._free and hello.offered < count:
            hello.offered += 1
            self._under_way += 1
            self._free.popleft().send(Request(HELLO, hello))
        await self._finished()

    async def run_open(self, source: Iterator[Request], rate: float, seconds: float) -> None:
        """Send at this rate, per second, for so long; then wait for what is under way."""
        start = time.perf_counter()
        sent = 0
        while (now := time.perf_counter() - start) < seconds:
            for number in range(sent, int(now * rate)):
                request = next(source)
                request.due = start + number / rate
                request.tally.offered += 1
                self._dispatch(request)
            sent = max(sent, int(now * rate))
            self.most_waiting = max(self.most_waiting, len(self._waiting))
            await asyncio.sleep(TICK_S)
        await self._finished()

    async def run_closed(self, source: Iterator[Request], seconds: float) -> None:
        """Each connection sends its next request when it has its answer, for so long."""
        self._source = source
        free, self._free = list(self._free), deque()
        for client in free:
            self._next_of(client)
        await asyncio.sleep(seconds)
        self._source = None
        await self._finished()

    async def close(self) -> None:
        """Close all connections."""
        for client in list(self._clients):
            client.transport.abort()
        while self._clients:  # noqa: ASYNC110  a poll of milliseconds, after the measuring
            await asyncio.sleep(TICK_S)

    async def _finished(self) -> None:
        while self._under_way or self._waiting:  # noqa: ASYNC110  likewise
            await asyncio.sleep(TICK_S)

    def _dispatch(self, request: Request) -> None:
        if self._free:
            self._under_way += 1
            self._free.popleft().send(request)
            return
        self._waiting.append(request)

    def _next_of(self, client: Client) -> None:
        request = next(cast("Iterator[Request]", self._source))
        request.due = time.perf_counter()
        request.tally.offered += 1
        self._under_way += 1
        client.send(request)

    def is_free(self, client: Client) -> None:
        """A connection can take a request."""
        if self._source is not None:
            self._next_of(client)
        elif self._waiting:
            self._under_way += 1
            client.send(self._waiting.popleft())
        else:
            self._free.append(client)

    def answered(self, request: Request, status: int, body: bytes, *, says_when: bool) -> None:
        """An answer came, in whole."""
        self._under_way -= 1
        tally, waited = request.tally, time.perf_counter() - request.due
        tally.statuses[status] += 1
        if status < 300:
            tally.good_s.append(waited)
            if self._on_answer is not None:
                self._on_answer(request, body)
            return
        tally.refused_s.append(waited)
        if status in {429, 503} and not says_when:
            tally.without_retry_after += 1

    def is_gone(self, client: Client, request: Request | None) -> None:
        """A connection broke; its request, if it had one, is lost."""
        self._clients.discard(client)
        if client in self._free:
            self._free.remove(client)
        if request is not None:
            self._under_way -= 1
            request.tally.lost += 1


def percentile(values: list[float], percent: float) -> float:
    """The value below which so many percent of them are; 0.0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else 0.0


def allow_open_files(wanted: int = 20_000) -> int:
    """Raise this process's own limit of open files as far as it may, up to `wanted`; what it is then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        return most
    return soft
