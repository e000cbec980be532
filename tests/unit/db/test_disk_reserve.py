"""Space kept back on the disk: when orders stop, what is given back, and when they are taken again."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from ome.db.disk_reserve import DiskReserve

LOW, BALLAST = 800, 4096


class Disk:
    """A disk with so much free beside the ballast."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.file = folder / "orders.db"
        self.ballast = folder / "orders.db.reserve"
        self.free = 100_000
        monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=self.free - self.ballast_bytes))

    @property
    def ballast_bytes(self) -> int:
        """How large the ballast is."""
        return self.ballast.stat().st_size if self.ballast.exists() else 0


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    """A disk with room."""
    return Disk(tmp_path, monkeypatch)


def test_the_ballast_is_really_allocated(disk: Disk) -> None:
    """Blocks of it belong to the file: it is no hole, and nobody else's to read."""
    reserve = DiskReserve(disk.file, ballast_bytes=BALLAST, low_bytes=LOW)
    assert reserve.look() == 100_000 - BALLAST
    found = disk.ballast.stat()
    assert (found.st_size, found.st_mode & 0o777) == (BALLAST, 0o600)
    assert found.st_blocks * 512 >= BALLAST
    assert not reserve.is_low


def test_orders_stop_at_the_bound_and_go_on_above_it(disk: Disk) -> None:
    """Below it is low; an eighth more must be free before it is not, so that it doesn't flicker."""
    reserve = DiskReserve(disk.file, ballast_bytes=BALLAST, low_bytes=LOW)
    reserve.look()
    found: list[bool] = []
    for free in (LOW, LOW - 1, LOW, LOW + 99, LOW + 100, LOW):
        disk.free = free + BALLAST
        reserve.look()
        found.append(reserve.is_low)
    assert found == [False, True, True, True, False, False]


def test_a_full_disk_gets_the_ballast_back_until_there_is_room_for_it_again(disk: Disk) -> None:
    """Low from then on, with the space that it gave not counted as room; made anew before orders are taken."""
    reserve = DiskReserve(disk.file, ballast_bytes=BALLAST, low_bytes=LOW)
    reserve.look()
    assert reserve.give_back()
    assert not disk.ballast.exists()
    assert not reserve.give_back()
    disk.free = BALLAST + LOW
    reserve.look()
    assert (reserve.is_low, disk.ballast.exists()) == (True, False)
    disk.free = BALLAST + LOW + LOW // 8
    reserve.look()
    assert (reserve.is_low, disk.ballast_bytes) == (False, BALLAST)


def test_a_disk_without_room_for_the_ballast_has_none(disk: Disk) -> None:
    """It is never what makes the disk low."""
    disk.free = BALLAST + LOW - 1
    reserve = DiskReserve(disk.file, ballast_bytes=BALLAST, low_bytes=LOW)
    reserve.look()
    assert (reserve.is_low, disk.ballast.exists()) == (False, False)


def test_a_ballast_that_is_refused_stops_nobody(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that can't allocate it: said once, nothing of it stays, orders are taken."""

    def refuse(*_: int) -> None:
        raise OSError(27, "File too large")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    reserve = DiskReserve(disk.file, ballast_bytes=BALLAST, low_bytes=LOW)
    for _ in range(2):
        reserve.give_back()
        reserve.look()
        assert (reserve.is_low, disk.ballast.exists()) == (False, False)


def test_both_can_be_switched_off(disk: Disk) -> None:
    """0 and 0: no file, and never low by itself."""
    disk.free = 0
    reserve = DiskReserve(disk.file, ballast_bytes=0, low_bytes=0)
    reserve.look()
    assert (reserve.is_low, disk.ballast.exists()) == (False, False)
