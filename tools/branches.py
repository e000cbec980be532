"""Branch coverage of each room that must have it, from the data that `make coverage` has just collected.

Prints, for engine, db and api, how many branches were taken of how many, and the modules that lack most of them. The exit status
is 1 where a room has less than 95 % of its branches.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from coverage import Coverage

ROOMS = ("engine", "db", "api")
LEAST_PERCENT = 95
MOST_NAMED = 5
"""Modules that are named for each room."""


def main() -> int:
    """Report on the data in this folder."""
    measured = Coverage()
    measured.load()
    with TemporaryDirectory() as folder:
        file = Path(folder) / "coverage.json"
        measured.json_report(outfile=str(file))
        files = json.loads(file.read_text())["files"]
    lines, is_enough = report(files)
    print("\n".join(lines))
    return 0 if is_enough else 1


def report(files: dict[str, dict[str, Any]]) -> tuple[list[str], bool]:
    """What to print about `files` of a JSON report of coverage.py, and whether every room has enough. A room of which nothing was
    measured has not.
    """
    lines, is_enough = [], True
    for room in ROOMS:
        modules = {name: each["summary"] for name, each in files.items() if f"ome/{room}/" in Path(name).as_posix()}
        count = sum(each["num_branches"] for each in modules.values())
        taken = sum(each["covered_branches"] for each in modules.values())
        room_has_enough = count > 0 and 100 * taken >= LEAST_PERCENT * count
        is_enough = is_enough and room_has_enough
        percent = 100 * taken / count if count else 0.0
        verdict = "ok" if room_has_enough else f"under {LEAST_PERCENT} %"
        lines.append(f"{room:<8}{taken:>6} of {count} branches {percent:>6.1f} %  {verdict}")
        lacking = sorted(modules, key=lambda name: -modules[name]["missing_branches"])
        lines += [f"    {modules[name]['missing_branches']:>4}  {name}" for name in lacking[:MOST_NAMED]]
    return lines, is_enough


if __name__ == "__main__":
    sys.exit(main())
