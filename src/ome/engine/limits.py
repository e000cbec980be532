"""Whether an order passes its user's limits: after every other check, before any change (R1, R2).

The order: price collar, open orders, quantity, notional, position. A change that only lowers a quantity isn't looked at (R3).

- Collar: a buy's limit is at most so many percent above the band's reference (last, else mid, else there is none), a sell's at
  least as many below. A stop is held to it when it fires, and whatever has no price of its own trades no further (`reach`).
- Open orders: counted are all that are open, waiting stops too; an order that can't rest passes.
- Notional: the limit price times the whole quantity; of a stop its limit price, else its stop price; of what trails, where that
  stands now; of a MARKET order the worst price that the book now makes it trade at within its bounds. Where there is no
  such price nothing could trade, and it passes.
- Position: what is held, plus all that the open orders on its side would add, waiting stops too, plus the whole order. So an
  order that only reduces the position, net of those open orders, always passes.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from ome.domain.commands import NewOrder
from ome.domain.enums import OrderType, Side, TimeInForce
from ome.domain.numbers import pack
from ome.domain.positions import PRICE_UNITS, units_of_number
from ome.domain.reasons import Reason
from ome.domain.records import Limits
from ome.engine.accounts import Account, User
from ome.engine.admission import Admitted, Change
from ome.engine.order import Order
from ome.engine.order_book import OrderBook
from ome.engine.reach import collar, limit_of
from ome.engine.refusal import Refusal
from ome.engine.special import STOP_TYPES, Special

_BUY: Final = Side.BUY
_AT_ONCE: Final = frozenset({TimeInForce.IOC, TimeInForce.FOK})


class Ask(NamedTuple):
    """What is to be checked: an order as it would be, in ticks and lots. `more` is by how many lots more it would be open than
    before, all of one that `is_new`; `is_repriced`: whether its price, or what that will be made of, is another than before.
    """

    side: Side
    type: OrderType
    time_in_force: TimeInForce
    price: int | None
    quantity: int
    special: Special | None
    more: int
    is_new: bool
    is_repriced: bool

    @classmethod
    def of_new(cls, command: NewOrder, admitted: Admitted) -> Ask:
        """A new order."""
        price, quantity, _, special = admitted
        return cls(command.side, command.type, command.time_in_force, price, quantity, special, quantity, True, True)  # noqa: FBT003

    @classmethod
    def of_change(cls, order: Order, change: Change) -> Ask:
        """An open order after a change."""
        price, quantity, _, special = change
        is_repriced = price != order.price or (order.is_waiting and _prices(special) != _prices(order.special))
        kind = (order.side, order.type, order.time_in_force)
        return cls(*kind, price, quantity, special, quantity - order.quantity, is_new=False, is_repriced=is_repriced)


def check_limits(ask: Ask, limits: Limits, most_open: int | None, user: User | None, book: OrderBook) -> None:
    """Raises Refusal for the first limit that it does not pass; `user` is None for one without open orders or positions."""
    symbol, quantities = book.instrument.symbol, book.instrument.quantities
    account = None if user is None else user.accounts.get(symbol)
    waits = ask.type in STOP_TYPES
    if limits.price_collar_percent is not None and ask.price is not None and ask.is_repriced and not waits:
        _check_collar(ask.side, ask.price, limits.price_collar_percent, book)
    if ask.is_new and (waits or ask.time_in_force not in _AT_ONCE):
        _check_open(user, most_open)
        _check_open(account, limits.max_open_orders)
    if limits.max_order_quantity is not None and ask.more > 0 and ask.quantity > quantities.floor(limits.max_order_quantity):
        raise Refusal(Reason.ORDER_QUANTITY_LIMIT, limits.max_order_quantity)
    if limits.max_order_notional is not None and (ask.more > 0 or ask.is_repriced):
        price = _worst_price(ask, limits, book)
        worth = 0 if price is None else price * book.instrument.prices.units * ask.quantity * quantities.units
        if worth > units_of_number(limits.max_order_notional) * PRICE_UNITS:
            raise Refusal(Reason.ORDER_NOTIONAL_LIMIT, limits.max_order_notional)
    if limits.max_position is not None and ask.more > 0:
        reached = exposure(account, ask.side, quantities.units) + ask.more * quantities.units
        if reached > units_of_number(limits.max_position):
            raise Refusal(Reason.POSITION_LIMIT, limits.max_position)


def _check_open(owner: User | Account | None, most: int | None) -> None:
    if most is not None and (0 if owner is None else owner.open_orders) >= most:
        raise Refusal(Reason.TOO_MANY_OPEN_ORDERS, pack(most, 0))


def exposure(account: Account | None, side: Side, lot: int) -> int:
    """How long (BUY) or short (SELL) a position would be if every open order of that side traded, in units of quantity."""
    if account is None:
        return 0
    return account.quantity + account.buying * lot if side is _BUY else account.selling * lot - account.quantity


def _prices(special: Special | None) -> tuple[int | None, ...]:
    return () if special is None else (special.stop, special.trail_amount, special.trail_percent)


def _check_collar(side: Side, price: int, percent: int, book: OrderBook) -> None:
    band = collar(book, percent)
    if band is None:
        return
    worst = band.worst(side)
    if price > worst if side is _BUY else price < worst:
        raise Refusal(Reason.PRICE_OUTSIDE_COLLAR, book.instrument.prices.number(worst))


def _worst_price(ask: Ask, limits: Limits, book: OrderBook) -> int | None:
    """The price that an order's notional is made of, in ticks; None where nothing could trade."""
    special = ask.special
    if ask.price is not None:
        return ask.price
    if ask.type in STOP_TYPES:
        return None if special is None else _stop_price(ask.side, special, book)
    bound, _ = limit_of(book, ask.side, None, special, limits.price_collar_percent)
    left, worst = ask.quantity, None
    for level in book.opposite(ask.side).best_first():
        if left <= 0 or (bound is not None and (level.price > bound if ask.side is Side.BUY else level.price < bound)):
            break
        worst = level.price
        left -= level.quantity + level.hidden
    return worst


def _stop_price(side: Side, special: Special, book: OrderBook) -> int | None:
    """Where a stop stands, or would once it has entered; one that trails with a limit, that limit."""
    stop = special.stop
    if special.is_trailing and book.last_ticks is not None:
        entered = special.copy()
        entered.follow(side, book.last_ticks)
        stop = entered.stop
    if stop is None or special.limit_offset is None:
        return stop
    return max(1, stop + (special.limit_offset if side is Side.BUY else -special.limit_offset))
