"""Exceptions into problems: what the engine raises has a code of its own; what nobody foresaw is logged, its insides untold."""

from __future__ import annotations

import logging

from ome.api.problems import Problem
from ome.domain.errors import NotAccepting, OutcomeUnknown, Overloaded
from ome.domain.reasons import Reason

_logger = logging.getLogger("ome.api")


def problem_of(error: Exception, request_id: str, retry_after_seconds: int) -> Problem:
    """The problem that an exception is answered with."""
    retry_after = (b"retry-after", str(retry_after_seconds).encode())
    match error:
        case Problem():
            return error
        case Overloaded():
            return Problem(Reason.OVERLOADED, headers=(retry_after,))
        case NotAccepting():
            return Problem(Reason.NOT_ACCEPTING, headers=(retry_after,))
        case OutcomeUnknown():
            return Problem(Reason.OUTCOME_UNKNOWN)
        case _:
            _logger.error("a request failed", exc_info=error, extra={"request_id": request_id})
            return Problem(Reason.INTERNAL_ERROR)
