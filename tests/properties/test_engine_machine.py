"""A hypothesis state machine over engine and twin: what it finds, it shrinks to the shortest list of commands."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from ome.domain.commands import (
    AdvanceTime,
    CancelAllAfter,
    CancelOrders,
    Configure,
    DefineInstrument,
    NewOrder,
    SetKill,
    SetLimits,
)
from ome.domain.enums import MarketState, OrderType, SelfTradePrevention, Side, TimeInForce
from ome.domain.numbers import canonical, pack
from ome.domain.records import EngineSettings, Limits, SpecialTerms
from properties.controls_hold import ControlledPair
from properties.flow import GRIDS, LARGEST, MODES, SECOND, SYMBOLS, USERS, distance_of, off_grid, price_of, quantity_of
from properties.profiles import machine_settings

symbols = st.sampled_from([*SYMBOLS, "NEW"])
users = st.sampled_from(USERS)
sides = st.sampled_from(Side)
modes = st.sampled_from(MODES)
ticks = st.integers(-5, 5)
lots = st.integers(1, 12)
waits = st.sampled_from([-SECOND, 0, 1, SECOND, 60 * SECOND])
steps = st.sampled_from([canonical(pack(m, d)) for m, d in [(1, 0), (1, 2), (5, 2), (25, 4), (1, 3), (10, 0), (1, 9)]])
odd_numbers = st.sampled_from([LARGEST, pack(1, 9), pack(1, 0), pack(10**15 - 1, 9), pack(123456789012345, 4), pack(10**14, 0)])
"""The boundaries of N1, off most grids."""
parts = st.none() | st.integers(1, 13)
"""Lots shown, or filled at least: sometimes more than the order has."""
percents = st.sampled_from([pack(1, 2), pack(1, 1), pack(25, 2), pack(5, 1), pack(123456789, 9), pack(100, 0)])
worths = st.sampled_from([pack(m, 0) for m in (0, 3, 100, 2000)])
long_times = st.sampled_from([TimeInForce.GTC, TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK, TimeInForce.DAY])
states = st.sampled_from([MarketState.OPEN, MarketState.OPEN, MarketState.AUCTION, *MarketState])


def grid_of(symbol: str) -> str:
    """The symbol whose grid a symbol has: a new one that of AAA."""
    return symbol if symbol in GRIDS else "AAA"


class EngineMachine(RuleBasedStateMachine):
    """Every command that is built, in any order, from any user; engine and twin agree after each."""

    order_ids: Bundle[tuple[int, str]] = Bundle("order_ids")

    def __init__(self) -> None:
        super().__init__()
        self.pair = ControlledPair()
        self.killed: list[tuple[str, str]] = []

    @initialize()
    def list_symbols(self) -> None:
        """Positions are kept; two of the three symbols have a tick and a lot of their own."""
        self.pair.send(Configure(EngineSettings(keeps_positions=True)))
        for symbol in ("BBB", "CCC"):
            tick, tick_decimals, lot, lot_decimals = GRIDS[symbol]
            self.pair.send(DefineInstrument(symbol, pack(tick, tick_decimals), canonical(pack(lot, lot_decimals))))

    @rule(
        target=order_ids, user=users, symbol=symbols, side=sides, mode=modes, tick=ticks, lot=lots,
        tif=st.sampled_from([TimeInForce.GTC, TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK]),
    )  # fmt: skip
    def limit(
        self, user: str, symbol: str, side: Side, mode: SelfTradePrevention, tick: int, lot: int, tif: TimeInForce
    ) -> tuple[int, str]:
        """A limit order near the market."""
        grid = grid_of(symbol)
        self.pair.send(NewOrder(user, symbol, side, OrderType.LIMIT, tif, quantity_of(grid, lot), price_of(grid, tick), mode))
        return self.pair.engine.position, symbol

    @rule(target=order_ids, user=users, symbol=symbols, side=sides, mode=modes, tick=ticks, lot=lots, wait=waits)
    def good_till_date(
        self, user: str, symbol: str, side: Side, mode: SelfTradePrevention, tick: int, lot: int, wait: int
    ) -> tuple[int, str]:
        """A limit order with a deadline, perhaps one that has passed (T5)."""
        grid, deadline = grid_of(symbol), self.pair.clock + wait
        number, price = quantity_of(grid, lot), price_of(grid, tick)
        self.pair.send(NewOrder(user, symbol, side, OrderType.LIMIT, TimeInForce.GTD, number, price, mode, None, deadline))
        return self.pair.engine.position, symbol

    @rule(target=order_ids, user=users, symbol=symbols, side=sides, mode=modes, lot=st.integers(1, 40))
    def market(self, user: str, symbol: str, side: Side, mode: SelfTradePrevention, lot: int) -> tuple[int, str]:
        """A market order, sometimes for more than there is (T3)."""
        number = quantity_of(grid_of(symbol), lot)
        self.pair.send(NewOrder(user, symbol, side, OrderType.MARKET, TimeInForce.IOC, number, None, mode))
        return self.pair.engine.position, symbol

    @rule(
        target=order_ids, user=users, symbol=symbols, side=sides, mode=modes, tick=ticks, lot=lots, tif=long_times,
        post_only=st.booleans(), shown=parts, least=st.none() | lots,
    )  # fmt: skip
    def special_limit(
        self, user: str, symbol: str, side: Side, mode: SelfTradePrevention, tick: int, lot: int, tif: TimeInForce,
        post_only: bool, shown: int | None, least: int | None,
    ) -> tuple[int, str]:  # fmt: skip
        """A limit order that rests only, hides some of itself or wants a minimum (T4, T6, T7)."""
        grid = grid_of(symbol)
        terms = SpecialTerms(
            post_only=post_only,
            display_quantity=None if shown is None else quantity_of(grid, shown),
            min_quantity=None if least is None else quantity_of(grid, least),
        )
        order = NewOrder(
            user, symbol, side, OrderType.LIMIT, tif, quantity_of(grid, lot), price_of(grid, tick), mode, terms=terms
        )
        self.pair.send(order)
        return self.pair.engine.position, symbol

    @rule(
        target=order_ids, user=users, symbol=symbols, side=sides, mode=modes, lot=lots, least=st.none() | lots,
        slippage=st.sampled_from([0, 10, 50, 20_000]),
    )  # fmt: skip
    def bounded_market(
        self, user: str, symbol: str, side: Side, mode: SelfTradePrevention, lot: int, least: int | None, slippage: int
    ) -> tuple[int, str]:
        """A market order with a slippage bound, and perhaps a minimum (T3, T7)."""
        grid = grid_of(symbol)
        terms = SpecialTerms(min_quantity=None if least is None else quantity_of(grid, least), max_slippage_bps=slippage)
        self.pair.send(
            NewOrder(user, symbol, side, OrderType.MARKET, TimeInForce.IOC, quantity_of(grid, lot), None, mode, terms=terms)
        )
        return self.pair.engine.position, symbol

    @rule(
        target=order_ids, user=users, symbol=symbols, side=sides, mode=modes, lot=lots, stop=ticks, tick=st.none() | ticks,
        tif=long_times, shown=parts, post_only=st.booleans(), wait=st.none() | waits,
    )  # fmt: skip
    def stop(
        self, user: str, symbol: str, side: Side, mode: SelfTradePrevention, lot: int, stop: int, tick: int | None,
        tif: TimeInForce, shown: int | None, post_only: bool, wait: int | None,
    ) -> tuple[int, str]:  # fmt: skip
        """A STOP, or with a price a STOP_LIMIT, on either side of the last price (S1-S5)."""
        grid, is_limit = grid_of(symbol), tick is not None
        terms = SpecialTerms(
            stop_price=price_of(grid, stop),
            post_only=is_limit and post_only,
            display_quantity=None if shown is None or not is_limit else quantity_of(grid, shown),
        )
        time_in_force = TimeInForce.IOC if not is_limit else TimeInForce.GTD if wait is not None else tif
        self.pair.send(
            NewOrder(
                user, symbol, side, OrderType.STOP_LIMIT if is_limit else OrderType.STOP, time_in_force, quantity_of(grid, lot),
                None if tick is None else price_of(grid, tick), mode,
                expires_at=self.pair.clock + (wait or 0) if time_in_force is TimeInForce.GTD else None, terms=terms,
            )
        )  # fmt: skip
        return self.pair.engine.position, symbol

    @rule(
        target=order_ids, user=users, symbol=symbols, side=sides, mode=modes, lot=lots,
        trail=st.integers(1, 5), percent=st.none() | percents, offset=st.none() | st.integers(1, 4), tif=long_times,
    )  # fmt: skip
    def trailing_stop(
        self, user: str, symbol: str, side: Side, mode: SelfTradePrevention, lot: int, trail: int, percent: int | None,
        offset: int | None, tif: TimeInForce,
    ) -> tuple[int, str]:  # fmt: skip
        """A stop that follows the last price by ticks or by percent, and fires as a market or a limit order (S6)."""
        grid = grid_of(symbol)
        terms = SpecialTerms(
            trail_amount=distance_of(grid, trail) if percent is None else None,
            trail_percent=percent,
            limit_offset=None if offset is None else distance_of(grid, offset),
        )
        time_in_force = TimeInForce.IOC if offset is None else tif
        self.pair.send(
            NewOrder(user, symbol, side, OrderType.TRAILING_STOP, time_in_force, quantity_of(grid, lot), None, mode, terms=terms)
        )
        return self.pair.engine.position, symbol

    @rule(target=order_ids, symbol=symbols, side=sides, odd=odd_numbers, odd_price=st.booleans(), gone=st.booleans())
    def odd_order(self, symbol: str, side: Side, odd: int, odd_price: bool, gone: bool) -> tuple[int, str]:
        """Boundary values: off the grid, one step, the most there is, more than the grid has room for; several at once."""
        price = odd if odd_price else off_grid(*GRIDS[grid_of(symbol)][:2])
        self.pair.send(
            NewOrder("eve", symbol, side, OrderType.LIMIT, TimeInForce.GTD, odd, price, expires_at=self.pair.clock + (not gone))
        )
        return self.pair.engine.position, symbol

    @rule(order=order_ids, lot=st.none() | lots, tick=st.none() | ticks, version=st.none() | st.integers(1, 3))
    def modify(self, order: tuple[int, str], lot: int | None, tick: int | None, version: int | None) -> None:
        """New quantity, price, both or neither, at whatever version (A1-A7)."""
        order_id, symbol = order
        grid = grid_of(symbol)
        self.pair.modify(
            order_id,
            quantity=None if lot is None else quantity_of(grid, lot),
            price=None if tick is None else price_of(grid, tick),
            expected_version=version,
        )

    @rule(order=order_ids, wait=waits, odd=st.none() | odd_numbers, lot=st.none() | lots)
    def modify_deadline(self, order: tuple[int, str], wait: int, odd: int | None, lot: int | None) -> None:
        """A new deadline, on orders that have one and on others, with odd prices (A3, A6)."""
        order_id, symbol = order
        quantity = None if lot is None else quantity_of(grid_of(symbol), lot)
        self.pair.modify(order_id, expires_at=self.pair.clock + wait, price=odd, quantity=quantity)

    @rule(
        order=order_ids, stop=st.none() | ticks, trail=st.none() | st.integers(1, 5), percent=st.none() | percents, shown=parts,
        lot=st.none() | lots,
    )  # fmt: skip
    def modify_special(
        self, order: tuple[int, str], stop: int | None, trail: int | None, percent: int | None, shown: int | None, lot: int | None
    ) -> None:
        """Another stop, trail or slice, on orders that have one and on others (A3, A8); a trail has an amount or a percentage."""
        order_id, symbol = order
        grid = grid_of(symbol)
        self.pair.modify(
            order_id,
            quantity=None if lot is None else quantity_of(grid, lot),
            stop_price=None if stop is None else price_of(grid, stop),
            trail_amount=None if trail is None or percent is not None else distance_of(grid, trail),
            trail_percent=percent,
            display_quantity=None if shown is None else quantity_of(grid, shown),
        )

    @rule(order=order_ids, extra=st.integers(-1, 1))
    def modify_around_filled(self, order: tuple[int, str], extra: int) -> None:
        """A total one lot below, at, or above what is filled (A5)."""
        order_id, symbol = order
        known = self.pair.twin.orders[order_id]
        lot = self.pair.twin.markets[symbol].lot if symbol in self.pair.twin.markets else 10**9
        total = known.filled + known.prevented + extra * lot
        if total > 0:
            self.pair.modify(order_id, quantity=canonical(pack(total, 9)))

    @rule(order=order_ids)
    def cancel(self, order: tuple[int, str]) -> None:
        """Cancel whatever an id names, ended orders too (M3)."""
        self.pair.cancel(order[0])

    @rule(order=consumes(order_ids))
    def cancel_and_forget(self, order: tuple[int, str]) -> None:
        """Cancel an order that is not looked at again, so that books empty now and then."""
        self.pair.cancel(order[0])

    @rule(target=order_ids, nobody=st.integers(0, 10**6))
    def nobodys_order(self, nobody: int) -> MultipleResults[tuple[int, str]]:
        """Ids that no order has are neither modified nor cancelled (M3)."""
        unknown = len(self.pair.journal) + 100 + nobody
        self.pair.cancel(unknown)
        self.pair.modify(unknown, quantity=pack(1, 0))
        return multiple()

    @rule(symbol=symbols, tick=st.none() | steps, lot=st.none() | steps)
    def define(self, symbol: str, tick: int | None, lot: int | None) -> None:
        """List a symbol or change its tick and lot, in use or not (M5)."""
        self.pair.send(DefineInstrument(symbol, tick, lot))

    @rule(symbol=symbols, state=states)
    def change_state(self, symbol: str, state: MarketState) -> None:
        """Open, halt, or begin or end an auction (H1, H3)."""
        self.pair.send(DefineInstrument(symbol, state=state))

    @rule(
        symbol=symbols, band=st.sampled_from([0, pack(3, 1), pack(25, 2), pack(150, 0)]), halt=st.sampled_from([0, 1, 60]),
        most=st.sampled_from([0, pack(10, 0)]), close=st.sampled_from([0, 80_000, 80_001]), state=st.none() | states,
    )  # fmt: skip
    def change_rules(self, symbol: str, band: int, halt: int, most: int, close: int, state: MarketState | None) -> None:
        """Another band, halt, maximum and session close, with a new state or without (H2, R1, T5)."""
        self.pair.send(
            DefineInstrument(
                symbol, state=state, max_order_quantity=most, price_band_percent=band, band_halt_s=halt, session_close_s=close
            )
        )

    @rule(user=st.none() | users, symbol=st.none() | symbols, side=st.none() | sides, most=st.sampled_from([1, 3, 1000]))
    def cancel_many(self, user: str | None, symbol: str | None, side: Side | None, most: int) -> None:
        """A mass cancel, or a chunk of one (I2)."""
        self.pair.send(CancelOrders(user, symbol, side, most))

    @rule(auto_list=st.booleans(), most=st.sampled_from([0, 2, 3, 10_000]), cascade=st.sampled_from([1, 2, 100]))
    def configure(self, auto_list: bool, most: int, cascade: int) -> None:
        """Give other settings (M6, S3)."""
        self.pair.send(Configure(EngineSettings(auto_list, most, cascade, keeps_positions=True)))

    @rule(
        user=users, symbol=symbols, is_every=st.booleans(), lot=st.none() | st.integers(0, 20), worth=st.none() | worths,
        orders=st.none() | st.integers(0, 4), held=st.none() | st.integers(0, 40), collar=st.none() | percents,
    )  # fmt: skip
    def set_limits(
        self, user: str, symbol: str, is_every: bool, lot: int | None, worth: int | None, orders: int | None, held: int | None,
        collar: int | None,
    ) -> None:  # fmt: skip
        """Limits of a user, in a symbol or in every one; none at all lifts them (R1, R2)."""
        grid = grid_of(symbol)
        limits = Limits(
            max_order_quantity=None if lot is None else quantity_of(grid, lot),
            max_order_notional=worth,
            max_open_orders=orders,
            max_position=None if held is None else quantity_of(grid, held),
            price_collar_percent=collar,
        )
        self.pair.send(SetLimits(user, "" if is_every else symbol, limits))

    @rule(order=order_ids, lot=lots)
    def lower(self, order: tuple[int, str], lot: int) -> None:
        """Lots are taken off an order: nothing that was laid down is in the way of that (R3)."""
        self.pair.lower(order[0], lot)

    @rule(user=users, symbol=symbols, scope=st.sampled_from(["user", "symbol", "all"]))
    def kill(self, user: str, symbol: str, scope: str) -> None:
        """Stop a user, a symbol or all: what is open there ends, and nothing new is taken (R1)."""
        self.killed.append((user if scope == "user" else "", symbol if scope == "symbol" else ""))
        self.pair.send(SetKill(*self.killed[-1], is_active=True))

    @precondition(lambda self: self.killed)
    @rule(everything=st.booleans())
    def lift(self, everything: bool) -> None:
        """Let go on what was stopped: all of it, or the last."""
        while self.killed:
            self.pair.send(SetKill(*self.killed.pop(), is_active=False))
            if not everything:
                break

    @rule(user=users, seconds=st.sampled_from([0, 1, 60]))
    def cancel_all_after(self, user: str, seconds: int) -> None:
        """Arm a user's timer, or disarm it (I3)."""
        self.pair.send(CancelAllAfter(user, seconds))

    @rule(step=st.sampled_from([1, SECOND, 60 * SECOND, 86_400 * SECOND]), tell=st.booleans())
    def let_time_pass(self, step: int, tell: bool) -> None:
        """Move the clock on, with or without telling."""
        self.pair.clock += step
        if tell:
            self.pair.send(AdvanceTime())

    @rule()
    def restart(self) -> None:
        """Go on with an engine restored from the state."""
        self.pair.restart()

    @invariant()
    def everything_agrees(self) -> None:
        """Engine, twin and invariants agree after every command."""
        self.pair.compare()


TestEngineMachine = pytest.mark.timeout(3600)(EngineMachine.TestCase)
TestEngineMachine.settings = machine_settings()
