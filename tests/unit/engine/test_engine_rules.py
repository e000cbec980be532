"""Rules of the engine that a trader's scenario has no words for."""

from __future__ import annotations

from decimal import Decimal
from enum import IntEnum

import pytest
from msgspec import structs

from ome.domain.commands import AdvanceTime, CancelOrder, Command, DefineInstrument, ModifyOrder, NewOrder, Stamped
from ome.domain.enums import OrderStatus, OrderType, Side, TimeInForce
from ome.domain.errors import InvariantBroken
from ome.domain.events import BookChanged, OrderAccepted, OrderCancelled, OrderExpired, OrderFilled, SelfTradePrevented, Traded
from ome.domain.numbers import pack, value_of
from ome.domain.reasons import Reason
from ome.domain.records import EngineSettings, EngineState, InstrumentRecord, InstrumentRules, OrderRecord, SpecialTerms
from ome.engine.engine import Engine

NOW = 1_700_000_000_000_000
B, S = Side.BUY, Side.SELL


def order(user: str, side: Side, quantity: int, price: int, expires_at: int | None = None, client: str | None = None) -> NewOrder:
    """A limit order in X."""
    tif = TimeInForce.GTC if expires_at is None else TimeInForce.GTD
    return NewOrder(
        user, "X", side, OrderType.LIMIT, tif, pack(quantity, 0), pack(price, 0), client_order_id=client, expires_at=expires_at
    )


def engine_after(*commands: Command) -> Engine:
    """An engine that was told these, a microsecond apart from NOW + 1 on."""
    engine = Engine()
    for position, command in enumerate(commands, 1):
        engine.apply(Stamped(position, NOW + position, command))
    return engine


def test_time_never_goes_back() -> None:
    """N2: a command with a time before the last one's is a bug of whoever stamped it, and changes nothing."""
    engine = engine_after(order("ann", S, 5, 100))
    with pytest.raises(InvariantBroken):
        engine.apply(Stamped(2, NOW, AdvanceTime()))
    assert (engine.position, engine.time) == (1, NOW + 1)


def test_time_may_stand_still() -> None:
    """N2: two commands of one moment keep their order by their positions."""
    engine = engine_after(order("ann", S, 5, 100))
    engine.apply(Stamped(2, NOW + 1, order("bob", S, 5, 100)))
    assert [o.user_id for o in sorted(engine.state().orders, key=lambda o: o.priority)] == ["ann", "bob"]


@pytest.mark.parametrize("position", [0, 1, 3])
def test_positions_have_no_gaps(position: int) -> None:
    """M6: a command out of its turn is a bug of whoever stamped it."""
    engine = engine_after(AdvanceTime())
    with pytest.raises(InvariantBroken):
        engine.apply(Stamped(position, NOW + 5, AdvanceTime()))


def test_ids_come_from_the_sequence() -> None:
    """M3, M6: an order's id is its command's position in its shard, a trade's counts the trades, so none ever repeats."""
    engine = Engine(shard=7)
    accepted = engine.apply(Stamped(1, NOW, order("ann", S, 5, 100)))
    traded = engine.apply(Stamped(2, NOW, order("bob", B, 5, 100)))
    assert [event.order.id for event in accepted if isinstance(event, OrderAccepted)] == [7 * 10**15 + 1]
    trades = [event.trade for event in traded if isinstance(event, Traded)]
    assert [(trade.id, trade.position) for trade in trades] == [(7 * 10**15 + 1, 2)]


def test_an_expiry_comes_before_the_command_that_finds_it() -> None:
    """T5: a taker never trades with an order whose deadline has come, to the microsecond."""
    engine = engine_after(order("ann", S, 5, 100, expires_at=NOW + 10))
    events = engine.apply(Stamped(2, NOW + 10, order("bob", B, 5, 100)))
    assert [type(event) for event in events[:2]] == [OrderExpired, OrderAccepted]
    assert not [event for event in events if isinstance(event, Traded)]


def test_an_order_trades_until_its_deadline() -> None:
    """T5: a microsecond before its deadline it still trades."""
    engine = engine_after(order("ann", S, 5, 100, expires_at=NOW + 10))
    events = engine.apply(Stamped(2, NOW + 9, order("bob", B, 5, 100)))
    assert len([event for event in events if isinstance(event, Traded)]) == 1


def test_the_engine_says_when_it_wants_to_be_woken() -> None:
    """T5: the soonest deadline of the open orders, None when there is none."""
    engine = engine_after(order("ann", S, 5, 100, NOW + 90), order("bob", S, 5, 100, NOW + 60), order("cat", S, 5, 100))
    assert engine.next_deadline() == NOW + 60
    engine.apply(Stamped(4, NOW + 10, CancelOrder(2, exists=True)))
    assert engine.next_deadline() == NOW + 90
    engine.apply(Stamped(5, NOW + 90, AdvanceTime()))
    assert engine.next_deadline() is None


def test_what_was_prevented_is_told_with_both_orders() -> None:
    """P2: an event with both ids, the price and the quantity that did not trade; the taker's end follows it."""
    engine = engine_after(order("ann", S, 3, 100))
    events = engine.apply(Stamped(2, NOW + 2, order("ann", B, 5, 101)))
    prevented, ended = events[1:3]
    assert prevented == SelfTradePrevented("X", "ann", 1, 2, pack(10000, 2), pack(3, 0))
    assert isinstance(ended, OrderCancelled)
    assert ended.order.reason is Reason.SELF_TRADE_PREVENTED


def test_a_taker_is_told_of_once_after_all_its_trades() -> None:
    """M1: trades come in the order in which they happened, then the taker as they left it, with what it paid exactly."""
    engine = engine_after(order("ann", S, 3, 100), order("bob", S, 3, 101))
    events = engine.apply(Stamped(3, NOW + 3, order("cat", B, 5, 102)))
    kinds = [type(event) for event in events if not isinstance(event, OrderAccepted)]
    assert kinds[:3] == [Traded, Traded, OrderFilled]
    filled = events[3]
    assert isinstance(filled, OrderFilled)
    assert filled.order.filled_value == "502.00"


def test_the_client_order_id_travels_with_the_order() -> None:
    """I1: the engine carries a client's id through everything that is told and kept of the order."""
    engine = engine_after(order("ann", S, 3, 100, client="mine"))
    [accepted] = [record for record in engine.state().orders if record.id == 1]
    ended = engine.apply(Stamped(2, NOW + 2, CancelOrder(1, exists=True)))
    assert accepted.client_order_id == "mine"
    assert [event.order.client_order_id for event in ended if isinstance(event, OrderCancelled)] == ["mine"]


def test_an_engine_that_has_ended_orders_knows_only_open_ones() -> None:
    """M6, M3: ended orders are not the engine's to know; `exists` in the command tells an ended one from nobody's."""
    engine = engine_after(order("ann", S, 3, 100), CancelOrder(1, exists=True))
    refused = [engine.apply(Stamped(3 + n, NOW + 3, CancelOrder(1, exists=bool(n))))[0] for n in range(2)]
    assert [getattr(event, "reason", None) for event in refused] == [Reason.ORDER_NOT_FOUND, Reason.ORDER_NOT_OPEN]
    assert not engine.is_open(1)
    assert engine.state().orders == []


def test_a_tick_change_after_an_expiry_tells_the_old_levels() -> None:
    """D1, M5: when a sweep empties a book and its command changes the tick, the level that went is told at its own price."""
    engine = engine_after(order("ann", B, 5, 100, expires_at=NOW + 10))
    events = engine.apply(Stamped(2, NOW + 10, DefineInstrument("X", tick_size=pack(25, 3))))
    [change] = [event for event in events if isinstance(event, BookChanged)]
    assert [(side, value_of(price), orders) for side, price, _, orders in change.levels] == [(B, Decimal(100), 0)]


def varied(value: object) -> object:
    """Another value of the same kind."""
    match value:
        case bool():
            return not value
        case IntEnum():
            return next(member for member in type(value) if member is not value)
        case int():
            return value + 10
        case str():
            return value + "0"
        case InstrumentRules():
            return InstrumentRules(session_close_s=60)
        case None:
            return 7
        case _:
            raise TypeError(f"no other value for {value}")


def known_state() -> EngineState:
    """A state with a bit of everything in it: one symbol that has traded, one order that is partly filled and has a deadline."""
    return engine_after(order("ann", S, 5, 100, expires_at=NOW + 10**9, client="mine"), order("bob", B, 2, 100)).state()


def varied_order(record: OrderRecord, field: str) -> OrderRecord:
    """The same order but for one field."""
    value = SpecialTerms(post_only=True) if field == "terms" else varied(getattr(record, field))
    return structs.replace(record, **{field: value})


STATE = known_state()


@pytest.mark.parametrize("field", EngineSettings.__struct_fields__)
def test_the_state_hash_covers_the_settings(field: str) -> None:
    """M6, HOLE17: settings are part of what the engine knows."""
    settings = structs.replace(STATE.settings, **{field: varied(getattr(STATE.settings, field))})
    other = Engine.restore(structs.replace(STATE, settings=settings))
    assert other.state_hash() != Engine.restore(STATE).state_hash()


@pytest.mark.parametrize("field", ["shard", "position", "time", "trade_count", "priority_count"])
def test_the_state_hash_covers_the_counters(field: str) -> None:
    """M6, HOLE17: so are the counters."""
    other = Engine.restore(structs.replace(STATE, **{field: varied(getattr(STATE, field))}))
    assert other.state_hash() != Engine.restore(STATE).state_hash()


@pytest.mark.parametrize("field", [name for name in InstrumentRecord.__struct_fields__ if name != "symbol"])
def test_the_state_hash_covers_every_field_of_a_symbol(field: str) -> None:
    """M6, HOLE17: tick, lot, state, sequence and last trade of every symbol count."""
    [instrument] = STATE.instruments
    changed = structs.replace(instrument, **{field: varied(getattr(instrument, field))})
    other = Engine.restore(structs.replace(STATE, instruments=[changed]))
    assert other.state_hash() != Engine.restore(STATE).state_hash()


@pytest.mark.parametrize("field", [name for name in OrderRecord.__struct_fields__ if name != "symbol"])
def test_the_state_hash_covers_every_field_of_an_order(field: str) -> None:
    """M6, HOLE17: every field of an open order counts, its place in the queue above all."""
    [record] = STATE.orders
    other = Engine.restore(structs.replace(STATE, orders=[varied_order(record, field)]))
    assert other.state_hash() != Engine.restore(STATE).state_hash()


@pytest.mark.parametrize("field", SpecialTerms.__struct_fields__)
def test_the_state_hash_covers_every_term_of_a_stop(field: str) -> None:
    """M6, S6: where a trail stands, what it has seen and whether it is due are part of what the engine knows."""
    trail = NewOrder(
        "ann", "X", S, OrderType.TRAILING_STOP, TimeInForce.GTC, pack(5, 0), terms=SpecialTerms(trail_amount=pack(3, 0))
    )
    state = engine_after(order("ann", S, 1, 100), order("bob", B, 1, 100), trail).state()
    [record] = state.orders
    assert record.terms is not None
    value = getattr(record.terms, field)
    changed = structs.replace(record, terms=structs.replace(record.terms, **{field: varied(value)}))
    other = Engine.restore(structs.replace(state, orders=[changed]))
    assert other.state_hash() != Engine.restore(state).state_hash()


def test_an_engine_goes_on_where_its_state_left_off() -> None:
    """DUR6: a restored engine gives the next ids and places, not used ones."""
    engine = Engine.restore(STATE)
    events = engine.apply(Stamped(3, NOW + 3, order("cat", B, 3, 100)))
    assert [event.trade.id for event in events if isinstance(event, Traded)] == [2]
    assert engine.priority_count > STATE.priority_count


def trailing(percent: int) -> NewOrder:
    """A sell in X that trails by a percentage."""
    terms = SpecialTerms(trail_percent=percent)
    return NewOrder("cat", "X", S, OrderType.TRAILING_STOP, TimeInForce.IOC, pack(5, 0), terms=terms)


def test_a_trail_is_less_than_the_whole_price() -> None:
    """S6: from 100 percent on a trail is refused, new or changed: a sell would never fire, a buy's stop would have no bound."""
    engine = engine_after(
        trailing(pack(99999, 3)), trailing(pack(100, 0)), ModifyOrder(1, exists=True, trail_percent=pack(101, 0))
    )
    changes = engine.take_changes()
    rejected = [(record.id, record.reason) for record in changes.orders if record.status is OrderStatus.REJECTED]
    assert rejected == [(2, Reason.TRAIL_TOO_LARGE)]
    assert [record.version for record in engine.state().orders] == [1]


def test_a_passing_of_time_ends_a_crowd_in_chunks() -> None:
    """I2, T5: one AdvanceTime ends at most 500 orders, the next goes on; any other command ends all that are due."""
    engine = engine_after(*[order("ann", S, 1, 100, expires_at=NOW + 2000) for _ in range(1100)])
    ended = [len(engine.apply(Stamped(1101 + n, NOW + 2000, AdvanceTime()))) - 1 for n in range(2)]
    assert ended == [500, 500]
    assert engine.next_deadline() == NOW + 2000
    events = engine.apply(Stamped(1103, NOW + 2000, order("bob", B, 1, 100)))
    assert [type(event) for event in events[:100]] == [OrderExpired] * 100
    assert len(engine.state().orders) == 1


def test_a_taker_meets_a_bounded_number_of_slices() -> None:
    """T6: an iceberg is cut into a thousand slices at most, however it came by its size, so that one command ends."""
    thin = SpecialTerms(display_quantity=pack(2, 0))
    iceberg = NewOrder("ann", "X", S, OrderType.LIMIT, TimeInForce.GTC, pack(2000, 0), pack(100, 0), terms=thin)
    engine = engine_after(
        structs.replace(iceberg, quantity=pack(2001, 0)),
        iceberg,
        ModifyOrder(2, exists=True, quantity=pack(2001, 0)),
        ModifyOrder(2, exists=True, display_quantity=pack(1, 0)),
    )
    [resting] = engine.state().orders
    assert (resting.id, resting.version) == (2, 1)
    events = engine.apply(Stamped(5, NOW + 5, order("bob", B, 5000, 100)))
    assert len([event for event in events if isinstance(event, Traded)]) == 1000


def test_what_changed_is_handed_over_once() -> None:
    """Every order and symbol that changed since the last call, once, as it is now."""
    engine = engine_after(order("ann", S, 5, 100), order("bob", B, 2, 100), order("cat", B, 3, 100))
    changes = engine.take_changes()
    assert sorted((record.id, record.status) for record in changes.orders) == [(n, OrderStatus.FILLED) for n in (1, 2, 3)]
    assert [record.symbol for record in changes.instruments] == ["X"]
    assert engine.take_changes().orders == []
    assert engine.take_changes().instruments == []
