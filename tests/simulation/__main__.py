"""Simulate the service under faults, each run made from its seed and repeated by it.

    PYTHONPATH=tests python -m simulation --seed 1 --seeds 100 --steps 300
    PYTHONPATH=tests python -m simulation --seed 1 --budget-seconds 600
    PYTHONPATH=tests python -m simulation --seed 7 --trace      # everything that happens in one run
    PYTHONPATH=tests python -m simulation --canaries            # builds with a mistake, each of which must be found

Prints what was injected and what came of it. The exit status is 1 when a promise was broken, with the command that repeats the
run, or when a canary survives.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from itertools import count

from simulation.canaries import CANARIES, catch, table
from simulation.plan import COMMIT_FAULTS
from simulation.world import PLURAL, Report, simulate

FAULTS = (
    *COMMIT_FAULTS,
    "read failed",
    *PLURAL.values(),
    *("requests lost", "requests duplicated", "answers lost", "clients gone away"),
)


def main(arguments: list[str]) -> int:
    """Run what was asked for; the exit status."""
    options = _options(arguments)
    if options.canaries:
        caught = {name: catch(name, options.seed) for name in CANARIES}
        _print(*table(caught))
        return any(found.report is None for found in caught.values())
    started = time.monotonic()
    total, failed, seeds = Counter[str](), list[Report](), 0
    for seed in count(options.seed):
        report = simulate(seed, options.steps, verbose=options.trace)
        total.update(report.counts)
        seeds += 1
        if report.failure is not None:
            failed.append(report)
            _print(*_story(report))
        spent = time.monotonic() - started
        if spent >= options.budget_seconds if options.budget_seconds else seeds >= options.seeds:
            break
    if seeds == 1:
        _print(f"trace {report.trace}")
    _print(*_summary(options.seed, seeds, total, failed, time.monotonic() - started))
    return bool(failed)


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m simulation", description="Simulate the service under faults.")
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds, one after the other")
    parser.add_argument("--steps", type=int, default=300, help="requests of a run, retries not counted")
    parser.add_argument("--budget-seconds", type=float, help="instead of --seeds: how long to go on")
    parser.add_argument("--trace", action="store_true", help="print everything that happens")
    parser.add_argument("--canaries", action="store_true", help="run the builds that have a mistake instead")
    return parser.parse_args(arguments)


def _story(report: Report) -> list[str]:
    kind, what = report.failure or ("", "")
    return [
        f"seed {report.seed} FAILED after {report.seconds:.3f} virtual seconds: {kind}: {what}",
        f"repeat it: PYTHONPATH=tests python -m simulation --seed {report.seed} --steps {report.steps} --trace",
    ]


def _summary(first: int, seeds: int, total: Counter[str], failed: list[Report], seconds: float) -> list[str]:
    faults = {kind: total[kind] for kind in FAULTS}
    kinds = Counter(report.failure[0] for report in failed if report.failure)
    lines = [f"seeds {first} to {first + seeds - 1}: {seeds} runs, {seconds:.0f} s", f"faults injected: {sum(faults.values())}"]
    lines += [f"  {kind:22} {number}" for kind, number in faults.items() if number]
    others = sum(kinds.values()) - kinds["lost"] - kinds["doubled"] - kinds["moved"]
    lines += [
        f"engines fenced by another: {total['engines fenced']}, starts: {total['starts']}",
        f"commands committed: {total['committed']}, acknowledged: {total['acknowledged']}, callbacks: {total['callbacks']}",
        f"told not_executed: {total['told not_executed']}, told unknown: {total['told unknown']}",
        f"lost: {kinds['lost']}, doubled: {kinds['doubled']}, moved: {kinds['moved']}, anything else: {others}",
    ]
    return lines


def _print(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
