"""Records and events into the shapes of `schemas`, exactly as the contract has them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from decimal import Decimal
from typing import Any, Final, TypeVar

from msgspec import UNSET, structs

from ome.api.outcomes import order_after, refused
from ome.api.problems import Problem
from ome.api.schemas import (
    AuctionView,
    DepthView,
    ExecutedTrade,
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
from ome.domain.events import CommandRefused, Event, InstrumentChanged
from ome.domain.numbers import POWER_OF_TEN, format_number, pack, ratio_text, unpack, value_of
from ome.domain.ports import Answer, Auction, Depth, Ticker
from ome.domain.reasons import Reason
from ome.domain.records import InstrumentRecord, OrderRecord, SpecialTerms, TradeRecord

# An enum member's `name` is a property; a table by its number is three times as fast
_SIDES: Final = tuple(side.name for side in Side)
_TYPES: Final = tuple(kind.name for kind in OrderType)
_TIMES_IN_FORCE: Final = tuple(time_in_force.name for time_in_force in TimeInForce)
_MODES: Final = tuple(mode.name for mode in SelfTradePrevention)
_STATUSES: Final = tuple(status.name for status in OrderStatus)
_STATES: Final = tuple(state.name for state in MarketState)
_CODES: Final = {reason: reason.code for reason in Reason}
_TERMS: Final = ("trail_amount", "trail_percent", "limit_offset", "display_quantity", "min_quantity")
"""The special terms that are numbers and shown where the order was given them."""
Trade = TypeVar("Trade", bound=ExecutedTrade)


def average_price(order: OrderRecord) -> str | None:
    """What an order's fills cost on average, rounded half-even to 9 decimals (N1), from exact integers; None without fills."""
    if order.filled_quantity < 10:  # nothing, whatever its decimals
        return None
    filled, filled_decimals = unpack(order.filled_quantity)
    whole, _, fraction = order.filled_value.partition(".")
    return ratio_text(int(whole + fraction) * POWER_OF_TEN[filled_decimals], filled * 10 ** len(fraction))


def _order_fields(order: OrderRecord) -> dict[str, Any]:
    price, reason, expires_at = order.price, order.reason, order.expires_at
    created_at = format_time(order.created_at)
    fields = {
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
    if order.terms is not None:
        _add_terms(fields, order.terms)
    return fields


def _add_terms(fields: dict[str, Any], terms: SpecialTerms) -> None:
    """What the order was given beyond the plain, and where that stands."""
    fields["stop_price"] = _optional(terms.stop_price)
    fields["triggered_at"] = None if terms.triggered_at is None else format_time(terms.triggered_at)
    for name in _TERMS:
        number = getattr(terms, name)
        if number is not None:
            fields[name] = format_number(number)
    if terms.post_only:
        fields["post_only"] = True
    if terms.max_slippage_bps is not None:
        fields["max_slippage_bps"] = terms.max_slippage_bps
    if terms.prevented_quantity is not None and unpack(terms.prevented_quantity)[0]:
        fields["prevented_quantity"] = format_number(terms.prevented_quantity)


def order_view(order: OrderRecord) -> OrderView:
    """An order as it stands."""
    return OrderView(**_order_fields(order))


def _trade(kind: type[Trade], trade: TradeRecord) -> Trade:
    taker_side = trade.taker_side
    return kind(
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


def trade_view(trade: TradeRecord) -> TradeView:
    """A trade."""
    return _trade(TradeView, trade)


def order_answer(answer: Answer) -> OrderAnswer:
    """The answer to a submit, modify or cancel; raises Problem where it was refused."""
    order, trades = order_after(answer)
    return OrderAnswer(
        **_order_fields(order),
        executed_trades=[_trade(ExecutedTrade, trade) for trade in trades],
        replayed=True if answer.replayed else UNSET,
    )


def dry_run_answer(answer: Answer, unreal: Collection[int], *, is_alone: bool = False) -> OrderAnswer:
    """The answer that a dry run gets: ids that nobody has, those of its trades and of the orders in `unreal`, are null. So are,
    for a caller who `is_alone`, those of the orders that it would trade with: no trade has made them public.

    Raises Problem where it would be refused; it names no order, since none was recorded.
    """
    try:
        shown = order_answer(answer)
    except Problem as problem:
        problem.dry_run = True
        problem.order_id = problem.order_id if answer.replayed else None
        raise
    if answer.replayed:
        return structs.replace(shown, dry_run=True)
    hidden = {str(order_id) for order_id in unreal}
    if is_alone:
        hidden |= {each for trade in shown.executed_trades for each in (trade.buy_order_id, trade.sell_order_id) if each}
        hidden -= {str(answer.order_id)} - {str(order_id) for order_id in unreal}
    return structs.replace(
        shown,
        order_id=_real(shown.order_id, hidden),
        executed_trades=[_dry_trade(trade, hidden) for trade in shown.executed_trades],
        dry_run=True,
    )


def _dry_trade(trade: ExecutedTrade, nobodys: Collection[str]) -> ExecutedTrade:
    return structs.replace(
        trade,
        trade_id=None,
        buy_order_id=_real(trade.buy_order_id, nobodys),
        sell_order_id=_real(trade.sell_order_id, nobodys),
        maker_order_id=_real(trade.maker_order_id, nobodys),
    )


def _real(order_id: str | None, nobodys: Collection[str]) -> str | None:
    return None if order_id in nobodys else order_id


def instrument_changed(events: Iterable[Event], symbol: str) -> InstrumentRecord | None:
    """The instrument as the events of its definition leave it; raises Problem where that was refused."""
    found = None
    for event in events:
        match event:
            case CommandRefused():
                raise refused(event)
            case InstrumentChanged() if event.instrument.symbol == symbol:
                found = event.instrument
            case _:
                pass
    return found


def instrument_view(record: InstrumentRecord) -> InstrumentView:
    """A listed symbol."""
    rules = record.rules
    return InstrumentView(
        symbol=record.symbol,
        tick_size=format_number(record.tick_size),
        lot_size=format_number(record.lot_size),
        max_order_quantity=_optional(rules.max_order_quantity),
        price_band_percent=_optional(rules.price_band_percent),
        band_halt_seconds=rules.band_halt_s,
        session_close=time_of_day(rules.session_close_s),
        state=_STATES[record.state],
        halted_until=None if rules.halted_until is None else format_time(rules.halted_until),
        last_price=_optional(record.last_price),
        sequence=record.sequence,
        listed_at=format_time(record.listed_at),
        base_asset=rules.base_asset,
        quote_asset=rules.quote_asset,
        maker_fee_bps=rules.maker_fee_bps,
        taker_fee_bps=rules.taker_fee_bps,
    )


def time_of_day(seconds: int) -> str:
    """Seconds after midnight as HH:MM:SS."""
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def auction_view(auction: Auction) -> AuctionView:
    """What a running auction would give now."""
    return AuctionView(
        symbol=auction.symbol,
        state=MarketState.AUCTION.name,
        indicative_price=_optional(auction.price),
        indicative_volume=format_number(auction.volume),
        imbalance=format_number(auction.imbalance),
        imbalance_side=None if auction.surplus_side is None else _SIDES[auction.surplus_side],
        sequence=auction.sequence,
        timestamp=format_time(auction.time),
    )


def market_view(ticker: Ticker) -> MarketView:
    """A symbol at a glance, with what follows from its best prices and its day (N1)."""
    bid, ask, last, opened = ticker.best_bid, ticker.best_ask, ticker.last_price, ticker.open
    return MarketView(
        symbol=ticker.symbol,
        state=_STATES[ticker.state],
        best_bid=quote_view(bid),
        best_ask=quote_view(ask),
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


def quote_view(quote: tuple[int, int] | None) -> QuoteView | None:
    """The best price of a side and what is there."""
    return None if quote is None else QuoteView(price=format_number(quote[0]), quantity=format_number(quote[1]))


def _optional(number: int | None) -> str | None:
    return None if number is None else format_number(number)
