"""Who may connect, and what is worked on: the counting alone; real connections are in the integration tests."""

from __future__ import annotations

import asyncio

import pytest

from ome.api.connections import ConnectionLimits, Connections
from ome.domain.reasons import Reason


class Counted:
    """What a sweep tells."""

    def __init__(self) -> None:
        self.open: list[int] = []
        self.refused: list[tuple[str, int]] = []

    def connections_open(self, count: int) -> None:
        """So many."""
        self.open.append(count)

    def connection_refused(self, code: str, count: int) -> None:
        """So many of these."""
        self.refused.append((code, count))


class FakeConnection:
    """A connection that keeps when it was called late; it owes nothing until a test says so."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.receive_by = self.send_by = float("inf")
        self.late = asyncio.Event()
        self.error: Exception | None = None
        self.transport = self

    def is_late(self, _now: float) -> None:
        """As the watch calls it."""
        self.late.set()
        if self.error is not None:
            raise self.error
        self.receive_by = self.send_by = float("inf")

    def abort(self) -> None:
        """As its transport's."""
        self.receive_by = self.send_by = float("inf")


def watch(counted: Counted | None = None, **limits: float) -> Connections:
    """A watch with these limits."""
    return Connections(ConnectionLimits(**limits), counted or Counted())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("address", "most", "has_room"),
    [("10.0.0.1", 2, False), ("10.0.0.2", 2, True), ("10.0.0.1", 0, True), ("127.0.0.1", 2, True), ("::1", 2, True)],
)
async def test_an_address_has_room_up_to_its_share(address: str, most: int, has_room: bool) -> None:
    """Two are there from 10.0.0.1 and from loopback; 0 is no limit, and loopback has none."""
    connections = watch(connections_per_address=most)
    for there in ("10.0.0.1", "10.0.0.1", "127.0.0.1", "127.0.0.1", "::1", "::1"):
        connections.join(FakeConnection(), there)  # type: ignore[arg-type]
    assert connections.has_room_for(address, 7) is has_room


async def test_whoever_leaves_makes_room_once() -> None:
    """A connection that is told twice that it is gone is counted once."""
    connections = watch(connections_per_address=1)
    gone = FakeConnection()
    connections.join(gone, "10.0.0.1")  # type: ignore[arg-type]
    assert not connections.has_room_for("10.0.0.1", 2)
    connections.leave(gone, "10.0.0.1")  # type: ignore[arg-type]
    connections.leave(gone, "10.0.0.1")  # type: ignore[arg-type]
    assert connections.has_room_for("10.0.0.1", 1)
    assert len(connections) == 0


async def test_the_whole_server_has_room_up_to_its_share() -> None:
    """The connection that asks is counted among those that are there."""
    connections = watch(connections=5)
    assert connections.has_room_for("127.0.0.1", 5)
    assert not connections.has_room_for("127.0.0.1", 6)


@pytest.mark.parametrize(
    ("method", "path", "at_work", "admitted"),
    [
        ("POST", "/orders", 99, True),
        ("POST", "/orders", 100, False),
        ("GET", "/orders/1", 100, False),
        ("DELETE", "/orders/1", 100, True),
        ("GET", "/health", 100, True),
        ("GET", "/metrics", 100, True),
        ("PUT", "/admin/kill", 117, True),
        ("POST", "/users/ann/cancel_all_after", 117, True),
        ("GET", "/admin/audit", 100, False),
        ("DELETE", "/orders/1", 117, True),
        ("DELETE", "/orders/1", 118, False),
        ("GET", "/health/live", 118, False),
    ],
)
async def test_the_last_slots_are_kept(method: str, path: str, at_work: int, admitted: bool) -> None:
    """Of 100 requests that may be worked on, 18 more are for cancels, kills, timers and the service's health alone."""
    connections = watch(requests=100)
    connections.requests = at_work
    assert connections.admits(method, path) is admitted


async def test_a_sweep_ends_what_is_late_and_tells_the_counts() -> None:
    """Only those whose moment has passed are called late; refusals are counted up and told once."""
    counted = Counted()
    connections = watch(counted, receive_timeout_s=0.01)
    late, early = FakeConnection(), FakeConnection()
    connections.join(late, "10.0.0.1")  # type: ignore[arg-type]
    connections.join(early, "10.0.0.1")  # type: ignore[arg-type]
    connections.refused(Reason.OVERLOADED)
    connections.refused(Reason.OVERLOADED)
    late.send_by = late.loop.time()
    await late.late.wait()
    assert not early.late.is_set()
    assert counted.open[-1] == 2
    assert counted.refused == [("overloaded", 2)]
    connections.leave(late, "10.0.0.1")  # type: ignore[arg-type]
    connections.leave(early, "10.0.0.1")  # type: ignore[arg-type]
    while counted.open[-1]:  # the sweep that finds nobody is the last one
        await asyncio.sleep(0)


async def test_one_that_cannot_be_ended_keeps_no_other_open() -> None:
    """Its error is reported, it is aborted, the others that are late are ended, and later sweeps come."""
    connections = watch(receive_timeout_s=0.01)
    told: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: told.append(context["exception"]))
    broken, late, later = FakeConnection(), FakeConnection(), FakeConnection()
    broken.error = RuntimeError("a bug")
    for connection in (broken, late, later):
        connections.join(connection, "10.0.0.1")  # type: ignore[arg-type]
    broken.receive_by = late.receive_by = loop.time()
    await asyncio.gather(broken.late.wait(), late.late.wait())
    later.receive_by = loop.time()
    await later.late.wait()
    assert (told, broken.receive_by) == ([broken.error], float("inf"))
    for connection in (broken, late, later):
        connections.leave(connection, "10.0.0.1")  # type: ignore[arg-type]


async def test_one_that_left_in_time_is_not_called_late() -> None:
    """Of many that are late together the last ones are ended a moment later; who has gone by then is left alone."""
    connections = watch(receive_timeout_s=0.01)
    many = [FakeConnection() for _ in range(25)]
    for connection in many:
        connections.join(connection, "10.0.0.1")  # type: ignore[arg-type]
        connection.receive_by = connection.loop.time()
    await next(asyncio.as_completed([connection.late.wait() for connection in many]))
    gone = [connection for connection in many if not connection.late.is_set()]
    for connection in gone:
        connections.leave(connection, "10.0.0.1")  # type: ignore[arg-type]
    last = FakeConnection()
    connections.join(last, "10.0.0.1")  # type: ignore[arg-type]
    last.receive_by = last.loop.time()
    await last.late.wait()
    assert gone
    assert not any(connection.late.is_set() for connection in gone)
