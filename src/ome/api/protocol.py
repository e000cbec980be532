"""The connection below the edge: uvicorn's, with bounds, and with its manners mended.

What it refuses by itself is a problem document too: bytes that aren't HTTP, lengths that contradict each other, an endless path
or head or body, a request that doesn't come to its end in time, a request too many. A client that ends its side of the
connection right after its request still gets the answer. Either way requests that came whole are answered first, in their
order; then the connection ends: what the client still sends is read and dropped for a moment, so that it can read why.

`ome.api.connections` says how long each thing may take. `receive_by` and `send_by` are moments of the event loop's clock: when
the client must have sent what it owes, and taken what it is owed; infinite where it owes nothing.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from http import HTTPStatus
from math import inf
from typing import Any, Final, cast

from uvicorn._types import ASGI3Application
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from ome.api.connections import LINGER_BYTES, LINGER_S, Connections
from ome.api.dispatcher import PROBLEM_HEADERS, REQUEST_ID, WHOLE_ANSWER, SendDirectly
from ome.api.plain_requests import Head, is_head_of_one, plain_request
from ome.api.problems import MAX_INSTANCE, Header, Problem, header_lines
from ome.domain.numbers import pack
from ome.domain.reasons import TABLE, Reason

_MAX_URL_BYTES: Final = 0xFFFF
"""Longest path and query that the parser of URLs takes."""
_PIECE_BYTES: Final = 4096
"""What is parsed at a time: an order fits, and what is too much is noticed before it has been kept."""
_STREAM: Final = "/stream"
"""How the path of an answer ends that lasts as long as its reader; it isn't counted among the requests that are worked on."""

_PLACEHOLDER: Final = "{request id}"
"""Stands for the request id; no path can hold it, for its blanks and braces are escaped there."""
_CLOSES: Final = b"connection: close\r\n"
_HEADERS: Final = header_lines(PROBLEM_HEADERS)
_OVERLOADED: Final = STATUS_LINE[TABLE[Reason.OVERLOADED].status]

Direct = Callable[[Head, bytes, tuple[str, int] | None, SendDirectly], bool]

_ORDERS: Final = b"/orders"
"""What is refused unparsed: kill switches and timers are not."""
_ID_PREFIX: Final = secrets.token_hex(4).encode()
_ID_BYTES: Final = len(_ID_PREFIX) + len("-r") + 9
_id_count: Final = itertools.count(1)


class _Flow(FlowControl):
    """uvicorn's, which can be held: a request that asks for its body must not open the tap while there is enough to do."""

    is_held = False

    def resume_reading(self) -> None:
        """Read on, unless held."""
        if not self.is_held:
            super().resume_reading()


class _NoEvent:
    """Nobody waits for more of a request that is answered directly."""

    def set(self) -> None:
        """Nothing to do."""


class _DirectCycle:
    """A request that is answered directly, as the connection sees it: in the place of uvicorn's cycle, which runs ASGI."""

    __slots__ = ("_connection", "disconnected", "keep_alive", "response_complete", "response_started", "waiting_for_100_continue")

    more_body = False
    message_event = _NoEvent()

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.disconnected = self.response_complete = self.response_started = self.waiting_for_100_continue = False
        self.keep_alive = True

    def send(self, status: int, lines: bytes, headers: Iterable[Header], body: bytes) -> None:
        """Send the answer, unless nobody is there any more."""
        self._connection.answer_directly(self, status, lines, headers, body)


Cycle = RequestResponseCycle | _DirectCycle


class _Dropped(list[tuple[bytes, bytes]]):
    """Takes in trailers, and keeps none."""

    def append(self, _trailer: tuple[bytes, bytes]) -> None:
        """Drop it."""


class Connection(HttpToolsProtocol):
    """One client's connection, watched over by `watch`."""

    url = b""
    flow: _Flow

    def __init__(
        self,
        watch: Connections,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        direct: Direct | None = None,
    ) -> None:
        """`direct` is asked first about each request that comes whole and plain; see `Dispatcher.begin`."""
        super().__init__(config, server_state, app_state, _loop)
        self._direct = direct
        self.receive_by = inf
        self.send_by = inf
        self._watch = watch
        self._limits = watch.limits
        self._address = ""
        self._last_words: bytes | None = None
        """What is sent before the connection ends, once every whole request is answered; None while more may come."""
        self._is_ending = False
        """Nothing more is said; what still comes is dropped."""
        self._worked_on: asyncio.Task[None] | _DirectCycle | None = None
        """The handler, or request, that has one of the slots for requests; one at a time, the others of a connection wait."""
        self._in_head = False
        self._in_body = False
        self._received = 0
        """Bytes of the message that is being received, framing included."""
        self._fresh = 0
        """Bytes of the piece that is being parsed, until a message has begun in it."""
        self._unread = b""
        """What came after enough pipelined requests."""
        self._held = b""
        """A plain request whose body isn't all there yet; the parser hasn't seen it."""
        self._begun_by = inf
        """When the request must be here that the parser is about to see the beginning of, where that was held."""

    # From the transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Stay, if there is room."""
        super().connection_made(transport)
        self.flow = _Flow(transport)
        self._address = self.client[0] if self.client else ""
        if self._watch.has_room_for(self._address, len(self.connections)):
            self._watch.join(self, self._address)
            self.receive_by = self.loop.time() + self._limits.receive_timeout_s
            return
        self._is_ending = True
        self._watch.refused(Reason.TOO_MANY_CONNECTIONS)
        transport.write(self._rendered(Reason.TOO_MANY_CONNECTIONS))
        transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._watch.leave(self, self._address)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on, unless this connection is about to end."""
        if self._unread:
            self._unread += data
        elif self._is_ending:
            self._received += len(data)
            if self._received > LINGER_BYTES:
                self._close(self.loop.time())
        elif self._last_words is None:
            data = self._held + data
            if not self._takes(data):
                self._hand_over(data)

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio's signature; uvicorn's says None
        """The client sends no more: keep the connection for the answers that it waits for."""
        self._hand_over(self._held)
        return not self._is_ending and self._ends_after_answers(b"")

    def pause_writing(self) -> None:
        """The client doesn't read as fast as it asks."""
        super().pause_writing()
        self.send_by = self.loop.time() + self._limits.send_timeout_s

    def resume_writing(self) -> None:
        """It does."""
        super().resume_writing()
        if not self.transport.is_closing():
            self.send_by = inf

    def shutdown(self) -> None:
        """The server stops."""
        self._hand_over(self._held)
        if self._is_ending:
            self.transport.abort()
        else:
            super().shutdown()

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over; its deadlines are another's from here on."""
        self._watch.leave(self, self._address)
        self._is_ending = True
        super().handle_websocket_upgrade()
        self.parser = None  # type: ignore[assignment]  # it holds this object, and this object it: nothing else would part them

    # Time

    def is_late(self, now: float) -> None:
        """One of the two deadlines has passed."""
        if self.send_by <= now:
            if self.transport.is_closing() or self.transport.get_write_buffer_size():
                self.transport.abort()
                return
            self.send_by = inf
        if self.receive_by > now:
            return
        self._hand_over(self._held)
        if self._is_ending:  # it has been told why; half a request is still half a request
            self._close(now)
        elif self.flow.read_paused:  # it may have been sent: this side doesn't read
            self.receive_by = now + self._limits.receive_timeout_s
        elif self._in_head or (self._in_body and not self.cycle.response_complete):
            self._refuse(Reason.REQUEST_TIMEOUT)
        else:
            self._close(now)

    def _close(self, now: float) -> None:
        self.transport.close()
        self.receive_by, self.send_by = inf, now + self._limits.send_timeout_s

    # From the parser

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self._in_head = True
        self._received, self._fresh = self._fresh, 0
        self.receive_by = min(self._begun_by, self.loop.time() + self._limits.receive_timeout_s)
        self._begun_by = inf

    def on_headers_complete(self) -> None:
        """Its head is whole."""
        super().on_headers_complete()
        self._in_head, self._in_body = False, True
        if not self.parser.should_upgrade():
            self.headers = _Dropped()  # what the parser calls headers from here on are trailers, which must not pass for them

    def on_message_complete(self) -> None:
        """It is whole."""
        super().on_message_complete()
        self._in_body = False
        if self.cycle is not None:  # there is none for the handshake of a WebSocket
            self.receive_by = self.loop.time() + self._limits.keep_alive_s if self.cycle.response_complete else inf

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  uvicorn's words say less
        """Refuse what can't be read: nothing after it can be told apart."""
        self._refuse(Reason.HEADERS_TOO_LARGE if len(self.url) > _MAX_URL_BYTES else Reason.MALFORMED_REQUEST)

    def _read(self, data: bytes) -> None:
        """Parse what came, in pieces, until this connection ends or enough requests wait on it."""
        for start in range(0, len(data), _PIECE_BYTES):
            if len(self.pipeline) >= self._limits.pipelined:
                self._unread = data[start:]
                self.flow.pause_reading()
                self.flow.is_held = True
                return
            self._feed(data if len(data) <= _PIECE_BYTES else data[start : start + _PIECE_BYTES])
            if self._is_ending or self._last_words is not None:
                return

    def _feed(self, piece: bytes) -> None:
        size = len(piece)
        if self._in_head or self._in_body:
            self._received += size
            self._fresh = 0
        else:
            self._fresh = size
        super().data_received(piece)
        if self._in_head:
            if self._received > self._limits.head_bytes:
                self._refuse(Reason.HEADERS_TOO_LARGE)
        elif self._in_body and self._received > self._limits.message_bytes:
            self._refuse(Reason.BODY_TOO_LARGE, pack(self._limits.message_bytes // 2, 0))

    def _read_on(self) -> None:
        """There is room for what came after enough pipelined requests."""
        data, self._unread = self._unread, b""
        if self._is_ending or self._last_words is not None:
            return
        self.flow.is_held = False
        self._read(data)
        if not self._unread:
            self.flow.resume_reading()

    # Requests and answers

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        """Work on a request, if there is room."""
        method, path = cycle.scope["method"], cycle.scope["path"]
        if not self._watch.admits(method, path):
            self._turn_away(cycle, method)
            return
        cycle.scope["extensions"] = {WHOLE_ANSWER: {"send": partial(self._send_whole, cycle)}}
        task = self.loop.create_task(cycle.run_asgi(app))
        self.tasks.add(task)
        if path.endswith(_STREAM):
            task.add_done_callback(self.tasks.discard)
        else:
            self._worked_on = task
            self._watch.requests += 1
            task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        """A handler has ended, after its answer or, its client gone, without one."""
        self.tasks.discard(task)
        if self._worked_on is task:
            self._give_back()

    def _give_back(self) -> None:
        """Its slot is the next one's."""
        if self._worked_on is not None:
            self._worked_on = None
            self._watch.requests -= 1

    def _turn_away(self, cycle: RequestResponseCycle, method: str) -> None:
        """Answer OVERLOADED at once; the connection stays."""
        self._watch.refused(Reason.OVERLOADED)
        given = next((value for name, value in cycle.scope["headers"] if name == b"x-request-id"), b"")
        request_id = given if REQUEST_ID.fullmatch(given) else b""
        answer = self._rendered(Reason.OVERLOADED, request_id=request_id, keeps=cycle.keep_alive, is_head=method == "HEAD")
        cycle.response_started = cycle.response_complete = True
        if cycle.keep_alive:
            self.transport.write(answer)
            self.on_response_complete()
        else:
            self._end(answer)

    def _takes(self, data: bytes) -> bool:
        """Deal with one plain request without parser and ASGI, once it is whole; False for whatever isn't one."""
        cycle = self.cycle
        if self._in_head or self._in_body or (cycle is not None and not cycle.response_complete) or self.flow.write_paused:
            return False
        request = plain_request(data)
        if request is None:
            return self._holds(data)
        head, body = request
        if self._watch.is_full and head.method != "DELETE" and head.target.startswith(_ORDERS):
            self._held = b""
            self._turn_away_unparsed(head)
            return True
        if self._direct is None or not self._watch.admits(head.method, ""):
            return False
        direct = _DirectCycle(self)
        if not self._direct(head, body, self.client, direct.send):
            return False
        self._held = b""
        if not direct.response_complete:
            self.cycle = direct  # type: ignore[assignment]  # has what is looked at from here on
            self.receive_by = inf
            self._worked_on = direct
            self._watch.requests += 1
        return True

    def _holds(self, data: bytes) -> bool:
        """Keep a plain request until its body has come."""
        if self._direct is None or not is_head_of_one(data, _PIECE_BYTES):
            return False
        if not self._held:
            self.receive_by = self.loop.time() + self._limits.receive_timeout_s
        self._held = data
        return True

    def _hand_over(self, data: bytes) -> None:
        """Have the parser read, with what was held: that has no longer to come than it had."""
        if self._held:
            self._held, self._begun_by = b"", self.receive_by
        if data:
            self._read(data)

    def answer_directly(self, cycle: _DirectCycle, status: int, lines: bytes, headers: Iterable[Header], body: bytes) -> None:
        """Send an answer that was begun here."""
        if cast("Cycle", self.cycle) is cycle:
            self.cycle = None  # type: ignore[assignment]  # each would hold the other
        if cycle.disconnected or self.transport.is_closing():
            cycle.response_complete = True
            if self._worked_on is cycle:
                self._give_back()
        else:
            self._write(cycle, status, lines, headers, body)

    def _turn_away_unparsed(self, head: Head) -> None:
        """Refuse an order.

        Under twice the load that can be carried more than half of all requests are refused, and each takes from the orders what
        it costs: for nine tenths of the peak it has to cost less than an eleventh of an order.
        """
        self._watch.refused(Reason.OVERLOADED)
        self.server_state.total_requests += 1
        request_id = b"%b-r%09d" % (_ID_PREFIX, next(_id_count) % 1_000_000_000)
        before, middle, end = _refusal(head.target, self._limits.retry_after_s)
        defaults = self._watch.default_lines(self.server_state.default_headers)
        self.transport.write(b"%b%b%b%b%b%b%b" % (_OVERLOADED, defaults, before, request_id, middle, request_id, end))
        self.receive_by = self.loop.time() + self._limits.keep_alive_s

    async def _send_whole(self, cycle: RequestResponseCycle, status: int, headers: Iterable[Header], body: bytes) -> None:
        """Send an answer at once. ASGI's two messages become two packets, and the second costs as much as the first."""
        if self.flow.write_paused and not cycle.disconnected:
            await self.flow.drain()
        if not cycle.disconnected:
            self._write(cycle, status, b"", headers, body)

    def _write(self, cycle: Cycle, status: int, lines: bytes, headers: Iterable[Header], body: bytes) -> None:
        """Send an answer in one packet: its status, the server's headers, `lines`, `headers`."""
        parts = [STATUS_LINE[status], self._watch.default_lines(self.server_state.default_headers), lines]
        closes = b"" if cycle.keep_alive else _CLOSES
        for name, value in headers:
            parts.append(b"%b: %b\r\n" % (name, value))
            if name == b"connection":  # the service stops
                cycle.keep_alive, closes = False, b""
        parts += (closes, b"\r\n", body)
        cycle.waiting_for_100_continue = False
        cycle.response_started = cycle.response_complete = True
        self.transport.write(b"".join(parts))
        cycle.message_event.set()
        if not cycle.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def on_response_complete(self) -> None:
        """Go on with the next request, or wait for it, or end."""
        self.server_state.total_requests += 1
        self._give_back()
        now = self.loop.time()
        if self.transport.is_closing():
            self.send_by = now + self._limits.send_timeout_s
            return
        if self.transport.get_write_buffer_size():
            self.send_by = now + self._limits.send_timeout_s
        self.flow.resume_reading()
        if self.pipeline:
            if self._in_body:  # it wasn't read while it had to wait
                self.receive_by = now + self._limits.receive_timeout_s
            self._start_asgi_task(*self.pipeline.pop())
        elif self._last_words is not None:
            self._end(self._last_words)
        elif not self._in_head and not self._in_body:
            self.receive_by = now + self._limits.keep_alive_s
        if self._unread and len(self.pipeline) < self._limits.pipelined:
            self.loop.call_soon(self._read_on)

    # The end

    def _refuse(self, reason: Reason, limit: int | None = None) -> None:
        """Say what is wrong, after the answers to requests that came whole, and end the connection, once."""
        if self._is_ending or self._last_words is not None:
            return
        self._watch.refused(reason)
        refusal = self._rendered(reason, limit)
        if self._ends_after_answers(refusal):
            return
        cycle = self.cycle
        if self._in_body and not self._in_head:
            if cycle.response_started:  # it has had an answer, or is in the middle of one
                refusal = b""
            cycle.disconnected = True
            cycle.message_event.set()
        self._end(refusal)

    def _ends_after_answers(self, last_words: bytes) -> bool:
        """End after the answers to requests that came whole, `last_words` behind them; False if none is awaited."""
        cycle = self.cycle
        if self.pipeline and cycle.more_body:
            self.pipeline.popleft()  # half a request: it would wait for its other half for ever
        elif cycle is None or cycle.response_complete or cycle.more_body:
            return False
        self._last_words = last_words
        self.receive_by = inf
        return True

    def _end(self, last_words: bytes) -> None:
        """Say the last, and that it was the last; read on for a moment, lest the client lose it."""
        self._is_ending = True
        if not last_words:
            self._close(self.loop.time())
            return
        self.transport.write(last_words)
        self.transport.write_eof()
        self.flow.resume_reading()
        self.receive_by = self.loop.time() + LINGER_S

    def _rendered(
        self, reason: Reason, limit: int | None = None, *, request_id: bytes = b"", keeps: bool = False, is_head: bool = False
    ) -> bytes:
        """An answer in full; a request too many, or too slow, must cost next to nothing."""
        request_id = request_id or b"%b-r%09d" % (_ID_PREFIX, next(_id_count) % 1_000_000_000)
        before, after = _document(reason, limit, self.url[: 3 * MAX_INSTANCE].partition(b"?")[0])
        status = TABLE[reason].status
        lines = [STATUS_LINE[status], self._watch.default_lines(self.server_state.default_headers), _HEADERS]
        lines.append(b"x-request-id: %b\r\ncontent-length: %d\r\n" % (request_id, len(before) + len(request_id) + len(after)))
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            lines.append(b"retry-after: %d\r\n" % self._limits.retry_after_s)
        if not keeps:
            lines.append(_CLOSES)
        lines.append(b"\r\n")
        if not is_head:
            lines += (before, request_id, after)
        return b"".join(lines)


@lru_cache(maxsize=256)
def _refusal(path: bytes, retry_after_s: int) -> tuple[bytes, bytes, bytes]:
    """An answer OVERLOADED that keeps the connection, behind the server's headers and around the two places of its request id,
    which has `_ID_BYTES`.
    """
    before, after = _document(Reason.OVERLOADED, None, path.partition(b"?")[0])
    size = len(before) + _ID_BYTES + len(after)
    lines = b"%bretry-after: %d\r\ncontent-length: %d\r\nx-request-id: " % (_HEADERS, retry_after_s, size)
    return lines, b"\r\n\r\n" + before, after


@lru_cache(maxsize=256)
def _document(reason: Reason, limit: int | None, path: bytes) -> tuple[bytes, bytes]:
    """The body of a refusal, before and after its request id."""
    body = Problem(reason, limit=limit).render("POST", path.decode("latin-1"), _PLACEHOLDER)
    before, _, after = body.partition(_PLACEHOLDER.encode())
    return before, after
