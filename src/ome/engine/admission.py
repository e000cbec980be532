"""Every check of a command about an order, in the order of rule R1, before any change (A6): what is wrong, or ticks and lots."""

from __future__ import annotations

from typing import Final, NamedTuple

from ome.domain.commands import CancelOrder, ModifyOrder, NewOrder
from ome.domain.enums import MarketState, OrderStatus, OrderType, Side, TimeInForce
from ome.domain.events import CommandRefused
from ome.domain.instrument import BEYOND, OFF_GRID, Grid, Instrument
from ome.domain.numbers import POWER_OF_TEN, pack, unpack
from ome.domain.reasons import Reason
from ome.domain.records import OrderRecord, SpecialTerms
from ome.engine import time_in_force
from ome.engine.matching import would_take
from ome.engine.order import Order
from ome.engine.order_book import OrderBook
from ome.engine.refusal import Refusal
from ome.engine.special import STOP_TYPES, Special

Admitted = tuple[int | None, int, int | None, Special | None]
"""A new order that passed: its price in ticks, quantity in lots, deadline in microseconds, and what it asks for beyond those."""


class Change(NamedTuple):
    """A change that passed: the order's new price, quantity, deadline, and what it asks for beyond those."""

    price: int | None
    quantity: int
    expires_at: int | None
    special: Special | None


def admit(command: NewOrder, book: OrderBook, time: int) -> Admitted:
    """Check a new order against its book. Raises Refusal. What can't be wrong with a plain order isn't looked at."""
    if book.state is not _OPEN:
        _check_state(command, book)
    instrument, terms, rules = book.instrument, command.terms, book.rules
    price = None if command.price is None else instrument.prices.steps(command.price)
    quantity = instrument.quantities.steps(command.quantity)
    special = None if terms is None else _special(terms, instrument)
    if special is not None or quantity < 0 or (price is not None and price < 0):
        _check_steps(instrument, [price, *_prices(special)], [quantity, *_quantities(special)])
    if rules.max_order_quantity is not None:
        _check_maximum(book, quantity)
    if special is not None:
        _check_display(book, quantity, special)
        _check_minimum(book, quantity, special)
        _check_trail(special)
    if rules.price_band_percent is not None:
        _check_band(book, price)
    expires_at = command.expires_at
    if expires_at is not None and expires_at <= time:
        raise Refusal(Reason.EXPIRES_AT_IN_PAST)
    if (special is not None or book.state is not _OPEN) and command.type not in STOP_TYPES:
        _check_post_only(book, command.side, price, special)
    if command.time_in_force is _DAY:
        expires_at = time_in_force.next_session_close(rules.session_close_s, time)
    return price, quantity, expires_at, special


def check_change(command: ModifyOrder, order: Order, book: OrderBook, time: int, *, is_killed: bool) -> Change:
    """Check a change of an open order: every field, before any of it is made. Raises Refusal.

    `is_killed`: whether the kill switch is on for it; then only what lowers a quantity passes (R3).
    """
    if command.expected_version is not None and command.expected_version != order.version:
        raise Refusal(Reason.VERSION_CONFLICT, pack(order.version, 0))
    _check_applicable(command, order)
    instrument = order.instrument
    price, quantity = asked_of(command, order)
    special = _changed_special(command, order)
    requeues = not order.is_waiting and (price != order.price or quantity > order.quantity or quantity < 0)
    _check_taken(book, requeues=requeues, is_killed=is_killed and not only_lowers(command, order, price, quantity))
    _check_steps(instrument, [price, *_prices(special)], [quantity, *_quantities(special)])
    used = order.filled + order.prevented
    if quantity < used:
        raise Refusal(Reason.QUANTITY_BELOW_FILLED, instrument.quantities.number(used))
    if quantity > order.quantity:
        _check_maximum(book, quantity)
    if special is not None and (command.display_quantity is not None or quantity > order.quantity):
        _check_display(book, quantity, special)
    if order.is_waiting:
        _check_minimum(book, quantity, special)
    _check_trail(special)
    if command.price is not None:
        _check_band(book, price)
    if command.expires_at is not None and command.expires_at <= time:
        raise Refusal(Reason.EXPIRES_AT_IN_PAST)
    if requeues:
        _check_post_only(book, order.side, price, special)
    return Change(price, quantity, order.expires_at if command.expires_at is None else command.expires_at, special)


def asked_of(command: ModifyOrder, order: Order) -> tuple[int | None, int]:
    """The price and quantity that a change asks for, in ticks and lots; what it doesn't name stays."""
    instrument = order.instrument
    price = order.price if command.price is None else instrument.prices.steps(command.price)
    return price, order.quantity if command.quantity is None else instrument.quantities.steps(command.quantity)


def only_lowers(command: ModifyOrder, order: Order, price: int | None, quantity: int) -> bool:
    """Whether a change, of an order's price and quantity to these, does no more than lower its quantity, or nothing (R3)."""
    others = (command.expires_at, command.stop_price, command.trail_amount, command.trail_percent, command.display_quantity)
    return price == order.price and 0 <= quantity <= order.quantity and all(field is None for field in others)


_OPEN: Final = MarketState.OPEN
_DAY: Final = TimeInForce.DAY
MAX_SLICES: Final = 1000
"""Slices that an iceberg may have: one taker can meet all of them, and each is a trade of the same command."""
_STATE_REASONS: Final = {MarketState.HALTED: Reason.MARKET_HALTED, MarketState.CANCEL_ONLY: Reason.MARKET_CANCEL_ONLY}


def _check_state(command: NewOrder, book: OrderBook) -> None:
    """What the symbol takes now (H1)."""
    state = book.state
    if state is MarketState.OPEN:
        return
    if state in _STATE_REASONS:
        raise Refusal(_STATE_REASONS[state])
    if command.type in STOP_TYPES:
        return
    at_once = (
        command.type is OrderType.MARKET
        or command.time_in_force in {TimeInForce.IOC, TimeInForce.FOK}
        or (command.terms is not None and command.terms.min_quantity is not None)
    )
    if state is MarketState.POST_ONLY and at_once:
        raise Refusal(Reason.MARKET_POST_ONLY)
    if state is MarketState.AUCTION and (at_once or (command.terms is not None and command.terms.post_only)):
        raise Refusal(Reason.MARKET_IN_AUCTION)


def _check_taken(book: OrderBook, *, requeues: bool, is_killed: bool) -> None:
    """Whether a change is taken at all now (R1, H1)."""
    if is_killed:
        raise Refusal(Reason.KILL_SWITCH)
    if requeues and book.state in _STATE_REASONS:
        raise Refusal(_STATE_REASONS[book.state])


def _check_applicable(command: ModifyOrder, order: Order) -> None:
    """A change names only what the order has (A3, A8)."""
    special = order.special
    if command.expires_at is not None and order.time_in_force is not TimeInForce.GTD:
        raise Refusal(Reason.FIELD_NOT_APPLICABLE)
    if command.price is not None and order.price is None:
        raise Refusal(Reason.FIELD_NOT_APPLICABLE)
    if command.display_quantity is not None and (special is None or special.display is None):
        raise Refusal(Reason.FIELD_NOT_APPLICABLE)
    waits = order.is_waiting and special is not None
    if command.stop_price is not None and (not waits or order.type is OrderType.TRAILING_STOP):
        raise Refusal(Reason.FIELD_NOT_APPLICABLE)
    trails = waits and order.type is OrderType.TRAILING_STOP
    if (command.trail_amount is not None or command.trail_percent is not None) and not trails:
        raise Refusal(Reason.FIELD_NOT_APPLICABLE)


def _special(terms: SpecialTerms, instrument: Instrument) -> Special:
    """What a submit asks for, in ticks and lots; not yet checked."""
    special = Special()
    special.stop = _steps(instrument.prices, terms.stop_price)
    special.trail_amount = _steps(instrument.prices, terms.trail_amount)
    special.trail_percent = terms.trail_percent
    special.limit_offset = _steps(instrument.prices, terms.limit_offset)
    special.post_only = terms.post_only
    special.display = _steps(instrument.quantities, terms.display_quantity)
    special.min_quantity = _steps(instrument.quantities, terms.min_quantity)
    special.max_slippage_bps = terms.max_slippage_bps
    return special


def _changed_special(command: ModifyOrder, order: Order) -> Special | None:
    """What the order asks for after the change; a copy, so that a refusal leaves no trace (A6)."""
    special, instrument = order.special, order.instrument
    if special is None:
        return None
    changed = special.copy()
    if command.stop_price is not None:
        changed.stop = instrument.prices.steps(command.stop_price)
    if command.trail_amount is not None:
        changed.trail_amount, changed.trail_percent = instrument.prices.steps(command.trail_amount), None
    if command.trail_percent is not None:
        changed.trail_amount, changed.trail_percent = None, command.trail_percent
    if changed.is_trailing and changed.trail_amount not in {OFF_GRID, BEYOND}:
        changed.stop = changed.trailed(order.side)
    if command.display_quantity is not None:
        changed.display = instrument.quantities.steps(command.display_quantity)
    return changed


def _steps(grid: Grid, number: int | None) -> int | None:
    return None if number is None else grid.steps(number)


def _prices(special: Special | None) -> tuple[int | None, ...]:
    return () if special is None else (special.stop, special.trail_amount, special.limit_offset)


def _quantities(special: Special | None) -> tuple[int | None, ...]:
    return () if special is None else (special.display, special.min_quantity)


def _check_steps(instrument: Instrument, ticks: list[int | None], lots: list[int | None]) -> None:
    """Refuse what is no whole number of ticks or lots, then what is too large to keep, saying what would fit (M5, N1)."""
    prices, quantities = instrument.prices, instrument.quantities
    if OFF_GRID in ticks:
        raise Refusal(Reason.PRICE_OFF_TICK, pack(prices.mantissa, prices.decimals))
    if OFF_GRID in lots:
        raise Refusal(Reason.QUANTITY_OFF_LOT, pack(quantities.mantissa, quantities.decimals))
    if BEYOND in ticks:
        raise Refusal(Reason.PRICE_TOO_LARGE, prices.largest)
    if BEYOND in lots:
        raise Refusal(Reason.QUANTITY_TOO_LARGE, quantities.largest)


def _check_maximum(book: OrderBook, quantity: int) -> None:
    """What the instrument's maximum allows (R1)."""
    maximum = book.rules.max_order_quantity
    if maximum is not None and quantity > book.instrument.quantities.floor(maximum):
        raise Refusal(Reason.QUANTITY_ABOVE_MAXIMUM, maximum)


def _check_trail(special: Special | None) -> None:
    """A trail of the whole price or more would never be reached by a sell, and has no bound for a buy (S6)."""
    if special is not None and special.trail_percent is not None:
        mantissa, decimals = unpack(special.trail_percent)
        if mantissa >= 100 * POWER_OF_TEN[decimals]:
            raise Refusal(Reason.TRAIL_TOO_LARGE, pack(100, 0))


def _check_minimum(book: OrderBook, quantity: int, special: Special | None) -> None:
    if special is not None and special.min_quantity is not None and special.min_quantity > quantity:
        raise Refusal(Reason.MIN_ABOVE_QUANTITY, book.instrument.quantities.number(quantity))


def _check_display(book: OrderBook, quantity: int, special: Special) -> None:
    if special.display is None:
        return
    quantities = book.instrument.quantities
    if special.display > quantity:
        raise Refusal(Reason.DISPLAY_ABOVE_QUANTITY, quantities.number(quantity))
    if quantity > special.display * MAX_SLICES:
        raise Refusal(Reason.DISPLAY_TOO_SMALL, quantities.number(-(-quantity // MAX_SLICES)))


def _check_band(book: OrderBook, price: int | None) -> None:
    """A limit price outside the band is refused (H2)."""
    band = book.band
    if price is not None and band is not None and not band.holds(price):
        raise Refusal(
            Reason.PRICE_OUTSIDE_BAND, book.instrument.prices.number(band.lowest if price < band.lowest else band.highest)
        )


def _check_post_only(book: OrderBook, side: Side, price: int | None, special: Special | None) -> None:
    """No part of a post-only order, nor of any order while the symbol takes only those, may take (T4, A4, H1)."""
    asked = special is not None and special.post_only
    if price is None or book.state is MarketState.AUCTION or not (asked or book.state is MarketState.POST_ONLY):
        return
    if would_take(book, side, price):
        best = book.opposite(side).best
        limit = None if best is None else book.instrument.prices.number(best.price)
        raise Refusal(Reason.POST_ONLY_WOULD_TAKE if asked else Reason.MARKET_POST_ONLY, limit)


def refused(command: CancelOrder | ModifyOrder, refusal: Refusal) -> CommandRefused:
    """The event of a refusal. Of an order that isn't the account's it says nothing: it is no part of that order's history."""
    named = command.order_id if command.account is None or refusal.reason is not Reason.ORDER_NOT_FOUND else None
    return CommandRefused(named, refusal.reason, refusal.limit)


def rejected(order_id: int, command: NewOrder, reason: Reason, time: int) -> OrderRecord:
    """The record of an order that is refused, as it was sent."""
    return OrderRecord(
        order_id,
        command.user_id,
        command.symbol,
        command.side,
        command.type,
        command.time_in_force,
        command.quantity,
        command.price,
        0,
        "0",
        0,
        OrderStatus.REJECTED,
        reason,
        1,
        0,
        command.self_trade_prevention,
        command.client_order_id,
        command.expires_at,
        time,
        time,
        command.terms,
    )
