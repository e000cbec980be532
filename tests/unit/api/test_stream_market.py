"""What public channels say is enough for a client's own book, with checksums and links, as server-sent events too (D1)."""

from __future__ import annotations

import asyncio
import json
import random
from collections import defaultdict
from zlib import crc32

import msgspec
import pytest

from market_flow import random_command
from ome.api.streams import book_snapshots
from ome.api.streams.market_topics import STREAM, MarketTopics
from ome.api.streams.messages import DepthMessage, as_frame, checksum, depth_snapshot
from ome.api.streams.outlet import Outlet
from ome.api.streams.pump import Pump
from ome.api.streams.ring import QueueLimits
from ome.api.views import depth_view, trade_view
from ome.domain.commands import Stamped
from ome.domain.events import Event, Traded
from ome.domain.numbers import pack
from ome.domain.ports import Depth
from ome.engine.engine import Engine
from ome.marketdata.feed import Feed
from ome.marketdata.view import MarketView
from streams import Book, FakeSocket, Message, messages

WIDE = QueueLimits(10**6, 10**9)
DAY_US = 24 * 3600 * 10**6


class Rig:
    """An engine whose events go through the feed to topics."""

    def __init__(self, limits: QueueLimits = WIDE) -> None:
        self.engine, self.view, self.pump = Engine(), MarketView(clock_us=lambda: 0), Pump()
        self.feed = Feed(self.view)
        self.topics = MarketTopics(self.view, self.feed, self.pump, limits)
        self.pump.start = lambda: None  # type: ignore[method-assign]  # rounds are begun by hand
        self.tape: list[Message] = []
        self.position = 0

    def run(self, rng: random.Random, commands: int) -> None:
        """Some more batches."""
        batch: list[Event] = []
        for _ in range(commands):
            self.position += 1
            batch += self.engine.apply(Stamped(self.position, self.position * 50_000, random_command(rng, self.position)))
            if rng.random() < 0.3:
                self._commit(batch)
                batch = []
        self._commit(batch)

    def _commit(self, batch: list[Event]) -> None:
        self.feed.committed(batch)
        shown = (trade_view(event.trade) for event in batch if isinstance(event, Traded) and event.trade.symbol == "AAA")
        self.tape += [msgspec.to_builtins(trade) for trade in shown]
        self.pump.finish()

    def subscribe(self, channel: str, interval: str = "") -> FakeSocket:
        """A reader of AAA."""
        socket = FakeSocket()
        topic, _ = self.topics.open(channel, "AAA", interval)
        outlet = Outlet(socket, WIDE)
        beginning = self.topics.beginning(topic)
        assert beginning is not None
        outlet.say(beginning)
        topic.join(outlet)
        return socket

    def book(self) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        """The engine's own."""
        own = next(book for book in self.engine.books() if book.instrument.symbol == "AAA").depth(0)
        shown = depth_view(own)
        return tuple([(level.price, level.quantity) for level in side] for side in (shown.bids, shown.asks))  # type: ignore[return-value]


def test_a_follower_of_the_depth_channel_has_the_engines_book() -> None:
    """Whenever it joins: snapshot and updates, links and checksums, end in the very levels that the engine has."""
    rng, rig = random.Random(8), Rig()
    rig.run(rng, 50)
    readers = []
    for _ in range(12):
        readers.append((rig.subscribe("depth"), Book()))
        rig.run(rng, 120)
        for socket, book in readers:
            for message in socket.read():
                book.take(message)
            assert book.levels() == rig.book()


def test_a_follower_of_trades_has_the_tape_as_rest_shows_it() -> None:
    """Every trade once, in order, each linked to the one before it."""
    rng, rig = random.Random(9), Rig()
    rig.run(rng, 50)
    start = len(rig.tape)
    socket, last = rig.subscribe("trades"), None
    rig.run(rng, 600)
    seen = socket.read()
    for message in seen:
        assert last is None or message["previous_sequence"] == last
        last = message["sequence"] = message["trade"]["sequence"]
    assert [message["trade"] for message in seen] == rig.tape[start:]
    assert len(seen) > 50


def test_a_ticker_says_what_the_market_says() -> None:
    """After each batch the last ticker told is the market as it stands."""
    rng, rig = random.Random(10), Rig()
    rig.run(rng, 50)
    socket = rig.subscribe("ticker")
    last: Message = {}
    for _ in range(60):
        rig.run(rng, 3)
        for message in socket.read():
            assert not last or message["previous_sequence"] == last["sequence"] or last["type"] == "snapshot"
            last = message
        bids, asks = rig.book()
        best = [quote and (quote["price"], quote["quantity"]) for quote in (last["best_bid"], last["best_ask"])]
        assert best == [bids[0] if bids else None, asks[0] if asks else None]
        assert last["state"] == "OPEN"


def test_candles_come_from_the_trades() -> None:
    """D4: the last message of each candle adds its trades up; one that ends is told once more before the next begins."""
    rng, rig = random.Random(11), Rig()
    rig.run(rng, 50)
    before = len(rig.tape)
    sockets = {interval: rig.subscribe("candles", interval) for interval in ("1s", "1d")}
    rig.run(rng, 2000)
    told = {interval: socket.read() for interval, socket in sockets.items()}
    seconds = {message["candle"]["open_time"]: message["candle"] for message in told["1s"]}
    for open_time, candle in list(seconds.items())[1:]:  # the first may have begun before
        mine = [trade for trade in rig.tape[before:] if trade["executed_at"][:19] == open_time[:19]]
        assert candle["trades"] == len(mine)
        assert (candle["open"], candle["close"]) == (mine[0]["price"], mine[-1]["price"])
    assert {trade["executed_at"][:19] for trade in rig.tape[before:]} <= {open_time[:19] for open_time in seconds}
    assert told["1d"][0]["type"] == "snapshot"
    assert told["1d"][-1]["candle"]["trades"] == len(rig.tape)


def test_server_sent_events_say_the_same() -> None:
    """Depth, trades, tickers and the candles of an interval of one symbol, in the order of its sequence; tickers and candles are
    no place to resume from. Candles are those of the channel.
    """
    rng, rig = random.Random(12), Rig()
    rig.run(rng, 50)
    topic, sequence = rig.topics.open(STREAM, "AAA", "1s")
    minutes, candles = rig.subscribe(STREAM, "1m"), rig.subscribe("candles", "1s")
    socket, beginning = FakeSocket(), rig.topics.beginning(topic)
    assert beginning is not None
    start = len(rig.tape)
    topic.join(Outlet(socket, WIDE))
    rig.run(rng, 500)
    book, told, last = Book(), defaultdict[bytes, list[Message]](list), sequence
    for kind, event_id, message in events(beginning + socket.data):
        assert (event_id == b"%d" % message["sequence"]) == (kind in {b"depth", b"trade"})
        assert message["sequence"] >= last or kind == b"candle"  # which has the sequence of its last trade
        last = max(last, message["sequence"])
        told[kind].append(message)
        if kind == b"depth":
            book.take(message)
    assert book.levels() == rig.book()
    assert [message["trade"] for message in told[b"trade"]] == rig.tape[start:]
    assert told[b"candle"] == candles.read()
    assert {message["interval"] for kind, _, message in events(minutes.data) if kind == b"candle"} == {"1m"}


def events(data: bytes) -> list[tuple[bytes, bytes | None, Message]]:
    """Server-sent events: what they are called, their ids, their data."""
    found = [dict(line.split(b": ", 1) for line in event.split(b"\n")) for event in data.split(b"\n\n")[:-1]]
    return [(fields[b"event"], fields.get(b"id"), json.loads(fields[b"data"])) for fields in found]


def test_a_reader_that_comes_back_gets_every_change_and_how_things_stand() -> None:
    """Resumed from the id of any event: all depth and trades behind it, once, then the ticker and the candle as they are."""
    rng, rig = random.Random(14), Rig()
    rig.run(rng, 50)
    socket = rig.subscribe(STREAM, "1s")
    topic, _ = rig.topics.open(STREAM, "AAA", "1s")
    rig.run(rng, 300)
    heard = events(socket.data)
    changes = [(event_id, message) for _, event_id, message in heard if event_id is not None]
    for index, (event_id, _) in enumerate(changes):
        found = rig.topics.resumption(topic, (event_id or b"").decode())
        assert found is not None
        again = events(found)
        assert [(same, message) for _, same, message in again if same is not None] == changes[index + 1 :]
        assert [(kind, message["type"]) for kind, _, message in again[-2:]] == [(b"ticker", "snapshot"), (b"candle", "snapshot")]
        assert again[-1][2]["candle"] == [message for kind, _, message in heard if kind == b"candle"][-1]["candle"]


def test_an_event_id_says_which_history_it_is_of() -> None:
    """HOLE12: whoever comes back goes on where he was in the same history, and starts anew in another one."""
    rng, rig = random.Random(15), Rig()
    rig.topics = MarketTopics(rig.view, rig.feed, rig.pump, WIDE, lambda: "0123456789abcdef")
    rig.run(rng, 50)
    topic, sequence = rig.topics.open(STREAM, "AAA", "1m")
    rig.run(rng, 50)
    assert b".01234567\n" in (rig.topics.beginning(topic) or b"")
    assert rig.topics.resumption(topic, f"{sequence}.01234567") is not None
    for other in (f"{sequence}", f"{sequence}.89abcdef", "", f"{sequence}.", "x", f"{10**9}.01234567"):
        assert rig.topics.resumption(topic, other) is None, other


async def joined_when_made(rig: Rig, channel: str, limits: QueueLimits) -> FakeSocket:
    """A reader of a book that is large, as sessions and event streams join it."""
    socket, (topic, _) = FakeSocket(), rig.topics.open(channel, "AAA")
    while (beginning := rig.topics.beginning(topic)) is None:
        await rig.topics.prepare(topic)
    outlet = Outlet(socket, limits)
    outlet.say(beginning)
    topic.join(outlet)
    return socket


async def test_a_large_books_readers_share_what_is_made_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """D1: whoever joins before, while and after a large book's snapshot is made, with trading between its slices, ends with the
    engine's book; it is made far fewer times than it is asked for.
    """
    monkeypatch.setattr(book_snapshots, "SLICE", 1)
    made: list[int] = []

    def counted(depth: Depth, bids: msgspec.Raw, asks: msgspec.Raw) -> DepthMessage:
        made.append(depth.sequence)
        return depth_snapshot(depth, bids, asks)

    monkeypatch.setattr(book_snapshots, "depth_snapshot", counted)
    limits = QueueLimits(4, 10**9)  # while a snapshot is made nothing that it will need is dropped
    rng, rig = random.Random(14), Rig(limits)
    rig.run(rng, 200)
    joining: list[asyncio.Task[FakeSocket]] = []
    for number in range(120):
        if number % 3 == 0:
            joining.append(asyncio.create_task(joined_when_made(rig, "depth", WIDE)))
        await asyncio.sleep(0)
        rig.run(rng, 3)
    sockets = await asyncio.gather(*joining)
    rig.run(rng, 20)
    for socket in sockets:
        book, told = Book(), [message for message in socket.read() if message["channel"] == "depth"]
        assert [message["type"] for message in told].count("snapshot") == 1
        for message in told:
            book.take(message)
        assert book.levels() == rig.book()
    assert 1 < len(made) < len(sockets) / 2


def test_a_topic_nobody_hears_is_closed_and_its_symbol_is_not_watched() -> None:
    """It may be opened again, and starts from where the symbol is then."""
    rng, rig = random.Random(13), Rig()
    rig.run(rng, 50)
    socket = rig.subscribe("depth")
    topic, _ = rig.topics.open("depth", "AAA")
    rig.topics.close_idle(1e18)
    rig.run(rng, 50)
    assert len(socket.read()) > 1
    for outlet in list(topic.outlets):
        topic.part(outlet, 0.0)
    rig.topics.close_idle(1.0)
    rig.run(rng, 50)
    again, sequence = rig.topics.open("depth", "AAA")
    assert again is not topic
    assert again.ring.end == 0
    assert again.ring.after(sequence) == 0


def test_a_symbol_is_watched_for_as_long_as_it_has_a_topic(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last topic of several that is closed ends it, and no other."""
    rng, rig = random.Random(14), Rig()
    rig.run(rng, 50)
    heard, unwatched = Outlet(FakeSocket(), WIDE), list[str]()
    monkeypatch.setattr(rig.feed, "unwatch", unwatched.append)
    depth, ticker = (rig.topics.open(channel, "AAA")[0] for channel in ("depth", "ticker"))
    ticker.join(heard)
    rig.topics.close_idle(1e18)
    before = depth.ring.end, ticker.ring.end
    rig.run(rng, 50)
    assert (depth.ring.end, ticker.ring.end > before[1], unwatched) == (before[0], True, [])
    ticker.part(heard, 0.0)
    rig.topics.close_idle(1e18)
    gone = ticker.ring.end
    rig.run(rng, 50)
    assert (ticker.ring.end, unwatched) == (gone, ["AAA"])


def test_the_checksum_is_what_the_docs_say() -> None:
    """CRC-32 of `price:quantity;` of ten bids, best first, then of ten asks, computed here from the words of the docs."""
    bids = [(pack(10000 - 25 * n, 2), pack(5 + n, 0), 1) for n in range(12)]
    asks = [(pack(10100 + 25 * n, 2), pack(70 + n, 1), 1) for n in range(12)]
    words = "".join(f"{(10000 - 25 * n) / 100:.2f}:{5 + n};" for n in range(10))
    words += "".join(f"{(10100 + 25 * n) / 100:.2f}:{(70 + n) / 10:.1f};" for n in range(10))
    assert words.startswith("100.00:5;99.75:6;")
    assert checksum(Depth("AAA", 1, 1, bids, asks)) == crc32(words.encode())
    assert checksum(Depth("AAA", 1, 1, [], [])) == 0


def test_frames_of_every_size_are_read_back() -> None:
    """The three forms of a length in RFC 6455."""
    for size in (0, 125, 126, 65_535, 65_536, 200_000):
        payload = b'"' + b"x" * size + b'"'
        assert [str(message) for message in messages(as_frame(payload))] == [payload[1:-1].decode()]
