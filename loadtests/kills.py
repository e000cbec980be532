"""How soon a kill switch takes effect while more is offered than the service can do: a phase of `make soak`.

For a user, a symbol and everybody in turn: orders leave at a fixed rate, by a generator that doesn't wait. Every other one is of
what will be killed, and rests; the rest trade. Half way the switch is set, over a connection of its own. Measured, from when that
is sent: its answer; the last of the killed's orders that is accepted, as its client hears it; and when the last of their open
orders is cancelled, by the engine's clock. Asked: each within a second, and that the others trade on. Then it is lifted.
"""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec
from msgspec import Struct

from loadtests.open_loop import Load, Request, Tally
from loadtests.servers import Server
from ome.domain.enums import OrderStatus

SCOPES: Final[tuple[tuple[str, str | None], ...]] = (("user", "runaway"), ("symbol", "RUNAWAY"), ("all", None))
MOST_S: Final = 1.0
CONNECTIONS: Final = 1200
"""More than the service works on at a time."""
ANSWER_S: Final = 10.0
FAR: Final = ("900.00", "1.00")
"""Prices at which a sell and a buy rest for good."""


class Kill(Struct):
    """A switch that was set under load; times in seconds from its request."""

    scope: str
    offered_per_second: float
    accepted_per_second: float
    """Before it was set, of all orders."""
    found: int
    """Open orders that it found."""
    answer_s: float
    cpu_s: float | None
    """Processor time that the service was given until then, whatever else the machine had to do; None where it can't be told."""
    last_accepted_s: float
    """0 where nothing of the killed was accepted any more."""
    cancelled_s: float
    """Until the last of these was cancelled."""
    others_after: int
    """Orders of the others that were accepted after the last of the killed."""


class Flow:
    """Orders that trade with each other; every other one is the runaway's, or of its symbol, and rests."""

    def __init__(self, scope: str) -> None:
        self.killed, self.others = Tally(), Tally()
        self.accepted: list[tuple[float, bool]] = []
        self._scope = scope

    def __iter__(self) -> Iterator[Request]:
        """Requests without end."""
        for number in itertools.count():
            rests = number % 2 == 0
            is_killed = self._scope == "all" or rests
            yield Request(self._order(number // 2, rests=rests), self.killed if is_killed else self.others)

    def seen(self, request: Request, _body: bytes) -> None:
        """An order was accepted just now."""
        self.accepted.append((time.perf_counter(), request.tally is self.killed))

    def _order(self, number: int, *, rests: bool) -> bytes:
        pair, side = divmod(number, 2)
        fields = {
            "user_id": "runaway" if rests and self._scope == "user" else f"u{number % 97}",
            "symbol": "RUNAWAY" if rests and self._scope == "symbol" else f"S{pair % 8}",
            "side": ("SELL", "BUY")[side],
            "quantity": str(1 + pair % 9),
            "price": FAR[side] if rests else f"{100 + pair % 5}.00",
        }
        body = msgspec.json.encode(fields)
        head = b"POST /orders HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        return head % len(body) + body


async def one_kill(server: Server, database: Path, scope: str, who: str | None, rate: float, seconds: float) -> Kill:
    """Offer orders at this rate for so long, and set a switch half way."""
    flow, port = Flow(scope), int(server.url.rpartition(":")[2])
    load = Load(port, flow.seen)
    await load.connect(CONNECTIONS)
    switch = {"scope": scope, "active": True} | ({} if who is None else {"id": who})
    async with httpx.AsyncClient(base_url=server.url, timeout=ANSWER_S) as operator:
        await operator.get("/health/live")  # makes its connection
        began = time.perf_counter()
        offering = asyncio.create_task(load.run_open(iter(flow), rate, seconds))
        await asyncio.sleep(seconds / 2)
        cpu = server.cpu_seconds()
        sent, sent_us = time.perf_counter(), time.time_ns() // 1000
        answer = await put(operator, switch)
        answered, cpu_after = time.perf_counter(), server.cpu_seconds()
        await offering
        await put(operator, switch | {"active": False})
    await load.close()
    last = max((at for at, is_killed in flow.accepted if is_killed and at > sent), default=sent)
    return Kill(
        scope,
        (flow.killed.offered + flow.others.offered) / seconds,
        sum(at <= sent for at, _ in flow.accepted) / (sent - began),
        answer["open_orders"],
        answered - sent,
        None if cpu is None or cpu_after is None else cpu_after - cpu,
        last - sent,
        (last_cancelled_us(database, scope, who) - sent_us) / 1e6,
        sum(at > last for at, is_killed in flow.accepted if not is_killed),
    )


async def put(operator: httpx.AsyncClient, switch: dict[str, object]) -> dict[str, Any]:
    """Set a switch; the answer. RuntimeError with what it was answered where it isn't set."""
    answer = await operator.put("/admin/kill", json=switch)
    if answer.status_code != 200:
        raise RuntimeError(f"PUT /admin/kill {switch} was answered {answer.status_code}: {answer.text}")
    document: dict[str, Any] = answer.json()
    return document


def last_cancelled_us(database: Path, scope: str, who: str | None) -> int:
    """When the last of the killed's orders was cancelled, by the engine's clock."""
    whose = {"user": "user_id = ?", "symbol": "symbol = ?", "all": "? IS NULL"}[scope]
    query = f"SELECT max(updated_at) FROM stored_orders WHERE status = {OrderStatus.CANCELLED} AND {whose}"  # noqa: S608  the words above
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return int(connection.execute(query, (who,)).fetchone()[0])


async def kills(server: Server, database: Path, rate: float, seconds: float) -> list[Kill]:
    """Each scope in turn."""
    return [await one_kill(server, database, scope, who, rate, seconds) for scope, who in SCOPES]


def complaints(kills: Sequence[Kill]) -> list[str]:
    """What isn't as asked."""
    found = []
    for kill in kills:
        times = {"its answer": kill.answer_s, "the last acceptance": kill.last_accepted_s, "the last cancel": kill.cancelled_s}
        found += [f"kill of {kill.scope}: {name} came after {at:.2f} s" for name, at in times.items() if at > MOST_S]
        if not kill.others_after and kill.scope != "all":
            found.append(f"kill of {kill.scope}: the others were stopped too")
    return found


def table(kills: Sequence[Kill]) -> str:
    """The kills as people read them."""
    head = ("kill", "offered/s", "accepted/s", "open then", "answer ms", "its CPU ms", "last accepted ms", "all cancelled ms",
            "others after")  # fmt: skip
    rows = [head, *map(_cells, kills)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(lines + [f"WRONG: {complaint}" for complaint in complaints(kills)])


def _cells(kill: Kill) -> tuple[str, ...]:
    measured = (kill.answer_s, kill.cpu_s, kill.last_accepted_s, kill.cancelled_s)
    times = ("?" if at is None else f"{1000 * at:.0f}" for at in measured)
    rates = f"{kill.offered_per_second:,.0f}", f"{kill.accepted_per_second:,.0f}"
    return kill.scope, *rates, f"{kill.found:,}", *times, f"{kill.others_after:,}"
