"""Keys, for the operator."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import FastAPI, Path, Request, Response

from ome.api.auth import caller_of
from ome.api.bodies import read_json
from ome.api.key_schemas import (
    KeyList,
    KeyRequest,
    KeyView,
    NewKeyView,
    RotationRequest,
    key_view,
    new_key_view,
    read_key,
    read_rotation,
)
from ome.api.openapi import answers, body, declare
from ome.api.problems import FieldError, Problem
from ome.api.routes.queries import NoParameters
from ome.api.services import JsonAnswer, Services, headers_of
from ome.domain.access import Access
from ome.domain.clock import now_us
from ome.domain.reasons import Reason

TAG: Final = "Keys"
KeyIdPath = Annotated[str, Path(max_length=64, examples=["0123456789abcdef"])]
KEY_EXAMPLES: Final[dict[str, dict[str, Any]]] = {
    "trader": {
        "summary": "Alice may see and trade, and nothing of anybody else",
        "value": {"user_id": "alice", "scopes": ["read", "trade"]},
    },
    "for a while": {
        "summary": "To look at her orders until the end of the century",
        "value": {"user_id": "alice", "scopes": ["read"], "expires_at": "2099-12-31T23:59:59Z"},
    },
}
ROTATION_EXAMPLES: Final[dict[str, dict[str, Any]]] = {
    "an hour": {"summary": "The old key is good for another hour", "value": {"overlap_seconds": 3600}}
}


class KeyRoutes:
    """Each change is an entry of the audit trail; it is durable when this answers."""

    def __init__(self, services: Services) -> None:
        self._keys = services.keys
        self._max_body_bytes = services.settings.max_body_bytes

    def add_to(self, app: FastAPI) -> None:
        """Declare the routes."""
        operator, path = Access.OPERATOR, "/keys/{key_id}"
        make, rotate = body(KeyRequest, KEY_EXAMPLES), body(RotationRequest, ROTATION_EXAMPLES)
        declare(app, "GET", "/keys", self.list_keys, TAG, answers(KeyList), access=operator)
        declare(
            app, "POST", "/keys", self.make_key, TAG, answers(NewKeyView, 201), access=operator, audited=False,
            openapi_extra=make, status_code=201,
        )  # fmt: skip
        declare(app, "DELETE", path, self.revoke_key, TAG, answers(KeyView), access=operator, audited=False)
        declare(
            app, "POST", f"{path}/rotate", self.rotate_key, TAG, answers(NewKeyView, 201), access=operator, audited=False,
            openapi_extra=rotate, status_code=201,
        )  # fmt: skip

    async def list_keys(self, query: NoParameters) -> Response:  # noqa: ARG002  read to refuse others
        """List every key there was, oldest first: whose, what for, until when."""
        now = now_us()
        views = [key_view(record, now) for record in self._keys.all()]
        return JsonAnswer(KeyList(keys=views, count=len(views)))

    async def make_key(self, query: NoParameters, request: Request) -> Response:  # noqa: ARG002
        """Make a key for a user. The answer has the key; it is shown this once and kept nowhere."""
        asked = await read_json(headers_of(request), request.receive, self._max_body_bytes)
        user_id, access, expires_at = read_key(asked)
        if expires_at is not None and expires_at <= now_us():
            raise Problem(Reason.INVALID_REQUEST, errors=[FieldError("expires_at", "must be in the future")])
        made = await self._keys.make(caller_of(request.scope).key_id, user_id, access, expires_at)
        return JsonAnswer(new_key_view(made.record, made.key, now_us()), 201)

    async def rotate_key(self, key_id: KeyIdPath, query: NoParameters, request: Request) -> Response:  # noqa: ARG002
        """Replace a key: another one for the same, beside which the old one stays good for a while."""
        asked = await read_json(headers_of(request), request.receive, self._max_body_bytes)
        made = await self._keys.rotate(caller_of(request.scope).key_id, key_id, read_rotation(asked))
        return JsonAnswer(new_key_view(made.record, made.key, now_us()), 201)

    async def revoke_key(self, key_id: KeyIdPath, query: NoParameters, request: Request) -> Response:  # noqa: ARG002
        """Revoke a key at once: the next request with it is refused, and its open WebSockets are closed."""
        record = await self._keys.revoke(caller_of(request.scope).key_id, key_id)
        return JsonAnswer(key_view(record, now_us()))
