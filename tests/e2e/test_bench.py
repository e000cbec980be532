"""The benchmark from end to end: both servers, wrk and the database."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from loadtests.bench import NO_WRK
from loadtests.many import TITLES

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(330)  # a dozen servers, one after the other
@pytest.mark.skipif(shutil.which("wrk") is None, reason=NO_WRK)
def test_bench_measures_both_sides_and_finds_every_order_again() -> None:
    """A short run has a figure for each row, no refused request, and each acknowledged order in the database."""
    command = [
        sys.executable,
        "-m",
        "loadtests.bench",
        "--rounds",
        "1",
        "--seconds",
        "1",
        "--commands",
        "2000",
        "--json",
        "--open-orders",
        "100",
        "--resting",
        "2000",
        "--stored",
        "0",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    for row in (report["baseline"], report["service"], report["checked"]):
        assert row["requests_per_second"] > 0
        assert (row["non_2xx"], row["socket_errors"]) == (0, 0)
    assert report["ratio"] == report["ratios"][0] > 0
    assert report["orders_in_database"] >= report["service"]["requests"]
    assert report["checked_ratio"] > 0
    assert report["checked_in_database"] >= report["checked"]["requests"]
    assert report["trades_in_database"] > 0
    assert report["recovery"]["open_orders"] == 100
    assert {row["kind"] for row in report["in_many"]} == set(TITLES)
    assert all(min(row["ratios"]) > 0 for row in report["in_many"])
    assert report["half_load"]["bad"] == 0
