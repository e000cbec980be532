"""A book as it was, rebuilt by the engine itself: from the nearest engine snapshot, by the commands behind it.

One past is rebuilt after the other, in a thread, some commands at a time with a rest as long after each, so that trading isn't
held up; the last answers are kept. Few may wait for their turn: more are refused at once (Overloaded). Whoever is cancelled,
because nobody waits for the answer any more, gives up the turn as soon as the thread is at rest. What is rebuilt is exactly what
the public was told: the levels before, and every `BookChanged` up to the sequence that was asked for.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Final, ParamSpec, TypeVar

from ome.domain.clock import now_us
from ome.domain.commands import Stamped
from ome.domain.enums import Side
from ome.domain.errors import Evicted, NotYet, Overloaded, StateMismatch
from ome.domain.events import AuctionIndicated, BookChanged, Event, InstrumentChanged, SymbolAdmitted, SymbolReleased, Traded
from ome.domain.numbers import value_of
from ome.domain.ports import Archive, Depth, Recovered
from ome.domain.records import BookSnapshot, CandleRecord
from ome.engine.engine import Engine
from ome.history.candles import CandleHistory

BATCHES_AT_ONCE: Final = 32
COMMANDS_AT_ONCE: Final = 200
"""Commands that are carried out between two rests: some milliseconds."""
KEPT_ANSWERS: Final = 64
MOST_ASKING: Final = 8
"""How many may be served or wait, one at a time."""

P = ParamSpec("P")
T = TypeVar("T")
Level = tuple[int, int, int]


class StoredPast:
    """The Past of one shard."""

    def __init__(self, archive: Archive, clock_us: Callable[[], int] = now_us, *, shard: int = 0) -> None:
        self._archive = archive
        self._shard = shard
        self._clock_us = clock_us
        self._candles = CandleHistory(archive)
        self._lock = asyncio.Lock()
        self._asking = 0
        self._kept: OrderedDict[tuple[str, str, int], Depth] = OrderedDict()

    async def candles(
        self, symbol: str, seconds: int, start: int, end: int, limit: int, *, newest: bool = False
    ) -> list[CandleRecord]:
        """See Past."""
        return await self._candles.candles(symbol, seconds, start, end, limit, newest=newest)

    async def candles_trimmed_before(self, seconds: int) -> int:
        """See Past."""
        return await self._archive.candles_trimmed_before(seconds)

    async def books(self, symbol: str, before: int, limit: int) -> list[BookSnapshot]:
        """See Past."""
        return await self._archive.books(symbol, before, limit)

    async def books_trimmed_before(self) -> int:
        """See Past."""
        return await self._archive.books_trimmed_before()

    async def depth_at_sequence(self, symbol: str, sequence: int) -> Depth:
        """See Past."""
        async with self._turn():
            kept = self._kept.get((symbol, "sequence", sequence))
            if kept is None:
                replay = await self._from_snapshot_at_sequence(symbol, sequence)
                await self._go_on(replay)
                kept = await _in_thread(replay.depth_at, sequence)
                self._keep((symbol, "sequence", sequence), kept)
            return kept

    async def depth_at_time(self, symbol: str, time: int) -> Depth | None:
        """See Past."""
        if time > self._clock_us():
            raise NotYet
        async with self._turn():
            found = self._kept.get((symbol, "time", time))
            if found is None:
                start = await self._archive.engine_at(time=time)
                replay = await _in_thread(_Replay, await self._engine(start), symbol, until_time=time)
                await self._go_on(replay)
                found = await _in_thread(replay.depth)
                if found is not None and replay.is_done:  # something came after that time: nothing more can come before it
                    self._keep((symbol, "time", time), found)
            return found

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        if self._asking >= MOST_ASKING:
            raise Overloaded
        self._asking += 1
        try:
            async with self._lock:
                yield
        finally:
            self._asking -= 1

    def _keep(self, key: tuple[str, str, int], depth: Depth) -> None:
        self._kept[key] = depth
        if len(self._kept) > KEPT_ANSWERS:
            self._kept.popitem(last=False)

    async def _from_snapshot_at_sequence(self, symbol: str, sequence: int) -> _Replay:
        """A replay from the newest snapshot in which the symbol isn't beyond the sequence."""
        later = await self._archive.book_position_after(symbol, sequence)
        start = await self._archive.engine_at(position=later)
        while start is not None and _sequence_in(start, symbol) > sequence:
            start = await self._archive.engine_at(position=start.state.position - 1)
        return await _in_thread(_Replay, await self._engine(start), symbol, until_sequence=sequence)

    async def _engine(self, start: Recovered | None) -> Engine:
        if start is None:
            if await self._archive.first_position() > 1:
                raise Evicted
            return Engine(self._shard)
        return await _in_thread(_restored, start)

    async def _go_on(self, replay: _Replay) -> None:
        if replay.sequence is not None:  # an engine snapshot doesn't say when each book changed last; its own snapshot does
            books = await self._archive.books(replay.symbol, replay.sequence + 1, 1)
            if books and books[0].sequence == replay.sequence:
                replay.time = books[0].time
        while not replay.is_done:
            commands = await self._archive.commands_after(replay.position, BATCHES_AT_ONCE)
            if not commands:
                return
            if commands[0].position > replay.position + 1:
                raise Evicted
            for first in range(0, len(commands), COMMANDS_AT_ONCE):
                began_s = time.perf_counter()
                if await _in_thread(replay.take, commands[first : first + COMMANDS_AT_ONCE]):
                    return
                await asyncio.sleep(time.perf_counter() - began_s)


async def _in_thread(work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """What a function gives in a thread. Who is cancelled meanwhile goes only once the thread is done: the next one to have its
    turn shall be the only one at work.
    """
    done = asyncio.ensure_future(asyncio.to_thread(work, *arguments, **named))
    try:
        return await asyncio.shield(done)
    except asyncio.CancelledError:
        await asyncio.wait([done])
        raise


def _restored(start: Recovered) -> Engine:
    engine = Engine.restore(start.state)
    if engine.state_hash() != start.state_hash:
        raise StateMismatch(f"the engine snapshot at position {start.state.position} is not what its state hash was made of")
    return engine


class _Replay:
    """An engine that is brought forward until a symbol's sequence, or until a time."""

    def __init__(self, engine: Engine, symbol: str, *, until_sequence: int | None = None, until_time: int | None = None) -> None:
        self._engine = engine
        self.symbol = symbol
        self._until_sequence = until_sequence
        self._until_time = until_time
        self._levels: dict[Side, dict[int, Level]] = {Side.BUY: {}, Side.SELL: {}}
        self.sequence: int | None = None
        self.time = 0
        self.is_done = False
        for book in engine.books():
            if book.instrument.symbol == symbol:
                depth = book.depth(engine.time)
                self.sequence, self.time = depth.sequence, depth.time
                self._levels = {Side.BUY: _by_price(depth.bids), Side.SELL: _by_price(depth.asks)}
        self.is_done = self.sequence is not None and self.sequence == until_sequence

    @property
    def position(self) -> int:
        """The last position that was carried out."""
        return self._engine.position

    def take(self, commands: Sequence[Stamped]) -> bool:
        """Carry out commands up to the end that was asked for, and whether it is reached; those that were carried out already are
        passed over.
        """
        for stamped in commands:
            if stamped.position <= self._engine.position:
                continue
            if self._until_time is not None and stamped.time > self._until_time:
                self.is_done = True
                break
            for event in self._engine.apply(stamped):
                self._note(event)
            if self.is_done:
                break
        self._engine.take_changes()
        return self.is_done

    def depth_at(self, sequence: int) -> Depth:
        """The levels at a sequence. Raises NotYet for one that the journal doesn't reach, Evicted for one from before it."""
        if self.sequence is None or self.sequence < sequence:
            raise NotYet
        if self.sequence > sequence:
            raise Evicted
        found = self.depth()
        assert found is not None  # noqa: S101  there is a sequence
        return found

    def depth(self) -> Depth | None:
        """The levels now; None where the symbol isn't listed."""
        if self.sequence is None:
            return None
        bids = sorted(self._levels[Side.BUY].values(), key=_value, reverse=True)
        return Depth(self.symbol, self.sequence, self.time, bids, sorted(self._levels[Side.SELL].values(), key=_value))

    def _note(self, event: Event) -> None:
        """Take in what was told of the symbol, up to the sequence that was asked for."""
        match event:
            case (
                BookChanged(symbol=symbol, sequence=sequence, time=time)
                | AuctionIndicated(symbol=symbol, sequence=sequence, time=time)
            ):
                pass
            case Traded(trade=trade):
                symbol, sequence, time = trade.symbol, trade.sequence, trade.executed_at
            case InstrumentChanged(instrument=instrument):
                symbol, sequence = instrument.symbol, instrument.sequence
                time = instrument.listed_at if self.sequence is None else self.time
            case SymbolAdmitted() | SymbolReleased():
                self._note_move(event)
                return
            case _:
                return
        if symbol != self.symbol or self.is_done:
            return
        if self._until_sequence is not None and sequence > self._until_sequence:
            self.is_done = True
            return
        self.sequence, self.time = sequence, time
        if isinstance(event, BookChanged):
            for side, price, quantity, orders in event.levels:
                if orders:
                    self._levels[side][price] = (price, quantity, orders)
                else:
                    self._levels[side].pop(price, None)
        self.is_done = sequence == self._until_sequence

    def _note_move(self, event: SymbolAdmitted | SymbolReleased) -> None:
        """The symbol has come from another shard, as it was there, or has left for one: this journal knows nothing more of it."""
        if isinstance(event, SymbolReleased):
            if event.symbol == self.symbol and not self.is_done:
                self.sequence, self._levels = None, {Side.BUY: {}, Side.SELL: {}}
        elif event.instrument.symbol == self.symbol and not self.is_done:
            self.sequence, self.time = event.instrument.sequence, event.time
            self._levels = {Side.BUY: _by_price(event.bids), Side.SELL: _by_price(event.asks)}
            self.is_done = self._until_sequence is not None and self.sequence >= self._until_sequence


def _sequence_in(start: Recovered, symbol: str) -> int:
    return next((each.sequence for each in start.state.instruments if each.symbol == symbol), 0)


def _by_price(levels: Sequence[Level]) -> dict[int, Level]:
    return {level[0]: level for level in levels}


def _value(level: Level) -> Decimal:
    return value_of(level[0])
