"""What became of an order in its command: from events to the order as it stands and the trades that it made."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest

from fakes import NOW, order_record
from ome.api.outcomes import order_after
from ome.api.views import order_view
from ome.domain.commands import CancelOrder, Command, ModifyOrder, NewOrder, Stamped
from ome.domain.enums import OrderStatus, OrderType, SelfTradePrevention, Side, TimeInForce
from ome.domain.events import (
    CommandRefused,
    Event,
    OrderAccepted,
    OrderCancelled,
    OrderFilled,
    OrderRejected,
    OrderTriggered,
    SelfTradePrevented,
    Traded,
)
from ome.domain.numbers import pack
from ome.domain.ports import Answer
from ome.domain.records import SpecialTerms, TradeRecord
from ome.engine.engine import Engine

ME, OTHER = 1_000_000_000_000_001, 5
SEEDS = 12
STEPS = 400


def trade(number: int, *, taker: int, maker: int, lots: int = 40, price: int = 15050) -> Traded:
    """A trade of `lots` at `price` cents that leaves the maker with the rest of a hundred; the taker buys."""
    record = TradeRecord(number, "AAPL", pack(price, 2), pack(lots, 0), taker, maker, Side.BUY, NOW + 7, number, 3)
    return Traded(record, "bob", "alice", pack(lots, 0), pack(100 - lots, 0))


def changed(**fields: Any) -> Any:
    """My order, otherwise."""
    return order_record(**fields)


def test_a_stop_that_fires_at_once_ends_as_what_it_became() -> None:
    """S2: accepted, triggered, traded; the last word counts, and its own trades are in the answer."""
    waiting = changed(status=OrderStatus.PENDING_TRIGGER, type=OrderType.STOP)
    fired = msgspec.structs.replace(waiting, status=OrderStatus.PENDING, terms=SpecialTerms(triggered_at=NOW))
    filled = msgspec.structs.replace(fired, status=OrderStatus.FILLED, remaining_quantity=0, filled_quantity=pack(100, 0))
    events: list[Event] = [
        OrderAccepted(waiting),
        OrderTriggered(fired),
        trade(1, taker=ME, maker=OTHER),
        OrderFilled(filled),
        trade(2, taker=9, maker=8),
    ]
    order, trades = order_after(Answer(ME, events))
    assert (order, [each.id for each in trades]) == (filled, [1])


def test_what_an_order_set_off_is_not_its_own() -> None:
    """Trades of stops that it released are theirs, though it may have been the maker in them."""
    rests = changed(status=OrderStatus.PARTIALLY_FILLED, filled_quantity=pack(10, 0), filled_value="1500.00")
    stop = changed(id=OTHER, type=OrderType.STOP)
    events: list[Event] = [OrderFilled(rests), OrderTriggered(stop), trade(2, taker=OTHER, maker=ME)]
    order, trades = order_after(Answer(ME, events))
    assert trades == []
    assert (order.filled_quantity, order.remaining_quantity, order.status) == (
        pack(40, 0),
        pack(60, 0),
        OrderStatus.PARTIALLY_FILLED,
    )
    assert (order.filled_value, order.updated_at) == ("7520.00", NOW + 7)


@pytest.mark.parametrize(
    ("value", "price", "decimals", "lots", "after"),
    [
        ("0", 15050, 2, 4, "602.00"),
        ("0", 3, 0, 4, "12"),
        ("999999999999999000000000000.00", 99999999999999999, 2, 10**15, "1000999999999999989000000000000.00"),
        ("0.10", 5, 2, 1, "0.15"),
    ],
)
def test_the_value_of_fills_stays_exact(value: str, price: int, decimals: int, lots: int, after: str) -> None:
    """As maker too, with all the digits there are and the instrument's decimals."""
    record = TradeRecord(1, "AAPL", pack(price, decimals), pack(lots, 0), OTHER, ME, Side.BUY, NOW, 1, 1)
    events: list[Event] = [OrderAccepted(changed(filled_value=value)), Traded(record, "a", "b", pack(lots, 0), 0)]
    order, _ = order_after(Answer(ME, events))
    assert (order.filled_value, order.status) == (after, OrderStatus.FILLED)


def test_what_was_taken_off_an_order_that_rests_is_told() -> None:
    """P1, DECREMENT: as taker by its own mode, as maker by that of the stop that it met; other modes end orders instead."""
    mine = changed(self_trade_prevention=SelfTradePrevention.DECREMENT)
    met = SelfTradePrevented("AAPL", "alice", OTHER, ME, pack(15050, 2), pack(30, 0))
    order, _ = order_after(Answer(ME, [OrderAccepted(mine), met, met]))
    assert order.terms is not None
    assert (order.remaining_quantity, order.terms.prevented_quantity, order.status) == (
        pack(40, 0),
        pack(60, 0),
        OrderStatus.PENDING,
    )
    as_maker = SelfTradePrevented("AAPL", "alice", ME, OTHER, pack(15050, 2), pack(30, 0))
    for mode, left in ((SelfTradePrevention.DECREMENT, 70), (SelfTradePrevention.CANCEL_NEWEST, 100)):
        stop = changed(id=OTHER, type=OrderType.STOP, self_trade_prevention=mode)
        order, _ = order_after(Answer(ME, [OrderAccepted(changed()), OrderTriggered(stop), as_maker]))
        assert order.remaining_quantity == pack(left, 0)
    others = SelfTradePrevented("AAPL", "bob", 8, 9, pack(15050, 2), pack(30, 0))
    assert order_after(Answer(ME, [OrderAccepted(mine), others]))[0] == mine


def test_a_prevention_after_the_end_changes_nothing_more() -> None:
    """N3: an ended order has nothing open, whatever came before its end."""
    ended = changed(status=OrderStatus.CANCELLED, remaining_quantity=0, self_trade_prevention=SelfTradePrevention.DECREMENT)
    met = SelfTradePrevented("AAPL", "alice", OTHER, ME, pack(15050, 2), pack(30, 0))
    assert order_after(Answer(ME, [OrderAccepted(changed()), OrderCancelled(ended), met]))[0] == ended


def some_command(chance: random.Random, open_ids: list[int]) -> Command:
    """A command of any kind, with few users and prices, so that everybody meets everybody."""
    if open_ids and chance.random() < 0.25:
        order_id = chance.choice(open_ids)
        if chance.random() < 0.3:
            return CancelOrder(order_id, exists=True)
        quantity = pack(chance.randint(1, 30), 0) if chance.random() < 0.6 else None
        return ModifyOrder(order_id, exists=True, quantity=quantity, price=pack(chance.randint(95, 105), 0))
    kind = chance.choice(
        [OrderType.LIMIT] * 4 + [OrderType.MARKET, OrderType.STOP, OrderType.STOP_LIMIT, OrderType.TRAILING_STOP]
    )
    terms: dict[str, Any] = {}
    if kind in {OrderType.STOP, OrderType.STOP_LIMIT}:
        terms["stop_price"] = pack(chance.randint(95, 105), 0)
    if kind is OrderType.TRAILING_STOP:
        terms["trail_amount"] = pack(chance.randint(1, 3), 0)
    if kind is OrderType.LIMIT and chance.random() < 0.3:
        terms["display_quantity"] = pack(1, 0)
    priced = kind in {OrderType.LIMIT, OrderType.STOP_LIMIT}
    time_in_force = chance.choice([TimeInForce.GTC] * 4 + [TimeInForce.IOC]) if priced and not terms else TimeInForce.GTC
    return NewOrder(
        chance.choice("abc"),
        "X",
        chance.choice(list(Side)),
        kind,
        time_in_force if priced else TimeInForce.IOC,
        pack(chance.randint(1, 20), 0),
        pack(chance.randint(95, 105), 0) if priced else None,
        chance.choice(list(SelfTradePrevention)),
        terms=SpecialTerms(**terms) if terms else None,
    )


@pytest.mark.parametrize("seed", range(SEEDS))
def test_an_answer_is_the_order_as_the_engine_has_it(seed: int) -> None:
    """DUR4: after any command, with cascades and preventions of every mode, the answer shows what a read would show."""
    chance, engine, open_ids = random.Random(seed), Engine(), list[int]()
    compared = 0
    for position in range(1, STEPS + 1):
        command = some_command(chance, open_ids)
        events = engine.apply(Stamped(position, NOW + position, command))
        kept = {order.id: order for order in engine.take_changes().orders}
        order_id = position if isinstance(command, NewOrder) else command.order_id  # type: ignore[union-attr]
        if not any(isinstance(event, CommandRefused | OrderRejected) for event in events):
            order, trades = order_after(Answer(order_id, events))
            assert order_view(order) == order_view(kept[order_id])
            assert all(order_id == each.taker_order_id for each in trades)
            compared += 1
        open_ids = [order_id for order_id in {*open_ids, *kept} if engine.is_open(order_id)]
    assert compared > STEPS // 3
