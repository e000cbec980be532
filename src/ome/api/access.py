"""Which scope each route asks for: declared with the route, held by the guard in front of it, and checked for at start.

A route that was added without a declaration stops the start. `raised` names query parameters that need more than the route
itself: `user_id`, or `detail=orders` for this value alone. What is `audited` is written down before it is done. A request counts
`weight` for the rate limit of `policy` (`ome.api.rate_limits`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Final, NamedTuple
from urllib.parse import parse_qsl

from fastapi import FastAPI, Request
from starlette.routing import BaseRoute

from ome.api.audit import Audit
from ome.api.auth import ANYBODY, Gate, Headers, put_caller
from ome.api.rate_limits import Policy, RateLimits
from ome.domain.access import Access

NOTHING: Final[Mapping[str, Access]] = {}


class UndeclaredRoute(Exception):
    """A route has no scope: a bug, found before anything is served."""


class Declaration(NamedTuple):
    """What a route, of this method and path, asks for."""

    method: str
    path: str
    access: Access
    raised: Mapping[str, Access] = NOTHING
    audited: bool = False
    policy: str = "reads"
    weight: int = 1


class AccessTable:
    """Every declaration of an application."""

    def __init__(self, gate: Gate, limits: RateLimits, audit: Audit, max_body_bytes: int) -> None:
        self._gate = gate
        self._limits = limits
        self._audit = audit
        self._max_body_bytes = max_body_bytes
        self._declared: list[tuple[BaseRoute, Declaration]] = []

    def __iter__(self) -> Iterator[Declaration]:
        return (declaration for _, declaration in self._declared)

    def declare(self, route: BaseRoute, declaration: Declaration) -> None:
        """Write down what a route asks for."""
        self._declared.append((route, declaration))

    def check(self, app: FastAPI) -> None:
        """Raises UndeclaredRoute for each route that was added without a declaration."""
        declared = {id(route) for route, _ in self._declared}
        missing = [getattr(route, "path", repr(route)) for route in app.routes if id(route) not in declared]
        if missing:
            raise UndeclaredRoute(f"no scope is declared for {', '.join(missing)}")

    def guard(self, declaration: Declaration) -> Callable[[Request], Awaitable[None]]:
        """What lets a request through to a route, or raises what `Gate.admit` raises."""
        gate, access, raised, weight = self._gate, declaration.access, declaration.raised, declaration.weight
        policy: Policy = getattr(self._limits, declaration.policy)

        async def guard(request: Request) -> None:
            wanted = max(access, _raised_by(request.scope["query_string"], raised)) if raised else access
            caller = ANYBODY
            if wanted is not Access.PUBLIC:
                headers: Headers = dict(request.scope["headers"])
                caller = gate.admit(wanted, headers, request.scope)
                put_caller(request.scope, caller)
            self._limits.take(policy, weight, caller, request.scope)
            if declaration.audited:
                await self._audit.request(caller, f"{declaration.method} {declaration.path}", request, self._max_body_bytes)

        return guard


def access_table(app: FastAPI) -> AccessTable:
    """The application's."""
    table: AccessTable = app.state.access
    return table


def _raised_by(query: bytes, raised: Mapping[str, Access]) -> Access:
    given = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    return max((raised.get(name, raised.get(f"{name}={value}", Access.PUBLIC)) for name, value in given), default=Access.PUBLIC)
