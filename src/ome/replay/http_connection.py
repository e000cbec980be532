"""One keep-alive HTTP/1.1 connection with one request in flight: a tenth of the processor time of a general client.

Bodies are whole byte strings. No redirects, proxies or cookies. A connection that is lost, that the other side closes after an
answer, or that took longer than its time limit, is opened anew by the next request; whether the lost request was carried out
is not known here.
"""

from __future__ import annotations

import asyncio
from typing import Final
from urllib.parse import urlsplit

import httptools

from ome.replay.errors import ReplayError

REQUEST_SECONDS: Final = 30.0
"""How long one request may take before its connection is given up."""


class ConnectionLost(Exception):
    """No whole answer came; the request may have been carried out or not."""


class HttpConnection:
    """Requests to one address, such as http://127.0.0.1:5000; a path in it comes before that of every request."""

    def __init__(self, url: str, headers: dict[str, str] | None = None, *, request_seconds: float = REQUEST_SECONDS) -> None:
        """`headers` go with every request. ReplayError where `url` isn't an http or https address."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise ReplayError(f"{url!r} is no address: {error}") from error
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ReplayError(f"{url!r} is no address such as http://127.0.0.1:5000")
        self._secure = parts.scheme == "https"
        self._host = parts.hostname
        self._port = port or (443 if self._secure else 80)
        self._base = parts.path.rstrip("/")
        lines = [f"Host: {parts.netloc.rpartition('@')[2]}", *(f"{name}: {value}" for name, value in (headers or {}).items())]
        self._head = "".join(f"{line}\r\n" for line in lines)
        self._request_seconds = request_seconds
        self._exchange: _Exchange | None = None

    async def request(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """The status and body of the answer. Raises ConnectionLost where there is none."""
        length = "" if body is None else f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        head = f"{method} {self._base}{path} HTTP/1.1\r\n{self._head}{length}\r\n"
        try:
            async with asyncio.timeout(self._request_seconds):
                exchange = await self._connected()
                return await exchange.send(head.encode("ascii") + (body or b""))
        except (OSError, TimeoutError) as error:
            self.close()
            raise ConnectionLost(f"{method} {path}: {error or type(error).__name__}") from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._exchange is not None:
            self._exchange.close()
            self._exchange = None

    async def _connected(self) -> _Exchange:
        if self._exchange is None or self._exchange.is_closed:
            loop = asyncio.get_running_loop()
            _, self._exchange = await loop.create_connection(_Exchange, self._host, self._port, ssl=self._secure or None)
        return self._exchange


class _Exchange(asyncio.Protocol):
    """Sends a request, and puts the answer together as its bytes come in."""

    def __init__(self) -> None:
        self.is_closed = False
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []

    def send(self, request: bytes) -> asyncio.Future[tuple[int, bytes]]:
        """Send a whole request; the future is its answer."""
        self._answer = asyncio.get_running_loop().create_future()
        if self._transport is None or self._transport.is_closing():
            self._lose(ConnectionLost("the connection is closed"))
        else:
            self._transport.write(request)
        return self._answer

    def close(self) -> None:
        self.is_closed = True
        if self._transport is not None:
            self._transport.abort()

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  what create_connection makes
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._lose(ConnectionLost(f"an answer that isn't HTTP: {error}"))
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_closed = True
        self._lose(ConnectionLost(str(exc or "the server closed the connection")))

    # What httptools calls

    def on_message_begin(self) -> None:
        self._body = []

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        if not self._parser.should_keep_alive():
            self.is_closed = True
        if self._answer is not None and not self._answer.done():
            self._answer.set_result((self._parser.get_status_code(), b"".join(self._body)))

    def _lose(self, error: ConnectionLost) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)
