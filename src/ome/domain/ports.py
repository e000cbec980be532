"""What the rooms ask of each other: the engine's runner of the database, and the edge of both. Only `bootstrap` knows who
answers.

Errors are those of `domain.errors`; a refusal comes back as an event, never as an exception.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from math import inf
from typing import Protocol, TypeVar

from msgspec import Struct

from ome.domain.batch import Batch
from ome.domain.commands import (
    CancelAllAfter,
    CancelOrder,
    Command,
    DefineInstrument,
    ModifyOrder,
    NewOrder,
    SetKill,
    SetLimits,
    Stamped,
    Transfer,
)
from ome.domain.enums import (
    ControlKind,
    MarketState,
    OrderStatus,
    Side,
)
from ome.domain.errors import (
    OmeError,
)
from ome.domain.events import (
    BookChanged,
    CommandEvents,
    CommandRefused,
    ControlChanged,
    Event,
    UserEvent,
)
from ome.domain.records import (
    AuditEntry,
    BalanceRecord,
    BookSnapshot,
    CandleRecord,
    ControlRecord,
    EngineState,
    InstrumentRecord,
    Limits,
    OrderRecord,
    PositionRecord,
    TradeRecord,
    TransferRecord,
)


class OpenOrders(Struct, frozen=True):
    """Some of the open orders, with what the state hash counts for each. Those of one price come in order of priority."""

    records: list[OrderRecord]
    digests: Sequence[int]


class Recovered(Struct, frozen=True):
    """What an engine starts from: its state, and the state hash that was stored with it (None in an empty database).

    Where there are many open orders, `state` has none: `more` gives them, part by part while they are read. It can be gone
    through once, blocks, and raises what `Repository.load` raises; whoever gives up in its middle closes it. `to_adopt` are the
    positions that trades had made before positions were kept: the engine is given them before anything else.
    """

    state: EngineState
    state_hash: int | None
    more: Iterable[OpenOrders] = ()
    to_adopt: Sequence[PositionRecord] = ()


class Repository(Protocol):
    """The one writer of a shard's tables. Used by the runner alone; one `commit` at a time."""

    async def open(self) -> None:
        """Connect and take the lock; nothing where that is done. Raises a StorageError that says what stands against it:
        StorageAway where it may pass.
        """

    async def start(self) -> None:
        """`open`, migrate, take the fence (epoch + 1, durable). Raises what `open` raises; then the lock is free again."""

    async def load(self) -> Recovered:
        """All that the last committed batch left, read after `start`."""

    async def commit(self, batch: Batch) -> None:
        """Make a batch durable, all of it or nothing.

        Returns only once it is. An outcome that isn't clear is resolved, by the compare-and-set row: the same batch is applied
        again where it wasn't. Raises Fenced when another engine has taken over.
        """

    async def close(self) -> None:
        """Give back the lock and the connections; what was committed stays."""


class Page(Struct, frozen=True):
    """Where a list goes on: `before_id` is the last id already seen, None at the start; newest first (D5)."""

    before_id: int | None = None
    limit: int = 100


class ReadModels(Protocol):
    """Committed data, read by the edge; never the engine's live books. Lists are newest first."""

    async def order(self, order_id: int, user_id: str | None = None) -> OrderRecord | None:
        """An order as it stands, or None; with `user_id`, another user's order is none."""

    async def orders_by_client_id(self, user_id: str, client_order_id: str, symbol: str | None = None) -> list[OrderRecord]:
        """The orders of a user with this client id: at most one per symbol."""

    async def orders_of_user(
        self, user_id: str, page: Page, *, symbol: str | None = None, statuses: Sequence[OrderStatus] = ()
    ) -> list[OrderRecord]:
        """A user's orders; `statuses` empty means all."""

    async def open_orders(self, symbol: str, levels: int) -> tuple[int, list[OrderRecord]]:
        """The symbol's public sequence and the orders of the best `levels` of each side in order of priority, of one moment."""

    async def trades(
        self, page: Page, *, symbol: str | None = None, user_id: str | None = None, order_id: int | None = None
    ) -> list[TradeRecord]:
        """Trades, of a symbol, a user, an order, or all of these at once."""

    async def command_events(self, command_id: int) -> CommandEvents | None:
        """The stored events of one command, or None where it left none. The id is what an order that it submits has: its shard
        and position.
        """

    async def events_of_order(self, order_id: int, after: tuple[int, int], limit: int) -> list[CommandEvents]:
        """At most `limit` stored events that name the order, oldest first: those after a place (the position of a command, how
        many of its events that name the order come before).
        """

    async def events_of_user(self, user_id: str, after: tuple[int, int], limit: int) -> list[UserEvent]:
        """At most `limit` of a user's stored events, oldest first: those behind a place, which is (position, number) of an event
        whether there is one or not (D2).
        """

    async def queue_ahead(self, order: OrderRecord) -> tuple[int, int]:
        """How many resting orders stand before a resting order at its price, and the quantity that they show, a number."""

    def trades_since(self, moment_us: int) -> AsyncIterator[list[TradeRecord]]:
        """Every trade executed at or after a moment, oldest first, page by page: what rolling statistics start from."""

    async def audit(self, page: Page, action: str | None = None) -> list[AuditEntry]:
        """Entries of the audit trail, newest first, of one action or of all; `before_id` is `make_id` of shard and position."""

    async def key_entries(self) -> list[AuditEntry]:
        """Every entry about keys (`domain.keys`), oldest first."""

    async def balances_of_user(self, user_id: str) -> list[BalanceRecord]:
        """What a user has of each asset that ever came to the user, by the asset's name."""

    async def transfer_of_user(self, user_id: str, client_transfer_id: str) -> TransferRecord | None:
        """The deposit or withdrawal of a user with this client id, or None."""

    async def positions_of_user(self, user_id: str) -> list[PositionRecord]:
        """What a user holds, or has held, of each symbol, by name."""

    async def controls(self, kind: ControlKind, user_id: str | None = None) -> list[ControlRecord]:
        """The controls of a kind that are in force, of a user or of all, by user and symbol."""

    async def ping(self) -> None:
        """Ask the database for a sign of life; raises what it raises."""


class Archive(Protocol):
    """What is derived from committed batches and kept beside them. Raises StorageUnusable where there is no answer; a write
    that raised may have happened all the same.
    """

    async def last_trade_in_candles(self) -> int:
        """The id of the last trade that the stored candles hold."""

    async def trades_after(self, trade_id: int, limit: int, symbol: str | None = None) -> list[TradeRecord]:
        """At most `limit` trades above an id, oldest first, of a symbol or of all."""

    async def candle(self, symbol: str, seconds: int, open_time: int) -> CandleRecord | None:
        """One stored candle."""

    async def put_candles(self, candles: Sequence[CandleRecord], before: int, after: int) -> bool:
        """Put candles that hold every trade up to the id `after`, made from those up to `before`: all of them, or, where the
        stored ones aren't those up to `before`, none, and False.
        """

    async def candles(
        self, symbol: str, seconds: int, start: int, end: int, limit: int, *, newest: bool = False
    ) -> list[CandleRecord]:
        """At most `limit` stored candles that open from `start` on and before `end`: the oldest first, or the newest first."""

    async def put_books(self, books: Sequence[BookSnapshot]) -> None:
        """Put snapshots of books; those that are there already stay."""

    async def books(self, symbol: str, before: int, limit: int) -> list[BookSnapshot]:
        """At most `limit` snapshots of a symbol's book with a sequence below `before`, newest first."""

    async def book_position_after(self, symbol: str, sequence: int) -> int | None:
        """The position of the oldest snapshot of a symbol's book with a sequence above this one, None where there is none."""

    async def take_engine_snapshot(self, least_commands: int) -> int | None:
        """Store all that the engine knows at the last committed position, which it answers with; None, and nothing is stored,
        where fewer commands than that, or than there are open orders, have come since the newest one.
        """

    async def engine_at(self, *, position: int | None = None, time: int | None = None) -> Recovered | None:
        """The newest engine snapshot that is of no later position, or of no later time, than this; None where there is none."""

    async def first_position(self) -> int:
        """The first position whose command the journal still holds; 1 where nothing was trimmed."""

    async def commands_after(self, position: int, batches: int) -> list[Stamped]:
        """The commands behind a position, oldest first, of at most so many batches; the first ones may be of no later position
        than this. None where there are no more.
        """

    async def trim_journal(self, before: int) -> int:
        """Forget the commands up to the newest engine snapshot that is of no later time than `before`, and the snapshots before
        it: the position of that snapshot, where the journal begins from now on; 0 where nothing was to be trimmed (D6).
        """

    async def trim_books(self, before: int) -> None:
        """Forget the snapshots of books from before this time."""

    async def books_trimmed_before(self) -> int:
        """The time from before which snapshots of books were forgotten; 0 where none were."""

    async def trim_candles(self, seconds: int, before: int) -> None:
        """Forget the candles of a length that opened before this time."""

    async def candles_trimmed_before(self, seconds: int) -> int:
        """The time from before which candles of a length were forgotten; 0 where none were."""


class SymbolRisk(Struct, frozen=True):
    """What a user may still do in a symbol. Quantities are exact decimal text, `bought` and `sold` what open orders would trade;
    `room_to_buy` and `room_to_sell` are what a position limit leaves, None without one, and may be below zero.

    `limits` are those in force here, `open_orders_left` of the symbol's own limit; `highest_buy` and `lowest_sell` are the edges
    of the collar now, numbers, None without a collar or a reference.
    """

    symbol: str
    is_killed: bool
    position: str
    bought: str
    sold: str
    open_orders: int
    limits: Limits
    room_to_buy: str | None
    room_to_sell: str | None
    open_orders_left: int | None
    highest_buy: int | None
    lowest_sell: int | None


class UserRisk(Struct, frozen=True):
    """What a user may still do: `is_killed` says of a kill of the user or of all, `open_orders_left` is of the limit over all
    symbols; `symbols` has every listed one in which the user has a position, an open order or a limit, by name.
    """

    user_id: str
    is_killed: bool
    cancel_at: int | None
    open_orders: int
    max_open_orders: int | None
    open_orders_left: int | None
    symbols: list[SymbolRisk]


Result_contra = TypeVar("Result_contra", contravariant=True)


class Receiver(Protocol[Result_contra]):
    """Whoever waits for something, such as an asyncio.Future; is told once, unless nobody waits any more (`done`)."""

    def done(self) -> bool:
        """Whether it has been told, or has gone."""

    def set_result(self, result: Result_contra, /) -> None:
        """Hand over what was waited for. Must not raise."""

    def set_exception(self, error: OmeError, /) -> None:
        """Tell that there is no answer. Must not raise."""


class CommandBus(Protocol):
    """The way to the engine, for every command alike."""

    def post(
        self,
        command: Command,
        receiver: Receiver[Sequence[Event]],
        settled: Callable[[], None] | None = None,
        deadline_s: float = inf,
    ) -> None:
        """`enqueue` for whoever is called back rather than awaits: `receiver` gets what would be awaited."""

    def enqueue(
        self, command: Command, settled: Callable[[], None] | None = None, deadline_s: float = inf
    ) -> Awaitable[Sequence[Event]]:
        """Put a command behind those that wait: what is awaited are its events, once they are durable, or OutcomeUnknown.

        Raises Overloaded or NotAccepting (certain: nothing was executed). `settled` is called, once, when the command's fate is
        certain: it is durable, or it was never executed. After OutcomeUnknown that comes later, or not at all where the
        process ends first. A command whose turn comes after `deadline_s` (as `time.monotonic` counts) isn't executed: TooLate is
        raised where its events are awaited (DUR9).
        """

    async def send(self, command: Command, settled: Callable[[], None] | None = None, deadline_s: float = inf) -> Sequence[Event]:
        """`enqueue` and wait."""

    async def preview(self, commands: Sequence[Command]) -> list[list[Event]]:
        """What commands would lead to after those that wait, once all before is durable; nothing changes.

        Raises Overloaded or NotAccepting.
        """

    async def risk(self, user_id: str) -> UserRisk:
        """What a user may still do after all commands that wait now, once these are durable. Raises as `preview` does."""

    def is_open(self, order_id: int, account: str | None = None) -> bool:
        """Whether the engine holds this order, of this account, now; a hint for what to look up, never an answer."""

    @property
    def state(self) -> str:
        """STARTING, RECOVERING, RUNNING, STALLED, DRAINING or HALTED."""

    @property
    def reason(self) -> str:
        """Why the engine is in this state, in words; "" where there is nothing to say."""

    @property
    def position(self) -> int:
        """The last committed position."""

    @property
    def waiting(self) -> int:
        """How many commands have been taken and aren't durable yet."""


class Answer(Struct, frozen=True):
    """What a command led to: its events, or, `replayed`, those of the first command with the same client order id (I1).

    `order_id` is the order's: a modify or cancel names it, a submit got it. A client order id that belongs to another order
    is answered with a CommandRefused for CLIENT_ORDER_ID_CONFLICT, and nothing was executed.
    """

    order_id: int
    events: Sequence[Event]
    replayed: bool = False


class Timely(Struct, frozen=True):
    """A command that is to be executed within so many milliseconds of being taken, or not at all (DUR9).

    The time isn't part of what is asked for: the same order with more of it is the same order (I1).
    """

    command: NewOrder | ModifyOrder
    valid_for_ms: int


ControlCommand = SetLimits | SetKill | CancelAllAfter

Operation = NewOrder | ModifyOrder | CancelOrder | Timely
"""What a batch is made of."""


def command_of(operation: Operation) -> NewOrder | ModifyOrder | CancelOrder:
    """What an operation asks for, whatever time it has."""
    return operation.command if isinstance(operation, Timely) else operation


class OrderEntry(Protocol):
    """Order entry as the edge calls it: what the engine can't know (ended orders, used client ids) is looked up here, before
    the command is stamped. Raises what `CommandBus.send` raises.
    """

    async def submit(self, order: NewOrder | Timely, *, dry_run: bool = False) -> Answer:
        """Submit an order, once per client order id, however often and however concurrently it is sent.

        A Timely one that comes to its turn too late raises TooLate: nothing is stored, and its client order id is free again.

        `dry_run`: the answer that it would get now; nothing changes and no id is used: `order_id` finds the order in the events
        of the answer, and means nothing to anybody else.
        """

    async def modify(self, change: ModifyOrder | Timely, *, dry_run: bool = False) -> Answer:
        """Change an open order; `exists` is filled in here, for the change's account."""

    async def cancel(self, order_id: int, account: str | None = None) -> Answer:
        """Cancel an open order; with an `account`, another user's order is none."""

    def begin(self, operation: Operation, told: Callable[[Answer | Exception], None]) -> None:
        """`submit`, `modify` or `cancel` for whoever is called back rather than awaits: `told` gets, once, the answer or what
        would be raised, and must not raise; raises itself what is known at once. Nothing that need not be looked up costs a task.
        """

    async def cancel_all(self, user_id: str | None, symbol: str | None, side: Side | None) -> list[int]:
        """Cancel the open orders of a user, of a symbol, of a side, or of all three, waiting stops included, in the order of
        their acceptance (I2): the ids of those that were. At least a user or a symbol is given.
        """

    async def batch(
        self, operations: Sequence[Operation], *, dry_run: bool = False, queued: Callable[[], None] | None = None
    ) -> list[Answer | OmeError]:
        """Carry out operations in their order; one refusal does not stop the rest (I4). One answer for each, or the error that
        `submit`, `modify` or `cancel` would have raised. `queued` is called once all of them have joined the engine's queue, or
        won't: what is sent after that comes after them.
        """

    async def wait_for_fate(self, user_id: str, client_order_id: str, symbol: str | None = None) -> None:
        """Return once no command with this client order id is worked on: what the database says then is definite for every one
        that was taken before the call (HOLE4). Raises Pending where that takes longer than an answer may.
        """

    async def control(self, command: ControlCommand) -> ControlChanged:
        """Set or lift limits, a kill switch or a timer. A kill passes all that waits; what is open is cancelled from then on, in
        chunks, also where nobody waits for it any more (R1, I2, I3).
        """

    async def define_instrument(self, definition: DefineInstrument) -> Sequence[Event]:
        """List a symbol or change one."""


class TimedOrderEntry(OrderEntry, Protocol):
    """Order entry for whoever asks on behalf of somebody who waits elsewhere, and not for ever. Deadlines are as
    `time.monotonic` counts: what comes to its turn later isn't executed, and TooLate is what comes of it.
    """

    def begin(self, operation: Operation, told: Callable[[Answer | Exception], None], deadline_s: float = inf) -> None:
        """See OrderEntry; where a client order id has to be looked up, it is reserved before this returns."""

    async def batch(
        self,
        operations: Sequence[Operation],
        *,
        dry_run: bool = False,
        queued: Callable[[], None] | None = None,
        deadlines_s: Sequence[float] | None = None,
    ) -> list[Answer | OmeError]:
        """See OrderEntry; with a deadline for each operation."""

    async def cancel_orders(self, user_id: str | None, symbol: str | None, side: Side | None) -> list[OrderRecord]:
        """`cancel_all`, and the orders as they are then."""

    async def settled(self) -> None:
        """Wait until nothing is looked up any more of what had begun before: it has joined the queue, or never will."""


class TransferAnswer(Struct, frozen=True):
    """What became of a transfer: it was made, or refused. `replayed`: it was made when it was first asked for (F2)."""

    outcome: TransferRecord | CommandRefused
    replayed: bool = False


class FundsEntry(Protocol):
    """Deposits and withdrawals as the edge calls them. Raises what `CommandBus.send` raises."""

    async def transfer(self, asked: Transfer) -> TransferAnswer:
        """Make a transfer, once per client id, however often and however concurrently it is sent. Another one with the same
        client id is refused for CLIENT_TRANSFER_ID_CONFLICT. A refused one leaves nothing: its client id is free.
        """


class Depth(Struct, frozen=True):
    """A book's levels at a sequence: (price, quantity, orders) each, best first; `time` is that of the last change."""

    symbol: str
    sequence: int
    time: int
    bids: list[tuple[int, int, int]]
    asks: list[tuple[int, int, int]]


class Ticker(Struct, frozen=True):
    """A symbol at a glance. `best_bid` and `best_ask` are (price, quantity); the 24 h figures are None without trades,
    `volume` is a number always.
    """

    symbol: str
    state: MarketState
    sequence: int
    time: int
    best_bid: tuple[int, int] | None
    best_ask: tuple[int, int] | None
    last_price: int | None
    last_quantity: int | None
    open: int | None
    high: int | None
    low: int | None
    volume: int


class Auction(Struct, frozen=True):
    """What an auction would give now: `price` is None where nothing would trade, `volume` and `imbalance` are numbers,
    `surplus_side` says of which side there is more than can trade at the price (None: of neither).
    """

    symbol: str
    sequence: int
    time: int
    price: int | None
    volume: int
    imbalance: int
    surplus_side: Side | None


class Quote(Struct, frozen=True):
    """A symbol as a ticker tells it: its state, best prices as (price, quantity), last trade, and what an auction would give
    now (None while it is in none). `sequence` and `time` are those of the symbol's last change.
    """

    symbol: str
    sequence: int
    time: int
    state: MarketState
    best_bid: tuple[int, int] | None
    best_ask: tuple[int, int] | None
    last_price: int | None
    last_quantity: int | None
    auction: Auction | None

    def says_the_same_as(self, other: Quote) -> bool:
        """Whether nothing but sequence and time differs."""
        return (
            self.best_bid == other.best_bid
            and self.best_ask == other.best_ask
            and self.last_price == other.last_price
            and self.last_quantity == other.last_quantity
            and self.state is other.state
            and _auction_prices(self.auction) == _auction_prices(other.auction)
        )


def _auction_prices(auction: Auction | None) -> tuple[int | None, int, int, Side | None] | None:
    return None if auction is None else (auction.price, auction.volume, auction.imbalance, auction.surplus_side)


class Candle(Struct, frozen=True):
    """What traded from `open_time`, inclusive, to `close_time`, exclusive (D4). Prices and `volume` are numbers, `vwap` is text,
    rounded half-even to 9 decimals; `sequence` is that of its last trade.
    """

    symbol: str
    interval: str
    open_time: int
    close_time: int
    open: int
    high: int
    low: int
    close: int
    volume: int
    vwap: str
    trades: int
    sequence: int


class FeedSink(Protocol):
    """Whoever tells the public what changed. Called on the event loop, with everything before it taken in by the view."""

    def depth_changed(self, change: BookChanged, previous_sequence: int) -> None:
        """Levels of a watched symbol changed; `previous_sequence` is that of the change before, or where watching began."""

    def traded(self, trade: TradeRecord, previous_sequence: int) -> None:
        """A watched symbol traded; `previous_sequence` as above, of trades."""

    def quote_changed(self, quote: Quote, previous_sequence: int) -> None:
        """A watched symbol's ticker is another after a batch; `previous_sequence` as above, of tickers."""

    def candles_changed(self, symbol: str) -> None:
        """A watched symbol's running candles are others."""

    def batch_ended(self) -> None:
        """All that a batch had to tell was told."""


class MarketFeed(Protocol):
    """What is told about symbols as it happens, for those that somebody watches."""

    def attach(self, sink: FeedSink) -> None:
        """Tell this sink from now on."""

    def watch(self, symbol: str) -> bool:
        """Begin to tell of a symbol; watching it already is fine. Whether it is listed."""

    def unwatch(self, symbol: str) -> None:
        """Stop telling of a symbol."""

    def candle(self, symbol: str, interval: str) -> Candle | None:
        """The running candle of an interval (1s 1m 5m 15m 1h 4h 1d): the one with the latest trade; None before the first."""


class MarketData(Protocol):
    """Public data folded from committed events, in memory. None for a symbol that isn't listed; reading lists nothing."""

    def instruments(self) -> list[InstrumentRecord]:
        """Every listed symbol, by name."""

    def instrument(self, symbol: str) -> InstrumentRecord | None:
        """One listed symbol."""

    def depth(self, symbol: str, levels: int) -> Depth | None:
        """The best levels of each side, at most `levels`."""

    def ticker(self, symbol: str) -> Ticker | None:
        """The symbol at a glance, with statistics over the 24 hours up to now."""

    def quote(self, symbol: str) -> Quote | None:
        """The symbol as a ticker tells it; O(1)."""

    def auction(self, symbol: str) -> Auction | None:
        """What the running auction would give now; None where the symbol isn't listed or isn't in AUCTION."""


class Past(Protocol):
    """What was: candles, snapshots, and a book as it stood. Raises StorageUnusable where there is no answer now."""

    async def candles(
        self, symbol: str, seconds: int, start: int, end: int, limit: int, *, newest: bool = False
    ) -> list[CandleRecord]:
        """At most `limit` candles that open from `start` on and before `end`, oldest first: those nearest to `start`, or, if
        `newest`, to `end`. Intervals without a trade have none (D4).
        """

    async def candles_trimmed_before(self, seconds: int) -> int:
        """The time from before which candles of a length are no longer kept; 0 where all are (D6)."""

    async def books(self, symbol: str, before: int, limit: int) -> list[BookSnapshot]:
        """At most `limit` snapshots of a symbol's book with a sequence below `before`, newest first."""

    async def books_trimmed_before(self) -> int:
        """The time from before which snapshots of books are no longer kept; 0 where all are (D6)."""

    async def depth_at_sequence(self, symbol: str, sequence: int) -> Depth:
        """Every level of a book right after its public sequence was this. Raises Evicted, NotYet for what hasn't come, or
        Overloaded where too many ask.
        """

    async def depth_at_time(self, symbol: str, time: int) -> Depth | None:
        """Every level of a book at a time; None where the symbol wasn't listed yet. Raises as `depth_at_sequence`."""


class ReplicaMetrics(Protocol):
    """Whoever counts what a read replica is asked."""

    def replica_read(self) -> None:
        """It has answered a question."""

    def replica_fell_back(self, cause: str) -> None:
        """A question that was meant for it was put to the primary, because it was `behind`, `away`, of `other` history, or the
        `primary` didn't say what there is.
        """

    def replica_lag(self, seconds: float) -> None:
        """For so long it has lacked something that the primary had; 0 where it had everything within a tenth of a second."""


class EngineMetrics(Protocol):
    """What the runner tells whoever counts."""

    def batch_committed(
        self, commands: int, commit_seconds: float, queue_depth: int, wait_seconds: float, publish_seconds: float
    ) -> None:
        """A batch is durable and published: how many commands it held and how many wait now; how long its first command took from
        its arrival until the commit began, how long the commit took, and how long the views after it.
        """

    def state_changed(self, state: str) -> None:
        """The engine's state is now another."""


class CommandListener(Protocol):
    """Whoever follows what was committed command by command. Called on the event loop, like EventListener and right behind it."""

    def commands_committed(self, position: int, commands: Sequence[CommandEvents]) -> None:
        """Take in the private events of the commands of one batch, in order; `position` is the last committed one now. Must
        not fail and must not wait.
        """


class EventListener(Protocol):
    """Whoever follows what was committed: views, feeds. Called on the event loop, after the commit and before the answers."""

    def committed(self, events: Sequence[Event]) -> None:
        """Take in the events of one batch, in order. Must not fail and must not wait."""
