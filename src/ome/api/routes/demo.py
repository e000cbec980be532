"""The demo market, for the operator: simulated traders that the service runs beside itself."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI, Request, Response

from ome.api.auth import KEY_HEADER
from ome.api.bodies import read_json
from ome.api.demo_schemas import DemoRequest, DemoView, read_demo
from ome.api.openapi import answers, body, declare
from ome.api.problems import Problem
from ome.api.routes.queries import NoParameters
from ome.api.services import DemoMarket, JsonAnswer, Services, headers_of
from ome.domain.access import Access
from ome.domain.reasons import Reason

DEMO_EXAMPLES: Final[dict[str, dict[str, Any]]] = {
    "stop": {"summary": "Nobody simulated trades, and nothing of theirs is open", "value": {"active": False}},
}


class DemoRoutes:
    """They trade over HTTP, with the key of whoever starts them, in symbols and under users of their own."""

    def __init__(self, services: Services) -> None:
        self._demo = services.demo
        self._max_body_bytes = services.settings.max_body_bytes

    def add_to(self, app: FastAPI) -> None:
        """Declare the routes."""
        tag, path, operator = "Administration", "/admin/demo", Access.OPERATOR
        declare(app, "GET", path, self.read_demo, tag, answers(DemoView), access=operator)
        extra = body(DemoRequest, DEMO_EXAMPLES)
        declare(app, "PUT", path, self.set_demo, tag, answers(DemoView), access=operator, openapi_extra=extra)

    async def read_demo(self, query: NoParameters) -> Response:  # noqa: ARG002  read to refuse others
        """Read whether simulated traders trade."""
        return JsonAnswer(_view(self._demo))

    async def set_demo(self, query: NoParameters, request: Request) -> Response:  # noqa: ARG002
        """Start simulated traders, for a market that moves, or stop them; stopping cancels what they have open."""
        headers = headers_of(request)
        asked = read_demo(await read_json(headers, request.receive, self._max_body_bytes))
        demo = self._demo
        if demo is None:
            if asked["active"]:
                raise Problem(Reason.NOT_SUPPORTED, "This service can't run simulated traders; ome demo does, against any.")
        elif asked["active"]:
            await demo.start(asked.get("seed", 1), headers.get(KEY_HEADER, b"").decode("latin-1"))
        else:
            await demo.stop()
        return JsonAnswer(_view(demo))


def _view(demo: DemoMarket | None) -> DemoView:
    is_active = demo is not None and demo.is_running
    return DemoView(active=is_active, seed=demo.seed if demo is not None and is_active else None)
