"""What SQLite alone can write: the rows that a service has stored, once more, by `sqlite3`'s `executemany` and nothing else.

    python -m loadtests.raw_rows orders.db [--after 0]

Into a new file with the same tables and indexes, WAL and synchronous=FULL, in the same transactions: a commit, and so a flush,
for each of the service's batches. Every row is written once, as it stands now; what the service wrote twice (an order that rested
and traded later, positions) it wrote in addition. Reading the rows, and making the tables, isn't in the time. Prints JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sqlite3
import tempfile
import time
from bisect import bisect_left
from collections import defaultdict
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from ome.db.storage import open_storage
from ome.domain.ids import SHARD_STEP

PLACES: Final = {
    "stored_orders": f"id % {SHARD_STEP}",
    "stored_trades": "position",
    "event_users": "last_position",
    "event_orders": "last_position",
    "event_batches": "last_position",
    "journal": "last_position",
}
"""The tables that grow with every order, and the position at which a row of each was written first."""

Rows = list[tuple[Any, ...]]


class RawFigure(Struct, frozen=True):
    """So many orders, with all their rows, in so many seconds of the wall clock and in so many commits."""

    orders: int
    commits: int
    seconds: float

    @property
    def per_second(self) -> float:
        """Orders written in a second."""
        return self.orders / self.seconds


def stored(database: Path, after: int) -> list[dict[str, Rows]]:
    """The rows of each batch behind a position, by table."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        ends = [end for (end,) in connection.execute("SELECT last_position FROM journal WHERE last_position > ?", (after,))]
        batches: list[dict[str, Rows]] = [defaultdict(list) for _ in ends]
        for table, place in PLACES.items():
            rows = connection.execute(f"SELECT {place}, * FROM {table} WHERE {place} > ? ORDER BY 1", (after,))  # noqa: S608
            for position, *row in rows:
                index = bisect_left(ends, position)
                if index < len(batches):
                    batches[index][table].append(tuple(row))
    return batches


def write(batches: list[dict[str, Rows]], path: Path) -> RawFigure:
    """Write them into a new file."""
    asyncio.run(_make_tables(path))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        widths = {table: len(connection.execute(f"SELECT * FROM {table} LIMIT 0").description) for table in PLACES}  # noqa: S608
        inserts = {table: f"INSERT INTO {table} VALUES ({', '.join('?' * width)})" for table, width in widths.items()}  # noqa: S608
        begun = time.perf_counter()
        for batch in batches:
            connection.execute("BEGIN IMMEDIATE")
            for table, rows in batch.items():
                connection.executemany(inserts[table], rows)
            connection.execute("COMMIT")
        seconds = time.perf_counter() - begun
    return RawFigure(sum(len(batch["stored_orders"]) for batch in batches), len(batches), seconds)


async def _make_tables(path: Path) -> None:
    storage = open_storage(f"sqlite:///{path}")
    await storage.repository.migrate()
    await storage.close()


def main() -> None:
    """Write, print."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.raw_rows", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("database", type=Path)
    parser.add_argument("--after", type=int, default=0, help="only batches behind this position")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ome-raw-", dir=options.database.parent) as folder:
        figure = write(stored(options.database, options.after), Path(folder, "raw.db"))
    print(json.dumps({"orders": figure.orders, "commits": figure.commits, "seconds": figure.seconds}))


if __name__ == "__main__":
    main()
