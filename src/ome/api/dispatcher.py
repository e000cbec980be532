"""The door: a small ASGI application in front of the FastAPI one. Every request comes through here.

The routes that carry orders are served right here, from bytes to bytes, with every check and without middleware, dependency
solving or pydantic; that is what makes them twice as fast. FastAPI declares the same routes (`routes.orders`), so that OpenAPI
shows them. Everything else goes on to FastAPI. Either way each answer gets the security headers, a request id and a line
in the request log, and whatever is raised becomes a problem document: a client sees a 500 only for a bug, which is logged with
the request id.

A request for a single order that came whole needs no ASGI either (`Dispatcher.begin`): the connection hands over its head and its
body, and is called back with the answer. No task, no future and no scope that anything but the handlers looks at. Both ways read,
check and answer with the same functions (`orders.Direct`); a client can't tell which one it was.
"""

from __future__ import annotations

import itertools
import re
import secrets
from collections.abc import Awaitable, Callable, Sequence
from time import perf_counter
from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ome.api.auth import Gate, Headers, put_caller
from ome.api.bodies import ClientGone
from ome.api.failures import problem_of
from ome.api.orders import BATCH, HOT_ACCESS, ORDER, PREFIX, USERS, OrderRoutes, Reply
from ome.api.plain_requests import Head
from ome.api.problems import CONTENT_TYPE, Header, Problem, header_lines
from ome.api.rate_limits import rate_headers
from ome.api.refused_keys import RefusedKeys
from ome.api.services import FULL, Durability
from ome.api.settings import ApiSettings
from ome.api.streams.hub import Streams
from ome.domain.access import Access
from ome.domain.errors import NotAccepting
from ome.domain.ports import Answer, CommandBus
from ome.domain.reasons import Reason
from ome.observability import RequestLog

CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SECURITY_HEADERS: Final[tuple[Header, ...]] = (
    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
)
_NO_STORE: Final = (b"cache-control", b"no-store")
_JSON_HEADERS: Final = (*SECURITY_HEADERS, _NO_STORE, (b"content-type", b"application/json"))
PROBLEM_HEADERS: Final = (*SECURITY_HEADERS, _NO_STORE, (b"content-type", CONTENT_TYPE.encode()))
REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}")
CLIENT_GONE: Final = 499
"""What the request log says of a request whose client left before it was read: nothing was answered."""
WHOLE_ANSWER: Final = "ome.whole_answer"
"""The ASGI extension of a server whose `send` takes a whole answer at once: status, headers with a Content-Length, body."""
WEBSOCKET: Final = "/ws"
UNMATCHED: Final = "unmatched"
"""The route of a request that matched none, in logs and metrics: a path from outside is never a label."""
_WITHOUT_DATA: Final = frozenset({"STARTING", "RECOVERING"})
"""The states in which there is nothing to answer from yet."""
_ABOUT_ITSELF: Final = re.compile(r"/(health(/.*)?|metrics|docs(/.*)?|static/.*|openapi\.json)?")
"""The paths that need no data."""
_CHANGES: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_NO_EXTENSIONS: Final[dict[str, Any]] = {}
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

_ORDER_PATH: Final = re.compile(rb"/orders/[0-9]{1,19}")
_JSON_LINES: Final = header_lines(_JSON_HEADERS)
_PROBLEM_LINES: Final = header_lines(PROBLEM_HEADERS)

Handler = Callable[[Scope, Headers, Receive], Awaitable[Reply]]
SendDirectly = Callable[[int, bytes, Sequence[Header], bytes], None]
"""Takes an answer: status, the lines of those headers that are always the same, further headers, body."""


class Dispatcher:
    """`orders` serves the hot routes, `streams` the WebSockets, `app` all else; `request_log` gets a line for each answer."""

    def __init__(
        self,
        app: ASGIApp,
        orders: OrderRoutes,
        streams: Streams,
        gate: Gate,
        bus: CommandBus,
        request_log: RequestLog,
        settings: ApiSettings,
        durability: Durability,
    ) -> None:
        self._app = app
        self.streams = streams
        self.gate = gate
        self.refused_keys: RefusedKeys | None = None
        self._bus = bus
        self._farewell: tuple[Header, ...] = ()
        self._orders = orders
        self._direct = orders.direct()
        self._submit = _guarded(gate, HOT_ACCESS["POST", "/orders"], orders.submit)
        self._batch = _guarded(gate, HOT_ACCESS["POST", BATCH], orders.batch)
        by_id = {"GET": orders.read, "PUT": orders.modify, "DELETE": orders.cancel}
        self._by_id = {method: _guarded(gate, HOT_ACCESS[method, ORDER], handler) for method, handler in by_id.items()}
        self._request_log = request_log
        self._durability = durability
        self._retry_after_seconds = settings.retry_after_seconds
        self._max_head_bytes = settings.max_head_bytes
        self._id_prefix = secrets.token_hex(4)
        self._id_count = itertools.count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, one lifespan or one WebSocket, as ASGI has it."""
        if scope["type"] == "http":
            if scope["method"] == "HEAD":  # as GET, without the body
                scope, send = {**scope, "method": "GET", "ome.head": True, "extensions": {}}, _without_body(send)
            handler, route = self._hot_route(scope["method"], scope["path"])
            if _head_bytes(scope) > self._max_head_bytes:
                await self._serve(self._refuse_head, route or UNMATCHED, scope, receive, send)
            elif self._bus.state in _WITHOUT_DATA and not _ABOUT_ITSELF.fullmatch(scope["path"]):
                await self._serve(self._refuse_yet, route or UNMATCHED, scope, receive, send)
            elif handler is not None:
                await self._serve(handler, route, scope, receive, send)
            else:
                await self._forward(scope, receive, send)
        elif scope["type"] == "lifespan":
            try:
                await self._app(scope, receive, send)
            finally:
                self.flush()
        else:
            await self._websocket(scope, receive, send)

    def begin(self, head: Head, body: bytes, client: Any, send: SendDirectly) -> bool:
        """Serve a request that came whole; False where it isn't for a single order: then ASGI is its way.

        `send` is called once, now or when the command is durable. It must not raise.
        """
        route = "/orders" if head.target == b"/orders" else ORDER
        if (head.method == "POST") is not (route == "/orders") or (route == ORDER and not _ORDER_PATH.fullmatch(head.target)):
            return False
        if self._bus.state in _WITHOUT_DATA:
            return False
        direct, headers = self._direct[head.method], head.headers
        scope: Scope = {
            "method": head.method,
            "path": head.target.decode(),
            "query_string": b"",
            "headers": headers.items(),
            "client": client,
            "ome.request_id": self._request_id(headers),
        }
        exchange = _Exchange(self, scope, route, direct.show, send)
        try:
            put_caller(scope, self.gate.admit(direct.access, headers, scope))
            self._orders.begin(direct.read(scope, headers, body), exchange.told)
        except Exception as error:  # noqa: BLE001  whatever it is, the client gets a problem document
            exchange.told(error)
        return True

    def flush(self) -> None:
        """Write what the request log has collected; for whoever serves without ASGI's lifespan, when it has stopped."""
        self._request_log.flush()

    def say_farewell(self) -> None:
        """From now on let each answer be the last on its connection: the service stops."""
        self._farewell = ((b"connection", b"close"),)

    def _hot_route(self, method: str, path: str) -> tuple[Handler | None, str]:
        if path == "/orders":
            return (self._submit if method == "POST" else None), "/orders"
        if path.startswith(PREFIX) and path.find("/", len(PREFIX)) < 0:
            if path == BATCH:
                return (self._batch if method == "POST" else _refuse_method), BATCH
            if path == USERS:
                return _refuse_path, UNMATCHED
            return self._by_id.get(method), ORDER
        return None, ""

    async def _serve(self, handler: Handler, route: str, scope: Scope, receive: Receive, send: Send) -> None:
        started = perf_counter()
        headers: Headers = dict(scope["headers"])
        request_id = scope["ome.request_id"] = self._request_id(headers)
        code = ""
        base: Sequence[Header] = _JSON_HEADERS
        try:
            status, body, further = await handler(scope, headers, receive)
        except ClientGone:
            self._request_log.add(_method(scope), route, CLIENT_GONE, started, request_id, code, 0)
            return
        except Exception as error:  # noqa: BLE001  whatever it is, the client gets a problem document
            (status, body, further), code = self._refusal(error, scope)
            base = PROBLEM_HEADERS
        own = self._own_headers(scope, status, body)
        extension = scope.get("extensions", _NO_EXTENSIONS).get(WHOLE_ANSWER)
        if extension is not None:
            await extension["send"](status, (*base, *own, *further), body)
        else:
            await send({"type": "http.response.start", "status": status, "headers": [*base, *own, *further]})
            await send({"type": "http.response.body", "body": body})
        self._request_log.add(_method(scope), route, status, started, request_id, code, len(body))

    def finish(self, exchange: _Exchange, outcome: Answer | Exception) -> None:
        """Send the answer of a request that was begun, and write it down."""
        scope, code, lines = exchange.scope, "", _JSON_LINES
        try:
            if isinstance(outcome, Exception):
                raise outcome
            status, body, further = exchange.show(outcome)
        except Exception as error:  # noqa: BLE001  as above
            (status, body, further), code = self._refusal(error, scope)
            lines = _PROBLEM_LINES
        method, started, request_id = scope["method"], exchange.started, scope["ome.request_id"]
        lines = b"%bcontent-length: %d\r\nx-request-id: %b\r\n" % (lines, len(body), request_id.encode())
        exchange.send(status, lines, (*self._caveat(scope, status), *further), body)
        self._request_log.add(method, exchange.route, status, started, request_id, code, len(body))

    def _refusal(self, error: Exception, scope: Scope) -> tuple[Reply, str]:
        """The problem document for an error, and its code."""
        request_id = scope["ome.request_id"]
        problem = problem_of(error, request_id, self._retry_after_seconds)
        body = problem.render(scope["method"], scope["path"], request_id)
        return (problem.status, body, problem.headers), problem.reason.code

    def _own_headers(self, scope: Scope, status: int, body: bytes) -> Sequence[Header]:
        """What only this answer has."""
        request_id = scope["ome.request_id"].encode()
        return ((b"content-length", b"%d" % len(body)), (b"x-request-id", request_id), *self._caveat(scope, status))

    async def _refuse_head(self, _scope: Scope, _headers: Headers, _receive: Receive) -> Reply:
        raise Problem(Reason.HEADERS_TOO_LARGE)

    async def _refuse_yet(self, _scope: Scope, _headers: Headers, _receive: Receive) -> Reply:
        raise NotAccepting(self._bus.state.lower())

    async def _forward(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = perf_counter()
        request_id = self._request_id(dict(scope["headers"]))
        scope["ome.request_id"] = request_id
        root = scope.get("root_path", "")
        answer = _Answer(send, request_id, lambda status: self._caveat(scope, status))
        try:
            await self._app(scope, receive, answer)
        except ClientGone:
            answer.status = CLIENT_GONE
        except Exception as error:  # noqa: BLE001  as above
            problem = problem_of(error, request_id, self._retry_after_seconds)
            answer.code = problem.reason.code
            if not answer.status:
                await _send_problem(problem, scope, answer)
        mounted: str = scope.get("root_path", "").removeprefix(root)  # of files; routing leaves it in the scope
        route = getattr(scope.get("route"), "path", mounted) or UNMATCHED
        code = scope.get("ome.code", answer.code)
        self._request_log.add(_method(scope), route, answer.status, started, request_id, code, answer.size)

    def _caveat(self, scope: Scope, status: int) -> Sequence[Header]:
        """What goes with the good answer to a change where commits are less than durable (DUR1), what is left of the caller's
        rate limit, and what goes with the last answer.
        """
        rate = rate_headers(scope)
        if status >= 300 or scope["method"] not in _CHANGES or (durability := self._durability()) == FULL:
            return (*rate, *self._farewell) if rate else self._farewell
        return ((b"x-durability", durability.encode()), *rate, *self._farewell)

    def _request_id(self, headers: Headers) -> str:
        given = headers.get(b"x-request-id")
        if given is not None and REQUEST_ID.fullmatch(given):
            return given.decode("ascii")
        return f"{self._id_prefix}-{next(self._id_count)}"

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A WebSocket, or the refusal of its handshake: with a problem document where the server can send one."""
        await receive()
        try:
            if scope["path"] != WEBSOCKET:
                raise Problem(Reason.ROUTE_NOT_FOUND)
            await self.streams(scope, receive, send)
        except Problem as problem:
            await self._refuse_handshake(problem, scope, send)

    async def _refuse_handshake(self, problem: Problem, scope: Scope, send: Send) -> None:
        if "websocket.http.response" not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": 1000})
            return
        request_id = self._request_id(dict(scope["headers"]))
        body = problem.render("GET", scope["path"], request_id)
        headers = [*PROBLEM_HEADERS, *problem.headers, (b"x-request-id", request_id.encode())]
        await send({"type": "websocket.http.response.start", "status": problem.status, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": body})


class _Exchange:
    """A request that was begun directly, until its answer."""

    __slots__ = ("_dispatcher", "route", "scope", "send", "show", "started")

    def __init__(
        self, dispatcher: Dispatcher, scope: Scope, route: str, show: Callable[[Answer], Reply], send: SendDirectly
    ) -> None:
        self._dispatcher = dispatcher
        self.scope = scope
        self.route = route
        self.show = show
        self.send = send
        self.started = perf_counter()

    def told(self, outcome: Answer | Exception) -> None:
        """What came of it."""
        self._dispatcher.finish(self, outcome)


def _guarded(gate: Gate, access: Access, handler: Handler) -> Handler:
    """The handler behind the gate."""

    def guarded(scope: Scope, headers: Headers, receive: Receive) -> Awaitable[Reply]:
        put_caller(scope, gate.admit(access, headers, scope))
        return handler(scope, headers, receive)

    return guarded


async def _refuse_method(_scope: Scope, _headers: Headers, _receive: Receive) -> Reply:
    """`batch` is no order's id: its path takes POST alone."""
    raise Problem(Reason.METHOD_NOT_ALLOWED, headers=((b"allow", b"POST"),))


async def _refuse_path(_scope: Scope, _headers: Headers, _receive: Receive) -> Reply:
    """Nor is `user`."""
    raise Problem(Reason.ROUTE_NOT_FOUND)


class _Answer:
    """What FastAPI sends, on its way out: gets the headers that every answer has, and is measured."""

    __slots__ = ("_caveat", "_request_id", "_send", "code", "size", "status")

    def __init__(self, send: Send, request_id: str, caveat: Callable[[int], Sequence[Header]]) -> None:
        self._caveat = caveat
        self._send = send
        self._request_id = request_id
        self.status = 0
        self.size = 0
        self.code = ""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers: list[Header] = list(message.get("headers", ()))
            if not any(name == b"cache-control" for name, _ in headers):
                headers.append(_NO_STORE)
            own = (b"x-request-id", self._request_id.encode())
            message = {**message, "headers": [*headers, *SECURITY_HEADERS, own, *self._caveat(self.status)]}
        else:
            self.size += len(message.get("body", b""))
        await self._send(message)


def _method(scope: Scope) -> str:
    """The request's method for logs and metrics: one of a closed set."""
    if "ome.head" in scope:
        return "HEAD"
    return scope["method"] if scope["method"] in _METHODS else "OTHER"


def _without_body(send: Send) -> Send:
    """What answers HEAD: the headers of GET, its Content-Length included."""

    async def send_head(message: Message) -> None:
        await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

    return send_head


def _head_bytes(scope: Scope) -> int:
    """The size of a request's path, query and headers."""
    return len(scope["path"]) + len(scope["query_string"]) + sum([len(name) + len(value) for name, value in scope["headers"]])


async def _send_problem(problem: Problem, scope: Scope, send: Callable[[Any], Awaitable[None]]) -> None:
    body = problem.render(scope["method"], scope["path"], scope["ome.request_id"])
    headers = [(b"content-type", CONTENT_TYPE.encode()), (b"content-length", b"%d" % len(body)), *problem.headers]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
