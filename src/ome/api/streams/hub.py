"""All streams of a process: the door for WebSockets, the sweep over those that are open, and their end.

One task sweeps all connections once a second, a few at a time: a heartbeat where it has been silent, a ping to those that have
not been heard, the end of those that don't answer or have not said who they are. So an idle connection costs no timer of its own.

At shutdown, when everything that was taken is durable and told, each connection gets a `shutdown` message and is
closed with 1012.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import secrets
from collections import Counter
from collections.abc import Collection
from itertools import chain
from time import monotonic
from typing import Final
from urllib.parse import urlsplit

import structlog
from starlette.types import Receive, Scope, Send
from websockets.frames import Frame, Opcode

from ome.api.auth import KEY_HEADER, Caller, Gate, Headers
from ome.api.orders import OrderRoutes
from ome.api.problems import FieldError, Problem
from ome.api.rate_limits import RateLimits
from ome.api.services import Lineage, Ports
from ome.api.settings import ApiSettings, StreamSettings
from ome.api.streams.market_topics import MarketTopics
from ome.api.streams.messages import notice
from ome.api.streams.order_events import Cursors, OrderEvents
from ome.api.streams.order_lane import Desk
from ome.api.streams.outlet import Outlet
from ome.api.streams.pump import Pump
from ome.api.streams.ring import QueueLimits
from ome.api.streams.session import UNAUTHENTICATED, Session, Sources
from ome.api.streams.sharded_order_events import ShardedCursors, ShardedOrderEvents
from ome.api.websocket import SOCKET, WebSocketConnection
from ome.domain.clock import now_us
from ome.domain.reasons import Reason
from ome.observability import Metrics

GOING_AWAY: Final = 1012
"""The close code of a service that restarts."""
NO_ANSWER: Final = 1011
"""The close code of a connection that doesn't answer pings."""
NOT_TEXT: Final = 1003
SWEEP_SECONDS: Final = 1.0
_PARTS: Final = 20
FREEZE_AT: Final = 500
"""New connections after which what they hold is left out of garbage collections; a connection has a hundred objects."""
PING: Final = 2
"""After how many heartbeats' time a connection that has not been heard is pinged."""
UNHEARD: Final = 4
"""After how many it is closed."""
SETTLE_SECONDS: Final = 5.0
"""How long shutting down waits for what was taken."""
_WITHOUT_DATA: Final = frozenset({"STARTING", "RECOVERING"})
_PING: Final = Frame(Opcode.PING, b"").serialize(mask=False)
_COMMENT: Final = b": heartbeat\n\n"
_AT_ONCE: Final = 64
"""Connections that are written to before others get their turn."""

log = structlog.get_logger(__name__)


class Streams:
    """Lives on the event loop; nothing runs before the first stream is opened."""

    def __init__(
        self,
        ports: Ports,
        gate: Gate,
        limits: RateLimits,
        routes: OrderRoutes,
        api: ApiSettings,
        settings: StreamSettings,
        metrics: Metrics,
        lineage: Lineage,
    ) -> None:
        queues = QueueLimits(settings.queue_messages, settings.queue_bytes)
        self.pump = Pump()
        self.market = MarketTopics(ports.market, ports.feed, self.pump, queues, lambda: lineage()[1])
        self.sharded: ShardedOrderEvents | None = None
        """The private channel of a gateway."""
        if ports.shards:
            self.sharded = ShardedOrderEvents(ports.shards, self.pump, queues, ShardedCursors(lineage, len(ports.shards)))
        self.orders = self.sharded or OrderEvents(ports.reads, self.pump, queues, Cursors(lineage, lambda: ports.bus.position))
        self.limits = queues
        self.settings = settings
        self.metrics = metrics
        self._bus = ports.bus
        self._gate = gate
        self._rate_limits = limits
        self._retry_after_seconds = api.retry_after_seconds
        desk = Desk(ports.entry, ports.bus, routes, api.retry_after_seconds)
        self._sources = Sources(self.market, self.orders, desk, gate, settings, api.retry_after_seconds, lineage)
        self._sockets: dict[Session, WebSocketConnection] = {}
        self._events: dict[Outlet, None] = {}
        self._sweeper: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._ids = itertools.count(1)
        self._prefix = secrets.token_hex(4)
        self._is_closed = False
        self._unfrozen = 0

    # WebSockets

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One WebSocket, from its handshake to its end; raises Problem where the handshake is refused."""
        headers: Headers = dict(scope["headers"])
        caller = self._admit(scope, headers)
        connection: WebSocketConnection = scope[SOCKET]
        address = self._rate_limits.address(scope)
        await send({"type": "websocket.accept"})
        connection.forget_handshake()
        outlet = Outlet(connection, self.limits)
        request_id = f"{self._prefix}-ws-{next(self._ids)}"
        session = Session(self._sources, outlet, caller, request_id, address)
        self._sockets[session] = connection
        self._freeze_now_and_then()
        connection.on_resume = outlet.resume
        self.opened()
        try:
            await self._converse(session, receive)
        finally:
            del self._sockets[session]
            self.closed(outlet)
            self._see_off(session)

    async def _converse(self, session: Session, receive: Receive) -> None:
        while True:
            message = await receive()
            if message["type"] != "websocket.receive":
                return
            text = message.get("text")
            if text is None:
                session.outlet.close(NOT_TEXT, "send JSON as text")
                return
            await session.take(text)

    def _freeze_now_and_then(self) -> None:
        """Leave connections that last out of garbage collections, which stop everything for a second where there are many."""
        self._unfrozen += 1
        if self._unfrozen >= FREEZE_AT <= len(self._sockets):
            self._unfrozen = 0
            gc.freeze()

    def _see_off(self, session: Session) -> None:
        """What is left to do for a connection that is gone; it goes on by itself."""
        task = asyncio.create_task(session.ended())
        self._ending.add(task)
        task.add_done_callback(self._seen_off)

    def _seen_off(self, task: asyncio.Task[None]) -> None:
        self._ending.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("disconnect_failed", error=str(error), error_type=type(error).__name__)

    def _admit(self, scope: Scope, headers: Headers) -> Caller:
        """Who connects; raises Problem for whom there is no way in."""
        if scope["query_string"]:
            message = "is no parameter of this route; send a key in the header X-API-Key or as a message, never in a URL"
            name = scope["query_string"].partition(b"=")[0][:64].decode("latin-1")
            raise Problem(Reason.INVALID_REQUEST, errors=[FieldError(name, message)])
        if SOCKET not in scope:
            raise Problem(Reason.NOT_SUPPORTED, "This server's WebSockets can't be used; start it with `ome serve`.")
        origin = headers.get(b"origin")
        if origin is not None and not self._is_own(origin.decode("latin-1"), headers):
            raise Problem(Reason.ORIGIN_NOT_ALLOWED)
        self.check_room()
        key = headers.get(KEY_HEADER)
        caller = self._gate.without_key() if key is None else self._gate.identify(key, scope)
        self._gate.check_host(caller, headers)
        return caller

    def _is_own(self, origin: str, headers: Headers) -> bool:
        """Whether a page of this origin may connect: the service's own pages, and those that a setting names."""
        if origin in self.settings.allowed_origins:
            return True
        return urlsplit(origin).netloc.lower() == headers.get(b"host", b"").decode("latin-1").lower() != ""

    def close_key(self, key_id: str) -> None:
        """End every WebSocket that a key has opened: it was revoked."""
        for session in self._sockets:
            if session.has_used(key_id):
                session.outlet.close(UNAUTHENTICATED, "the key was revoked")

    # Every stream

    def interrupt(self, symbols: Collection[str]) -> None:
        """End every stream that tells of one of these symbols, since what it was told can't be gone on from: whoever connects
        again starts from how things stand.
        """
        for topic in self.market.cut(symbols):
            for outlet in list(topic.outlets):
                outlet.close(GOING_AWAY, "market data was missed; connect again")

    def subscriptions(self) -> Counter[str]:
        """How many there are of each channel."""
        found: Counter[str] = Counter()
        for topic in (*self.market.topics(), *self.orders.topics()):
            found[topic.key[0]] += len(topic.outlets)
        return found

    def lag(self) -> int:
        """How many messages the slowest reader is behind."""
        outlets = chain((session.outlet for session in self._sockets), self._events)
        return max((outlet.lag for outlet in outlets), default=0)

    def check_room(self) -> None:
        """Raises Problem where no further stream can be opened."""
        retry_after = (b"retry-after", str(self._retry_after_seconds).encode())
        if self._is_closed or self._bus.state in _WITHOUT_DATA:
            raise Problem(Reason.NOT_ACCEPTING, headers=(retry_after,))
        if len(self._sockets) + len(self._events) >= self.settings.max_connections:
            raise Problem(Reason.TOO_MANY_CONNECTIONS, headers=(retry_after,))

    def open_events(self, outlet: Outlet) -> None:
        """Take in a stream of server-sent events."""
        self._events[outlet] = None
        self.opened()

    def close_events(self, outlet: Outlet) -> None:
        """It is gone."""
        self._events.pop(outlet, None)
        self.closed(outlet)

    def opened(self) -> None:
        """Count a stream."""
        self.metrics.streams_open(len(self._sockets) + len(self._events))
        if self._sweeper is None:
            self._sweeper = asyncio.create_task(self._sweep(), name="sweep streams")

    def closed(self, outlet: Outlet) -> None:
        """Count its end."""
        self.metrics.streams_open(len(self._sockets) + len(self._events))
        self.metrics.stream_closed(outlet.close_code)

    # The sweep

    async def _sweep(self) -> None:
        while True:
            sockets = list(self._sockets.items())
            share = len(sockets) // _PARTS + 1
            for start in range(0, share * _PARTS, share):
                await asyncio.sleep(SWEEP_SECONDS / _PARTS)
                now, beat = monotonic(), notice("heartbeat", now_us())
                for session, connection in sockets[start : start + share]:
                    self._look_at(session, connection, now, beat)
            now = monotonic()
            for outlet in list(self._events):
                if now - outlet.written_at >= self.settings.heartbeat_seconds:
                    outlet.say(_COMMENT)
            self.market.close_idle(now - self.settings.linger_seconds)
            self.orders.close_idle(now - self.settings.linger_seconds)

    def _look_at(self, session: Session, connection: WebSocketConnection, now: float, beat: bytes) -> None:
        outlet, interval = session.outlet, self.settings.heartbeat_seconds
        unheard = now - connection.heard_at
        if session.must_speak_by is not None and now >= session.must_speak_by:
            outlet.close(UNAUTHENTICATED, "no key in time: send it, or subscribe to public data")
        elif not session.may_stay:
            outlet.close(UNAUTHENTICATED, "the key has expired, or one is needed now")
        elif unheard >= UNHEARD * interval:
            outlet.close(NO_ANSWER, "no answer to pings")
        else:
            if now - outlet.written_at >= interval:
                outlet.say(beat)
            if unheard >= PING * interval and connection.pinged_at <= connection.heard_at:
                connection.pinged_at = now
                connection.write(_PING)

    # The end

    async def shutdown(self) -> None:
        """Tell what is left to tell, then end every stream; called once the engine has drained."""
        self._is_closed = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_SECONDS):
                await asyncio.gather(*(session.settled() for session in self._sockets))
        self.pump.finish()
        last = notice("shutdown", now_us(), detail="The service stops; connect again in a moment.")
        for number, session in enumerate(list(self._sockets), 1):
            session.outlet.say(last)
            session.outlet.close(GOING_AWAY, "the service stops")
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
        for outlet in list(self._events):
            outlet.close(GOING_AWAY, "the service stops")
        if self._sweeper is not None:
            self._sweeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sweeper
