"""Generated flow is repeatable, realistic within bounds, and agrees with what stands beside it."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from ome.domain.enums import Side
from ome.replay.errors import FlowError
from ome.replay.flow import Op, Row, companions, read_checkpoints, read_rows, read_tape
from ome.replay.generate import FlowKind, GeneratedFlow, generate

ROWS = 20_000


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> GeneratedFlow:
    """A flow that is long enough for its proportions to settle."""
    return generate(tmp_path_factory.mktemp("flow") / "X.sweeps.csv.gz", rows=ROWS, seed=11)


@pytest.fixture(scope="module")
def rows(flow: GeneratedFlow) -> list[Row]:
    """Its rows."""
    return list(read_rows(flow.path))


@pytest.mark.parametrize("kind", ["sweeps", "replay"])
def test_the_same_seed_makes_the_same_bytes(tmp_path: Path, kind: FlowKind) -> None:
    """Flow, tape and checkpoints are the same, byte for byte; another seed makes others."""
    made = []
    for name, seed in (("one", 3), ("same", 3), ("other", 4)):
        (tmp_path / name).mkdir()
        generate(tmp_path / name / "X.csv.gz", rows=2000, seed=seed, kind=kind)
        made.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert made[0] == made[1]
    assert made[0]["X.csv.gz"] != made[2]["X.csv.gz"]
    assert ("X.tape.csv.gz" in made[0]) == (kind == "sweeps")


@pytest.mark.parametrize("count", [1, 2, 7, 400])
def test_a_flow_has_as_many_rows_as_asked_for(tmp_path: Path, count: int) -> None:
    """Even the shortest flow is whole, with a checkpoint after its last row."""
    made = generate(tmp_path / "X.csv", rows=count, seed=1)
    assert len(list(read_rows(made.path))) == count
    assert max(read_checkpoints(made.checkpoints)) == count


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    """No rows, another kind of file and a folder that isn't there are FlowErrors."""
    for path, count in ((tmp_path / "X.csv", 0), (tmp_path / "X.txt", 5), (tmp_path / "none" / "X.csv", 5)):
        with pytest.raises(FlowError):
            generate(path, rows=count, seed=1)


def test_progress_ends_at_the_last_row(tmp_path: Path) -> None:
    """Whoever follows is told of the end."""
    seen: list[tuple[int, int]] = []
    generate(tmp_path / "X.csv", rows=2500, seed=1, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1000, 2500), (2000, 2500), (2500, 2500)]


def test_the_tape_belongs_to_the_takes(flow: GeneratedFlow, rows: list[Row]) -> None:
    """Each TAKE row's fills add up to its quantity and end at its price, and no other row has any."""
    found = companions(flow.path)
    assert found.tape == flow.tape
    assert found.tape is not None
    tape = read_tape(found.tape)
    takes = {number: row for number, row in enumerate(rows, start=1) if row.op is Op.TAKE}
    assert tape.keys() == takes.keys()
    for number, row in takes.items():
        assert sum(fill.quantity for fill in tape[number]) == row.quantity
        assert tape[number][-1].price == row.price
    assert flow.trades == sum(map(len, tape.values()))


def test_most_orders_are_cancelled(rows: list[Row]) -> None:
    """About nine of ten orders end by a cancel, as on real venues; few rows are reductions or trades."""
    ops = Counter(row.op for row in rows)
    assert 0.8 < ops[Op.CANCEL] / (ops[Op.ADD] + ops[Op.SEED]) < 0.97
    assert 0.01 < ops[Op.TAKE] / ROWS < 0.1
    assert 0.02 < ops[Op.REPLACE] / ROWS < 0.25
    assert 0 < ops[Op.REDUCE] / ROWS < 0.05


def test_some_takes_sweep_levels_and_most_do_not(flow: GeneratedFlow) -> None:
    """Most incoming orders trade at one price; some at several."""
    assert flow.tape is not None
    levels = Counter(len({fill.price for fill in fills}) for fills in read_tape(flow.tape).values())
    assert levels[1] > 0.85 * levels.total()
    assert max(levels) >= 2


def test_orders_gather_near_the_touch(flow: GeneratedFlow, rows: list[Row]) -> None:
    """Half of the new orders come within a few ticks of the median price, and the farthest far away: a heavy tail."""
    prices = sorted(row.price for row in rows if row.op is Op.ADD)
    middle = prices[len(prices) // 2]
    distances = sorted(abs(price - middle) for price in prices)
    assert distances[len(distances) // 2] <= 40
    assert distances[-1] >= 200
    for checkpoint in read_checkpoints(flow.checkpoints).values():
        bid, ask = (int(best.partition(":")[0]) for best in (checkpoint.best_bid, checkpoint.best_ask))
        assert 0 < ask - bid <= 50


def test_the_book_keeps_its_size(flow: GeneratedFlow) -> None:
    """The book neither runs dry nor grows without end."""
    live = [checkpoint.live_orders for checkpoint in read_checkpoints(flow.checkpoints).values()]
    assert all(150 <= count <= 1500 for count in live)


def test_time_goes_on_in_bursts(rows: list[Row]) -> None:
    """Time stamps never go back; most gaps are microseconds, some a good part of a second."""
    gaps = [later.ts_ns - earlier.ts_ns for earlier, later in pairwise(rows) if earlier.op is not Op.SEED]
    assert min(gaps) >= 0
    short = sum(gap < 1_000_000 for gap in gaps) / len(gaps)
    assert 0.5 < short < 0.9
    assert max(gaps) > 500_000_000


def test_both_sides_are_alive(rows: list[Row]) -> None:
    """Neither side has much more than half of the orders, and ids are never used twice."""
    sides = Counter(row.side for row in rows if row.op is Op.ADD)
    assert 0.4 < sides[Side.BUY] / sides.total() < 0.6
    ids = [row.order_id for row in rows if row.op in {Op.ADD, Op.SEED, Op.TAKE}]
    assert len(ids) == len(set(ids))
