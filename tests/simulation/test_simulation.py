"""A sample of seeds holds, every run repeats from its seed, and every canary is found."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter

import pytest

from simulation.__main__ import FAULTS, main
from simulation.canaries import CANARIES, catch
from simulation.plan import ACTIONS, COMMIT_FAULTS, plan_of
from simulation.world import simulate

SAMPLE = range(1, 11)
STEPS = 60


@pytest.mark.parametrize("seed", SAMPLE)
def test_no_promise_is_broken(seed: int) -> None:
    """DUR1 to DUR8: whatever a seed breaks, nothing acknowledged is lost, doubled or moved, and all settles once it is over."""
    report = simulate(seed, STEPS)
    assert report.failure is None, f"PYTHONPATH=tests python -m simulation --seed {seed} --steps {STEPS} --trace"
    assert report.counts["acknowledged"] > 0


def test_a_run_repeats_from_its_seed() -> None:
    """The same seed gives the same run to the last byte: again in this process, and in one with another hash seed."""
    first = simulate(2, STEPS)
    assert simulate(2, STEPS) == first
    program = [sys.executable, "-m", "simulation", "--seed", "2", "--steps", str(STEPS)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "PYTHONHASHSEED": "4711"}
    told = subprocess.run(program, env=environment, capture_output=True, text=True, check=True, timeout=100).stdout
    assert told.splitlines()[0] == f"trace {first.trace}"


def test_seeds_differ() -> None:
    """Another seed is another run."""
    assert simulate(2, 20).trace != simulate(3, 20).trace


def test_every_fault_is_in_some_plan() -> None:
    """Swarm: of a hundred seeds each fault and each action is in some, and missing in some."""
    plans = [plan_of(seed, STEPS) for seed in range(100)]
    for kind in COMMIT_FAULTS:
        assert 0 < sum(kind in plan.commit_faults for plan in plans) < 100
    for action in ACTIONS:
        assert 0 < sum(action in plan.actions for plan in plans) < 100


@pytest.mark.parametrize("name", CANARIES)
def test_a_canary_is_found(name: str) -> None:
    """A build with one mistake does not survive twenty seeds."""
    report = catch(name, most=20).report
    assert report is not None
    assert report.failure is not None


def test_a_failing_seed_tells_how_to_repeat_it(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line names the seed that failed and the command that repeats it, and leaves with 1."""
    build = CANARIES["answers before the commit"].build
    monkeypatch.setattr("simulation.__main__.simulate", lambda seed, steps, **_: simulate(seed, steps, build))
    assert main(["--seed", "1", "--steps", "30"]) == 1
    told = capsys.readouterr().out
    assert "seed 1 FAILED" in told
    assert "python -m simulation --seed 1 --steps 30 --trace" in told


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_many_seeds() -> None:
    """Two hundred more seeds, in which every kind of fault has been injected."""
    total = Counter[str]()
    for seed in range(1000, 1200):
        report = simulate(seed, 200)
        assert report.failure is None, f"PYTHONPATH=tests python -m simulation --seed {seed} --steps 200 --trace"
        total.update(report.counts)
    assert all(total[kind] for kind in FAULTS)
