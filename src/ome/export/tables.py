"""What is exported: for each table its columns, and its rows out of a database at one moment.

Rows hold what is stored: numbers as in `domain.numbers`, times in microseconds; a column's kind says how a file writes them. They
come one by one, oldest first, in the order in which things happened, so that memory doesn't grow with the tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from enum import Enum, auto
from typing import Any, Final, NamedTuple

from msgspec import Struct
from sqlalchemy import Table

from ome.db import schema
from ome.db.history import Condition, History
from ome.db.recovery import records
from ome.domain.clock import MICROSECONDS
from ome.domain.events import (
    CommandRefused,
    OrderAccepted,
    OrderCancelled,
    OrderExpired,
    OrderFilled,
    OrderModified,
    OrderRejected,
    OrderTriggered,
    PrivateEvent,
    SelfTradePrevented,
    Traded,
    decode_events,
)
from ome.domain.intervals import INTERVALS
from ome.domain.numbers import MAX_DECIMALS, POWER_OF_TEN, ratio_text, unpack
from ome.domain.records import OrderRecord, SpecialTerms, TradeRecord
from ome.marketdata.candles import Bar

BATCH: Final = 1_000
"""Rows that are made into records at a time."""
Row = tuple[Any, ...]


class Kind(Enum):
    """What a column holds; None is nothing in every kind."""

    TEXT = auto()
    INTEGER = auto()
    BOOLEAN = auto()
    NUMBER = auto()
    """A number as in `domain.numbers`."""
    DECIMAL = auto()
    """The exact text of a decimal that may have more digits than a number."""
    TIME = auto()
    """Microseconds since 1970 UTC."""


Columns = dict[str, Kind]


class Wanted(Struct, frozen=True):
    """Which rows: of a symbol, from `start` on, inclusive, and before `end`, in microseconds; candles of so many seconds."""

    symbol: str | None = None
    start: int | None = None
    end: int | None = None
    seconds: int = 60

    def has(self, symbol: str | None, time: int) -> bool:
        """Whether a row is wanted."""
        return (
            (self.symbol is None or symbol == self.symbol)
            and (self.start is None or time >= self.start)
            and (self.end is None or time < self.end)
        )

    def conditions(self, time_column: str) -> list[Condition]:
        """The same, for the database."""
        named: list[Condition] = [("symbol", "=", self.symbol), (time_column, ">=", self.start), (time_column, "<", self.end)]
        return [condition for condition in named if condition[2] is not None]


Advance = Callable[[int], None]
"""Told how many rows of the source have been read, since it was told last."""


class Source(NamedTuple):
    """A table for export: its columns, the stored table that it is made from, and how."""

    columns: Columns
    table: Table
    rows: Callable[[History, int, Wanted, Advance], Iterator[Row]]


def _trade_records(history: History, shard: int, where: list[Condition], advance: Advance) -> Iterator[TradeRecord]:
    waiting: list[Row] = []
    for row in history.rows(schema.stored_trades, shard, where):
        waiting.append(row)
        if len(waiting) == BATCH:
            yield from records(waiting, TradeRecord)
            advance(len(waiting))
            waiting = []
    yield from records(waiting, TradeRecord)
    advance(len(waiting))


TRADE_COLUMNS: Final[Columns] = {
    "trade_id": Kind.INTEGER,
    "symbol": Kind.TEXT,
    "price": Kind.NUMBER,
    "quantity": Kind.NUMBER,
    "buy_order_id": Kind.INTEGER,
    "sell_order_id": Kind.INTEGER,
    "maker_order_id": Kind.INTEGER,
    "taker_side": Kind.TEXT,
    "executed_at": Kind.TIME,
    "sequence": Kind.INTEGER,
}


def _trades(history: History, shard: int, wanted: Wanted, advance: Advance) -> Iterator[Row]:
    """By `executed_at`."""
    for trade in _trade_records(history, shard, wanted.conditions("executed_at"), advance):
        yield (
            trade.id,
            trade.symbol,
            trade.price,
            trade.quantity,
            trade.buy_order_id,
            trade.sell_order_id,
            trade.maker_order_id,
            None if trade.taker_side is None else trade.taker_side.name,
            trade.executed_at,
            trade.sequence,
        )


ORDER_COLUMNS: Final[Columns] = {
    "order_id": Kind.INTEGER,
    "client_order_id": Kind.TEXT,
    "user_id": Kind.TEXT,
    "symbol": Kind.TEXT,
    "side": Kind.TEXT,
    "type": Kind.TEXT,
    "time_in_force": Kind.TEXT,
    "quantity": Kind.NUMBER,
    "filled_quantity": Kind.NUMBER,
    "remaining_quantity": Kind.NUMBER,
    "price": Kind.NUMBER,
    "average_price": Kind.DECIMAL,
    "self_trade_prevention": Kind.TEXT,
    "status": Kind.TEXT,
    "reason": Kind.TEXT,
    "version": Kind.INTEGER,
    "created_at": Kind.TIME,
    "updated_at": Kind.TIME,
    "expires_at": Kind.TIME,
    "triggered_at": Kind.TIME,
    "stop_price": Kind.NUMBER,
    "trail_amount": Kind.NUMBER,
    "trail_percent": Kind.NUMBER,
    "limit_offset": Kind.NUMBER,
    "post_only": Kind.BOOLEAN,
    "display_quantity": Kind.NUMBER,
    "min_quantity": Kind.NUMBER,
    "max_slippage_bps": Kind.INTEGER,
    "prevented_quantity": Kind.NUMBER,
}
_PLAIN: Final = SpecialTerms()


def _orders(history: History, shard: int, wanted: Wanted, advance: Advance) -> Iterator[Row]:
    """By `created_at`; each as it stands."""
    waiting: list[Row] = []
    for row in history.rows(schema.stored_orders, shard, wanted.conditions("created_at")):
        waiting.append(row)
        if len(waiting) == BATCH:
            yield from map(_order, records(waiting, OrderRecord))
            advance(len(waiting))
            waiting = []
    yield from map(_order, records(waiting, OrderRecord))
    advance(len(waiting))


def _order(order: OrderRecord) -> Row:
    terms = order.terms or _PLAIN
    return (
        order.id,
        order.client_order_id,
        order.user_id,
        order.symbol,
        order.side.name,
        order.type.name,
        order.time_in_force.name,
        order.quantity,
        order.filled_quantity,
        order.remaining_quantity,
        order.price,
        _average(order),
        order.self_trade_prevention.name,
        order.status.name,
        None if order.reason is None else order.reason.code,
        order.version,
        order.created_at,
        order.updated_at,
        order.expires_at,
        terms.triggered_at,
        terms.stop_price,
        terms.trail_amount,
        terms.trail_percent,
        terms.limit_offset,
        terms.post_only,
        terms.display_quantity,
        terms.min_quantity,
        terms.max_slippage_bps,
        terms.prevented_quantity,
    )


def _average(order: OrderRecord) -> str | None:
    """Of its fills, rounded half-even to 9 decimals (N1)."""
    filled, decimals = unpack(order.filled_quantity)
    if not filled:
        return None
    numerator, denominator = Decimal(order.filled_value).as_integer_ratio()
    return ratio_text(numerator * POWER_OF_TEN[decimals], denominator * filled)


CANDLE_COLUMNS: Final[Columns] = {
    "symbol": Kind.TEXT,
    "interval": Kind.TEXT,
    "open_time": Kind.TIME,
    "close_time": Kind.TIME,
    "open": Kind.NUMBER,
    "high": Kind.NUMBER,
    "low": Kind.NUMBER,
    "close": Kind.NUMBER,
    "volume": Kind.DECIMAL,
    "vwap": Kind.DECIMAL,
    "trades": Kind.INTEGER,
}


def _candles(history: History, shard: int, wanted: Wanted, advance: Advance) -> Iterator[Row]:
    """Those that open from `start` on and before `end`, in the order of their open time, then of their symbol. Added up from the
    trades (D4), which are kept longer than stored candles; the last ones may still be running.
    """
    seconds = wanted.seconds
    length = seconds * MICROSECONDS
    start = None if wanted.start is None else -(-wanted.start // length) * length
    end = None if wanted.end is None else -(-wanted.end // length) * length
    where = Wanted(wanted.symbol, start, end).conditions("executed_at")
    running: dict[str, Bar] = {}
    open_s = 0
    for trade in _trade_records(history, shard, where, advance):
        if (this := trade.executed_at // length * seconds) != open_s:  # time never goes back (N2): no candle is open any more
            yield from _ended(running, seconds)
            running, open_s = {}, this
        if trade.symbol not in running:
            running[trade.symbol] = Bar(open_s, trade.price)
        running[trade.symbol].add(trade)
    yield from _ended(running, seconds)


def _ended(bars: dict[str, Bar], seconds: int) -> Iterator[Row]:
    interval = next(name for name, length in INTERVALS.items() if length == seconds)
    for symbol in sorted(bars):
        bar = bars[symbol]
        open_time = bar.open_s * MICROSECONDS
        volume = ratio_text(bar.volume, POWER_OF_TEN[MAX_DECIMALS])
        vwap = ratio_text(bar.value, bar.volume * POWER_OF_TEN[MAX_DECIMALS])
        times = (open_time, open_time + seconds * MICROSECONDS)
        yield (symbol, interval, *times, bar.open, bar.high, bar.low, bar.close, volume, vwap, bar.trades)


EVENT_COLUMNS: Final[Columns] = {
    "position": Kind.INTEGER,
    "time": Kind.TIME,
    "type": Kind.TEXT,
    "symbol": Kind.TEXT,
    "order_id": Kind.INTEGER,
    "user_id": Kind.TEXT,
    "client_order_id": Kind.TEXT,
    "side": Kind.TEXT,
    "order_type": Kind.TEXT,
    "version": Kind.INTEGER,
    "status": Kind.TEXT,
    "reason": Kind.TEXT,
    "quantity": Kind.NUMBER,
    "price": Kind.NUMBER,
    "filled_quantity": Kind.NUMBER,
    "remaining_quantity": Kind.NUMBER,
    "trade_id": Kind.INTEGER,
    "other_order_id": Kind.INTEGER,
    "other_user_id": Kind.TEXT,
}
_TYPES: Final[dict[type[PrivateEvent], str]] = {
    OrderAccepted: "ACCEPTED",
    OrderRejected: "REJECTED",
    OrderModified: "MODIFIED",
    OrderCancelled: "CANCELLED",
    OrderExpired: "EXPIRED",
    OrderTriggered: "TRIGGERED",
    OrderFilled: "UPDATED",
    Traded: "FILLED",
    SelfTradePrevented: "SELF_TRADE_PREVENTED",
    CommandRefused: "REFUSED",
}


def _events(history: History, shard: int, wanted: Wanted, advance: Advance) -> Iterator[Row]:
    """By the time of their command. An event about an order has it as it was right after; UPDATED is a taker after its trades.

    FILLED is a trade: `price` and `quantity` are its, the order is the maker's, the other one the taker's.
    SELF_TRADE_PREVENTED: what would have traded; the order is the taker's, the other one the maker's. REFUSED, a modify or cancel
    that changed nothing, names an order but no symbol: with a symbol asked for it is left out.
    """
    places = {name: place for place, name in enumerate(EVENT_COLUMNS)}
    for _, _, _, blob in history.rows(schema.event_batches, shard):
        for command in decode_events(blob):
            for event in command.events:
                told = _event(event)
                if wanted.has(told.get("symbol"), command.time):
                    row: list[Any] = [command.position, command.time, _TYPES[type(event)], *[None] * (len(places) - 3)]
                    for name, value in told.items():
                        row[places[name]] = value
                    yield tuple(row)
        advance(1)


def _event(event: PrivateEvent) -> dict[str, Any]:
    match event:
        case Traded(trade=trade):
            return {
                "symbol": trade.symbol,
                "order_id": trade.maker_order_id,
                "user_id": event.maker_user_id,
                "quantity": trade.quantity,
                "price": trade.price,
                "filled_quantity": event.maker_filled,
                "remaining_quantity": event.maker_remaining,
                "trade_id": trade.id,
                "other_order_id": trade.taker_order_id,
                "other_user_id": event.taker_user_id,
            }
        case SelfTradePrevented():
            return {
                "symbol": event.symbol,
                "order_id": event.taker_order_id,
                "user_id": event.user_id,
                "quantity": event.quantity,
                "price": event.price,
                "other_order_id": event.maker_order_id,
                "other_user_id": event.user_id,
            }
        case CommandRefused():
            return {"order_id": event.order_id, "reason": event.reason.code}
        case _:
            return _order_event(event.order)


def _order_event(order: OrderRecord) -> dict[str, Any]:
    return {
        "symbol": order.symbol,
        "order_id": order.id,
        "user_id": order.user_id,
        "client_order_id": order.client_order_id,
        "side": order.side.name,
        "order_type": order.type.name,
        "version": order.version,
        "status": order.status.name,
        "reason": None if order.reason is None else order.reason.code,
        "quantity": order.quantity,
        "price": order.price,
        "filled_quantity": order.filled_quantity,
        "remaining_quantity": order.remaining_quantity,
    }


SOURCES: Final[dict[str, Source]] = {
    "trades": Source(TRADE_COLUMNS, schema.stored_trades, _trades),
    "orders": Source(ORDER_COLUMNS, schema.stored_orders, _orders),
    "candles": Source(CANDLE_COLUMNS, schema.stored_trades, _candles),
    "events": Source(EVENT_COLUMNS, schema.event_batches, _events),
}
