"""Venues without a service: the engine, and its naive twin, told commands directly."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Protocol

from msgspec import structs

from ome.conformance.language import (
    Allow,
    Cancel,
    CancelAfter,
    CancelAll,
    Change,
    Fill,
    Kill,
    Listing,
    Settings,
    Submit,
)
from ome.conformance.language import Transfer as TransferStep
from ome.conformance.venue import (
    Answer,
    Holding,
    Indicated,
    OrderView,
)
from ome.domain.commands import (
    AdvanceTime,
    CancelAllAfter,
    CancelOrder,
    CancelOrders,
    Command,
    Configure,
    DefineInstrument,
    ModifyOrder,
    NewOrder,
    SetKill,
    SetLimits,
    Stamped,
    Transfer,
)
from ome.domain.enums import MarketState, OrderType, SelfTradePrevention, Side, TimeInForce, TransferKind
from ome.domain.errors import NumberError
from ome.domain.numbers import parse
from ome.domain.records import EngineSettings, Limits, SpecialTerms
from ome.engine.engine import Engine
from reference.compare import outcome_of, picture, queue_of
from reference.holdings import MONEY, QUANTITY, holding
from reference.pictures import DECIMALS, Outcome, Picture, Trade, exact
from reference.twin import Twin

SECOND = 1_000_000
START = 1_700_000_000 * SECOND
"""2023-11-14T22:13:20Z."""
CHUNK = 2
"""Orders that one mass cancel's command ends: so few that scenarios see it done in chunks (I2)."""


class Books(Protocol):
    """What the engine and the twin both do, in the twin's words."""

    def apply(self, stamped: Stamped) -> Outcome:
        """Carry out a command."""

    def order(self, order_id: int) -> Picture:
        """An order as it stands, ended or not."""

    def side(self, symbol: str, side: Side) -> list[Picture]:
        """One side of a book in the order in which it trades."""

    def last(self, symbol: str) -> int | None:
        """The last price, as a count of 10**-9."""

    def state(self, symbol: str) -> MarketState:
        """What the symbol takes."""

    def balance(self, user: str, asset: str) -> tuple[Fraction, Fraction]:
        """What a user has of an asset, and how much of it is reserved."""

    def holding(self, user: str, symbol: str) -> Holding:
        """What a user holds."""


class EngineBooks:
    """The engine, and what it has handed over for storing."""

    def __init__(self) -> None:
        self.engine = Engine()
        self.stored: dict[int, Picture] = {}

    def apply(self, stamped: Stamped) -> Outcome:
        """Carry out a command and check the invariants."""
        outcome = outcome_of(self.engine.apply(stamped))
        self.engine.check_invariants()
        self.stored |= {record.id: picture(record) for record in self.engine.take_changes().orders}
        return outcome

    def order(self, order_id: int) -> Picture:
        """An order as it was last handed over."""
        return self.stored[order_id]

    def side(self, symbol: str, side: Side) -> list[Picture]:
        """One side of a book in the order in which it trades."""
        return queue_of(self.engine.state(), symbol, side)

    def last(self, symbol: str) -> int | None:
        """The last price."""
        prices = [record.last_price for record in self.engine.state().instruments if record.symbol == symbol]
        return None if not prices or prices[0] is None else exact(prices[0])

    def state(self, symbol: str) -> MarketState:
        """What the symbol takes."""
        return next(record.state for record in self.engine.state().instruments if record.symbol == symbol)

    def balance(self, user: str, asset: str) -> tuple[Fraction, Fraction]:
        """As its record tells it."""
        found = [row for row in self.engine.state().balances if (row.user_id, row.asset) == (user, asset)]
        return (Fraction(found[0].total), Fraction(found[0].reserved)) if found else (Fraction(0), Fraction(0))

    def holding(self, user: str, symbol: str) -> Holding:
        """What a user holds."""
        for record in self.engine.state().positions:
            if (record.user_id, record.symbol) == (user, symbol):
                quantity, cost = Decimal(record.quantity), Decimal(record.cost)
                return Holding(quantity, cost / quantity if quantity else None, Decimal(record.realised))
        return Holding(Decimal(0), None, Decimal(0))


class RestartedBooks(EngineBooks):
    """The engine, restored from its own state before each command: nothing may show (M6)."""

    def apply(self, stamped: Stamped) -> Outcome:
        """Restart, then carry out a command."""
        self.engine = Engine.restore(self.engine.state())
        return super().apply(stamped)


class TwinBooks:
    """The twin."""

    def __init__(self) -> None:
        self.twin = Twin()

    def apply(self, stamped: Stamped) -> Outcome:
        """Carry out a command."""
        return self.twin.apply(stamped)

    def order(self, order_id: int) -> Picture:
        """An order as it stands."""
        return self.twin.orders[order_id].picture()

    def side(self, symbol: str, side: Side) -> list[Picture]:
        """One side of a book in the order in which it trades."""
        return [order.picture() for order in self.twin.queue(symbol, side)]

    def last(self, symbol: str) -> int | None:
        """The last price."""
        market = self.twin.markets.get(symbol)
        return None if market is None or market.last is None else market.last[0]

    def state(self, symbol: str) -> MarketState:
        """What the symbol takes."""
        return self.twin.markets[symbol].state

    def balance(self, user: str, asset: str) -> tuple[Fraction, Fraction]:
        """As it adds them up."""
        total = self.twin.accounts.totals.get((user, asset), 0)
        return Fraction(total, 10**18), Fraction(total - self.twin.available(user, asset), 10**18)

    def holding(self, user: str, symbol: str) -> Holding:
        """What a user holds."""
        found = holding(self.twin.fills, user, symbol)
        one, money = 10**QUANTITY, 10**MONEY
        average = Fraction(found.cost) / found.quantity / one if found.quantity else None
        realised = found.realised / money
        return Holding(
            Decimal(found.quantity).scaleb(-QUANTITY),
            None if average is None else Decimal(average.numerator) / average.denominator,
            Decimal(realised.numerator) / realised.denominator,
        )


class InProcess:
    """A venue over commands: it stamps them, and remembers every trade and what each auction was last said to give."""

    can = frozenset({"clock", "settings", "auto listing", "alone"})

    def __init__(self, books: Books) -> None:
        self.books = books
        self.clock = START
        self.position = 0
        self.settings = EngineSettings(keeps_positions=True)
        self.known: set[str] = set()
        self.made: dict[tuple[str, str], Transfer] = {}
        self.trades: list[Trade] = []
        self.indicated: dict[str, Indicated | None] = {}
        self._apply(Configure(self.settings))

    def submit(self, order: Submit) -> Answer:
        """Send an order; a number that can't be read is refused as the edge does."""
        try:
            command = self._new_order(order)
        except NumberError:
            return Answer(refused="invalid_request")
        outcome = self._apply(command)
        self.known.add(str(self.position))
        return self._answer(str(self.position), outcome)

    def modify(self, order_id: str, change: Change) -> Answer:
        """Change an order."""
        try:
            command = ModifyOrder(
                int(order_id),
                order_id in self.known,
                _parse(change.quantity),
                _parse(change.price),
                self._deadline(change.deadline_s),
                change.version,
                _parse(change.stop_price),
                _parse(change.trail_amount),
                _parse(change.trail_percent),
                _parse(change.display_quantity),
            )
        except NumberError:
            return Answer(refused="invalid_request")
        return self._answer(order_id, self._apply(command))

    def cancel(self, order_id: str) -> Answer:
        """Cancel an order."""
        return self._answer(order_id, self._apply(CancelOrder(int(order_id), order_id in self.known)))

    def cancel_all(self, command: CancelAll) -> list[str]:
        """Cancel many, in chunks, until a chunk is not full."""
        side = None if command.side is None else Side[command.side]
        ended: list[str] = []
        while True:
            outcome = self._apply(CancelOrders(command.user, command.symbol, side, CHUNK))
            chunk = [str(order.id) for event, order in outcome.orders if event == "cancelled"]
            ended += chunk
            if len(chunk) < CHUNK:
                return ended

    def batch(self, actions: Sequence[tuple[Submit | Change | Cancel, str]]) -> list[Answer]:
        """Carry out each in its order (I4)."""
        return [self._one_of_batch(action, order_id) for action, order_id in actions]

    def list_symbol(self, listing: Listing) -> Answer:
        """List a symbol or change it."""
        hours, _, minutes = (listing.session_close or "").partition(":")
        outcome = self._apply(
            DefineInstrument(
                listing.symbol,
                _parse(listing.tick),
                _parse(listing.lot),
                None if listing.state is None else MarketState[listing.state],
                _parse(listing.maximum),
                _parse(listing.band_percent),
                listing.band_halt_s,
                None if listing.session_close is None else int(hours) * 3600 + int(minutes) * 60,
                listing.base_asset,
                listing.quote_asset,
                listing.maker_fee_bps,
                listing.taker_fee_bps,
            )
        )
        return Answer(refused=None if outcome.refused is None else outcome.refused[1].code)

    def transfer(self, transfer: TransferStep, client_transfer_id: str) -> Answer:
        """Make a transfer, once per client id: what the engine can't know is looked up before (M6)."""
        kind = TransferKind.DEPOSIT if transfer.is_deposit else TransferKind.WITHDRAWAL
        command = Transfer(kind, transfer.user, transfer.asset, parse(transfer.amount), client_transfer_id)
        before = self.made.get((transfer.user, client_transfer_id))
        if before is not None:
            same = before == command
            return Answer(refused=None if same else "client_transfer_id_conflict", replayed=same)
        outcome = self._apply(command)
        if outcome.refused is not None:
            return Answer(refused=outcome.refused[1].code)
        self.made[transfer.user, client_transfer_id] = command
        return Answer()

    def balance(self, user: str, asset: str) -> tuple[Decimal, Decimal]:
        """What there is, and what is reserved of it, exactly."""
        total, reserved = (Decimal(part.numerator) / Decimal(part.denominator) for part in self.books.balance(user, asset))
        return total, reserved

    def allow(self, limits: Allow) -> None:
        """Limit a user."""
        numbers = [_parse(text) for text in (limits.quantity, limits.notional, limits.position, limits.collar_percent)]
        allowed = Limits(numbers[0], numbers[1], limits.open_orders, numbers[2], numbers[3])
        self._apply(SetLimits(limits.user, limits.symbol or "", allowed))

    def kill(self, kill: Kill) -> None:
        """Set or lift a switch."""
        self._apply(SetKill(kill.user or "", kill.symbol or "", kill.active))

    def cancel_after(self, timer: CancelAfter) -> None:
        """Arm or disarm a timer."""
        self._apply(CancelAllAfter(timer.user, timer.seconds))

    def holding(self, user: str, symbol: str) -> Holding:
        """What a user holds."""
        return self.books.holding(user, symbol)

    def configure(self, settings: Settings) -> None:
        """Give other settings."""
        given = {"auto_list": settings.auto_list, "max_symbols": settings.max_symbols, "max_cascade": settings.max_cascade}
        self.settings = structs.replace(self.settings, **{name: value for name, value in given.items() if value is not None})
        self._apply(Configure(self.settings))

    def let_pass(self, seconds: int) -> None:
        """Move the clock, and send what the timer sends."""
        self.clock += seconds * SECOND
        self._apply(AdvanceTime())

    def order(self, order_id: str) -> OrderView:
        """An order as it stands."""
        return _view(self.books.order(int(order_id)))

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

    def tape(self, symbol: str) -> list[tuple[Fill, str]]:
        """Every trade that was told."""
        return [(_fill(trade), str(trade.taker)) for trade in self.trades if trade.symbol == symbol]

    def state(self, symbol: str) -> str:
        """What the symbol takes."""
        return self.books.state(symbol).name

    def auction(self, symbol: str) -> Indicated | None:
        """What was last told of the auction."""
        return self.indicated[symbol]

    def _one_of_batch(self, action: Submit | Change | Cancel, order_id: str) -> Answer:
        match action:
            case Submit():
                return self.submit(action)
            case Change():
                return self.modify(order_id, action)
            case Cancel():
                return self.cancel(order_id)

    def _new_order(self, order: Submit) -> NewOrder:
        terms = SpecialTerms(
            _parse(order.stop_price),
            _parse(order.trail_amount),
            _parse(order.trail_percent),
            _parse(order.limit_offset),
            order.post_only,
            _parse(order.display_quantity),
            _parse(order.min_quantity),
            order.max_slippage_bps,
        )
        return NewOrder(
            order.user,
            order.symbol,
            Side[order.side],
            OrderType[order.type],
            TimeInForce[order.time_in_force],
            parse(order.quantity),
            _parse(order.price),
            SelfTradePrevention[order.prevention],
            order.client_order_id,
            self._deadline(order.deadline_s),
            None if terms == SpecialTerms() else terms,
        )

    def _levels(self, symbol: str, side: Side) -> list[tuple[Decimal, Decimal]]:
        levels: dict[Decimal, Decimal] = {}
        for order in self.books.side(symbol, side):
            price = _decimal(order.price or 0)
            levels[price] = levels.get(price, Decimal(0)) + _shown(order)
        return [(quantity, price) for price, quantity in levels.items()]

    def _deadline(self, seconds: int | None) -> int | None:
        return None if seconds is None else self.clock + seconds * SECOND

    def _apply(self, command: Command) -> Outcome:
        self.position += 1
        outcome = self.books.apply(Stamped(self.position, self.clock, command))
        self.trades += outcome.trades
        for symbol, (_, found) in outcome.auctions.items():
            numbers = None if found is None else [_decimal(n) for n in (found.volume, found.price, found.imbalance)]
            self.indicated[symbol] = None if numbers is None else Indicated(*numbers)
        return outcome

    def _answer(self, order_id: str, outcome: Outcome) -> Answer:
        if outcome.refused is not None:
            return Answer(refused=outcome.refused[1].code)
        fills = [_fill(trade) for trade in outcome.trades if str(trade.taker) == order_id]
        prevented = [
            Fill(_decimal(quantity), _decimal(price), str(maker))
            for maker, taker, price, quantity in outcome.prevented
            if str(taker) == order_id
        ]
        return Answer(None, order_id, self.order(order_id), tuple(fills), tuple(prevented))


def _parse(text: str | None) -> int | None:
    return None if text is None else parse(text)


def _decimal(count: int) -> Decimal:
    return Decimal(count).scaleb(-DECIMALS)


def _shown(order: Picture) -> Decimal:
    return _decimal(order.remaining if order.terms.shown is None else order.terms.shown)


def _fill(trade: Trade) -> Fill:
    return Fill(_decimal(trade.quantity), _decimal(trade.price), str(trade.maker))


def _view(order: Picture) -> OrderView:
    reason = None if order.reason is None else order.reason.code
    price = None if order.price is None else _decimal(order.price)
    stop = None if order.terms.stop is None else _decimal(order.terms.stop)
    lost = _decimal(order.terms.prevented)
    return OrderView(
        order.status.name, reason, _decimal(order.filled), _decimal(order.remaining), order.version, price, stop, lost
    )
