"""What an order costs the engine while many others rest: processor time for each command, and memory for each resting order.

    python -m loadtests.engine_size [--orders 1000000]

Each size is measured in a process of its own, whose engine holds that many orders of 5,000 users in 20 symbols, on 400 price
levels a side; positions are kept, events made, changes taken and the state hash made every 500 commands, as the service does.
Then come rounds of four commands: an order that rests, one of another user that takes it, one that rests and its cancel, so that
the book is afterwards as it was. The memory is what the process has grown by, per order: orders, indexes, accounts, levels.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from ome.domain.commands import CancelOrder, Command, Configure, NewOrder, Stamped
from ome.domain.enums import OrderType, Side, TimeInForce
from ome.domain.ids import make_id
from ome.domain.numbers import pack
from ome.domain.records import EngineSettings
from ome.engine.engine import Engine

SMALL: Final = 1_000
SYMBOLS: Final = 20
USERS: Final = 5_000
LEVELS: Final = 400
MIDDLE_TICKS: Final = 15_000
BATCH: Final = 500
ROUNDS: Final = 5_000
START_US: Final = 1_795_000_000_000_000


class Size(Struct, frozen=True):
    """One size: processor time for each command, in microseconds, and bytes for each order, None where it can't be told."""

    orders: int
    us_per_command: float
    bytes_per_order: float | None


class Run:
    """An engine that is given commands one after the other."""

    def __init__(self) -> None:
        self.engine = Engine()
        self.apply(Configure(EngineSettings(keeps_positions=True)))

    def apply(self, command: Command) -> int:
        """Carry out a command; the id of the order, if it made one."""
        engine = self.engine
        position = engine.position + 1
        engine.apply(Stamped(position, START_US + position, command))
        if position % BATCH == 0:
            engine.take_changes()
            engine.state_hash()
        return make_id(0, position)


def limit(user: str, symbol: str, side: Side, ticks: int, lots: int, time_in_force: TimeInForce = TimeInForce.GTC) -> NewOrder:
    """A limit order."""
    return NewOrder(user, symbol, side, OrderType.LIMIT, time_in_force, pack(lots, 0), pack(ticks, 2))


def fill(run: Run, count: int, seed: int = 20261122) -> None:
    """Let so many orders rest. Their strings are new each time, as they are when they come in bytes."""
    draw = random.Random(seed)
    for _ in range(count):
        side = draw.choice((Side.BUY, Side.SELL))
        away = draw.randint(10, 9 + LEVELS)
        ticks = MIDDLE_TICKS + (away if side is Side.SELL else -away)
        user, symbol = f"user{draw.randrange(USERS):04}", f"SYM{draw.randrange(SYMBOLS):02}"
        run.apply(limit(user, symbol, side, ticks, draw.randint(1, 1000)))


def cost(run: Run, rounds: int = ROUNDS, seed: int = 1) -> float:
    """Microseconds of processor time for each command, the median of five equal parts."""
    draw = random.Random(seed)
    parts: list[float] = []
    for _ in range(5):
        plan = [(f"SYM{draw.randrange(SYMBOLS):02}", draw.randint(1, 9), draw.randint(1, 1000)) for _ in range(rounds // 5)]
        begun = time.process_time()
        for symbol, away, lots in plan:
            run.apply(limit("maker", symbol, Side.SELL, MIDDLE_TICKS + away, lots))
            run.apply(limit("taker", symbol, Side.BUY, MIDDLE_TICKS + away, lots, TimeInForce.IOC))
            resting = run.apply(limit("maker", symbol, Side.BUY, MIDDLE_TICKS - away, lots))
            run.apply(CancelOrder(resting, exists=True))
        parts.append((time.process_time() - begun) / (4 * len(plan)) * 1e6)
    return sorted(parts)[2]


def resident_bytes() -> int | None:
    """What this process holds in memory; None where the system doesn't say."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


def measure_here(count: int) -> Size:
    """One size, in this process."""
    gc.disable()
    run = Run()
    fill(run, SMALL)  # what is there whatever the size: symbols, imports, the memory allocator's first pools
    before = resident_bytes()
    fill(run, count - SMALL)
    run.engine.take_changes()
    after = resident_bytes()
    gc.enable()
    gc.freeze()
    grown = None if before is None or after is None or count <= SMALL else (after - before) / (count - SMALL)
    return Size(count, cost(run), grown)


def measure(orders: int) -> list[Size]:
    """A small book, a large one, each in a process of its own."""
    sizes = []
    for count in (SMALL, orders):
        program = [sys.executable, "-m", "loadtests.engine_size", "--here", str(count)]
        done = subprocess.run(program, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"the engine with {count:,} orders ended with status {done.returncode}: {done.stderr}")
        sizes.append(msgspec.json.decode(done.stdout, type=Size))
    return sizes


def table(sizes: list[Size]) -> str:
    """The sizes as people read them."""
    lines = [f"{'engine, with so many resting orders':<42}{'us/command':>12}{'bytes/order':>13}"]
    for size in sizes:
        memory = "" if size.bytes_per_order is None else f"{size.bytes_per_order:.0f}"
        lines.append(f"{f'  {size.orders:,}':<42}{size.us_per_command:>12.1f}{memory:>13}")
    small, large = sizes
    lines.append(f"{f'  {large.orders:,} / {small.orders:,}':<42}{large.us_per_command / small.us_per_command:>12.2f}")
    return "\n".join(lines)


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.engine_size", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--orders", type=int, default=1_000_000, help="resting orders of the large book")
    parser.add_argument("--here", type=int, help="measure this one size in this process, print it as JSON")
    options = parser.parse_args()
    if options.here is not None:
        print(json.dumps(msgspec.to_builtins(measure_here(options.here))))
    else:
        print(table(measure(options.orders)))


if __name__ == "__main__":
    main()
