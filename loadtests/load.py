"""`make load SCENARIO=burst`: one load scenario against a service of its own, a report, and a verdict.

    python -m loadtests.load --scenario burst|steady|balanced|trades|plain [--cluster] [--report FOLDER]

The service runs with its default settings on a new SQLite file. With --cluster (`make load SCENARIO=burst CLUSTER=1`) it is two
gateways and two shards, on NATS and a PostgreSQL server of its own (`PYTHONPATH=tests`); the clients divide themselves among the
gateways and trade a symbol of each shard.

When the scenario has ended the service is stopped, and its database is held against what the clients were told (`verdict.py`).
The report has latencies, throughput, success rate, trades, the service's processor time and memory; in FOLDER (`load-reports`) as
text, and as a page with charts (Locust's). The exit status is 0 only if the scenario went well and the verdict is that all is
sound.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Final

from msgspec import Struct

from loadtests import recovery, verdict
from loadtests.bench import POSTGRES
from loadtests.cluster import cluster
from loadtests.overload import memory_mib
from loadtests.servers import Cores, Server, service
from ome.domain.ids import SHARD_STEP
from ome.domain.shards import highest

GATEWAYS: Final = 2
SHARDS: Final = 2
SCENARIOS: Final = ("burst", "steady", "balanced", "trades", "plain")
SOUND: Final = "sound: every order accounted for, quantities conserved, priority kept, database = engine = journal"
_TAKEN: Final = re.compile(r"([0-9,]+) (?:of [0-9,]+ )?orders taken")
_SAMPLE_S: Final = 0.25


class Usage(Struct):
    """What the service used."""

    cpu_seconds: float = 0.0
    most_memory_mib: float = 0.0
    seconds: float = 0.0


class Watch(threading.Thread):
    """Looks at the memory and the processor time of some processes now and then: their sums."""

    def __init__(self, servers: Sequence[Server]) -> None:
        super().__init__(daemon=True)
        self._servers = servers
        self._told = threading.Event()
        self._began = time.monotonic()
        self._cpu = self._cpu_seconds()
        self.usage = Usage()

    def _cpu_seconds(self) -> float:
        return sum(server.cpu_seconds() or 0.0 for server in self._servers)

    def run(self) -> None:
        """Until told to stop."""
        while not self._told.wait(_SAMPLE_S):
            memory = sum(memory_mib(server.process.pid) for server in self._servers)
            self.usage.most_memory_mib = max(self.usage.most_memory_mib, memory)

    def stop(self) -> Usage:
        """What it came to."""
        self._told.set()
        self.join()
        self.usage.cpu_seconds = self._cpu_seconds() - self._cpu
        self.usage.seconds = time.monotonic() - self._began
        return self.usage


def command_of(scenario: str, url: str, page: Path) -> list[str]:
    """What runs a scenario against a service."""
    if scenario == "plain":
        return [sys.executable, "-m", "loadtests.plain_client", "--url", url]
    locust = ["-m", "locust", "-f", "loadtests/locustfile.py", "--headless", "--host", url, "--scenario", scenario]
    return [sys.executable, *locust, "--html", str(page), "--only-summary", "--loglevel", "WARNING"]


class Target(Struct):
    """What is loaded: its processes, the addresses that clients use, and what the load generator's environment needs."""

    servers: list[Server]
    urls: list[str]
    environment: dict[str, str]


@contextmanager
def single(database_url: str) -> Iterator[Target]:
    """One process."""
    with service(Cores.anywhere(), database_url) as server:
        yield Target([server], [server.url], {})


@contextmanager
def clustered(database_url: str) -> Iterator[Target]:
    """Gateways and shards, and a symbol of each."""
    with (
        tempfile.TemporaryDirectory(prefix="ome-nats-") as folder,
        cluster(database_url, Path(folder), shards=SHARDS, gateways=GATEWAYS) as parts,
    ):
        urls = [part.url for part in parts.values() if part.url]
        symbols = [next(f"LOAD{n}" for n in count() if highest(f"LOAD{n}", SHARDS) == shard) for shard in range(SHARDS)]
        yield Target(list(parts.values()), urls, {"URLS": ",".join(urls), "SYMBOLS": ",".join(symbols)})


@contextmanager
def new_database(*, is_clustered: bool) -> Iterator[str]:
    """The URL of an empty one."""
    if is_clustered:
        with recovery.new_database("postgres", *POSTGRES) as url:
            yield url
        return
    with tempfile.TemporaryDirectory(prefix="ome-load-") as home:
        yield f"sqlite:///{Path(home, 'ome.db')}"


def run(scenario: str, folder: Path, *, is_clustered: bool = False) -> tuple[str, bool]:
    """The report's text, and whether all is well."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{scenario}-cluster" if is_clustered else scenario
    with new_database(is_clustered=is_clustered) as url:
        with (clustered if is_clustered else single)(url) as target:
            watch = Watch(target.servers)
            watch.start()
            command = command_of(scenario, target.urls[0], folder / f"{name}.html")
            environment = os.environ | target.environment
            done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
            usage = watch.stop()
        taken = _TAKEN.search(done.stdout)
        acknowledged = int(taken[1].replace(",", "")) if taken is not None else 0
        wrong = verdict.complaints(url, acknowledged)
        ((trades,),) = verdict.rows(url, "SELECT count(*) FROM stored_trades")
        by_shard = Counter(order_id // SHARD_STEP for (order_id,) in verdict.rows(url, "SELECT id FROM stored_orders"))
    if done.returncode:
        wrong.insert(0, f"the scenario ended with status {done.returncode}")
    if is_clustered and scenario != "plain" and len(by_shard) < SHARDS:
        wrong.append(f"orders came to {len(by_shard)} of {SHARDS} shards")
    used = f"{usage.cpu_seconds:.1f} s of CPU in {usage.seconds:.1f} s, and {usage.most_memory_mib:.0f} MiB at most"
    shards = f"; orders by shard: {', '.join(f'{by_shard[shard]:,}' for shard in sorted(by_shard))}" if is_clustered else ""
    lines = [
        done.stdout.strip() if done.returncode == 0 else (done.stdout + done.stderr).strip(),
        f"  {trades:,} trades{shards}; the {'cluster, without PostgreSQL,' if is_clustered else 'service'} used {used}",
        f"VERDICT: {'; '.join(wrong) or SOUND}",
    ]
    text = "\n".join(lines)
    (folder / f"{name}.txt").write_text(text + "\n")
    return text, not wrong


def main() -> int:
    """Run one; 1 if anything isn't as it should be."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.load", description=__doc__,
                                     formatter_class=argparse.RawTextHelpFormatter)  # fmt: skip
    parser.add_argument("--scenario", choices=SCENARIOS, default="burst")
    parser.add_argument("--report", type=Path, default=Path("load-reports"), help="the folder for the report")
    parser.add_argument("--cluster", action="store_true", help="two gateways and two shards, on PostgreSQL and NATS")
    options = parser.parse_args()
    text, is_sound = run(options.scenario, options.report, is_clustered=options.cluster)
    print(text)
    return 0 if is_sound else 1


if __name__ == "__main__":
    sys.exit(main())
