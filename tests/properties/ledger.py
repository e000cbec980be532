"""The invariants of an engine's event stream, folded from events alone: neither the twin nor the engine is asked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from decimal import Decimal

from ome.domain.enums import OrderStatus, OrderType, SelfTradePrevention, Side, TimeInForce
from ome.domain.events import (
    BookChanged,
    CommandRefused,
    Event,
    InstrumentChanged,
    OrderAccepted,
    OrderModified,
    SelfTradePrevented,
    Traded,
)
from ome.domain.numbers import value_of
from ome.domain.records import OrderRecord

ZERO = Decimal(0)
NEVER_RESTS = (TimeInForce.IOC, TimeInForce.FOK)


class Ledger:
    """What a reader of every committed event knows; `take` raises AssertionError where an invariant is broken."""

    def __init__(self) -> None:
        self.orders: dict[int, OrderRecord] = {}
        self.filled: defaultdict[int, Decimal] = defaultdict(Decimal)
        self.sequences: defaultdict[str, int] = defaultdict(int)
        self.levels: defaultdict[tuple[str, Side], dict[Decimal, tuple[Decimal, int]]] = defaultdict(dict)
        self.last_trade_id = 0
        self.positions: defaultdict[str, Decimal] = defaultdict(Decimal)

    def take(self, events: Sequence[Event], time: int) -> None:
        """Fold the events of one command, carried out at `time`."""
        for event in events:
            match event:
                case Traded():
                    self._traded(event, time)
                case BookChanged():
                    self._book_changed(event, time)
                case InstrumentChanged(instrument):
                    self._next(instrument.symbol, instrument.sequence)
                case SelfTradePrevented() | CommandRefused():
                    pass
                case _:
                    assert event.order.updated_at == time
                    self._order(event.order)
        for event in events:
            match event:
                case Traded(trade):
                    assert self.filled[trade.maker_order_id] == self._filled_of(trade.maker_order_id)
                    assert self.filled[trade.taker_order_id] == self._filled_of(trade.taker_order_id)
                case OrderAccepted(order) | OrderModified(order):
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
        assert quantity > 0 <= filled
        assert remaining == (quantity - filled if order.is_open else ZERO), "N3"
        if order.status is OrderStatus.PENDING:
            assert filled == 0
        if order.status is OrderStatus.PARTIALLY_FILLED:
            assert 0 < filled < quantity
        if order.status is OrderStatus.FILLED:
            assert filled == quantity
        assert (order.reason is None) == (order.is_open or order.status is OrderStatus.FILLED)
        before = self.orders.get(order.id)
        if before is not None:
            assert before.is_open, f"order {order.id} had ended as {before.status.name}"
            assert filled >= value_of(before.filled_quantity)
            assert order.version >= before.version
            assert (order.user_id, order.symbol, order.side, order.created_at) == (
                before.user_id,
                before.symbol,
                before.side,
                before.created_at,
            )
        self.orders[order.id] = order

    def _filled_of(self, order_id: int) -> Decimal:
        return value_of(self.orders[order_id].filled_quantity)

    def _traded(self, event: Traded, time: int) -> None:
        """INV2, INV5, INV6: one maker, one taker, two sides, at the maker's price and within the taker's."""
        trade = event.trade
        assert trade.executed_at == time
        assert trade.id == (self.last_trade_id + 1 if self.last_trade_id else trade.id), "M3: ids have no gaps"
        self.last_trade_id = trade.id
        self._next(trade.symbol, trade.sequence)
        price, quantity = value_of(trade.price), value_of(trade.quantity)
        maker, taker = self.orders[trade.maker_order_id], self.orders[trade.taker_order_id]
        assert quantity > 0
        assert maker.price is not None
        assert price == value_of(maker.price), "M1"
        assert {maker.side, taker.side} == set(Side)
        assert maker.symbol == taker.symbol == trade.symbol
        if taker.price is not None:
            limit = value_of(taker.price)
            assert price <= limit if taker.side is Side.BUY else price >= limit, "M2"
        if maker.user_id == taker.user_id:
            assert taker.self_trade_prevention is SelfTradePrevention.NONE, "P1"
        assert maker.type is OrderType.LIMIT
        assert maker.time_in_force not in NEVER_RESTS
        opposite = self.levels[trade.symbol, maker.side]
        best = (min if maker.side is Side.SELL else max)(opposite)
        assert price >= best if maker.side is Side.SELL else price <= best, "no trade better than the book that was shown"
        for order in (maker, taker):
            self.filled[order.id] += quantity
        assert self.filled[maker.id] == value_of(event.maker_filled)
        assert self.filled[maker.id] + value_of(event.maker_remaining) == value_of(maker.quantity)
        self.positions[event.maker_user_id] += quantity if maker.side is Side.BUY else -quantity
        self.positions[event.taker_user_id] += quantity if taker.side is Side.BUY else -quantity
        assert sum(self.positions.values()) == 0, "what one buys another sells"
        self._fill_maker(maker, event)

    def _fill_maker(self, maker: OrderRecord, event: Traded) -> None:
        """A maker's fill is told by the trade alone."""
        assert maker.is_open
        status = OrderStatus.PARTIALLY_FILLED if value_of(event.maker_remaining) else OrderStatus.FILLED
        self.orders[maker.id] = OrderRecord(
            maker.id, maker.user_id, maker.symbol, maker.side, maker.type, maker.time_in_force, maker.quantity, maker.price,
            event.maker_filled, maker.filled_value, event.maker_remaining, status, None, maker.version, maker.priority,
            maker.self_trade_prevention, maker.client_order_id, maker.expires_at, maker.created_at, event.trade.executed_at,
        )  # fmt: skip

    def _may_rest(self, order: OrderRecord) -> None:
        """INV12: what never rests has ended when its command has; FOK fills all or nothing."""
        if order.type is OrderType.MARKET or order.time_in_force in NEVER_RESTS:
            assert not order.is_open
        if order.time_in_force is TimeInForce.FOK:
            assert value_of(order.filled_quantity) in {ZERO, value_of(order.quantity)}

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
        if bids and asks:
            assert max(bids) < min(asks), f"{event.symbol} is crossed or locked: {max(bids)} and {min(asks)}"

    def assert_levels_are_orders(self) -> None:
        """INV4, INV9: the levels that updates told of are exactly the sums of the open orders."""
        sums: defaultdict[tuple[str, Side], dict[Decimal, tuple[Decimal, int]]] = defaultdict(dict)
        for order in self.orders.values():
            if order.is_open and order.price is not None:
                level = sums[order.symbol, order.side]
                quantity, orders = level.get(value_of(order.price), (ZERO, 0))
                level[value_of(order.price)] = (quantity + value_of(order.remaining_quantity), orders + 1)
        told = {key: levels for key, levels in self.levels.items() if levels}
        assert told == {key: levels for key, levels in sums.items() if levels}
