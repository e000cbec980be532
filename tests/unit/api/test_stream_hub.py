"""All streams of a server together: who is counted, who is ended, and what goes on when one of them fails."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import structlog
from msgspec import structs

from factories import an_instrument
from fakes import MakeApp
from ome.api.auth import OPERATOR, Caller
from ome.api.problems import Problem
from ome.api.streams.hub import FREEZE_AT, Streams
from ome.api.streams.market_topics import MarketTopics
from ome.api.streams.outlet import Outlet
from ome.api.streams.session import Session
from ome.domain.access import Access
from ome.domain.ports import Depth
from ome.domain.reasons import Reason
from ome.marketdata.feed import Feed
from ome.marketdata.view import MarketView
from streams import FakeSocket


class Open:
    """A server's streams, some of them open, each with the socket that it writes to."""

    def __init__(self, streams: Streams) -> None:
        self.streams = streams

    def session(self, caller: Caller = OPERATOR) -> FakeSocket:
        """A WebSocket."""
        socket: Any = FakeSocket()
        self.streams._sockets[Session(self.streams._sources, Outlet(socket, self.streams.limits), caller, "r")] = socket
        found: FakeSocket = socket
        return found

    def events(self) -> FakeSocket:
        """A stream of server-sent events."""
        socket = FakeSocket()
        self.streams.open_events(Outlet(socket, self.streams.limits))
        return socket


@pytest.fixture
def opened(make_app: MakeApp) -> Open:
    """A server with room for three."""
    streams = make_app(api_key="sesame").streams
    streams.settings = structs.replace(streams.settings, max_connections=3)
    return Open(streams)


def code(socket: FakeSocket) -> int | None:
    """With what it was closed."""
    return socket.closed and socket.closed[0]


def test_a_revoked_key_ends_its_own_sessions_alone(opened: Open) -> None:
    """Those that it opened; another user's, and one without a key, stay."""
    theirs, other, nobodys = [opened.session(Caller(Access.TRADE, "u", key)) for key in ("k", "l", "")]
    opened.streams.close_key("k")
    assert [code(socket) for socket in (theirs, other, nobodys)] == [4001, None, None]


async def test_a_gap_ends_the_streams_of_its_symbols(opened: Open) -> None:
    """Whoever heard one of them connects again, and finds a topic that begins with how things stand; the others go on."""
    streams, sockets, view = opened.streams, [FakeSocket() for _ in range(3)], MarketView()
    view.load([(an_instrument(symbol), Depth(symbol, 1, 0, [], [])) for symbol in ("AAPL", "MSFT")])
    streams.market = MarketTopics(view, Feed(view), streams.pump, streams.limits)
    for socket, (channel, symbol) in zip(sockets, (("depth", "AAPL"), ("trades", "AAPL"), ("depth", "MSFT")), strict=True):
        topic, _ = streams.market.open(channel, symbol)
        topic.join(Outlet(socket, streams.limits))
    missed, _ = streams.market.open("depth", "AAPL")
    streams.interrupt({"AAPL"})
    assert [code(socket) for socket in sockets] == [1012, 1012, None]
    assert streams.market.open("depth", "AAPL")[0] is not missed
    assert [topic.key[:2] for topic in streams.market.topics()] == [("depth", "MSFT"), ("depth", "AAPL")]
    await streams.shutdown()


async def test_streams_of_both_kinds_count_towards_the_bound(opened: Open) -> None:
    """Three may be open; a fourth is refused until one has gone, and nobody comes in once the service stops."""
    streams = opened.streams
    outlet = Outlet(FakeSocket(), streams.limits)
    opened.session()
    opened.events()
    streams.check_room()
    streams.open_events(outlet)
    with pytest.raises(Problem) as refused:
        streams.check_room()
    assert refused.value.reason is Reason.TOO_MANY_CONNECTIONS
    streams.close_events(outlet)
    streams.check_room()
    await streams.shutdown()
    with pytest.raises(Problem) as refused:
        streams.check_room()
    assert refused.value.reason is Reason.NOT_ACCEPTING


async def test_a_stop_tells_everybody(opened: Open) -> None:
    """A last word on each WebSocket, then the code for a service that restarts, also on event streams."""
    socket, events = opened.session(), opened.events()
    await opened.streams.shutdown()
    assert [message["type"] for message in socket.read()] == ["shutdown"]
    assert (code(socket), code(events)) == (1012, 1012)


async def test_a_goodbye_that_fails_is_logged_and_harms_nobody(opened: Open) -> None:
    """What is left to do for a connection that is gone may fail, as cancelling its orders may."""

    class Failing:
        async def ended(self) -> None:
            raise ZeroDivisionError("gone wrong")

    with structlog.testing.capture_logs() as logs:
        opened.streams._see_off(Failing())  # type: ignore[arg-type]
        while opened.streams._ending:
            await asyncio.sleep(0)
    assert [(entry["event"], entry["error_type"]) for entry in logs] == [("disconnect_failed", "ZeroDivisionError")]


def test_connections_that_last_are_frozen_now_and_then(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once for each FREEZE_AT that came, and only where so many are open."""
    frozen: list[int] = []
    monkeypatch.setattr("ome.api.streams.hub.gc.freeze", lambda: frozen.append(1))
    for _ in range(FREEZE_AT):
        opened.streams._freeze_now_and_then()
    assert not frozen
    many: Any = dict.fromkeys(range(FREEZE_AT))
    opened.streams._sockets = many
    for _ in range(FREEZE_AT):
        opened.streams._freeze_now_and_then()
    assert len(frozen) == 1


@pytest.mark.parametrize(("query", "has_socket", "reason"), [(b"key=k", True, "invalid_request"), (b"", False, "not_supported")])
async def test_a_handshake_that_can_not_be_taken_is_refused(opened: Open, query: bytes, has_socket: bool, reason: str) -> None:
    """Keys in URLs end in logs; a server whose WebSockets aren't these can't bound them."""
    scope = {"query_string": query, "headers": [], "client": ("127.0.0.1", 1)} | ({"ome.socket": None} if has_socket else {})
    with pytest.raises(Problem) as refused:
        opened.streams._admit(scope, {})
    assert refused.value.reason.code == reason
