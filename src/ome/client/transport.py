"""Requests that are sent again until they are answered, or a deadline passes.

What may be sent again: anything that certainly wasn't executed (no connection, 408, 429, 503), after Retry-After or a growing
pause; and, where the caller says that a repetition does no harm (`repeatable`), what may have been executed: a connection that
broke, an answer that didn't come, a 5xx. An `Answer` says whether an attempt before it had such an end.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, TypeVar

import httpx
import msgspec

from ome.client.errors import (
    NOT_EXECUTED,
    UNKNOWN,
    ClientError,
    Problem,
    Refused,
    Unavailable,
    UnexpectedAnswer,
    Unknown,
)

FIRST_PAUSE_SECONDS: Final = 0.05
LONGEST_PAUSE_SECONDS: Final = 2.0
ATTEMPT_SECONDS: Final = 15.0
"""How long one attempt may take; the service itself answers within CLIENT_WAIT_SEC, 5 seconds by default."""
KEEP_SECONDS: Final = 20.0
"""How long a connection is kept for the next request: less than any service keeps it."""
CONNECTIONS: Final = 64
KEY_HEADER: Final = "X-API-Key"
_NOT_NOW: Final = frozenset({408, 429, 503})
_NEVER_SENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)

T = TypeVar("T")


class Answer(NamedTuple):
    """A definite one: 2xx with `content`, or a refusal with its `problem`. `was_unclear`: an attempt before it got none."""

    content: bytes
    problem: Problem | None
    was_unclear: bool

    def read(self, form: type[T], client_order_id: str | None = None) -> T:
        """What was answered. Raises Refused, or UnexpectedAnswer for what isn't of that form."""
        if self.problem is not None:
            raise Refused(self.problem, client_order_id=client_order_id)
        return decode(self.content, form)


def decode(content: bytes | str, form: type[T]) -> T:
    """JSON of that form. Raises UnexpectedAnswer."""
    try:
        return msgspec.json.decode(content, type=form)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        problem = Problem(code="unexpected_answer", detail=f"The answer is not as this client knows it: {error}.")
        raise UnexpectedAnswer(problem) from error


class Pauses:
    """How long to wait before each attempt but the first: doubling, with jitter, so that clients don't come back all at once."""

    def __init__(self, longest_seconds: float = LONGEST_PAUSE_SECONDS) -> None:
        self._longest = longest_seconds
        self._next = FIRST_PAUSE_SECONDS

    def next(self, at_least: float = 0.0) -> float:
        """The next pause in seconds; no shorter than was asked for."""
        pause = self._next
        self._next = min(self._longest, 2 * pause)
        return max(at_least, pause * random.uniform(0.5, 1.0))  # noqa: S311  jitter is no secret

    def reset(self) -> None:
        """It went well: start with a short one again."""
        self._next = FIRST_PAUSE_SECONDS


class Transport:
    """Connections to one service. `deadline_seconds` is how long a call may take, all its attempts together."""

    def __init__(
        self, url: str, api_key: str | None, deadline_seconds: float, transport: httpx.AsyncBaseTransport | None
    ) -> None:
        self._deadline_seconds = deadline_seconds
        self._http = httpx.AsyncClient(
            base_url=url,
            headers={KEY_HEADER: api_key} if api_key else None,
            timeout=ATTEMPT_SECONDS,
            limits=httpx.Limits(max_connections=CONNECTIONS, keepalive_expiry=KEEP_SECONDS),
            transport=transport,
        )

    async def close(self) -> None:
        """Close every connection."""
        await self._http.aclose()

    async def ask(self, form: type[T], path: str, **parameters: Any) -> T:
        """GET something of that form; parameters that are None are left out. Raises Refused, Unavailable, UnexpectedAnswer."""
        return (await self.send("GET", path, parameters=parameters)).read(form)

    async def send(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        parameters: Mapping[str, Any] | None = None,
        repeatable: bool = True,
        client_order_id: str | None = None,
    ) -> Answer:
        """Ask until there is a definite answer. Raises Unavailable, or Unknown where it may have been executed."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._deadline_seconds
        request = _Request(method, path, None if body is None else encode_body(body), _query(parameters or {}))
        pauses, was_unclear = Pauses(), False
        while True:
            attempt = await self._attempt(request, min(ATTEMPT_SECONDS, max(0.001, deadline - loop.time())))
            if isinstance(attempt, bytes):
                return Answer(attempt, None, was_unclear)
            problem, at_least, is_final = attempt
            if is_final:
                return Answer(b"", problem, was_unclear)
            was_unclear = was_unclear or (problem.outcome == UNKNOWN and method != "GET")
            pause = pauses.next(at_least)
            if (was_unclear and not repeatable) or loop.time() + pause >= deadline:
                raise _given_up(problem, client_order_id, is_unknown=was_unclear)
            await asyncio.sleep(pause)

    async def _attempt(self, request: _Request, seconds: float) -> bytes | tuple[Problem, float, bool]:
        """The body of a 2xx; else what is wrong, how long to wait at least, and whether that is the definite answer."""
        method, path, content, query = request
        headers = None if content is None else {"Content-Type": "application/json"}
        try:
            response = await self._http.request(method, path, params=query, content=content, headers=headers, timeout=seconds)
        except httpx.TransportError as error:
            outcome = NOT_EXECUTED if isinstance(error, _NEVER_SENT) else UNKNOWN
            detail = f"{type(error).__name__} {error}".strip()
            return Problem(code="no_connection", detail=f"{detail}.", outcome=outcome), 0.0, False
        if response.is_success:
            return response.content
        problem = _problem(response)
        is_certain = response.status_code < 500 or problem.outcome == NOT_EXECUTED
        is_final = is_certain and response.status_code not in _NOT_NOW
        return problem, _retry_after(response), is_final


class _Request(NamedTuple):
    method: str
    path: str
    content: bytes | None
    query: dict[str, str]


def encode_body(body: Mapping[str, Any]) -> bytes:
    """JSON with exact decimals in plain digits and times with their zone; what is None is left out."""
    return msgspec.json.encode({name: plain(value) for name, value in body.items() if value is not None})


def plain(value: Any) -> Any:
    """A value as the service reads it. Raises ValueError for a time without a zone."""
    match value:
        case list():
            return [plain(each) for each in value]
        case dict():
            return {name: plain(each) for name, each in value.items() if each is not None}
        case _ if hasattr(value, "isoformat"):
            if value.tzinfo is None:
                raise ValueError(f"a time needs its zone: {value!r}")
            return value.isoformat()
        case _ if hasattr(value, "as_tuple"):
            return f"{value:f}"
        case _:
            return value


def _query(parameters: Mapping[str, Any]) -> dict[str, str]:
    shown = {name: plain(value) for name, value in parameters.items() if value is not None}
    return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in shown.items()}


def _problem(response: httpx.Response) -> Problem:
    try:
        return msgspec.structs.replace(msgspec.json.decode(response.content, type=Problem), status=response.status_code)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        certain = response.status_code < 500
        detail = f"{response.status_code} {response.reason_phrase} without a problem document: is the URL that of the service?"
        return Problem(status=response.status_code, detail=detail, outcome=NOT_EXECUTED if certain else UNKNOWN)


def _retry_after(response: httpx.Response) -> float:
    text = response.headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdigit() else 0.0


def _given_up(problem: Problem, client_order_id: str | None, *, is_unknown: bool) -> ClientError:
    kind = Unknown if is_unknown else Unavailable
    outcome = UNKNOWN if is_unknown else NOT_EXECUTED
    return kind(msgspec.structs.replace(problem, outcome=outcome), client_order_id=client_order_id)
