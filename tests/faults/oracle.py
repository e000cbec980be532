"""The judge: what clients were told against what the tables, the journal and the served book say.

- every acknowledged order is stored once, with the id and content that were acknowledged, in a state no older than acknowledged
- every stored order was sent; one that was certainly not executed isn't there
- every trade that anybody was shown is stored, with that content; the trades of an order add up to its filled quantity
- the journal has no gap, and replayed in a fresh engine it gives every row of every table (`ome verify`) and the served queues,
  order by order
- in the served queues, orders that nobody changed stand in the order in which they were accepted (said without the engine)
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import asyncpg

from faults.ledger import OPEN, Ledger, Page
from faults.load import Watcher
from faults.wire import Connection, NoAnswer, NotSent
from ome.db.url import parse_url
from ome.domain.commands import decode_commands
from ome.domain.errors import OmeError
from ome.domain.numbers import format_number
from ome.engine.engine import Engine
from ome.verification import verify

MAX_FINDINGS = 40
"""Sentences that are kept of each run: the first few say it."""

STATUSES = ("PENDING", "PARTIALLY_FILLED", "PENDING_TRIGGER", "FILLED", "CANCELLED", "EXPIRED", "REJECTED")

Row = tuple[Any, ...]
Queues = dict[tuple[str, str], list[tuple[str, list[str]]]]
"""(symbol, side) -> (price, order ids in their queue) of each level, best first."""


@dataclass
class Findings:
    """Counts of orders lost, doubled and moved in their queue, and everything else that contradicts a promise, in sentences."""

    acknowledged: int = 0
    stored: int = 0
    trades: int = 0
    lost: int = 0
    doubled: int = 0
    moved: int = 0
    other: int = 0
    sentences: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Whether every promise was kept."""
        return not (self.lost or self.doubled or self.moved or self.other)

    def say(self, kind: str, sentence: str, count: int = 1) -> None:
        """Count a finding of a kind (lost, doubled, moved, other)."""
        setattr(self, kind, getattr(self, kind) + count)
        if len(self.sentences) < MAX_FINDINGS:
            self.sentences.append(f"{kind}: {sentence}")

    def add(self, other: Findings) -> None:
        """Take in the findings of another look; what was acknowledged, stored and traded is the newer look's."""
        for kind in ("lost", "doubled", "moved", "other"):
            setattr(self, kind, getattr(self, kind) + getattr(other, kind))
        self.sentences = (self.sentences + other.sentences)[:MAX_FINDINGS]
        self.acknowledged, self.stored, self.trades = other.acknowledged, other.stored, other.trades


class Reader:
    """Rows of the service's database, read without any code of the service but its URL parser."""

    def __init__(self, database_url: str) -> None:
        self._url = parse_url(database_url)

    async def rows(self, query: str) -> list[Row]:
        """All rows of a query."""
        if self._url.kind == "sqlite":
            return await asyncio.to_thread(self._sqlite_rows, query)
        connection = await asyncpg.connect(self._url.target)
        try:
            return [tuple(row) for row in await connection.fetch(query)]
        finally:
            await connection.close()

    def _sqlite_rows(self, query: str) -> list[Row]:
        with contextlib.closing(sqlite3.connect(f"file:{self._url.target}?mode=ro", uri=True)) as connection:
            return connection.execute(query).fetchall()


@dataclass(frozen=True)
class StoredOrder:
    """An order as a person at a SQL prompt finds it."""

    id: int
    client_order_id: str
    user_id: str
    symbol: str
    side: str
    quantity: Decimal
    price: Decimal | None
    status: str
    filled: Decimal
    version: int


STORED_ORDERS = (
    "SELECT o.id, s.client_order_id, o.user_id, o.symbol, o.side, o.quantity, o.price, o.status, o.filled_quantity, s.version"
    " FROM orders o JOIN stored_orders s ON s.id = o.id WHERE s.client_order_id IS NOT NULL"
)
TRADE_SUMS = (
    "SELECT 'a trade', t.id FROM stored_trades t WHERE t.quantity <= 0 UNION ALL"
    " SELECT 'order', o.id FROM (SELECT id, sum(quantity) AS traded FROM"
    " (SELECT buy_order_id AS id, quantity / 10 AS quantity FROM stored_trades UNION ALL"
    " SELECT sell_order_id, quantity / 10 FROM stored_trades) AS both_sides GROUP BY id) AS sums"
    " JOIN stored_orders o ON o.id = sums.id WHERE sums.traded <> o.filled_quantity / 10"
)


def stored_order(row: Row) -> StoredOrder:
    """A row of `STORED_ORDERS`."""
    order_id, client_id, user_id, symbol, side, quantity, price, status, filled, version = row
    exact = None if price is None else Decimal(price)
    return StoredOrder(order_id, client_id, user_id, symbol, side, Decimal(quantity), exact, status, Decimal(filled), version)


async def audit(ledger: Ledger, database_url: str, port: int | None = None, watcher: Watcher | None = None) -> Findings:
    """Everything that can be said about a database whose load has come to rest; with `port`, about the served book too."""
    findings = Findings(acknowledged=ledger.acknowledged)
    reader = Reader(database_url)
    orders = [stored_order(row) for row in await reader.rows(STORED_ORDERS)]
    judge_orders(ledger, orders, findings)
    await judge_trades(ledger, reader, findings, watcher)
    for kind, identity in await reader.rows(TRADE_SUMS):
        findings.say("other", f"{kind} {identity}: its trades do not add up")
    for sentence in ledger.surprises + (watcher.contradictions if watcher else []):
        findings.say("other", sentence)
    await judge_journal(database_url, findings)
    if port is not None:
        served = await judge_book(reader, port, findings)
        judge_queues(served, {str(order.id) for order in orders if order.version > 1 or _may_jump(ledger, order)}, findings)
    return findings


async def judge_book(reader: Reader, port: int, findings: Findings) -> Queues:
    """The served book against the journal, place by place; the queues that are served."""
    try:
        engine = await replayed(reader)
        served = await served_queues(port, [book.instrument.symbol for book in engine.books()])
    except (NotSent, NoAnswer, OmeError) as error:
        findings.say("other", f"the served book can't be compared with the journal: {error!r}")
        return {}
    compare_queues(queues_of(engine), served, findings)
    return served


def _may_jump(ledger: Ledger, order: StoredOrder) -> bool:
    """Whether an order may stand behind a younger one: a stop takes its place when it fires."""
    page = ledger.pages.get(order.client_order_id)
    return page is None or page.body["type"] == "STOP"


def judge_orders(ledger: Ledger, orders: list[StoredOrder], findings: Findings) -> None:
    """The ledger against the stored orders."""
    stored: dict[str, StoredOrder] = {}
    for order in orders:
        if order.client_order_id in stored:
            findings.say("doubled", f"{order.client_order_id} is stored as {stored[order.client_order_id].id} and {order.id}")
        if order.client_order_id not in ledger.pages:
            findings.say("other", f"order {order.id} ({order.client_order_id}) is stored and nobody sent it")
        stored[order.client_order_id] = order
    findings.stored = len(orders)
    for client_id, page in ledger.pages.items():
        found = stored.get(client_id)
        if len(page.ids) > 1:
            findings.say("doubled", f"{client_id} was acknowledged as {sorted(page.ids)}")
        if found is None and page.is_acknowledged:
            findings.say("lost", f"{client_id} was acknowledged as {page.ids} and is not there")
        if found is not None:
            judge_order(client_id, page, found, findings)


def judge_order(client_id: str, page: Page, found: StoredOrder, findings: Findings) -> None:
    """One page against the order that is stored for it."""
    if page.is_certainly_not_executed:
        findings.say("other", f"{client_id} was said not to be executed, and is there as {found}")
    elif page.is_acknowledged:
        for sentence in (*unlike_sent(page, found), *unlike_told(page, found)):
            findings.say("lost", f"{client_id}: {sentence}; stored is {found}")


def unlike_sent(page: Page, found: StoredOrder) -> Iterator[str]:
    """What was sent and is stored otherwise."""
    body = page.body
    if str(found.id) not in page.ids:
        yield f"was acknowledged as {sorted(page.ids)}"
    if (found.user_id, found.symbol, found.side) != (body["user_id"], body["symbol"], body["side"]):
        yield f"was sent as {body}"
    if found.version == 1 and found.quantity != Decimal(body["quantity"]):
        yield f"was sent with quantity {body['quantity']}"
    if found.version == 1 and "price" in body and found.price != Decimal(body["price"]):
        yield f"was sent at {body['price']}"
    if found.version > 1 + page.changes:
        yield f"has version {found.version} after {page.changes} requests to change it"


def unlike_told(page: Page, found: StoredOrder) -> Iterator[str]:
    """What was answered last and isn't stored, or isn't that far."""
    order = page.order
    if order is not None:
        if found.version < order["version"] or found.filled < Decimal(order["filled_quantity"]):
            yield f"was acknowledged in version {order['version']}, {order['filled_quantity']} filled"
        if found.version == order["version"] and found.quantity != Decimal(order["quantity"]):
            yield f"was acknowledged with quantity {order['quantity']}"
        if order["status"] not in OPEN and found.status != order["status"]:
            yield f"was acknowledged as {order['status']}"
    if page.ended and found.status in OPEN:
        yield "was said to have ended"


async def judge_trades(ledger: Ledger, reader: Reader, findings: Findings, watcher: Watcher | None) -> None:
    """Every trade that somebody was told of is there, as it was told."""
    rows = await reader.rows("SELECT id, buy_order_id, sell_order_id, symbol, quantity, price FROM trades")
    findings.trades = len(rows)
    stored = {str(row[0]): row for row in rows}
    told = {trade_id for page in ledger.pages.values() for trade_id in page.trade_ids}
    for trade_id in sorted(told - stored.keys()):
        findings.say("lost", f"trade {trade_id} was answered and is not there")
    for trade_id, trade in (watcher.trades if watcher else {}).items():
        shown = (trade["buy_order_id"], trade["sell_order_id"], trade["symbol"], trade["quantity"], trade["price"])
        if trade_id not in stored:
            findings.say("lost", f"trade {trade_id} was shown and is not there")
        elif tuple(map(str, stored[trade_id][1:])) != shown:
            findings.say("other", f"trade {trade_id} was shown as {shown}, stored is {stored[trade_id]}")


async def judge_journal(database_url: str, findings: Findings) -> None:
    """Tables and journal say the same, row by row (`ome verify`)."""
    report = await asyncio.to_thread(verify, database_url)
    for sentence in report.problems():
        findings.say("other", sentence)


async def replayed(reader: Reader) -> Engine:
    """The engine that the journal alone makes."""
    engine = Engine()
    for (commands,) in await reader.rows("SELECT commands FROM journal ORDER BY last_position"):
        for stamped in decode_commands(bytes(commands)):
            engine.apply(stamped)
    return engine


def queues_of(engine: Engine) -> Queues:
    """The queues of every level that an engine has."""
    return {
        (book.instrument.symbol, name): [
            (format_number(book.instrument.prices.number(level.price)), [str(order.id) for order in level])
            for level in side.best_first()
        ]
        for book in engine.books()
        for name, side in (("bids", book.bids), ("asks", book.asks))
    }


async def served_queues(port: int, symbols: list[str]) -> Queues:
    """The queues that the service shows."""
    connection, queues = Connection(port), Queues()
    try:
        for symbol in symbols:
            _, depth = await connection.request("GET", f"/market/{symbol}/depth?levels=1000&detail=orders")
            for name in ("bids", "asks"):
                queues[symbol, name] = [(level["price"], [each["order_id"] for each in level["queue"]]) for level in depth[name]]
    finally:
        connection.close()
    return queues


def compare_queues(expected: Queues, served: Queues, findings: Findings) -> None:
    """Count the orders that don't stand where the journal puts them: at a price, so many from the front."""
    places, shown = _places(expected), _places(served)
    for order_id in sorted(places.keys() | shown.keys()):
        if places.get(order_id) != shown.get(order_id):
            findings.say("moved", f"order {order_id} belongs to {places.get(order_id)} and is at {shown.get(order_id)}")


def _places(queues: Queues) -> dict[str, tuple[str, str, str, int]]:
    return {
        order_id: (symbol, side, price, index)
        for (symbol, side), levels in queues.items()
        for price, queue in levels
        for index, order_id in enumerate(queue)
    }


def judge_queues(served: Mapping[tuple[str, str], list[tuple[str, list[str]]]], may_jump: set[str], findings: Findings) -> None:
    """Orders that nobody changed stand in the order of their acceptance, which is that of their ids."""
    for (symbol, side), levels in served.items():
        for price, queue in levels:
            ids = [int(order_id) for order_id in queue if order_id not in may_jump]
            wrong = sum(later < earlier for earlier, later in itertools.pairwise(ids))
            if wrong:
                findings.say("moved", f"{symbol} {side} {price}: {queue} is not the order of acceptance", wrong)
