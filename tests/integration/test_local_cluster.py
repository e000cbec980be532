"""`ome cluster`: a whole cluster from one command, as a person starts it, and a second one on the same database."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from ome.domain.errors import EngineRunning
from ome.local_cluster import nats_server
from servers import free_port, until

ORDER = {"user_id": "ann", "symbol": "AAPL", "side": "BUY", "quantity": 1, "price": "1.00"}

pytestmark = pytest.mark.skipif(nats_server() is None, reason="there is no NATS server")


@contextlib.contextmanager
def cluster(url: str, log: Path, *flags: str) -> Iterator[subprocess.Popen[bytes]]:
    """`ome cluster` with these flags; at the end it is stopped by Ctrl-C's signal, and every process of it with it."""
    command = [sys.executable, "-m", "ome", "cluster", "--gateways", "1", "--shards", "1", *flags]
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=os.environ | {"DATABASE_URL": url}, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


def taken(port: int) -> bool:
    """Whether an order is taken."""
    with contextlib.suppress(httpx.TransportError):
        return httpx.post(f"http://127.0.0.1:{port}/orders", json=ORDER, timeout=10).status_code == 201
    return False


@pytest.mark.timeout(180)
def test_one_command_one_port_one_signal(postgres_url: str, tmp_path: Path) -> None:
    """Flags and settings alike; each process signs its lines; a standby says once that it waits; all end with it."""
    log, port = tmp_path / "log", free_port()
    with cluster(postgres_url, log, "--standbys", "--port", str(port)) as process:
        until(lambda: taken(port))
        until(lambda: "standing_by" in log.read_text())
        lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
        pids = {line["process"]: line["pid"] for line in lines if line["event"] == "started"}
        assert set(pids) == {"nats", "engine 0", "engine 0 standby", "gateway 0"}
        own = [line for line in lines if line["event"] in {"cluster", "started"}]
        signed = [line for line in lines if line not in own]
        assert {(line["process"], line["pid"]) for line in signed} == {
            ("engine 0", pids["engine 0"]),
            ("engine 0", pids["engine 0 standby"]),
            ("gateway", pids["gateway 0"]),
        }
        assert "waiting_for_database" not in log.read_text()

        other = tmp_path / "other"
        with cluster(postgres_url, other, "--standbys", "--port", str(free_port())) as second:
            assert second.wait(30) == EngineRunning.exit_code
        assert "another `ome cluster` runs on this database" in other.read_text()
        assert taken(port)
    assert process.returncode == 0
    for pid in pids.values():
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@pytest.mark.timeout(180)
def test_engines_that_find_their_shards_taken_end_it(postgres_url: str, tmp_path: Path) -> None:
    """Where NATS_URL is named, one that has no standbys would otherwise lurk for as long as the other one runs."""
    log, port = tmp_path / "log", free_port()
    with cluster(postgres_url, log, "--port", str(port)):
        until(lambda: taken(port))
        nats_url = next(line["nats_url"] for line in map(json.loads, log.read_text().splitlines()[:1]))
        other = tmp_path / "other"
        with cluster(postgres_url, other, "--port", str(free_port()), "--nats-url", nats_url) as second:
            assert second.wait(60) == EngineRunning.exit_code
        assert "Another engine is running on" in other.read_text()
        assert taken(port)
