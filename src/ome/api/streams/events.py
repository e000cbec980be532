"""GET /market/{symbol}/stream: depth, trades, ticker and candles of a symbol as server-sent events, for a browser or curl.

Events `depth` (a snapshot first, then updates), `trade`, `ticker` and `candle` have in `data` what the WebSocket's channels have;
`id` is the sequence and, behind a dot, which history it is of. A reader that comes back with Last-Event-ID goes on right behind
it where everything since is still kept; where it isn't, or where none is given, it starts with a snapshot: the first event's
`type` says which. Ticker and candle are told anew either way. Comments are heartbeats. A reader that falls too far behind is
disconnected.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ome.api.bodies import until_gone
from ome.api.streams.hub import Streams
from ome.api.streams.market_topics import STREAM
from ome.api.streams.outlet import Outlet
from ome.api.streams.pump import Topic

CONTENT_TYPE: Final = "text/event-stream"
_HEADERS: Final = [
    (b"content-type", CONTENT_TYPE.encode()),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]


class _Mailbox:
    """The Socket of a stream: what is written waits here until the request's task has sent what it took before."""

    __slots__ = ("_filled", "_pieces", "closed")

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._filled = asyncio.Event()
        self.closed = asyncio.Event()

    @property
    def is_paused(self) -> bool:
        """See Socket."""
        return bool(self._pieces)

    def write(self, data: bytes) -> None:
        """See Socket."""
        self._pieces.append(data)
        self._filled.set()

    def close(self, code: int, reason: str) -> None:
        """See Socket."""
        del code, reason
        self.closed.set()
        self._filled.set()

    async def take(self) -> bytes:
        """Everything that was written; nothing once it is closed and empty."""
        await self._filled.wait()
        data, self._pieces = b"".join(self._pieces), []
        if not self.closed.is_set():
            self._filled.clear()
        return data


class EventStream(Response):
    """The answer to one reader, for as long as it stays."""

    media_type = CONTENT_TYPE

    def __init__(self, streams: Streams, symbol: str, interval: str, last_event_id: str | None) -> None:
        """With the candles of an interval. Raises Problem where the symbol isn't listed or no further stream can be opened."""
        super().__init__()
        streams.check_room()
        streams.market.open(STREAM, symbol, interval)
        self._streams = streams
        self._symbol = symbol
        self._interval = interval
        self._last_event_id = last_event_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send events until either side ends it."""
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        if "ome.head" in scope:
            await send({"type": "http.response.body", "body": b""})
            return
        mailbox = _Mailbox()
        outlet = Outlet(mailbox, self._streams.limits)
        topic = await self._begin(outlet)
        tasks = [
            asyncio.create_task(_send_all(mailbox, outlet, send)),
            asyncio.create_task(until_gone(receive)),
            asyncio.create_task(mailbox.closed.wait()),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if mailbox.closed.is_set():  # what was taken before is still sent; who doesn't read it is cut off by the connection
                await asyncio.wait(tasks[:2], return_when=asyncio.FIRST_COMPLETED)
        finally:
            topic.part(outlet, monotonic())
            self._streams.close_events(outlet)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _begin(self, outlet: Outlet) -> Topic:
        """Say where the reader is, and let it hear the rest, both in one go, so that nothing can come between."""
        market, seen = self._streams.market, self._last_event_id
        topic, _ = market.open(STREAM, self._symbol, self._interval)
        beginning = None if seen is None else market.resumption(topic, seen)
        while beginning is None and (beginning := market.beginning(topic)) is None:
            await market.prepare(topic)
        self._streams.open_events(outlet)
        outlet.say(beginning)
        topic.join(outlet)
        return topic


async def _send_all(mailbox: _Mailbox, outlet: Outlet, send: Send) -> None:
    """Send what is written, at the pace at which it is read, to the end of the stream."""
    while data := await mailbox.take():
        outlet.resume()
        await send({"type": "http.response.body", "body": data, "more_body": True})
    await send({"type": "http.response.body", "body": b""})
