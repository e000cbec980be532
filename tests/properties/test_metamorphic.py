"""Two flows that differ in a known way must differ in their outcome in just that way."""

from __future__ import annotations

from collections import defaultdict
from random import Random

from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from ome.domain.commands import CancelOrder, Command, ModifyOrder, NewOrder, Stamped
from ome.domain.enums import OrderType, Side, TimeInForce
from ome.domain.numbers import canonical, pack
from ome.domain.records import SpecialTerms
from ome.engine.engine import Engine
from properties.flow import SECOND, Flow, price_of, quantity_of
from properties.pair import START
from properties.profiles import flow_settings
from reference.compare import outcome_of
from reference.pictures import Outcome, Picture, Trade, exact, maybe_exact

CENTRE = exact(price_of("AAA", 0))
"""The price that mirrored prices keep their distance from."""
CENT = 10**7
seeds = st.integers(0, 2**32)


def flow_of(seed: int, symbols: tuple[str, ...], length: int = 120) -> list[Command]:
    """Orders, modifies and cancels of a seed; nothing that touches settings or instruments."""
    flow = Flow(Random(seed), symbols)
    commands: list[Command] = []
    while len(commands) < length:
        command = flow.next(len(commands) + 1, START)
        if isinstance(command, NewOrder | ModifyOrder | CancelOrder):
            commands.append(command)
    return commands


def run(commands: list[Command]) -> tuple[Engine, list[Outcome]]:
    """The outcome of each command, a second apart."""
    engine = Engine()
    outcomes = [
        outcome_of(engine.apply(Stamped(position, START + position * SECOND, command)))
        for position, command in enumerate(commands, 1)
    ]
    engine.check_invariants()
    return engine, outcomes


def book(engine: Engine) -> dict[tuple[str, Side], list[tuple[int | None, int]]]:
    """Every open order of every side: price (None for a stop that waits without one) and remaining, in the order of priority."""
    sides = defaultdict(list)
    for order in sorted(engine.state().orders, key=lambda order: order.priority):
        sides[order.symbol, order.side].append((maybe_exact(order.price), exact(order.remaining_quantity)))
    return dict(sides)


def mirrored_price(price: int | None) -> int | None:
    """The price as far above the centre as this one is below it."""
    return None if price is None else canonical(pack((2 * CENTRE - exact(price)) // CENT, 2))


def mirrored(command: Command) -> Command:
    """The same command in the mirror: sides swapped, prices reflected."""
    match command:
        case NewOrder():
            terms = command.terms
            if terms is not None:
                terms = structs.replace(terms, stop_price=mirrored_price(terms.stop_price))
            return structs.replace(command, side=Side(1 - command.side), price=mirrored_price(command.price), terms=terms)
        case ModifyOrder():
            return structs.replace(command, price=mirrored_price(command.price), stop_price=mirrored_price(command.stop_price))
        case _:
            return command


def reflectable(command: Command) -> bool:
    """Whether a command's prices have a mirror image above zero on the grid; percentages and basis points have none."""
    terms = (command.terms if isinstance(command, NewOrder) else None) or SpecialTerms()
    shares = (terms.trail_percent, terms.max_slippage_bps, getattr(command, "trail_percent", None))
    prices = (getattr(command, "price", None), getattr(command, "stop_price", None), terms.stop_price)
    return all(share is None for share in shares) and all(
        price is None or (exact(price) % CENT == 0 and exact(price) < 2 * CENTRE) for price in prices
    )


@flow_settings()
@given(seeds)
def test_a_mirrored_flow_trades_in_the_mirror(seed: int) -> None:
    """Buyers and sellers are treated alike: swap sides, reflect prices, and the same orders trade the same quantities."""
    commands = [command for command in flow_of(seed, ("AAA",), 200) if reflectable(command)]
    straight, first = run(commands)
    reflected, second = run([mirrored(command) for command in commands])
    for here, there in zip(first, second, strict=True):
        assert [(t.maker, t.taker, t.quantity, 2 * CENTRE - t.price, t.sequence) for t in here.trades] == [
            (t.maker, t.taker, t.quantity, t.price, t.sequence) for t in there.trades
        ]
        assert [(e, p.id, p.status, p.reason, p.filled) for e, p in here.orders] == [
            (e, p.id, p.status, p.reason, p.filled) for e, p in there.orders
        ]
        assert here.refused == there.refused
    sides = {
        (symbol, Side(1 - side)): [(None if price is None else 2 * CENTRE - price, left) for price, left in orders]
        for (symbol, side), orders in book(straight).items()
    }
    assert sides == book(reflected)


def of_symbol(outcomes: list[Outcome], symbol: str, names: dict[int, int]) -> list[object]:
    """What was told of one symbol, with the orders called by `names` and without what a shard counts over all symbols."""
    told: list[object] = []
    for out in outcomes:
        told += [_trade(t, names) for t in out.trades if t.symbol == symbol]
        told += [(event, _picture(p, names)) for event, p in out.orders if p.symbol == symbol]
        told += [(update[0], update[1]) for name, update in out.books.items() if name == symbol]
    return told


def _trade(trade: Trade, names: dict[int, int]) -> Trade:
    return trade._replace(id=0, time=0, maker=names[trade.maker], taker=names[trade.taker])


def _picture(order: Picture, names: dict[int, int]) -> Picture:
    terms = order.terms._replace(triggered_at=None)
    return order._replace(id=names[order.id], created_at=0, updated_at=0, client_order_id=None, terms=terms)


@flow_settings()
@given(seeds, seeds)
def test_symbols_do_not_meet(seed: int, shuffle: int) -> None:
    """Commands on other symbols commute: two flows, however woven together, lead to the same for each symbol."""
    flows = {symbol: _without_deadlines(flow_of(seed + n, (symbol,), 60)) for n, symbol in enumerate(("AAA", "BBB"))}
    told = []
    for weave in (Random(seed), Random(shuffle)):
        turns = [symbol for symbol in flows for _ in flows[symbol]]
        weave.shuffle(turns)
        commands, names = woven(flows, turns)
        _, outcomes = run(commands)
        told.append([of_symbol(outcomes, symbol, names) for symbol in flows])
    assert told[0] == told[1]


def _without_deadlines(commands: list[Command]) -> list[Command]:
    """Time runs on with what is put between: the flow without anything that looks at it."""
    return [_without_deadline(command) for command in commands]


def _without_deadline(command: Command) -> Command:
    match command:
        case NewOrder(time_in_force=TimeInForce.GTD | TimeInForce.DAY):
            return structs.replace(command, time_in_force=TimeInForce.GTC, expires_at=None)
        case ModifyOrder():
            return structs.replace(command, expires_at=None)
        case _:
            return command


def woven(flows: dict[str, list[Command]], turns: list[str]) -> tuple[list[Command], dict[int, int]]:
    """The flows' commands in the order of `turns`, ids moved to where their orders came to stand, and the way back."""
    taken: dict[str, int] = dict.fromkeys(flows, 0)
    moved: dict[tuple[str, int], int] = {}
    commands: list[Command] = []
    for position, symbol in enumerate(turns, 1):
        command = flows[symbol][taken[symbol]]
        taken[symbol] += 1
        moved[symbol, taken[symbol]] = position
        if isinstance(command, ModifyOrder | CancelOrder):
            known = moved.get((symbol, command.order_id))
            command = structs.replace(command, order_id=known or 10**9, exists=known is not None)
        commands.append(command)
    return commands, {new: old for (_, old), new in moved.items()}


@flow_settings()
@given(seeds, st.integers(0, 100), st.sampled_from(Side))
def test_an_order_that_never_matches_leaves_no_trace(seed: int, at: int, side: Side) -> None:
    """Insert and cancel of an order far from the market changes nothing but positions, counters and sequences."""
    commands = [command for command in _without_deadlines(flow_of(seed, ("AAA",), 120)) if reflectable(command)]
    at = min(at, len(commands))
    price = price_of("AAA", -900 if side is Side.BUY else 900)
    far = NewOrder("far", "AAA", side, OrderType.LIMIT, TimeInForce.GTC, quantity_of("AAA", 1), price)
    plain, outcomes = run(commands)
    shifted = [_shifted(command, at, 2) for command in commands]
    visited, others = run([*shifted[:at], far, CancelOrder(at + 1, exists=True), *shifted[at:]])
    del others[at : at + 2]
    assert [(t.price, t.quantity) for out in outcomes for t in out.trades] == [
        (t.price, t.quantity) for out in others for t in out.trades
    ]
    assert [(e, p.status, p.filled, p.reason) for out in outcomes for e, p in out.orders] == [
        (e, p.status, p.filled, p.reason) for out in others for e, p in out.orders
    ]
    assert book(plain) == book(visited)


def _shifted(command: Command, after: int, by: int) -> Command:
    """The command with its order's id moved by the commands that were put in before it."""
    if isinstance(command, ModifyOrder | CancelOrder) and command.order_id > after:
        return structs.replace(command, order_id=command.order_id + by)
    return command
