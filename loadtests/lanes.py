"""Orders in batches, on WebSockets, or one by one at a fixed rate: the load of `many`, in a process of its own.

    python -m loadtests.lanes batch --port 5000 [--connections 4] [--seconds 5]
    python -m loadtests.lanes ws --port 5000 [--connections 16]
    python -m loadtests.lanes rate --port 5000 --rate 1000

`batch`: each connection posts batches of 500 orders, one after the other. `ws`: each socket keeps IN_FLIGHT orders under way.
`rate`: single orders leave when they are due, whatever has become of those before (`open_loop`). The orders are like those of
`orders.lua`, made beforehand. Prints one line of JSON; an order that was not answered with 201 counts as `bad`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import time
from collections.abc import Iterator
from itertools import cycle
from typing import Final, cast

import msgspec
from msgspec import Struct

from loadtests.open_loop import Load, Request, Tally, percentile
from loadtests.stream_readers import HANDSHAKE

BATCH: Final = 500
IN_FLIGHT: Final = 32
DIFFERENT: Final = 20
"""Batches that are made; each is sent again and again."""
_DONE: Final = b'"status":201'
_LENGTH: Final = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
_SMALL, _MEDIUM = 126, 127


class Lane(Struct, frozen=True):
    """What came of a run; latencies in milliseconds, 0.0 where they weren't measured."""

    orders: int
    seconds: float
    bad: int
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    p999_ms: float = 0.0

    @property
    def per_second(self) -> float:
        """Orders answered in a second."""
        return self.orders / self.seconds


def orders(seed: int = 20261122) -> Iterator[str]:
    """Orders that rest and cross, as JSON; endless."""
    draw = random.Random(seed)
    while True:
        buys, offset = draw.random() < 0.5, draw.randint(-100, 50)
        ticks = 15_000 + (offset if buys else -offset)
        user = f"{'buyer' if buys else 'seller'}{draw.randint(1, 20)}"
        yield (
            f'{{"user_id":"{user}","symbol":"BENCH","side":"{"BUY" if buys else "SELL"}","type":"LIMIT",'
            f'"quantity":"{draw.randint(1, 100)}","price":"{ticks / 100:.2f}"}}'
        )


def post(path: str, body: str) -> bytes:
    """A request."""
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return (head + body).encode()


def frame(body: str) -> bytes:
    """A text message of a client's: masked, with zeros."""
    payload = body.encode()
    size = len(payload)
    return bytes([0x81]) + (bytes([0x80 | size]) if size < _SMALL else bytes([0xFE]) + size.to_bytes(2)) + bytes(4) + payload


class Sender(asyncio.Protocol):
    """One connection; the subclasses know how answers are told apart."""

    def __init__(self, messages: Iterator[bytes], until: float, ended: asyncio.Future[None]) -> None:
        self._messages = messages
        self._until = until
        self._ended = ended
        self._data = b""
        self.good = self.bad = self.waiting = 0
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport = cast("asyncio.Transport", transport)
        self.begin()

    def connection_lost(self, _error: Exception | None) -> None:
        """The end; whatever was under way is bad."""
        self.bad += self.waiting
        if not self._ended.done():
            self._ended.set_result(None)

    def begin(self) -> None:
        """Send the first."""
        raise NotImplementedError

    def go_on(self) -> None:
        """Send one more, or end once nothing is under way."""
        if time.perf_counter() < self._until:
            self.waiting += 1
            self.transport.write(next(self._messages))
        elif not self.waiting:
            self.transport.close()


class BatchSender(Sender):
    """Over HTTP, one batch at a time."""

    def begin(self) -> None:
        """Send the first batch."""
        self.go_on()

    def data_received(self, data: bytes) -> None:
        """Some of an answer."""
        self._data += data
        end = self._data.find(b"\r\n\r\n") + 4
        found = _LENGTH.search(self._data, 0, end) if end >= 4 else None
        if found is None or len(self._data) < end + int(found[1]):
            return
        done = self._data.count(_DONE)
        self.good, self.bad, self._data = self.good + done, self.bad + BATCH - done, b""
        self.waiting -= 1
        self.go_on()


class SocketSender(Sender):
    """On a WebSocket, many at a time."""

    def begin(self) -> None:
        """Shake hands."""
        self._is_open = False
        self.transport.write(HANDSHAKE)

    def data_received(self, data: bytes) -> None:
        """The end of the handshake, or some answers."""
        self._data += data
        if not self._is_open:
            head, end, self._data = self._data.partition(b"\r\n\r\n")
            if not end:
                self._data = head
                return
            self._is_open = True
            for _ in range(IN_FLIGHT):
                self.go_on()
        at, data = 0, self._data
        while (end_of := self._end(data, at)) and end_of <= len(data):
            if data[at] == 0x81:
                self.waiting -= 1
                is_good = data.find(_DONE, at, end_of) > 0
                self.good, self.bad = self.good + is_good, self.bad + (not is_good)
                self.go_on()
            at = end_of
        self._data = data[at:]

    @staticmethod
    def _end(data: bytes, at: int) -> int:
        """Where the frame ends that begins here; 0 where its length isn't there yet."""
        if len(data) < at + 2:
            return 0
        size = data[at + 1]
        if size < _SMALL:
            return at + 2 + size
        wide = 2 if size < _MEDIUM else 8
        return 0 if len(data) < at + 2 + wide else at + 2 + wide + int.from_bytes(data[at + 2 : at + 2 + wide])


async def send(kind: str, port: int, connections: int, seconds: float) -> Lane:
    """Batches or messages of sockets, for so long."""
    source = orders()
    if kind == "batch":
        made = [post("/orders/batch", f'{{"orders":[{",".join(next(source) for _ in range(BATCH))}]}}') for _ in range(DIFFERENT)]
    else:
        made = [frame(f'{{"op":"submit","id":{number},{next(source)[1:]}') for number in range(DIFFERENT * BATCH)]
    loop = asyncio.get_running_loop()
    begun = time.perf_counter()
    ends = [loop.create_future() for _ in range(connections)]
    maker = BatchSender if kind == "batch" else SocketSender
    senders = [maker(cycle(made[number:] + made[:number]), begun + seconds, end) for number, end in enumerate(ends)]
    for sender in senders:
        await loop.create_connection(lambda each=sender: each, "127.0.0.1", port)  # type: ignore[misc]
    await asyncio.gather(*ends)
    took = time.perf_counter() - begun
    return Lane(sum(each.good for each in senders), took, sum(each.bad for each in senders))


async def send_at(rate: float, port: int, connections: int, seconds: float) -> Lane:
    """Single orders at a fixed rate; latency counts from the moment when each was due."""
    load, tally, source = Load(port), Tally(), orders()
    await load.connect(connections)
    begun = time.perf_counter()
    await load.run_open((Request(post("/orders", next(source)), tally) for _ in cycle([0])), rate, seconds)
    took = time.perf_counter() - begun
    await load.close()
    shown = [percentile(tally.good_s, percent) * 1000 for percent in (50, 99, 99.9)]
    return Lane(tally.good, took, tally.offered - tally.good, *shown)


def main() -> None:
    """Send, print."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.lanes", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("kind", choices=("batch", "ws", "rate"))
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--connections", type=int)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rate", type=float, default=1000.0)
    options = parser.parse_args()
    connections = options.connections or {"batch": 4, "ws": 16, "rate": 64}[options.kind]
    if options.kind == "rate":
        lane = asyncio.run(send_at(options.rate, options.port, connections, options.seconds))
    else:
        lane = asyncio.run(send(options.kind, options.port, connections, options.seconds))
    print(json.dumps(msgspec.to_builtins(lane)))


if __name__ == "__main__":
    main()
