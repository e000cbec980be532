"""What schemathesis calls a failure and isn't one: each with its reason. No check is switched off.

Loaded by schemathesis as its hooks. A failure is dropped only if `why_accepted` finds a reason for this very request and answer.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

import schemathesis

from ome.domain.reasons import Reason

FIRST_RULE: Final = 300
"""Reasons from here on come from the service's and the market's state and rules; those before, from how a request is written."""
BEYOND_SCHEMA: Final[tuple[tuple[str, str], ...]] = (
    (
        "N1: JSON Schema can't bound the digits of a number; what doesn't fit is refused with the advice to send a string",
        r"has (?:\d+ decimals|more than 15 significant digits|an exponent beyond)|is longer than 40 characters",
    ),
    (
        "a cursor is opaque: no schema tells which one an earlier answer gave",
        r"must be the (?:next_cursor of an earlier answer|cursor of an event)|is of another history than this",
    ),
    ("OpenAPI can't say that one of two parameters is required", r"or symbol is required, or both"),
    ("nor that one is required of whoever's key belongs to no user", r"is required: the key belongs to no user"),
    ("nor that one goes with some values of another", r"^goes with the scopes|^is required with the scopes|^with the scope"),
    ("nor that a time must not have passed", r"^must be in the future$"),
    ("nor that two of them exclude each other, or have an order", r"goes without as_of|with detail=orders|must be after start"),
    ("nor that two of them differ", r"^must be another than base_asset$"),
    ("an id is below 2^63, which a pattern of digits can't say", r"must be an order id, as answers show it"),
    ("date-time knows years before 1970 and leap seconds", r"must be between the years|that the calendar and the clock have"),
)
"""Why a request that fits its schema may be refused as written, and how the refusal of a field reads then."""
_ORDER: Final = "/orders/{order_id}"
_BATCH: Final = "/orders/batch"


@schemathesis.hook
def filter_failure(_context: Any, failure: Any, case: Any, response: Any) -> bool:
    """Whether the failure stands."""
    return why_accepted(type(failure).__name__, case.operation.path, response.status_code, response.content) is None


def why_accepted(failure: str, path: str, status: int, content: bytes) -> str | None:
    """The reason why this isn't a failure of the service; None where there is none."""
    if failure == "RejectedPositiveData" and status == 422:
        return _why_refused(_json(content))
    if failure == "RejectedPositiveData" and path == _ORDER and status == 405 and _json(content).get("instance") == _BATCH:
        return "batch is no order's id, as the pattern of the parameter says: this path is another operation's"
    if failure == "AcceptedNegativeData" and path == _BATCH and status == 200:
        results = _json(content).get("results", [])
        return (
            "I4: a batch is carried out; what is wrong with one operation is said in its place" if _has_problem(results) else None
        )
    if failure == "UseAfterFree" and path.startswith(_ORDER):
        return "DELETE cancels an order; an order is kept for ever (D6), and reads CANCELLED"
    if failure == "UseAfterFree" and path.startswith("/keys/{key_id}"):
        return "DELETE revokes a key; it is kept, and revoking it again is the way to be sure"
    return None


def _why_refused(problem: dict[str, Any]) -> str | None:
    code = problem.get("code", "").upper()
    if code not in Reason.__members__:
        return None
    if Reason[code] is Reason.NOT_SUPPORTED:
        return "it is declared as not built yet"
    if Reason[code] >= FIRST_RULE:
        return "a rule of the market refuses it, whatever its form"
    if Reason[code] is not Reason.INVALID_REQUEST:
        return None
    reasons = [_why_beyond_schema(error["message"]) for error in problem["errors"]]
    return "; ".join(sorted({reason or "" for reason in reasons})) if all(reasons) else None


def _why_beyond_schema(message: str) -> str | None:
    return next((reason for reason, words in BEYOND_SCHEMA if re.search(words, message)), None)


def _has_problem(results: list[dict[str, Any]]) -> bool:
    return any("problem" in result for result in results)


def _json(content: bytes) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(content)
    return document
