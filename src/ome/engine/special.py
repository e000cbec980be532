"""What an order asks for beyond side, price, quantity and time, in whole ticks and lots: stops, trails, icebergs, bounds.

A plain order has none of it and pays nothing for it. `Special` is the engine's own, mutable side of `SpecialTerms`.
"""

from __future__ import annotations

from typing import Final

from ome.domain.enums import OrderType, Side
from ome.domain.instrument import Instrument
from ome.domain.numbers import POWER_OF_TEN, unpack
from ome.domain.records import SpecialTerms

_FIELDS: Final = (
    "display",
    "extreme",
    "is_due",
    "limit_offset",
    "max_slippage_bps",
    "min_quantity",
    "post_only",
    "prevented",
    "stop",
    "trail_amount",
    "trail_percent",
    "triggered_at",
)


class Special:
    """Prices are in ticks, quantities in lots, percentages stay numbers; None where the order doesn't ask for it.

    `shown` is what an iceberg shows of itself now, `extreme` the best last price that a trail has seen, in ticks.
    """

    __slots__ = _FIELDS

    def __init__(self) -> None:
        self.stop: int | None = None
        self.trail_amount: int | None = None
        self.trail_percent: int | None = None
        self.limit_offset: int | None = None
        self.post_only = False
        self.display: int | None = None
        self.min_quantity: int | None = None
        self.max_slippage_bps: int | None = None
        self.prevented = 0
        self.extreme: int | None = None
        self.triggered_at: int | None = None
        self.is_due = False

    def copy(self) -> Special:
        """Another one, equal for now."""
        other = Special()
        for name in _FIELDS:
            setattr(other, name, getattr(self, name))
        return other

    @property
    def is_trailing(self) -> bool:
        """Whether its stop follows the last price."""
        return self.trail_amount is not None or self.trail_percent is not None

    def follow(self, side: Side, last: int) -> bool:
        """Let the trail see a last price, in ticks; whether the stop moved. It only ever moves in the order's favour (S6)."""
        extreme = self.extreme
        if extreme is not None and (last <= extreme if side is Side.SELL else last >= extreme):
            return False
        self.extreme = last
        self.stop = self.trailed(side)
        return True

    def trailed(self, side: Side) -> int | None:
        """Where the stop stands, from the extreme: never further from it than was asked for (N1)."""
        if self.extreme is None:
            return None
        if self.trail_amount is not None:
            distance = self.trail_amount
        else:
            assert self.trail_percent is not None  # noqa: S101  a trail has an amount or a percentage
            mantissa, decimals = unpack(self.trail_percent)
            distance = self.extreme * mantissa // (100 * POWER_OF_TEN[decimals])
        return max(0, self.extreme - distance) if side is Side.SELL else self.extreme + distance

    def terms(self, instrument: Instrument, hidden: int, remaining: int) -> SpecialTerms:
        """The picture of it as it stands."""
        prices, quantities = instrument.prices, instrument.quantities

        def price(ticks: int | None) -> int | None:
            return None if ticks is None else prices.number(ticks)

        def quantity(lots: int | None) -> int | None:
            return None if lots is None else quantities.number(lots)

        return SpecialTerms(
            stop_price=price(self.stop),
            trail_amount=price(self.trail_amount),
            trail_percent=self.trail_percent,
            limit_offset=price(self.limit_offset),
            post_only=self.post_only,
            display_quantity=quantity(self.display),
            min_quantity=quantity(self.min_quantity),
            max_slippage_bps=self.max_slippage_bps,
            shown_quantity=None if self.display is None else quantities.number(remaining - hidden),
            prevented_quantity=quantities.number(self.prevented) if self.prevented else None,
            trail_extreme=price(self.extreme),
            triggered_at=self.triggered_at,
            is_due=self.is_due,
        )

    @classmethod
    def restored(cls, terms: SpecialTerms, instrument: Instrument) -> Special:
        """What `terms` pictures; its numbers are the instrument's own (recovery)."""
        prices, quantities = instrument.prices, instrument.quantities

        def ticks(number: int | None) -> int | None:
            return None if number is None else prices.steps_of_own(number)

        def lots(number: int | None) -> int | None:
            return None if number is None else quantities.steps_of_own(number)

        special = cls()
        special.stop = ticks(terms.stop_price)
        special.trail_amount = ticks(terms.trail_amount)
        special.trail_percent = terms.trail_percent
        special.limit_offset = ticks(terms.limit_offset)
        special.post_only = terms.post_only
        special.display = lots(terms.display_quantity)
        special.min_quantity = lots(terms.min_quantity)
        special.max_slippage_bps = terms.max_slippage_bps
        special.prevented = lots(terms.prevented_quantity) or 0
        special.extreme = ticks(terms.trail_extreme)
        special.triggered_at = terms.triggered_at
        special.is_due = terms.is_due
        return special


STOP_TYPES: Final = frozenset({OrderType.STOP, OrderType.STOP_LIMIT, OrderType.TRAILING_STOP})
"""The types that wait for a price before they enter the market."""
