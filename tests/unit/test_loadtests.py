"""The load tests and benchmarks: that they load, measure what they say, and never make a figure up."""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from loadtests import baseline, bench, engine_flow, growth
from msgspec import UNSET, structs

from ome.api import schemas

ROOT = Path(__file__).resolve().parents[2]
REPORT = bench.Report("a machine", 1000, 10, 50_000.0, 40_000.0)
ROW = bench.HttpRow("service", 2000.0, 400.0, 20.0, 40.0, 10_000, 0, 0)


def test_locust_file_loads() -> None:
    """Locust finds the scenarios' user class; in a process of its own, for Locust patches the standard library."""
    command = [sys.executable, "-m", "locust", "-f", "loadtests/locustfile.py", "--list"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 0, result.stderr
    assert "Worker" in result.stdout


async def test_baseline_takes_and_answers_the_fields_of_the_service() -> None:
    """The route that does nothing has models of the service's own fields, and answers 201 with all of them."""
    request = {"user_id": "alice", "symbol": "AAPL", "side": "BUY", "quantity": "100", "price": "150.50"}
    transport = httpx.ASGITransport(app=baseline.create_app())
    async with httpx.AsyncClient(transport=transport, base_url="http://baseline") as client:
        answer = await client.post("/orders", json=request)
        refused = await client.post("/orders", json=request | {"colour": "red"})
    assert (answer.status_code, refused.status_code) == (201, 422)
    plain = {field.encode_name for field in structs.fields(schemas.OrderAnswer) if field.default is not UNSET}
    assert set(answer.json()) == plain
    assert set(baseline.OrderRequest.model_fields) == set(schemas.OrderRequest.__struct_fields__)


def test_engine_flow_is_the_same_each_time_and_trades() -> None:
    """The generated flow comes from its seed alone, is carried out to its end, and trades."""
    flow = engine_flow.generate(3_000)
    assert flow == engine_flow.generate(3_000)
    figure = engine_flow.measure(flow)
    assert figure.commands == 3_000
    assert figure.trades > 100
    assert figure.commands_per_second > figure.with_records_per_second > 0


async def test_a_history_grows_by_powers_of_ten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each size is a database that has that many orders, all ended, and is asked what a service is asked."""
    monkeypatch.setattr(growth, "SMALLEST", 100)
    monkeypatch.setattr(growth, "ORDERS", 100)
    monkeypatch.setattr(growth, "QUESTIONS", 2)
    stored = await growth.history(tmp_path, 1000, 1)
    assert [each.orders for each in stored] == [100, 1000]
    assert all(min(each.us_per_order, *each.us_per_question.values()) > 0 for each in stored)
    assert [bench.rows_in(tmp_path / f"{size}.db") for size in (100, 1000)] == [(200, 100), (1100, 550)]
    engines = growth.among("users", (10, 100), 1)
    assert [(each.kind, each.count) for each in engines] == [("users", 10), ("users", 100)]
    lines = growth.table(growth.Growth(stored, engines)).splitlines()
    assert lines[1].count("(1.00)") == 1 + len(stored[0].us_per_question)
    assert lines[-2].split() == ["10", "users", f"{engines[0].us_per_command:.1f}", "(1.00)"]


def test_without_wrk_there_is_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without wrk the HTTP rows say SKIPPED and how to get it, and hold no number."""
    monkeypatch.setattr(shutil, "which", lambda _: None)
    report = bench.measure_http(REPORT, argparse.Namespace(rounds=1, seconds=1, connections=4))
    assert (report.baseline, report.service, report.ratio) == (None, None, None)
    rows = [line for line in bench.table(report).splitlines() if line.startswith("POST /orders")]
    assert len(rows) == 2
    assert "durable (PostgreSQL)" in bench.table(report)
    assert all("SKIPPED" in row and "apt-get install wrk" in row for row in rows)


@pytest.mark.parametrize(
    ("service", "orders", "complaint"),
    [
        (bench.HttpRow("service", 2000.0, 400.0, 20.0, 40.0, 10_000, 3, 0), 10_000, "3 answers were not 2xx"),
        (bench.HttpRow("service", 2000.0, 400.0, 20.0, 40.0, 10_000, 0, 2), 10_000, "2 socket errors"),
        (ROW, 9_999, "9999 are in the database"),
    ],
)
def test_worthless_figures_are_called_so(service: bench.HttpRow, orders: int, complaint: str) -> None:
    """A refused request, a broken connection or an acknowledged order that is not in the database spoils the run."""
    report = bench.Report("a machine", 1, 1, 1.0, 1.0, service=service, orders_in_database=orders, trades_in_database=0)
    assert len(report.complaints) == 1
    assert complaint in report.complaints[0]
    assert "WRONG" in bench.table(report)
