"""Venues without a service: the engine, and its naive twin, told commands directly."""

from __future__ import annotations

from decimal import Decimal
from typing import Protocol

from ome.domain.commands import AdvanceTime, CancelOrder, Command, Configure, DefineInstrument, ModifyOrder, NewOrder, Stamped
from ome.domain.enums import OrderType, SelfTradePrevention, Side, TimeInForce
from ome.domain.errors import NumberError
from ome.domain.numbers import parse
from ome.domain.records import EngineSettings
from ome.engine.engine import Engine
from reference.compare import outcome_of, queue_of
from reference.twin import DECIMALS, Outcome, Picture, Twin, exact
from scenarios.language import Change, Fill, Listing, Settings, Submit
from scenarios.venue import Answer, OrderView

SECOND = 1_000_000
START = 1_700_000_000 * SECOND


class Books(Protocol):
    """What the engine and the twin both do, in the twin's words."""

    def apply(self, stamped: Stamped) -> Outcome:
        """Carry out a command."""

    def side(self, symbol: str, side: Side) -> list[Picture]:
        """One side of a book in the order in which it trades."""

    def last(self, symbol: str) -> int | None:
        """The last price, as a count of 10**-9."""


class EngineBooks:
    """The engine."""

    def __init__(self) -> None:
        self.engine = Engine()

    def apply(self, stamped: Stamped) -> Outcome:
        """Carry out a command and check the invariants."""
        outcome = outcome_of(self.engine.apply(stamped))
        self.engine.check_invariants()
        return outcome

    def side(self, symbol: str, side: Side) -> list[Picture]:
        """One side of a book in the order in which it trades."""
        return queue_of(self.engine.state(), symbol, side)

    def last(self, symbol: str) -> int | None:
        """The last price."""
        prices = [record.last_price for record in self.engine.state().instruments if record.symbol == symbol]
        return None if not prices or prices[0] is None else exact(prices[0])


class TwinBooks:
    """The twin."""

    def __init__(self) -> None:
        self.twin = Twin()

    def apply(self, stamped: Stamped) -> Outcome:
        """Carry out a command."""
        return self.twin.apply(stamped)

    def side(self, symbol: str, side: Side) -> list[Picture]:
        """One side of a book in the order in which it trades."""
        return [order.picture() for order in self.twin.queue(symbol, side)]

    def last(self, symbol: str) -> int | None:
        """The last price."""
        market = self.twin.markets.get(symbol)
        return None if market is None or market.last is None else market.last[0]


class InProcess:
    """A venue over commands: it stamps them, and remembers how every order was last told of."""

    can = frozenset({"clock", "settings"})

    def __init__(self, books: Books) -> None:
        self.books = books
        self.clock = START
        self.position = 0
        self.orders: dict[str, Picture] = {}

    def submit(self, order: Submit) -> Answer:
        """Send an order; a number that can't be read is refused as the edge does."""
        try:
            command = NewOrder(
                order.user,
                order.symbol,
                Side[order.side],
                OrderType.MARKET if order.price is None else OrderType.LIMIT,
                TimeInForce[order.time_in_force],
                parse(order.quantity),
                None if order.price is None else parse(order.price),
                SelfTradePrevention.NONE if order.meeting_own else SelfTradePrevention.CANCEL_NEWEST,
                order.client_order_id,
                self._deadline(order.deadline_s),
            )
        except NumberError:
            return Answer(refused="invalid_request")
        outcome = self._apply(command)
        return self._answer(str(self.position), outcome)

    def modify(self, order_id: str, change: Change) -> Answer:
        """Change an order."""
        try:
            command = ModifyOrder(
                int(order_id),
                order_id in self.orders,
                None if change.quantity is None else parse(change.quantity),
                None if change.price is None else parse(change.price),
                self._deadline(change.deadline_s),
                change.version,
            )
        except NumberError:
            return Answer(refused="invalid_request")
        return self._answer(order_id, self._apply(command))

    def cancel(self, order_id: str) -> Answer:
        """Cancel an order."""
        return self._answer(order_id, self._apply(CancelOrder(int(order_id), order_id in self.orders)))

    def list_symbol(self, listing: Listing) -> Answer:
        """List a symbol or change it."""
        tick, lot = (None if text is None else parse(text) for text in (listing.tick, listing.lot))
        outcome = self._apply(DefineInstrument(listing.symbol, tick, lot))
        return Answer(refused=None if outcome.refused is None else outcome.refused[1].code)

    def configure(self, settings: Settings) -> None:
        """Give other settings."""
        self._apply(Configure(EngineSettings(settings.auto_list, settings.max_symbols)))

    def let_pass(self, seconds: int) -> None:
        """Move the clock, and send what the timer sends."""
        self.clock += seconds * SECOND
        self._apply(AdvanceTime())

    def order(self, order_id: str) -> OrderView:
        """An order as it was last told of."""
        return _view(self.orders[order_id])

    def book(self, symbol: str) -> tuple[list[tuple[Decimal, Decimal]], list[tuple[Decimal, Decimal]]]:
        """Bids and asks, summed from the queues."""
        return self._levels(symbol, Side.BUY), self._levels(symbol, Side.SELL)

    def queue(self, symbol: str, price: Decimal) -> list[tuple[str, Decimal]]:
        """The orders of a level."""
        orders = [order for side in Side for order in self.books.side(symbol, side)]
        return [(str(order.id), _decimal(order.remaining)) for order in orders if _decimal(order.price or 0) == price]

    def last(self, symbol: str) -> Decimal | None:
        """The price of the last trade."""
        price = self.books.last(symbol)
        return None if price is None else _decimal(price)

    def _levels(self, symbol: str, side: Side) -> list[tuple[Decimal, Decimal]]:
        levels: dict[Decimal, Decimal] = {}
        for order in self.books.side(symbol, side):
            price = _decimal(order.price or 0)
            levels[price] = levels.get(price, Decimal(0)) + _decimal(order.remaining)
        return [(quantity, price) for price, quantity in levels.items()]

    def _deadline(self, seconds: int | None) -> int | None:
        return None if seconds is None else self.clock + seconds * SECOND

    def _apply(self, command: Command) -> Outcome:
        self.position += 1
        outcome = self.books.apply(Stamped(self.position, self.clock, command))
        for trade in outcome.trades:
            maker = self.orders[str(trade.maker)]
            status = "PARTIALLY_FILLED" if trade.maker_remaining else "FILLED"
            self.orders[str(trade.maker)] = maker._replace(
                filled=trade.maker_filled, remaining=trade.maker_remaining, status=type(maker.status)[status]
            )
        for _, picture in outcome.orders:
            self.orders[str(picture.id)] = picture
        return outcome

    def _answer(self, order_id: str, outcome: Outcome) -> Answer:
        if outcome.refused is not None:
            return Answer(refused=outcome.refused[1].code)
        fills = [Fill(_decimal(t.quantity), _decimal(t.price), str(t.maker)) for t in outcome.trades]
        prevented = [Fill(_decimal(quantity), _decimal(price), str(maker)) for maker, _, price, quantity in outcome.prevented]
        return Answer(None, order_id, _view(self.orders[order_id]), tuple(fills), tuple(prevented))


def _decimal(count: int) -> Decimal:
    return Decimal(count).scaleb(-DECIMALS)


def _view(order: Picture) -> OrderView:
    reason = None if order.reason is None else order.reason.code
    return OrderView(order.status.name, reason, _decimal(order.filled), _decimal(order.remaining), order.version)
