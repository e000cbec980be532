"""kill -9 under load, again and again: what clients were told against what the database, the journal and the book say.

    PYTHONPATH=tests python -m integration.crash --cycles 50 --seed 1 --database sqlite

Clients submit, modify and cancel over HTTP, each request with a client order id; the server is killed at a random instant and
started again on the same database; answers that got lost are asked for again. Afterwards, and after each start:

- every acknowledged order is there, with the id and content that were acknowledged; none is there twice
- every stored order was sent by somebody; an acknowledged cancel ended its order
- `verify` finds no difference: no gap, the chain holds, and replaying the journal gives every stored row and the state hash
- the served book is the stored one, order by order: no place in any queue has changed
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import sqlite3
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from ome.db.url import parse_url
from ome.domain.enums import Side
from ome.domain.numbers import format_number, value_of
from ome.verification import verify
from postgres import NOT_FOUND, PostgresServer, find_binaries
from servers import Server, free_port, sqlite_url

CLIENTS = 16
SYMBOLS = ("AAA", "BBB")


@dataclass
class Ledger:
    """What clients sent and what they were told; kept outside the server, so that it survives every kill."""

    sent: dict[str, dict[str, Any]] = field(default_factory=dict)
    acknowledged: dict[str, dict[str, Any]] = field(default_factory=dict)
    cancelled: set[str] = field(default_factory=set)
    lost_answers: int = 0
    retried: int = 0


@dataclass
class CrashReport:
    """What came of it; `problems` is empty when every promise was kept."""

    cycles: int = 0
    acknowledged: int = 0
    stored: int = 0
    trades: int = 0
    lost_answers: int = 0
    problems: list[str] = field(default_factory=list)

    def line(self) -> str:
        """One line for people."""
        return (
            f"{self.cycles} kill -9 cycles: {self.acknowledged} orders acknowledged, {self.stored} stored, {self.trades} trades, "
            f"{self.lost_answers} answers lost and asked for again; {len(self.problems)} problems"
        )


class Connection:
    """One kept HTTP/1.1 connection, as plain as can be: the load must not cost more than the server."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def request(self, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        """(status, JSON); OSError or IncompleteReadError when the server is gone."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        data = json.dumps(body).encode() if body is not None else b""
        fields = f"Host: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(data)}"
        head = f"{method} {path} HTTP/1.1\r\n{fields}\r\n\r\n"
        try:
            writer.write(head.encode() + data)
            headers = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(headers.split(b"content-length: ")[1].split(b"\r\n")[0])
            return int(headers[9:12]), json.loads(await reader.readexactly(length))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Drop the connection."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def trade(ledger: Ledger, name: str, port: int, seed: int, stop: asyncio.Event) -> None:
    """One client: submits, modifies and cancels until the server is gone."""
    rng = random.Random(seed)
    connection = Connection(port)
    mine: list[str] = []
    try:
        while not stop.is_set():
            if mine and rng.random() < 0.35:
                client_id = mine.pop(rng.randrange(len(mine)))
                order_id = ledger.acknowledged[client_id]["order_id"]
                if rng.random() < 0.5:
                    status, _ = await connection.request("DELETE", f"/orders/{order_id}")
                    if status == 200:
                        ledger.cancelled.add(client_id)
                else:
                    await connection.request("PUT", f"/orders/{order_id}", {"quantity": rng.randrange(1, 30)})
                continue
            client_id = f"{name}-{len(ledger.sent)}"
            ledger.sent[client_id] = body = new_order(rng, name, client_id)
            if await submit(ledger, connection, client_id, body):
                mine.append(client_id)
    except (OSError, asyncio.IncompleteReadError, IndexError):
        ledger.lost_answers += 1
    finally:
        connection.close()


def new_order(rng: random.Random, name: str, client_id: str) -> dict[str, Any]:
    """A small order near one price: crossing and queueing are common."""
    return {
        "user_id": name,
        "symbol": rng.choice(SYMBOLS),
        "side": rng.choice(["BUY", "SELL"]),
        "quantity": rng.randrange(1, 20),
        "price": f"{100 + rng.randrange(-6, 7) / 100:.2f}",
        "time_in_force": rng.choice(["GTC", "GTC", "GTC", "IOC", "FOK"]),
        "client_order_id": client_id,
    }


async def submit(ledger: Ledger, connection: Connection, client_id: str, body: dict[str, Any]) -> bool:
    """Send an order and note what came back; whether it was acknowledged."""
    status, answer = await connection.request("POST", "/orders", body)
    if status != 201:
        return False
    before = ledger.acknowledged.setdefault(client_id, answer)
    if before["order_id"] != answer["order_id"]:
        raise AssertionError(f"{client_id} was acknowledged as {before['order_id']} and as {answer['order_id']}")
    return True


async def retry_unanswered(ledger: Ledger, port: int) -> None:
    """Send every order again that has no answer yet: it must execute once in all."""
    connection = Connection(port)
    for client_id in [client_id for client_id in ledger.sent if client_id not in ledger.acknowledged]:
        ledger.retried += 1
        await submit(ledger, connection, client_id, ledger.sent[client_id])
    connection.close()


async def run_cycles(database_url: str, cycles: int, seed: int, check_every: int = 1) -> CrashReport:
    """Kill and restart `cycles` times under load; the report says what was kept."""
    rng, ledger, report = random.Random(seed), Ledger(), CrashReport()
    server = Server(database_url, free_port(), {"LOG_LEVEL": "WARNING"})
    try:
        for cycle in range(cycles):
            await asyncio.to_thread(server.start)
            if cycle % check_every == 0:
                report.problems += await check_book(database_url, server.url)
            await retry_unanswered(ledger, server.port)
            stop = asyncio.Event()
            seeds = [rng.randrange(2**32) for _ in range(CLIENTS)]
            names = [f"c{cycle}-{number}" for number in range(CLIENTS)]
            tasks = [
                asyncio.create_task(trade(ledger, name, server.port, client_seed, stop))
                for name, client_seed in zip(names, seeds, strict=True)
            ]
            await asyncio.sleep(rng.uniform(0.05, 0.8))
            server.kill()
            stop.set()
            await asyncio.gather(*tasks)
            report.cycles += 1
        await asyncio.to_thread(server.start)
        await retry_unanswered(ledger, server.port)
        report.problems += await check_book(database_url, server.url)
        report.problems += await check_orders(ledger, report, database_url)
    finally:
        server.close()
    report.acknowledged, report.lost_answers = len(ledger.acknowledged), ledger.lost_answers
    return report


class Reader:
    """Rows of the service's database, read without any code of the service but its URL parser."""

    def __init__(self, database_url: str) -> None:
        self._url = parse_url(database_url)

    async def rows(self, query: str) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        if self._url.kind == "sqlite":
            return await asyncio.to_thread(self._sqlite_rows, query)
        connection = await asyncpg.connect(self._url.target)
        try:
            return [tuple(row) for row in await connection.fetch(query)]
        finally:
            await connection.close()

    def _sqlite_rows(self, query: str) -> list[tuple[Any, ...]]:
        with contextlib.closing(sqlite3.connect(f"file:{self._url.target}?mode=ro", uri=True)) as connection:
            return connection.execute(query).fetchall()


async def check_orders(ledger: Ledger, report: CrashReport, database_url: str) -> list[str]:
    """Clients' ledger against the stored orders."""
    problems = []
    rows = await Reader(database_url).rows(
        "SELECT id, client_order_id, user_id, symbol, status, filled_value FROM stored_orders WHERE client_order_id IS NOT NULL"
    )
    report.stored = len(rows)
    stored: dict[str, tuple[Any, ...]] = {}
    for row in rows:
        if row[1] in stored:
            problems.append(f"{row[1]} is stored twice")
        if row[1] not in ledger.sent:
            problems.append(f"{row[1]} is stored but nobody sent it")
        stored[row[1]] = row
    for client_id, answer in ledger.acknowledged.items():
        found = stored.get(client_id)
        if found is None:
            problems.append(f"{client_id} was acknowledged and is lost")
        elif (str(found[0]), found[2], found[3]) != (answer["order_id"], answer["user_id"], answer["symbol"]):
            problems.append(f"{client_id} was acknowledged as {answer}, stored is {found}")
    problems += [f"{client_id} was cancelled and is open" for client_id in ledger.cancelled if stored[client_id][4] <= 2]
    report.trades = (await Reader(database_url).rows("SELECT count(*) FROM stored_trades"))[0][0]
    return problems


async def check_book(database_url: str, url: str) -> list[str]:
    """Journal and tables say the same, and the served book is the stored one, place by place."""
    problems = (await asyncio.to_thread(verify, database_url)).problems()
    resting = await Reader(database_url).rows(
        "SELECT symbol, side, price, id FROM stored_orders WHERE status <= 1 ORDER BY priority"
    )
    symbols = await Reader(database_url).rows("SELECT symbol FROM stored_instruments")
    async with httpx.AsyncClient(base_url=url) as client:
        for (symbol,) in symbols:
            answer = await client.get(f"/market/{symbol}/depth", params={"levels": 1000, "detail": "orders"})
            served = answer.json()
            for name, side in (("bids", Side.BUY), ("asks", Side.SELL)):
                levels = [(level["price"], [order["order_id"] for order in level["queue"]]) for level in served[name]]
                if levels != queues([row[2:] for row in resting if row[:2] == (symbol, side)], side):
                    problems.append(f"{symbol}: the served {name} are not in the stored order of priority")
    return problems


def queues(resting: list[tuple[int, int]], side: Side) -> list[tuple[str, list[str]]]:
    """The levels, best first, of (price, id) in order of priority: each price with the ids of its queue."""
    levels: dict[int, list[str]] = {}
    for price, order_id in resting:
        levels.setdefault(price, []).append(str(order_id))
    best_first = sorted(levels, key=value_of, reverse=side is Side.BUY)
    return [(format_number(price), levels[price]) for price in best_first]


@contextlib.asynccontextmanager
async def database(kind: str) -> AsyncIterator[str]:
    """The URL of a fresh database of a kind, sqlite or postgres."""
    if kind == "sqlite":
        with tempfile.TemporaryDirectory() as folder:
            yield sqlite_url(Path(folder))
    else:
        binaries = find_binaries()
        if binaries is None:
            raise SystemExit(NOT_FOUND)
        server = PostgresServer(binaries)
        try:
            server.start()
            yield server.dsn
        finally:
            server.stop()
            server.remove()


async def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cycles", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--database", choices=["sqlite", "postgres"], default="sqlite")
    options = parser.parse_args()
    async with database(options.database) as url:
        report = await run_cycles(url, options.cycles, options.seed)
    sys.stdout.write(f"{options.database}, seed {options.seed}: {report.line()}\n")
    sys.stdout.writelines(f"  {problem}\n" for problem in report.problems[:20])
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
