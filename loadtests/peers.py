"""This engine beside others that pip installs, on the same flow in one run: `make peers` makes them an environment of their own.

    python -m loadtests.peers [--flow NAME.csv.gz] [--rows 20000] [--rounds 3]

The flow is a recorded day in the format of `ome.replay.flow` (one with EXECUTE rows: what is left of an order is then in the
file), or a generated one. Each row becomes steps that all engines know: an order that rests, one that takes at once, a cancel; a
reduction or a replacement is a cancel and a new order. Each engine does them alone in a process of its own (`peer_runner`), in
turn with this one, as often as there are rounds; the ratio is the median of the pairs, steps per second of processor time. This
one is measured as it is and, where `make compiled` has made it, with its core compiled.

The others have none of the features: no events, users, risk, positions, self-trade prevention, exact decimals but for one. An
environment that isn't there makes the row SKIPPED, with how to get it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Final

import msgspec
from msgspec import Struct

from loadtests.builds import PYTHON, TITLES, builds
from ome.domain.enums import Side
from ome.replay.flow import Op, Row, read_rows
from ome.replay.generate import generate

ROOT: Final = Path(__file__).resolve().parent.parent
ENVIRONMENT: Final = Path(os.environ.get("OME_PEERS", ROOT / ".venv-peers"))
"""Where `make peers` puts them; the variable OME_PEERS names another folder."""
PACKAGES: Final = ("fastlob", "lightmatchingengine", "order-matching")
NEEDED: Final = ("polars", "pandas", "pandera")
"""What order-matching imports and doesn't ask for."""
ROWS: Final = 20_000
ROUNDS: Final = 3
RUNNER: Final = Path(__file__).with_name("peer_runner.py")
NO_PEERS: Final = "SKIPPED: there is no environment with the other engines (make peers)"


class Outcome(Struct, frozen=True):
    """What `peer_runner` says of one run."""

    engine: str
    steps: int
    seconds: float

    @property
    def per_second(self) -> float:
        """Steps for each second of processor time."""
        return self.steps / self.seconds


class Peer(Struct, frozen=True):
    """Another engine's row: its steps per second, this engine's in the same rounds, and ours / theirs, median of the pairs;
    `build` says which build of this engine.
    """

    name: str
    steps: int
    per_second: float
    ours_per_second: float
    ratio: float
    build: str = PYTHON


def steps(rows: Iterable[Row]) -> Iterator[str]:
    """The lines that `peer_runner` reads. Prices and quantities that are no order's are left out."""
    number = 0
    orders: dict[int, tuple[int, Side, int, int]] = {}

    def enter(row: Row, price: int, left: int, side: Side) -> Iterator[str]:
        nonlocal number
        number += 1
        orders[row.order_id] = (number, side, price, left)
        yield f"A,{number},{'BS'[side]},{price},{left}\n"

    for row in rows:
        known = orders.get(row.order_id)
        match row.op:
            case Op.ADD | Op.SEED:
                yield from enter(row, row.price, row.quantity, row.side)
            case Op.EXECUTE | Op.TAKE:
                if row.op is Op.EXECUTE and known is not None:
                    orders[row.order_id] = (*known[:3], known[3] - row.quantity)
                number += 1
                yield f"T,{number},{_taking_letter(row)},{row.price},{row.quantity}\n"
            case _ if known is None:
                continue
            case Op.CANCEL | Op.PURGE:
                yield f"C,{orders.pop(row.order_id)[0]}\n"
            case Op.REDUCE | Op.REPLACE:
                its_number, side, price, left = orders.pop(row.order_id)
                yield f"C,{its_number}\n"
                price, left = (price, left - row.quantity) if row.op is Op.REDUCE else (row.price, row.quantity)
                if left > 0:
                    yield from enter(row, price, left, side)


def _taking_letter(row: Row) -> str:
    """The side of the order that came in; an EXECUTE has that of the one that rested."""
    return "BS"[row.side] if row.op is Op.TAKE else "SB"[row.side]


def lines_of(flow: Path | None, rows: int) -> str:
    """The steps of a recorded flow's first rows, or of a generated one."""
    if flow is not None:
        return "".join(islice(steps(read_rows(flow)), rows))
    with tempfile.TemporaryDirectory(prefix="ome-peers-") as folder:
        path = Path(folder, "GEN.csv")
        generate(path, rows=rows, seed=20261122, kind="replay")
        return "".join(steps(read_rows(path)))


def run(python: Path | str, name: str, lines: str, environment: Mapping[str, str] | None = None) -> Outcome:
    """One engine through the steps, in a process of its own. RuntimeError where it fails."""
    program, known = [str(python), str(RUNNER), name], os.environ | (environment or {})
    done = subprocess.run(program, input=lines, capture_output=True, text=True, check=False, env=known)
    if done.returncode:
        raise RuntimeError(f"{name} ended with status {done.returncode}: {done.stderr[-2000:]}")
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=Outcome)


def measure(flow: Path | None, rows: int, rounds: int) -> list[Peer] | None:
    """Every peer in turn with each build of this engine; None where there is no environment."""
    python = ENVIRONMENT / "bin" / "python"
    if not python.exists():
        return None
    lines, peers = lines_of(flow, rows), []
    for name in PACKAGES:
        others, own = list[Outcome](), {build: list[Outcome]() for build in builds()}
        for number in range(rounds):
            turns = [partial(_turn, others, python, name, lines, None)]
            turns += [partial(_turn, own[build], sys.executable, "ome", lines, known) for build, known in builds().items()]
            for turn in turns if number % 2 == 0 else turns[::-1]:
                turn()
        theirs = median(each.per_second for each in others)
        for build, ours in own.items():
            ratio = median(mine.per_second / other.per_second for mine, other in zip(ours, others, strict=True))
            peers.append(Peer(name, others[0].steps, theirs, median(each.per_second for each in ours), ratio, build))
    return peers


def _turn(outcomes: list[Outcome], python: Path | str, name: str, lines: str, known: Mapping[str, str] | None) -> None:
    outcomes.append(run(python, name, lines, known))


def table(peers: list[Peer] | None) -> str:
    """The rows as people read them."""
    lines = [f"{'engine and others, the same flow':<42}{'steps/CPU s':>12}{'ours':>12}{'ratio':>8}{'steps':>10}"]
    if peers is None:
        return "\n".join([*lines, f"  {NO_PEERS}"])
    for peer in peers:
        rates = f"{peer.per_second:>12,.0f}{peer.ours_per_second:>12,.0f}{peer.ratio:>8.2f}"
        lines.append(f"{f'  {peer.name}{TITLES[peer.build]}':<42}{rates}{peer.steps:>10,}")
    return "\n".join(lines)


def make() -> None:
    """Make the environment, for `make peers`."""
    subprocess.run([sys.executable, "-m", "venv", str(ENVIRONMENT)], check=True)
    subprocess.run([str(ENVIRONMENT / "bin" / "pip"), "install", *PACKAGES, *NEEDED], check=True)


def main() -> None:
    """Measure, print; or make the environment."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.peers", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--make", action="store_true", help="make the environment with the other engines")
    parser.add_argument("--flow", type=Path, help="a recorded day; without it one is generated")
    parser.add_argument("--rows", type=int, default=ROWS, help="steps of a recorded day, rows of a generated one")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    if options.make:
        make()
    else:
        print(table(measure(options.flow, options.rows, options.rounds)))


if __name__ == "__main__":
    main()
