"""A day of order flow at its own times, stored and then asked for: candles, and the book as it was at any sequence.

The first part of the real flow and a generated one in the quick suite, whole days in the long one. The real flow belongs to
others and is not part of the project: `OME_TEST_DATA` names the folder whose `data/` holds it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from decimal import Decimal
from itertools import islice
from pathlib import Path
from random import Random
from typing import NamedTuple

import httpx
import pytest

from candles import FREQUENCIES, check_candles
from ome.client import BlockingClient
from ome.db.storage import open_storage
from ome.domain.enums import Side
from ome.replay import generate
from ome.replay.driver import Market
from ome.replay.flow import read_rows
from ome.replay.verify import read_expected
from recorded import write_flow
from reference.twin import Twin
from servers import Server, running_server, sqlite_url

POINTS = 100
SEED = 7
SYMBOL = "REAL"
NEAR = 300
"""No command of these flows takes more numbers than that."""

Sides = tuple[list[tuple[int, int, int]], list[tuple[int, int, int]]]
"""(price, quantity, orders) of the bids and of the asks, best first; price and quantity as counts of 10**-9."""


class Flow(NamedTuple):
    """What is replayed: a file of the folder, or "" for a generated one; its first rows, or all; its tick; and how many commands
    there are between two snapshots.
    """

    name: str
    rows: int | None
    tick: str
    snapshot_every: int


PARTS = {
    "generated": Flow("", 2000, "0.01", 500),
    "part of GOOG": Flow("GOOG.sweeps", 4000, "0.01", 1000),
    "GOOG": Flow("GOOG.sweeps", None, "0.01", 10_000),
    "ESH4": Flow("ESH4.sweeps", None, "0.25", 10_000),
}


def _needs(name: str) -> pytest.MarkDecorator | tuple[pytest.MarkDecorator, ...]:
    """What a part needs: the folder, and for a whole day, time."""
    missing = pytest.mark.skipif("OME_TEST_DATA" not in os.environ, reason="OME_TEST_DATA names no folder with real order flow")
    flow = PARTS[name]
    return (missing, pytest.mark.long, pytest.mark.timeout(3600)) if flow.rows is None else (missing,) if flow.name else ()


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service whose database holds the flow."""
    flow, folder = PARTS[request.param], tmp_path_factory.mktemp("day")
    path = Path(os.environ["OME_TEST_DATA"]) / "data" / f"{flow.name}.csv.gz" if flow.name else None
    path = path or generate(folder / "flow.csv.gz", rows=flow.rows or 0, seed=SEED).path
    rows = islice(read_rows(path), flow.rows)
    url, market = sqlite_url(folder), Market.of_text(SYMBOL, flow.tick, "1")
    verifier = asyncio.run(write_flow(url, market, rows, read_expected(path), flow.snapshot_every))
    assert verifier.disagreements == []
    with running_server(url) as running:
        yield running


def of(*names: str) -> pytest.MarkDecorator:
    """Run a test on services that hold these parts."""
    return pytest.mark.parametrize("server", [pytest.param(name, marks=_needs(name)) for name in names], indirect=True)


@of(*PARTS)
def test_candles_are_those_that_pandas_makes_of_the_trades(server: Server, tmp_path: Path) -> None:
    """D4: in every interval the API's and the exported candles equal those that pandas makes of the exported trades."""
    with BlockingClient(server.url) as client:
        counts = {interval: check_candles(server.database_url, client, tmp_path, interval) for interval in FREQUENCIES}
    assert counts["1s"] > counts["1m"] >= counts["1d"] >= 1


@of("generated", "part of GOOG", "GOOG")  # ESH4 has ten thousand open orders: hours of the naive engine's time
async def test_books_of_the_past_are_the_twin_s(server: Server) -> None:
    """D1: at a hundred random sequences `as_of_sequence` shows the very book that the naive engine has there."""
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
        last = (await client.get(f"/market/{SYMBOL}")).raise_for_status().json()["sequence"]
        points = sorted(Random(SEED).sample(range(1, last + 1), POINTS))
        wanted = await twins_books(server.database_url, points)
        for sequence in points:
            path = f"/market/{SYMBOL}/depth?levels=1000&as_of_sequence={sequence}"
            depth = (await client.get(path)).raise_for_status().json()
            assert depth["sequence"] == sequence
            found: Sides = tuple(  # type: ignore[assignment]  # two sides
                [(units(level["price"]), units(level["quantity"]), level["orders"]) for level in depth[side]]
                for side in ("bids", "asks")
            )
            assert found == wanted[sequence], sequence
    assert sum(bool(bids and asks) for bids, asks in wanted.values()) > POINTS / 2


def units(text: str) -> int:
    """A decimal as a count of 10**-9."""
    return int(Decimal(text).scaleb(9))


async def twins_books(database_url: str, points: list[int]) -> dict[int, Sides]:
    """The book at each of some sequences, ascending, that the naive engine makes of the stored commands."""
    storage = open_storage(database_url)
    twin, found, waiting = Twin(), dict[int, Sides](), list(points)
    try:
        while waiting and (commands := await storage.archive.commands_after(twin.position, 32)):
            for stamped in commands:
                if stamped.position <= twin.position:
                    continue
                before = book_of(twin) if waiting and waiting[0] - sequence_of(twin) <= NEAR else None
                told = twin.apply(stamped).books.get(SYMBOL)
                while waiting and waiting[0] <= sequence_of(twin):
                    sequence = waiting.pop(0)  # levels change with the last number that a command takes, behind its trades
                    book = book_of(twin) if told is not None and sequence >= told[0] else before
                    assert book is not None
                    found[sequence] = book
    finally:
        await storage.close()
    return found


def sequence_of(twin: Twin) -> int:
    """The symbol's last number."""
    return twin.markets[SYMBOL].sequence if SYMBOL in twin.markets else 0


def book_of(twin: Twin) -> Sides:
    """Every level that the naive engine has."""
    sides = []
    for side in (Side.BUY, Side.SELL):
        levels: dict[int, tuple[int, int, int]] = {}
        for order in twin.queue(SYMBOL, side):
            price = order.price or 0
            _, quantity, orders = levels.get(price, (price, 0, 0))
            levels[price] = (price, quantity + order.shown, orders + 1)
        sides.append(list(levels.values()))
    return sides[0], sides[1]
