"""Faults injected into the real service, a row for each. `PYTHONPATH=tests python -m faults [NAME ...]`.

Without a name every row is run, one after another. Exit status 1 if an acknowledged order was lost, doubled or moved in its
queue, if anything else that was promised didn't hold, or if a canary, a build with a known mistake, was not found out. A row
whose tool is missing is SKIPPED and says which. The same seed makes the same load and the same faults; what the machine does in
between is its own.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
import traceback
from pathlib import Path

from faults import clock, corruption, disk, engines, kills, network, postgresql, power, syscalls
from faults.run import Fault, Missing, Run
from faults.table import HEAD, Row, markdown, put, sentence, total

ROWS = (
    *kills.FAULTS,
    *power.FAULTS,
    *disk.FAULTS,
    *syscalls.FAULTS,
    *postgresql.FAULTS,
    *engines.FAULTS,
    *corruption.FAULTS,
    *network.FAULTS,
    *clock.FAULTS,
    *power.CANARIES,
    *engines.CANARIES,
)
FAULTS: dict[str, Fault] = {fault.name: fault for fault in ROWS}


async def row_of(fault: Fault, seed: int, least: int, budget_s: float) -> Row:
    """Run a fault in a folder of its own."""
    row, began = Row(fault.name, is_canary=fault.is_canary), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="ome-faults-") as folder:
        run = Run(f"{seed}:{fault.name}", Path(folder), least, budget_s)
        try:
            async with run.stack:
                row.outcome = await fault.run(run)
        except Missing as missing:
            row.skipped = str(missing)
        except Exception as error:  # noqa: BLE001  a row that breaks is a row that failed; the others go on
            row.failure = "".join(traceback.format_exception(error))[-3000:]
    row.seconds = time.monotonic() - began
    return row


def say(text: str) -> None:
    """A line, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main(arguments: list[str] | None = None) -> int:
    """Run rows from the command line."""
    options = parsed(arguments)
    chosen = [FAULTS[name] for name in options.names or FAULTS]
    share = options.budget_seconds / sum(fault.seconds for fault in chosen)
    say(f"seed {options.seed}")
    say(HEAD)
    rows = []
    for fault in chosen:
        row = asyncio.run(row_of(fault, options.seed, options.least or fault.least, share * fault.seconds))
        rows.append(row)
        for line in (row.line(), *row.details()):
            say(line)
    if len(rows) > 1:
        say(total(rows))
        say(sentence(rows, options.seed))
    if options.readme is not None:
        put(options.readme, markdown(rows, options.seed))
    return 0 if all(row.is_good for row in rows) else 1


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m faults", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", choices=[*FAULTS, []], metavar="NAME", help=f"rows to run: {', '.join(FAULTS)}")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--budget-seconds",
        type=float,
        default=0.0,
        help="time to go on for, shared among the rows; each injects its least number whatever this says",
    )
    parser.add_argument("--least", type=int, default=0, help="injections of each row at least, instead of its own number")
    parser.add_argument("--readme", type=Path, help="a file to put the table into, between its marks")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
