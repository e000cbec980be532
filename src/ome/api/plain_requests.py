"""Requests as ordinary clients send them: whole, in one piece, with nothing in their head that changes how they are read.

What is recognised here needs no parser. Everything else, and whatever is doubtful, is None, and the parser's affair: half a
head, two requests at once, chunks, trailers, upgrades, `Expect`, a request id of the client's, a length twice.

Heads repeat from request to request, so the last thousand are remembered as they were read; a head that is remembered is at most
a kilobyte long. They hold keys, so they are forgotten again: `forget_heads`.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple

MAX_HEAD_BYTES: Final = 1024
_REMEMBERED: Final = 1024

_PLAIN: Final = re.compile(
    rb"(POST|PUT|DELETE) (/[!-~]{0,255}) HTTP/1\.1\r\n((?:[A-Za-z0-9-]{1,64}:[ -~]{0,512}\r\n){1,32})\r\n", re.ASCII
)
_LENGTH: Final = re.compile(rb"[0-9]{1,7}")
_NOT_PLAIN: Final = re.compile(rb"(?:^|\n)(?:transfer-encoding|expect|upgrade|x-request-id|connection:(?! ?keep-alive\r))")
"""What of a head changes where its request ends, what comes after it, or how it is answered."""


class Head(NamedTuple):
    """Method, path and query (as they were sent), and the headers: names in lower case; of one that is repeated, the last."""

    method: str
    target: bytes
    headers: dict[bytes, bytes]
    length: int
    """Of the body, in bytes."""


def plain_request(data: bytes) -> tuple[Head, bytes] | None:
    """The head and the body of one plain request, if that and no more is what came."""
    end = data.find(b"\r\n\r\n", 0, MAX_HEAD_BYTES) + 4
    if end < 4:
        return None
    head = _head(data[:end])
    return None if head is None or head.length != len(data) - end else (head, data[end:])


def is_head_of_one(data: bytes, most_bytes: int) -> bool:
    """Whether the head of one plain request is what came, of at most so many bytes in all, and not yet all of its body.

    Many clients send the two apart.
    """
    end = data.find(b"\r\n\r\n", 0, MAX_HEAD_BYTES) + 4
    if end < 4:
        return False
    head = _head(data[:end])
    return head is not None and len(data) - end < head.length <= most_bytes - end


def forget_heads() -> None:
    """Forget every head, and with it the key in it: called when a key is revoked, and once a minute (`ome.api.connections`)."""
    _head.cache_clear()


@lru_cache(maxsize=_REMEMBERED)
def _head(text: bytes) -> Head | None:
    plain = _PLAIN.fullmatch(text)
    if plain is None:
        return None
    method, target, lines = plain.groups()
    if _NOT_PLAIN.search(lines.lower()) is not None:
        return None
    named = [line.partition(b":") for line in lines.splitlines()]
    headers = {name.lower(): value.strip(b" ") for name, _, value in named}
    length = headers.get(b"content-length", b"0" if method == b"DELETE" else b"")
    is_told_twice = len([name for name, _, _ in named if name.lower() == b"content-length"]) > 1
    if is_told_twice or _LENGTH.fullmatch(length) is None:
        return None
    return Head(method.decode(), target, headers, int(length))
