"""An engine's voice on NATS: what each batch changed, told once it is durable and before anybody is answered; and its books.

Best effort: nothing waits for it, no commit and no answer. JetStream keeps what was told for a while (`event_log`), and whoever
finds a gap in the positions reads there what he lacks, else he makes up for it from the engine's books or the database.

What was told in the last moments is remembered here until JetStream is known to have it: two looks later it is sent once more,
and after a loss of the connection before anything new, so that what was told meanwhile comes in its order. The look, once in
`LOOK_S`, makes the stream where there is none: at the start, after NATS has come back empty, after somebody has deleted it.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

import structlog
from msgspec import Raw

from ome.cluster.connection import NatsConnection
from ome.cluster.event_log import BatchId, EventLog, LogAway, history_of
from ome.cluster.subjects import Subjects
from ome.cluster.wire import Books, MarketEvent, Told, auction_event, encode
from ome.domain.events import AuctionIndicated, BookChanged, CommandEvents, Event, InstrumentChanged, SymbolAdmitted, Traded
from ome.domain.ports import MarketData

_MARKET = (BookChanged, Traded, InstrumentChanged, AuctionIndicated, SymbolAdmitted)
ALL_LEVELS = sys.maxsize
LOOK_S: Final = 1.0
"""Seconds between two looks at what JetStream has."""
MOST_BYTES: Final = 16 * 1024 * 1024
"""What is remembered at most of what JetStream may not have."""

log = structlog.get_logger(__name__)


class _Sent(NamedTuple):
    batch: BatchId
    data: bytes


class Publisher:
    """An EventListener and a CommandListener: the runner tells the events of a batch first, then its commands."""

    def __init__(
        self,
        shard: int,
        nats: NatsConnection,
        subjects: Subjects,
        market: MarketData,
        lineage: Callable[[], tuple[int, str]],
        log_bytes: int = 0,
    ) -> None:
        """`market` shows the books as they are after the last batch that was told. JetStream is to keep `log_bytes` of what was
        told; 0: nothing.
        """
        self._shard = shard
        self._nats = nats
        self._subjects = subjects
        self._market = market
        self._lineage = lineage
        self._log_bytes = log_bytes
        self._log = EventLog(shard, nats, subjects)
        self._events: list[MarketEvent] = []
        self._position = 0
        self._books: bytes | None = None
        self._end: Callable[[], Awaitable[None]] | None = None
        self._recent: deque[_Sent] = deque()
        self._recent_bytes = 0
        self._holds = False
        self._looked_at = 0
        self._sent_behind = -1
        self._woken = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._is_away = False

    async def start(self, position: int) -> None:
        """Begin behind this committed position, and answer those who ask for the books."""
        self._position = self._looked_at = position
        self._end = await self._nats.answer(self._subjects.snapshot(self._shard), lambda _: self._encoded_books())
        if self._log_bytes:
            self._holds = True
            self._nats.watch(self._connection_changed)
            self._keeper = asyncio.create_task(self._keep(), name="event log")

    def stop(self) -> None:
        """Look after JetStream no more."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()

    def committed(self, events: Sequence[Event]) -> None:
        """See EventListener."""
        self._events = [event for event in events if isinstance(event, _MARKET)]

    def commands_committed(self, position: int, commands: Sequence[CommandEvents]) -> None:
        """See CommandListener."""
        epoch, incarnation = self._lineage()
        first, self._position = self._position + 1, position
        self._books = None
        data = encode(Told(self._shard, epoch, first, position, self._events, Raw(encode(commands))))
        self._events = []
        sent = _Sent(BatchId(history_of(incarnation), epoch, first, position), data)
        if self._log_bytes:
            self._remember(sent)
        if not self._holds:
            self._send(sent)

    def _send(self, sent: _Sent) -> None:
        self._nats.send(self._subjects.told(self._shard), sent.data, message_id=str(sent.batch) if self._log_bytes else "")

    # What JetStream has

    def _remember(self, sent: _Sent) -> None:
        self._recent.append(sent)
        self._recent_bytes += len(sent.data)
        while self._recent_bytes > MOST_BYTES:
            self._forget()

    def _forget(self) -> None:
        self._recent_bytes -= len(self._recent.popleft().data)

    def _connection_changed(self, is_connected: bool) -> None:  # noqa: FBT001  the connection's callback
        self._holds = True
        if is_connected:
            self._woken.set()

    async def _begin(self) -> None:
        """Make the stream, and empty one that goes on where this history doesn't: that of a database which was put back. Nothing
        is told before.
        """
        position = self._looked_at
        try:
            await self._log.make(self._log_bytes)
            last = await self._log.last()
            if last is not None and not self._is_ours(last, position):
                log.warning("event_log_emptied", shard=self._shard, position=position, log_at=last.last)
                await self._log.purge()
        except Exception as error:  # noqa: BLE001  whatever it is, telling goes on
            self._say_away(error)
        await self._look()

    def _is_ours(self, batch: BatchId, position: int) -> bool:
        _, incarnation = self._lineage()
        return batch.history == history_of(incarnation) and batch.last <= position

    async def _keep(self) -> None:
        await self._begin()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._woken.wait()
            self._woken.clear()
            if self._nats.is_connected:
                await self._look()

    async def _look(self) -> None:
        """Forget what the stream has, and send what it should have had by now."""
        position = self._position
        try:
            stored = await self._stored()
        except Exception as error:  # noqa: BLE001  as above
            self._say_away(error)
            stored = self._looked_at if self._holds else position
        else:
            self._is_away = False
        if not self._nats.is_connected:
            return
        while self._recent and self._recent[0].batch.last <= stored:
            self._forget()
        is_behind = stored < self._looked_at
        if self._holds or (is_behind and stored != self._sent_behind):  # once, where that doesn't help
            for sent in self._recent:
                self._send(sent)
        self._sent_behind = stored if is_behind and not self._holds else -1
        self._holds, self._looked_at = False, position

    async def _stored(self) -> int:
        """How far the stream has come, which is made where there is none."""
        try:
            last = await self._log.last()
        except LogAway:
            await self._log.make(self._log_bytes)
            last = None
        return last.last if last is not None and self._is_ours(last, self._position) else 0

    def _say_away(self, error: Exception) -> None:
        """Once for as long as it lasts."""
        if not self._is_away:
            self._is_away = True
            advice = "until it is there, a gateway that misses something ends its streams and starts from the engine's books"
            log.warning("event_log_away", shard=self._shard, error=str(error), advice=advice)

    def _encoded_books(self) -> bytes:
        """The books as they are told, made once for all gateways that ask between two batches."""
        if self._books is None:
            self._books = encode(self.books())
        return self._books

    def books(self) -> Books:
        """All that is public about the engine's symbols, as of the last batch that was told."""
        market = self._market
        markets, auctions = [], []
        for instrument in market.instruments():
            depth = market.depth(instrument.symbol, ALL_LEVELS)
            if depth is not None:
                markets.append((instrument, depth))
            auction = market.auction(instrument.symbol)
            if auction is not None:
                auctions.append(auction_event(auction))
        return Books(self._shard, self._position, markets, auctions)
