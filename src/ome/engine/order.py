"""An order as the engine holds it: in whole ticks and lots, linked into its price level.

Mutable and never shown to anybody outside the engine: `record` makes the immutable picture that events and rows carry.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ome.domain.enums import LAST_OPEN, OrderStatus, OrderType, SelfTradePrevention, Side, TimeInForce
from ome.domain.instrument import Instrument
from ome.domain.reasons import Reason
from ome.domain.records import OrderRecord
from ome.engine.special import Special

if TYPE_CHECKING:
    from ome.engine.accounts import Account
    from ome.engine.price_level import PriceLevel


_PENDING: Final = OrderStatus.PENDING
_PARTIALLY_FILLED: Final = OrderStatus.PARTIALLY_FILLED
_FILLED: Final = OrderStatus.FILLED
_PENDING_TRIGGER: Final = OrderStatus.PENDING_TRIGGER


class Order:
    """An open order, or one that has ended in the command being applied.

    `price` is in ticks (None for MARKET), `quantity`, `filled` and `remaining` in lots, `filled_value` the sum of ticks times
    lots over its fills; `hidden` is what an iceberg doesn't show, 0 for others, and `special` what it asks for beyond the
    plain. `level`, `previous` and `next` are its place in the book, owned by `PriceLevel`; `level` is None
    while it isn't in one. `account` is its user's in its symbol, given by `Accounts.opened`; `earlier` and `later` are its place
    among its user's orders, owned by `accounts.User`. `digest` is what the state hash counts for it now.
    """

    __slots__ = (
        "account",
        "client_order_id",
        "created_at",
        "digest",
        "earlier",
        "expires_at",
        "filled",
        "filled_value",
        "hidden",
        "id",
        "instrument",
        "later",
        "level",
        "next",
        "picture",
        "previous",
        "price",
        "priority",
        "quantity",
        "reason",
        "remaining",
        "self_trade_prevention",
        "side",
        "special",
        "status",
        "time_in_force",
        "type",
        "updated_at",
        "user_id",
        "version",
    )
    account: Account

    def __init__(  # noqa: PLR0913, PLR0917  an order has these fields, and one is made for each command
        self,
        order_id: int,
        instrument: Instrument,
        user_id: str,
        side: Side,
        order_type: OrderType,
        time_in_force: TimeInForce,
        quantity: int,
        price: int | None,
        priority: int,
        created_at: int,
        self_trade_prevention: SelfTradePrevention,
        client_order_id: str | None,
        expires_at: int | None,
        special: Special | None = None,
        updated_at: int | None = None,
        filled: int = 0,
        filled_value: int = 0,
        remaining: int | None = None,
        status: OrderStatus = _PENDING,
        reason: Reason | None = None,
        version: int = 1,
    ) -> None:
        # each field is set once: to make orders is much of a start
        self.id = order_id
        self.instrument = instrument
        self.user_id = user_id
        self.side = side
        self.type = order_type
        self.time_in_force = time_in_force
        self.quantity = quantity
        self.price = price
        self.priority = priority
        self.created_at = created_at
        self.updated_at = created_at if updated_at is None else updated_at
        self.self_trade_prevention = self_trade_prevention
        self.client_order_id = client_order_id
        self.expires_at = expires_at
        self.special = special
        self.hidden = 0
        self.filled = filled
        self.filled_value = filled_value
        self.remaining = quantity if remaining is None else remaining
        self.status = status
        self.reason = reason
        self.version = version
        self.level: PriceLevel | None = None
        self.previous: Order | None = None
        self.next: Order | None = None
        self.earlier: Order | None = None
        self.later: Order | None = None
        self.digest = 0
        self.picture: OrderRecord | None = None

    @property
    def is_open(self) -> bool:
        """Whether it can still trade, change or be cancelled."""
        return self.status <= LAST_OPEN

    @property
    def is_waiting(self) -> bool:
        """Whether it is a stop that has not fired yet."""
        return self.status is _PENDING_TRIGGER

    @property
    def acceptance(self) -> tuple[int, int]:
        """What orders of acceptance are sorted by: when it was accepted, and its id, whatever shards the ids are of."""
        return self.created_at, self.id

    @property
    def prevented(self) -> int:
        """Lots that self-trade prevention took off (P1, DECREMENT)."""
        return 0 if self.special is None else self.special.prevented

    @property
    def shown(self) -> int:
        """Lots that the book shows of it."""
        return self.remaining - self.hidden

    def show_slice(self) -> None:
        """An iceberg shows its next slice: its display quantity, or what remains if that is less (T6)."""
        special = self.special
        if special is not None and special.display is not None:
            self.hidden = max(0, self.remaining - special.display)
            self.picture = None

    def prevent(self, lots: int, time: int) -> None:
        """Lose lots to self-trade prevention, without a trade (P1, DECREMENT)."""
        if self.special is None:
            self.special = Special()
        self.special.prevented += lots
        self.remaining -= lots
        self.hidden = min(self.hidden, self.remaining)
        self.updated_at = time
        self.picture = None

    def fill(self, lots: int, price: int, time: int) -> None:
        """Take a fill of `lots` at `price` ticks; the status follows from what remains."""
        self.filled += lots
        self.filled_value += lots * price
        remaining = self.remaining = self.remaining - lots
        self.status = _PARTIALLY_FILLED if remaining else _FILLED
        self.updated_at = time
        self.picture = None

    def end(self, status: OrderStatus, reason: Reason, time: int) -> None:
        """End it with some of it unfilled: CANCELLED or EXPIRED; nothing remains open (N3)."""
        self.status = status
        self.reason = reason
        self.remaining = self.hidden = 0
        self.updated_at = time
        self.picture = None

    def record(self) -> OrderRecord:
        """The picture of it as it stands; made once and kept until it changes."""
        picture = self.picture
        if picture is None:
            instrument = self.instrument
            lots, ticks, price = instrument.quantities, instrument.prices, self.price
            lot, decimals = lots.number_step, lots.decimals  # what `Grid.number` does, without its calls
            picture = self.picture = OrderRecord(
                self.id,
                self.user_id,
                instrument.symbol,
                self.side,
                self.type,
                self.time_in_force,
                self.quantity * lot + decimals,
                None if price is None else price * ticks.number_step + ticks.decimals,
                self.filled * lot + decimals,
                instrument.value_text(self.filled_value) if self.filled else "0",
                self.remaining * lot + decimals,
                self.status,
                self.reason,
                self.version,
                self.priority,
                self.self_trade_prevention,
                self.client_order_id,
                self.expires_at,
                self.created_at,
                self.updated_at,
                None if self.special is None else self.special.terms(instrument, self.hidden, self.remaining),
            )
        return picture

    @classmethod
    def restored(cls, record: OrderRecord, instrument: Instrument) -> Order:
        """The open order that `record` pictures, not yet in a level (recovery)."""
        lot, terms = instrument.quantities.number_step, record.terms
        filled = record.filled_quantity // lot
        order = cls(
            record.id,
            instrument,
            record.user_id,
            record.side,
            record.type,
            record.time_in_force,
            record.quantity // lot,
            None if record.price is None else record.price // instrument.prices.number_step,
            record.priority,
            record.created_at,
            record.self_trade_prevention,
            record.client_order_id,
            record.expires_at,
            None if terms is None else Special.restored(terms, instrument),
            record.updated_at,
            filled,
            instrument.value_of_text(record.filled_value) if filled else 0,
            record.remaining_quantity // lot,
            record.status,
            record.reason,
            record.version,
        )
        if terms is not None and terms.shown_quantity is not None:
            order.hidden = order.remaining - terms.shown_quantity // lot
        return order
