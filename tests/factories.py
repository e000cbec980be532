"""Orders, trades and batches made by hand, for tests that need no engine. What isn't named has an unremarkable value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from ome.domain.batch import Batch
from ome.domain.commands import NewOrder, Stamped, encode_commands
from ome.domain.enums import MarketState, OrderStatus, OrderType, SelfTradePrevention, Side, TimeInForce
from ome.domain.events import CommandEvents, OrderAccepted, OrderFilled, PrivateEvent, Traded, encode_events, users_of
from ome.domain.ids import SHARD_STEP, make_id
from ome.domain.numbers import pack
from ome.domain.records import EngineSettings, InstrumentRecord, OrderRecord, SpecialTerms, TradeRecord

START_US = 1_795_341_600_000_000
"""2026-11-22T10:00:00Z; the command at position n has this time plus n microseconds."""


def an_order(order_id: int, **fields: Any) -> OrderRecord:
    """A resting buy of 10 AAPL at 150.50, of user alice, whose place in the queue is its id."""
    order = OrderRecord(
        id=order_id,
        user_id="alice",
        symbol="AAPL",
        side=Side.BUY,
        type=OrderType.LIMIT,
        time_in_force=TimeInForce.GTC,
        quantity=pack(10, 0),
        price=pack(15050, 2),
        filled_quantity=pack(0, 0),
        filled_value="0",
        remaining_quantity=pack(10, 0),
        status=OrderStatus.PENDING,
        reason=None,
        version=1,
        priority=order_id % SHARD_STEP,
        self_trade_prevention=SelfTradePrevention.CANCEL_NEWEST,
        client_order_id=None,
        expires_at=None,
        created_at=START_US + order_id % SHARD_STEP,
        updated_at=START_US + order_id % SHARD_STEP,
    )
    return replace(order, **fields)


def a_stop(order_id: int, **fields: Any) -> OrderRecord:
    """The same order as a stop limit that waits until AAPL trades at 155.00 or higher."""
    terms = fields.pop("terms", SpecialTerms(stop_price=pack(15500, 2)))
    return an_order(order_id, type=OrderType.STOP_LIMIT, status=OrderStatus.PENDING_TRIGGER, terms=terms, **fields)


def filled(order: OrderRecord, **fields: Any) -> OrderRecord:
    """The order, filled completely."""
    done = {"filled_quantity": order.quantity, "remaining_quantity": pack(0, 0), "status": OrderStatus.FILLED}
    return replace(order, **done, **fields)


def a_trade(trade_id: int, buy: OrderRecord, sell: OrderRecord, *, taker: Side, **fields: Any) -> TradeRecord:
    """A trade of all of the older order, at its price, by the command of the newer one."""
    newer = max(buy.id, sell.id) % SHARD_STEP
    maker = sell if taker is Side.BUY else buy
    trade = TradeRecord(
        id=trade_id,
        symbol=buy.symbol,
        price=maker.price or 0,
        quantity=maker.quantity,
        buy_order_id=buy.id,
        sell_order_id=sell.id,
        taker_side=taker,
        executed_at=START_US + newer,
        sequence=newer,
        position=newer,
    )
    return replace(trade, **fields)


def an_instrument(symbol: str = "AAPL", **fields: Any) -> InstrumentRecord:
    """A listed symbol with tick 0.01 and lot 1 that has not traded."""
    instrument = InstrumentRecord(symbol, pack(1, 2), pack(1, 0), MarketState.OPEN, 0, None, None, None, START_US)
    return replace(instrument, **fields)


def a_batch(
    first: int,
    last: int,
    *,
    orders: Sequence[OrderRecord] = (),
    trades: Sequence[TradeRecord] = (),
    instruments: Sequence[InstrumentRecord] = (),
    events: Sequence[CommandEvents] = (),
    shard: int = 0,
    **fields: Any,
) -> Batch:
    """The batch of positions `first` to `last` that left these records and events; the indexes are made from the events."""
    batch = Batch(
        first_position=first,
        last_position=last,
        time=START_US + last,
        trade_count=max((trade.id % SHARD_STEP for trade in trades), default=0),
        priority_count=last,
        settings=EngineSettings(),
        state_hash=last * 7_919,
        commands=encode_commands([Stamped(n, START_US + n, a_command()) for n in range(first, last + 1)]),
        events=encode_events(list(events)),
        orders=list(orders),
        trades=list(trades),
        instruments=list(instruments),
        user_ids=sorted({user for each in events for event in each.events for user in users_of(event)}),
        touched_order_ids=sorted({each for events_ in events for each in _orders_named(events_) if each < make_id(shard, first)}),
    )
    return replace(batch, **fields)


def a_command() -> NewOrder:
    """A command for the journal."""
    return NewOrder("alice", "AAPL", Side.BUY, OrderType.LIMIT, TimeInForce.GTC, pack(10, 0), pack(15050, 2))


def happened(position: int, *events: PrivateEvent) -> CommandEvents:
    """What one command led to."""
    return CommandEvents(position, START_US + position, list(events))


def resting_batch(first: int, count: int, *, users: int = 50, shard: int = 0, **fields: Any) -> Batch:
    """A batch of new orders that rest, one for each command, of so many users."""
    ids = range(make_id(shard, first), make_id(shard, first + count))
    orders = [an_order(order_id, user_id=f"user-{order_id % users}", **fields) for order_id in ids]
    events = [happened(order.id % SHARD_STEP, OrderAccepted(order)) for order in orders]
    return a_batch(first, first + count - 1, orders=orders, events=events, shard=shard)


def trading_batch(
    first: int, trade_id: int, *, seller: str = "bob", buyer: str = "carol", shard: int = 0, **fields: Any
) -> Batch:
    """Two commands: a seller rests and a buyer takes all of it. The records are as after both."""
    sell = an_order(make_id(shard, first), user_id=seller, side=Side.SELL, **fields)
    buy = an_order(make_id(shard, first + 1), user_id=buyer, **fields)
    trade = a_trade(make_id(shard, trade_id), buy, sell, taker=Side.BUY)
    traded = Traded(trade, seller, buyer, sell.quantity, 0)
    events = [
        happened(first, OrderAccepted(sell)),
        happened(first + 1, OrderAccepted(buy), traded, OrderFilled(filled(buy))),
    ]
    return a_batch(first, first + 1, orders=[filled(sell), filled(buy)], trades=[trade], events=events, shard=shard)


def _orders_named(command: CommandEvents) -> set[int]:
    named: set[int] = set()
    for event in command.events:
        if isinstance(event, Traded):
            named |= {event.trade.buy_order_id, event.trade.sell_order_id}
        elif (order := getattr(event, "order", None)) is not None:
            named.add(order.id)
        elif (order_id := getattr(event, "order_id", None)) is not None:
            named.add(order_id)
    return named
