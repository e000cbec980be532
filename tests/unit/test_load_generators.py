"""The generators of `make overload` and `make soak`: figures come from what was measured, and what isn't as asked is said."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator

import pytest
from loadtests import kills, overload, soak
from loadtests.open_loop import HELLO, Load, Request, Tally, percentile

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
    found = overload.complaints([overload.Round(1000.0, 64, 2000.0, 1.0, orders, cancels, 400.0, 1.0, (100.0, memory), 0)])
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
