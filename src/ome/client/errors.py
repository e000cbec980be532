"""What goes wrong between a client and the service.

ClientError
├── Refused           the service has answered: not done, for certain; `code`, `detail` and `fields` say why
├── Unavailable       nobody could do it within the deadline; not done, for certain
├── Unknown           no answer tells whether it was done; `client_order_id` finds out later
└── UnexpectedAnswer  what answered doesn't speak this interface
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

NOT_EXECUTED: Final = "not_executed"
UNKNOWN: Final = "unknown"


class FieldProblem(Struct, frozen=True):
    """What is wrong with a field."""

    field: str
    message: str


class Problem(Struct, frozen=True, kw_only=True):
    """An error as the service tells it (RFC 9457); the defaults are those of an error that some proxy made up."""

    status: int = 0
    code: str = "no_problem_document"
    title: str = ""
    detail: str = ""
    outcome: str = UNKNOWN
    order_id: str | None = None
    request_id: str | None = None
    errors: list[FieldProblem] = []


class ClientError(Exception):
    """The root of this tree.

    `code` is stable, lower snake case: one of the service's table at /docs/problems, or `no_connection`, or
    `no_problem_document`; `status` that of HTTP, 0 where nothing was answered; `outcome` is "not_executed" or "unknown".
    """

    def __init__(self, problem: Problem, *, client_order_id: str | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.client_order_id = client_order_id

    def __str__(self) -> str:
        fields = "".join(f"; {name} {message}" for name, message in self.fields.items())
        return f"{self.problem.code}: {self.problem.detail or self.problem.title}{fields}"

    @property
    def code(self) -> str:
        """What happened, as a word that doesn't change."""
        return self.problem.code

    @property
    def status(self) -> int:
        """The HTTP status, 0 without an answer."""
        return self.problem.status

    @property
    def detail(self) -> str:
        """What would be right, in words."""
        return self.problem.detail

    @property
    def outcome(self) -> str:
        """Whether anything can have been executed: "not_executed" or "unknown"."""
        return self.problem.outcome

    @property
    def fields(self) -> Mapping[str, str]:
        """What is wrong with which field."""
        return {each.field: each.message for each in self.problem.errors}

    @property
    def order_id(self) -> str | None:
        """Of an order that was refused and is kept as REJECTED."""
        return self.problem.order_id


class Refused(ClientError):
    """The service has answered, and it is not done."""


class Unavailable(ClientError):
    """Until the deadline nobody was there, or ready; nothing was done."""


class Unknown(ClientError):
    """It may have been done. A submit can be asked after, or sent again, with `client_order_id`."""


class UnexpectedAnswer(ClientError):
    """What answered doesn't speak this interface, or another version of it."""
