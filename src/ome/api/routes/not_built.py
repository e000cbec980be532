"""The one list of routes that the contract has and that aren't built yet; each answers `not_supported`."""

from __future__ import annotations

from typing import Final

from fastapi import FastAPI, Request, Response

from ome.api.openapi import REFUSED, declare, path_parameters
from ome.api.problems import Problem
from ome.api.services import Services, headers_of
from ome.domain.reasons import Reason

NOT_BUILT: Final[tuple[tuple[str, str, str], ...]] = (
    ("POST", "/keys", "Make a user's key"),
    ("DELETE", "/keys/{key_id}", "Revoke a user's key"),
    ("PUT", "/users/{user_id}/limits", "Set a user's limits"),
    ("GET", "/users/{user_id}/limits", "Read a user's limits"),
    ("GET", "/users/{user_id}/positions", "Read a user's positions"),
    ("GET", "/users/{user_id}/risk", "Read a user's headroom"),
    ("GET", "/users/{user_id}/balances", "Read a user's balances"),
    ("POST", "/users/{user_id}/cancel_all_after", "Arm or disarm the dead-man timer"),
    ("PUT", "/admin/kill", "Stop all, a user or a symbol"),
    ("GET", "/admin/audit", "Read the audit trail"),
    ("GET", "/admin/errors", "Read recent errors"),
    ("POST", "/admin/deposits", "Credit a user"),
    ("POST", "/admin/withdrawals", "Debit a user"),
)
"""Method, path and what it is for. A route that is built leaves this list."""


class NotBuilt:
    """Answers them all. Writes and what is the operator's ask for the key first, as they will."""

    def __init__(self, services: Services) -> None:
        self._gate = services.gate

    def add_to(self, app: FastAPI) -> None:
        """Declare the routes."""
        for method, path, summary in NOT_BUILT:
            declare(
                app,
                method,
                path,
                self.refuse,
                "Not built yet",
                REFUSED,
                status_code=422,
                openapi_extra={"parameters": path_parameters(path)},
                name=f"{method} {path}",
                operation_id=f"not_built_{method.lower()}_{path.strip('/').replace('/', '_').replace('{', '').replace('}', '')}",
                summary=f"{summary} (not built yet)",
                description="Answers 422 `not_supported`.",
            )

    async def refuse(self, request: Request) -> Response:
        """Say that it isn't built."""
        if request.method not in {"GET", "HEAD"} or request.url.path.startswith("/admin"):
            self._gate.operator(headers_of(request))
        raise Problem(Reason.NOT_SUPPORTED, "This route is not built yet; see /docs for those that are.")
