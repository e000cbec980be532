"""Engine commands per second, in one process: no HTTP, no database, no asyncio.

python -m loadtests.engine_flow [--commands 200000]          prints three passes as JSON
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec import Struct

from ome.domain.commands import CancelOrder, Command, ModifyOrder, NewOrder, Stamped
from ome.domain.enums import OrderType, Side, TimeInForce
from ome.domain.events import Traded
from ome.domain.ids import make_id
from ome.domain.numbers import pack
from ome.engine.engine import Engine

SYMBOLS: Final = ("AAPL", "GOOG", "MSFT", "AMZN")
MIDDLE_TICKS: Final = 15_000
START_US: Final = 1_795_000_000_000_000
BATCH: Final = 500
"""Commands after which the changed records are taken and the state hash is made, as one commit of the service does."""


class EngineFigure(Struct, frozen=True):
    """What one pass over the flow came to, in seconds of the wall clock: of `apply` alone, and of what a commit needs besides."""

    commands: int
    trades: int
    apply_seconds: float
    records_seconds: float

    @property
    def commands_per_second(self) -> float:
        """The transition function alone: commands into events."""
        return self.commands / self.apply_seconds

    @property
    def with_records_per_second(self) -> float:
        """The same, with the changed records and the state hash of every batch."""
        return self.commands / (self.apply_seconds + self.records_seconds)


def generate(count: int, seed: int = 20261122) -> list[Stamped]:
    """`count` commands: 70 % limit orders (of them one in five IOC), 20 % cancels, 8 % modifies, 2 % market orders.

    Cancels and modifies name one of the 2,000 newest orders, which may have ended: then they are refused, as in life.
    """
    draw = random.Random(seed)
    flow: list[Stamped] = []
    ids: list[int] = []
    for position in range(1, count + 1):
        kind = draw.random()
        command: Command
        if kind < 0.20 and ids:
            command = CancelOrder(draw.choice(ids[-2000:]), exists=True)
        elif kind < 0.28 and ids:
            command = ModifyOrder(draw.choice(ids[-2000:]), exists=True, quantity=pack(draw.randint(1, 100), 0))
        else:
            command = _order(draw, is_market=kind > 0.98)
            ids.append(make_id(0, position))
        flow.append(Stamped(position, START_US + position, command))
    return flow


def _order(draw: random.Random, *, is_market: bool) -> NewOrder:
    side = draw.choice((Side.BUY, Side.SELL))
    offset = draw.randint(-100, 10)
    ticks = MIDDLE_TICKS + (offset if side is Side.BUY else -offset)
    return NewOrder(
        f"user{draw.randint(1, 500)}",
        draw.choice(SYMBOLS),
        side,
        OrderType.MARKET if is_market else OrderType.LIMIT,
        TimeInForce.IOC if is_market or draw.random() < 0.2 else TimeInForce.GTC,
        pack(draw.randint(1, 100), 0),
        None if is_market else pack(ticks, 2),
    )


def measure(flow: list[Stamped]) -> EngineFigure:
    """Apply the flow to an empty engine, in batches as the runner does; making the commands is not in the time."""
    engine = Engine()
    trades, apply_seconds, records_seconds = 0, 0.0, 0.0
    for start in range(0, len(flow), BATCH):
        batch = flow[start : start + BATCH]
        begun = time.perf_counter()
        events = [engine.apply(stamped) for stamped in batch]
        applied = time.perf_counter()
        engine.take_changes()
        engine.state_hash()
        recorded = time.perf_counter()
        apply_seconds += applied - begun
        records_seconds += recorded - applied
        trades += sum(isinstance(event, Traded) for of_command in events for event in of_command)
    engine.check_invariants()
    return EngineFigure(len(flow), trades, apply_seconds, records_seconds)


def measured(commands: int, environment: Mapping[str, str]) -> EngineFigure:
    """The median of three passes in a process of its own, which has this in its environment."""
    program = [sys.executable, "-m", "loadtests.engine_flow", "--commands", str(commands)]
    done = subprocess.run(program, capture_output=True, check=False, env=os.environ | environment)
    if done.returncode:
        raise RuntimeError(f"the engine's flow ended with status {done.returncode}: {done.stderr.decode()[-2000:]}")
    passes = msgspec.json.decode(done.stdout, type=list[EngineFigure])
    return sorted(passes, key=lambda each: each.apply_seconds)[1]


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--commands", type=int, default=200_000, help="length of the flow")
    flow = generate(parser.parse_args().commands)
    print(msgspec.json.encode([measure(flow) for _ in range(3)]).decode())


if __name__ == "__main__":
    main()
