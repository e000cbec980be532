"""What the twin keeps and tells: orders, markets, trades and outcomes, every number a count of 10**-9."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field
from typing import NamedTuple

from ome.domain.commands import DefineInstrument, ModifyOrder, NewOrder
from ome.domain.enums import MarketState, OrderStatus, OrderType, SelfTradePrevention, Side, TimeInForce, TransferKind
from ome.domain.instrument import MAX_UNITS
from ome.domain.numbers import unpack
from ome.domain.reasons import Reason
from ome.domain.records import ControlRecord, SpecialTerms
from reference.auction import Indication

DECIMALS = 9
DEFAULT_TICK, DEFAULT_LOT = 10**7, 10**9
MAX_SLICES = 1000
OPEN = (OrderStatus.PENDING, OrderStatus.PARTIALLY_FILLED, OrderStatus.PENDING_TRIGGER)


def exact(number: int) -> int:
    """A number of `domain.numbers`, as a count of 10**-9."""
    mantissa, decimals = unpack(number)
    return int(mantissa * 10 ** (DECIMALS - decimals))


def maybe_exact(number: int | None) -> int | None:
    """The same, where there may be none."""
    return None if number is None else exact(number)


def too_large(value: int, step: int) -> bool:
    """Whether a value, counted in the last decimal of its tick or lot, has no room in 64 bits (N1)."""
    decimals = next(d for d in range(DECIMALS + 1) if step % 10 ** (DECIMALS - d) == 0)
    last_decimal: int = 10 ** (DECIMALS - decimals)
    return value > MAX_UNITS * last_decimal


class Terms(NamedTuple):
    """What an order asks for beyond the plain, and where that stands (see SpecialTerms)."""

    stop: int | None
    trail_amount: int | None
    trail_percent: int | None
    limit_offset: int | None
    post_only: bool
    display: int | None
    min_quantity: int | None
    max_slippage_bps: int | None
    shown: int | None
    prevented: int
    extreme: int | None
    triggered_at: int | None
    is_due: bool


class Picture(NamedTuple):
    """All that can be seen of an order, but for the number of its place in the queue."""

    id: int
    user_id: str
    symbol: str
    side: Side
    type: OrderType
    time_in_force: TimeInForce
    self_trade_prevention: SelfTradePrevention
    client_order_id: str | None
    quantity: int
    price: int | None
    filled: int
    filled_value: int
    remaining: int
    status: OrderStatus
    reason: Reason | None
    version: int
    expires_at: int | None
    created_at: int
    updated_at: int
    terms: Terms


class Trade(NamedTuple):
    """One trade; the maker's filled and remaining quantities are those right after it."""

    id: int
    symbol: str
    price: int
    quantity: int
    maker: int
    taker: int
    taker_side: Side | None
    time: int
    sequence: int
    maker_filled: int
    maker_remaining: int


class Order:
    """An order as the twin keeps it; `turn` grows with each order that joins the back of a queue."""

    def __init__(self, order_id: int, asked: NewOrder, time: int) -> None:
        terms = asked.terms or SpecialTerms()
        self.id = order_id
        self.asked = asked
        self.quantity = exact(asked.quantity)
        self.price = maybe_exact(asked.price)
        self.expires_at = asked.expires_at
        self.created_at = self.updated_at = time
        self.status = OrderStatus.PENDING
        self.reason: Reason | None = None
        self.filled = self.filled_value = self.prevented = self.hidden = self.turn = 0
        self.version = 1
        self.stop = maybe_exact(terms.stop_price)
        self.trail_amount = maybe_exact(terms.trail_amount)
        self.trail_percent = maybe_exact(terms.trail_percent)
        self.limit_offset = maybe_exact(terms.limit_offset)
        self.post_only = terms.post_only
        self.display = maybe_exact(terms.display_quantity)
        self.min_quantity = maybe_exact(terms.min_quantity)
        self.max_slippage_bps = terms.max_slippage_bps
        self.extreme: int | None = None
        self.triggered_at: int | None = None
        self.is_due = False

    @property
    def left(self) -> int:
        """What could still trade."""
        return self.quantity - self.filled - self.prevented

    @property
    def remaining(self) -> int:
        """What is still open: nothing once it has ended (N3)."""
        return self.left if self.status in OPEN else 0

    @property
    def shown(self) -> int:
        """What the book shows of it (T6)."""
        return self.left - self.hidden

    @property
    def trails(self) -> bool:
        """Whether its stop follows the last price (S6)."""
        return self.trail_amount is not None or self.trail_percent is not None

    @property
    def is_cut_too_small(self) -> bool:
        """Whether it would be more than a thousand slices, all of which one taker can meet in one command (T6)."""
        return self.display is not None and self.quantity > MAX_SLICES * self.display

    def show_slice(self) -> None:
        """An iceberg shows its display quantity, or what is left if that is less (T6)."""
        if self.display is not None:
            self.hidden = max(0, self.left - self.display)

    def has_fields_of(self, change: ModifyOrder) -> bool:
        """A change names only what the order was given; a stop can be moved only while it waits (A3, A8)."""
        is_waiting = self.status is OrderStatus.PENDING_TRIGGER
        return (
            (change.expires_at is None or self.asked.time_in_force is TimeInForce.GTD)
            and (change.price is None or self.price is not None)
            and (change.display_quantity is None or self.display is not None)
            and (change.stop_price is None or (is_waiting and not self.trails))
            and ((change.trail_amount is None and change.trail_percent is None) or (is_waiting and self.trails))
        )

    def with_change(self, change: ModifyOrder) -> Order:
        """What it would be; the order itself stays as it is."""
        other = copy(self)
        numbers = {
            "quantity": change.quantity,
            "price": change.price,
            "stop": change.stop_price,
            "display": change.display_quantity,
        }
        for name, number in numbers.items():
            if number is not None:
                setattr(other, name, exact(number))
        if change.expires_at is not None:
            other.expires_at = change.expires_at
        if change.trail_amount is not None:
            other.trail_amount, other.trail_percent = exact(change.trail_amount), None
        if change.trail_percent is not None:
            other.trail_amount, other.trail_percent = None, exact(change.trail_percent)
        return other

    def take_change(self, changed: Order) -> None:
        """Become what `with_change` gave, in a new version (A7)."""
        for name in ("quantity", "price", "stop", "display", "expires_at", "trail_amount", "trail_percent"):
            setattr(self, name, getattr(changed, name))
        self.version += 1

    def terms(self) -> Terms:
        """What it asks for beyond the plain, and where that stands."""
        is_rejected = self.status is OrderStatus.REJECTED
        shown = None if self.display is None or is_rejected else self.remaining - self.hidden
        return Terms(
            self.stop, self.trail_amount, self.trail_percent, self.limit_offset, self.post_only, self.display, self.min_quantity,
            self.max_slippage_bps, shown, self.prevented, self.extreme, self.triggered_at, self.is_due,
        )  # fmt: skip

    def picture(self) -> Picture:
        """The order as it stands."""
        a = self.asked
        return Picture(
            self.id, a.user_id, a.symbol, a.side, a.type, a.time_in_force, a.self_trade_prevention, a.client_order_id,
            self.quantity, self.price, self.filled, self.filled_value, self.remaining, self.status, self.reason, self.version,
            self.expires_at, self.created_at, self.updated_at, self.terms(),
        )  # fmt: skip


class Rules(NamedTuple):
    """What an operator has set on a symbol, and its state."""

    tick: int
    lot: int
    state: MarketState
    maximum: int | None
    band_percent: int | None
    band_halt_s: int
    session_close_s: int
    halted_until: int | None
    base: str | None
    quote: str | None
    maker_fee_bps: int
    taker_fee_bps: int


@dataclass
class Market:
    """A listed symbol."""

    tick: int
    lot: int
    listed_at: int
    sequence: int = 0
    last: tuple[int, int, int] | None = None
    """Price, quantity and time of the last trade."""
    state: MarketState = MarketState.OPEN
    maximum: int | None = None
    band_percent: int | None = None
    band_halt_s: int = 0
    session_close_s: int = 0
    halted_until: int | None = None
    base: str | None = None
    quote: str | None = None
    maker_fee_bps: int = 0
    taker_fee_bps: int = 0
    traded: list[int] = field(default_factory=list)
    """The prices that have traded since the stops were last looked at."""

    def take_rules(self, definition: DefineInstrument) -> None:
        """What is given replaces what was; a maximum or a band of 0 takes it away, assets without a name take funds away."""
        if definition.max_order_quantity is not None:
            self.maximum = exact(definition.max_order_quantity) or None
        if definition.price_band_percent is not None:
            self.band_percent = exact(definition.price_band_percent) or None
        if definition.band_halt_s is not None:
            self.band_halt_s = definition.band_halt_s
        if definition.session_close_s is not None:
            self.session_close_s = definition.session_close_s
        self.base, self.quote, self.maker_fee_bps, self.taker_fee_bps = self.funding_with(definition)

    def funding_with(self, definition: DefineInstrument) -> tuple[str | None, str | None, int, int]:
        """How its orders would be paid for, and at which fees (F1)."""
        d = definition
        return (
            self.base if d.base_asset is None else d.base_asset or None,
            self.quote if d.quote_asset is None else d.quote_asset or None,
            self.maker_fee_bps if d.maker_fee_bps is None else d.maker_fee_bps,
            self.taker_fee_bps if d.taker_fee_bps is None else d.taker_fee_bps,
        )

    def rules(self) -> Rules:
        """The symbol as it stands."""
        return Rules(
            self.tick, self.lot, self.state, self.maximum, self.band_percent, self.band_halt_s, self.session_close_s,
            self.halted_until, self.base, self.quote, self.maker_fee_bps, self.taker_fee_bps,
        )  # fmt: skip


Level = tuple[Side, int, int, int]
"""Side, price, quantity, orders: what BookChanged tells of a level."""


@dataclass
class Outcome:
    """What one command led to, each list in the order in which things happened."""

    story: list[tuple[str, int]] = field(default_factory=list)
    """Everything but the public updates at the end: its kind, and the order, the trade, the maker or the sequence it is about."""
    orders: list[tuple[str, Picture]] = field(default_factory=list)
    trades: list[Trade] = field(default_factory=list)
    prevented: list[tuple[int, int, int, int]] = field(default_factory=list)
    """Maker, taker, price and quantity of what did not trade (P2)."""
    refused: tuple[int | None, Reason] | None = None
    transfers: list[tuple[int, TransferKind, str, str, int]] = field(default_factory=list)
    """Id, kind, user, asset and amount of what was moved (F2)."""
    markets: list[tuple[str, int, Rules]] = field(default_factory=list)
    """Symbol, sequence and rules of what was listed or changed."""
    controls: list[tuple[ControlRecord, int]] = field(default_factory=list)
    """Limits, kills and timers as they were set, and how many orders a kill found open (R1, I3)."""
    books: dict[str, tuple[int, list[Level]]] = field(default_factory=dict)
    """By symbol: the sequence that closed the command, and every level that it touched."""
    auctions: dict[str, tuple[int, Indication | None]] = field(default_factory=dict)
    """By symbol in AUCTION: a sequence, and what an uncross would give (H3)."""
