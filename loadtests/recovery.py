"""How long the service takes from the start of its process to its first acknowledged order, with a full book to recover.

    python -m loadtests.recovery --orders 1000000 [--database sqlite|postgres] [--json]

The database is made by the engine and the repository themselves, in large batches: `--orders` open orders of 5,000 users in 20
symbols around a middle price; of every hundred about two are stops, two icebergs, five have a deadline, ten a client order id,
and before that one order in fifty traded and one in fifty was modified, so that ids and places in the queue differ. Then
`ome serve` is started on it, and a POST /orders is sent until it is answered with 201. The stages are those of the service's own
`recovered` log line, the processor time and the memory those of its process.

For PostgreSQL a server of its own is started (with `PYTHONPATH=tests`, where its binaries are found).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from loadtests.servers import Server, free_port
from ome.db.storage import open_storage
from ome.domain.clock import MICROSECONDS, now_us
from ome.domain.commands import Command, ModifyOrder, NewOrder, Stamped
from ome.domain.enums import OrderType, Side, TimeInForce
from ome.domain.ids import make_id
from ome.domain.numbers import pack
from ome.domain.records import SpecialTerms
from ome.engine.engine import Engine
from ome.engine.pending_batch import PendingBatch, Waiting

SYMBOLS: Final = 20
USERS: Final = 5_000
MIDDLE_TICKS: Final = 15_000
BATCH: Final = 5_000
SECONDS_TO_START: Final = 600.0
DAY_US: Final = 86_400 * MICROSECONDS


class Figure(Struct, frozen=True):
    """One start: seconds of the wall clock, seconds of the process's processor time, and its memory in MiB once it serves.

    `stages` are in seconds, in order; what is missing from their sum is the process's own start, before it recovers, and its
    first answer.
    """

    database: str
    open_orders: int
    trades: int
    seconds: float
    cpu_seconds: float | None
    stages: dict[str, float]
    resident_mib: float | None
    highest_mib: float | None

    @property
    def cpu_us_per_order(self) -> float | None:
        """Processor time for each open order, in microseconds."""
        return None if self.cpu_seconds is None or not self.open_orders else self.cpu_seconds / self.open_orders * 1e6


def commands(count: int, start_us: int, seed: int = 20261122) -> Iterator[Command]:
    """Orders that rest or wait, and on the way a few that trade or are modified; endless."""
    draw = random.Random(seed)
    resting: list[int] = []
    position = 0
    while True:
        position += 1
        kind = draw.random()
        if kind < 0.02 and resting:
            number, side, ticks = draw.choice(resting), Side.BUY, MIDDLE_TICKS - draw.randint(1, 400)
            yield ModifyOrder(number, exists=True, quantity=pack(draw.randint(150, 300), 0), price=pack(ticks, 2))
            continue
        side = draw.choice((Side.BUY, Side.SELL))
        away = draw.randint(1, 400)
        trades = kind > 0.98
        ticks = MIDDLE_TICKS + (away if (side is Side.SELL) is not trades else -away)
        order = _order(draw, side, ticks, draw.randint(1, 30 if trades else 100), start_us)
        if trades:
            plain = {"type": OrderType.LIMIT, "terms": None, "expires_at": None}
            order = msgspec.structs.replace(order, time_in_force=TimeInForce.IOC, **plain)
        elif side is Side.BUY and order.type is OrderType.LIMIT and position <= count:
            resting.append(make_id(0, position))
        yield order


def _order(draw: random.Random, side: Side, ticks: int, lots: int, start_us: int) -> NewOrder:
    kind = draw.random()
    terms, order_type = None, OrderType.LIMIT
    if kind < 0.02:  # far away, so that nothing sets it off
        stop = MIDDLE_TICKS + (5_000 if side is Side.BUY else -5_000)
        order_type, terms = OrderType.STOP_LIMIT, SpecialTerms(stop_price=pack(stop + ticks - MIDDLE_TICKS, 2))
    elif kind < 0.04:
        terms = SpecialTerms(display_quantity=pack(max(1, lots // 4), 0))
    has_deadline = 0.04 <= kind < 0.09
    return NewOrder(
        f"user{draw.randrange(USERS):04}",
        f"SYM{draw.randrange(SYMBOLS):02}",
        side,
        order_type,
        TimeInForce.GTD if has_deadline else TimeInForce.GTC,
        pack(lots, 0),
        pack(ticks, 2),
        client_order_id=f"{draw.getrandbits(64):016x}" if draw.random() < 0.1 else None,
        expires_at=start_us + DAY_US + draw.randrange(DAY_US) if has_deadline else None,
        terms=terms,
    )


async def fill(url: str, count: int) -> Engine:
    """Make a database with `count` open orders, an hour of them; the engine that did it."""
    storage, engine = open_storage(url), Engine()
    await storage.repository.start()
    try:
        start_us = now_us() - 3600 * MICROSECONDS
        pending = PendingBatch()
        for command in commands(count, start_us):
            if engine.open_orders == count or len(pending) == BATCH:
                await storage.repository.commit(pending.seal(engine))
                pending = PendingBatch()
            if engine.open_orders == count:
                break
            moment = start_us + engine.position * 1800 * MICROSECONDS // count
            stamped = Stamped(engine.position + 1, moment, command)
            pending.add(stamped, engine.apply(stamped), Waiting(command))
    finally:
        await storage.close()
    return engine


def measure(database: str, url: str, engine: Engine) -> Figure:
    """Start the service on a database and stop it again. RuntimeError where it doesn't start."""
    port = free_port()
    settings = {"HOST": "127.0.0.1", "PORT": str(port), "DATABASE_URL": url, "LOG_LEVEL": "INFO", "LOG_FORMAT": "json"}
    with tempfile.TemporaryFile("w+") as log:
        begun = time.perf_counter()
        process = subprocess.Popen([sys.executable, "-m", "ome", "serve"], env=os.environ | settings, stdout=log)
        server = Server("service", process, f"http://127.0.0.1:{port}")
        try:
            _until_it_takes_orders(server, port)
            seconds = time.perf_counter() - begun
            cpu_seconds, memory = server.cpu_seconds(), _memory_mib(process.pid)
        finally:
            process.terminate()
            process.wait(SECONDS_TO_START)
        log.seek(0)
        lines = [json.loads(line) for line in log if line.startswith("{")]
    recovered: dict[str, Any] = next(line for line in lines if line["event"] == "recovered")
    if recovered["open_orders"] != engine.open_orders:
        raise RuntimeError(f"{engine.open_orders} orders are open, {recovered['open_orders']} were recovered")
    return Figure(
        database,
        engine.open_orders,
        engine.trade_count,
        seconds,
        cpu_seconds,
        recovered["seconds"],
        memory.get("VmRSS"),
        memory.get("VmHWM"),
    )


def _until_it_takes_orders(server: Server, port: int) -> None:
    """Return once a POST /orders is answered with 201."""
    order = {"user_id": "first", "symbol": "SYM00", "side": "BUY", "price": "1.00", "quantity": 1, "client_order_id": "first"}
    deadline = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            raise RuntimeError(f"the service ended at its start with status {server.process.returncode}")
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS_TO_START)
        with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("POST", "/orders", json.dumps(order), {"Content-Type": "application/json"})
            if connection.getresponse().status == http.HTTPStatus.CREATED:
                return
        time.sleep(0.1)  # asking takes of the time that it measures
    raise RuntimeError(f"the service took no order within {SECONDS_TO_START:.0f} s")


def _memory_mib(process_id: int) -> dict[str, float]:
    """What /proc says of a process's memory, by its names; nothing where it doesn't."""
    try:
        lines = Path(f"/proc/{process_id}/status").read_text().splitlines()
    except OSError:
        return {}
    return {
        name: int(rest.split()[0]) / 1024 for name, _, rest in (line.partition(":") for line in lines) if name.startswith("Vm")
    }


def table(figure: Figure) -> str:
    """The figure as people read it."""
    per_order = "?" if figure.cpu_us_per_order is None else f"{figure.cpu_us_per_order:.1f}"
    memory = "?" if figure.resident_mib is None else f"{figure.resident_mib:,.0f} MiB, at most {figure.highest_mib:,.0f} MiB"
    return "\n".join(
        (
            f"{figure.database}: {figure.open_orders:,} open orders, {figure.trades:,} trades",
            f"  from process start to the first acknowledged order: {figure.seconds:.2f} s",
            "  of which " + ", ".join(f"{name} {seconds:.2f} s" for name, seconds in figure.stages.items()),
            f"  CPU for each open order, all of the start: {per_order} us",
            f"  resident once it serves: {memory}",
        )
    )


@contextmanager
def bound_to(cores: frozenset[int]) -> Iterator[None]:
    """What is started meanwhile runs on these cores; empty means any."""
    if not cores:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def new_database(kind: str, *settings: str, cores: frozenset[int] = frozenset()) -> Iterator[str]:
    """The address of an empty database, of a PostgreSQL with these settings (without any it flushes nothing) on these cores.

    RuntimeError, with what to do, where there is no PostgreSQL.
    """
    if kind == "sqlite":
        with tempfile.TemporaryDirectory(prefix="ome-recovery-") as folder:
            yield f"sqlite:///{folder}/orders.db"
        return
    try:
        from postgres import NOT_FOUND, PostgresServer, find_binaries  # noqa: PLC0415  the tests' own, where they are on the path
    except ImportError:
        raise RuntimeError("run it with PYTHONPATH=tests") from None
    if (binaries := find_binaries()) is None:
        raise RuntimeError(NOT_FOUND)
    server = PostgresServer(binaries, *settings)
    try:
        with bound_to(cores):
            server.start()
        yield server.dsn
    finally:
        server.remove()


def run(kind: str, count: int) -> Figure:
    """Fill a database and start on it."""
    with new_database(kind) as url:
        begun = time.perf_counter()
        engine = asyncio.run(fill(url, count))
        say(f"{kind}: {engine.open_orders:,} open orders made in {time.perf_counter() - begun:.0f} s")
        return measure(kind, url, engine)


def say(text: str) -> None:
    """Progress, apart from the result."""
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    """Measure, print; 1 where that can't be done."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.recovery", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--orders", type=int, default=1_000_000, help="open orders")
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--json", action="store_true", help="print the figure as JSON")
    options = parser.parse_args()
    try:
        figure = run(options.database, options.orders)
    except RuntimeError as error:
        say(f"recovery: {error}")
        return 1
    print(json.dumps(msgspec.to_builtins(figure), indent=2) if options.json else table(figure))
    return 0


if __name__ == "__main__":
    sys.exit(main())
