"""What a database says at the edges of a start: none yet, one of another version, rows that contradict, a file that is closed."""

from __future__ import annotations

import socket
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from ome.db.connection import _keep_alive
from ome.db.disk_reserve import DiskReserve
from ome.db.engine_snapshots import enough_since
from ome.db.migrate import REVISIONS, check_revision, is_newest
from ome.db.recovery import EngineRow, lacks_positions
from ome.db.sqlite import SqliteSession, _Work
from ome.domain.errors import StorageUnusable


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ([], "has schema revision none, this version of OME reads"),
        ([REVISIONS[0]], "Bring it up to date first: ome migrate"),
        (["9999"], "which this version of OME doesn't know"),
    ],
)
def test_another_schema_is_refused_in_a_sentence(found: list[str], words: str) -> None:
    """None, an older one, one of a newer version: each says what to do; the newest passes."""
    check_revision([REVISIONS[-1]])
    with pytest.raises(StorageUnusable, match=words):
        check_revision(found)


def test_a_database_is_newest_by_its_one_newest_revision() -> None:
    """Anything less is migrated."""
    assert is_newest([REVISIONS[-1]])
    assert not is_newest([])
    assert not is_newest(REVISIONS[:1])


def test_where_there_is_no_engine_row_nothing_has_to_be_adopted() -> None:
    """A new database has no trades that would have to tell positions."""
    assert lacks_positions(None) is False


@pytest.mark.parametrize(
    ("position", "has_hash", "newest", "orders", "is_enough"),
    [
        (0, True, None, 0, False),
        (9, False, None, 0, False),
        (9, True, None, 50, True),
        (9, True, 4, 5, True),
        (9, True, 4, 6, False),
        (9, True, 5, 0, False),
    ],
)
def test_a_snapshot_is_made_when_a_replay_would_take_longer(
    position: int, newest: int | None, orders: int, *, has_hash: bool, is_enough: bool
) -> None:
    """The first as soon as there is a hash to check it by, then after as many commands as it has orders, and five at least."""
    row = EngineRow(0, 1, "i", position, 0, 0, 0, b"", "0" * 16 if has_hash else None, b"", 1)
    assert enough_since(newest, row, orders, 5) is is_enough


@pytest.mark.parametrize(
    ("family", "kinds"), [(socket.AF_UNIX, []), (socket.AF_INET, [socket.SO_KEEPALIVE])], ids=["unix", "internet"]
)
def test_a_connection_to_another_machine_is_kept_alive(family: socket.AddressFamily, kinds: list[int]) -> None:
    """One to a socket of this machine needs none of it."""
    with socket.socket(family, socket.SOCK_STREAM) as connected:
        _keep_alive(connected)
        assert bool(connected.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)) is bool(kinds)


def test_options_that_a_system_lacks_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep-alive itself is everywhere; how long each system waits is its own affair."""
    monkeypatch.setattr("ome.db.connection._KEEPALIVE", [("TCP_NO_SUCH_OPTION", 1)])
    with socket.socket() as connected:
        _keep_alive(connected)
        assert connected.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


class Watcher:
    """Hears nothing."""

    def __getattr__(self, _name: str) -> Any:
        return lambda *_: None


async def test_a_closed_file_is_written_by_nobody(tmp_path: Path) -> None:
    """A session that isn't open says so; there is nothing left of its WAL to copy."""
    path = str(tmp_path / "ome.db")
    session = SqliteSession(path, 0, DiskReserve(Path(path), ballast_bytes=0, low_bytes=0), Watcher())
    with pytest.raises(StorageUnusable, match="The database is closed"):
        await session.load()
    work = _Work(path, 0)
    assert work.copy_rest() is False
    with pytest.raises(sqlite3.OperationalError, match="the connection was lost"):
        work.load()
