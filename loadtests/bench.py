"""`make bench`: the figures of the README's table, measured side by side in one run.

    python -m loadtests.bench [--rounds 5] [--seconds 5] [--connections 64] [--open-orders 50000] [--json]

HTTP: wrk posts the orders of `orders.lua` over 64 kept-alive connections, in turn to the baseline (`baseline.py`, a FastAPI
route that does nothing), to the service (`python -m ome serve` on a new SQLite file, every answer durable), and to one with every
check on: each user sends a key of its own, rates are counted, limits of every kind are set (positions are kept in both). All are
on the same cores; wrk has another. Rounds are interleaved, their order swapped each time, and the ratio is the median of the
rounds, so that a busy neighbour hits all alike. An answer other than 2xx, or a socket error, makes the run fail. None logs its
requests. The service on PostgreSQL, with a server of its own that flushes, takes part where there is one (PYTHONPATH=tests).
Batches of 500 and WebSockets: orders per second beside what SQLite's `executemany` alone writes of the same rows (`many`).
Where `make compiled` has compiled the engine's core, the service and the engine are measured with it too, in the same rounds.
Half load: how long an order takes at half of what the service could do, without coordinated omission.
Engine: commands per second in process; what a command costs among 1,000 resting orders and among many, and the memory of each
(`engine_size`); the same flow in other engines that pip installs, where `make peers` has made their environment (`peers`).
Growth: what an order and a question cost while more and more orders are stored, symbols listed, users known (`growth`).
Recovery: a start of the service with so many open orders (`recovery.py` measures more).

What can't be measured here (no wrk) is SKIPPED with what to do about it; never a figure that was not measured.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Final

import msgspec
from msgspec import Struct

from loadtests import engine_flow, engine_size, growth, many, peers, recovery
from loadtests.builds import CORE, PYTHON, builds
from loadtests.checked import checked_service
from loadtests.servers import Cores, Server, baseline, on_cores, service

SCRIPT: Final = Path(__file__).with_name("orders.lua")
NO_WRK: Final = "SKIPPED: wrk is not installed (Debian, Ubuntu: apt-get install wrk; macOS: brew install wrk)"
WARM_UP_SECONDS: Final = 1
POSTGRES: Final = ("max_connections=60", "shared_buffers=128MB")
"""Settings of the server: it flushes, as it does by itself."""
RESULT: Final = re.compile(r"RESULT requests=(\d+) duration=(\d+) non_2xx=(\d+) socket_errors=(\d+) p50=(\d+) p99=(\d+)")


class Round(Struct, frozen=True):
    """One round of wrk against one server. `cpu_us_per_request` is the server's, None where it can't be told."""

    server: str
    requests: int
    seconds: float
    non_2xx: int
    socket_errors: int
    p50_ms: float
    p99_ms: float
    cpu_us_per_request: float | None

    @property
    def per_second(self) -> float:
        """Requests answered in a second."""
        return self.requests / self.seconds


class HttpRow(Struct, frozen=True):
    """A server's line in the table: medians over its rounds, sums of what went wrong."""

    name: str
    requests_per_second: float
    cpu_us_per_request: float | None
    p50_ms: float
    p99_ms: float
    requests: int
    non_2xx: int
    socket_errors: int


class Report(Struct, frozen=True):
    """All of a run. `skipped` says why there is no HTTP figure; the others are None then."""

    machine: str
    engine_commands: int
    engine_trades: int
    engine_commands_per_second: float
    engine_with_records_per_second: float
    skipped: str | None = None
    baseline: HttpRow | None = None
    service: HttpRow | None = None
    checked: HttpRow | None = None
    ratio: float | None = None
    ratios: list[float] = []
    checked_ratio: float | None = None
    checked_ratios: list[float] = []
    postgres: HttpRow | None = None
    """Its processor time is the service's alone."""
    postgres_skipped: str = ""
    postgres_ratio: float | None = None
    """To the service on SQLite."""
    postgres_ratios: list[float] = []
    in_many: list[many.ManyRow] = []
    half_load: many.HalfLoad | None = None
    orders_in_database: int | None = None
    checked_in_database: int | None = None
    trades_in_database: int | None = None
    recovery: recovery.Figure | None = None
    sizes: list[engine_size.Size] = []
    growth: growth.Growth | None = None
    peers: list[peers.Peer] | None = None
    """None where there is no environment with other engines."""
    compiled_engine: engine_flow.EngineFigure | None = None
    """This and the next: the same with the core compiled; None where it isn't."""
    compiled: list[HttpRow] = []
    """The service, and the one with every check on."""
    compiled_ratios: dict[str, list[float]] = {}
    """To the baseline, by the name of the row."""

    @property
    def complaints(self) -> list[str]:
        """What makes the figures worthless; empty if all is well."""
        rows = [row for row in (self.baseline, self.service, self.checked, self.postgres, *self.compiled) if row is not None]
        found = [f"{row.name}: {row.non_2xx} answers were not 2xx" for row in rows if row.non_2xx]
        found += [f"{row.name}: {row.socket_errors} socket errors" for row in rows if row.socket_errors]
        for row, stored in ((self.service, self.orders_in_database), (self.checked, self.checked_in_database)):
            if row is not None and (stored or 0) < row.requests:
                found.append(f"{row.name}: {row.requests} orders were acknowledged, {stored} are in the database")
        found += [f"{many.TITLES[row.kind]}: {row.bad} orders had no good answer" for row in self.in_many if row.bad]
        if self.half_load is not None and self.half_load.bad:
            found.append(f"half load: {self.half_load.bad} orders had no good answer")
        return found


def drive(server: Server, cores: Cores, seconds: int, connections: int, environment: Mapping[str, str]) -> Round:
    """One round: `seconds` of wrk with this in its environment. RuntimeError where wrk fails."""
    wrk = ["wrk", "--threads", "1", "--connections", str(connections), "--duration", f"{seconds}s", "--timeout", "10s",
           "--script", str(SCRIPT), server.url]  # fmt: skip
    before = server.cpu_seconds()
    environment = os.environ | environment
    done = subprocess.run(on_cores(cores.client, wrk), capture_output=True, text=True, check=False, env=environment)
    after = server.cpu_seconds()
    match = RESULT.search(done.stdout)
    if done.returncode or match is None:
        raise RuntimeError(f"wrk failed with status {done.returncode}: {done.stdout}{done.stderr}")
    requests, duration_us, non_2xx, socket_errors, p50_us, p99_us = map(int, match.groups())
    cpu = None if before is None or after is None or not requests else (after - before) / requests * 1e6
    return Round(server.name, requests, duration_us / 1e6, non_2xx, socket_errors, p50_us / 1000, p99_us / 1000, cpu)


def row_of(name: str, rounds: Sequence[Round], warm_up: Round) -> HttpRow:
    """The table's line for a server; the warm-up counts in what it was sent and what went wrong, not in the medians."""
    every = [warm_up, *rounds]
    cpu = [each.cpu_us_per_request for each in rounds if each.cpu_us_per_request is not None]
    return HttpRow(
        name,
        median(each.per_second for each in rounds),
        median(cpu) if cpu else None,
        median(each.p50_ms for each in rounds),
        median(each.p99_ms for each in rounds),
        sum(each.requests for each in every),
        sum(each.non_2xx for each in every),
        sum(each.socket_errors for each in every),
    )


Target = tuple[Server, Mapping[str, str]]
"""A server, and what wrk's environment holds for it."""


def interleaved(targets: Sequence[Target], cores: Cores, options: argparse.Namespace) -> list[list[Round]]:
    """`rounds` rounds for each server, in turn, there and back: which one goes first changes each time."""
    results: dict[str, list[Round]] = {server.name: [] for server, _ in targets}
    for number in range(options.rounds):
        for server, environment in targets if number % 2 == 0 else targets[::-1]:
            results[server.name].append(drive(server, cores, options.seconds, options.connections, environment))
            say(f"round {number + 1} of {options.rounds}: {server.name} {results[server.name][-1].per_second:,.0f}/s")
    return list(results.values())


def measure_http(report: Report, options: argparse.Namespace) -> Report:
    """The report with the HTTP rows filled in."""
    if shutil.which("wrk") is None:
        return msgspec.structs.replace(report, skipped=NO_WRK)
    cores = Cores.of_this_machine()
    with tempfile.TemporaryDirectory(prefix="ome-bench-") as folder:
        files = [Path(folder, name) for name in ("plain.db", "checked.db", "compiled.db", "compiled-checked.db")]
        urls = [f"sqlite+aiosqlite:///{file}" for file in files]
        with ExitStack() as stack:
            first = stack.enter_context(baseline(cores))
            second = stack.enter_context(service(cores, urls[0]))
            checked, keys = stack.enter_context(checked_service(cores, urls[1]))
            third = replace(checked, name="checked")
            targets: list[Target] = [(first, {}), (second, {}), (third, keys)]
            compiled = compiled_targets(stack, cores, urls[2:])
            fourth = on_postgres(stack, cores)
            targets += [*compiled, *([(fourth, {})] if isinstance(fourth, Server) else [])]
            warm_ups = [drive(server, cores, WARM_UP_SECONDS, options.connections, more) for server, more in targets]
            firsts, seconds, thirds, *others = interleaved(targets, cores, options)
        (orders, trades), (checked_orders, _) = (rows_in(database) for database in files[:2])
    compiled_rounds, fourths = others[: len(compiled)], others[len(compiled) :]
    ratios, checked_ratios = ratios_of(seconds, firsts), ratios_of(thirds, firsts)
    postgres_ratios = ratios_of(fourths[0], seconds) if fourths else []
    return msgspec.structs.replace(
        report,
        baseline=row_of("baseline", firsts, warm_ups[0]),
        service=row_of("service", seconds, warm_ups[1]),
        checked=row_of("checked", thirds, warm_ups[2]),
        postgres=row_of("postgres", fourths[0], warm_ups[-1]) if fourths else None,
        compiled=[
            row_of(server.name, rounds, warm_up)
            for (server, _), rounds, warm_up in zip(compiled, compiled_rounds, warm_ups[3:], strict=False)
        ],
        compiled_ratios={
            server.name: ratios_of(rounds, firsts) for (server, _), rounds in zip(compiled, compiled_rounds, strict=True)
        },
        postgres_skipped="" if isinstance(fourth, Server) else fourth,
        postgres_ratio=median(postgres_ratios) if fourths else None,
        postgres_ratios=postgres_ratios,
        ratio=median(ratios),
        ratios=ratios,
        checked_ratio=median(checked_ratios),
        checked_ratios=checked_ratios,
        orders_in_database=orders,
        checked_in_database=checked_orders,
        trades_in_database=trades,
    )


def ratios_of(ours: Sequence[Round], theirs: Sequence[Round]) -> list[float]:
    """Requests per second to requests per second, round by round."""
    return [mine.per_second / other.per_second for mine, other in zip(ours, theirs, strict=True)]


def compiled_targets(stack: ExitStack, cores: Cores, urls: Sequence[str]) -> list[Target]:
    """The service and the one with every check on, with the core compiled; none where it isn't."""
    known = builds().get(CORE)
    if known is None:
        return []
    plain = stack.enter_context(service(cores, urls[0], **known))
    checked, keys = stack.enter_context(checked_service(cores, urls[1], **known))
    return [(replace(plain, name="compiled"), {}), (replace(checked, name="compiled, checked"), keys)]


def on_postgres(stack: ExitStack, cores: Cores) -> Server | str:
    """The service on a PostgreSQL of its own, which shares its cores; or why there is none."""
    try:
        url = stack.enter_context(recovery.new_database("postgres", *POSTGRES, cores=cores.server))
    except RuntimeError as error:
        return f"SKIPPED: {error}"
    return replace(stack.enter_context(service(cores, url)), name="postgres")


def rows_in(database: Path) -> tuple[int, int]:
    """How many orders and trades a SQLite file holds."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        orders, trades = (connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("orders", "trades"))  # noqa: S608
    return orders, trades


def table(report: Report) -> str:
    """The report as people read it."""
    lines = [report.machine, ""]
    lines.append(f"{'':<42}{'per second':>12}{'CPU us each':>13}{'p50 ms':>9}{'p99 ms':>9}{'not 2xx':>9}")
    for title, rate in (
        ("engine commands, in process", report.engine_commands_per_second),
        ("  with records and state hash", report.engine_with_records_per_second),
    ):
        lines.append(f"{title:<42}{rate:>12,.0f}{1e6 / rate:>13.1f}")
    if report.compiled_engine is not None:
        rate = report.compiled_engine.with_records_per_second
        lines.append(f"{'  the same, core compiled':<42}{rate:>12,.0f}{1e6 / rate:>13.1f}")
    lines += http_lines(report)
    if report.in_many:
        lines += ["", many.table(report.in_many)]
    if report.half_load is not None:
        lines += ["", many.half_load_table(report.half_load)]
    if report.sizes:
        lines += ["", engine_size.table(report.sizes)]
    if report.growth is not None:
        lines += ["", growth.table(report.growth)]
    lines += ["", peers.table(report.peers)]
    if report.recovery is not None:
        lines += ["", recovery.table(report.recovery)]
    return "\n".join(lines + [f"WRONG: {complaint}" for complaint in report.complaints])


def http_lines(report: Report) -> list[str]:
    """The rows of the servers and their ratios."""
    lines = []
    for title, row in (
        ("POST /orders, route that does nothing", report.baseline),
        ("POST /orders, durable (SQLite)", report.service),
        ("  each with its user's key, rates and limits", report.checked),
        *((f"  durable, {row.name}", row) for row in report.compiled),
        ("  durable (PostgreSQL)", report.postgres),
    ):
        if row is None:
            lines.append(f"{title:<42}{report.skipped or report.postgres_skipped}")
            continue
        cpu = "?" if row.cpu_us_per_request is None else f"{row.cpu_us_per_request:.0f}"
        lines.append(f"{title:<42}{row.requests_per_second:>12,.0f}{cpu:>13}{row.p50_ms:>9.1f}{row.p99_ms:>9.1f}{row.non_2xx:>9}")
    for title, ratio, ratios in (
        ("service / baseline, median of pairs", report.ratio, report.ratios),
        ("  with every check on", report.checked_ratio, report.checked_ratios),
        *((f"  {name}", median(ratios), ratios) for name, ratios in report.compiled_ratios.items()),
        ("PostgreSQL / SQLite", report.postgres_ratio, report.postgres_ratios),
    ):
        if ratio is not None:
            lines.append(f"{title:<42}{ratio:>12.2f}   ({min(ratios):.2f} to {max(ratios):.2f})")
    if report.orders_in_database is not None:
        lines.append(f"in the database afterwards: {report.orders_in_database:,} orders, {report.trades_in_database:,} trades")
    return lines


def say(text: str) -> None:
    """Progress, apart from the result."""
    print(text, file=sys.stderr, flush=True)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.bench", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="pairs of rounds")
    parser.add_argument("--seconds", type=int, default=5, help="length of a round")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--commands", type=int, default=200_000, help="length of the engine's flow")
    parser.add_argument("--open-orders", type=int, default=50_000, help="open orders to start with; 0: leave it out")
    parser.add_argument("--resting", type=int, default=1_000_000, help="orders in the engine's large book; 0: leave it out")
    parser.add_argument("--stored", type=int, default=100_000, help="orders in the largest stored history; 0: leave it out")
    parser.add_argument("--flow", type=Path, help="a recorded day of order flow for the comparison; without it one is generated")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    return parser.parse_args()


def main() -> int:
    """Measure, print; 1 if something went wrong on the way."""
    options = arguments()
    say(f"engine: three passes over {options.commands:,} commands")
    figures = {build: engine_flow.measured(options.commands, known) for build, known in builds().items()}
    figure = figures[PYTHON]
    machine = f"{platform.system()} {platform.machine()}, {platform.python_implementation()} {platform.python_version()}"
    rates = (figure.commands_per_second, figure.with_records_per_second)
    report = Report(machine, figure.commands, figure.trades, *rates, compiled_engine=figures.get(CORE))
    try:
        if options.resting:
            say(f"engine: among 1,000 and {options.resting:,} resting orders")
            report = msgspec.structs.replace(report, sizes=engine_size.measure(options.resting))
        if options.stored:
            say(f"growth: a history of 10,000 to {options.stored:,} orders")
            report = msgspec.structs.replace(report, growth=growth.measure(options.stored))
        say("engine and others")
        rows = min(peers.ROWS, options.commands)
        report = msgspec.structs.replace(report, peers=peers.measure(options.flow, rows, peers.ROUNDS))
        report = measure_http(report, options)
        report = msgspec.structs.replace(report, in_many=many.measure(options.rounds, options.seconds))
        if report.service is not None:
            half = many.measure_half_load(report.service.requests_per_second / 2, options.seconds * 2)
            report = msgspec.structs.replace(report, half_load=half)
        if options.open_orders:
            report = msgspec.structs.replace(report, recovery=recovery.run("sqlite", options.open_orders))
    except RuntimeError as error:
        say(f"bench: {error}")
        return 1
    print(json.dumps(msgspec.to_builtins(report), indent=2) if options.json else table(report))
    return 1 if report.complaints else 0


if __name__ == "__main__":
    sys.exit(main())
