"""Funds in the long run: `PYTHONPATH=tests python -m properties.money --budget-seconds 600` (or `make money`).

Flow of one seed after the other through engine and twin, compared after every command: everybody has the same of everything in
both, nobody less than nothing, what is reserved is what the open orders imply, and every asset adds up to zero. Prints how many
commands that were; the exit status is 1 where something differed, and the last line names the seed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from ome.domain.reasons import Reason
from properties.test_differential import run

COMMANDS = 2_000


def main() -> int:
    """Run until the time is up."""
    parser = argparse.ArgumentParser(prog="properties.money", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the first seed (1)")
    parser.add_argument("--budget-seconds", type=float, default=600, help="how long (600)")
    arguments = parser.parse_args()
    started, seed, counts = time.monotonic(), arguments.seed, Counter[str]()
    while time.monotonic() - started < arguments.budget_seconds:
        try:
            pair = run(seed, COMMANDS, compare_every=100, funded=True)
        except AssertionError as error:
            sys.stdout.write(f"{error}\nseed {seed} differs\n")
            return 1
        counts["commands"] += len(pair.journal)
        counts["trades"] += pair.twin.trade_count
        counts["refused for funds"] += sum(order.reason is Reason.INSUFFICIENT_FUNDS for order in pair.twin.orders.values())
        seed += 1
    told = ", ".join(f"{count} {what}" for what, count in counts.items())
    sys.stdout.write(f"seeds {arguments.seed} to {seed - 1}: {told}; every asset added up to zero after each command\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
