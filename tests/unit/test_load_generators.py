"""The generators of `make overload` and `make soak`: figures come from what was measured, and what isn't as asked is said."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from loadtests import kills, overload, plain_client, soak, verdict
from loadtests.open_loop import HELLO, Load, Request, Tally, percentile
from msgspec import structs

ANSWERS = {
    b"GET": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    b"BUS": b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n",
    b"MUT": b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
}
"""What the server of these tests answers, by the first three bytes of a request; to anything else it hangs up."""


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection of it."""
    while data := await reader.read(65536):
        if data[:3] not in ANSWERS:
            break
        writer.write(ANSWERS[data[:3]])
    writer.close()


def endless(*requests: tuple[bytes, Tally]) -> Iterator[Request]:
    """These requests, over and over."""
    while True:
        yield from (Request(data, tally) for data, tally in requests)


async def test_an_open_loop_counts_every_request_by_what_became_of_it() -> None:
    """Good answers, refusals with and without Retry-After, connections that broke: nothing is left out."""
    good, refused, silent, lost = Tally(), Tally(), Tally(), Tally()
    bodies: list[bytes] = []
    async with await asyncio.start_server(answer, "127.0.0.1") as server:
        load = Load(server.sockets[0].getsockname()[1], lambda _, body: bodies.append(body))
        await load.connect(40)
        bodies.clear()
        await load.run_open(endless((HELLO, good), (b"BUSY", refused), (b"MUTE", silent), (b"LOSE", lost)), 200, 0.1)
        await load.close()
    assert good.offered > 0
    assert (good.good, len(bodies)) == (good.offered, good.offered)
    assert (refused.statuses[503], refused.without_retry_after, refused.good) == (refused.offered, 0, 0)
    assert (silent.statuses[503], silent.without_retry_after) == (silent.offered, silent.offered)
    assert (lost.lost, lost.good) == (lost.offered, 0)


async def test_a_closed_loop_waits_for_each_answer() -> None:
    """As many requests are under way as there are connections, and all are answered at its end."""
    tally = Tally()
    async with await asyncio.start_server(answer, "127.0.0.1") as server:
        load = Load(server.sockets[0].getsockname()[1])
        await load.connect(3)
        await load.run_closed(endless((HELLO, tally)), 0.05)
        await load.close()
    assert tally.good == tally.offered > 0


def test_percentiles_are_of_what_was_measured() -> None:
    """The worst counts as such, and nothing has none."""
    assert (percentile([], 99), percentile([3.0], 50), percentile([1.0, 2.0, 9.0], 99)) == (0.0, 3.0, 9.0)


def tally(good: int, offered: int, **more: int) -> Tally:
    """So many good answers of so many."""
    return Tally(offered=offered, statuses=Counter({201: good}), good_s=[0.01] * good, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("orders", "cancels", "memory", "complaint"),
    [
        (tally(950, 2000), tally(50, 50), 120.0, ""),
        (tally(700, 2000), tally(50, 50), 120.0, "goodput fell to 75%"),
        (tally(950, 2000, without_retry_after=1), tally(50, 50), 120.0, "1 without Retry-After"),
        (tally(950, 2000, lost=2), tally(50, 50), 120.0, "2 lost"),
        (tally(950, 2000), tally(40, 50), 120.0, "80.0% of the cancels"),
        (tally(950, 2000), tally(50, 50), 900.0, "memory grew by 800 MiB"),
    ],
)
def test_an_overload_that_is_not_borne_is_called_so(orders: Tally, cancels: Tally, memory: float, complaint: str) -> None:
    """Each thing that is asked of the service."""
    before, after = overload.Peak(1100.0, 64, 380.0), overload.Peak(900.0, 128, 420.0)
    found = overload.complaints([overload.Round(before, after, 2000.0, 1.0, orders, cancels, 1.0, (100.0, memory), 0)])
    assert len(found) == bool(complaint)
    assert complaint in "".join(found)


@pytest.mark.parametrize(
    ("slowest", "answered", "connected", "told", "complaint"),
    [
        (0.015, 100, 6000, 5, ""),
        (0.05, 100, 6000, 5, "5.0 times as long"),
        (0.015, 99, 6000, 5, "100 orders, answered"),
        (0.015, 100, 5000, 5, "5000 of 6000"),
        (0.015, 100, 6000, 0, "no slow sender was told"),
    ],
)
def test_a_crowd_that_costs_too_much_is_called_so(
    slowest: float, answered: int, connected: int, told: int, complaint: str
) -> None:
    """Likewise."""
    crowded = tally(answered, 100)
    crowded.good_s[-1] = slowest
    found = soak.complaints([soak.Round(tally(100, 100), crowded, soak.Beside(connected, told), (100.0, 150.0))], 6000)
    assert len(found) == bool(complaint)
    assert complaint in "".join(found)


@pytest.mark.parametrize(
    ("scope", "answer_s", "last_accepted_s", "cancelled_s", "others_after", "complaint"),
    [
        ("user", 0.9, 0.5, 0.9, 100, ""),
        ("user", 1.5, 0.5, 0.9, 100, "its answer came after 1.50 s"),
        ("symbol", 0.9, 1.2, 0.9, 100, "the last acceptance came after 1.20 s"),
        ("all", 0.9, 0.5, 2.0, 0, "the last cancel came after 2.00 s"),
        ("symbol", 0.9, 0.5, 0.9, 0, "the others were stopped too"),
        ("all", 0.9, 0.5, 0.9, 0, ""),
    ],
)
def test_a_kill_that_takes_too_long_is_called_so(
    scope: str, answer_s: float, last_accepted_s: float, cancelled_s: float, others_after: int, complaint: str
) -> None:
    """Likewise."""
    found = kills.complaints([kills.Kill(scope, 4000.0, 1500.0, 10, answer_s, 0.2, last_accepted_s, cancelled_s, others_after)])
    assert len(found) == bool(complaint)
    assert complaint in "".join(found)


def sent(order_id: str, **changes: Any) -> plain_client.Sent:
    """What a thread that posted one order noted."""
    return structs.replace(plain_client.Sent([0.01], [order_id], ["9"] if order_id == "1" else [], Counter()), **changes)


def test_a_plain_client_is_content_only_where_every_request_succeeded() -> None:
    """A failure, an id that was told twice, or no order at all makes the run fail, and is said."""
    assert plain_client.summary([sent("1"), sent("2")], 1.0)[1]
    assert not plain_client.summary([], 1.0)[1]
    for wrong, word in (
        (sent("2", failures=Counter({"503: busy": 1})), "1 times 503: busy"),
        (sent("1"), "2 ids told twice"),
    ):
        text, went_well = plain_client.summary([sent("1"), wrong], 1.0)
        assert not went_well
        assert word in text


def test_the_naive_book_keeps_price_then_time() -> None:
    """Best price first, the maker's price, whoever came first at it; what is left rests, in each symbol by itself."""
    orders = [
        verdict.Order(1, "A", 1, 101, 5),
        verdict.Order(2, "A", 1, 100, 5),
        verdict.Order(3, "A", 1, 100, 5),
        verdict.Order(4, "B", 1, 1, 5),
        verdict.Order(5, "A", 0, 101, 12),
        verdict.Order(6, "A", 0, 99, 4),
        verdict.Order(7, "A", 1, 90, 6),
    ]
    assert list(verdict.naive_trades(orders)) == [
        verdict.Trade(2, 5, 100, 5),
        verdict.Trade(3, 5, 100, 5),
        verdict.Trade(1, 5, 101, 2),
        verdict.Trade(6, 7, 99, 4),
    ]


def test_a_verdict_names_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all traded in their turn nothing; an order too few, a fill that is off, and a queue that was jumped are said."""
    monkeypatch.setattr(verdict, "_verified", lambda _database: [])
    path = tmp_path / "ome.db"
    url = f"sqlite:///{path}"
    with closing(sqlite3.connect(path, isolation_level=None)) as tables:
        tables.execute("CREATE TABLE stored_orders (id, symbol, side, price, quantity, filled_quantity)")
        tables.execute("CREATE TABLE stored_trades (id, buy_order_id, sell_order_id, taker_side, price, quantity)")
        orders = [(1, "A", 1, 100, 50, 50), (2, "A", 1, 100, 50, 0), (3, "A", 0, 100, 50, 50)]
        tables.executemany("INSERT INTO stored_orders VALUES (?, ?, ?, ?, ?, ?)", orders)
        tables.execute("INSERT INTO stored_trades VALUES (1, 3, 1, 0, 100, 50)")
        assert verdict.complaints(url, 3) == []
        assert verdict.complaints(url, 4) == ["4 orders were acknowledged, 3 are stored"]
        tables.execute("UPDATE stored_orders SET filled_quantity = 40 WHERE id = 1")
        assert verdict.complaints(url, 3) == ["1 orders are filled otherwise than they traded, 1 among them"]
        tables.execute("UPDATE stored_orders SET filled_quantity = 50 * (id <> 1)")
        tables.execute("UPDATE stored_trades SET sell_order_id = 2")
        assert verdict.complaints(url, 3) == ["trade 1 of 1 isn't the one that price and time give (1 in all)"]
