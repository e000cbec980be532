"""What the rule book asks of whatever it is played against, and the player that asks it."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple, Protocol

from ome.conformance.language import (
    Allow,
    Cancel,
    CancelAfter,
    CancelAll,
    Change,
    Expected,
    Fill,
    Kill,
    Listing,
    LookAtAuction,
    LookAtBalance,
    LookAtBook,
    LookAtLast,
    LookAtOrder,
    LookAtPosition,
    LookAtQueue,
    LookAtState,
    LookAtTape,
    Pass,
    Scenario,
    Settings,
    Step,
    Submit,
    Together,
    Transfer,
)


class OrderView(NamedTuple):
    """An order as a venue shows it; `reason` is its code, `lost` what prevention took off, `stop` where its stop stands."""

    status: str
    reason: str | None
    filled: Decimal
    left: Decimal
    version: int
    price: Decimal | None = None
    stop: Decimal | None = None
    lost: Decimal = Decimal(0)


class Answer(NamedTuple):
    """What a step led to: a refusal's code, or an order with the trades that it made as taker in this very step.

    The names in fills are order ids. `prevented` is None where the venue can't tell.
    """

    refused: str | None = None
    order_id: str = ""
    order: OrderView | None = None
    trades: tuple[Fill, ...] = ()
    prevented: tuple[Fill, ...] | None = ()
    replayed: bool = False


class Indicated(NamedTuple):
    """What an uncross would give; `surplus` is above 0 of buyers, below 0 of sellers."""

    volume: Decimal
    price: Decimal
    surplus: Decimal


class Holding(NamedTuple):
    """What a user holds; `average` is None where nothing is open."""

    quantity: Decimal
    average: Decimal | None
    realised: Decimal


class Mismatch(AssertionError):
    """What came is not what is written: `what` of a step, `expected` and `got`, in words."""

    def __init__(self, what: str, expected: str, got: str) -> None:
        super().__init__(f"{what}: expected {expected}, got {got}")
        self.what = what
        self.expected = expected
        self.got = got


class Venue(Protocol):
    """A fresh market with nobody in it. What it `can` do beyond the rest: "clock", "settings", "service", "auto listing",
    "alone" (nobody else is there whom a switch for all would stop).
    """

    can: frozenset[str]

    def submit(self, order: Submit) -> Answer:
        """Send an order."""

    def modify(self, order_id: str, change: Change) -> Answer:
        """Change an order."""

    def cancel(self, order_id: str) -> Answer:
        """Cancel an order."""

    def cancel_all(self, command: CancelAll) -> list[str]:
        """Cancel many: the ids of those that it ended, in order."""

    def batch(self, actions: Sequence[tuple[Submit | Change | Cancel, str]]) -> list[Answer]:
        """Send many at once, each with the id of the order that it names ("" for a new one)."""

    def list_symbol(self, listing: Listing) -> Answer:
        """List a symbol or change it."""

    def transfer(self, transfer: Transfer, client_transfer_id: str) -> Answer:
        """Put money into an account, or take it out."""

    def balance(self, user: str, asset: str) -> tuple[Decimal, Decimal]:
        """What a user has of an asset, and how much of it is reserved."""

    def allow(self, limits: Allow) -> None:
        """Limit a user."""

    def kill(self, kill: Kill) -> None:
        """Set or lift a kill switch; that of all needs "alone"."""

    def cancel_after(self, timer: CancelAfter) -> None:
        """Arm or disarm a user's timer."""

    def holding(self, user: str, symbol: str) -> Holding:
        """What a user holds."""

    def configure(self, settings: Settings) -> None:
        """Give other settings; needs "settings"."""

    def let_pass(self, seconds: int) -> None:
        """Let time pass; needs "clock"."""

    def order(self, order_id: str) -> OrderView:
        """An order as it stands."""

    def book(self, symbol: str) -> tuple[list[tuple[Decimal, Decimal]], list[tuple[Decimal, Decimal]]]:
        """Bids and asks: quantity and price of every level, best first."""

    def queue(self, symbol: str, price: Decimal) -> list[tuple[str, Decimal]]:
        """The orders of a level, in the order in which they trade: id and what is left."""

    def last(self, symbol: str) -> Decimal | None:
        """The price of the last trade."""

    def tape(self, symbol: str) -> list[tuple[Fill, str]]:
        """Every trade, oldest first: what was traded with the maker, and the taker."""

    def state(self, symbol: str) -> str:
        """What the symbol takes."""

    def auction(self, symbol: str) -> Indicated | None:
        """What an uncross would give now; None for nothing."""


NOBODYS_ORDER = "999999999999"
"""The id that a name has which no order was given."""


def needs(scenario: Scenario) -> frozenset[str]:
    """What a venue must be able to do to play it."""
    of_steps = {Settings: "settings", Pass: "clock"}
    found = {of_steps[type(step.action)] for step in scenario.steps if type(step.action) in of_steps}
    kills = [step.action for step in scenario.steps if isinstance(step.action, Kill)]
    return scenario.needs | found | {"alone" for kill in kills if kill.user is None and kill.symbol is None}


def play(scenario: Scenario, venue: Venue) -> None:
    """Play one scenario in a fresh venue; AssertionError names the line that did not come out as written."""
    player = Player(venue)
    for step in scenario.steps:
        try:
            player.take(step)
        except AssertionError as error:
            raise AssertionError(f"{scenario.file}.txt:{step.line}: {step.text}\n    {error}") from None


class Player:
    """Plays a scenario's steps one by one in a fresh venue, and knows orders by their names."""

    def __init__(self, venue: Venue) -> None:
        self.venue = venue
        self.ids: dict[str, str] = {}
        self.transfers = 0

    def take(self, step: Step) -> None:
        """Do what a step says and look at what came of it; Mismatch where that is not what is written."""
        self._send(step)
        self._look(step)

    def _send(self, step: Step) -> None:
        match step.action:
            case Submit() as order:
                answer = self.venue.submit(order)
                if answer.order_id:
                    self.ids[order.name] = answer.order_id
                self._compare(step.expected, answer)
            case Change(name) as change:
                self._compare(step.expected, self.venue.modify(self._id(name), change))
            case Cancel(name):
                self._compare(step.expected, self.venue.cancel(self._id(name)))
            case CancelAll() as command:
                ended = [self._name(order_id) for order_id in self.venue.cancel_all(command)]
                _same("cancelled", list(step.expected.cancelled), ended)
            case Together() as batch:
                self._send_together(batch)
            case _:
                self._operate(step)

    def _operate(self, step: Step) -> None:
        """What an operator sends, and the clock."""
        match step.action:
            case Listing() as listing:
                self._compare(step.expected, self.venue.list_symbol(listing))
            case Transfer() as transfer:
                self.transfers += 1
                client_id = transfer.client_transfer_id or f"transfer-{self.transfers}"
                self._compare(step.expected, self.venue.transfer(transfer, client_id))
            case Settings() as settings:
                self.venue.configure(settings)
            case Pass(seconds):
                self.venue.let_pass(seconds)
            case _:
                self._send_control(step)

    def _send_control(self, step: Step) -> None:
        match step.action:
            case Allow() as limits:
                self.venue.allow(limits)
            case Kill() as kill:
                self.venue.kill(kill)
            case CancelAfter() as timer:
                self.venue.cancel_after(timer)

    def _send_together(self, batch: Together) -> None:
        """A batch's items name orders from before it."""
        items = [(action, "" if isinstance(action, Submit) else self._id(action.name)) for action in batch.actions]
        answers = self.venue.batch(items)
        _same("answers", len(items), len(answers))
        for action, expected, answer in zip(batch.actions, batch.expected, answers, strict=True):
            if isinstance(action, Submit) and answer.order_id:
                self.ids[action.name] = answer.order_id
            self._compare(expected, answer)

    def _look(self, step: Step) -> None:
        match step.action:
            case LookAtOrder(name):
                self._compare_order(step.expected, self.venue.order(self._id(name)))
            case LookAtBook(symbol, bids, asks):
                _same("book", (list(bids), list(asks)), self.venue.book(symbol))
            case LookAtQueue(symbol, price, orders):
                queue = [(self._name(order_id), left) for order_id, left in self.venue.queue(symbol, price)]
                _same("queue", list(orders), queue)
            case LookAtLast(symbol, price):
                _same("last", price, self.venue.last(symbol))
            case LookAtTape(symbol, trades):
                tape = [(fill._replace(name=self._name(fill.name)), self._name(taker)) for fill, taker in self.venue.tape(symbol)]
                _same("tape", list(trades), tape)
            case LookAtBalance(user, asset, total, reserved):
                _same("balance", (total, reserved), self.venue.balance(user, asset))
            case LookAtState(symbol, state):
                _same("state", state, self.venue.state(symbol))
            case LookAtPosition() as looked:
                self._compare_holding(looked, self.venue.holding(looked.user, looked.symbol))
            case LookAtAuction(symbol, found):
                _same("auction", found, self.venue.auction(symbol))

    @staticmethod
    def _compare_holding(looked: LookAtPosition, found: Holding) -> None:
        _same("quantity", looked.quantity, found.quantity)
        if looked.average is not None:
            _same("average", looked.average, found.average)
        if looked.realised is not None:
            _same("realised", looked.realised, found.realised)

    def _id(self, name: str) -> str:
        return self.ids.get(name, NOBODYS_ORDER)

    def _name(self, order_id: str) -> str:
        return next((name for name, known in self.ids.items() if known == order_id), order_id)

    def _compare(self, expected: Expected, answer: Answer) -> None:
        _same("refused", expected.refused, answer.refused)
        _same("replayed", expected.replayed, answer.replayed)
        _same("trades", expected.trades, tuple(fill._replace(name=self._name(fill.name)) for fill in answer.trades))
        if answer.prevented is not None:
            prevented = tuple(fill._replace(name=self._name(fill.name)) for fill in answer.prevented)
            _same("prevented", expected.prevented, prevented)
        if expected.status is not None:
            if answer.order is None:
                raise Mismatch("order", expected.status, "none")
            self._compare_order(expected, answer.order)

    def _compare_order(self, expected: Expected, order: OrderView) -> None:
        _same("status", _status(expected.status, expected.reason), _status(order.status, order.reason))
        for name in ("filled", "left", "version", "price", "stop", "lost"):
            wanted = getattr(expected, name)
            if wanted is not None:
                _same(name, wanted, getattr(order, name))


def _status(status: str | None, reason: str | None) -> str:
    return f"{status} {reason or ''}".strip()


def _same(what: str, expected: object, got: object) -> None:
    if expected != got:
        raise Mismatch(what, _plain(expected), _plain(got))


def _plain(value: object) -> str:
    """A value without the noise of its types."""
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, Fill):
        return f"{value.quantity:f} @ {value.price:f} with {value.name}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_plain, value)) + "]"
    return "nothing" if value is None else str(value)
