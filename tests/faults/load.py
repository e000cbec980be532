"""The load: seeded clients that submit, modify and cancel, ask again for whatever answer got lost, and keep the ledger.

Every order has a client order id and every change the version that it expects, so that asking again is safe; each client does
one thing at a time and goes on with it until the outcome is certain. Meanwhile a watcher reads what is public, as strangers do.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from faults.ledger import Answer, Ledger, Page
from faults.wire import Connection, NoAnswer, NotSent

SYMBOLS = ("AAA", "BBB")
PAUSE_S = 0.02
"""Between two attempts at the same request."""
SETTLED_WITHIN_S = 60.0
"""How long a client may take to come to a definite answer once everything is well."""
WATCH_S = 0.05
"""Between two looks of the watcher."""


class Load:
    """A number of clients on one port, from one seed.

    `think_s` is the longest pause of a client between two requests, in seconds: 0 is as fast as it goes.
    """

    def __init__(self, port: int, seed: object, *, clients: int = 12, think_s: float = 0.0, name: str = "c") -> None:
        self.ledger = Ledger()
        self.watcher = Watcher(port)
        self._acknowledged = asyncio.Event()
        self._port = port
        self._think_s = think_s
        self._stop = asyncio.Event()
        self._rng = random.Random(f"{seed}")
        self._names = [f"{name}{number}" for number in range(clients)]
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin; the service need not be there yet."""
        self._tasks = [asyncio.create_task(self._client(name, random.Random(self._rng.random()))) for name in self._names]
        self._tasks.append(asyncio.create_task(self.watcher.watch()))

    async def stop(self, within_s: float = SETTLED_WITHIN_S) -> None:
        """Let each client come to the end of what it does, answers that got lost included: the service has to be there."""
        self._stop.set()
        self.watcher.stop()
        _, waiting = await asyncio.wait(self._tasks, timeout=within_s)
        for task in waiting:
            task.cancel()
        if waiting:
            self.ledger.surprise(f"{len(waiting)} clients have no definite answer after {within_s} s")
        for result in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result

    async def abandon(self) -> None:
        """Stop where it is: what has no answer stays unknown."""
        self._stop.set()
        self.watcher.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def acknowledge_next(self, within_s: float = 30.0) -> bool:
        """Wait for the next order that the service acknowledges; False if none came."""
        self._acknowledged.clear()
        try:
            async with asyncio.timeout(within_s):
                await self._acknowledged.wait()
        except TimeoutError:
            return False
        return True

    async def _client(self, name: str, rng: random.Random) -> None:
        connection = Connection(self._port)
        mine: list[Page] = []
        number = 0
        try:
            while not self._stop.is_set():
                mine = [page for page in mine if page.is_open][-40:]
                draw = rng.random()
                if mine and draw < 0.2:
                    await self._cancel(connection, rng.choice(mine))
                elif mine and draw < 0.4:
                    await self._modify(connection, rng.choice(mine), rng)
                else:
                    number += 1
                    mine.append(await self._submit(connection, new_order(rng, name, f"{name}-{number}")))
                if self._think_s:
                    await asyncio.sleep(rng.uniform(0, self._think_s))
        finally:
            connection.close()

    async def _submit(self, connection: Connection, body: Answer) -> Page:
        page = self.ledger.pages[body["client_order_id"]] = Page(body, time.monotonic())
        async for status, answer in self._attempts(connection, "POST", "/orders", body, page):
            if status == 201:
                page.acknowledge(answer)
                self._acknowledged.set()
            elif status == 422 and "order_id" in answer:
                page.reject(answer)
            else:
                self.ledger.surprise(f"POST /orders {body} was answered {status} {answer}")
        return page

    async def _cancel(self, connection: Connection, page: Page) -> None:
        assert page.order is not None
        async for status, answer in self._attempts(connection, "DELETE", f"/orders/{page.order['order_id']}"):
            if status == 200:
                page.acknowledge(answer)
            elif status == 409:
                page.ended = True
            else:
                self.ledger.surprise(f"DELETE of {page.order} was answered {status} {answer}")

    async def _modify(self, connection: Connection, page: Page, rng: random.Random) -> None:
        assert page.order is not None
        body: Answer = {"expected_version": page.order["version"], "quantity": rng.randrange(1, 30)}
        if page.order["price"] is not None and rng.random() < 0.3:
            body["price"] = a_price(rng)
        page.changes += 1
        async for status, answer in self._attempts(connection, "PUT", f"/orders/{page.order['order_id']}", body):
            if status == 200:
                page.acknowledge(answer)
            elif status == 409 and answer.get("code") == "order_not_open":
                page.ended = True
            elif status == 409:  # an attempt whose answer was lost had changed it
                await self._read(connection, page)
            elif status != 422:
                self.ledger.surprise(f"PUT {body} of {page.order} was answered {status} {answer}")

    async def _read(self, connection: Connection, page: Page) -> None:
        assert page.order is not None
        async for status, answer in self._attempts(connection, "GET", f"/orders/{page.order['order_id']}"):
            if status == 200:
                page.acknowledge(answer)
            else:
                self.ledger.surprise(f"GET of {page.order} was answered {status} {answer}")

    async def _attempts(
        self, connection: Connection, method: str, path: str, body: Answer | None = None, page: Page | None = None
    ) -> AsyncIterator[tuple[int, Answer]]:
        """The one definite answer to a request, after as many attempts as it takes."""
        counted = page or Page({}, 0.0)
        while True:
            try:
                counted.attempts += 1
                status, answer = await connection.request(method, path, body)
            except NotSent:
                counted.refused += 1
            except NoAnswer:
                self.ledger.unknown += 1
            else:
                outcome = answer.get("outcome")
                if status < 429 and outcome != "unknown":
                    yield status, answer
                    return
                if outcome == "unknown":
                    self.ledger.unknown += 1
                elif outcome == "not_executed" or method == "GET":
                    counted.refused += 1
                else:
                    self.ledger.surprise(f"{method} {path} was answered {status} without an outcome: {answer}")
            self.ledger.retries += 1
            await asyncio.sleep(PAUSE_S)


def a_price(rng: random.Random) -> str:
    """One of thirteen close prices: crossing and queueing are both common."""
    return f"{100 + rng.randrange(-6, 7) / 100:.2f}"


def new_order(rng: random.Random, user_id: str, client_order_id: str) -> Answer:
    """A limit, market or stop order of a user."""
    order: dict[str, Any] = {
        "user_id": user_id,
        "symbol": rng.choice(SYMBOLS),
        "side": rng.choice(["BUY", "SELL"]),
        "quantity": rng.randrange(1, 20),
        "client_order_id": client_order_id,
    }
    kind = rng.random()
    if kind < 0.07:
        return order | {"type": "MARKET"}
    if kind < 0.15:
        away = rng.randrange(3, 9) / 100
        stop = 100 + away if order["side"] == "BUY" else 100 - away
        return order | {"type": "STOP", "stop_price": f"{stop:.2f}"}
    time_in_force = rng.choice(["GTC", "GTC", "GTC", "GTC", "IOC", "FOK"])
    return order | {"type": "LIMIT", "price": a_price(rng), "time_in_force": time_in_force}


class Watcher:
    """A stranger who reads depth and trades again and again: sequences never go back, no trade that was shown is withdrawn."""

    def __init__(self, port: int) -> None:
        self.trades: dict[str, Answer] = {}
        self.contradictions: list[str] = []
        self.looks = 0
        self._port = port
        self._sequences: dict[str, int] = {}
        self._stop = asyncio.Event()

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()

    async def watch(self) -> None:
        """Look until told to stop."""
        connection = Connection(self._port, within_s=5.0)
        try:
            while not self._stop.is_set():
                for symbol in SYMBOLS:
                    try:
                        await self._look(connection, symbol)
                    except (NotSent, NoAnswer):
                        connection.close()
                await asyncio.sleep(WATCH_S)
        finally:
            connection.close()

    async def _look(self, connection: Connection, symbol: str) -> None:
        status, depth = await connection.request("GET", f"/market/{symbol}/depth?levels=1")
        if status != 200:
            return
        self.looks += 1
        before = self._sequences.get(symbol, 0)
        if depth["sequence"] < before:
            self.contradictions.append(f"the sequence of {symbol} went from {before} back to {depth['sequence']}")
        self._sequences[symbol] = depth["sequence"]
        status, trades = await connection.request("GET", f"/trades?symbol={symbol}&limit=50")
        for trade in trades["trades"] if status == 200 else ():
            if self.trades.setdefault(trade["trade_id"], trade) != trade:
                self.contradictions.append(f"trade {trade['trade_id']} was shown as {self.trades[trade['trade_id']]} and {trade}")


@asynccontextmanager
async def loaded(load: Load) -> AsyncIterator[Load]:
    """The load, running; whatever happens its tasks end with the block."""
    load.start()
    try:
        yield load
    finally:
        await load.abandon()
