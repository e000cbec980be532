"""The fast part of the suite, in one process: `python -m mutants.suite` plays the rule book, then seeded random flow.

The exit status is 0 when everything holds and 1 at the first thing that does not, whose name is written out. A test run would
find the same; this one needs no collection, no server and no database, so that fifty engines can be put through it in minutes.
"""

from __future__ import annotations

import sys

from ome.conformance.language import read_rule_book
from ome.conformance.venue import needs, play
from properties.test_differential import run
from scenarios.in_process import EngineBooks, InProcess, RestartedBooks

SEEDS, COMMANDS = range(4), 700


def first_failure() -> str | None:
    """The name of the first scenario or seed that does not hold; an exception out of the engine is a failure like any other."""
    for scenario in read_rule_book():
        if needs(scenario) <= InProcess.can:
            for books in (EngineBooks, RestartedBooks):
                try:
                    play(scenario, InProcess(books()))
                except Exception:  # noqa: BLE001  a broken engine may raise anything
                    return scenario.id
    for seed in SEEDS:
        try:
            run(seed, COMMANDS)
            run(seed, COMMANDS, funded=True)
        except Exception:  # noqa: BLE001  likewise
            return f"random flow, seed {seed}"
    return None


if __name__ == "__main__":
    failure = first_failure()
    sys.stdout.write(f"{failure or 'everything holds'}\n")
    sys.exit(failure is not None)
