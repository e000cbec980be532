"""What was done, and what went wrong, for the operator."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import FastAPI, Query, Response
from pydantic import Field

from ome.api.key_schemas import AuditList, ErrorList, ErrorView, audit_view
from ome.api.openapi import answers, declare
from ome.api.paging import cut_at, page_after
from ome.api.routes.queries import NoParameters, PageQuery
from ome.api.services import JsonAnswer, Services
from ome.domain.access import Access
from ome.domain.clock import MICROSECONDS, format_time
from ome.domain.ids import make_id

TAG: Final = "Administration"


class AuditQuery(PageQuery):
    """Which entries."""

    action: str | None = Field(default=None, max_length=64, description="Only of this action", examples=["key_made"])


class AdminRoutes:
    """Both are the operator's alone."""

    def __init__(self, services: Services) -> None:
        self._reads = services.reads
        self._log = services.request_log

    def add_to(self, app: FastAPI) -> None:
        """Declare the routes."""
        declare(app, "GET", "/admin/audit", self.read_audit, TAG, answers(AuditList), access=Access.OPERATOR)
        declare(app, "GET", "/admin/errors", self.read_errors, TAG, answers(ErrorList), access=Access.OPERATOR)

    async def read_audit(self, query: Annotated[AuditQuery, Query()]) -> Response:
        """Read the audit trail, newest first: what operators did, what happened to keys, keys that were refused.

        Each entry is a command of the journal, which its hash chain covers; `ome verify` compares the two.
        """
        found = await self._reads.audit(page_after("audit", query.cursor, query.limit), query.action)
        page, next_cursor = cut_at("audit", found, query.limit, lambda entry: make_id(entry.shard, entry.position))
        return JsonAnswer(AuditList(entries=[audit_view(entry) for entry in page], count=len(page), next_cursor=next_cursor))

    async def read_errors(self, query: NoParameters) -> Response:  # noqa: ARG002  read to refuse others
        """Read how many errors of each code were answered since the start, and the last ones. No bodies, no keys."""
        counts, last = self._log.errors()
        errors = [
            ErrorView(
                time=format_time(int(line.moment * MICROSECONDS)),
                code=line.code,
                status=line.status,
                method=line.method,
                route=line.route,
                request_id=line.request_id,
            )
            for line in last
        ]
        return JsonAnswer(ErrorList(counts=counts, errors=errors, count=len(errors)))
