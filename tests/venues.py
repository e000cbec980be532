"""A venue of a test's own: REST answers from a list, and a WebSocket on loopback that keeps a book and can break its promises."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from typing import Any
from zlib import crc32

import httpx
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from ome.client import Client

TIME = "2026-11-22T10:00:00.000001Z"
Reply = httpx.Response | Exception


def order(**changed: Any) -> dict[str, Any]:
    """An order as the service answers it."""
    return {
        "order_id": "1",
        "client_order_id": "mine",
        "user_id": "alice",
        "symbol": "AAPL",
        "side": "BUY",
        "type": "LIMIT",
        "time_in_force": "GTC",
        "quantity": "10",
        "filled_quantity": "0",
        "remaining_quantity": "10",
        "price": "150.50",
        "average_price": None,
        "status": "PENDING",
        "reason": None,
        "version": 1,
        "created_at": TIME,
        "updated_at": TIME,
        "self_trade_prevention": "CANCEL_NEWEST",
    } | changed


def problem(status: int, code: str, outcome: str = "not_executed", **more: Any) -> httpx.Response:
    """An error as the service answers it."""
    headers = more.pop("headers", None)
    body = {"status": status, "code": code, "title": "no", "detail": "do this", "outcome": outcome, "type": "x", **more}
    return httpx.Response(status, json=body, headers=headers)


class Script:
    """Answers requests with these, one after the other, and keeps what was asked."""

    def __init__(self, *replies: Reply) -> None:
        self.replies = list(replies)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer."""
        self.requests.append(request)
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply

    @property
    def bodies(self) -> list[Any]:
        """The requests' JSON."""
        return [json.loads(request.content) for request in self.requests if request.content]

    @property
    def asked(self) -> list[str]:
        """The requests' methods and targets."""
        return [f"{request.method} {request.url.raw_path.decode()}" for request in self.requests]


def client_of(handler: Callable[[httpx.Request], httpx.Response], deadline_seconds: float = 30.0) -> Client:
    """A client whose requests are answered by a function."""
    return Client("http://venue.test", "key", deadline_seconds=deadline_seconds, transport=httpx.MockTransport(handler))


class SocketVenue:
    """A depth channel that is kept right, unless a test says otherwise."""

    def __init__(self) -> None:
        self.url = ""
        self.sequence = 0
        self.depth_sequence = 0
        self.sides: dict[str, dict[str, str]] = {"bids": {}, "asks": {}}
        self.listeners: dict[ServerConnection, dict[str, Any]] = {}
        self.subscriptions: list[dict[str, Any]] = []
        self.headers: list[str | None] = []
        self.subscribed = asyncio.Event()
        self.answer: Callable[[dict[str, Any]], list[dict[str, Any]]] | None = None

    def checksum(self) -> int:
        """As the service's documentation has it."""
        bids = sorted(self.sides["bids"].items(), key=lambda level: -Decimal(level[0]))[:10]
        asks = sorted(self.sides["asks"].items(), key=lambda level: Decimal(level[0]))[:10]
        return crc32("".join(f"{price}:{quantity};" for price, quantity in (*bids, *asks)).encode())

    def message(self, kind: str, sides: dict[str, dict[str, str]], previous: int | None) -> dict[str, Any]:
        """A message of the depth channel."""
        levels = {
            side: [{"price": price, "quantity": quantity, "orders": 1} for price, quantity in found.items()]
            for side, found in sides.items()
        }
        return {
            "channel": "depth",
            "type": kind,
            "symbol": "AAPL",
            "sequence": self.sequence,
            "previous_sequence": previous,
            "timestamp": TIME,
            "checksum": self.checksum(),
            "something_new": True,
            **levels,
        }

    async def change(self, side: str, price: str, quantity: str, *, is_lost: bool = False, **wrong: Any) -> None:
        """Change a level and tell everybody; or tell nobody, or something wrong."""
        self.sequence += 1
        if quantity == "0":
            self.sides[side].pop(price)
        else:
            self.sides[side][price] = quantity
        update = self.message("update", {"bids": {}, "asks": {}} | {side: {price: quantity}}, self.depth_sequence) | wrong
        self.depth_sequence = self.sequence
        if not is_lost:
            await self.say(update)

    async def say(self, message: dict[str, Any]) -> None:
        """Tell everybody."""
        for socket in list(self.listeners):
            with contextlib.suppress(ConnectionClosed):
                await socket.send(json.dumps(message))

    async def flood(self, message: dict[str, Any]) -> None:
        """Tell everybody so much that a reader who doesn't read doesn't get to the end of it; ends with the connections."""
        while self.listeners:
            await self.say(message)

    async def drop(self) -> None:
        """Break every connection off."""
        self.subscribed.clear()
        for socket in list(self.listeners):
            socket.transport.abort()

    async def handle(self, socket: ServerConnection) -> None:
        """One connection."""
        assert socket.request is not None
        self.headers.append(socket.request.headers.get("X-API-Key"))
        with contextlib.suppress(ConnectionClosed):
            async for text in socket:
                asked = json.loads(text)
                self.subscriptions.append(asked)
                self.listeners[socket] = asked
                replies = self.answer(asked) if self.answer is not None else self.beginning(asked)
                for reply in replies:
                    await socket.send(json.dumps(reply))
                self.subscribed.set()
        self.listeners.pop(socket, None)

    def beginning(self, asked: dict[str, Any]) -> list[dict[str, Any]]:
        """The answer to a subscription, and a snapshot."""
        ack = {"status": 200, "type": "subscribed", "subscription": {"channel": asked["channel"]}, "sequence": self.sequence}
        return [ack, self.message("snapshot", self.sides, None)]


@contextlib.asynccontextmanager
async def socket_venue() -> AsyncIterator[SocketVenue]:
    """A venue on a free port of loopback."""
    venue = SocketVenue()
    async with serve(venue.handle, "127.0.0.1", 0) as server:
        host, port = next(iter(server.sockets)).getsockname()[:2]
        venue.url = f"http://{host}:{port}"
        yield venue
