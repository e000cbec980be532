"""Records and events into the shapes of `schemas`, exactly as the contract has them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, Final

from msgspec import UNSET

from ome.api.problems import Problem
from ome.api.schemas import (
    DepthView,
    InstrumentView,
    LevelView,
    MarketView,
    OrderAnswer,
    OrderView,
    QueuedOrderView,
    QuoteView,
    TradeView,
)
from ome.domain.clock import format_time
from ome.domain.enums import MarketState, OrderStatus, OrderType, SelfTradePrevention, Side, TimeInForce
from ome.domain.events import (
    CommandRefused,
    Event,
    InstrumentChanged,
    OrderAccepted,
    OrderCancelled,
    OrderExpired,
    OrderFilled,
    OrderModified,
    OrderRejected,
    Traded,
)
from ome.domain.numbers import POWER_OF_TEN, format_number, pack, ratio_text, unpack, value_of
from ome.domain.ports import Answer, Depth, Ticker
from ome.domain.reasons import Reason
from ome.domain.records import InstrumentRecord, OrderRecord, TradeRecord

# An enum member's `name` is a property; a table by its number is three times as fast
_SIDES: Final = tuple(side.name for side in Side)
_TYPES: Final = tuple(kind.name for kind in OrderType)
_TIMES_IN_FORCE: Final = tuple(time_in_force.name for time_in_force in TimeInForce)
_MODES: Final = tuple(mode.name for mode in SelfTradePrevention)
_STATUSES: Final = tuple(status.name for status in OrderStatus)
_STATES: Final = tuple(state.name for state in MarketState)
_CODES: Final = {reason: reason.code for reason in Reason}

_WHOLE_ORDER: Final = frozenset({OrderAccepted, OrderRejected, OrderFilled, OrderModified, OrderCancelled, OrderExpired})


def average_price(order: OrderRecord) -> str | None:
    """What an order's fills cost on average, rounded half-even to 9 decimals (N1), from exact integers; None without fills."""
    filled, filled_decimals = unpack(order.filled_quantity)
    if not filled:
        return None
    whole, _, fraction = order.filled_value.partition(".")
    return ratio_text(int(whole + fraction) * POWER_OF_TEN[filled_decimals], filled * 10 ** len(fraction))


def _order_fields(order: OrderRecord) -> dict[str, Any]:
    price, reason, expires_at = order.price, order.reason, order.expires_at
    created_at = format_time(order.created_at)
    return {
        "order_id": str(order.id),
        "client_order_id": order.client_order_id,
        "user_id": order.user_id,
        "symbol": order.symbol,
        "side": _SIDES[order.side],
        "type": _TYPES[order.type],
        "time_in_force": _TIMES_IN_FORCE[order.time_in_force],
        "quantity": format_number(order.quantity),
        "filled_quantity": format_number(order.filled_quantity),
        "remaining_quantity": format_number(order.remaining_quantity),
        "price": None if price is None else format_number(price),
        "average_price": average_price(order),
        "self_trade_prevention": _MODES[order.self_trade_prevention],
        "expires_at": UNSET if expires_at is None else format_time(expires_at),
        "status": _STATUSES[order.status],
        "reason": None if reason is None else _CODES[reason],
        "version": order.version,
        "created_at": created_at,
        "updated_at": created_at if order.updated_at == order.created_at else format_time(order.updated_at),
    }


def order_view(order: OrderRecord) -> OrderView:
    """An order as it stands."""
    return OrderView(**_order_fields(order))


def trade_view(trade: TradeRecord) -> TradeView:
    """A trade."""
    taker_side = trade.taker_side
    return TradeView(
        trade_id=str(trade.id),
        symbol=trade.symbol,
        price=format_number(trade.price),
        quantity=format_number(trade.quantity),
        buy_order_id=str(trade.buy_order_id),
        sell_order_id=str(trade.sell_order_id),
        maker_order_id=str(trade.maker_order_id),
        taker_side=None if taker_side is None else _SIDES[taker_side],
        executed_at=format_time(trade.executed_at),
        sequence=trade.sequence,
    )


def order_after(answer: Answer) -> tuple[OrderRecord, list[TradeView]]:
    """The order after its command, and the trades in which it was the taker, in order.

    Raises Problem when the command was refused: with the order's id where the order was recorded as REJECTED. Events about
    other orders, such as expiries that became due with the same command, are passed over.
    """
    order_id, order, trades = answer.order_id, None, []
    for event in answer.events:
        kind = type(event)
        if kind is Traded:
            trade = event.trade  # type: ignore[union-attr]
            if order_id in {trade.buy_order_id, trade.sell_order_id}:
                trades.append(trade_view(trade))
        elif kind in _WHOLE_ORDER:
            if event.order.id == order_id:  # type: ignore[union-attr]
                order = event.order  # type: ignore[union-attr]
                if kind is OrderRejected:
                    raise _rejected(event, answer)  # type: ignore[arg-type]
        elif kind is CommandRefused and event.order_id in {order_id, None}:  # type: ignore[union-attr]
            raise refused(event, replayed=answer.replayed)  # type: ignore[arg-type]
    if order is None:
        raise LookupError(f"no event tells what became of order {order_id}")
    return order, trades


def _rejected(event: OrderRejected, answer: Answer) -> Problem:
    reason = event.order.reason or Reason.INVALID_REQUEST
    return Problem(reason, limit=event.limit, order_id=event.order.id, replayed=answer.replayed)


def refused(event: CommandRefused, *, replayed: bool = False) -> Problem:
    """The refusal of a command that left nothing."""
    return Problem(event.reason, limit=event.limit, replayed=replayed)


def order_answer(answer: Answer) -> OrderAnswer:
    """The answer to a submit or a modify; raises Problem where it was refused."""
    order, trades = order_after(answer)
    return OrderAnswer(**_order_fields(order), executed_trades=trades, replayed=True if answer.replayed else UNSET)


def instrument_changed(events: Iterable[Event]) -> InstrumentRecord | None:
    """The instrument that the events of a definition tell of; raises Problem where it was refused."""
    found = None
    for event in events:
        match event:
            case CommandRefused():
                raise refused(event)
            case InstrumentChanged():
                found = event.instrument
            case _:
                pass
    return found


def instrument_view(record: InstrumentRecord) -> InstrumentView:
    """A listed symbol."""
    return InstrumentView(
        symbol=record.symbol,
        tick_size=format_number(record.tick_size),
        lot_size=format_number(record.lot_size),
        state=_STATES[record.state],
        last_price=_optional(record.last_price),
        sequence=record.sequence,
        listed_at=format_time(record.listed_at),
    )


def market_view(ticker: Ticker) -> MarketView:
    """A symbol at a glance, with what follows from its best prices and its day (N1)."""
    bid, ask, last, opened = ticker.best_bid, ticker.best_ask, ticker.last_price, ticker.open
    return MarketView(
        symbol=ticker.symbol,
        state=_STATES[ticker.state],
        best_bid=_quote(bid),
        best_ask=_quote(ask),
        spread=None if bid is None or ask is None else spread(bid[0], ask[0]),
        mid_price=None if bid is None or ask is None else mid_price(bid[0], ask[0]),
        last_price=_optional(last),
        last_quantity=_optional(ticker.last_quantity),
        open=_optional(opened),
        high=_optional(ticker.high),
        low=_optional(ticker.low),
        volume=format_number(ticker.volume),
        change_percent=None if last is None or not opened else change_percent(opened, last),
        sequence=ticker.sequence,
        timestamp=format_time(ticker.time),
    )


def _aligned(one: int, other: int) -> tuple[int, int, int]:
    """Two numbers as mantissas of the same decimals, and those decimals."""
    (one, one_decimals), (other, other_decimals) = unpack(one), unpack(other)
    decimals = max(one_decimals, other_decimals)
    return one * POWER_OF_TEN[decimals - one_decimals], other * POWER_OF_TEN[decimals - other_decimals], decimals


def spread(bid: int, ask: int) -> str:
    """Ask less bid, exactly, with the prices' decimals."""
    low, high, decimals = _aligned(bid, ask)
    return format_number(pack(high - low, decimals))


def mid_price(bid: int, ask: int) -> str:
    """Half way between bid and ask, rounded half-even to 9 decimals."""
    low, high, decimals = _aligned(bid, ask)
    return ratio_text(low + high, 2 * POWER_OF_TEN[decimals])


def change_percent(opened: int, last: int) -> str:
    """How far last is from the open, in percent of the open, rounded half-even to 9 decimals."""
    before, after, _ = _aligned(opened, last)
    return ratio_text((after - before) * 100, before)


def depth_view(depth: Depth) -> DepthView:
    """A book's levels."""
    return DepthView(
        symbol=depth.symbol,
        sequence=depth.sequence,
        timestamp=format_time(depth.time),
        bids=[_level(level) for level in depth.bids],
        asks=[_level(level) for level in depth.asks],
    )


def queue_view(symbol: str, sequence: int, moment_us: int, orders: Sequence[OrderRecord], levels: int) -> DepthView:
    """A book with the orders of its best `levels` in queue order, made from its resting orders in order of priority."""
    return DepthView(
        symbol=symbol,
        sequence=sequence,
        timestamp=format_time(moment_us),
        bids=_queues([order for order in orders if order.side is Side.BUY], levels, highest_first=True),
        asks=_queues([order for order in orders if order.side is Side.SELL], levels, highest_first=False),
    )


def _queues(orders: list[OrderRecord], levels: int, *, highest_first: bool) -> list[LevelView]:
    by_price: dict[int, list[OrderRecord]] = {}
    for order in orders:
        by_price.setdefault(order.price or 0, []).append(order)
    best = sorted(by_price, key=value_of, reverse=highest_first)[:levels]
    return [_queue(price, by_price[price]) for price in best]


def _queue(price: int, orders: list[OrderRecord]) -> LevelView:
    decimals = max(unpack(order.remaining_quantity)[1] for order in orders)
    total = sum((value_of(order.remaining_quantity) for order in orders), Decimal())
    return LevelView(
        price=format_number(price),
        quantity=f"{total:.{decimals}f}",
        orders=len(orders),
        queue=[
            QueuedOrderView(
                order_id=str(order.id),
                user_id=order.user_id,
                quantity=format_number(order.remaining_quantity),
                created_at=format_time(order.created_at),
            )
            for order in orders
        ],
    )


def _level(level: tuple[int, int, int]) -> LevelView:
    price, quantity, orders = level
    return LevelView(price=format_number(price), quantity=format_number(quantity), orders=orders)


def _quote(quote: tuple[int, int] | None) -> QuoteView | None:
    return None if quote is None else QuoteView(price=format_number(quote[0]), quantity=format_number(quote[1]))


def _optional(number: int | None) -> str | None:
    return None if number is None else format_number(number)
