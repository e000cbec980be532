"""Every error answer: RFC 9457 problem documents, made from the one table of reasons and nothing else.

A `Problem` is raised anywhere in the edge and rendered in one place. `outcome` is "not_executed" wherever that is certain:
"unknown" stands for OUTCOME_UNKNOWN and PENDING always, and for INTERNAL_ERROR where the request could have changed something.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Final
from urllib.parse import quote

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from ome.domain.numbers import format_number
from ome.domain.reasons import TABLE, Reason

CONTENT_TYPE: Final = "application/problem+json"
TYPE_PREFIX: Final = "/docs/problems#"
"""A problem's `type` is this and its code: the row of the table at /docs/problems."""
MAX_ERRORS: Final = 50
"""Field errors in one answer; a body can have more, but nobody reads them."""
MAX_INSTANCE: Final = 256
"""Characters of the path that `instance` repeats."""

Header = tuple[bytes, bytes]


def header_lines(headers: Iterable[Header]) -> bytes:
    """Headers as they go over the wire."""
    return b"".join([b"%b: %b\r\n" % header for header in headers])


REPLAYED_HEADER: Final[Header] = (b"idempotent-replayed", b"true")
_UNKNOWN: Final = frozenset({Reason.OUTCOME_UNKNOWN, Reason.PENDING})
_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class FieldError(Struct, frozen=True):
    """One field that is not as it should be; `message` completes a sentence that starts with its name."""

    field: str
    message: str


class ProblemDocument(Struct, frozen=True, kw_only=True):
    """An RFC 9457 problem. `code` is stable; `outcome` says whether anything can have been executed."""

    type: Annotated[str, Meta(description="A link to what the code means", examples=["/docs/problems#order_not_found"])]
    title: str
    status: int
    detail: str
    instance: Annotated[str, Meta(description="The path that was asked for")]
    code: Annotated[str, Meta(description="Stable, lower snake case: one of the table at /docs/problems")]
    outcome: Annotated[str, Meta(extra_json_schema={"enum": ["not_executed", "unknown"]})]
    request_id: str
    errors: list[FieldError] | UnsetType = UNSET
    order_id: Annotated[str | UnsetType, Meta(description="Of an order that was refused and recorded as REJECTED")] = UNSET
    replayed: Annotated[
        bool | UnsetType, Meta(description="true: the answer to an earlier request with this client_order_id")
    ] = UNSET
    dry_run: Annotated[bool | UnsetType, Meta(description="true: a dry run would be refused like this")] = UNSET
    state: Annotated[str | UnsetType, Meta(description="The engine's state, from /health")] = UNSET
    position: Annotated[int | UnsetType, Meta(description="The last committed position, from /health")] = UNSET


class Problem(Exception):
    """A request ends with this error. `limit` (a packed number) fills the advice of the table; `detail` replaces it.

    `order_id` is that of an order which was recorded as REJECTED, `engine` the engine's (state, position) where that is why.
    """

    def __init__(
        self,
        reason: Reason,
        detail: str = "",
        *,
        errors: Sequence[FieldError] = (),
        limit: int | None = None,
        headers: Sequence[Header] = (),
        order_id: int | None = None,
        replayed: bool = False,
        engine: tuple[str, int] | None = None,
    ) -> None:
        super().__init__(reason.code)
        self.reason = reason
        self.status = TABLE[reason].status
        self.detail = detail or advice(reason, limit)
        self.errors = errors
        self.headers = [*headers, REPLAYED_HEADER] if replayed else headers
        self.order_id = order_id
        self.replayed = replayed
        self.engine = engine
        self.dry_run = False

    def document(self, method: str, path: str, request_id: str) -> ProblemDocument:
        """The answer's body, for a request with this method, path and id."""
        reason = self.reason
        unknown = reason in _UNKNOWN or (reason is Reason.INTERNAL_ERROR and method not in _SAFE_METHODS)
        return ProblemDocument(
            type=TYPE_PREFIX + reason.code,
            title=TABLE[reason].title,
            status=self.status,
            detail=self.detail,
            instance=quote(path[:MAX_INSTANCE], safe="/:@!$&'()*+,;=-._~", errors="replace"),
            code=reason.code,
            outcome="unknown" if unknown else "not_executed",
            request_id=request_id,
            errors=list(self.errors[:MAX_ERRORS]) or UNSET,
            order_id=UNSET if self.order_id is None else str(self.order_id),
            replayed=True if self.replayed else UNSET,
            dry_run=True if self.dry_run else UNSET,
            state=UNSET if self.engine is None else self.engine[0],
            position=UNSET if self.engine is None else self.engine[1],
        )

    def render(self, method: str, path: str, request_id: str) -> bytes:
        """The answer's body in bytes."""
        return _encoder.encode(self.document(method, path, request_id))


_encoder = msgspec.json.Encoder()


def advice(reason: Reason, limit: int | None = None) -> str:
    """What would be right, from the table; without a `limit`, the title speaks where the advice would name it."""
    info = TABLE[reason]
    if "{limit}" not in info.advice:
        return info.advice
    return info.title + "." if limit is None else info.advice.format(limit=format_number(limit))
