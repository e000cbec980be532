"""Writing down what operators do: before it is done, so that nothing is done that isn't written down."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from fastapi import Request
from starlette.types import Message

from ome.api.auth import Caller
from ome.api.bodies import ClientGone, too_large
from ome.domain.commands import Administered
from ome.domain.ports import CommandBus

MAX_SHOWN: Final = 4096
"""Characters of a body that an entry keeps."""


class Audit:
    """The way to the audit trail; raises what `CommandBus.send` raises."""

    def __init__(self, bus: CommandBus) -> None:
        self._bus = bus

    async def write(self, actor: str, action: str, subject: str, detail: dict[str, Any]) -> None:
        """An entry; it is durable when this returns."""
        await self._bus.send(Administered(actor, action, subject, msgspec.json.encode(detail).decode()))

    async def request(self, caller: Caller, action: str, request: Request, max_bytes: int) -> None:
        """An entry for a request that an operator makes, with the body that it has: the handler reads that again."""
        body = await _kept_body(request, max_bytes)
        detail = {"request_id": request.scope["ome.request_id"], "body": body.decode(errors="replace")[:MAX_SHOWN]}
        await self.write(caller.key_id, action, request.scope["path"], detail)


async def _kept_body(request: Request, max_bytes: int) -> bytes:
    """The whole body, which whoever asks `request.receive` for it next gets too."""
    pieces: list[bytes] = []
    size, more = 0, True
    while more:
        message = await request.receive()
        if message["type"] != "http.request":
            raise ClientGone
        pieces.append(message.get("body", b""))
        size, more = size + len(pieces[-1]), message.get("more_body", False)
        if size > max_bytes:
            raise too_large(max_bytes)
    body, receive = b"".join(pieces), request.receive
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return waiting.pop() if waiting else await receive()

    request._receive = again  # noqa: SLF001  Starlette has no other way to give a body back
    return body
