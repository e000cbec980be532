"""The connection below the edge: uvicorn's, with two things mended.

What it refuses by itself, before there is a request (bytes that aren't HTTP, lengths that contradict each other, an endless
path), is a problem document too. And a client that ends its side of the connection right after its request still gets the answer.
Either way requests that came whole are answered first, in their order, and the connection is closed after them.
"""

from __future__ import annotations

import secrets
from typing import Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from ome.api.dispatcher import PROBLEM_HEADERS
from ome.api.problems import Problem
from ome.domain.reasons import Reason

_MAX_URL_BYTES: Final = 0xFFFF
"""Longest path and query that the parser of URLs takes."""


class Connection(HttpToolsProtocol):
    """One client's connection."""

    url = b""
    _last_words: bytes | None = None
    """What is sent before the connection is closed, once every whole request is answered; None while more may come."""

    def data_received(self, data: bytes) -> None:
        """Read on, unless this connection is about to end."""
        if self._last_words is None:
            super().data_received(data)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  uvicorn's words say less
        """Refuse what can't be read, and close: nothing after it can be told apart."""
        refusal = self._refusal()
        if self._ends_after_answers(refusal):
            return
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            self.transport.write(refusal)
        self.transport.close()

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio's signature; uvicorn's says None
        """The client sends no more: keep the connection for the answers that it waits for."""
        return self._ends_after_answers(b"")

    def on_response_complete(self) -> None:
        """Go on with the next request, or end."""
        is_last = not self.pipeline
        super().on_response_complete()
        if is_last and self._last_words is not None and not self.transport.is_closing():
            self.transport.write(self._last_words)
            self.transport.close()

    def _ends_after_answers(self, last_words: bytes) -> bool:
        """Close after the answers to requests that came whole, `last_words` behind them; False if none is awaited."""
        cycle = self.cycle
        if self.pipeline and cycle.more_body:
            self.pipeline.popleft()  # half a request: it would wait for its other half for ever
        elif cycle is None or cycle.response_complete or cycle.more_body:
            return False
        self._last_words = last_words
        return True

    def _refusal(self) -> bytes:
        problem = Problem(Reason.HEADERS_TOO_LARGE if len(self.url) > _MAX_URL_BYTES else Reason.MALFORMED_REQUEST)
        request_id = secrets.token_hex(8)
        body = problem.render("GET", self.url.partition(b"?")[0].decode("latin-1"), request_id)
        headers = [
            *self.server_state.default_headers,
            *PROBLEM_HEADERS,
            (b"x-request-id", request_id.encode()),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
        ]
        lines = [STATUS_LINE[problem.status], *(b"%b: %b\r\n" % header for header in headers), b"\r\n", body]
        return b"".join(lines)
