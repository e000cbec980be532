"""`make load SCENARIO=burst`: one load scenario against a service of its own, a report, and a verdict.

    python -m loadtests.load --scenario burst|steady|balanced|trades|plain [--report FOLDER]

The service runs with its default settings on a new SQLite file. When the scenario has ended it is stopped, and its database is
held against what the clients were told (`verdict.py`). The report has latencies, throughput, success rate, trades, the service's
processor time and memory; in FOLDER (`load-reports`) as text, and as a page with charts (Locust's). The exit status is 0 only if
the scenario went well and the verdict is that all is sound.
"""

from __future__ import annotations

import argparse
import re
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Final

from msgspec import Struct

from loadtests import verdict
from loadtests.overload import memory_mib
from loadtests.servers import Cores, Server, service

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
    """Looks at a server's memory and processor time now and then."""

    def __init__(self, server: Server) -> None:
        super().__init__(daemon=True)
        self._server = server
        self._told = threading.Event()
        self._began = time.monotonic()
        self._cpu = server.cpu_seconds() or 0.0
        self.usage = Usage()

    def run(self) -> None:
        """Until told to stop."""
        while not self._told.wait(_SAMPLE_S):
            self.usage.most_memory_mib = max(self.usage.most_memory_mib, memory_mib(self._server.process.pid))

    def stop(self) -> Usage:
        """What it came to."""
        self._told.set()
        self.join()
        self.usage.cpu_seconds = (self._server.cpu_seconds() or 0.0) - self._cpu
        self.usage.seconds = time.monotonic() - self._began
        return self.usage


def command_of(scenario: str, url: str, page: Path) -> list[str]:
    """What runs a scenario against a service."""
    if scenario == "plain":
        return [sys.executable, "-m", "loadtests.plain_client", "--url", url]
    locust = ["-m", "locust", "-f", "loadtests/locustfile.py", "--headless", "--host", url, "--scenario", scenario]
    return [sys.executable, *locust, "--html", str(page), "--only-summary", "--loglevel", "WARNING"]


def run(scenario: str, folder: Path) -> tuple[str, bool]:
    """The report's text, and whether all is well."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="ome-load-") as home:
        database = Path(home, "ome.db")
        with service(Cores.anywhere(), f"sqlite:///{database}") as server:
            watch = Watch(server)
            watch.start()
            command = command_of(scenario, server.url, folder / f"{scenario}.html")
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            usage = watch.stop()
        taken = _TAKEN.search(done.stdout)
        acknowledged = int(taken[1].replace(",", "")) if taken is not None else 0
        wrong = verdict.complaints(database, acknowledged)
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            (trades,) = connection.execute("SELECT count(*) FROM stored_trades").fetchone()
    if done.returncode:
        wrong.insert(0, f"the scenario ended with status {done.returncode}")
    used = f"{usage.cpu_seconds:.1f} s of CPU in {usage.seconds:.1f} s, and {usage.most_memory_mib:.0f} MiB at most"
    lines = [
        done.stdout.strip() if done.returncode == 0 else (done.stdout + done.stderr).strip(),
        f"  {trades:,} trades; the service used {used}",
        f"VERDICT: {'; '.join(wrong) or SOUND}",
    ]
    text = "\n".join(lines)
    (folder / f"{scenario}.txt").write_text(text + "\n")
    return text, not wrong


def main() -> int:
    """Run one; 1 if anything isn't as it should be."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.load", description=__doc__,
                                     formatter_class=argparse.RawTextHelpFormatter)  # fmt: skip
    parser.add_argument("--scenario", choices=SCENARIOS, default="burst")
    parser.add_argument("--report", type=Path, default=Path("load-reports"), help="the folder for the report")
    options = parser.parse_args()
    text, is_sound = run(options.scenario, options.report)
    print(text)
    return 0 if is_sound else 1


if __name__ == "__main__":
    sys.exit(main())
