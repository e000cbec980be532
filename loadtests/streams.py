"""`make streams`: what streams cost the service, and its orders.

    python -m loadtests.streams [--idle 10000] [--subscribers 1000] [--stuck 10] [--rate 100] [--seconds 30] [--rounds 3]

Idle: so many WebSockets are opened; the resident memory of the server's process before and after, and the 99th percentile of
GET /health/live while they are open. Busy: orders at a fixed rate (latency counts from when each was due), in turn without
subscribers and with them, all on depth and trades of the one symbol that is traded, some of which never read. Asked:

- the idle ones are held in less than 400 MiB in all;
- the 99th percentile of orders with subscribers is at most twice that without (median of the rounds' ratios);
- those that don't read are closed with 4008; the others have each got exactly as many bytes as all others, and none was lost.

The server runs on one set of cores, orders and readers on another. The exit status is 1 where something isn't as asked.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import random
import re
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import IO, Final, cast

import msgspec
import uvloop
from msgspec import Struct

from loadtests.open_loop import HELLO, Load, Request, Tally, percentile
from loadtests.servers import Cores, Server, on_cores, service
from loadtests.stream_readers import Heard

SYMBOL: Final = "BUSY"
CONNECTIONS: Final = 64
MOST_IDLE_MIB: Final = 400
MOST_RATIO: Final = 2.0
ROOM: Final = {"MAX_CONNECTIONS": "15000"}
BUSY: Final = {"STREAM_QUEUE_BYTES": "131072", "STREAM_HEARTBEAT_SEC": "3600"}
"""A shorter queue than by default, so that those that don't read are closed within a round; no pings: all hear the same."""


class Idle(Struct):
    """The server's resident memory in MiB before and with idle WebSockets, and how long a GET takes then."""

    before_mib: float
    with_mib: float
    get_p99_ms: float


class Round(Struct):
    """One round: percentiles of orders in milliseconds, without subscribers and with them, and what these heard."""

    p50_ms: float
    p99_ms: float
    with_p50_ms: float
    with_p99_ms: float
    refused: int
    closed: int
    """Subscribers that were closed with 4008."""
    heard: Heard

    @property
    def ratio(self) -> float:
        """How much longer the slowest hundredth took with subscribers."""
        return self.with_p99_ms / self.p99_ms


class Readers:
    """A process of `stream_readers`."""

    def __init__(self, cores: Cores, port: int, count: int, *more: str) -> None:
        command = [sys.executable, "-m", "loadtests.stream_readers", "--port", str(port), "--count", str(count), *more]
        self._process = subprocess.Popen(on_cores(cores.client, command), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if self._output.readline() != b"ready\n":
            raise RuntimeError("the readers could not join")

    @property
    def _output(self) -> IO[bytes]:
        return cast("IO[bytes]", self._process.stdout)

    def stop(self) -> Heard:
        """Let them hear the rest: what came."""
        cast("IO[bytes]", self._process.stdin).close()
        told = self._output.read()
        self._process.wait()
        return msgspec.json.decode(told, type=Heard)


@contextmanager
def fresh_service(cores: Cores, settings: Mapping[str, str]) -> Iterator[Server]:
    """A service on a new database."""
    with tempfile.TemporaryDirectory(prefix="ome-streams-") as folder:
        url = f"sqlite+aiosqlite:///{Path(folder) / 'ome.db'}"
        with service(cores, url, **settings) as server:
            yield server


def resident_mib(server: Server) -> float:
    """What the process holds now."""
    pages = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def closed_as_slow(server: Server) -> int:
    """What the service has counted."""
    with urllib.request.urlopen(server.url + "/metrics", timeout=10) as answer:  # noqa: S310  our own loopback address
        found = re.search(rb'^ome_streams_closed_total\{code="4008"\} ([0-9.]+)', answer.read(), re.MULTILINE)
    return int(float(found[1])) if found else 0


def port_of(server: Server) -> int:
    """Where it listens."""
    return int(server.url.rpartition(":")[2])


def orders(tally: Tally, seed: int) -> Iterator[Request]:
    """Limit orders around one price; about half of them trade."""
    rng = random.Random(seed)
    for number in itertools.count():
        side, price = ("BUY", "SELL")[number % 2], 100 + rng.randrange(-5, 6) / 100
        body = (
            f'{{"user_id":"u{rng.randrange(50)}","symbol":"{SYMBOL}","side":"{side}","quantity":{rng.randrange(1, 9)},'
            f'"price":"{price:.2f}"}}'
        ).encode()
        head = f"POST /orders HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        yield Request(head.encode() + body, tally)


def hellos(tally: Tally) -> Iterator[Request]:
    """Requests that ask for nothing."""
    while True:
        yield Request(HELLO, tally)


def offered(server: Server, source: Iterator[Request], rate: float, seconds: float) -> None:
    """Send at a fixed rate."""

    async def run() -> None:
        load = Load(port_of(server))
        await load.connect(CONNECTIONS)
        await load.run_open(source, rate, seconds)
        await load.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


def measure_idle(cores: Cores, count: int) -> Idle:
    """Hold idle WebSockets."""
    with fresh_service(cores, ROOM) as server:
        offered(server, hellos(Tally()), 100, 1)
        before = resident_mib(server)
        readers = Readers(cores, port_of(server), count)
        tally = Tally()
        offered(server, hellos(tally), 100, 70)  # heartbeats and pings go out meanwhile
        with_them = resident_mib(server)
        heard = readers.stop()
        if heard.lost:
            raise RuntimeError(f"{heard.lost} idle connections were lost")
        return Idle(before, with_them, percentile(tally.good_s, 99) * 1000)


def measure_busy(cores: Cores, options: argparse.Namespace, seed: int) -> Round:
    """Orders without subscribers, then with them."""
    with fresh_service(cores, BUSY) as server:
        alone, together = Tally(), Tally()
        offered(server, orders(Tally(), seed), options.rate, 2)
        offered(server, orders(alone, seed + 1), options.rate, options.seconds)
        more = ("--symbol", SYMBOL, "--stuck", str(options.stuck))
        readers = Readers(cores, port_of(server), options.subscribers, *more)
        offered(server, orders(together, seed + 2), options.rate, options.seconds)
        refused = sum(count for tally in (alone, together) for status, count in tally.statuses.items() if status >= 300)
        return Round(
            p50_ms=percentile(alone.good_s, 50) * 1000,
            p99_ms=percentile(alone.good_s, 99) * 1000,
            with_p50_ms=percentile(together.good_s, 50) * 1000,
            with_p99_ms=percentile(together.good_s, 99) * 1000,
            refused=refused + alone.lost + together.lost,
            closed=closed_as_slow(server),
            heard=readers.stop(),
        )


def complaints(idle: Idle, rounds: list[Round], stuck: int) -> list[str]:
    """What isn't as asked."""
    found = []
    if idle.with_mib >= MOST_IDLE_MIB:
        found.append(f"idle WebSockets take {idle.with_mib:.0f} MiB; {MOST_IDLE_MIB} are allowed")
    if (ratio := median(each.ratio for each in rounds)) > MOST_RATIO:
        found.append(f"with subscribers orders take {ratio:.2f} times as long; {MOST_RATIO} is allowed")
    for each in rounds:
        if each.refused:
            found.append(f"{each.refused} orders were not taken")
        if each.heard.lost or len(set(each.heard.bytes_each)) != 1:
            sizes = sorted(set(each.heard.bytes_each))
            found.append(f"{each.heard.lost} subscribers were lost; they got between {sizes[0]} and {sizes[-1]} bytes")
        if each.closed != stuck:
            found.append(f"{each.closed} subscribers were closed with 4008; {stuck} didn't read")
    return found


def table(idle: Idle, rounds: list[Round], options: argparse.Namespace) -> str:
    """The figures, for the README."""
    sent = median(sum(each.heard.bytes_each) for each in rounds) / 2**20
    alone = f"{median(each.p50_ms for each in rounds):.1f} / {median(each.p99_ms for each in rounds):.1f} ms"
    together = f"{median(each.with_p50_ms for each in rounds):.1f} / {median(each.with_p99_ms for each in rounds):.1f} ms"
    ratio = f"p99 {median(each.ratio for each in rounds):.2f} times"
    memory = f"{idle.with_mib:.0f} MiB ({idle.before_mib:.0f} without)"
    return "\n".join(
        [
            "| streams | |",
            "|---|---|",
            f"| memory of the process, {options.idle:,} idle WebSockets | {memory} |",
            f"| GET p99 meanwhile | {idle.get_p99_ms:.1f} ms |",
            f"| order p50 / p99 at {options.rate:.0f} a second | {alone} |",
            f"| with {options.subscribers:,} subscribers on depth and trades | {together}: {ratio} |",
            f"| sent to them in {options.seconds} s | {sent:.0f} MiB; {options.stuck} that don't read: closed with 4008 |",
        ]
    )


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.streams", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--idle", type=int, default=10_000)
    parser.add_argument("--subscribers", type=int, default=1000)
    parser.add_argument("--stuck", type=int, default=10)
    parser.add_argument("--rate", type=float, default=100)
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    cores = Cores.of_this_machine()
    idle = measure_idle(cores, options.idle)
    rounds = [measure_busy(cores, options, 100 * number) for number in range(options.rounds)]
    print(table(idle, rounds, options))
    found = complaints(idle, rounds, options.stuck)
    for complaint in found:
        print(f"WRONG: {complaint}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
