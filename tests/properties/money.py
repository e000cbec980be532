"""Funds in the long run: `PYTHONPATH=tests python -m properties.money --budget-seconds 600` (or `make money`).

Flow of one seed after the other through the engine. After every command, whatever it was: every asset adds up to zero, nobody
has less than nothing, and what is reserved is what the open orders imply, worked out by `money_audit` from what was stored; a
hundred times a seed the engine is restored from its own state and goes on. One seed of twenty goes through the naive twin as
well, which is told the same commands and must have the same of everything in everybody's accounts. Prints how many commands that
were; the exit status is 1 where something differed, and the last line names the seed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from random import Random

from ome.domain.commands import Stamped
from ome.domain.events import OrderAccepted, OrderRejected, Traded
from ome.domain.reasons import Reason
from ome.engine.engine import Engine
from properties.flow import Flow
from properties.money_audit import MoneyAudit
from properties.pair import START
from properties.test_differential import run

COMMANDS = 2_000
RESTARTS = 100
TWIN_EVERY = 20


def audited(seed: int, commands: int = COMMANDS) -> Counter[str]:
    """One seed's flow, audited after every command: what it was made of. AssertionError, with the seed, for what isn't so."""
    random = Random(seed)
    engine, audit, clock, counts = Engine(seed % 3), MoneyAudit(), START, Counter[str]()
    flow = Flow(random, shard_base=engine.shard * 10**15, funded=True)
    waiting = flow.listing()[::-1]
    while engine.position < commands:
        position = engine.position + 1
        clock += random.choice([0, 0, 1, 1000, 500_000, 2_000_000])
        try:
            events = engine.apply(Stamped(position, clock, waiting.pop() if waiting else flow.next(position, clock)))
            audit.take(engine.take_changes())
            if position % (commands // RESTARTS) == 0:
                engine.check_invariants()
                engine = Engine.restore(engine.state())
        except Exception as error:
            raise AssertionError(f"seed {seed}, command {position}: {error!r}") from error
        counts["orders"] += sum(isinstance(event, OrderAccepted) for event in events)
        counts["trades"] += sum(isinstance(event, Traded) for event in events)
        short = Reason.INSUFFICIENT_FUNDS
        counts["refused for funds"] += sum(isinstance(each, OrderRejected) and each.order.reason is short for each in events)
    return counts + Counter(commands=commands)


def main() -> int:
    """Run until the time is up."""
    parser = argparse.ArgumentParser(prog="properties.money", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the first seed (1)")
    parser.add_argument("--budget-seconds", type=float, default=600, help="how long (600)")
    arguments = parser.parse_args()
    started, seed, counts = time.monotonic(), arguments.seed, Counter[str]()
    while time.monotonic() - started < arguments.budget_seconds:
        try:
            counts += audited(seed)
            if seed % TWIN_EVERY == 0:
                counts["beside the twin"] += len(run(seed, COMMANDS, compare_every=100, funded=True).journal)
        except AssertionError as error:
            sys.stdout.write(f"{error}\nseed {seed} differs\n")
            return 1
        seed += 1
    told = ", ".join(f"{count:,} {what}" for what, count in counts.items())
    sys.stdout.write(f"seeds {arguments.seed} to {seed - 1}: {told}; every asset added up to zero after each command\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
