"""Reading a request's body: declared as JSON, within the limit by its header and by its bytes, whole."""

from __future__ import annotations

from typing import Final

from starlette.types import Receive

from ome.api.auth import Headers
from ome.api.problems import Problem
from ome.domain.numbers import pack
from ome.domain.reasons import Reason

_JSON: Final = b"application/json"
_MAX_LENGTH_DIGITS: Final = 18


class ClientGone(Exception):
    """The client left before its request was read; nobody waits for an answer, and nothing was executed."""


async def read_json(headers: Headers, receive: Receive, max_bytes: int) -> bytes:
    """The body's bytes. Raises Problem: NOT_JSON, BODY_TOO_LARGE; or ClientGone."""
    declared = headers.get(b"content-type", b"")
    if declared != _JSON and not _is_json(declared):
        raise Problem(Reason.NOT_JSON)
    if headers.get(b"content-encoding", b"identity") != b"identity":
        raise Problem(Reason.NOT_JSON, "Send the JSON as it is: leave out Content-Encoding.")
    length = headers.get(b"content-length")
    if length is not None and _too_long(length, max_bytes):
        raise too_large(max_bytes)
    message = await receive()
    if message["type"] != "http.request":
        raise ClientGone
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False):
        if len(body) > max_bytes:
            raise too_large(max_bytes)
        return body
    return await _read_rest([body], receive, max_bytes)


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
