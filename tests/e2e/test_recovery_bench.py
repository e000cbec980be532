"""The measurement of recovery from end to end: a database made, a service started on it, an order acknowledged."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from loadtests.recovery import commands
from msgspec import UNSET

from ome.domain.commands import ModifyOrder
from postgres import find_binaries

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_recovery_is_measured_from_the_start_to_the_first_order(database: str) -> None:
    """A small book is made, recovered in full and traded on; every stage and the memory have a figure."""
    if database == "postgres" and find_binaries() is None:
        pytest.skip("no PostgreSQL of our own")
    command = [sys.executable, "-m", "loadtests.recovery", "--orders", "300", "--database", database, "--json"]
    environment = os.environ | {"PYTHONPATH": "tests"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=90)
    assert done.returncode == 0, done.stdout + done.stderr
    figure = json.loads(done.stdout)
    assert (figure["database"], figure["open_orders"]) == (database, 300)
    assert figure["trades"] > 0
    assert 0 < sum(figure["stages"].values()) < figure["seconds"]
    assert set(figure["stages"]) == {"read", "restore"}


def test_the_flow_has_a_bit_of_everything() -> None:
    """Deadlines, stops, icebergs, client ids, orders that trade at once and modifies are all in it."""
    flow = [command for command, _ in zip(commands(3_000, 0), range(3_000), strict=False)]
    orders = [command for command in flow if not isinstance(command, ModifyOrder)]
    assert len(flow) - len(orders) > 10
    names = {"expires_at", "client_order_id", "terms"}
    assert all(any(getattr(order, name, UNSET) is not None for order in orders) for name in names)
