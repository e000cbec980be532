"""An engine's events and state in the twin's words, so that the two can be compared for equality."""

from __future__ import annotations

from collections.abc import Sequence

from ome.domain.enums import MarketState, Side
from ome.domain.events import (
    BookChanged,
    CommandRefused,
    Event,
    InstrumentChanged,
    OrderAccepted,
    OrderCancelled,
    OrderExpired,
    OrderFilled,
    OrderModified,
    OrderRejected,
    SelfTradePrevented,
    Traded,
)
from ome.domain.records import EngineState, InstrumentRecord, OrderRecord
from reference.twin import DECIMALS, Outcome, Picture, Trade, Twin, exact

_NAMES = {
    OrderAccepted: "accepted",
    OrderRejected: "rejected",
    OrderFilled: "filled",
    OrderModified: "modified",
    OrderCancelled: "cancelled",
    OrderExpired: "expired",
}


def picture(record: OrderRecord) -> Picture:
    """A record in the twin's units."""
    whole, _, fraction = record.filled_value.partition(".")
    r = record
    return Picture(
        r.id, r.user_id, r.symbol, r.side, r.type, r.time_in_force, r.self_trade_prevention, r.client_order_id, exact(r.quantity),
        None if r.price is None else exact(r.price), exact(r.filled_quantity), int(whole + fraction.ljust(2 * DECIMALS, "0")),
        exact(r.remaining_quantity), r.status, r.reason, r.version, r.expires_at, r.created_at, r.updated_at,
    )  # fmt: skip


def outcome_of(events: Sequence[Event]) -> Outcome:
    """What an engine's events tell, as the twin would tell it; a book's update must come after all else of its symbol."""
    out = Outcome()
    for event in events:
        match event:
            case Traded(trade, _, _, maker_filled, maker_remaining):
                assert trade.taker_side is not None, "continuous trading has a taker"
                assert trade.symbol not in out.books, "a trade after its book's update"
                out.trades.append(
                    Trade(trade.id, trade.symbol, exact(trade.price), exact(trade.quantity), trade.maker_order_id,
                          trade.taker_order_id, trade.taker_side, trade.executed_at, trade.sequence, exact(maker_filled),
                          exact(maker_remaining))
                )  # fmt: skip
            case SelfTradePrevented():
                met = (event.maker_order_id, event.taker_order_id, exact(event.price), exact(event.quantity))
                out.prevented.append(met)
            case CommandRefused(order_id, reason):
                assert out.refused is None, "refused twice"
                out.refused = (order_id, reason)
            case InstrumentChanged(instrument):
                row = (instrument.symbol, instrument.sequence, exact(instrument.tick_size), exact(instrument.lot_size))
                out.markets.append(row)
            case BookChanged():
                assert event.symbol not in out.books, "one update per command and symbol"
                levels = sorted((side, exact(price), exact(quantity), orders) for side, price, quantity, orders in event.levels)
                out.books[event.symbol] = (event.sequence, levels)
            case _:
                assert event.order.symbol not in out.books, "an order event after its book's update"
                out.orders.append((_NAMES[type(event)], picture(event.order)))
    return out


def differences(twin: Outcome, engine: Outcome) -> list[str]:
    """What the two outcomes of one command disagree on, in words; empty when they agree."""
    return [
        f"{name}:\n    twin   {getattr(twin, name)}\n    engine {getattr(engine, name)}"
        for name in ("refused", "trades", "prevented", "orders", "markets", "books")
        if getattr(twin, name) != getattr(engine, name)
    ]


def queue_of(state: EngineState, symbol: str, side: Side) -> list[Picture]:
    """One side of a book in the order in which it trades, from a state's records and their priorities."""
    orders = [order for order in state.orders if order.symbol == symbol and order.side is side]
    sign = -1 if side is Side.BUY else 1
    return [picture(order) for order in sorted(orders, key=lambda order: (sign * exact(order.price or 0), order.priority))]


def assert_same_state(twin: Twin, state: EngineState) -> None:
    """Every symbol, every open order, every queue and every count is the same."""
    assert (state.position, state.time, state.trade_count) == (twin.position, twin.time, twin.trade_count)
    assert state.settings == twin.settings
    assert len({order.priority for order in state.orders}) == len(state.orders), "priorities are unique in a shard"
    assert {order.id for order in state.orders} == {order.id for order in twin.resting}
    assert sorted(record.symbol for record in state.instruments) == sorted(twin.markets)
    for record in state.instruments:
        assert_same_market(twin, record)
        for side in Side:
            assert queue_of(state, record.symbol, side) == [order.picture() for order in twin.queue(record.symbol, side)]


def assert_same_market(twin: Twin, record: InstrumentRecord) -> None:
    """A listed symbol is the same in both."""
    market = twin.markets[record.symbol]
    assert record.state is MarketState.OPEN
    assert (exact(record.tick_size), exact(record.lot_size)) == (market.tick, market.lot)
    assert (record.sequence, record.listed_at) == (market.sequence, market.listed_at)
    if record.last_price is None or record.last_quantity is None or record.last_trade_at is None:
        assert market.last is None
    else:
        assert (exact(record.last_price), exact(record.last_quantity), record.last_trade_at) == market.last
