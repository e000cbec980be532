"""Reading a request's body: declared as JSON, within the limit by its header and by its bytes, whole; and noticing that the
client has left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from starlette.types import Receive

from ome.api.auth import Headers
from ome.api.problems import Problem
from ome.domain.numbers import pack
from ome.domain.reasons import Reason

_JSON: Final = b"application/json"
_MAX_LENGTH_DIGITS: Final = 18


T = TypeVar("T")


class ClientGone(Exception):
    """The client left before its request was read, or while a reader's answer was made; nobody waits for an answer, and nothing
    was executed.
    """


async def while_there(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """What long work gives for a request without a body; it is cancelled, and ClientGone raised, when the client leaves."""
    task, gone = asyncio.create_task(work), asyncio.create_task(until_gone(receive))
    try:
        await asyncio.wait([task, gone], return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGone
        return task.result()
    finally:
        task.cancel()
        gone.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def until_gone(receive: Receive) -> None:
    """Wait until the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def read_json(headers: Headers, receive: Receive, max_bytes: int) -> bytes:
    """The body's bytes. Raises Problem: NOT_JSON, BODY_TOO_LARGE; or ClientGone."""
    check_declared(headers, max_bytes)
    message = await receive()
    if message["type"] != "http.request":
        raise ClientGone
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False):
        if len(body) > max_bytes:
            raise too_large(max_bytes)
        return body
    return await _read_rest([body], receive, max_bytes)


def check_declared(headers: Headers, max_bytes: int) -> None:
    """Raises Problem where the headers announce anything but JSON, as it is, within the limit: NOT_JSON, BODY_TOO_LARGE."""
    declared = headers.get(b"content-type", b"")
    if declared != _JSON and not _is_json(declared):
        raise Problem(Reason.NOT_JSON)
    if headers.get(b"content-encoding", b"identity") != b"identity":
        raise Problem(Reason.NOT_JSON, "Send the JSON as it is: leave out Content-Encoding.")
    length = headers.get(b"content-length")
    if length is not None and _too_long(length, max_bytes):
        raise too_large(max_bytes)


async def _read_rest(pieces: list[bytes], receive: Receive, max_bytes: int) -> bytes:
    size = len(pieces[0])
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientGone
        piece: bytes = message.get("body", b"")
        pieces.append(piece)
        size += len(piece)
        if size > max_bytes:
            raise too_large(max_bytes)
        if not message.get("more_body", False):
            return b"".join(pieces)


def _is_json(declared: bytes) -> bool:
    kind = declared.partition(b";")[0].strip().lower()
    return kind == _JSON or (kind.startswith(b"application/") and kind.endswith(b"+json"))


def _too_long(length: bytes, max_bytes: int) -> bool:
    if len(length) > _MAX_LENGTH_DIGITS or not length.isdigit():
        return True
    return int(length) > max_bytes


def too_large(max_bytes: int) -> Problem:
    """What is answered to a body that is longer than this."""
    return Problem(Reason.BODY_TOO_LARGE, limit=pack(max_bytes, 0))
