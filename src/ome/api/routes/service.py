"""The service about itself: health, metrics, the trading page, the docs and the table of problem codes. All files are local."""

from __future__ import annotations

import asyncio
from html import escape
from importlib.metadata import version
from pathlib import Path
from time import monotonic
from typing import Final

from fastapi import FastAPI, Response
from fastapi.staticfiles import StaticFiles
from msgspec import UNSET
from starlette.responses import FileResponse, HTMLResponse

from ome.api.failures import refusal_in
from ome.api.openapi import PROBLEMS, answers, declare, declare_files, declare_page
from ome.api.problems import Header, Problem, advice
from ome.api.schemas import HealthView, StatusView
from ome.api.services import JsonAnswer, Services
from ome.domain.access import Access
from ome.domain.build import CORE
from ome.domain.reasons import TABLE, Reason
from ome.observability import METRICS_CONTENT_TYPE

STATIC: Final = Path(__file__).parent.parent / "static"
RUNNING: Final = "RUNNING"
HALTED: Final = "HALTED"
_REVALIDATE: Final = {"Cache-Control": "no-cache"}
"""Browsers keep pages and ask each time whether they have changed."""


class ServiceRoutes:
    """`/health` for people and proxies, `/health/live` and `/health/ready` for orchestrators."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._started = monotonic()
        self._version = version("ome")
        self._retry_after: Header = (b"retry-after", str(services.settings.retry_after_seconds).encode())

    def add_to(self, app: FastAPI) -> None:
        """Declare the routes."""
        tag = "Service"
        declare(app, "GET", "/health", self.health, tag, answers(HealthView), access=Access.PUBLIC, weight=0)
        declare(app, "GET", "/health/live", self.live, tag, answers(StatusView), access=Access.PUBLIC, weight=0)
        declare(app, "GET", "/health/ready", self.ready, tag, answers(StatusView), access=Access.PUBLIC, weight=0)
        plain = {200: {"description": "Prometheus text format", "content": {"text/plain": {}}}, **PROBLEMS}
        declare(app, "GET", "/metrics", self.metrics, tag, plain, access=Access.PUBLIC, weight=0)
        declare_page(app, "/docs", _docs)
        declare_page(app, "/docs/problems", _problem_table)
        declare_page(app, "/", _page)
        declare_files(app, "/docs/assets", Files(packages=[("fastapi_swagger", "resources")]))
        declare_files(app, "/static", Files(directory=STATIC))

    async def health(self) -> Response:
        """Whether orders are taken: 200, or 503 with the reason."""
        self._check_running()
        try:
            async with asyncio.timeout(self._services.settings.ping_timeout_seconds):
                await self._services.reads.ping()
        except Exception as error:
            raise self._unwell("The database does not answer.") from error
        bus = self._services.bus
        epoch, incarnation = self._services.lineage()
        return JsonAnswer(
            HealthView(
                status="healthy",
                state=bus.state,
                reason=bus.reason or UNSET,
                position=bus.position,
                epoch=epoch,
                incarnation=incarnation,
                database="reachable",
                durability=self._services.durability(),
                version=self._version,
                core=CORE,
                uptime_seconds=round(monotonic() - self._started, 3),
            )
        )

    async def live(self) -> Response:
        """Whether the process answers at all: always 200."""
        return JsonAnswer(StatusView(status="alive"))

    async def ready(self) -> Response:
        """Whether to send requests here: 200, or 503 while starting, recovering, stalled, draining or halted."""
        self._check_running()
        return JsonAnswer(StatusView(status="ready"))

    async def metrics(self) -> Response:
        """Prometheus metrics."""
        bus = self._services.bus
        self._services.request_log.flush()
        return Response(self._services.metrics.render(bus.position, bus.waiting), media_type=METRICS_CONTENT_TYPE)

    def _check_running(self) -> None:
        bus = self._services.bus
        if bus.state != RUNNING:
            raise self._unwell(f"The engine is {bus.state}: {bus.reason}." if bus.reason else f"The engine is {bus.state}.")

    def _unwell(self, why: str) -> Problem:
        bus = self._services.bus
        reason = refusal_in(bus.reason) if bus.state == HALTED else refusal_in(bus.state.lower())
        return Problem(reason, why, engine=(bus.state, bus.position), headers=(self._retry_after,))


class Files(StaticFiles):
    """Files of a folder or package; browsers ask each time whether they have changed."""

    def file_response(self, *args: object, **kwargs: object) -> Response:
        """The file, or 304."""
        response: Response = super().file_response(*args, **kwargs)  # type: ignore[arg-type]
        response.headers.update(_REVALIDATE)
        return response


async def _docs() -> Response:
    return FileResponse(STATIC / "docs.html", headers=_REVALIDATE)


async def _page() -> Response:
    return FileResponse(STATIC / "index.html", headers=_REVALIDATE)


async def _problem_table() -> Response:
    return HTMLResponse(problem_table(), headers=_REVALIDATE)


def problem_table() -> str:
    """Every code there is, as an HTML page; a problem's `type` leads to its row."""
    rows = "".join(
        f'<tr id="{reason.code}"><td><code>{reason.code}</code></td><td>{info.status}</td><td>{info.rule}</td>'
        f"<td>{escape(info.title)}</td><td>{escape(_general_advice(reason))}</td></tr>\n"
        for reason, info in TABLE.items()
    )
    return (STATIC / "problems.html").read_text(encoding="utf-8").replace("<!-- rows -->", rows)


def _general_advice(reason: Reason) -> str:
    return advice(reason) if "{limit}" not in TABLE[reason].advice else TABLE[reason].advice.replace("{limit}", "…")
