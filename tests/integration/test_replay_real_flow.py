"""Real venues' order flow comes out of the engine as the venues printed it.

The files belong to others and are not part of the project: `OME_TEST_DATA` names the folder whose `data/` holds them.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from clusters import running_cluster
from integration.test_replay_http import Restarter
from ome.domain.shards import highest
from ome.replay import ReplayReport, replay_file
from ome.replay.flow import count_rows
from ome.verification import verify
from servers import running_server, sqlite_url

if "OME_TEST_DATA" not in os.environ:
    pytest.skip("real order flow: OME_TEST_DATA doesn't name the folder that has it", allow_module_level=True)

DATA = Path(os.environ["OME_TEST_DATA"]) / "data"
NAMES = ["GOOG.replay", "GOOG.sweeps", "ESH4.replay", "ESH4.sweeps"]
TICKS = {"GOOG": "0.01", "ESH4": "0.25"}
MISMATCHES = {"GOOG.replay": 8, "GOOG.sweeps": 4, "ESH4.replay": 0, "ESH4.sweeps": 0}
"""How many rows the venue itself filled in another order than that of price and time."""


def _flow(name: str) -> tuple[Path, str]:
    """The file, and what its prices are counts of."""
    return DATA / f"{name}.csv.gz", TICKS[name[:4]]


def _assert_whole(name: str, report: ReplayReport) -> None:
    assert report.disagreements == []
    assert report.rows == count_rows(_flow(name)[0])
    assert report.mismatch_rows == MISMATCHES[name]
    assert report.checkpoints_agreed == report.checkpoints >= 7
    assert report.trades > 6000


@pytest.mark.parametrize("name", NAMES)
async def test_the_first_rows_agree_in_process(name: str) -> None:
    """Every fill and checkpoint of the first 20,000 rows agrees."""
    path, tick = _flow(name)
    report = await replay_file(path, in_process=True, tick=tick, limit_rows=20_000)
    assert report.disagreements == []
    assert (report.rows, report.checkpoints_agreed) == (20_000, 3)
    assert report.trades > 600


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
async def test_a_whole_file_agrees_in_process(name: str) -> None:
    """Every fill and checkpoint agrees, mismatch rows as their file says."""
    path, tick = _flow(name)
    _assert_whole(name, await replay_file(path, in_process=True, tick=tick))


async def test_the_first_rows_agree_over_http(tmp_path: Path) -> None:
    """The first rows and the first checkpoint of a day agree through a server too."""
    path, tick = _flow("GOOG.sweeps")
    with running_server(sqlite_url(tmp_path)) as server:
        report = await replay_file(path, url=server.url, tick=tick, limit_rows=1000)
    assert report.disagreements == []
    assert report.checkpoints_agreed == 1
    assert report.trades == 63


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("day", "other"), [("ESH4.sweeps", "GOOG.sweeps"), ("GOOG.sweeps", "ESH4.replay")])
async def test_a_whole_day_agrees_through_gateways_and_shards(postgres_url: str, day: str, other: str) -> None:
    """A whole file, and the first rows of another at the same time, each through a gateway of its own, in symbols of different
    shards: every fill, book and tape is the expected one, and the tables are what the journals make.
    """
    symbols = [next(f"DAY{n}" for n in range(100) if highest(f"DAY{n}", 2) == shard) for shard in (0, 1)]
    with running_cluster(postgres_url) as cluster:
        places = zip((day, other), symbols, cluster.urls, (None, 20_000), strict=True)
        replays = (
            replay_file(_flow(name)[0], symbol=symbol, url=url, tick=_flow(name)[1], limit_rows=rows)
            for name, symbol, url, rows in places
        )
        whole, part = await asyncio.gather(*replays)
    _assert_whole(day, whole)
    assert part.disagreements == []
    assert (part.rows, part.checkpoints_agreed) == (20_000, 3)
    verified = await asyncio.to_thread(verify, postgres_url)
    assert verified.ok, verified


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", NAMES)
async def test_a_whole_file_agrees_over_http_through_kills(tmp_path: Path, name: str) -> None:
    """The same through a server that is killed and restarted in mid-file."""
    path, tick = _flow(name)
    with running_server(sqlite_url(tmp_path)) as server:
        restarter = Restarter(server, every_rows=count_rows(path) // 4)
        restarting = asyncio.create_task(asyncio.to_thread(restarter.run))
        try:
            report = await replay_file(path, url=server.url, tick=tick, progress=restarter.progress)
        finally:
            restarter.stop()
            await restarting
    _assert_whole(name, report)
    assert restarter.restarts >= 3
