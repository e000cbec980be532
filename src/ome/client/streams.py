"""Channels over WebSockets that are made again for as long as somebody listens.

A `Subscription` is one channel over one connection. What it hears is `Started` (the service has taken the subscription), then
the channel's messages, then `Lost` when the connection broke or the service ended the subscription; and so on. It ends when it is
closed, and with Refused for what won't change by trying again. A dead connection is noticed by pings.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, Final, Protocol

import msgspec
from msgspec import Struct
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from ome.client.errors import NOT_EXECUTED, Problem, Refused, Unavailable
from ome.client.models import (
    CandleMessage,
    ChannelName,
    DepthMessage,
    IntervalName,
    Message,
    OrderEvent,
    TickerMessage,
    Trade,
    TradeList,
    TradeMessage,
)
from ome.client.transport import KEY_HEADER, Pauses, decode

CONNECT_SECONDS: Final = 10.0
CLOSE_SECONDS: Final = 0.5
"""How long leaving may wait for the service's goodbye, which stands behind all that was sent and nobody reads any more."""
PING_SECONDS: Final = 10.0
"""Between pings, and how long an answer to one may take."""
LONGEST_PAUSE_SECONDS: Final = 5.0
MAX_MESSAGE_BYTES: Final = 64 * 1024 * 1024
"""Largest message: a snapshot has every level of a book."""
UNAUTHENTICATED: Final = 4001
PAGE: Final = 1000
_LASTING: Final = frozenset({400, 401, 403, 404, 405, 410, 422})
"""Statuses that trying again won't change."""
_FORMS: Final[dict[str, type[Message]]] = {
    "depth": DepthMessage,
    "trades": TradeMessage,
    "ticker": TickerMessage,
    "candles": CandleMessage,
}


class Started(Struct, frozen=True, kw_only=True):
    """The service has taken the subscription: `sequence` is the symbol's, `cursor` the place in a user's events, both of the
    history `incarnation`.
    """

    sequence: int = 0
    cursor: str | None = None
    incarnation: str = ""


class Lost(Struct, frozen=True):
    """Nothing is heard until it has started again."""


class _Envelope(Struct, frozen=True, kw_only=True):
    """What every message may have: those of a channel say which, replies have a status."""

    channel: str | None = None
    type: str | None = None
    status: int | None = None
    sequence: int = 0
    cursor: str | None = None
    incarnation: str = ""
    problem: Problem | None = None


class _OrderMessage(Struct, frozen=True, kw_only=True):
    event: OrderEvent


Heard = Started | Lost | str
"""A message of the channel is its text."""


class Connector:
    """Where subscriptions connect to; it closes those that are open."""

    def __init__(self, url: str, api_key: str | None) -> None:
        scheme, separator, place = url.partition("://")
        if not separator or scheme not in {"http", "https"}:
            raise ValueError(f"the URL must start with http:// or https://, not {url!r}")
        self._url = f"{'wss' if scheme == 'https' else 'ws'}://{place.rstrip('/')}/ws"
        self._headers = {KEY_HEADER: api_key} if api_key else {}
        self._open: set[Subscription] = set()
        self.is_closed = False

    def connect(self) -> connect:
        """A connection on its way."""
        return connect(
            self._url,
            additional_headers=self._headers,
            open_timeout=CONNECT_SECONDS,
            ping_interval=PING_SECONDS,
            ping_timeout=PING_SECONDS,
            close_timeout=CLOSE_SECONDS,
            max_size=MAX_MESSAGE_BYTES,
            compression=None,
        )

    def add(self, subscription: Subscription) -> None:
        """Close it in the end."""
        self._open.add(subscription)

    def remove(self, subscription: Subscription) -> None:
        """It has closed itself."""
        self._open.discard(subscription)

    async def close(self) -> None:
        """End every subscription."""
        self.is_closed = True
        for subscription in list(self._open):
            await subscription.close()


class Subscription:
    """One channel. `request` gives what is asked for, each time anew: where a reader goes on changes."""

    def __init__(self, connector: Connector, request: Callable[[], dict[str, Any]]) -> None:
        self._connector = connector
        self._request = request
        self._socket: ClientConnection | None = None
        self._is_closed = False

    async def close(self) -> None:
        """End it; who iterates comes to the end."""
        self._is_closed = True
        if self._socket is not None:
            await self._socket.close()

    async def restart(self) -> None:
        """Subscribe again on the same connection; what comes before the next Started is of the subscription before."""
        if self._socket is not None:
            try:
                await self._socket.send(_encode({"op": "subscribe", **self._request()}))
            except ConnectionClosed:  # its reader notices by itself
                return

    async def heard(self) -> AsyncGenerator[Heard]:
        """See the module. Raises Refused."""
        pauses = Pauses(LONGEST_PAUSE_SECONDS)
        self._connector.add(self)
        try:
            while not (self._is_closed or self._connector.is_closed):
                try:
                    async with self._connector.connect() as socket:
                        self._socket = socket
                        await self.restart()
                        async for text in socket:
                            heard = _read(text)
                            if isinstance(heard, Lost):
                                break
                            if isinstance(heard, Started):
                                pauses.reset()
                            if heard is not None:
                                yield heard
                except (OSError, TimeoutError, WebSocketException) as error:
                    _raise_if_lasting(error)
                self._socket = None
                if not self._is_closed:
                    yield Lost()
                    await asyncio.sleep(pauses.next())
        finally:
            self._connector.remove(self)


def _read(text: str | bytes) -> Heard | None:
    """What a message is; None for one that is about the connection alone. Raises Refused."""
    said = decode(text, _Envelope)
    if said.channel is not None:
        return text if isinstance(text, str) else text.decode()
    if said.problem is not None:
        if said.problem.status in _LASTING:
            raise Refused(said.problem)
        return Lost()
    if said.type != "subscribed":
        return None
    return Started(sequence=said.sequence, cursor=said.cursor, incarnation=said.incarnation)


def _raise_if_lasting(error: Exception) -> None:
    if isinstance(error, InvalidStatus) and error.response.status_code in _LASTING:
        try:
            problem = msgspec.json.decode(error.response.body or b"", type=Problem)
        except msgspec.MsgspecError:
            problem = Problem(status=error.response.status_code, detail="No WebSocket at /ws.", outcome=NOT_EXECUTED)
        raise Refused(problem) from error
    if isinstance(error, ConnectionClosed) and error.rcvd is not None and error.rcvd.code == UNAUTHENTICATED:
        raise Refused(Problem(status=401, code="unauthorized", detail=error.rcvd.reason, outcome=NOT_EXECUTED)) from error


def _encode(message: dict[str, Any]) -> str:
    return msgspec.json.encode({name: value for name, value in message.items() if value is not None}).decode()


class ReadTrades(Protocol):
    """`Client.trades`."""

    async def __call__(self, *, symbol: str, limit: int, cursor: str | None) -> TradeList:
        """A page, newest first."""


async def stream(
    connector: Connector,
    trades: ReadTrades,
    channel: ChannelName,
    symbol: str,
    interval: IntervalName | None,
    start: int | None = None,
) -> AsyncGenerator[Message]:
    """See `Client.stream`."""
    form = _FORMS.get(channel)
    if form is None:
        raise ValueError(f"the channel must be one of {', '.join(_FORMS)}, not {channel!r}; order_events has a user's own")
    request = {"channel": channel, "symbol": symbol, "interval": interval}
    seen, history = start, ""
    async with aclosing(Subscription(connector, lambda: request).heard()) as conversation:
        async for heard in conversation:
            if isinstance(heard, Started) and channel == "trades":
                if seen is None or history not in {"", heard.incarnation}:  # sequences of another history mean nothing here
                    seen = heard.sequence
                history = heard.incarnation
                for trade in await _missed(trades, symbol, seen, heard.sequence):
                    yield _message(trade, seen)
                    seen = trade.sequence
            elif isinstance(heard, str):
                message = decode(heard, form)
                seen = message.sequence
                yield message


async def _missed(trades: ReadTrades, symbol: str, after: int, upto: int) -> list[Trade]:
    """The trades that nobody listened to, oldest first; asked for until they are there. Raises Refused."""
    pauses = Pauses(LONGEST_PAUSE_SECONDS)
    while True:
        try:
            return await _between(trades, symbol, after, upto)
        except Unavailable:
            await asyncio.sleep(pauses.next())


async def _between(trades: ReadTrades, symbol: str, after: int, upto: int) -> list[Trade]:
    found: list[Trade] = []
    cursor: str | None = None
    while after < upto:
        page = await trades(symbol=symbol, limit=PAGE, cursor=cursor)
        found += [trade for trade in page.trades if after < trade.sequence <= upto]
        cursor = page.next_cursor
        if cursor is None or page.trades[-1].sequence <= after:
            break
    return found[::-1]


def _message(trade: Trade, previous_sequence: int) -> TradeMessage:
    return TradeMessage(
        channel="trades",
        type="update",
        symbol=trade.symbol,
        sequence=trade.sequence,
        previous_sequence=previous_sequence,
        trade=trade,
    )


async def order_events(connector: Connector, user_id: str | None, cursor: str | None) -> AsyncGenerator[OrderEvent]:
    """See `Client.order_events`."""
    place = cursor

    def request() -> dict[str, Any]:
        wanted = {"channel": "orders", "user_id": user_id, "from": place}
        return {name: value for name, value in wanted.items() if value is not None}

    async with aclosing(Subscription(connector, request).heard()) as conversation:
        async for heard in conversation:
            if isinstance(heard, Started):
                place = heard.cursor or place
            elif isinstance(heard, str):
                event = decode(heard, _OrderMessage).event
                place = event.cursor
                yield event
