"""`make overload`: twice as much as the service can do, offered by a generator that doesn't wait.

    python -m loadtests.overload [--rounds 3] [--seconds 8] [--factor 2.0]

First what it can do (its peak goodput): orders over 64, 128 and 256 connections that each wait for their answer, the best of
them. Then, in the same minute, `factor` times that at a fixed rate, one request in twenty a cancel of an order that rests. Asked:

- orders and cancels that are done: at least 90 percent of the peak;
- every refusal is 503 or 429 with Retry-After; nothing else, nothing lost;
- cancels are admitted, though orders are refused;
- the service's memory stays bounded.

The peak is measured before and after, and the mean of the two is what counts: an order costs more as the tables grow, and a busy
neighbour hits both alike. Medians of the rounds count. The service runs on one set of
cores, the generator on another. The exit status is 1 where something isn't as asked.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Final

import msgspec
import uvloop
from msgspec import Struct

from loadtests.open_loop import Load, Request, Tally, allow_open_files, percentile
from loadtests.servers import Cores, Server, service

CONNECTIONS: Final = (64, 128, 256)
"""How many clients wait for their answers when the peak is looked for."""
OVERLOAD_CONNECTIONS: Final = 4000
"""More than the service works on at a time, so that a request finds one that is free."""
FAR: Final = ("900.00", "1.00")
"""Prices at which a sell and a buy rest for good."""
CANCEL_EVERY: Final = 20
LEAST_GOODPUT: Final = 0.9
LEAST_CANCELS: Final = 0.99
MOST_GROWTH_MIB: Final = 256


class Order(Struct):
    """What is read of an answer."""

    order_id: str
    status: str
    price: str


class Flow:
    """Orders that trade with each other around one price, and, where asked for, cancels of orders that rest far from it."""

    def __init__(self, *, cancel_every: int = 0) -> None:
        self.orders = Tally()
        self.cancels = Tally()
        self._cancel_every = cancel_every
        self._resting: deque[str] = deque()
        self._count = itertools.count()
        self._read = msgspec.json.Decoder(Order)

    def __iter__(self) -> Iterator[Request]:
        """Requests without end."""
        for number in self._count:
            if self._cancel_every and number % self._cancel_every == 0 and self._resting:
                yield Request(_cancel(self._resting.popleft()), self.cancels)
            else:
                yield Request(_order(number, rests=bool(self._cancel_every) and number % self._cancel_every == 1), self.orders)

    def seen(self, request: Request, body: bytes) -> None:
        """Keep the ids of orders that rest, for cancels."""
        if request.tally is self.orders and self._cancel_every:
            order = self._read.decode(body)
            if order.status == "PENDING" and order.price in FAR:
                self._resting.append(order.order_id)


def _order(number: int, *, rests: bool) -> bytes:
    pair = number // 2
    price = FAR[number % 2] if rests else f"{100 + pair % 5}.00"
    fields = {
        "user_id": f"u{number % 97}",
        "symbol": f"S{pair % 8}",
        "side": ("SELL", "BUY")[number % 2],
        "quantity": str(1 + pair % 9),
        "price": price,
    }
    body = msgspec.json.encode(fields)
    head = b"POST /orders HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % len(body) + body


def _cancel(order_id: str) -> bytes:
    return f"DELETE /orders/{order_id} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


class Peak(Struct):
    """What it can do."""

    per_second: float = 0.0
    connections: int = 0
    """With so many clients that wait for their answers."""
    cpu_us: float | None = None
    """The service's processor time for an order, in microseconds; None where it can't be told."""


class Round(Struct):
    """One round: what it can do before and after, and what it did when more was asked of it."""

    before: Peak
    after: Peak
    offered_per_second: float
    """What was really sent off, per second: a generator that falls behind offers less than it should."""
    seconds: float
    orders: Tally
    cancels: Tally
    cpu_seconds: float | None
    """Its processor time while more was asked of it."""
    memory_mib: tuple[float, float]
    held_back: int

    @property
    def peak_per_second(self) -> float:
        """What it can do, about the time of this round."""
        return (self.before.per_second + self.after.per_second) / 2

    @property
    def goodput(self) -> float:
        """What was done per second, as a part of the peak."""
        return (self.orders.good + self.cancels.good) / self.seconds / self.peak_per_second

    @property
    def goodput_by_cpu(self) -> float | None:
        """The same by the processor time that the service was given, whatever else the machine had to do meanwhile."""
        if not self.before.cpu_us or not self.after.cpu_us or not self.cpu_seconds:
            return None
        peak_cpu_us = (self.before.cpu_us + self.after.cpu_us) / 2
        return (self.orders.good + self.cancels.good) * peak_cpu_us / 1e6 / self.cpu_seconds

    @property
    def cancels_admitted(self) -> float:
        """The part of the cancels that were answered 2xx."""
        return self.cancels.good / self.cancels.offered if self.cancels.offered else 0.0


async def peak_of(server: Server, port: int, seconds: float) -> Peak:
    """The most orders per second that any number of waiting clients gets done."""
    best = Peak()
    for connections in CONNECTIONS:
        flow = Flow()
        load = Load(port)
        await load.connect(connections)
        started, before = time.perf_counter(), server.cpu_seconds()
        await load.run_closed(iter(flow), seconds / len(CONNECTIONS))
        rate, after = flow.orders.good / (time.perf_counter() - started), server.cpu_seconds()
        if rate > best.per_second:
            cpu_us = None if before is None or after is None else (after - before) / flow.orders.good * 1e6
            best = Peak(rate, connections, cpu_us)
        await load.close()
    return best


async def one_round(server: Server, port: int, options: argparse.Namespace, peak: Peak) -> Round:
    """Ask for more than this peak, then measure the peak again."""
    memory_before = memory_mib(server.process.pid)
    flow = Flow(cancel_every=CANCEL_EVERY)
    load = Load(port, flow.seen)
    await load.connect(OVERLOAD_CONNECTIONS)
    cpu = server.cpu_seconds()
    started = time.perf_counter()
    await load.run_open(iter(flow), peak.per_second * options.factor, options.seconds)
    seconds = time.perf_counter() - started
    cpu_after = server.cpu_seconds()
    offered = (flow.orders.offered + flow.cancels.offered) / options.seconds
    held_back = load.most_waiting
    await load.close()
    used = None if cpu is None or cpu_after is None else cpu_after - cpu
    memory = (memory_before, memory_mib(server.process.pid))
    after = await peak_of(server, port, options.seconds)
    return Round(peak, after, offered, seconds, flow.orders, flow.cancels, used, memory, held_back)


def memory_mib(pid: int) -> float:
    """The resident memory of a process, in MiB; 0 where /proc doesn't say."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def complaints(rounds: Sequence[Round]) -> list[str]:
    """What isn't as asked."""
    found = []
    if (goodput := median(each.goodput for each in rounds)) < LEAST_GOODPUT:
        found.append(f"goodput fell to {goodput:.0%} of the peak")
    for number, each in enumerate(rounds, 1):
        for name, tally in (("orders", each.orders), ("cancels", each.cancels)):
            strange = {status: count for status, count in tally.statuses.items() if status not in {200, 201, 429, 503}}
            if strange or tally.without_retry_after or tally.lost:
                found.append(
                    f"round {number}, {name}: {strange}, {tally.without_retry_after} without Retry-After, {tally.lost} lost"
                )
        if each.cancels_admitted < LEAST_CANCELS:
            found.append(f"round {number}: {each.cancels_admitted:.1%} of the cancels were admitted")
    growth = max(each.memory_mib[1] for each in rounds) - rounds[0].memory_mib[0]
    if growth > MOST_GROWTH_MIB:
        found.append(f"memory grew by {growth:.0f} MiB")
    return found


def table(rounds: Sequence[Round]) -> str:
    """The rounds as people read them."""
    head = ("round", "peak/s", "(clients)", "offered/s", "done/s", "of peak", "refused/s", "no R-A", "lost", "cancels", "p50 ms",
            "p99 ms", "refusal p99", "CPU %", "by CPU", "MiB before", "after", "held back")  # fmt: skip
    rows = [head]
    for number, each in enumerate(rounds, 1):
        tallies = (each.orders, each.cancels)
        good = each.orders.good_s + each.cancels.good_s
        refused = each.orders.refused_s + each.cancels.refused_s
        rows.append((
            str(number), f"{each.peak_per_second:,.0f}", f"({each.before.connections}, {each.after.connections})",
            f"{each.offered_per_second:,.0f}",
            f"{len(good) / each.seconds:,.0f}", f"{each.goodput:.0%}", f"{len(refused) / each.seconds:,.0f}",
            str(sum(tally.without_retry_after for tally in tallies)), str(sum(tally.lost for tally in tallies)),
            f"{each.cancels_admitted:.1%}", f"{1000 * percentile(good, 50):.0f}", f"{1000 * percentile(good, 99):.0f}",
            f"{1000 * percentile(refused, 99):.0f}",
            "?" if each.cpu_seconds is None else f"{100 * each.cpu_seconds / each.seconds:.0f}",
            "?" if each.goodput_by_cpu is None else f"{each.goodput_by_cpu:.0%}",
            f"{each.memory_mib[0]:.0f}", f"{each.memory_mib[1]:.0f}", str(each.held_back),
        ))  # fmt: skip
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    by_cpu = [each.goodput_by_cpu for each in rounds if each.goodput_by_cpu is not None]
    lines.append(f"median: {median(each.goodput for each in rounds):.0%} of the peak goodput")
    if by_cpu:
        lines.append(f"by the processor time that it was given: {median(by_cpu):.0%}")
    return "\n".join(lines + [f"WRONG: {complaint}" for complaint in complaints(rounds)])


def main() -> int:
    """Measure and print; 1 if something isn't as asked."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.overload", description=__doc__,
                                     formatter_class=argparse.RawTextHelpFormatter)  # fmt: skip
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each of the two measurements of a round")
    parser.add_argument("--factor", type=float, default=2.0, help="how many times the peak is offered")
    options = parser.parse_args()
    allow_open_files()
    cores = Cores.of_this_machine()
    if cores.client:
        os.sched_setaffinity(0, cores.client)
    rounds = []
    with tempfile.TemporaryDirectory(prefix="ome-overload-") as folder, service(cores, f"sqlite:///{folder}/ome.db") as server:
        port = int(server.url.rpartition(":")[2])
        peak = uvloop.run(peak_of(server, port, options.seconds))
        for number in range(options.rounds):
            rounds.append(uvloop.run(one_round(server, port, options, peak)))
            peak = rounds[-1].after
            print(f"round {number + 1}: {rounds[-1].goodput:.0%} of the peak", file=sys.stderr, flush=True)
    print(table(rounds))
    return bool(complaints(rounds))


if __name__ == "__main__":
    sys.exit(main())
