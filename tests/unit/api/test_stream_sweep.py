"""The sweep over open connections: heartbeats, pings, and the end of those that don't answer."""

from __future__ import annotations

from typing import Any

import pytest

from fakes import MakeApp
from ome.api.auth import OPERATOR
from ome.api.streams.messages import notice
from ome.api.streams.outlet import Outlet
from ome.api.streams.session import Session
from streams import FakeSocket

BEAT = notice("heartbeat", 0)
PING = b"\x89\x00"


class Connection(FakeSocket):
    """A socket that knows when its peer was heard."""

    heard_at = 0.0
    pinged_at = 0.0


@pytest.fixture
def swept(make_app: MakeApp) -> Any:
    """What the sweep writes to a connection at a moment, in seconds after the connection was opened."""
    streams = make_app().streams
    connection = Connection()
    session = Session(streams._sources, Outlet(connection, streams.limits), OPERATOR, "r")
    opened = session.outlet.written_at
    connection.heard_at = connection.pinged_at = opened

    def at(seconds: float, *, heard: bool = False, told: bool = False) -> tuple[bytes, int | None]:
        now = opened + seconds
        if heard:
            connection.heard_at = now
        if told:
            session.outlet.written_at = now
        streams._look_at(session, connection, now, BEAT)  # type: ignore[arg-type]
        if connection.data:
            session.outlet.written_at = now
        data, connection.data = connection.data, b""
        return data, connection.closed and connection.closed[0]

    return at


def test_silence_is_filled_with_heartbeats(swept: Any) -> None:
    """Every half minute of silence one; a connection that is told something needs none."""
    assert swept(29) == (b"", None)
    assert swept(30) == (BEAT, None)
    assert swept(31, heard=True) == (b"", None)
    assert swept(59, told=True) == (b"", None)
    assert swept(88) == (b"", None)
    assert swept(91) == (BEAT + PING, None)


def test_who_is_not_heard_is_pinged_once_and_then_closed(swept: Any) -> None:
    """However much it is told meanwhile; an answer in time lets it live on."""
    assert swept(59, told=True) == (b"", None)
    assert swept(60, told=True) == (PING, None)
    assert swept(61, told=True) == (b"", None)
    assert swept(62, heard=True) == (b"", None)
    assert swept(123, told=True) == (PING, None)
    assert swept(181, told=True) == (b"", None)
    assert swept(182) == (b"", 1011)
