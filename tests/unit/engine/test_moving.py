"""A symbol that moves from engine to engine: nothing of it changes on the way, nothing of it stays behind."""

from __future__ import annotations

from random import Random

import pytest
from msgspec import structs

from ome.domain.commands import Admit, CancelAllAfter, Command, DefineInstrument, NewOrder, Release, SetKill, SetLimits, Stamped
from ome.domain.enums import MarketState, OrderStatus, OrderType, SelfTradePrevention, Side, TimeInForce
from ome.domain.errors import StorageUnusable
from ome.domain.events import (
    CommandRefused,
    Event,
    OrderCancelled,
    OrderExpired,
    OrderRejected,
    OrderTriggered,
    SymbolAdmitted,
    SymbolReleased,
    Traded,
)
from ome.domain.ids import SHARD_STEP
from ome.domain.moves import SymbolState, decode_state, encode_state, hash_of_state
from ome.domain.numbers import pack
from ome.domain.reasons import Reason
from ome.domain.records import EngineSettings, EngineState, Limits, OrderRecord, SpecialTerms
from ome.engine.changes import Changes
from ome.engine.engine import Engine
from properties.flow import SECOND, Flow
from properties.pair import START

SYMBOL = "AAA"


class Shard:
    """An engine, its clock, and all that it was told."""

    def __init__(self, number: int) -> None:
        self.engine = Engine(number)
        self.journal: list[Stamped] = []

    def send(self, command: Command, time: int) -> list[Event]:
        """Apply a command."""
        self.journal.append(Stamped(self.engine.position + 1, max(time, self.engine.time), command))
        return self.engine.apply(self.journal[-1])

    def give(self, target: int, time: int, symbol: str = SYMBOL) -> tuple[Admit, Changes]:
        """Release a symbol: the command that the other one is to be told, and what the database is."""
        self.engine.take_changes()
        [*_, released] = self.send(Release(symbol, target), time)
        assert released == SymbolReleased(symbol, target)
        changes = self.engine.take_changes()
        [move] = changes.moves
        assert (move.shard, move.position, move.symbol, move.target) == (self.engine.shard, self.engine.position, symbol, target)
        assert changes.released == {symbol}
        assert move.state is not None
        assert move.state_hash == hash_of_state(move.state)
        return Admit(symbol, move.shard, move.position, move.time, move.state), changes


def order(symbol: str = SYMBOL, user_id: str = "ann", price: int = 1000, **fields: object) -> NewOrder:
    """A buy of 5."""
    made = NewOrder(user_id, symbol, Side.BUY, OrderType.LIMIT, TimeInForce.GTC, pack(5, 0), pack(price, 2))
    return structs.replace(made, **fields)


def state_of(engine: Engine, symbol: str = SYMBOL) -> EngineState:
    """What an engine knows of a symbol, and nothing that is its own: no counters, no place in its journal."""
    state = engine.state()
    return structs.replace(
        state,
        shard=0,
        position=0,
        time=0,
        trade_count=0,
        priority_count=0,
        settings=EngineSettings(),
        instruments=[each for each in state.instruments if each.symbol == symbol],
        orders=sorted((each for each in state.orders if each.symbol == symbol), key=lambda each: each.id),
        positions=[each for each in state.positions if each.symbol == symbol],
        controls=[each for each in state.controls if each.symbol == symbol],
    )


def a_busy_shard(seed: int, commands: int = 400) -> tuple[Shard, Flow, int]:
    """A shard after a flow with everything in it: stops, trails, icebergs, limits, kills, auctions, halts."""
    shard, random, time = Shard(0), Random(seed), START
    flow = Flow(random)
    for command in flow.listing():
        shard.send(command, time)
    while shard.engine.position < commands:
        time += random.choice([0, 1, 1000, SECOND // 2])
        shard.send(flow.next(shard.engine.position + 1, time), time)
    return shard, flow, time


@pytest.mark.parametrize("seed", range(12))
def test_what_is_handed_over_is_what_was_there(seed: int) -> None:
    """Every order with its place, every position, limit and switch, the sequence and the last trade: there as it was here; here
    nothing of it is left, and what is left is whole.
    """
    giver, _, time = a_busy_shard(seed)
    before, others = state_of(giver.engine), [state_of(giver.engine, symbol) for symbol in ("BBB", "CCC")]
    admit, _ = giver.give(1, time)
    giver.engine.check_invariants()
    assert (state_of(giver.engine).instruments, state_of(giver.engine).orders) == ([], [])
    assert [state_of(giver.engine, symbol) for symbol in ("BBB", "CCC")] == others
    state = decode_state(admit.state)
    handed = structs.replace(
        before, instruments=[state.instrument], orders=sorted(state.orders, key=by_id), positions=state.positions
    )
    assert handed == before

    taker = Shard(1)
    taker.engine.take_changes()
    events = taker.send(admit, time)
    taker.engine.check_invariants()
    after = state_of(taker.engine)
    ended = {event.order.id for event in events if isinstance(event, OrderCancelled | OrderExpired)}
    if not ended and not any(event for event in events if not isinstance(event, SymbolAdmitted)):
        assert after == before
    assert {each.id for each in after.orders} | ended == {each.id for each in before.orders}
    assert taker.engine.priority_count >= max((each.priority for each in after.orders), default=0)


def by_id(record: OrderRecord) -> int:
    """What orders are compared in the order of."""
    return record.id


@pytest.mark.parametrize("seed", range(6))
def test_both_sides_can_be_restored_and_replayed(seed: int) -> None:
    """The state hash of each is what its rows and its journal make, moved symbols or none (M6)."""
    giver, _, time = a_busy_shard(seed)
    admit, _ = giver.give(1, time)
    taker = Shard(1)
    taker.send(order("ZZZ"), time)
    taker.send(admit, time)
    for shard in (giver, taker):
        restored = Engine.restore(shard.engine.state())
        restored.check_invariants()
        assert restored.state_hash() == shard.engine.state_hash()
        again = Engine(shard.engine.shard)
        for stamped in shard.journal:
            again.apply(stamped)
        assert again.state_hash() == shard.engine.state_hash()


@pytest.mark.parametrize("seed", range(10, 16))
def test_trading_goes_on_as_if_nothing_had_happened(seed: int) -> None:
    """The same orders lead to the same trades and levels in an engine that was given the symbol and in one that always had it,
    there and back again; the sequence goes on without a step.
    """
    random = Random(seed)
    home, away = Shard(0), Shard(1)
    alone, here, there = Shard(0), home, away
    time = START
    for step in range(300):
        time += random.choice([1, 1000, SECOND])
        command = order(
            user_id=random.choice(["ann", "bob", "cat"]),
            side=random.choice(list(Side)),
            price=random.randrange(990, 1011),
            quantity=pack(random.randrange(1, 30), 0),
            self_trade_prevention=SelfTradePrevention.NONE,
        )
        one, other = alone.send(command, time), here.send(command, time)
        assert [market(event) for event in one] == [market(event) for event in other]
        if step % 60 == 59:
            admit, _ = here.give(there.engine.shard, time)
            there.send(admit, time)
            here, there = there, here
            here.engine.check_invariants()
    levels = [(book.depth(0), book.sequence) for book in alone.engine.books()]
    assert levels == [(book.depth(0), book.sequence) for book in here.engine.books()]


def market(event: Event) -> object:
    """What of an event has no id in it."""
    name = type(event).__name__
    if isinstance(event, Traded):
        return name, event.trade.price, event.trade.quantity, event.trade.sequence, event.maker_user_id, event.taker_user_id
    return (name, event.order.remaining_quantity) if hasattr(event, "order") else event


def test_a_new_order_stands_behind_those_that_came() -> None:
    """The queue is kept: first all that came, as it stood, then what is new, though the taker had given few places yet."""
    giver, taker = Shard(0), Shard(1)
    for number in range(5):
        giver.send(order(user_id=f"u{number}"), START + number)
    admit, _ = giver.give(1, START + 10)
    taker.send(admit, START + 10)
    taker.send(order(user_id="late"), START + 11)
    [book] = taker.engine.books()
    assert [each.user_id for each in book.orders()] == ["u0", "u1", "u2", "u3", "u4", "late"]
    assert next(reversed(list(book.orders()))).id == SHARD_STEP + 2


def test_stops_that_are_due_fire_in_the_order_of_their_acceptance() -> None:
    """S2: whichever shards their ids are of; the older one's is the higher here."""
    one, other = Shard(1), Shard(0)
    stop = structs.replace(order(side=Side.SELL, type=OrderType.STOP), price=None, terms=SpecialTerms(stop_price=pack(900, 2)))
    one.send(stop, START)
    admit, _ = one.give(0, START + 1)
    other.send(admit, START + 2)
    other.send(structs.replace(stop, user_id="younger"), START + 3)
    other.send(order(price=800, quantity=pack(50, 0), user_id="buyer"), START + 4)
    events = other.send(order(side=Side.SELL, price=800, quantity=pack(1, 0), user_id="seller"), START + 5)
    assert [event.order.user_id for event in events if isinstance(event, OrderTriggered)] == ["ann", "younger"]


def test_what_would_have_ended_an_order_on_the_way_has_ended_it() -> None:
    """T5, I3, R1: a deadline and a dead-man timer that passed while it was on its way, and a kill that is on at the taker's."""
    giver, taker = Shard(0), Shard(1)
    giver.send(order(user_id="expires", time_in_force=TimeInForce.GTD, expires_at=START + SECOND), START)
    giver.send(order(user_id="timed"), START)
    giver.send(CancelAllAfter("timed", 1), START)
    giver.send(order(user_id="armed anew"), START)
    giver.send(CancelAllAfter("armed anew", 1), START)
    giver.send(order(user_id="killed"), START)
    giver.send(order(user_id="stays"), START)
    taker.send(CancelAllAfter("armed anew", 60), START)
    taker.send(SetKill("killed", "", is_active=True), START)
    admit, _ = giver.give(1, START + 10)
    events = taker.send(admit, START + 2 * SECOND)
    ended = {(event.order.user_id, event.order.status, event.order.reason) for event in events if hasattr(event, "order")}
    assert ended == {
        ("expires", OrderStatus.EXPIRED, Reason.EXPIRED),
        ("timed", OrderStatus.CANCELLED, Reason.CANCEL_ALL_AFTER),
        ("killed", OrderStatus.CANCELLED, Reason.CANCELLED_BY_KILL_SWITCH),
    }
    assert {each.user_id for each in taker.engine.state().orders} == {"stays", "armed anew"}


def test_whose_timer_came_on_the_way_is_told_with_the_symbol() -> None:
    """I3: one that was disarmed on the way ends nothing, though it would have come by now; one that came does, though it was set
    anew since.
    """
    giver, taker = Shard(0), Shard(1)
    for user_id in ("disarmed", "came"):
        giver.send(order(user_id=user_id), START)
        giver.send(CancelAllAfter(user_id, 1), START)
    admit, _ = giver.give(1, START + 10)
    taker.send(CancelAllAfter("came", 60), START + 1 * SECOND)
    events = taker.send(structs.replace(admit, missed=["came"]), START + 2 * SECOND)
    assert [event.order.user_id for event in events if isinstance(event, OrderCancelled)] == ["came"]
    assert {each.user_id for each in taker.engine.state().orders} == {"disarmed"}


def test_limits_and_switches_of_the_symbol_go_with_it() -> None:
    """R1: they hold at the taker's from its first order on, and no longer here; those over all symbols stay."""
    giver, taker = Shard(0), Shard(1)
    giver.send(order(), START)
    giver.send(SetLimits("ann", SYMBOL, Limits(max_open_orders=1)), START)
    giver.send(SetLimits("ann", "", Limits(max_open_orders=9)), START)
    giver.send(SetKill("", SYMBOL, is_active=True), START)
    admit, changes = giver.give(1, START)
    assert {(each.kind, each.symbol, each.switch.name) for each in changes.controls} == {
        (each.kind, SYMBOL, "OFF") for each in decode_state(admit.state).controls
    }
    assert [each.symbol for each in giver.engine.state().controls] == [""]
    taker.send(admit, START)
    assert [each.symbol for each in taker.engine.state().controls] == [SYMBOL, SYMBOL]
    taker.send(SetKill("", SYMBOL, is_active=False), START)
    [_, *_] = taker.send(order(), START)
    [refused] = taker.send(order(), START)
    assert isinstance(refused, OrderRejected)
    assert refused.order.reason is Reason.TOO_MANY_OPEN_ORDERS


def test_what_cannot_be_given_stays() -> None:
    """An unlisted symbol, and one that trades against balances, with a sentence that says why; nothing has changed."""
    shard = Shard(0)
    shard.send(DefineInstrument(SYMBOL, base_asset="SHARE", quote_asset="USD"), START)
    before = state_of(shard.engine)
    assert shard.send(Release(SYMBOL, 1), START) == [CommandRefused(None, Reason.INSTRUMENT_IN_USE)]
    assert shard.send(Release("NONE", 1), START) == [CommandRefused(None, Reason.UNKNOWN_SYMBOL)]
    assert state_of(shard.engine) == before
    assert "balances" in shard.engine.why_it_stays(SYMBOL)
    assert "isn't listed" in shard.engine.why_it_stays("NONE")
    assert shard.engine.take_changes().moves == []


def test_a_symbol_is_taken_in_once() -> None:
    """The second time it is refused, whatever has happened in it since."""
    giver, taker = Shard(0), Shard(1)
    giver.send(order(), START)
    admit, _ = giver.give(1, START)
    taker.send(admit, START)
    taker.send(order(price=900), START)
    assert taker.send(admit, START) == [CommandRefused(None, Reason.INSTRUMENT_IN_USE)]
    assert taker.engine.open_orders == 2


def test_states_of_another_format_are_refused() -> None:
    """What this version can't read isn't guessed at."""
    giver = Shard(0)
    giver.send(DefineInstrument(SYMBOL, state=MarketState.AUCTION), START)
    admit, _ = giver.give(1, START)
    state: SymbolState = decode_state(admit.state)
    with pytest.raises(StorageUnusable, match="format 2"):
        decode_state(encode_state(structs.replace(state, format=2)))
    with pytest.raises(StorageUnusable, match="can't be read"):
        decode_state(b"\xc1")
