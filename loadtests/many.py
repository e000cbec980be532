"""Orders in batches and on WebSockets beside what SQLite alone can write, and how long an order takes at half load.

    python -m loadtests.many [--rounds 3] [--seconds 5]

Batches: 4 connections post 500 orders each, one batch after the other; WebSockets: 16 keep 32 orders each under way (`lanes`).
After each round `raw_rows` writes that round's rows once more, with `executemany` alone, into the same tables and in as many
commits, on the same cores; the ratio, orders per second of the wall clock, is the median of the rounds. Half load: single orders
over 64 connections at half of what `wrk` got, or at `--rate`, from a generator that doesn't wait; an order's time counts from the
moment when it was due.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Final

import msgspec
from msgspec import Struct

from loadtests import builds
from loadtests.lanes import Lane
from loadtests.raw_rows import RawFigure
from loadtests.servers import Cores, Server, on_cores, service

TITLES: Final = {"batch": "POST /orders/batch, 500 orders each", "ws": "WebSocket, 16 connections"}


class ManyRow(Struct, frozen=True):
    """Orders per second, of the service and of SQLite alone; medians over the rounds. `bad` orders had no good answer."""

    kind: str
    per_second: float
    raw_per_second: float
    ratio: float
    ratios: list[float]
    orders_per_commit: float
    bad: int
    build: str = builds.PYTHON


class HalfLoad(Struct, frozen=True):
    """Single orders at a fixed rate: how many a second, and how long they took, in milliseconds."""

    per_second: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    bad: int

    @property
    def ratio(self) -> float:
        """The 99th percentile to the median."""
        return self.p99_ms / self.p50_ms


def lane(kind: str, server: Server, cores: Cores, seconds: float, *more: str) -> Lane:
    """One run of the load, in a process of its own."""
    port = server.url.rpartition(":")[2]
    command = [sys.executable, "-m", "loadtests.lanes", kind, "--port", port, "--seconds", str(seconds), *more]
    return msgspec.json.decode(_output(on_cores(cores.client, command)), type=Lane)


def raw(database: Path, after: int, cores: Cores) -> RawFigure:
    """SQLite alone, in a process of its own."""
    command = [sys.executable, "-m", "loadtests.raw_rows", str(database), "--after", str(after)]
    return msgspec.json.decode(_output(on_cores(cores.server, command)), type=RawFigure)


def _output(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with status {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout


def _position(database: Path) -> int:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        found: int = connection.execute("SELECT coalesce(max(last_position), 0) FROM journal").fetchone()[0]
    return found


def measure(rounds: int, seconds: float) -> list[ManyRow]:
    """Batches and WebSockets, each on a service of its own, of each build that there is."""
    cores = Cores.of_this_machine()
    return [_measure(kind, rounds, seconds, cores, build) for kind in TITLES for build in builds.builds()]


def _measure(kind: str, rounds: int, seconds: float, cores: Cores, build: str) -> ManyRow:
    ours: list[Lane] = []
    alone: list[RawFigure] = []
    with tempfile.TemporaryDirectory(prefix="ome-many-") as folder:
        database = Path(folder, "orders.db")
        with service(cores, f"sqlite+aiosqlite:///{database}", **builds.builds()[build]) as server:
            warm_up = lane(kind, server, cores, 1)
            for number in range(rounds):
                before = _position(database)
                ours.append(lane(kind, server, cores, seconds))
                alone.append(raw(database, before, cores))
                say(f"round {number + 1} of {rounds}: {kind} {ours[-1].per_second:,.0f}/s, alone {alone[-1].per_second:,.0f}/s")
    ratios = [mine.per_second / theirs.per_second for mine, theirs in zip(ours, alone, strict=True)]
    return ManyRow(
        kind,
        median(each.per_second for each in ours),
        median(each.per_second for each in alone),
        median(ratios),
        ratios,
        sum(each.orders for each in alone) / sum(each.commits for each in alone),
        sum(each.bad for each in (warm_up, *ours)),
        build,
    )


def measure_half_load(rate: float, seconds: float) -> HalfLoad:
    """Single orders at this rate, on a service of its own."""
    cores = Cores.of_this_machine()
    with (
        tempfile.TemporaryDirectory(prefix="ome-half-") as folder,
        service(cores, f"sqlite+aiosqlite:///{folder}/orders.db") as server,
    ):
        warm_up = lane("rate", server, cores, 1, "--rate", str(rate))
        found = lane("rate", server, cores, seconds, "--rate", str(rate))
    return HalfLoad(found.per_second, found.p50_ms, found.p99_ms, found.p999_ms, warm_up.bad + found.bad)


def table(rows: Sequence[ManyRow]) -> str:
    """The rows as people read them."""
    lines = [f"{'orders in many, and SQLite alone':<42}{'per second':>12}{'alone':>12}{'ratio':>8}{'per commit':>12}"]
    for row in rows:
        rates = f"{row.per_second:>12,.0f}{row.raw_per_second:>12,.0f}{row.ratio:>8.2f}{row.orders_per_commit:>12,.0f}"
        title = "".join((TITLES[row.kind], builds.TITLES[row.build]))
        lines.append(f"{f'  {title}':<42}{rates}   ({min(row.ratios):.2f} to {max(row.ratios):.2f})")
    return "\n".join(lines)


def half_load_table(found: HalfLoad) -> str:
    """The line as people read it."""
    title = f"at half load, {found.per_second:,.0f} orders a second"
    latencies = f"p50 {found.p50_ms:.1f} ms, p99 {found.p99_ms:.1f} ms, p99.9 {found.p999_ms:.1f} ms"
    return f"{title:<42}{latencies}: p99 is {found.ratio:.1f} times p50"


def say(text: str) -> None:
    """Progress, apart from the result."""
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    """Measure, print; 1 where an order had no good answer."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.many", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rate", type=float, help="of the half load; without it that is left out")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = measure(options.rounds, options.seconds)
    half = measure_half_load(options.rate, options.seconds) if options.rate else None
    if options.json:
        print(json.dumps({"rows": msgspec.to_builtins(rows), "half_load": msgspec.to_builtins(half)}, indent=2))
    else:
        print(table(rows) if half is None else f"{table(rows)}\n{half_load_table(half)}")
    return 1 if any(row.bad for row in rows) or (half is not None and half.bad) else 0


if __name__ == "__main__":
    sys.exit(main())
