"""A process's connection to NATS: sends in order without making anybody wait, hears, and comes back by itself.

Nothing is kept while the connection is lost: what is sent then is gone, and `send` says so. Commands that were on their way carry
a deadline, events are made up for from where they are owed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit, urlunsplit

import structlog

from ome.cluster.wire import Pieces, WireError, cut
from ome.domain.errors import OmeError

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription
    from nats.js import JetStreamContext

MISSING: Final = "NATS is not installed: pip install 'ome[cluster]'"
PAUSE_S: Final = 0.25
"""Seconds between two attempts to connect."""
SAID_EVERY_S: Final = 5.0
"""An error is logged once in so many seconds: one that lasts comes with every attempt."""
PING_S: Final = 2
"""Seconds between two questions for a sign of life; after two without an answer the connection is lost."""
NO_RESPONDERS: Final = "503"
MESSAGE_ID: Final = "Nats-Msg-Id"
"""The header by which JetStream knows a message that it has already."""
_HEADER_BYTES: Final = 256
"""Room for that header: it counts as part of the message."""
JETSTREAM_S: Final = 1.0
"""How long JetStream may take to answer."""

log = structlog.get_logger(__name__)


class Unheard(OmeError):
    """Nobody heard what was sent."""


class BusUnusable(OmeError):
    """NATS can't be used: wrong address or credentials, or the library isn't installed."""


Told = Callable[[str, bytes], None]
"""Is given the subject and the message; for a message that nobody heard, its reply subject and b""."""


class NatsConnection:
    """One connection."""

    def __init__(self, url: str, name: str) -> None:
        self._url = url
        self._name = name
        self._changed: Callable[[bool], None] = lambda _: None
        self._client: Client | None = None
        self._outbox: deque[tuple[str, bytes, str, dict[str, str] | None]] = deque()
        self._something = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self._sender: asyncio.Task[None] | None = None
        self._said_at = -SAID_EVERY_S
        self._asked: set[asyncio.Future[bytes]] = set()

    @property
    def is_connected(self) -> bool:
        """Whether what is sent now can be heard."""
        return self._client is not None and self._client.is_connected

    def watch(self, changed: Callable[[bool], None]) -> None:
        """Have `changed` told whenever the connection is lost or back."""
        self._changed = changed

    def jetstream(self) -> JetStreamContext:
        """NATS's own client of JetStream, over this connection."""
        return self._opened().jetstream(timeout=JETSTREAM_S)

    async def open(self) -> None:
        """Connect; a server that is away is waited for. Raises BusUnusable for what doesn't pass by itself."""
        try:
            import nats  # noqa: PLC0415  an extra
            import nats.errors  # noqa: PLC0415  likewise
        except ImportError:
            raise BusUnusable(MISSING) from None
        try:
            self._client = await nats.connect(
                self._url.split(","),
                name=self._name,
                connect_timeout=2,
                max_reconnect_attempts=-1,
                reconnect_time_wait=PAUSE_S,
                ping_interval=PING_S,
                max_outstanding_pings=2,
                skip_subject_validation=True,
                error_cb=self._failed,
                disconnected_cb=self._lost,
                reconnected_cb=self._back,
            )
        except (nats.errors.Error, ValueError) as error:
            raise BusUnusable(f"NATS can't be used at {shown(self._url)}: {error}. Check NATS_URL.") from error
        self._sender = asyncio.create_task(self._send_all(), name="nats")
        self._changed(True)  # noqa: FBT003  its one argument

    @property
    def most_bytes(self) -> int:
        """The largest message that the server takes."""
        return self._client.max_payload if self._client is not None else 1024 * 1024

    def send(self, subject: str, data: bytes, reply: str = "", message_id: str = "") -> bool:
        """Send behind all that was sent; False, and nothing is sent, while the connection is lost. JetStream keeps a message
        with an id once, however often it is sent; the pieces of one that is too large have ids of their own.
        """
        if not self.is_connected:
            return False
        if message_id:
            parts = cut(data, self.most_bytes - _HEADER_BYTES, message_id, 0)  # sent again they are the same
            self._outbox.extend(
                (subject, part, reply, {MESSAGE_ID: f"{message_id}.{number}"}) for number, part in enumerate(parts)
            )
        else:
            self._outbox.extend((subject, part, reply, None) for part in cut(data, self.most_bytes, self._name))
        self._something.set()
        self._empty.clear()
        return True

    async def hear(self, subject: str, told: Told) -> Callable[[], Awaitable[None]]:
        """Have `told` called with every message to a subject from now on, on the event loop; what is returned ends that, once
        it has been called with all that came until then: whoever sends after that is told that nobody hears.
        """
        subscription = await self._subscribe(subject, told)
        await self._opened().flush()
        return subscription.drain

    async def _subscribe(self, subject: str, told: Told) -> Subscription:
        """The same, in front of all that is sent after it."""
        pieces = Pieces()

        async def take(message: Msg) -> None:
            if not message.data and message.headers and message.headers.get("Status") == NO_RESPONDERS:
                told(message.subject, b"")
                return
            try:
                data = pieces.add(message.data)
                if data is not None:
                    told(message.subject, data)
            except WireError as error:
                log.warning("unreadable_message", subject=message.subject, error=str(error))

        return await self._opened().subscribe(subject, cb=take, pending_msgs_limit=0, pending_bytes_limit=0)

    async def ask(self, subject: str, data: bytes, within_s: float) -> bytes:
        """Send to whoever answers `subject`, and the answer; raises Unheard where none comes, and once the connection is lost."""
        client = self._opened()
        if not self.is_connected:
            raise Unheard(subject)
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def told(_: str, data: bytes) -> None:
            if not answer.done():
                answer.set_result(data)

        inbox = client.new_inbox()
        try:
            subscription = await self._subscribe(inbox, told)
        except Exception as error:
            raise Unheard(f"{subject}: the connection was lost") from error
        self._asked.add(answer)
        try:
            if not self.send(subject, data, inbox):
                raise Unheard(subject)
            async with asyncio.timeout(within_s):
                found = await answer
        except TimeoutError:
            raise Unheard(subject) from None
        finally:
            self._asked.discard(answer)
            with contextlib.suppress(Exception):  # the connection is lost, and the subscription with it
                await subscription.unsubscribe()
        if not found:
            raise Unheard(subject)
        return found

    async def answer(self, subject: str, made: Callable[[bytes], bytes]) -> Callable[[], Awaitable[None]]:
        """Answer what is asked at a subject; what is returned ends that."""
        pieces = Pieces()

        async def take(message: Msg) -> None:
            data = pieces.add(message.data)
            if data is not None:
                self.send(message.reply, made(data))

        client = self._opened()
        subscription = await client.subscribe(subject, cb=take, pending_msgs_limit=0, pending_bytes_limit=0)
        await client.flush()
        return subscription.unsubscribe

    async def flushed(self, within_s: float = 1.0) -> None:
        """Wait until all that was sent has reached the server, or has had this long."""
        client = self._client
        with contextlib.suppress(Exception):  # it was lost meanwhile
            async with asyncio.timeout(within_s):
                await self._empty.wait()
                if client is not None:
                    await client.flush()

    async def close(self) -> None:
        """End the connection."""
        sender, self._sender = self._sender, None
        if sender is not None:
            sender.cancel()
            await asyncio.wait([sender])
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(Exception):  # it ends in any case
                await client.close()

    def _opened(self) -> Client:
        if self._client is None:
            raise BusUnusable("NATS is not connected")
        return self._client

    async def _send_all(self) -> None:
        client, outbox = self._opened(), self._outbox
        while True:
            await self._something.wait()
            self._something.clear()
            while outbox:
                subject, data, reply, headers = outbox.popleft()
                if not client.is_connected:  # it would come after what is sent anew once the connection is back
                    continue
                try:
                    await client.publish(subject, data, reply, headers)
                except Exception as error:  # noqa: BLE001  lost between the look and the sending, as everything then
                    log.warning("not_sent", subject=subject, error=str(error) or type(error).__name__)
            self._empty.set()

    async def _failed(self, error: Exception) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._said_at > SAID_EVERY_S:
            self._said_at = now
            log.warning("nats_error", url=shown(self._url), error=str(error) or type(error).__name__)

    async def _lost(self) -> None:
        for answer in self._asked:
            if not answer.done():
                answer.set_result(b"")  # nobody has heard it, as far as can be known
        if self._sender is not None:
            log.warning("nats_lost", url=shown(self._url))
            self._changed(False)  # noqa: FBT003  as above

    async def _back(self) -> None:
        log.info("nats_back", url=shown(self._url))
        self._changed(True)  # noqa: FBT003  as above


def shown(url: str) -> str:
    """The address without what is secret in it."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))
