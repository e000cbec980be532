"""`ome conformance` as people run it, against a service that wants a key for everything."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import msgspec

from ome.conformance.rule_book import ConformanceReport
from servers import running_server, sqlite_url

KEY = "a key of the operator's, for a test alone"


def conformance(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    command = [sys.executable, "-m", "ome", "conformance", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)


def test_the_rule_book_is_played_twice_against_one_service(tmp_path: Path) -> None:
    """P2, I4: exit status 0 both times, as text and as JSON; 2 and a sentence without the key."""
    with running_server(sqlite_url(tmp_path), API_KEY=KEY, PRIVATE_READS="true") as server:
        files = ["--file", "batches", "--file", "self_trade_prevention", "--file", "day_orders"]
        as_text = conformance("--url", server.url, "--api-key", KEY, *files)
        assert as_text.returncode == 0, as_text.stdout + as_text.stderr
        assert "5 not played: " in as_text.stdout
        as_json = conformance("--url", server.url, "--api-key", KEY, "--json", *files)
        assert as_json.returncode == 0, as_json.stdout + as_json.stderr
        report = msgspec.json.decode(as_json.stdout, type=ConformanceReport)
        assert report.ok
        assert {each["rules"][0] for each in json.loads(as_json.stdout)["results"]} >= {"I4", "M7"}
        without_key = conformance("--url", server.url)
        assert without_key.returncode == 2
        assert "--api-key" in without_key.stderr


def test_a_scenario_that_comes_out_otherwise_is_told_by_the_exit_status(tmp_path: Path) -> None:
    """A service that has room for one symbol refuses the second scenario's: the line is shown, and the status is 1."""
    with running_server(sqlite_url(tmp_path), MAX_SYMBOLS="1") as server:
        result = conformance("--url", server.url, "--file", "batches")
    assert result.returncode == 1
    lines = result.stdout.splitlines()
    assert lines[0] == "FAILED batches: stops fire between the operations of a batch (I4, S1)"
    assert lines[1].endswith(": ann sells 1 @ 100.00 as a1 -> PENDING")
    assert lines[2:4] == ["    expected status: PENDING", "    got      status: REJECTED too_many_symbols"]
    assert lines[4].startswith("    answered GET /orders/")
