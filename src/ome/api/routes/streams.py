"""Streams as OpenAPI shows them: server-sent events, the list of a user's events, and where the WebSocket is."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import FastAPI, Query, Request, Response
from pydantic import Field

from ome.api.auth import caller_of, user_for
from ome.api.openapi import PROBLEMS, answers, declare
from ome.api.problems import Problem
from ome.api.routes.market import folded
from ome.api.routes.queries import NoParameters, PageQuery, StreamQuery, SymbolPath, UserIdPath
from ome.api.services import JsonAnswer
from ome.api.streams.events import EventStream
from ome.api.streams.hub import Streams
from ome.api.streams.order_events import UserEventList
from ome.domain.access import Access
from ome.domain.reasons import Reason

LAST_EVENT_ID: Final[dict[str, Any]] = {
    "name": "Last-Event-ID",
    "in": "header",
    "schema": {"type": "string", "pattern": "^[0-9]{1,15}(\\.[0-9a-f]{1,8})?$"},
    "description": "The id of the last event seen: go on behind it where that is still kept, else start with a snapshot",
}
_STREAM: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "Events `depth`, `trade`, `ticker`, `candle` without end; `data` is JSON, `id` where to resume from",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    },
    **PROBLEMS,
}
_UPGRADE: Final[dict[int | str, dict[str, Any]]] = {
    101: {"description": "With a WebSocket handshake: JSON messages from here on"},
    **PROBLEMS,
}


class EventsQuery(PageQuery):
    """Where a user's events go on."""

    cursor: str | None = Field(
        default=None, max_length=128, description="The cursor of the last event seen, from here or from the channel `orders`"
    )


StreamParameters = Annotated[StreamQuery, Query()]
EventsParameters = Annotated[EventsQuery, Query()]


class StreamRoutes:
    """See `ome.api.streams`."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams

    def add_to(self, app: FastAPI) -> None:
        """Declare the routes."""
        tag = "Streams"
        path = "/market/{symbol}/stream"
        declare(app, "GET", path, self.stream, tag, _STREAM, access=Access.PUBLIC, openapi_extra={"parameters": [LAST_EVENT_ID]})
        path = "/orders/user/{user_id}/events"
        declare(app, "GET", path, self.list_events, tag, answers(UserEventList), access=Access.READ)
        declare(app, "GET", "/ws", self.websocket, tag, _UPGRADE, access=Access.PUBLIC, status_code=101)

    async def stream(self, symbol: SymbolPath, query: StreamParameters, request: Request) -> Response:
        """A symbol's depth, trades, ticker and candles as server-sent events.

        `curl -N` shows them; a browser's `EventSource` reconnects by itself and goes on where it was. The data is that of the
        WebSocket's channels: a `depth` event of type `snapshot`, then updates with `sequence` and `previous_sequence`.
        """
        return EventStream(self._streams, folded(symbol), query.interval, request.headers.get("last-event-id"))

    async def list_events(self, user_id: UserIdPath, query: EventsParameters, request: Request) -> Response:
        """Every event of a user's orders, oldest first, from a cursor on.

        The cursors are those of the private channel `orders` of /ws: what one has read, the other goes on behind. At the end
        `next_cursor` is null; the `cursor` of the last event is where to ask again.
        """
        user_id = user_for(caller_of(request.scope), user_id)
        orders = self._streams.orders
        place = orders.start if query.cursor is None else orders.cursors.read(query.cursor)
        found = await orders.page(user_id, place, query.limit + 1)
        page = found[: query.limit]
        last = page[-1] if len(found) > query.limit else None
        return JsonAnswer(
            UserEventList(
                events=[orders.view(user_id, told) for told in page],
                count=len(page),
                next_cursor=None if last is None else orders.cursors.cursor_of(orders.place_of(last)),
            )
        )

    async def websocket(self, query: NoParameters, request: Request) -> Response:  # noqa: ARG002
        """The WebSocket: market data, private events and orders on one connection.

        Connect with a WebSocket client and send JSON: `{"op": "subscribe", "channel": "depth", "symbol": "AAPL"}`. Channels:
        `depth`, `trades`, `ticker`, `candles` (with `interval`) and the private `orders` (with `user_id`, and `from` to
        resume). Ops: `subscribe`, `unsubscribe`, `submit`, `modify`, `cancel`, `batch`, `auth`, `ping`,
        `cancel_on_disconnect`. Each answer carries the `id` that was sent and a `status` as HTTP has. How to follow a book
        without a gap is in the project's docs/streams.md. A request that is no handshake gets 426.
        """
        raise Problem(Reason.WEBSOCKET_NEEDED, headers=((b"upgrade", b"websocket"), (b"connection", b"upgrade")))
