"""Cursors: where a list goes on, opaque to clients, made of the last id or name that was seen (D5) and of what the list
holds, so that one list's cursor is not taken for another's.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, TypeVar

from ome.api.problems import FieldError, Problem
from ome.domain.ids import parse_id
from ome.domain.ports import Page
from ome.domain.reasons import Reason

MAX_LIMIT: Final = 1000
"""Most items in one answer."""
MAX_CURSOR: Final = 256
"""Longest cursor, in characters; those that are given out are shorter."""


class HasId(Protocol):
    """Whatever a list of the database holds."""

    @property
    def id(self) -> int:
        """What the list is ordered by."""


Item = TypeVar("Item", bound=HasId)


def encode_cursor(kind: str, place: str) -> str:
    """The cursor of a place in a list of this kind of things."""
    return urlsafe_b64encode(f"{kind}:{place}".encode()).decode().rstrip("=")


def decode_cursor(kind: str, cursor: str) -> str:
    """The place that a cursor stands for; raises Problem for what was never one, or one of another list."""
    try:
        of, _, place = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii").partition(":")
    except ValueError:  # of base64 as of text
        raise bad_cursor() from None
    if of != kind or encode_cursor(kind, place) != cursor:
        raise bad_cursor()
    return place


def page_after(kind: str, cursor: str | None, limit: int) -> Page:
    """What to ask the database for: one item more than `limit`, to know whether the list goes on."""
    if cursor is None:
        return Page(None, limit + 1)
    before_id = parse_id(decode_cursor(kind, cursor))
    if before_id is None:
        raise bad_cursor()
    return Page(before_id, limit + 1)


def cut_at(kind: str, items: Sequence[Any], limit: int, place: Callable[[Any], int]) -> tuple[Sequence[Any], str | None]:
    """As `cut`, of a list that is ordered by something else than ids."""
    if len(items) <= limit:
        return items, None
    page = items[:limit]
    return page, encode_cursor(kind, str(place(page[-1])))


def cut(kind: str, items: Sequence[Item], limit: int) -> tuple[Sequence[Item], str | None]:
    """The page, and the cursor of the next one; None at the end."""
    return cut_at(kind, items, limit, lambda item: item.id)


def bad_cursor() -> Problem:
    """What is answered to a cursor that was never given out."""
    return Problem(
        Reason.INVALID_REQUEST,
        errors=[FieldError("cursor", "must be the next_cursor of an earlier answer of this list, as it was given")],
    )
