"""Rings, outlets and the pump: everybody gets everything in order, or is closed (D2)."""

from __future__ import annotations

import asyncio
import random

import pytest

from ome.api.streams.outlet import SLOW_CONSUMER, Outlet
from ome.api.streams.pump import Pump, Topic
from ome.api.streams.ring import QueueLimits, Ring
from streams import FakeSocket

WIDE = QueueLimits(10**6, 10**9)


def test_a_ring_keeps_what_its_limits_allow() -> None:
    """Both limits hold after each trim, indexes and keys go on, and what is asked for is exactly what was appended."""
    rng, limits = random.Random(1), QueueLimits(700, 9000)
    ring, all_messages, keys = Ring(limits, 0), list[bytes](), list[int]()
    for number in range(5000):
        message = b"%d," % rng.randrange(10 ** rng.randrange(1, 30))
        all_messages.append(message)
        keys.append((keys[-1] if keys else 0) + rng.randrange(1, 4))
        ring.append(message, keys[-1])
        if rng.random() < 0.1:
            ring.trim(ring.end)
            count, size = ring.behind(ring.first)
            assert count <= limits.messages
            assert size <= limits.bytes
            assert ring.first == 0 or count + 1 > limits.messages or size + len(all_messages[ring.first - 1]) > limits.bytes
        index = rng.randrange(ring.first, ring.end)
        assert ring.since(index) == b"".join(all_messages[index:])
        assert ring.behind(index) == (number + 1 - index, len(b"".join(all_messages[index:])))
        key = rng.randrange(keys[-1] + 2)
        first_above = next((i for i, each in enumerate(keys) if each > key), len(keys))
        assert ring.after(key) == (first_above if first_above >= ring.first else None)
        assert ring.last_key == keys[-1]


def test_a_trim_spares_what_was_not_given_yet() -> None:
    """However far beyond the limits."""
    ring = Ring(QueueLimits(2, 100), 0)
    for number in range(1, 10):
        ring.append(b"x", number)
    ring.trim(4)
    assert (ring.first, ring.end) == (4, 9)
    ring.trim(9)
    assert ring.first == 7
    assert ring.after(6) is None
    assert ring.after(7) == 7
    assert Ring(WIDE, 5).after(4) is None
    assert Ring(WIDE, 5).after(5) == 0


def split(data: bytes) -> dict[str, bytes]:
    """What came of each topic, in order."""
    pieces = [piece + b";" for piece in data.split(b";")[:-1]]
    return {name: b"".join(piece for piece in pieces if piece.startswith(name.encode() + b":")) for name in "012"}


async def test_readers_get_everything_in_order_whatever_their_pace() -> None:
    """Those who pause now and then lose nothing; who hears several topics gets what is new of all in one write."""
    rng, pump = random.Random(2), Pump()
    topics = [Topic(("depth", str(number), ""), WIDE, 0, 0.0) for number in range(3)]
    sockets = [FakeSocket() for _ in range(20)]
    outlets = [Outlet(socket, WIDE) for socket in sockets]
    expected = [dict.fromkeys("012", b"") for _ in sockets]
    for step in range(1, 400):
        if step < 60:
            reader, topic = rng.randrange(20), rng.choice(topics)
            if outlets[reader] not in topic.outlets:
                topic.join(outlets[reader])
        for topic in rng.sample(topics, 2):
            message = f"{topic.key[1]}:{step};".encode()
            topic.ring.append(message, step)
            pump.mark(topic)
            for reader, outlet in enumerate(outlets):
                if outlet in topic.outlets:
                    expected[reader][topic.key[1]] += message
        pump.start()
        reader = rng.randrange(20)
        sockets[reader].is_paused = not sockets[reader].is_paused
        outlets[reader].resume()
        if rng.random() < 0.5:
            await asyncio.sleep(0)
    for socket, outlet in zip(sockets, outlets, strict=True):
        socket.is_paused = False
        outlet.resume()
    pump.finish()
    assert [split(socket.data) for socket in sockets] == expected


async def test_several_topics_go_out_in_one_write() -> None:
    """One wake-up for a batch, however many messages and topics it has."""
    pump, socket = Pump(), FakeSocket()
    outlet = Outlet(socket, WIDE)
    topics = [Topic(("depth", str(number), ""), WIDE, 0, 0.0) for number in range(3)]
    for topic in topics:
        topic.join(outlet)
        for number in range(5):
            topic.ring.append(b"m", number)
        pump.mark(topic)
    pump.start()
    await asyncio.sleep(0)
    assert (socket.data, socket.writes) == (b"m" * 15, 1)


async def test_rounds_give_way_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a slice of no time a round of a hundred readers takes several turns of the event loop; nobody is left out."""
    monkeypatch.setattr("ome.api.streams.pump.SLICE_S", 0.0)
    pump, topic = Pump(), Topic(("depth", "A", ""), WIDE, 0, 0.0)
    sockets = [FakeSocket() for _ in range(100)]
    for socket in sockets:
        topic.join(Outlet(socket, WIDE))
    topic.ring.append(b"m", 1)
    pump.mark(topic)
    pump.start()
    turns = 0
    while not all(socket.data for socket in sockets):
        await asyncio.sleep(0)
        turns += 1
    assert turns > 3
    assert {socket.data for socket in sockets} == {b"m"}


@pytest.mark.parametrize("limits", [QueueLimits(10, 10**6), QueueLimits(10**6, 100)])
def test_a_slow_reader_is_closed_and_others_feel_nothing(limits: QueueLimits) -> None:
    """D2: by messages or by bytes, beyond its limit, with 4008; what it was given is a prefix of what there was."""
    pump, topic = Pump(), Topic(("depth", "A", ""), limits, 0, 0.0)
    quick, slow = FakeSocket(), FakeSocket()
    reader = Outlet(slow, limits)
    topic.join(Outlet(quick, limits))
    topic.join(reader)
    stream = b""
    for number in range(1, 30):
        message = b"%010d" % number
        stream += message
        topic.ring.append(message, number)
        pump.mark(topic)
        pump.finish()
        assert (slow.closed is None) == (number <= 13)
        if number == 3:
            slow.is_paused = True
    assert quick.data == stream
    assert slow.data == stream[:30]
    assert slow.closed is not None
    assert slow.closed[0] == SLOW_CONSUMER == reader.close_code
    reader.say(b"more")
    reader.resume()
    assert slow.data == stream[:30]


def test_answers_wait_and_count_too() -> None:
    """Those to a connection that doesn't read are kept in order up to the limit; a snapshot alone may be larger."""
    socket = FakeSocket()
    outlet = Outlet(socket, QueueLimits(3, 10))
    socket.is_paused = True
    outlet.say(b"a large snapshot")
    assert socket.closed is None
    socket.is_paused = False
    outlet.resume()
    assert socket.data == b"a large snapshot"
    socket.is_paused = True
    for message in (b"1", b"2", b"3"):
        outlet.say(message)
    assert socket.closed is None
    outlet.say(b"4")
    assert socket.closed is not None


async def test_waiting_until_a_reader_takes_more() -> None:
    """It ends when the connection takes bytes again, and when it is closed."""
    for end in ("resume", "close"):
        socket = FakeSocket()
        outlet = Outlet(socket, WIDE)
        await outlet.drained()
        socket.is_paused = True
        waiting = asyncio.create_task(outlet.drained())
        await asyncio.sleep(0)
        assert not waiting.done()
        if end == "resume":
            socket.is_paused = False
            outlet.resume()
        else:
            outlet.close(1000, "")
        await waiting


def test_a_topic_knows_since_when_nobody_hears_it() -> None:
    """So that it can be closed a while later."""
    topic = Topic(("depth", "A", ""), WIDE, 0, 1.0)
    outlet = Outlet(FakeSocket(), WIDE)
    seen = [topic.left_at]
    topic.join(outlet)
    seen.append(topic.left_at)
    topic.part(outlet, 2.0)
    assert [*seen, topic.left_at] == [1.0, None, 2.0]
