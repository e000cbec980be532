"""What a load test may be believed: its database, SQLite or PostgreSQL, read when the service has stopped.

Asked: every order that was acknowledged is there, and no other; quantities are conserved; database, engine and journal say the
same (`ome verify` replays the journal); and each trade is the one that a naive book of price and time priority makes of the same
orders in the same order, so that nobody was passed over in a queue and no book was left crossed. The naive book knows limit
orders that rest until they are filled, of users who don't trade with themselves: what the scenarios send.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from contextlib import closing
from heapq import heappop, heappush
from typing import Any, Final, NamedTuple

import asyncpg

from ome.db.url import parse_url
from ome.domain.enums import Side
from ome.domain.numbers import unpack

_BUY: Final = int(Side.BUY)


class Order(NamedTuple):
    """An order as it was entered, in the units of its instrument."""

    id: int
    symbol: str
    side: int
    price: int
    quantity: int


class Trade(NamedTuple):
    """A trade, told by its two orders."""

    maker_id: int
    taker_id: int
    price: int
    quantity: int


def naive_trades(orders: Iterable[Order]) -> Iterator[Trade]:
    """The trades that these orders make, in this order: best price first, then whoever came first."""
    queues: dict[tuple[str, int, int], deque[list[int]]] = defaultdict(deque)
    prices: dict[tuple[str, int], list[int]] = defaultdict(list)
    for order in orders:
        sign = 1 if order.side == _BUY else -1
        left, others = order.quantity, prices[order.symbol, 1 - order.side]
        while left and others and sign * order.price >= sign * abs(others[0]):
            price = abs(others[0])
            queue = queues[order.symbol, 1 - order.side, price]
            while left and queue:
                maker = queue[0]
                quantity = min(left, maker[1])
                yield Trade(maker[0], order.id, price, quantity)
                left -= quantity
                maker[1] -= quantity
                if not maker[1]:
                    queue.popleft()
            if not queue:
                heappop(others)
        if left:
            queue = queues[order.symbol, order.side, order.price]
            if not queue:
                heappush(prices[order.symbol, order.side], -sign * order.price)
            queue.append([order.id, left])


def rows(database_url: str, sql: str) -> list[tuple[Any, ...]]:
    """What a statement finds in a database (a DATABASE_URL) that nobody serves now."""
    url = parse_url(database_url)
    if url.kind == "postgresql":
        return asyncio.run(_fetched(url.target, sql))
    with closing(sqlite3.connect(f"file:{url.target}?mode=ro", uri=True)) as connection:
        return connection.execute(sql).fetchall()


async def _fetched(dsn: str, sql: str) -> list[tuple[Any, ...]]:
    connection = await asyncpg.connect(dsn)
    try:
        return [tuple(row) for row in await connection.fetch(sql)]
    finally:
        await connection.close()


def complaints(database_url: str, acknowledged: int) -> list[str]:
    """What isn't as it should be in a database that nobody serves now; empty if all is well. Of several shards, one comes after
    the other, its orders and its trades.
    """
    found = list(_conserved(database_url))
    orders = [
        Order(order_id, symbol, side, unpack(price)[0], unpack(quantity)[0])
        for order_id, symbol, side, price, quantity in rows(
            database_url, "SELECT id, symbol, side, price, quantity FROM stored_orders ORDER BY id"
        )
    ]
    trades = [
        Trade(*((sell, buy) if taker_side == _BUY else (buy, sell)), unpack(price)[0], unpack(quantity)[0])
        for buy, sell, taker_side, price, quantity in rows(
            database_url, "SELECT buy_order_id, sell_order_id, taker_side, price, quantity FROM stored_trades ORDER BY id"
        )
    ]
    if len(orders) != acknowledged:
        found.append(f"{acknowledged:,} orders were acknowledged, {len(orders):,} are stored")
    expected = list(naive_trades(orders))
    if trades != expected:
        place = next((place for place, (one, other) in enumerate(zip(trades, expected, strict=False)) if one != other), None)
        place = min(len(trades), len(expected)) if place is None else place
        found.append(f"trade {place + 1} of {len(trades):,} isn't the one that price and time give ({len(expected):,} in all)")
    return found + _verified(database_url)


def _conserved(database_url: str) -> Iterator[str]:
    """What was traded is what was filled, of each order."""
    filled = dict(rows(database_url, "SELECT id, filled_quantity FROM stored_orders"))
    traded: dict[int, int] = defaultdict(int)
    for buy, sell, quantity in rows(database_url, "SELECT buy_order_id, sell_order_id, quantity FROM stored_trades"):
        traded[buy] += unpack(quantity)[0]
        traded[sell] += unpack(quantity)[0]
    wrong = [order_id for order_id in filled.keys() | traded.keys() if unpack(filled.get(order_id, 0))[0] != traded[order_id]]
    if wrong:
        yield f"{len(wrong):,} orders are filled otherwise than they traded, {min(wrong)} among them"


def _verified(database_url: str) -> list[str]:
    """What `ome verify` says, unless that is that all is well."""
    command = [sys.executable, "-m", "ome", "verify", "--database-url", database_url]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    return [] if done.returncode == 0 else [f"ome verify: {(done.stdout + done.stderr).strip()[-500:]}"]
