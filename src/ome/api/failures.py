"""Exceptions into problems: what the engine raises has a code of its own; what nobody foresaw is logged, its insides untold."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Final

from ome.api.problems import Problem
from ome.domain.errors import Evicted, NotAccepting, NotYet, OutcomeUnknown, Overloaded, Pending, StorageAway, TooLate
from ome.domain.reasons import TABLE, Reason

_logger = logging.getLogger("ome.api")


_REFUSALS: Final = {"draining": Reason.DRAINING, "storage_low": Reason.STORAGE_LOW}
_REASONS: Final = {
    Overloaded: Reason.OVERLOADED,
    NotAccepting: Reason.NOT_ACCEPTING,
    StorageAway: Reason.NOT_ACCEPTING,
    Pending: Reason.PENDING,
    TooLate: Reason.TOO_LATE,
    OutcomeUnknown: Reason.OUTCOME_UNKNOWN,
    Evicted: Reason.SEQUENCE_EVICTED,
    NotYet: Reason.SEQUENCE_NOT_REACHED,
}


def problem_of(error: Exception, request_id: str, retry_after_seconds: int) -> Problem:
    """The problem that an exception is answered with."""
    if isinstance(error, Problem):
        return error
    reason = next((reason for kind, reason in _REASONS.items() if isinstance(error, kind)), Reason.INTERNAL_ERROR)
    detail = ""
    if isinstance(error, NotAccepting):
        reason = refusal_in(str(error))
    elif isinstance(error, StorageAway):
        detail = "The database does not answer."
        _logger.warning("the database does not answer: %s", error, extra={"request_id": request_id})
    elif reason is Reason.INTERNAL_ERROR:
        _logger.error("a request failed", exc_info=error, extra={"request_id": request_id})
    again = TABLE[reason].status == HTTPStatus.SERVICE_UNAVAILABLE
    return Problem(reason, detail, headers=((b"retry-after", str(retry_after_seconds).encode()),) if again else ())


def refusal_in(state: str) -> Reason:
    """The code of a command that isn't taken because the engine is in this state, or in this reason of HALTED."""
    return _REFUSALS.get(state, Reason.NOT_ACCEPTING)
