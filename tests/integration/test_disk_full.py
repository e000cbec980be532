"""A disk that fills up under the service: orders stop, cancels and reads go on, and it comes back by itself."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from servers import answers, running_server, sqlite_url, until

ORDER = {"user_id": "ann", "symbol": "ABC", "side": "BUY", "quantity": 5, "price": "10.00"}
MIB = 1024 * 1024
SETTINGS = {"DISK_RESERVE_MB": "4", "DISK_LOW_MB": "2"}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", folder], capture_output=True, check=False)  # noqa: S607
    if mounted.returncode:
        pytest.skip("a file system can't be mounted here (it takes root)")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)  # noqa: S607


def fill(folder: Path, *, leave: int) -> Path:
    """A file that leaves so many bytes."""
    free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
    path = folder / "somebody-elses"
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free - leave)
    return path


@pytest.mark.parametrize("leave", [MIB, 0], ids=["almost full", "full"])
def test_a_disk_that_fills_up_stops_orders_alone(small_disk: Path, leave: int) -> None:
    """HALTED(storage): 503 storage_low and not_executed for orders, cancels committed, by the reserve where nothing else is left;
    RUNNING by itself when there is space, with the reserve made anew.
    """
    with (
        running_server(sqlite_url(small_disk), **SETTINGS) as server,
        httpx.Client(base_url=server.url, timeout=30) as client,
    ):
        ids = [client.post("/orders", json=ORDER).json()["order_id"] for _ in range(30)]
        reserve = small_disk / "ome.db.reserve"
        assert reserve.stat().st_blocks * 512 >= 4 * MIB
        filler = fill(small_disk, leave=leave)
        until(answers(server, "/health/ready", 503))
        sick = client.get("/health")
        assert (sick.status_code, sick.json()["state"], sick.json()["code"]) == (503, "HALTED", "storage_low")
        refused = client.post("/orders", json=ORDER)
        assert (refused.status_code, refused.json()["code"], refused.json()["outcome"]) == (503, "storage_low", "not_executed")
        assert "retry-after" in refused.headers
        assert [client.delete(f"/orders/{order_id}").status_code for order_id in ids] == [200] * 30
        assert client.get(f"/orders/{ids[0]}").json()["status"] == "CANCELLED"
        assert 'ome_engine_state{state="HALTED"} 1.0' in client.get("/metrics").text
        filler.unlink()
        until(answers(server, "/health", 200))
        assert client.post("/orders", json=ORDER).status_code == 201
        assert reserve.stat().st_blocks * 512 >= 4 * MIB
        assert server.process is not None
        assert server.terminate() == 0
