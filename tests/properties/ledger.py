"""The invariants of an engine's event stream, folded from events alone: neither the twin nor the engine is asked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from decimal import Decimal

from msgspec import structs

from ome.domain.enums import MarketState, OrderStatus, OrderType, SelfTradePrevention, Side, TimeInForce
from ome.domain.events import (
    AuctionIndicated,
    BookChanged,
    CommandRefused,
    ControlChanged,
    Event,
    FundsTransferred,
    InstrumentChanged,
    OrderAccepted,
    OrderModified,
    OrderTriggered,
    SelfTradePrevented,
    SymbolAdmitted,
    SymbolReleased,
    Traded,
)
from ome.domain.numbers import value_of
from ome.domain.records import OrderRecord

ZERO = Decimal(0)
NEVER_RESTS = (TimeInForce.IOC, TimeInForce.FOK)
RESTS = (OrderType.LIMIT, OrderType.STOP_LIMIT, OrderType.TRAILING_STOP)


class Ledger:
    """What a reader of every committed event knows; `take` raises AssertionError where an invariant is broken."""

    def __init__(self) -> None:
        self.orders: dict[int, OrderRecord] = {}
        self.filled: defaultdict[int, Decimal] = defaultdict(Decimal)
        self.prevented: defaultdict[int, Decimal] = defaultdict(Decimal)
        self.states: dict[str, MarketState] = {}
        self.sequences: defaultdict[str, int] = defaultdict(int)
        self.levels: defaultdict[tuple[str, Side], dict[Decimal, tuple[Decimal, int]]] = defaultdict(dict)
        self.last_trade_id = 0
        self.is_cascade = False
        self.positions: defaultdict[str, Decimal] = defaultdict(Decimal)

    def take(self, events: Sequence[Event], time: int) -> None:
        """Fold the events of one command, carried out at `time`."""
        self.is_cascade = False
        for event in events:
            self.is_cascade |= isinstance(event, OrderTriggered)
            match event:
                case Traded():
                    self._traded(event, time)
                case BookChanged():
                    self._book_changed(event, time)
                case InstrumentChanged(instrument):
                    self._next(instrument.symbol, instrument.sequence)
                    self.states[instrument.symbol] = instrument.state
                case AuctionIndicated():
                    assert self.states[event.symbol] is MarketState.AUCTION
                    self._next(event.symbol, event.sequence)
                case SelfTradePrevented():
                    self._prevented(event)
                case CommandRefused() | FundsTransferred() | ControlChanged() | SymbolReleased() | SymbolAdmitted():
                    pass
                case _:
                    assert event.order.updated_at == time
                    self._order(event.order)
        self._look_back(events)

    def _look_back(self, events: Sequence[Event]) -> None:
        """At the end of a command: what was told of fills adds up, and only what may rest does."""
        for event in events:
            match event:
                case Traded(trade):
                    assert self.filled[trade.maker_order_id] == self._filled_of(trade.maker_order_id)
                    assert self.filled[trade.taker_order_id] == self._filled_of(trade.taker_order_id)
                case OrderAccepted(order) | OrderModified(order) | OrderTriggered(order):
                    self._may_rest(self.orders[order.id])
                case _:
                    pass

    def _next(self, symbol: str, sequence: int) -> None:
        """INV7, D1: public sequences have no gaps."""
        assert sequence == self.sequences[symbol] + 1, f"{symbol}: sequence {sequence} after {self.sequences[symbol]}"
        self.sequences[symbol] = sequence

    def _order(self, order: OrderRecord) -> None:
        """INV1, INV13: quantities add up, the status follows from them, what ended stays ended, filled never falls."""
        quantity, filled, remaining = map(value_of, (order.quantity, order.filled_quantity, order.remaining_quantity))
        prevented = value_of(order.terms.prevented_quantity or 0) if order.terms is not None else ZERO
        assert quantity > 0 <= filled
        assert prevented == self.prevented[order.id], "P1"
        assert remaining == (quantity - filled - prevented if order.is_open else ZERO), "N3"
        assert filled + prevented + remaining <= quantity, "P1"
        if order.status in {OrderStatus.PENDING, OrderStatus.PENDING_TRIGGER}:
            assert filled == 0
        if order.status is OrderStatus.PARTIALLY_FILLED:
            assert 0 < filled < quantity
        if order.status is OrderStatus.FILLED:
            assert filled + prevented == quantity
        assert (order.reason is None) == (order.is_open or order.status is OrderStatus.FILLED)
        before = self.orders.get(order.id)
        if before is not None:
            # an auction's taker is told of after all of its trades, when the last may have filled it
            assert before.is_open or before.status is order.status is OrderStatus.FILLED, f"order {order.id} had ended"
            assert filled >= value_of(before.filled_quantity)
            assert order.version >= before.version
            assert (order.user_id, order.symbol, order.side, order.type, order.created_at) == (
                before.user_id,
                before.symbol,
                before.side,
                before.type,
                before.created_at,
            )
        self.orders[order.id] = order

    def _prevented(self, event: SelfTradePrevented) -> None:
        """P1, P2: two orders of one user; where both are decremented, by what is told, and no more than both had."""
        maker, taker = self.orders[event.maker_order_id], self.orders[event.taker_order_id]
        assert maker.user_id == taker.user_id == event.user_id
        assert taker.self_trade_prevention is not SelfTradePrevention.NONE
        assert {maker.side, taker.side} == set(Side)
        assert value_of(event.quantity) > 0
        if taker.self_trade_prevention is SelfTradePrevention.DECREMENT:
            for order in (maker, taker):
                self.prevented[order.id] += value_of(event.quantity)
                assert self.filled[order.id] + self.prevented[order.id] <= value_of(order.quantity)

    def _filled_of(self, order_id: int) -> Decimal:
        return value_of(self.orders[order_id].filled_quantity)

    def _traded(self, event: Traded, time: int) -> None:
        """INV2, INV5, INV6: one maker, one taker, two sides, at the maker's price or the auction's, within both limits."""
        trade = event.trade
        assert trade.executed_at == time
        assert trade.id == (self.last_trade_id + 1 if self.last_trade_id else trade.id), "M3: ids have no gaps"
        self.last_trade_id = trade.id
        self._next(trade.symbol, trade.sequence)
        price, quantity = value_of(trade.price), value_of(trade.quantity)
        maker, taker = self.orders[trade.maker_order_id], self.orders[trade.taker_order_id]
        assert quantity > 0
        assert {maker.side, taker.side} == set(Side)
        assert maker.symbol == taker.symbol == trade.symbol
        for order in (maker, taker):
            if order.price is not None:
                limit = value_of(order.price)
                assert price <= limit if order.side is Side.BUY else price >= limit, "M2"
        if maker.user_id == taker.user_id:
            assert taker.self_trade_prevention is SelfTradePrevention.NONE, "P1"
        assert maker.type in RESTS
        assert maker.time_in_force not in NEVER_RESTS
        if trade.taker_side is None:
            self._traded_in_auction(maker, taker)
        else:
            assert self.states[trade.symbol] is MarketState.OPEN, "H1"
            assert maker.price is not None
            assert price == value_of(maker.price), "M1"
            assert taker.terms is None or not taker.terms.post_only, "T4"
            opposite = self.levels[trade.symbol, maker.side]
            if not self.is_cascade:  # a stop that fires may trade with what this very command has brought
                best = (min if maker.side is Side.SELL else max)(opposite)
                assert price >= best if maker.side is Side.SELL else price <= best, "no trade better than the book that was shown"
        for order in (maker, taker):
            self.filled[order.id] += quantity
        assert self.filled[maker.id] == value_of(event.maker_filled)
        left = value_of(maker.quantity) - self.filled[maker.id] - self.prevented[maker.id]
        assert left == value_of(event.maker_remaining)
        self.positions[event.maker_user_id] += quantity if maker.side is Side.BUY else -quantity
        self.positions[event.taker_user_id] += quantity if taker.side is Side.BUY else -quantity
        assert sum(self.positions.values()) == 0, "what one buys another sells"
        self._fill_maker(maker, event)

    def _traded_in_auction(self, maker: OrderRecord, taker: OrderRecord) -> None:
        """H3: the older order is the maker, and both had rested."""
        assert self.states[maker.symbol] is MarketState.AUCTION
        assert maker.id < taker.id
        assert taker.time_in_force not in NEVER_RESTS

    def _fill_maker(self, maker: OrderRecord, event: Traded) -> None:
        """A maker's fill is told by the trade alone."""
        assert maker.is_open
        status = OrderStatus.PARTIALLY_FILLED if value_of(event.maker_remaining) else OrderStatus.FILLED
        self.orders[maker.id] = structs.replace(
            maker,
            filled_quantity=event.maker_filled,
            remaining_quantity=event.maker_remaining,
            status=status,
            updated_at=event.trade.executed_at,
        )

    def _may_rest(self, order: OrderRecord) -> None:
        """INV12: what never rests has ended when its command has, unless it waits for its trigger; FOK fills all or nothing."""
        if order.status is OrderStatus.PENDING_TRIGGER:
            assert order.terms is not None
            return
        if order.price is None or order.time_in_force in NEVER_RESTS:
            assert not order.is_open
        if order.time_in_force is TimeInForce.FOK:
            assert value_of(order.filled_quantity) in {ZERO, value_of(order.quantity)}
        minimum = None if order.terms is None else order.terms.min_quantity
        if minimum is not None and value_of(order.filled_quantity) < value_of(minimum):
            assert self.filled[order.id] == ZERO, "T7"
            assert not order.is_open, "T7"

    def _book_changed(self, event: BookChanged, time: int) -> None:
        """INV3, INV4, M4: levels are what the orders say, none is empty, and the book is neither crossed nor locked."""
        assert event.time == time
        self._next(event.symbol, event.sequence)
        for side, price, quantity, orders in event.levels:
            level = self.levels[event.symbol, side]
            if value_of(quantity):
                assert orders > 0
                level[value_of(price)] = (value_of(quantity), orders)
            else:
                assert orders == 0
                level.pop(value_of(price), None)
        bids, asks = self.levels[event.symbol, Side.BUY], self.levels[event.symbol, Side.SELL]
        if bids and asks and self.states[event.symbol] is not MarketState.AUCTION:
            assert max(bids) < min(asks), f"{event.symbol} is crossed or locked: {max(bids)} and {min(asks)}"

    def assert_levels_are_orders(self) -> None:
        """INV4, INV9: the levels that updates told of are exactly the open orders; of icebergs they show a part (T6)."""
        sums: defaultdict[tuple[str, Side], dict[Decimal, tuple[Decimal, Decimal, int]]] = defaultdict(dict)
        for order in self.orders.values():
            if order.is_open and order.price is not None and order.status is not OrderStatus.PENDING_TRIGGER:
                level = sums[order.symbol, order.side]
                least, most, orders = level.get(value_of(order.price), (ZERO, ZERO, 0))
                left = value_of(order.quantity) - self.filled[order.id] - self.prevented[order.id]
                hides = order.terms is not None and order.terms.display_quantity is not None
                shown = ZERO if hides else left
                level[value_of(order.price)] = (least + shown, most + left, orders + 1)
        told = {key: levels for key, levels in self.levels.items() if levels}
        assert told.keys() == {key for key, levels in sums.items() if levels}
        for key, levels in told.items():
            assert levels.keys() == sums[key].keys()
            for price, (quantity, orders) in levels.items():
                least, most, count = sums[key][price]
                assert orders == count
                assert max(least, Decimal("1e-9")) <= quantity <= most
