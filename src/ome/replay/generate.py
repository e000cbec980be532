"""A seeded generator of realistic order flow, with its tape and checkpoints, in the format of `ome.replay.flow`.

What is realistic about it: arrivals come in bursts with exponential gaps; new orders gather near the touch, their distance
from it falling off as a power law; about nine of ten orders are cancelled, those near the touch first; few are amended;
incoming orders are mostly smaller than the queue that they hit, and now and then sweep several levels, what is left
of one coming to rest; sizes are round lots or heavy-tailed odd ones; all this around a fair price that drifts slowly.

The same seed, kind and number of rows make the same rows and the same bytes. Tape and checkpoints come from a book of the
generator's own, of lists and dicts searched from end to end, which shares nothing with the engine. No order ever crosses
the book but the incoming ones, and there are no mismatch rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random
from typing import Final, Literal, NamedTuple

from msgspec import Struct

from ome.domain.enums import Side
from ome.replay.digest import Book, Level, Resting, TapeDigest
from ome.replay.errors import FlowError
from ome.replay.flow import (
    CHECKPOINT_HEADER,
    FLOW_HEADER,
    TAPE_HEADER,
    Checkpoint,
    Fill,
    Op,
    Row,
    companion_path,
    flow_name,
    format_row,
    open_for_writing,
)
from ome.replay.report import Progress
from ome.replay.verify import checkpoint_of

FlowKind = Literal["sweeps", "replay"]
"""sweeps: one TAKE row for an incoming order, and a tape; replay: one EXECUTE row for each of its fills."""

START_NS: Final = 1_704_205_800_000_000_000
"""When a flow starts: 2024-01-02 14:30 UTC."""
START_TICKS: Final = 20_000
"""The fair price that it starts from."""
SEEDED_ORDERS: Final = 300
"""The size of the starting book, where there are rows enough for it."""
TYPICAL_LIVE: Final = 600
"""How many orders rest when as many are cancelled as are added."""
CHECKPOINTS: Final = 20
"""How many checkpoints a file has, about."""
PROGRESS_ROWS: Final = 1000

_TAKE, _REPLACE, _REDUCE = 0.03, 0.06, 0.01
"""How often a step is an incoming order, a replacement, a reduction; the others are new orders and cancels."""
_SWEEP = 0.01
"""How often an incoming order sweeps several levels."""
_LOT: Final = 100
_FARTHEST: Final = 400


class GeneratedFlow(Struct, frozen=True):
    """What was written: the flow, its checkpoints and, for sweeps, its tape."""

    path: Path
    checkpoints: Path
    tape: Path | None
    rows: int
    trades: int


def generate(
    path: Path | str, *, rows: int, seed: int, kind: FlowKind = "sweeps", progress: Progress | None = None
) -> GeneratedFlow:
    """Write a flow of exactly `rows` rows to NAME.csv or NAME.csv.gz, and its companions beside it.

    FlowError for another name, for fewer rows than one, and where a file can't be written.
    """
    path = Path(path)
    flow_name(path)
    if rows < 1:
        raise FlowError("a flow has at least one row")
    try:
        return _generate(path, rows, seed, kind, progress)
    except OSError as error:
        raise FlowError(f"{path} can't be written: {error}") from error


def _generate(path: Path, rows: int, seed: int, kind: FlowKind, progress: Progress | None) -> GeneratedFlow:
    flow = _Flow(Random(seed), kind, seeded=min(SEEDED_ORDERS, rows // 5))  # noqa: S311  to be repeated, not to be secret
    tape = TapeDigest()
    every = max(1, rows // CHECKPOINTS)
    tape_lines, checkpoint_lines = [TAPE_HEADER], [CHECKPOINT_HEADER]
    with open_for_writing(path) as file:
        file.write(FLOW_HEADER + "\n")
        for number, (row, fills) in enumerate(islice(flow.play(), rows), start=1):
            file.write(format_row(row) + "\n")
            tape.add(number, fills)
            tape_lines += [f"{number},{row.order_id},{fill.maker_id},{fill.price},{fill.quantity}" for fill in fills]
            if number % every == 0 or number == rows:
                checkpoint_lines.append(_checkpoint_line(row, checkpoint_of(number, flow.book.picture(), tape)))
            if progress is not None and (number % PROGRESS_ROWS == 0 or number == rows):
                progress(number, rows)
    checkpoints = _write_lines(companion_path(path, "checkpoints"), checkpoint_lines)
    tape_path = _write_lines(companion_path(path, "tape"), tape_lines) if kind == "sweeps" else None
    return GeneratedFlow(path, checkpoints, tape_path, rows, tape.trades)


def _write_lines(path: Path, lines: list[str]) -> Path:
    with open_for_writing(path) as file:
        file.writelines(line + "\n" for line in lines)
    return path


def _checkpoint_line(row: Row, at: Checkpoint) -> str:
    """The book of a generated flow is the venue's own."""
    levels = f"{at.best_bid},{at.best_ask},{at.bids5},{at.asks5}"
    tape = f"{at.trades},{at.traded_quantity},{at.tape_sha}"
    return f"{at.row},{row.seq},{row.ts_ns},{at.live_orders},{levels},{at.book_sha},{tape},{at.book_sha},"


class _Order:
    """An order of the generator's book."""

    __slots__ = ("order_id", "price", "remaining", "side")

    def __init__(self, order_id: int, side: Side, price: int, remaining: int) -> None:
        self.order_id = order_id
        self.side = side
        self.price = price
        self.remaining = remaining


class _Book:
    """Price-time priority in the plainest way: a dict of prices for each side, a list in order of arrival for each price."""

    def __init__(self) -> None:
        self.sides: dict[Side, dict[int, list[_Order]]] = {Side.BUY: {}, Side.SELL: {}}
        self.live: list[_Order] = []
        """Every order, in no order, to draw one from."""

    def prices(self, side: Side) -> list[int]:
        """The side's prices, best first."""
        return sorted(self.sides[side], reverse=side is Side.BUY)

    def best(self, side: Side) -> int | None:
        """The side's best price."""
        prices = self.sides[side]
        if not prices:
            return None
        return max(prices) if side is Side.BUY else min(prices)

    def add(self, order: _Order) -> None:
        """Put an order at the back of its level."""
        self.sides[order.side].setdefault(order.price, []).append(order)
        self.live.append(order)

    def remove(self, order: _Order) -> None:
        """Take an order out."""
        level = self.sides[order.side][order.price]
        level.remove(order)
        if not level:
            del self.sides[order.side][order.price]
        self.live.remove(order)

    def matches(self, side: Side, quantity: int) -> list[tuple[_Order, int]]:
        """Which orders of `side` an incoming `quantity` would hit, for how much each; nothing changes."""
        found: list[tuple[_Order, int]] = []
        for price in self.prices(side):
            for order in self.sides[side][price]:
                if not quantity:
                    return found
                hit = min(quantity, order.remaining)
                found.append((order, hit))
                quantity -= hit
        return found

    def hit(self, order: _Order, quantity: int) -> Fill:
        """Trade `quantity` of an order."""
        order.remaining -= quantity
        if not order.remaining:
            self.remove(order)
        return Fill(order.order_id, order.price, quantity)

    def picture(self) -> Book:
        """The book as digests take it."""
        return Book(*([self._level(side, price) for price in self.prices(side)] for side in Side))

    def _level(self, side: Side, price: int) -> Level:
        return Level(price, [Resting(order.order_id, order.remaining) for order in self.sides[side][price]])


class _Step(NamedTuple):
    """A row, and the fills that it makes."""

    row: Row
    fills: tuple[Fill, ...] = ()


class _Flow:
    """Draws what happens next, and keeps the book as it is after the last row."""

    def __init__(self, random: Random, kind: FlowKind, seeded: int) -> None:
        self.book = _Book()
        self._random = random
        self._kind = kind
        self._seeded = seeded
        self._seq = 0
        self._ts_ns = START_NS
        self._last_id = 0
        self._fair = float(START_TICKS)

    def play(self) -> Iterator[_Step]:
        """The rows, without end; `book` is as it stands after the one that was given last."""
        for _ in range(self._seeded):
            yield self._add(Op.SEED, self._random.choice(tuple(Side)))
        while True:
            self._let_time_pass()
            yield from self._next()

    def _next(self) -> Iterator[_Step]:
        draw, live = self._random.random(), len(self.book.live)
        if draw < _TAKE:
            yield from self._incoming()
        elif draw < _TAKE + _REPLACE and live:
            yield self._replace(self._random.choice(self.book.live))
        elif draw < _TAKE + _REPLACE + _REDUCE and live:
            yield self._reduce(self._random.choice(self.book.live))
        elif self._random.random() < live / (live + TYPICAL_LIVE):
            yield self._cancel()
        else:
            yield self._add(Op.ADD, self._random.choice(tuple(Side)))

    def _let_time_pass(self) -> None:
        """Most messages come in bursts, microseconds apart; the fair price drifts, held loosely where it started."""
        mean_ns = 20_000 if self._random.random() < 0.7 else 300_000_000
        self._ts_ns += 1 + int(self._random.expovariate(1 / mean_ns))
        self._fair += self._random.gauss(0, 0.12) + (START_TICKS - self._fair) * 1e-5

    def _row(self, op: Op, order_id: int, side: Side, price: int, quantity: int) -> Row:
        if op is not Op.SEED:
            self._seq += 1
        return Row(self._seq, self._ts_ns, op, order_id, side, price, quantity)

    def _new_id(self) -> int:
        self._last_id += self._random.randint(1, 40)
        return self._last_id

    def _add(self, op: Op, side: Side) -> _Step:
        return self._rest(op, side, self._quote(side), self._size())

    def _rest(self, op: Op, side: Side, price: int, quantity: int) -> _Step:
        order = _Order(self._new_id(), side, price, quantity)
        self.book.add(order)
        return _Step(self._row(op, order.order_id, side, price, quantity))

    def _cancel(self) -> _Step:
        """Of two orders, the one nearer to the fair price goes: quotes near the touch live shortest."""
        one, other = self._random.choice(self.book.live), self._random.choice(self.book.live)
        order = min(one, other, key=lambda order: abs(order.price - self._fair))
        self.book.remove(order)
        return _Step(self._row(Op.CANCEL, order.order_id, order.side, order.price, order.remaining))

    def _reduce(self, order: _Order) -> _Step:
        amount = self._random.randint(1, order.remaining)
        row = self._row(Op.REDUCE, order.order_id, order.side, order.price, amount)
        order.remaining -= amount
        if not order.remaining:
            self.book.remove(order)
        return _Step(row)

    def _replace(self, order: _Order) -> _Step:
        """A new price, or a larger quantity: what loses the place in the queue on every venue."""
        price, quantity = self._quote(order.side), self._size()
        if price == order.price and quantity <= order.remaining:
            quantity = order.remaining + _LOT
        self.book.remove(order)
        order.price, order.remaining = price, quantity
        self.book.add(order)
        return _Step(self._row(Op.REPLACE, order.order_id, order.side, price, quantity))

    def _incoming(self) -> Iterator[_Step]:
        """An incoming order, more likely towards the fair price than away from it."""
        bid, ask = self.book.best(Side.BUY), self.book.best(Side.SELL)
        if bid is None or ask is None:
            yield self._add(Op.ADD, Side.SELL if ask is None else Side.BUY)
            return
        pull = (self._fair - (bid + ask) / 2) * 0.2
        side = Side.BUY if self._random.random() < 0.5 + max(-0.4, min(0.4, pull)) else Side.SELL
        resting_side = Side.SELL if side is Side.BUY else Side.BUY
        hits = self.book.matches(resting_side, self._incoming_size(resting_side))
        worst, order_id = hits[-1][0].price, self._new_id()
        if self._kind == "replay":
            for order, quantity in hits:
                row = self._row(Op.EXECUTE, order.order_id, resting_side, order.price, quantity)
                yield _Step(row, (self.book.hit(order, quantity),))
        else:
            row = self._row(Op.TAKE, order_id, side, worst, sum(quantity for _, quantity in hits))
            yield _Step(row, tuple(self.book.hit(order, quantity) for order, quantity in hits))
        if worst not in self.book.sides[resting_side] and self._random.random() < 0.15:
            yield self._rest(Op.ADD, side, worst, self._size())

    def _incoming_size(self, resting_side: Side) -> int:
        """Mostly the first order in the queue or a part of it, sometimes more of the best level; a sweep takes several levels."""
        prices, levels = self.book.prices(resting_side), self.book.sides[resting_side]
        queue, draw = levels[prices[0]], self._random.random()
        if draw < _SWEEP:
            deep = self._random.randint(2, 4)
            return sum(order.remaining for price in prices[:deep] for order in levels[price])
        if draw < 0.12:
            return min(sum(order.remaining for order in queue), self._size() + queue[0].remaining)
        return queue[0].remaining if draw < 0.5 else min(queue[0].remaining, self._size())

    def _quote(self, side: Side) -> int:
        """A price that rests: at the touch or behind it, seldom far (the distance's tail falls as a power of 0.8)."""
        distance = min(int(self._random.paretovariate(0.8)) - 1, _FARTHEST)
        opposite = self.book.best(Side.SELL if side is Side.BUY else Side.BUY)
        if side is Side.BUY:
            touch = round(self._fair - 0.6)
            return max(1, (touch if opposite is None else min(touch, opposite - 1)) - distance)
        touch = round(self._fair + 0.6)
        return (touch if opposite is None else max(touch, opposite + 1)) + distance

    def _size(self) -> int:
        """Round lots, fewer the larger, or a heavy-tailed odd size."""
        if self._random.random() < 0.6:
            return _LOT * min(int(self._random.paretovariate(1.8)), 50)
        return min(int(self._random.paretovariate(0.7) * 10), 5000)
