"""The one list of routes that the contract has and that aren't built yet; each answers `not_supported`."""

from __future__ import annotations

from typing import Final

from fastapi import FastAPI, Response

from ome.api.openapi import REFUSED, declare, path_parameters
from ome.api.problems import Problem
from ome.domain.access import Access
from ome.domain.reasons import Reason

NOT_BUILT: Final[tuple[tuple[str, str, str, Access], ...]] = ()
"""Method, path, what it is for, and the scope that it will ask for. A route that is built leaves this list."""


class NotBuilt:
    """Answers them all, once the gate has let somebody through, as it will."""

    def add_to(self, app: FastAPI) -> None:
        """Declare the routes."""
        for method, path, summary, access in NOT_BUILT:
            declare(
                app,
                method,
                path,
                self.refuse,
                "Not built yet",
                REFUSED,
                status_code=422,
                access=access,
                openapi_extra={"parameters": path_parameters(path)},
                name=f"{method} {path}",
                operation_id=f"not_built_{method.lower()}_{path.strip('/').replace('/', '_').replace('{', '').replace('}', '')}",
                summary=f"{summary} (not built yet)",
                description="Answers 422 `not_supported`.",
            )

    async def refuse(self) -> Response:
        """Say that it isn't built."""
        raise Problem(Reason.NOT_SUPPORTED, "This route is not built yet; see /docs for those that are.")
