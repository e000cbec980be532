"""The load scenarios against a real server: each does what its name says."""

import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from servers import running_server, sqlite_url

ROOT = Path(__file__).resolve().parents[2]


def run_scenario(name: str, url: str) -> subprocess.CompletedProcess[str]:
    """Locust, run to the scenario's own end."""
    command = [sys.executable, "-m", "locust", "-f", "loadtests/locustfile.py", "--headless", "--host", url, "--scenario", name]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=150)


@pytest.mark.parametrize(("name", "orders"), [("burst", 1_000), ("balanced", 2_000)])
def test_scenario_sends_exactly_its_orders_and_ends(name: str, orders: int, tmp_path: Path) -> None:
    """The scenario's orders, no more and no fewer, are taken; it ends by itself with status 0 and a summary."""
    with running_server(sqlite_url(tmp_path)) as server:
        done = run_scenario(name, server.url)
        position = httpx.get(f"{server.url}/health").json()["position"]
        markets = httpx.get(f"{server.url}/market").json()["markets"]
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{orders:,} of {orders:,} orders taken, 50 workers" in done.stdout
    assert position >= orders
    assert len(markets) == 1
    if name == "balanced":
        assert (markets[0]["best_bid"], markets[0]["best_ask"], markets[0]["volume"]) == (None, None, "10000")


@pytest.mark.long
@pytest.mark.timeout(180)
def test_steady_load_takes_a_minute(tmp_path: Path) -> None:
    """3,000 orders at their appointed times, the last after just under 60 seconds."""
    with running_server(sqlite_url(tmp_path)) as server:
        done = run_scenario("steady", server.url)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3,000 of 3,000 orders taken, 50 workers" in done.stdout
    seconds = re.search(r"^  ([0-9.]+) s, ", done.stdout, re.MULTILINE)
    assert seconds is not None
    assert float(seconds[1]) >= 2_999 / 50


def test_scenario_against_nobody_fails(tmp_path: Path) -> None:
    """Where orders are not taken the exit status says so."""
    with running_server(sqlite_url(tmp_path)) as server:
        url = server.url
    done = run_scenario("burst", url)
    assert done.returncode == 1
    assert "0 of 1,000 orders taken" in done.stdout
