"""Drives an engine in this process, without database or network: its own time, a microsecond for each command."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Final

from ome.domain.commands import CancelOrder, Command, DefineInstrument, ModifyOrder, NewOrder, Stamped
from ome.domain.enums import OrderType, Side, TimeInForce
from ome.domain.events import (
    CommandRefused,
    Event,
    OrderAccepted,
    OrderCancelled,
    OrderExpired,
    OrderFilled,
    OrderModified,
    OrderRejected,
    Traded,
)
from ome.domain.numbers import canonical
from ome.engine.engine import Engine
from ome.replay.digest import Book, Level, Resting
from ome.replay.driver import RESTING_USER, TAKING_USER, Entry, Market, Outcome
from ome.replay.errors import ReplayError
from ome.replay.flow import Fill

BATCH: Final = 1000
"""Commands after which what has changed is taken from the engine, as its runner does for every transaction."""

_WITH_ORDER: Final = (OrderAccepted, OrderFilled, OrderModified, OrderCancelled, OrderExpired)


class EngineDriver:
    """A `Driver` of `Engine.apply`."""

    def __init__(self, market: Market, engine: Engine | None = None) -> None:
        self.engine = engine or Engine()
        self._market = market
        self._prices, self._quantities = market.grids()

    async def open(self) -> None:
        """List the symbol; see `Driver`."""
        market = self._market
        for event in self._apply(DefineInstrument(market.symbol, market.tick_size, market.lot_size)):
            if isinstance(event, CommandRefused):
                raise ReplayError(f"{market} can't be listed: {event.reason.code}")
        if any(order.symbol == market.symbol for order in self.engine.state().orders):
            raise ReplayError(f"the book of {market.symbol} isn't empty")

    async def submit(self, entry: Entry) -> Outcome:
        """Submit an order; see `Driver`."""
        order = NewOrder(
            user_id=TAKING_USER if entry.taking else RESTING_USER,
            symbol=self._market.symbol,
            side=entry.side,
            type=OrderType.LIMIT,
            time_in_force=TimeInForce.IOC if entry.taking else TimeInForce.GTC,
            quantity=canonical(self._quantities.number(entry.quantity)),
            price=canonical(self._prices.number(entry.price)),
            client_order_id=entry.label,
        )
        return self._outcome(self._apply(order))

    async def modify(self, order_id: int, quantity: int, price: int) -> Outcome:
        """Change an order; see `Driver`."""
        total, new_price = canonical(self._quantities.number(quantity)), canonical(self._prices.number(price))
        return self._outcome(self._apply(ModifyOrder(order_id, exists=True, quantity=total, price=new_price)))

    async def cancel(self, order_id: int) -> Outcome:
        """Cancel an order; see `Driver`."""
        return self._outcome(self._apply(CancelOrder(order_id, exists=True)))

    async def book(self) -> Book:
        """The whole book, from the engine's own state; see `Driver`."""
        sides: dict[Side, dict[int, list[Resting]]] = {Side.BUY: {}, Side.SELL: {}}
        for order in sorted(self.engine.state().orders, key=attrgetter("priority")):
            if order.symbol == self._market.symbol and order.price is not None:
                queue = sides[order.side].setdefault(self._prices.steps(order.price), [])
                queue.append(Resting(order.id, self._quantities.steps(order.remaining_quantity)))
        bids = [Level(price, orders) for price, orders in sorted(sides[Side.BUY].items(), reverse=True)]
        asks = [Level(price, orders) for price, orders in sorted(sides[Side.SELL].items())]
        return Book(bids, asks)

    async def close(self) -> None:
        """Nothing is held."""

    def _apply(self, command: Command) -> list[Event]:
        engine = self.engine
        events = engine.apply(Stamped(engine.position + 1, engine.time + 1, command))
        if engine.position % BATCH == 0:
            engine.take_changes()
        return events

    def _outcome(self, events: Sequence[Event]) -> Outcome:
        order_id = remaining = 0
        fills: list[Fill] = []
        for event in events:
            if isinstance(event, Traded):
                trade = event.trade
                price, quantity = self._prices.steps(trade.price), self._quantities.steps(trade.quantity)
                fills.append(Fill(trade.maker_order_id, price, quantity))
            elif isinstance(event, _WITH_ORDER):
                order_id, remaining = event.order.id, self._quantities.steps(event.order.remaining_quantity)
            elif isinstance(event, OrderRejected):
                return Outcome(event.order.id, refused="rejected" if event.order.reason is None else event.order.reason.code)
            elif isinstance(event, CommandRefused):
                return Outcome(event.order_id or 0, refused=event.reason.code)
        return Outcome(order_id, remaining, tuple(fills))
