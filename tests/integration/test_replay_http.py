"""Replays over HTTP against a real server, which is killed and started again on the way."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from ome.replay import ReplayError, generate, replay_file
from ome.replay.generate import FlowKind
from servers import Server, running_server, sqlite_url


class Restarter:
    """Kills and restarts a server in a thread of its own, each time that so many rows more are done."""

    def __init__(self, server: Server, every_rows: int) -> None:
        self.server = server
        self.every_rows = every_rows
        self.restarts = 0
        self._next = every_rows
        self._due = threading.Event()
        self._over = False

    def progress(self, done: int, _total: int) -> None:
        """What the replay tells of its progress."""
        if done >= self._next:
            self._next += self.every_rows
            self._due.set()

    def run(self) -> None:
        """Restart whenever it is due, until `stop`."""
        while True:
            self._due.wait()
            self._due.clear()
            if self._over:
                return
            self.server.restart()
            self.restarts += 1

    def stop(self) -> None:
        """Let `run` end."""
        self._over = True
        self._due.set()


@pytest.mark.parametrize("kind", ["sweeps", "replay"])
async def test_a_server_agrees_with_generated_flow(tmp_path: Path, kind: FlowKind) -> None:
    """M1, A1, A2, T1 over HTTP: every fill and checkpoint comes out, and the key goes with every write."""
    path = generate(tmp_path / f"X.{kind}.csv", rows=500, seed=3, kind=kind).path
    with running_server(sqlite_url(tmp_path), API_KEY="s3cret") as server:
        report = await replay_file(path, url=server.url, api_key="s3cret", tick="0.05", lot="0.1")
        with pytest.raises(ReplayError, match="another symbol"):
            await replay_file(path, url=server.url, api_key="s3cret", tick="0.05", lot="0.1")
        with pytest.raises(ReplayError, match="unauthorized"):
            await replay_file(path, url=server.url, api_key="wrong", symbol="Y")
    assert report.disagreements == []
    assert (report.rows, report.checkpoints_agreed) == (500, report.checkpoints)
    assert report.checkpoints >= 20
    assert report.trades > 5


async def test_a_replay_outlives_the_server_being_killed(tmp_path: Path) -> None:
    """DUR1, DUR3, DUR6: kill -9 and restart, again and again in mid-file, change no fill and no place in a queue."""
    path = generate(tmp_path / "X.csv", rows=500, seed=4).path
    with running_server(sqlite_url(tmp_path)) as server:
        restarter = Restarter(server, every_rows=200)
        restarting = asyncio.create_task(asyncio.to_thread(restarter.run))
        try:
            report = await replay_file(path, url=server.url, progress=restarter.progress)
        finally:
            restarter.stop()
            await restarting
    assert report.disagreements == []
    assert report.checkpoints_agreed == report.checkpoints >= 20
    assert restarter.restarts >= 2
