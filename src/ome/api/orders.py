"""The routes that carry orders: POST /orders; GET, PUT and DELETE of /orders/{order_id}. Called by the dispatcher.

Each takes a request as ASGI hands it over and returns (status, body, further headers), or raises Problem. A request is one
command at most, and its answer is made from the command's events alone, after they are durable (D3). Writes refuse query
parameters they don't know: a misspelt `dry_run` must not place an order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from urllib.parse import parse_qsl

import msgspec
from starlette.types import Receive, Scope

from ome.api.auth import Gate, Headers
from ome.api.bodies import read_json
from ome.api.decoding import not_supported, read_modify, read_new_order
from ome.api.problems import REPLAYED_HEADER, FieldError, Header, Problem
from ome.api.settings import ApiSettings
from ome.api.views import order_after, order_answer, order_view
from ome.domain.ids import parse_id
from ome.domain.ports import OrderEntry, ReadModels
from ome.domain.reasons import Reason

PREFIX: Final = "/orders/"
Reply = tuple[int, bytes, Sequence[Header]]
_NO_HEADERS: Final[Sequence[Header]] = ()
_REPLAYED: Final = (REPLAYED_HEADER,)
_encoder: Final = msgspec.json.Encoder()


class OrderRoutes:
    """The handlers; they hold nothing between requests."""

    def __init__(self, entry: OrderEntry, reads: ReadModels, gate: Gate, settings: ApiSettings) -> None:
        self._entry = entry
        self._reads = reads
        self._gate = gate
        self._max_body_bytes = settings.max_body_bytes

    async def submit(self, scope: Scope, headers: Headers, receive: Receive) -> Reply:
        """POST /orders: 201 and the order after its command, with the trades that it made."""
        self._gate.operator(headers)
        dry_run = bool(scope["query_string"]) and _dry_run(scope["query_string"])
        order = read_new_order(await read_json(headers, receive, self._max_body_bytes))
        if dry_run:
            raise not_supported("dry_run")
        answer = await self._entry.submit(order)
        return 201, _encoder.encode(order_answer(answer)), _REPLAYED if answer.replayed else _NO_HEADERS

    async def modify(self, scope: Scope, headers: Headers, receive: Receive) -> Reply:
        """PUT /orders/{order_id}: 200 and the order after its change, with the trades that it made."""
        self._gate.operator(headers)
        order_id = _order_id(scope)
        dry_run = bool(scope["query_string"]) and _dry_run(scope["query_string"])
        change = read_modify(await read_json(headers, receive, self._max_body_bytes), order_id)
        if dry_run:
            raise not_supported("dry_run")
        return 200, _encoder.encode(order_answer(await self._entry.modify(change))), _NO_HEADERS

    async def cancel(self, scope: Scope, headers: Headers, _receive: Receive) -> Reply:
        """DELETE /orders/{order_id}: 200 and the order, CANCELLED."""
        self._gate.operator(headers)
        order_id = _order_id(scope)
        if scope["query_string"] and _dry_run(scope["query_string"]):
            raise not_supported("dry_run")
        order, _ = order_after(await self._entry.cancel(order_id))
        return 200, _encoder.encode(order_view(order)), _NO_HEADERS

    async def read(self, scope: Scope, headers: Headers, _receive: Receive) -> Reply:
        """GET /orders/{order_id}: 200 and the order as it stands."""
        self._gate.private_read(headers)
        order = await self._reads.order(_order_id(scope))
        if order is None:
            raise Problem(Reason.ORDER_NOT_FOUND)
        return 200, _encoder.encode(order_view(order)), _NO_HEADERS


def _order_id(scope: Scope) -> int:
    path: str = scope["path"]
    order_id = parse_id(path[path.rindex("/") + 1 :])
    if order_id is None:
        raise Problem(Reason.ORDER_NOT_FOUND)
    return order_id


def _dry_run(query: bytes) -> bool:
    """What the query says of `dry_run`; raises Problem for any other parameter but `symbol`, which is accepted, never needed."""
    dry_run = False
    errors = []
    for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True, errors="replace"):
        if name == "dry_run" and value in {"true", "false"}:
            dry_run = value == "true"
        elif name == "dry_run":
            errors.append(FieldError("dry_run", "must be true or false"))
        elif name != "symbol":
            errors.append(FieldError(name[:64], "is no parameter of this route"))
    if errors:
        raise Problem(Reason.INVALID_REQUEST, errors=errors)
    return dry_run
