"""How an order's cost grows with what the service has stored and with whom it serves.

    python -m loadtests.growth [--stored 1000000] [--rounds 5]

History: one SQLite file grows from 10,000 stored orders by powers of ten to `--stored`, made by the engine and the repository
themselves in commits of 50, as 64 clients would; all have ended, each in a trade, so that the book stays small. A copy is kept of
each size. Then come rounds, in each of which every copy in its turn takes 2,000 orders, durable as in the service, and is asked
for orders and for the newest hundred of a list; so a busy neighbour hits all alike. Times are processor time of the whole
process, the writer's thread included: medians over the rounds.
Symbols and users: an engine in process that has 10 to 10,000 symbols, or 10 to 100,000 users who have traded, and takes the
same orders among them.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Final

from msgspec import Struct

from loadtests.engine_size import Run, limit
from ome.db.storage import Storage, open_storage
from ome.domain.clock import now_us
from ome.domain.commands import Command, NewOrder, Stamped
from ome.domain.enums import Side, TimeInForce
from ome.domain.ids import make_id
from ome.domain.ports import Page
from ome.engine.engine import Engine
from ome.engine.pending_batch import PendingBatch, Waiting

SMALLEST: Final = 10_000
STORED: Final = 1_000_000
SYMBOLS: Final = (10, 100, 1_000, 10_000)
USERS: Final = (10, 1_000, 100_000)
IN_HISTORY: Final = 20
"""Symbols in the database that grows."""
OF_HISTORY: Final = 50
"""Users in it: even in the smallest each has a hundred trades."""
COMMIT: Final = 50
ORDERS: Final = 2_000
QUESTIONS: Final = 100
ROUNDS: Final = 5
MIDDLE_TICKS: Final = 15_000


class Stored(Struct, frozen=True):
    """A database of a size: processor time in microseconds, of an order to commit it, of a question to answer it."""

    orders: int
    bytes_per_order: float
    us_per_order: float
    us_per_question: dict[str, float]


class Among(Struct, frozen=True):
    """An engine that knows so many of a kind: processor time of a command, in microseconds."""

    kind: str
    count: int
    us_per_command: float


class Growth(Struct, frozen=True):
    """All of a run, the smallest of a kind first."""

    stored: list[Stored]
    among: list[Among]


def pair(draw: random.Random) -> tuple[NewOrder, NewOrder]:
    """An order that rests, and one of another user that takes it; both have ended then."""
    symbol, ticks, lots = f"SYM{draw.randrange(IN_HISTORY):02}", MIDDLE_TICKS + draw.randint(-9, 9), draw.randint(1, 1000)
    maker, taker = draw.sample(range(OF_HISTORY), 2)
    return (
        limit(f"user{maker:02}", symbol, Side.SELL, ticks, lots),
        limit(f"user{taker:02}", symbol, Side.BUY, ticks, lots, TimeInForce.IOC),
    )


class Book:
    """An open database and the engine on it, whose time goes on from what was stored."""

    def __init__(self, storage: Storage, engine: Engine) -> None:
        self.storage = storage
        self.engine = engine

    @classmethod
    async def opened(cls, file: Path) -> Book:
        """On a file, which may be new."""
        storage = open_storage(f"sqlite:///{file}")
        await storage.repository.start()
        recovered = await storage.repository.load()
        return cls(storage, Engine.restore(recovered.state, recovered.more))

    async def take(self, commands: Sequence[Command]) -> None:
        """Apply commands, 50 to a commit."""
        engine = self.engine
        for start in range(0, len(commands), COMMIT):
            pending = PendingBatch()
            for command in commands[start : start + COMMIT]:
                stamped = Stamped(engine.position + 1, max(now_us(), engine.time), command)
                pending.add(stamped, engine.apply(stamped), Waiting(command))
            await self.storage.repository.commit(pending.seal(engine))


async def grow(folder: Path, sizes: Sequence[int]) -> dict[int, Path]:
    """A database file of each size."""
    files: dict[int, Path] = {}
    growing, draw = folder / "growing.db", random.Random(20261122)
    for size in sizes:
        book = await Book.opened(growing)
        while book.engine.position < size:
            await book.take([order for _ in range(ORDERS // 2) for order in pair(draw)])
        await book.storage.close()
        files[size] = folder / f"{size}.db"
        shutil.copy(growing, files[size])
    return files


async def history(folder: Path, most: int, rounds: int) -> list[Stored]:
    """What an order and a question cost with so many orders stored."""
    sizes = [SMALLEST]
    while sizes[-1] * 10 <= most:
        sizes.append(sizes[-1] * 10)
    files = await grow(folder, sizes)
    weights = {size: file.stat().st_size / size for size, file in files.items()}
    costs: dict[int, list[float]] = defaultdict(list)
    answers: dict[int, dict[str, list[float]]] = {size: defaultdict(list) for size in sizes}
    for number in range(rounds):
        draw = random.Random(number)
        for size in sizes if number % 2 == 0 else sizes[::-1]:
            book = await Book.opened(files[size])
            commands = [order for _ in range(ORDERS // 2) for order in pair(draw)]
            begun = time.process_time()
            await book.take(commands)
            costs[size].append((time.process_time() - begun) / ORDERS * 1e6)
            for question, ask in questions(book.storage, size, draw).items():
                answers[size][question].append(await _cost(ask))
            await book.storage.close()
    return [
        Stored(size, weights[size], median(costs[size]), {name: median(times) for name, times in answers[size].items()})
        for size in sizes
    ]


def questions(storage: Storage, size: int, draw: random.Random) -> dict[str, Callable[[], Awaitable[object]]]:
    """What is asked of a database, each time of another order, user or symbol."""
    reads, page = storage.reads, Page(limit=100)
    return {
        "an order": lambda: reads.order(make_id(0, draw.randint(1, size))),
        "a user's orders": lambda: reads.orders_of_user(f"user{draw.randrange(OF_HISTORY):02}", page),
        "a symbol's trades": lambda: reads.trades(page, symbol=f"SYM{draw.randrange(IN_HISTORY):02}"),
        "a user's trades": lambda: reads.trades(page, user_id=f"user{draw.randrange(OF_HISTORY):02}"),
    }


async def _cost(ask: Callable[[], Awaitable[object]]) -> float:
    await ask()
    begun = time.process_time()
    for _ in range(QUESTIONS):
        await ask()
    return (time.process_time() - begun) / QUESTIONS * 1e6


def knowing(symbols: int, users: int) -> Run:
    """An engine in which every one of so many symbols and users has traded, and nothing rests."""
    run = Run()
    for number in range(max(symbols, users)):
        symbol = f"SYM{number % symbols:05}"
        run.apply(limit(f"user{number % users:07}", symbol, Side.SELL, MIDDLE_TICKS, 1))
        run.apply(limit(f"user{(number + 1) % users:07}", symbol, Side.BUY, MIDDLE_TICKS, 1, TimeInForce.IOC))
    run.engine.take_changes()
    return run


def among(kind: str, counts: Sequence[int], rounds: int) -> list[Among]:
    """What a command costs engines with so many symbols, or users, in turn; of small books, so that nothing else grows."""
    sizes = {count: (count, 5_000) if kind == "symbols" else (IN_HISTORY, count) for count in counts}
    runs = {count: knowing(*sizes[count]) for count in counts}
    gc.collect()
    gc.freeze()
    parts: dict[int, list[float]] = defaultdict(list)
    for number in range(rounds):
        for count in counts if number % 2 == 0 else counts[::-1]:
            parts[count].append(_command_cost(runs[count], *sizes[count], random.Random(number)))
    gc.unfreeze()
    return [Among(kind, count, median(parts[count])) for count in counts]


def _command_cost(run: Run, symbols: int, users: int, draw: random.Random) -> float:
    plan = [(f"SYM{draw.randrange(symbols):05}", draw.randrange(users)) for _ in range(ORDERS // 2)]
    begun = time.process_time()
    for symbol, number in plan:
        run.apply(limit(f"user{number:07}", symbol, Side.SELL, MIDDLE_TICKS, 10))
        run.apply(limit(f"user{(number + 1) % users:07}", symbol, Side.BUY, MIDDLE_TICKS, 10, TimeInForce.IOC))
    return (time.process_time() - begun) / ORDERS * 1e6


def measure(stored: int, rounds: int = ROUNDS, folder: Path | None = None) -> Growth:
    """All of it. The files are made in `folder` and deleted."""
    with tempfile.TemporaryDirectory(prefix="ome-growth-", dir=folder) as place:
        sizes = asyncio.run(history(Path(place), stored, rounds))
    return Growth(sizes, [*among("symbols", SYMBOLS, rounds), *among("users", USERS, rounds)])


def table(growth: Growth) -> str:
    """The figures as people read them; in brackets, how many times that of the smallest."""
    sizes, engines = growth.stored, growth.among
    names = list(sizes[0].us_per_question)
    lines = [f"{'stored orders':<16}{'bytes each':>11}{'us an order':>16}" + "".join(f"{name:>22}" for name in names)]
    for size in sizes:
        first = sizes[0].us_per_question
        cells = [f"{us:,.0f} ({us / first[name]:.2f})" for name, us in size.us_per_question.items()]
        order = f"{size.us_per_order:.0f} ({size.us_per_order / sizes[0].us_per_order:.2f})"
        lines.append(f"{size.orders:<16,}{size.bytes_per_order:>11.0f}{order:>16}" + "".join(f"{cell:>22}" for cell in cells))
    lines += ["", f"{'engine among':<26}{'us/command':>12}"]
    for engine in engines:
        smallest = next(each for each in engines if each.kind == engine.kind)
        ratio = engine.us_per_command / smallest.us_per_command
        lines.append(f"{f'  {engine.count:,} {engine.kind}':<26}{engine.us_per_command:>12.1f}   ({ratio:.2f})")
    return "\n".join(lines)


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.growth", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--stored", type=int, default=STORED, help="orders in the largest database, 10,000 or more")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--folder", type=Path, help="where the files are made (default: the system's place for such)")
    options = parser.parse_args()
    sys.stderr.write(f"growing a database to {options.stored:,} orders\n")
    print(table(measure(options.stored, options.rounds, options.folder)))


if __name__ == "__main__":
    main()
