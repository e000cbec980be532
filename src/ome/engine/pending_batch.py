"""Commands that have been applied and wait to be made durable together, and the `Batch` that is made of them."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Callable, Sequence
from itertools import chain
from math import inf
from typing import Any, Generic, TypeVar

from msgspec import Struct, structs

from ome.domain.batch import Batch
from ome.domain.commands import Administered, Command, Stamped, encode_commands
from ome.domain.errors import NotAccepting, OmeError
from ome.domain.events import (
    ORDER_EVENTS,
    CommandEvents,
    CommandRefused,
    Event,
    FundsTransferred,
    PrivateEvent,
    SelfTradePrevented,
    Traded,
    encode_events,
)
from ome.domain.ids import make_id
from ome.domain.ports import Receiver
from ome.domain.reasons import Reason
from ome.domain.records import AuditEntry, TradeRecord, TransferRecord
from ome.engine.engine import Engine


class Waiting(Struct, eq=False):
    """A command in the queue, who waits for its events (None: nobody), and who is told when its fate is certain."""

    command: Command
    receiver: Receiver[Sequence[Event]] | None = None
    settled: Callable[[], None] | None = None
    since: float = inf
    """When it joined the queue, on the event loop's clock, in seconds; never, where nobody waits for it."""
    deadline_s: float = inf
    """When it is too late to execute it, as `time.monotonic` counts."""

    def settle(self) -> None:
        """The fate of the command is certain."""
        if self.settled is not None:
            self.settled()
            self.settled = None

    def fail(self, error: OmeError) -> None:
        """Tell whoever waits that there is no answer."""
        if self.receiver is not None and not self.receiver.done():
            self.receiver.set_exception(error)

    @property
    def is_withdrawn(self) -> bool:
        """Whether nobody waits any more: it must not be carried out if it hasn't been."""
        return self.receiver is not None and self.receiver.done()


Seen = TypeVar("Seen")


class Preview(Struct, Generic[Seen], eq=False):
    """A look at the engine as it is when its turn comes, which changes nothing, and who waits for what there is to see."""

    look: Callable[[Engine], Seen]
    receiver: Future[Seen]
    since: float = 0.0

    def answer(self, seen: Seen) -> None:
        """Hand over what was seen."""
        if not self.receiver.done():
            self.receiver.set_result(seen)

    def fail(self, error: Exception) -> None:
        """Tell whoever waits that there is no answer."""
        if not self.receiver.done():
            self.receiver.set_exception(error)


class PendingBatch:
    """What the engine has done since the last batch was handed to the database."""

    def __init__(self) -> None:
        self._stamped: list[Stamped] = []
        self._events: list[list[Event]] = []
        self.waiting: list[Waiting] = []
        self.private: list[CommandEvents] = []
        """The stored events of its commands, once it is sealed."""
        self._previews: list[tuple[Preview[Any], Any]] = []
        self.sweeps = 0
        """How many chunks of a kill it holds (I2)."""

    def __len__(self) -> int:
        return len(self._stamped)

    def add(self, stamped: Stamped, events: list[Event], waiting: Waiting) -> None:
        """Take in a command that has just been applied."""
        self._stamped.append(stamped)
        self._events.append(events)
        self.waiting.append(waiting)

    @property
    def waiting_since(self) -> float:
        """When the first of those who wait began to; infinity where nobody waits."""
        return min((waiting.since for waiting in self.waiting), default=inf)

    def add_preview(self, preview: Preview[Seen], seen: Seen) -> None:
        """Keep back what a look has seen until that is durable (D3)."""
        self._previews.append((preview, seen))

    def events(self) -> list[Event]:
        """Every event of the batch, in order."""
        return list(chain.from_iterable(self._events))

    def answer(self) -> None:
        """Give every waiting command its events; the batch is durable."""
        for waiting, events in zip(self.waiting, self._events, strict=True):
            receiver = waiting.receiver
            if receiver is not None and not receiver.done():
                receiver.set_result(events)
            waiting.settle()
        for preview, seen in self._previews:
            preview.answer(seen)

    def fail(self, error: OmeError, since: float = inf) -> None:
        """Tell everybody who waits, `since` this moment or longer, that there is no answer."""
        for waiting in self.waiting:
            if waiting.since <= since:
                waiting.fail(error)
        for preview, _ in self._previews:
            if preview.since <= since:
                preview.fail(NotAccepting("stalled"))

    def seal(self, engine: Engine) -> Batch:
        """The transaction's worth of it. Called once, before the engine applies another command."""
        stored = self.private
        trades: list[TradeRecord] = []
        transfers: list[TransferRecord] = []
        user_ids: dict[str, None] = {}
        named: dict[int, None] = {}
        event: Any
        for stamped, events in zip(self._stamped, self._events, strict=True):
            private: list[PrivateEvent] = []
            for event in events:
                kind = type(event)
                if kind in ORDER_EVENTS:
                    user_ids[event.order.user_id] = None
                elif kind is Traded:
                    user_ids[event.maker_user_id] = user_ids[event.taker_user_id] = None
                    trades.append(event.trade)
                elif kind is SelfTradePrevented:
                    user_ids[event.user_id] = None
                    named[event.maker_order_id] = None
                elif kind is CommandRefused:
                    if event.order_id is not None and event.reason is not Reason.ORDER_NOT_FOUND:
                        named[event.order_id] = None
                else:
                    if kind is FundsTransferred:
                        transfers.append(event.transfer)
                    continue
                private.append(event)
            if private:
                stored.append(CommandEvents(stamped.position, stamped.time, private))
        changes = engine.take_changes()
        new = range(make_id(engine.shard, self._stamped[0].position), make_id(engine.shard, engine.position + 1))
        named.update((order.id, None) for order in changes.orders)
        return Batch(
            first_position=self._stamped[0].position,
            last_position=engine.position,
            time=engine.time,
            trade_count=engine.trade_count,
            priority_count=engine.priority_count,
            settings=engine.settings,
            state_hash=engine.state_hash(),
            commands=encode_commands(self._stamped),
            events=encode_events(stored),
            orders=changes.orders,
            trades=trades,
            instruments=changes.instruments,
            user_ids=list(user_ids),
            touched_order_ids=[order_id for order_id in named if order_id not in new],
            positions=changes.positions,
            audit=[_entry(engine.shard, stamped) for stamped in self._stamped if type(stamped.command) is Administered],
            balances=changes.balances,
            assets=changes.assets,
            transfers=transfers,
            controls=changes.controls,
            moves=changes.moves,
            released=changes.released,
        )


def _entry(shard: int, stamped: Stamped) -> AuditEntry:
    return AuditEntry(shard, stamped.position, stamped.time, *structs.astuple(stamped.command))
