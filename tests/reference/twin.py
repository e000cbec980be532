"""The specification, executable: a slow and obvious engine that says what every command must lead to.

One list of resting orders, scanned from end to end for each question; every price and quantity an integer count of 10**-9, so
that nothing is ever rounded; no ticks, no levels, no indexes, no shared code with `ome.engine`. Where the rule book is read in
one of several possible ways, the twin is that reading, and says so where it does. Not meant for more than a few thousand orders.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from ome.domain.commands import AdvanceTime, CancelOrder, Configure, DefineInstrument, ModifyOrder, NewOrder, Stamped
from ome.domain.enums import OrderStatus, OrderType, SelfTradePrevention, Side, TimeInForce
from ome.domain.ids import make_id
from ome.domain.instrument import MAX_UNITS
from ome.domain.numbers import unpack
from ome.domain.reasons import Reason
from ome.domain.records import EngineSettings

DECIMALS = 9
DEFAULT_TICK, DEFAULT_LOT = 10**7, 10**9
OPEN = (OrderStatus.PENDING, OrderStatus.PARTIALLY_FILLED)


def exact(number: int) -> int:
    """A number of `domain.numbers`, as a count of 10**-9."""
    mantissa, decimals = unpack(number)
    return int(mantissa * 10 ** (DECIMALS - decimals))


def too_large(value: int, step: int) -> bool:
    """Whether a value, counted in the last decimal of its tick or lot, has no room in 64 bits (N1)."""
    decimals = next(d for d in range(DECIMALS + 1) if step % 10 ** (DECIMALS - d) == 0)
    last_decimal: int = 10 ** (DECIMALS - decimals)
    return value > MAX_UNITS * last_decimal


class Picture(NamedTuple):
    """All that can be seen of an order, but for the number of its place in the queue."""

    id: int
    user_id: str
    symbol: str
    side: Side
    type: OrderType
    time_in_force: TimeInForce
    self_trade_prevention: SelfTradePrevention
    client_order_id: str | None
    quantity: int
    price: int | None
    filled: int
    filled_value: int
    remaining: int
    status: OrderStatus
    reason: Reason | None
    version: int
    expires_at: int | None
    created_at: int
    updated_at: int


class Trade(NamedTuple):
    """One trade; the maker's filled and remaining quantities are those right after it."""

    id: int
    symbol: str
    price: int
    quantity: int
    maker: int
    taker: int
    taker_side: Side
    time: int
    sequence: int
    maker_filled: int
    maker_remaining: int


@dataclass
class Order:
    """An order as the twin keeps it; `turn` grows with each order that joins the back of a queue."""

    id: int
    asked: NewOrder
    quantity: int
    price: int | None
    expires_at: int | None
    created_at: int
    updated_at: int
    status: OrderStatus = OrderStatus.PENDING
    reason: Reason | None = None
    filled: int = 0
    filled_value: int = 0
    version: int = 1
    turn: int = 0

    @property
    def remaining(self) -> int:
        """What is still open: nothing once it has ended (N3)."""
        return self.quantity - self.filled if self.status in OPEN else 0

    def picture(self) -> Picture:
        """The order as it stands."""
        a = self.asked
        return Picture(
            self.id, a.user_id, a.symbol, a.side, a.type, a.time_in_force, a.self_trade_prevention, a.client_order_id,
            self.quantity, self.price, self.filled, self.filled_value, self.remaining, self.status, self.reason, self.version,
            self.expires_at, self.created_at, self.updated_at,
        )  # fmt: skip


@dataclass
class Market:
    """A listed symbol."""

    tick: int
    lot: int
    listed_at: int
    sequence: int = 0
    last: tuple[int, int, int] | None = None
    """Price, quantity and time of the last trade."""


Level = tuple[Side, int, int, int]
"""Side, price, quantity, orders: what BookChanged tells of a level."""


@dataclass
class Outcome:
    """What one command led to, each list in the order in which things happened."""

    orders: list[tuple[str, Picture]] = field(default_factory=list)
    trades: list[Trade] = field(default_factory=list)
    prevented: list[tuple[int, int, int, int]] = field(default_factory=list)
    """Maker, taker, price and quantity of what did not trade (P2)."""
    refused: tuple[int | None, Reason] | None = None
    markets: list[tuple[str, int, int, int]] = field(default_factory=list)
    """Symbol, sequence, tick and lot of what was listed or changed."""
    books: dict[str, tuple[int, list[Level]]] = field(default_factory=dict)
    """By symbol: the sequence that closed the command, and every level that it touched."""


class Twin:
    """The whole engine of one shard, naively."""

    def __init__(self, shard: int = 0) -> None:
        self.shard = shard
        self.settings = EngineSettings()
        self.markets: dict[str, Market] = {}
        self.orders: dict[int, Order] = {}
        self.resting: list[Order] = []
        self.position = self.time = self.trade_count = self.turns = 0
        self.out = Outcome()
        self.touched: set[tuple[str, Side, int]] = set()
        self.changed: set[int] = set()

    def apply(self, stamped: Stamped) -> Outcome:
        """Carry out one command: deadlines first (T5), then the command, then one public update for each book touched (D1)."""
        self.position, self.time = stamped.position, stamped.time
        self.out, self.touched, self.changed = Outcome(), set(), set()
        due = [order for order in self.resting if order.expires_at is not None and order.expires_at <= self.time]
        for order in sorted(due, key=lambda order: (order.expires_at, order.id)):
            self.end(order, "expired", OrderStatus.EXPIRED, Reason.EXPIRED)
        match stamped.command:
            case NewOrder() as command:
                self.new_order(command)
            case ModifyOrder() as command:
                self.modify(command)
            case CancelOrder() as command:
                found = self.find(command)
                if found is not None:
                    self.end(found, "cancelled", OrderStatus.CANCELLED, Reason.CANCELLED_BY_USER)
            case DefineInstrument() as command:
                self.define(command)
            case Configure(settings):
                self.settings = settings
            case AdvanceTime():
                pass
        for symbol in {symbol for symbol, _, _ in self.touched}:
            levels = sorted(self.level(*key) for key in self.touched if key[0] == symbol)
            self.out.books[symbol] = (self.next_sequence(symbol), levels)
        return self.out

    # -- what is asked of the book -----------------------------------------------------------------------------------------

    def queue(self, symbol: str, side: Side) -> list[Order]:
        """The resting orders of one side in the order in which they trade: price, then time (M1)."""
        orders = [order for order in self.resting if order.asked.symbol == symbol and order.asked.side is side]
        sign = -1 if side is Side.BUY else 1
        return sorted(orders, key=lambda order: (sign * (order.price or 0), order.turn))

    def level(self, symbol: str, side: Side, price: int) -> Level:
        """A level's total: quantity 0 when it is gone (M4)."""
        orders = [order for order in self.queue(symbol, side) if order.price == price]
        return side, price, sum(order.remaining for order in orders), len(orders)

    def reachable(self, taker: Order) -> list[Order]:
        """The orders that a taker's limit allows it to trade with, in order (M2)."""
        buys = taker.asked.side is Side.BUY
        against = self.queue(taker.asked.symbol, Side.SELL if buys else Side.BUY)
        if taker.price is None:
            return against
        return [o for o in against if o.price is not None and (o.price <= taker.price if buys else o.price >= taker.price)]

    def is_own(self, taker: Order, maker: Order) -> bool:
        """Whether the two must not trade (P1); the taker's mode decides."""
        mode = taker.asked.self_trade_prevention
        return mode is not SelfTradePrevention.NONE and taker.asked.user_id == maker.asked.user_id

    def reachable_quantity(self, taker: Order) -> int:
        """How much it could fill at once, self-trade prevention counted in (T2)."""
        total = 0
        for maker in self.reachable(taker):
            if self.is_own(taker, maker):
                break
            total += maker.remaining
        return total

    # -- the commands ------------------------------------------------------------------------------------------------------

    def new_order(self, asked: NewOrder) -> None:
        """Accept an order and let it trade, or refuse it; a refused one lists no symbol."""
        price = None if asked.price is None else exact(asked.price)
        number = make_id(self.shard, self.position)
        order = Order(number, asked, exact(asked.quantity), price, asked.expires_at, self.time, self.time)
        self.orders[number] = order
        refusal = self.why_not(asked.symbol, price, order.quantity, asked.expires_at)
        if refusal is not None:
            self.say(order, "rejected", OrderStatus.REJECTED, refusal)
            return
        if asked.symbol not in self.markets:
            self.markets[asked.symbol] = Market(DEFAULT_TICK, DEFAULT_LOT, self.time)
            self.say_market(asked.symbol)
        self.say(order, "accepted")
        if asked.time_in_force is TimeInForce.FOK and self.reachable_quantity(order) < order.quantity:
            self.end(order, "cancelled", OrderStatus.CANCELLED, Reason.FOK_UNFILLABLE)
        else:
            self.take(order)

    def why_not(self, symbol: str, price: int | None, quantity: int, expires_at: int | None) -> Reason | None:
        """The first check that fails, in the order of R1: listing, tick, lot, size, deadline."""
        market = self.markets.get(symbol)
        tick, lot = (market.tick, market.lot) if market else (DEFAULT_TICK, DEFAULT_LOT)
        checks = [
            (market is None and not self.settings.auto_list, Reason.UNKNOWN_SYMBOL),
            (market is None and len(self.markets) >= self.settings.max_symbols, Reason.TOO_MANY_SYMBOLS),
            (price is not None and price % tick != 0, Reason.PRICE_OFF_TICK),
            (quantity % lot != 0, Reason.QUANTITY_OFF_LOT),
            (price is not None and too_large(price, tick), Reason.PRICE_TOO_LARGE),
            (too_large(quantity, lot), Reason.QUANTITY_TOO_LARGE),
            (expires_at is not None and expires_at <= self.time, Reason.EXPIRES_AT_IN_PAST),
        ]
        return next((reason for fails, reason in checks if fails), None)

    def take(self, taker: Order) -> None:
        """Trade as far as the limit goes, then rest or end as the time in force says (T1, T3, P1)."""
        filled_before, own = taker.filled, None
        while taker.filled < taker.quantity and (makers := self.reachable(taker)):
            if self.is_own(taker, makers[0]):
                own = makers[0]
                break
            self.trade(makers[0], taker)
        if taker.filled == taker.quantity:
            self.say(taker, "filled", OrderStatus.FILLED)
            return
        if taker.filled > filled_before:
            self.say(taker, "filled", OrderStatus.PARTIALLY_FILLED)
        if own is not None and own.price is not None:
            self.out.prevented.append((own.id, taker.id, own.price, min(own.remaining, taker.remaining)))
            self.end(taker, "cancelled", OrderStatus.CANCELLED, Reason.SELF_TRADE_PREVENTED)
        elif taker.asked.type is OrderType.MARKET:
            reason = Reason.MARKET_REMAINDER if taker.filled else Reason.NO_LIQUIDITY
            self.end(taker, "cancelled", OrderStatus.CANCELLED, reason)
        elif taker.asked.time_in_force is TimeInForce.IOC:
            self.end(taker, "cancelled", OrderStatus.CANCELLED, Reason.IOC_REMAINDER)
        else:
            self.turns += 1
            taker.turn = self.turns
            self.resting.append(taker)
            self.touch(taker)

    def trade(self, maker: Order, taker: Order) -> None:
        """One trade at the maker's price (M1)."""
        symbol, quantity = maker.asked.symbol, min(maker.remaining, taker.remaining)
        price = maker.price
        assert price is not None
        self.touch(maker)
        for order in (maker, taker):
            order.filled += quantity
            order.filled_value += price * quantity
            order.updated_at = self.time
            self.changed.add(order.id)
        maker.status = OrderStatus.PARTIALLY_FILLED if maker.filled < maker.quantity else OrderStatus.FILLED
        if maker.status is OrderStatus.FILLED:
            self.resting.remove(maker)
        self.trade_count += 1
        self.markets[symbol].last = (price, quantity, self.time)
        self.out.trades.append(
            Trade(make_id(self.shard, self.trade_count), symbol, price, quantity, maker.id, taker.id, taker.asked.side, self.time,
                  self.next_sequence(symbol), maker.filled, maker.remaining)
        )  # fmt: skip

    def modify(self, change: ModifyOrder) -> None:
        """Check everything, then change (A6)."""
        order = self.find(change)
        if order is None:
            return
        quantity = order.quantity if change.quantity is None else exact(change.quantity)
        price = order.price if change.price is None else exact(change.price)
        refusal = self.why_not_modify(order, change, quantity, price)
        if refusal is not None:
            self.out.refused = (order.id, refusal)
            return
        keeps_place = price == order.price and quantity <= order.quantity
        if quantity != order.quantity or not keeps_place:
            self.touch(order)
        if quantity == order.filled or not keeps_place:
            self.resting.remove(order)
        order.quantity, order.price = quantity, price
        order.expires_at = order.expires_at if change.expires_at is None else change.expires_at
        order.version += 1
        if quantity == order.filled:
            self.end(order, "cancelled", OrderStatus.CANCELLED, Reason.REDUCED_TO_FILLED)
            return
        self.say(order, "modified")
        if not keeps_place:
            self.take(order)

    def why_not_modify(self, order: Order, change: ModifyOrder, quantity: int, price: int | None) -> Reason | None:
        """The first check that fails: version, fields, then those of a new order with A5 between size and deadline."""
        if change.expected_version not in {None, order.version}:
            return Reason.VERSION_CONFLICT
        if change.expires_at is not None and order.asked.time_in_force is not TimeInForce.GTD:
            return Reason.FIELD_NOT_APPLICABLE
        refusal = self.why_not(order.asked.symbol, price, quantity, None)
        if refusal is not None:
            return refusal
        if quantity < order.filled:
            return Reason.QUANTITY_BELOW_FILLED
        if change.expires_at is not None and change.expires_at <= self.time:
            return Reason.EXPIRES_AT_IN_PAST
        return None

    def define(self, definition: DefineInstrument) -> None:
        """List a symbol or change one; tick and lot stay what they are while an order counts in them (M5)."""
        symbol, market = definition.symbol, self.markets.get(definition.symbol)
        if market is None and len(self.markets) >= self.settings.max_symbols:
            self.out.refused = (None, Reason.TOO_MANY_SYMBOLS)
            return
        old_tick, old_lot = (market.tick, market.lot) if market else (DEFAULT_TICK, DEFAULT_LOT)
        tick = old_tick if definition.tick_size is None else exact(definition.tick_size)
        lot = old_lot if definition.lot_size is None else exact(definition.lot_size)
        in_use = any(order.asked.symbol == symbol for order in self.resting)
        if market is not None and in_use and (tick, lot) != (old_tick, old_lot):
            self.out.refused = (None, Reason.INSTRUMENT_IN_USE)
            return
        if market is None:
            market = self.markets[symbol] = Market(tick, lot, self.time)
        market.tick, market.lot = tick, lot
        self.say_market(symbol)

    # -- what is told ------------------------------------------------------------------------------------------------------

    def find(self, command: ModifyOrder | CancelOrder) -> Order | None:
        """The open order that a command names, or None, refused (M3)."""
        order = self.orders.get(command.order_id)
        if order is not None and order.status in OPEN:
            return order
        self.out.refused = (command.order_id, Reason.ORDER_NOT_OPEN if command.exists else Reason.ORDER_NOT_FOUND)
        return None

    def end(self, order: Order, event: str, status: OrderStatus, reason: Reason) -> None:
        """Take what is left of an order out, wherever it is."""
        if order in self.resting:
            self.touch(order)
            self.resting.remove(order)
        self.say(order, event, status, reason)

    def say(self, order: Order, event: str, status: OrderStatus | None = None, reason: Reason | None = None) -> None:
        """Tell of an order, in its new status."""
        order.status = order.status if status is None else status
        order.reason, order.updated_at = reason, self.time
        self.changed.add(order.id)
        self.out.orders.append((event, order.picture()))

    def say_market(self, symbol: str) -> None:
        """Tell of a symbol."""
        market = self.markets[symbol]
        self.out.markets.append((symbol, self.next_sequence(symbol), market.tick, market.lot))

    def next_sequence(self, symbol: str) -> int:
        """The next number of all that is public about a symbol (D1)."""
        self.markets[symbol].sequence += 1
        return self.markets[symbol].sequence

    def touch(self, order: Order) -> None:
        """Note that an order's level is no longer what it was."""
        if order.price is not None:
            self.touched.add((order.asked.symbol, order.asked.side, order.price))
