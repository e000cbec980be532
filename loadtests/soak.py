"""`make soak`: what thousands of slow and idle clients cost those who trade, and how soon a kill takes effect under full load.

    python -m loadtests.soak [--rounds 3] [--seconds 10] [--rate 300] [--slow 1000] [--lingering 200] [--idle 5000]
                             [--kill-rate 4000] [--kill-seconds 6]

Orders at a fixed rate, by a generator that doesn't wait, first alone, then beside a crowd in a process of its own: slow senders,
which send one byte of a request a second and come again when they are closed; lingering ones, which do the same but don't close
when they are refused, and go on sending; and idle clients, which have had one answer and keep their connection. Both are measured
in each round, one after the other; medians of the rounds count. Asked: with the crowd the 99th percentile of an order's latency
is at most twice what it is without, no order is lost, slow senders are told 408.

Then the kills, of a user, a symbol and all, while more is offered than can be done (`loadtests.kills`).

The crowd needs an open file for each connection: the limit of open files is raised as far as this user may, and the crowd is made
smaller, and the table says so, where that isn't enough. The exit status is 1 where something isn't as asked.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Final

import uvloop
from msgspec import Struct

from loadtests import kills
from loadtests.kills import Kill
from loadtests.open_loop import HELLO, Load, Tally, allow_open_files, percentile
from loadtests.overload import Flow, memory_mib
from loadtests.servers import Cores, Server, service

MOST_RATIO: Final = 2.0
SPARE_FILES: Final = 256
ORDER_CONNECTIONS: Final = 200
SLOW_START: Final = b"POST /orders HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nX-Slow: "
BYTE_EVERY_S: Final = 1.0


class Size(Struct, frozen=True):
    """How many of each kind are in the crowd."""

    slow: int
    lingering: int
    idle: int

    @property
    def all(self) -> int:
        """How many there are."""
        return self.slow + self.lingering + self.idle


class Crowd:
    """Slow senders, lingering ones and idle clients; it lives in a process of its own."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.timed_out = 0
        self.connected = 0

    async def _slow(self, *, lingers: bool = False) -> None:
        while True:
            with suppress(OSError):
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                self.connected += 1
                answer = asyncio.create_task(reader.read())
                with suppress(OSError):
                    writer.write(SLOW_START)
                    while not answer.done():
                        writer.write(b"x")
                        await asyncio.wait([answer], timeout=BYTE_EVERY_S)
                    self.timed_out += b" 408 " in answer.result()[:16]
                    while lingers:  # the service has said its word and its end; until it resets the connection
                        writer.write(b"x")
                        await writer.drain()
                        await asyncio.sleep(BYTE_EVERY_S)
                self.connected -= 1
                writer.close()
            await asyncio.sleep(TICK_S)

    async def _idle(self) -> None:
        while True:
            with suppress(OSError):
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                writer.write(HELLO)
                self.connected += 1
                with suppress(OSError):
                    await reader.read()  # until it is closed
                self.connected -= 1
                writer.close()
            await asyncio.sleep(TICK_S)

    async def run(self, size: Size, pipe: Connection) -> None:
        """Connect them all, say how many are there, and go on until told to stop; then say how many were timed out."""
        tasks, crowd = (
            [],
            [
                *(self._slow() for _ in range(size.slow)),
                *(self._slow(lingers=True) for _ in range(size.lingering)),
                *(self._idle() for _ in range(size.idle)),
            ],
        )
        for number, one in enumerate(crowd):
            tasks.append(asyncio.create_task(one))
            if number % 10 == 0:
                await asyncio.sleep(GATHERING_S * 10 / size.all)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + CONNECT_S
        while self.connected < size.all and loop.time() < deadline:  # noqa: ASYNC110  a poll, before the measuring
            await asyncio.sleep(0.1)
        pipe.send(self.connected)
        while not pipe.poll():  # noqa: ASYNC110  a poll four times a second
            await asyncio.sleep(0.25)
        pipe.send(self.timed_out)


TICK_S: Final = 0.01
CONNECT_S: Final = 60.0
GATHERING_S: Final = 10.0
"""Over how long the crowd comes; clients who know nothing of each other don't come in step."""


def crowd_process(port: int, size: Size, pipe: Connection, cores: frozenset[int]) -> None:
    """The crowd's process."""
    allow_open_files()
    if cores:
        os.sched_setaffinity(0, cores)
    uvloop.run(Crowd(port).run(size, pipe))


class Beside(Struct):
    """A crowd that is there."""

    connected: int
    timed_out: int = 0


@contextmanager
def crowd(port: int, size: Size, cores: Cores) -> Iterator[Beside]:
    """A crowd around the block; afterwards it knows how many slow senders were timed out."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=crowd_process, args=(port, size, there, cores.client))
    process.start()
    try:
        beside = Beside(here.recv())
        yield beside
        here.send("stop")
        beside.timed_out = here.recv()
    finally:
        process.terminate()
        process.join()


class Round(Struct):
    """One round: orders alone, and beside the crowd."""

    alone: Tally
    crowded: Tally
    crowd: Beside
    memory_mib: tuple[float, float]

    @property
    def ratio(self) -> float:
        """How much the crowd adds to the 99th percentile."""
        return percentile(self.crowded.good_s, 99) / percentile(self.alone.good_s, 99)


async def orders(port: int, rate: float, seconds: float) -> Tally:
    """Orders at this rate for so long."""
    flow = Flow()
    load = Load(port)
    await load.connect(ORDER_CONNECTIONS)
    await load.run_open(iter(flow), rate, seconds)
    await load.close()
    return flow.orders


def one_round(server: Server, port: int, options: argparse.Namespace, size: Size, cores: Cores) -> Round:
    """Measure both."""
    before = memory_mib(server.process.pid)
    alone = uvloop.run(orders(port, options.rate, options.seconds))
    with crowd(port, size, cores) as beside:
        crowded = uvloop.run(orders(port, options.rate, max(options.seconds, 11.0)))  # long enough for slow senders to be told
        after = memory_mib(server.process.pid)
    return Round(alone, crowded, beside, (before, after))


def complaints(rounds: list[Round], wanted: int) -> list[str]:
    """What isn't as asked."""
    found = []
    if (ratio := median(each.ratio for each in rounds)) > MOST_RATIO:
        found.append(f"the crowd made the 99th percentile {ratio:.1f} times as long")
    for number, each in enumerate(rounds, 1):
        found += [
            f"round {number}: {tally.offered} orders, answered {dict(tally.statuses)}, {tally.lost} lost"
            for tally in (each.alone, each.crowded)
            if tally.good != tally.offered
        ]
        if each.crowd.connected < wanted:
            found.append(f"round {number}: {each.crowd.connected} of {wanted} were connected")
        if not each.crowd.timed_out:
            found.append(f"round {number}: no slow sender was told 408")
    return found


def table(rounds: list[Round], wanted: int) -> str:
    """The rounds as people read them."""
    lines = [f"{'round':>5}{'':>12}{'orders':>9}{'p50 ms':>9}{'p99 ms':>9}{'connected':>11}{'408':>7}{'MiB':>7}{'p99 ratio':>11}"]
    for number, each in enumerate(rounds, 1):
        for name, tally, connected, told, memory, ratio in (
            ("alone", each.alone, "", "", each.memory_mib[0], ""),
            (
                "crowded",
                each.crowded,
                str(each.crowd.connected),
                str(each.crowd.timed_out),
                each.memory_mib[1],
                f"{each.ratio:.2f}",
            ),
        ):
            p50, p99 = (1000 * percentile(tally.good_s, percent) for percent in (50, 99))
            lines.append(
                f"{number:>5}{name:>12}{tally.good:>9}{p50:>9.1f}{p99:>9.1f}{connected:>11}{told:>7}{memory:>7.0f}{ratio:>11}"
            )
    lines.append(f"median ratio of the 99th percentiles: {median(each.ratio for each in rounds):.2f}")
    return "\n".join(lines + [f"WRONG: {complaint}" for complaint in complaints(rounds, wanted)])


def main() -> int:
    """Measure and print; 1 if something isn't as asked."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.soak", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--rate", type=float, default=300.0, help="orders per second")
    parser.add_argument("--slow", type=int, default=1000)
    parser.add_argument("--lingering", type=int, default=200)
    parser.add_argument("--idle", type=int, default=5000)
    parser.add_argument("--kill-rate", type=float, default=4000.0, help="orders per second, more than can be done")
    parser.add_argument("--kill-seconds", type=float, default=6.0, help="of each of three kills; 0: none")
    options = parser.parse_args()
    files = allow_open_files() - SPARE_FILES
    if options.slow + options.lingering + options.idle > files:
        options.idle = max(0, files - options.slow - options.lingering)
        print(f"only {files} open files are allowed: {options.idle} idle clients (raise ulimit -Hn for more)")
    cores = Cores.of_this_machine()
    if cores.client:
        os.sched_setaffinity(0, cores.client)
    size = Size(options.slow, options.lingering, options.idle)
    rounds, killed = [], list[Kill]()
    with tempfile.TemporaryDirectory(prefix="ome-soak-") as folder, service(cores, f"sqlite:///{folder}/ome.db") as server:
        port = int(server.url.rpartition(":")[2])
        for number in range(options.rounds):
            rounds.append(one_round(server, port, options, size, cores))
            print(f"round {number + 1}: {rounds[-1].ratio:.2f}", file=sys.stderr, flush=True)
        if options.kill_seconds:
            killed = uvloop.run(kills.kills(server, Path(folder) / "ome.db", options.kill_rate, options.kill_seconds))
    if rounds:
        print(table(rounds, size.all))
    if killed:
        print(kills.table(killed))
    return bool((rounds and complaints(rounds, size.all)) or kills.complaints(killed))


if __name__ == "__main__":
    sys.exit(main())
