"""A whole file replayed through the engine in process, and what is said about it."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from ome.domain.enums import Side
from ome.domain.numbers import parse
from ome.replay import FlowError, ReplayError, generate, print_report, progress_bar, replay_file
from ome.replay.driver import Entry, Market
from ome.replay.engine_driver import EngineDriver
from ome.replay.formats import FlowFormat, named
from ome.replay.generate import FlowKind
from ome.replay.replayer import symbol_of


@pytest.mark.parametrize("kind", ["sweeps", "replay"])
@pytest.mark.parametrize(("tick", "lot"), [("0.01", "1"), ("0.25", "0.001"), ("5", "100")])
async def test_the_engine_agrees_with_generated_flow(tmp_path: Path, kind: FlowKind, tick: str, lot: str) -> None:
    """M1, A1, A2, T1: every fill and checkpoint of a generated flow comes out of the engine, whatever a tick and a lot are."""
    path = generate(tmp_path / f"X.{kind}.csv.gz", rows=4000, seed=2, kind=kind).path
    seen: list[tuple[int, int]] = []
    report = await replay_file(path, in_process=True, tick=tick, lot=lot, progress=lambda *at: seen.append(at))
    assert report.disagreements == []
    assert report.ok
    assert (report.rows, report.checkpoints_agreed) == (4000, report.checkpoints)
    assert report.checkpoints >= 20
    assert report.trades > 50
    assert seen[-1] == (4000, 4000)


async def test_a_prefix_is_replayed_when_a_limit_is_given(tmp_path: Path) -> None:
    """Only so many rows are played, and only the checkpoints among them count."""
    path = generate(tmp_path / "X.csv", rows=2000, seed=2).path
    report = await replay_file(path, in_process=True, limit_rows=1050)
    assert report.ok
    assert (report.rows, report.checkpoints) == (1050, 10)


async def test_a_changed_flow_is_found_out(tmp_path: Path) -> None:
    """One lot more in one order of the file, and the next checkpoint no longer agrees."""
    path = generate(tmp_path / "X.csv", rows=1000, seed=2).path
    lines = path.read_text().splitlines()
    lines[30] += "0"
    path.write_text("\n".join(lines) + "\n")
    report = await replay_file(path, in_process=True)
    assert not report.ok
    assert report.disagreements[0].row <= 50
    out = io.StringIO()
    print_report(report, out)
    assert f"row {report.disagreements[0].row}:" in out.getvalue()
    assert f"checkpoints   {report.checkpoints_agreed} of 20 agree" in out.getvalue()


async def test_what_cannot_be_replayed_is_refused(tmp_path: Path) -> None:
    """A missing file, a tick of nothing and a name that is no symbol are errors, not reports."""
    with pytest.raises(FlowError, match="none"):
        await replay_file(tmp_path / "none.csv", in_process=True)
    path = generate(tmp_path / "X.csv", rows=10, seed=2).path
    for tick in ("0", "-1", "abc"):
        with pytest.raises(ReplayError, match="the tick"):
            await replay_file(path, in_process=True, tick=tick)
    with pytest.raises(ReplayError, match="no symbol"):
        await replay_file(path, in_process=True, symbol="A/B")


@pytest.mark.parametrize(
    ("name", "symbol"), [("GOOG.replay.csv.gz", "GOOG"), ("btc-usd.csv", "BTC-USD"), ("my flow (2).csv", "MYFLOW2")]
)
def test_a_file_is_traded_as_what_it_is_named(name: str, symbol: str) -> None:
    """The symbol is the file's name up to its first point."""
    assert symbol_of(Path(name), named(Path(name), FlowFormat.CSV).symbol) == symbol


async def test_an_engine_with_orders_is_not_replayed_into() -> None:
    """A second replay into the same symbol of one engine is refused before its first row."""
    market = Market("X", parse("0.01"), parse("1"))
    driver = EngineDriver(market)
    await driver.open()
    await driver.submit(Entry("r1", Side.BUY, 100, 1, taking=False))
    with pytest.raises(ReplayError, match="isn't empty"):
        await EngineDriver(market, driver.engine).open()


def test_there_is_no_bar_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """In a pipe or a log nothing is drawn."""
    with progress_bar("X") as progress:
        assert progress is None
    assert capsys.readouterr().err == ""
