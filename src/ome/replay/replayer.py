"""The replay: turns the rows of a flow into orders, one at a time, keeps track of which order of the engine is which of the
file, and tells the verifier what came of it.

ADD and SEED rest; CANCEL and PURGE cancel; REDUCE amends down, or cancels what it would leave nothing of; EXECUTE and TAKE come
in as immediate-or-cancel orders of another user. REPLACE amends to the total of what is filled and the row's quantity; where
that alone would keep the order's place (same price, no more than was left, rule A1), it cancels and enters anew instead.
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Iterable
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Final

from ome.domain.enums import Side
from ome.replay.digest import Book, Level, Resting
from ome.replay.driver import Driver, Entry, Market, Outcome
from ome.replay.errors import FlowError, ReplayError
from ome.replay.flow import Fill, Op, Row, count_rows
from ome.replay.formats import FlowFormat, format_of, named, read
from ome.replay.report import Progress, ReplayReport
from ome.replay.verify import Expected, Verifier, read_expected

DEFAULT_URL: Final = "http://127.0.0.1:5000"
DEFAULT_TICK: Final = "0.01"
DEFAULT_LOT: Final = "1"
PROGRESS_ROWS: Final = 100
"""Rows between two calls of a progress callable."""

_NOT_SYMBOL: Final = re.compile(r"[^A-Z0-9._-]|^[._-]+")
_SYMBOL_LENGTH: Final = 32


async def replay_file(  # noqa: PLR0913  what a command line can say
    path: Path | str,
    *,
    url: str | None = None,
    in_process: bool = False,
    api_key: str | None = None,
    form: FlowFormat | None = None,
    symbol: str | None = None,
    day: date | None = None,
    tick: str = DEFAULT_TICK,
    lot: str = DEFAULT_LOT,
    progress: Progress | None = None,
    limit_rows: int | None = None,
) -> ReplayReport:
    """Replay a file of order flow, over HTTP (at `url`) or `in_process`, and verify it by the files beside it.

    `form`, `symbol` and `day` (in New York, for the formats that count from midnight) are what the file says of itself, if not
    given. The symbol's book must be empty. `tick` and `lot` are what the rows' counts are counts of. `limit_rows` stops after
    that many. Raises FlowError or ReplayError; results that differ are no errors but the report's disagreements.
    """
    path = Path(path)
    form = form or format_of(path)
    own = named(path, form)
    market = Market.of_text(symbol or symbol_of(path, own.symbol), tick, lot)
    driver = await _driver(market, url or DEFAULT_URL, in_process=in_process, api_key=api_key)
    is_own_format = form is FlowFormat.CSV
    total = count_rows(path) if is_own_format else 0
    total = min(total, limit_rows or total)
    rows = islice(read(path, form, market, day or own.day), limit_rows)
    try:
        return await replay(rows, driver, read_expected(path) if is_own_format else Expected(), progress=progress, total=total)
    finally:
        await driver.close()


async def replay(
    rows: Iterable[Row], driver: Driver, expected: Expected, *, progress: Progress | None = None, total: int = 0
) -> ReplayReport:
    """Replay rows through a driver, which is opened here and closed by the caller.

    `total` is for the progress callable alone, 0 for unknown.
    """
    verifier = Verifier(expected)
    replayer = Replayer(driver, verifier)
    await driver.open()
    started = time.perf_counter()
    number = 0
    for number, row in enumerate(rows, start=1):
        await replayer.play(number, row)
        if progress is not None and number % PROGRESS_ROWS == 0:
            progress(number, total)
    if progress is not None:
        progress(number, total)
    return ReplayReport.of(verifier, seconds=time.perf_counter() - started)


def symbol_of(path: Path, name: str | None) -> str:
    """The symbol to trade as: what the file names, in the letters that a symbol may have."""
    symbol = _NOT_SYMBOL.sub("", (name or "").upper())[:_SYMBOL_LENGTH]
    if not symbol:
        raise ReplayError(f"{path.name} names no symbol, or several; give the one to trade with --symbol")
    return symbol


async def _driver(market: Market, url: str, *, in_process: bool, api_key: str | None) -> Driver:
    """Each is imported where it is wanted: a replay over HTTP needs no engine, one in process no HTTP."""
    if in_process:
        from ome.replay.engine_driver import EngineDriver  # noqa: PLC0415

        return EngineDriver(market)
    from ome.replay.http_driver import HttpDriver  # noqa: PLC0415

    return HttpDriver(market, url, api_key=api_key)


class _Order:
    """An order of the file: which one it is in the engine, at what price, its total quantity and what is open of it."""

    __slots__ = ("engine_id", "price", "quantity", "remaining", "side")

    def __init__(self, engine_id: int, side: Side, price: int, quantity: int, remaining: int) -> None:
        self.engine_id = engine_id
        self.side = side
        self.price = price
        self.quantity = quantity
        self.remaining = remaining


class Replayer:
    """Plays rows, one after the other, on one driver. What it knows of orders comes from the engine's answers alone."""

    def __init__(self, driver: Driver, verifier: Verifier) -> None:
        self._driver = driver
        self._verifier = verifier
        self._orders: dict[int, _Order] = {}
        self._file_ids: dict[int, int] = {}
        self._ways: dict[Op, Callable[[int, Row], Awaitable[tuple[Fill, ...]]]] = {
            Op.ADD: self._add,
            Op.SEED: self._add,
            Op.CANCEL: self._cancel,
            Op.PURGE: self._cancel,
            Op.REDUCE: self._reduce,
            Op.REPLACE: self._replace,
            Op.EXECUTE: self._hit,
            Op.TAKE: self._hit,
        }

    async def play(self, number: int, row: Row) -> None:
        """Carry out one row, and compare the book where there is a checkpoint after it."""
        fills = await self._ways[row.op](number, row)
        self._verifier.row(number, row, fills)
        if self._verifier.checkpoint_due(number):
            self._verifier.checkpoint(number, await self.book())

    async def book(self) -> Book:
        """The engine's book, in the file's ids."""
        return Book(*([Level(price, self._named(orders)) for price, orders in side] for side in await self._driver.book()))

    def _named(self, orders: list[Resting]) -> list[Resting]:
        return [Resting(self._file_id(engine_id), remaining) for engine_id, remaining in orders]

    def _file_id(self, engine_id: int) -> int:
        """The file's id; for an order that isn't the file's, minus the engine's, which no file can hold."""
        return self._file_ids.get(engine_id, -engine_id)

    async def _add(self, number: int, row: Row) -> tuple[Fill, ...]:
        if row.order_id in self._orders:
            raise FlowError(f"row {number}: there is an order {row.order_id} already")
        return await self._enter(number, row)

    async def _enter(self, number: int, row: Row) -> tuple[Fill, ...]:
        outcome = await self._driver.submit(Entry(f"r{number}", row.side, row.price, row.quantity, taking=False))
        self._verifier.answered(number, row, live=True, refused=outcome.refused)
        if outcome.refused is not None:
            return ()
        order = _Order(outcome.order_id, row.side, row.price, row.quantity, outcome.remaining)
        self._orders[row.order_id] = order
        self._file_ids[outcome.order_id] = row.order_id
        self._verifier.rests(number, row, outcome.remaining)
        return self._traded(outcome)

    async def _cancel(self, number: int, row: Row) -> tuple[Fill, ...]:
        order = self._known(number, row)
        if order is not None and self._done(number, row, order, await self._driver.cancel(order.engine_id)):
            order.remaining = 0
        return ()

    async def _reduce(self, number: int, row: Row) -> tuple[Fill, ...]:
        order = self._known(number, row)
        if order is None or row.quantity >= order.remaining:
            return await self._cancel(number, row) if order is not None else ()
        outcome = await self._driver.modify(order.engine_id, order.quantity - row.quantity, order.price)
        if self._done(number, row, order, outcome):
            order.quantity -= row.quantity
            order.remaining = outcome.remaining
        return self._traded(outcome)

    async def _replace(self, number: int, row: Row) -> tuple[Fill, ...]:
        order = self._known(number, row)
        if order is None:
            return ()
        if row.price == order.price and row.quantity <= order.remaining:
            await self._cancel(number, row)
            return await self._enter(number, row)
        total = order.quantity - order.remaining + row.quantity
        outcome = await self._driver.modify(order.engine_id, total, row.price)
        if self._done(number, row, order, outcome):
            order.price, order.quantity, order.remaining = row.price, total, outcome.remaining
            self._verifier.rests(number, row, outcome.remaining)
        return self._traded(outcome)

    async def _hit(self, number: int, row: Row) -> tuple[Fill, ...]:
        side = row.side
        if row.op is Op.EXECUTE:
            side = Side.SELL if side is Side.BUY else Side.BUY
        outcome = await self._driver.submit(Entry(f"r{number}", side, row.price, row.quantity, taking=True))
        self._verifier.answered(number, row, live=True, refused=outcome.refused)
        return self._traded(outcome)

    def _known(self, number: int, row: Row) -> _Order | None:
        order = self._orders.get(row.order_id)
        if order is None:
            self._verifier.disagree(number, f"{row.op} of order {row.order_id}", "an order that was added", "none of that id")
        return order

    def _done(self, number: int, row: Row, order: _Order, outcome: Outcome) -> bool:
        self._verifier.answered(number, row, live=order.remaining > 0, refused=outcome.refused)
        return outcome.refused is None

    def _traded(self, outcome: Outcome) -> tuple[Fill, ...]:
        """The fills in the file's ids; what they took is no longer open of their makers."""
        fills = []
        for engine_id, price, quantity in outcome.fills:
            maker_id = self._file_id(engine_id)
            maker = self._orders.get(maker_id)
            if maker is not None:
                maker.remaining -= quantity
            fills.append(Fill(maker_id, price, quantity))
        return tuple(fills)
