"""How a check inside the engine says no."""

from __future__ import annotations

from ome.domain.reasons import Reason


class Refusal(Exception):
    """Why a command can't be carried out; raised before anything has changed, and never out of the engine."""

    def __init__(self, reason: Reason, limit: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.limit = limit
