"""An in-memory stand-in for what is behind the HTTP edge: order entry, read models, market data and the bus, in one object.

It keeps orders and lets a crossing LIMIT order trade with the oldest order at the best price, which is enough for the edge's
answers to have every shape; stops wait for ever, and it knows none of the engine's rules. A dry run is carried out and undone. A
test may script what comes next: `script` answers the next command with these events, `fail` raises instead. It keeps every
command that it was given.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from decimal import Decimal
from math import inf

import httpx
import msgspec
from msgspec import structs
from starlette.types import ASGIApp

from ome.api.dispatcher import Dispatcher
from ome.domain.commands import (
    Administered,
    CancelAllAfter,
    CancelOrder,
    CancelOrders,
    Command,
    DefineInstrument,
    ModifyOrder,
    NewOrder,
    SetKill,
    SetLimits,
    Transfer,
)
from ome.domain.enums import ControlKind, MarketState, OrderStatus, OrderType, Side, Switch, TransferKind
from ome.domain.errors import OmeError
from ome.domain.events import (
    UNSTORED_EVENTS,
    CommandEvents,
    CommandRefused,
    ControlChanged,
    Event,
    InstrumentChanged,
    OrderAccepted,
    OrderCancelled,
    OrderFilled,
    OrderModified,
    PrivateEvent,
    SelfTradePrevented,
    Traded,
    UserEvent,
    events_of,
)
from ome.domain.keys import KEY_ACTIONS
from ome.domain.numbers import canonical, format_number, pack, value_of
from ome.domain.ports import (
    Answer,
    Auction,
    Candle,
    ControlCommand,
    Depth,
    FeedSink,
    Operation,
    Page,
    Quote,
    Receiver,
    Ticker,
    Timely,
    TransferAnswer,
    UserRisk,
    command_of,
)
from ome.domain.reasons import Reason
from ome.domain.records import (
    AuditEntry,
    BalanceRecord,
    BookSnapshot,
    CandleRecord,
    ControlRecord,
    InstrumentRecord,
    InstrumentRules,
    Limits,
    OrderRecord,
    PositionRecord,
    TradeRecord,
    TransferRecord,
)

MakeApp = Callable[..., Dispatcher]
"""Makes an application over an exchange, with these settings."""
STOPS = frozenset({OrderType.STOP, OrderType.STOP_LIMIT, OrderType.TRAILING_STOP})
NOW = 1_795_341_600_000_000
"""2026-11-22T10:00:00Z: the only time there is."""


def client_of(app: ASGIApp) -> httpx.AsyncClient:
    """A client that speaks to this application without a socket; what the application raises is raised in the test."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


def order_record(**changes: object) -> OrderRecord:
    """A resting order: alice buys 100 AAPL at 150.50."""
    base = {
        "id": 1_000_000_000_000_001,
        "user_id": "alice",
        "symbol": "AAPL",
        "side": Side.BUY,
        "type": OrderType.LIMIT,
        "time_in_force": 0,
        "quantity": pack(100, 0),
        "price": pack(15050, 2),
        "filled_quantity": 0,
        "filled_value": "0",
        "remaining_quantity": pack(100, 0),
        "status": OrderStatus.PENDING,
        "reason": None,
        "version": 1,
        "priority": 1,
        "self_trade_prevention": 0,
        "client_order_id": None,
        "expires_at": None,
        "created_at": NOW,
        "updated_at": NOW,
    }
    return msgspec.convert(tuple((base | changes).values()), OrderRecord)


class FakePast:
    """Implements Past over what a test has put into it."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.candle_records: list[CandleRecord] = []
        self.book_records: list[BookSnapshot] = []
        self.depths: dict[int, Depth] = {}
        self.trimmed_before = 0
        self.fail: Exception | None = None

    async def candles(
        self, symbol: str, seconds: int, start: int, end: int, limit: int, *, newest: bool = False
    ) -> list[CandleRecord]:
        """Those that fit."""
        found = [
            each
            for each in self.candle_records
            if (each.symbol, each.seconds) == (symbol, seconds) and start <= each.open_time < end
        ]
        return found[-limit:] if newest else found[:limit]

    async def candles_trimmed_before(self, seconds: int) -> int:
        """Those of a second alone are ever trimmed."""
        return self.trimmed_before if seconds == 1 else 0

    async def books_trimmed_before(self) -> int:
        """At the same time as candles."""
        return self.trimmed_before

    async def books(self, symbol: str, before: int, limit: int) -> list[BookSnapshot]:
        """Those that fit, newest first."""
        return [book for book in reversed(self.book_records) if book.symbol == symbol and book.sequence < before][:limit]

    async def depth_at_sequence(self, symbol: str, sequence: int) -> Depth:
        """What was put there."""
        assert symbol
        if self.fail is not None:
            raise self.fail
        return self.depths[sequence]

    async def depth_at_time(self, symbol: str, time: int) -> Depth | None:
        """The last one up to that time."""
        assert symbol
        return max((depth for depth in self.depths.values() if depth.time <= time), key=lambda depth: depth.time, default=None)


class FakeExchange:
    """Implements OrderEntry, FundsEntry, ReadModels, MarketData, MarketFeed and CommandBus."""

    def __init__(self) -> None:
        self.past = FakePast()
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.orders: dict[int, OrderRecord] = {}
        self.trade_records: list[TradeRecord] = []
        self.listed: dict[str, InstrumentRecord] = {}
        self.first_answers: dict[tuple[str, str, str], tuple[NewOrder, Answer]] = {}
        self.commands: list[Command | int] = []
        self.kept: list[CommandEvents] = []
        self.entries: list[AuditEntry] = []
        self.transfers: dict[tuple[str, str], TransferRecord] = {}
        self.auctions: dict[str, Auction] = {}
        self.past.reset()
        self.script: list[Sequence[Event]] = []
        self.fail: Exception | None = None
        self.asked: list[tuple[str, str, str | None]] = []
        self.ping_fails = False
        self.risks: dict[str, UserRisk] = {}
        self.positions: dict[str, list[PositionRecord]] = {}
        self.laid_down: dict[tuple[ControlKind, str, str], ControlRecord] = {}
        self.state_now = "RUNNING"
        self.reason_now = ""

    # OrderEntry

    async def submit(self, order: NewOrder | Timely, *, dry_run: bool = False) -> Answer:
        """Submit; the same client order id with the same order gets the first answer. There is always time."""
        command = command_of(order)
        assert isinstance(command, NewOrder)
        with self._undone(dry_run):
            return self._submit(command)

    def begin(self, operation: Operation, told: Callable[[Answer | Exception], None]) -> None:
        """Carry it out at once, and tell in the loop's next turn, as if it had to become durable."""
        asyncio.get_running_loop().call_soon(told, self._outcome(operation))

    def _outcome(self, operation: Operation) -> Answer | Exception:
        command = command_of(operation)
        try:
            match command:
                case NewOrder():
                    return self._submit(command)
                case ModifyOrder():
                    return self._modify(command)
                case CancelOrder():
                    return self._cancel(command.order_id, command.account)
        except OmeError as error:
            return error

    def _submit(self, order: NewOrder) -> Answer:
        events = self._next(order)
        order_id = 10**15 + len(self.commands)
        if events is not None:
            return Answer(events[0].order.id if hasattr(events[0], "order") else order_id, events)
        key = (order.user_id, order.symbol, order.client_order_id or "")
        if order.client_order_id and key in self.first_answers:
            first, answer = self.first_answers[key]
            if first != order:
                return Answer(answer.order_id, [CommandRefused(None, Reason.CLIENT_ORDER_ID_CONFLICT)])
            return Answer(answer.order_id, answer.events, replayed=True)
        answer = Answer(order_id, self._keep(self._take(order_id, order)))
        self.first_answers[key] = (order, answer)
        return answer

    async def transfer(self, asked: Transfer) -> TransferAnswer:
        """Make it, once per client id; withdrawals up to what was deposited."""
        events = self._next(asked)
        if events is not None:
            assert isinstance(events[0], CommandRefused)
            return TransferAnswer(events[0])
        made = TransferRecord(
            10**15 + len(self.commands),
            asked.transfer_kind,
            asked.user_id,
            asked.asset,
            asked.amount,
            asked.client_transfer_id,
            NOW,
        )
        key = (asked.user_id, asked.client_transfer_id)
        if key in self.transfers:
            before = self.transfers[key]
            if structs.replace(before, id=made.id) != made:
                return TransferAnswer(CommandRefused(None, Reason.CLIENT_TRANSFER_ID_CONFLICT))
            return TransferAnswer(before, replayed=True)
        if asked.transfer_kind is TransferKind.WITHDRAWAL and self._has(asked.user_id, asked.asset) < value_of(asked.amount):
            return TransferAnswer(CommandRefused(None, Reason.INSUFFICIENT_FUNDS, pack(0, 0)))
        self.transfers[key] = made
        return TransferAnswer(made)

    def _has(self, user_id: str, asset: str) -> Decimal:
        mine = [each for each in self.transfers.values() if (each.user_id, each.asset) == (user_id, asset)]
        signs = {TransferKind.DEPOSIT: 1, TransferKind.WITHDRAWAL: -1}
        return sum((signs[each.kind] * value_of(each.amount) for each in mine), Decimal(0))

    async def balances_of_user(self, user_id: str) -> list[BalanceRecord]:
        """What transfers have left; half a unit of each is reserved."""
        assets = sorted({each.asset for each in self.transfers.values() if each.user_id == user_id})
        return [BalanceRecord(user_id, asset, str(self._has(user_id, asset)), "0.5") for asset in assets]

    async def transfer_of_user(self, user_id: str, client_transfer_id: str) -> TransferRecord | None:
        """One that was made."""
        return self.transfers.get((user_id, client_transfer_id))

    async def modify(self, change: ModifyOrder | Timely, *, dry_run: bool = False) -> Answer:
        """Change the total or the price; nothing trades."""
        command = command_of(change)
        assert isinstance(command, ModifyOrder)
        with self._undone(dry_run):
            return self._modify(command)

    def _modify(self, change: ModifyOrder) -> Answer:
        events = self._next(change)
        if events is None:
            events = self._refusal(change.order_id, change.account)
        if events is None:
            order = self.orders[change.order_id]
            quantity = order.quantity if change.quantity is None else change.quantity
            order = msgspec.structs.replace(
                order,
                quantity=quantity,
                remaining_quantity=_minus(quantity, order.filled_quantity),
                price=order.price if change.price is None else change.price,
                expires_at=order.expires_at if change.expires_at is None else change.expires_at,
                version=order.version + 1,
            )
            self.orders[order.id] = order
            events = [OrderModified(order)]
        return Answer(change.order_id, self._keep(events))

    async def cancel(self, order_id: int, account: str | None = None) -> Answer:
        """Cancel an open order of this account."""
        return self._cancel(order_id, account)

    def _cancel(self, order_id: int, account: str | None = None) -> Answer:
        events = self._next(order_id)
        if events is None:
            events = self._refusal(order_id, account)
        if events is None:
            order = msgspec.structs.replace(
                self.orders[order_id], status=OrderStatus.CANCELLED, reason=Reason.CANCELLED_BY_USER, remaining_quantity=0
            )
            self.orders[order_id] = order
            events = [OrderCancelled(order)]
        return Answer(order_id, self._keep(events))

    async def define_instrument(self, definition: DefineInstrument) -> Sequence[Event]:
        """List a symbol or change one."""
        events = self._next(definition)
        return [self._define(definition)] if events is None else events

    async def cancel_all(self, user_id: str | None, symbol: str | None, side: Side | None) -> list[int]:
        """Cancel every order that is named."""
        self.commands.append(CancelOrders(user_id, symbol, side, 0))
        if self.fail is not None:
            raise self.fail
        named = [
            order.id
            for order in self.orders.values()
            if order.is_open
            and user_id in {None, order.user_id}
            and symbol in {None, order.symbol}
            and side in {None, order.side}
        ]
        for order_id in named:
            self._cancel(order_id)
        return named

    async def batch(
        self, operations: Sequence[Operation], *, dry_run: bool = False, queued: Callable[[], None] | None = None
    ) -> list[Answer | OmeError]:
        """Carry them out one after the other; what is raised is the outcome of its operation."""
        if queued is not None:
            queued()
        with self._undone(dry_run):
            return [self._carry_out(command_of(operation)) for operation in operations]

    async def wait_for_fate(self, user_id: str, client_order_id: str, symbol: str | None = None) -> None:
        """What it was asked for is kept; nothing is in flight, unless `fail` says so."""
        self.asked.append((user_id, client_order_id, symbol))
        if self.fail is not None:
            raise self.fail

    def _carry_out(self, operation: NewOrder | ModifyOrder | CancelOrder) -> Answer | OmeError:
        try:
            match operation:
                case NewOrder():
                    return self._submit(operation)
                case ModifyOrder():
                    return self._modify(operation)
                case CancelOrder():
                    return self._cancel(operation.order_id, operation.account)
        except OmeError as error:
            return error

    @contextmanager
    def _undone(self, dry_run: bool) -> Iterator[None]:
        """What happens inside is undone behind it, but for the commands that a test may look at, where it is a dry run."""
        kept = {name: copy(getattr(self, name)) for name in ("orders", "trade_records", "listed", "first_answers", "kept")}
        yield
        if dry_run:
            self.__dict__.update(kept)

    def _next(self, command: Command | int) -> Sequence[Event] | None:
        self.commands.append(command)
        if self.fail is not None:
            raise self.fail
        return self.script.pop(0) if self.script else None

    def _keep(self, events: Sequence[Event]) -> Sequence[Event]:
        self.kept.append(
            CommandEvents(len(self.commands), NOW, [each for each in events if not isinstance(each, UNSTORED_EVENTS)])
        )
        return events

    def _refusal(self, order_id: int, account: str | None = None) -> list[Event] | None:
        order = self.orders.get(order_id)
        if order is None or account not in {None, order.user_id}:
            return [CommandRefused(order_id, Reason.ORDER_NOT_FOUND)]
        return None if order.is_open else [CommandRefused(order_id, Reason.ORDER_NOT_OPEN)]

    def _define(self, definition: DefineInstrument) -> InstrumentChanged:
        """What is given, else what it had, else the defaults; 0 takes a rule away."""
        fresh = InstrumentRecord(definition.symbol, pack(1, 2), pack(1, 0), MarketState.OPEN, 0, None, None, None, NOW)
        record = self.listed.get(definition.symbol, fresh)
        fields = msgspec.structs.asdict(definition)
        given = {
            name: value for name, value in fields.items() if value is not None and name in InstrumentRecord.__struct_fields__
        }
        rules = {
            name: value or (0 if name.endswith(("_s", "_bps")) else None)
            for name, value in fields.items()
            if value is not None and name in InstrumentRules.__struct_fields__
        }
        record = msgspec.structs.replace(record, **given, rules=msgspec.structs.replace(record.rules, **rules))
        self.listed[record.symbol] = record
        return InstrumentChanged(record)

    def _take(self, order_id: int, command: NewOrder) -> list[Event]:
        if command.symbol not in self.listed:
            self._define(DefineInstrument(command.symbol))
        taker = order_record(
            id=order_id,
            user_id=command.user_id,
            symbol=command.symbol,
            side=command.side,
            type=command.type,
            time_in_force=command.time_in_force,
            quantity=command.quantity,
            price=command.price,
            remaining_quantity=command.quantity,
            self_trade_prevention=command.self_trade_prevention,
            client_order_id=command.client_order_id,
            expires_at=command.expires_at,
            terms=command.terms,
            status=OrderStatus.PENDING_TRIGGER if command.type in STOPS else OrderStatus.PENDING,
        )
        events: list[Event] = [OrderAccepted(taker)]
        if command.type in STOPS:
            self.orders[order_id] = taker
            return events
        while taker.remaining_quantity and (maker := self._best_against(taker)):
            taker = self._trade(taker, maker, events)
        if taker.filled_quantity:
            events.append(OrderFilled(taker))
        if taker.remaining_quantity and taker.type is OrderType.MARKET:
            taker = msgspec.structs.replace(taker, status=OrderStatus.CANCELLED, reason=Reason.NO_LIQUIDITY, remaining_quantity=0)
            events.append(OrderCancelled(taker))
        self.orders[order_id] = taker
        return events

    def _best_against(self, taker: OrderRecord) -> OrderRecord | None:
        sign = 1 if taker.side is Side.BUY else -1
        makers = [
            order
            for order in self.orders.values()
            if order.is_open and order.symbol == taker.symbol and order.side is not taker.side and order.price is not None
            if order.status is not OrderStatus.PENDING_TRIGGER
            if taker.price is None or (value_of(order.price) - value_of(taker.price)) * sign <= 0
        ]
        return min(makers, key=lambda order: value_of(order.price or 0) * sign, default=None)

    def _trade(self, taker: OrderRecord, maker: OrderRecord, events: list[Event]) -> OrderRecord:
        price = maker.price or 0
        quantity = min(taker.remaining_quantity, maker.remaining_quantity, key=value_of)
        maker, taker = _filled(maker, quantity, price), _filled(taker, quantity, price)
        self.orders[maker.id] = maker
        buy, sell = (taker.id, maker.id) if taker.side is Side.BUY else (maker.id, taker.id)
        number = len(self.trade_records) + 1
        trade = TradeRecord(10**15 + number, taker.symbol, price, quantity, buy, sell, taker.side, NOW, number, number)
        self.trade_records.append(trade)
        events.append(Traded(trade, maker.user_id, taker.user_id, maker.filled_quantity, maker.remaining_quantity))
        return taker

    # ReadModels

    async def order(self, order_id: int, user_id: str | None = None) -> OrderRecord | None:
        """One order, if it is this user's."""
        order = self.orders.get(order_id)
        return order if order is not None and user_id in {None, order.user_id} else None

    async def orders_by_client_id(self, user_id: str, client_order_id: str, symbol: str | None = None) -> list[OrderRecord]:
        """A user's orders by client id."""
        found = await self.orders_of_user(user_id, Page(limit=1000), symbol=symbol)
        return [order for order in found if order.client_order_id == client_order_id]

    async def orders_of_user(
        self, user_id: str, page: Page, *, symbol: str | None = None, statuses: Sequence[OrderStatus] = ()
    ) -> list[OrderRecord]:
        """A user's orders, newest first."""
        found = [
            order
            for order_id, order in sorted(self.orders.items(), reverse=True)
            if order.user_id == user_id and symbol in {None, order.symbol} and (not statuses or order.status in statuses)
            if page.before_id is None or order_id < page.before_id
        ]
        return found[: page.limit]

    async def open_orders(self, symbol: str, levels: int) -> tuple[int, list[OrderRecord]]:  # noqa: ARG002  the answer is cut
        """The resting orders of a symbol, more than asked for."""
        return len(self.commands), [order for order in self.orders.values() if order.is_open and order.symbol == symbol]

    async def trades(
        self, page: Page, *, symbol: str | None = None, user_id: str | None = None, order_id: int | None = None
    ) -> list[TradeRecord]:
        """Trades, newest first."""
        found = [
            trade
            for trade in reversed(self.trade_records)
            if symbol in {None, trade.symbol} and (page.before_id is None or trade.id < page.before_id)
            if order_id in {None, trade.buy_order_id, trade.sell_order_id}
            if user_id is None or user_id in {self.orders[trade.buy_order_id].user_id, self.orders[trade.sell_order_id].user_id}
        ]
        return found[: page.limit]

    async def command_events(self, position: int) -> CommandEvents | None:
        """Not kept."""
        return None if position else CommandEvents(0, NOW, [])

    async def events_of_order(self, order_id: int, after: tuple[int, int], limit: int) -> list[CommandEvents]:
        """What was kept of it."""
        found = list[CommandEvents]()
        for each in self.kept:
            named = [event for event in each.events if order_id in _orders_named(event)]
            events = [event for number, event in enumerate(named) if (each.position, number) >= after][:limit]
            found += [CommandEvents(each.position, each.time, events)] if events else []
            limit -= len(events)
        return found

    async def events_of_user(self, user_id: str, after: tuple[int, int], limit: int) -> list[UserEvent]:
        """What was kept of them."""
        mine = (each for command in self.kept for each in events_of(user_id, command))
        return [each for each in mine if (each.position, each.number) > after][:limit]

    async def queue_ahead(self, order: OrderRecord) -> tuple[int, int]:
        """The older open orders of its side at its price."""
        ahead = [
            other.remaining_quantity
            for other in self.orders.values()
            if other.is_open and (other.symbol, other.side, other.price) == (order.symbol, order.side, order.price)
            if other.id < order.id
        ]
        return len(ahead), _sum(ahead)

    async def trades_since(self, moment_us: int) -> AsyncIterator[list[TradeRecord]]:
        """All of them: there is one moment only."""
        yield [trade for trade in self.trade_records if trade.executed_at >= moment_us]

    async def audit(self, page: Page, action: str | None = None) -> list[AuditEntry]:
        """What was written down, newest first."""
        before = page.before_id or 10**18
        found = [each for each in reversed(self.entries) if each.position < before and action in {None, each.action}]
        return found[: page.limit]

    async def key_entries(self) -> list[AuditEntry]:
        """Of it what is about keys."""
        return [entry for entry in self.entries if entry.action in KEY_ACTIONS]

    async def positions_of_user(self, user_id: str) -> list[PositionRecord]:
        """Those that a test has put there."""
        return self.positions.get(user_id, [])

    async def controls(self, kind: ControlKind, user_id: str | None = None) -> list[ControlRecord]:
        """What was laid down, as it stands."""
        found = [record for record in self.laid_down.values() if record.kind is kind and user_id in {None, record.user_id}]
        return sorted(
            (record for record in found if record.switch is Switch.ON), key=lambda record: (record.user_id, record.symbol)
        )

    async def control(self, command: ControlCommand) -> ControlChanged:
        """Lay it down; a kill finds every order open that it is for."""
        self.commands.append(command)
        if self.fail is not None:
            raise self.fail
        match command:
            case SetLimits(user_id, symbol, limits):
                switch = Switch.OFF if limits == Limits() else Switch.ON
                record = ControlRecord(ControlKind.LIMITS, user_id, symbol, switch, NOW, None, limits if switch else None)
            case SetKill(user_id, symbol, is_active):
                record = ControlRecord(ControlKind.KILL, user_id, symbol, Switch(int(is_active)), NOW)
            case CancelAllAfter(user_id, seconds):
                until = NOW + seconds * 10**6 if seconds else None
                record = ControlRecord(ControlKind.TIMER, user_id, "", Switch(int(until is not None)), NOW, until)
        self.laid_down[record.kind, record.user_id, record.symbol] = record
        found = sum(order.is_open and record.user_id in {"", order.user_id} for order in self.orders.values())
        return ControlChanged(record, found if isinstance(command, SetKill) and command.is_active else 0)

    async def ping(self) -> None:
        """A sign of life, or not."""
        if self.ping_fails:
            raise ConnectionError("the database is gone")

    # CommandBus

    def enqueue(
        self, command: Command, settled: Callable[[], None] | None = None, deadline_s: float = inf
    ) -> Awaitable[Sequence[Event]]:
        """Nothing is sent past order entry by the edge."""
        raise NotImplementedError(command, settled, deadline_s)

    def post(
        self,
        command: Command,
        receiver: Receiver[Sequence[Event]],
        settled: Callable[[], None] | None = None,
        deadline_s: float = inf,
    ) -> None:
        """Likewise."""
        raise NotImplementedError(command, receiver, settled, deadline_s)

    async def risk(self, user_id: str) -> UserRisk:
        """What `risks` says of the user."""
        if self.fail is not None:
            raise self.fail
        return self.risks.get(user_id, UserRisk(user_id, False, None, 0, None, None, []))

    async def preview(self, commands: Sequence[Command]) -> list[list[Event]]:
        """Likewise."""
        raise NotImplementedError(commands)

    async def send(self, command: Command, settled: Callable[[], None] | None = None, deadline_s: float = inf) -> Sequence[Event]:
        """What is written down of operators; everything else goes through order entry."""
        assert isinstance(command, Administered), (command, settled, deadline_s)
        if self.fail is not None:
            raise self.fail
        self.entries.append(AuditEntry(0, len(self.entries) + 1, NOW, *msgspec.structs.astuple(command)))
        return []

    def is_open(self, order_id: int, account: str | None = None) -> bool:
        """Whether it is open, and this account's."""
        order = self.orders.get(order_id)
        return order is not None and order.is_open and account in {None, order.user_id}

    @property
    def state(self) -> str:
        """What the test says."""
        return self.state_now

    @property
    def reason(self) -> str:
        """What the test says."""
        return self.reason_now

    @property
    def position(self) -> int:
        """One for each command."""
        return len(self.commands)

    @property
    def waiting(self) -> int:
        """Everything is done at once."""
        return 0

    # MarketData

    def instruments(self) -> list[InstrumentRecord]:
        """Every listed symbol, by name."""
        return [self.listed[symbol] for symbol in sorted(self.listed)]

    def instrument(self, symbol: str) -> InstrumentRecord | None:
        """One of them."""
        return self.listed.get(symbol)

    def depth(self, symbol: str, levels: int) -> Depth | None:
        """The levels of the resting orders."""
        if symbol not in self.listed:
            return None
        return Depth(
            symbol, self.position, NOW, self._levels(symbol, Side.BUY)[:levels], self._levels(symbol, Side.SELL)[:levels]
        )

    def ticker(self, symbol: str) -> Ticker | None:
        """At a glance."""
        depth = self.depth(symbol, 1)
        if depth is None:
            return None
        prices = [trade.price for trade in self.trade_records if trade.symbol == symbol]
        sizes = [trade.quantity for trade in self.trade_records if trade.symbol == symbol]
        day = (prices[0], max(prices, key=value_of), min(prices, key=value_of)) if prices else (None, None, None)
        bid, ask = ([level[:2] for level in side] for side in (depth.bids, depth.asks))
        return Ticker(
            symbol,
            self.listed[symbol].state,
            depth.sequence,
            NOW,
            bid[0] if bid else None,
            ask[0] if ask else None,
            prices[-1] if prices else None,
            sizes[-1] if sizes else None,
            day[0],
            day[1],
            day[2],
            _sum(sizes),
        )

    def quote(self, symbol: str) -> Quote | None:
        """As the ticker."""
        ticker = self.ticker(symbol)
        if ticker is None:
            return None
        last = (ticker.last_price, ticker.last_quantity)
        place = (symbol, ticker.sequence, ticker.time, ticker.state)
        return Quote(*place, ticker.best_bid, ticker.best_ask, *last, self.auction(symbol))

    # MarketFeed

    def attach(self, sink: FeedSink) -> None:
        """Whoever is told."""
        self.sink = sink

    def watch(self, symbol: str) -> bool:
        """Nothing is told by itself."""
        return symbol in self.listed

    def unwatch(self, symbol: str) -> None:
        """Likewise."""

    def candle(self, symbol: str, interval: str) -> Candle | None:
        """None is kept."""
        del symbol, interval
        return None

    def auction(self, symbol: str) -> Auction | None:
        """What a test has put into `auctions`, else an empty one, while the symbol is in AUCTION."""
        if symbol not in self.listed or self.listed[symbol].state is not MarketState.AUCTION:
            return None
        return self.auctions.get(symbol, Auction(symbol, self.position, NOW, None, 0, 0, None))

    def _levels(self, symbol: str, side: Side) -> list[tuple[int, int, int]]:
        prices: dict[int, list[int]] = {}
        for order in self.orders.values():
            rests = order.is_open and order.status is not OrderStatus.PENDING_TRIGGER
            if rests and order.symbol == symbol and order.side is side and order.price is not None:
                prices.setdefault(order.price, []).append(order.remaining_quantity)
        return [
            (price, _sum(prices[price]), len(prices[price])) for price in sorted(prices, key=value_of, reverse=side is Side.BUY)
        ]


def _orders_named(event: PrivateEvent) -> set[int | None]:
    match event:
        case Traded(trade=trade):
            return {trade.buy_order_id, trade.sell_order_id}
        case SelfTradePrevented():
            return {event.maker_order_id, event.taker_order_id}
        case CommandRefused():
            return {event.order_id}
        case _:
            return {event.order.id}


def _filled(order: OrderRecord, quantity: int, price: int) -> OrderRecord:
    remaining = _minus(order.remaining_quantity, quantity)
    return msgspec.structs.replace(
        order,
        filled_quantity=_sum([order.filled_quantity, quantity]),
        filled_value=format_number(_sum([_number(order.filled_value), _number(str(value_of(price) * value_of(quantity)))])),
        remaining_quantity=remaining,
        status=OrderStatus.PARTIALLY_FILLED if remaining else OrderStatus.FILLED,
    )


def _number(text: str) -> int:
    whole, _, fraction = text.partition(".")
    return canonical(pack(int(whole + fraction), len(fraction)))


def _minus(one: int, other: int) -> int:
    return _number(str(value_of(one) - value_of(other)))


def _sum(numbers: list[int]) -> int:
    total = 0
    for number in numbers:
        total = _number(str(value_of(total) + value_of(number)))
    return total
