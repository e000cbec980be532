"""Bounds on price that an order doesn't name itself: slippage (T3) and the price band (H2), in ticks.

Everything is rounded to the tick on the safe side: never looser than was asked for (N1).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

from ome.domain.enums import Side
from ome.domain.numbers import POWER_OF_TEN, unpack

BASIS_POINTS: Final = 10_000
_BUY: Final = Side.BUY


class Band(NamedTuple):
    """The prices, in ticks, from the lowest to the highest that may trade."""

    lowest: int
    highest: int

    def worst(self, side: Side) -> int:
        """The furthest price that a taker of a side may reach."""
        return self.highest if side is _BUY else self.lowest

    def holds(self, price: int) -> bool:
        """Whether a price is inside."""
        return self.lowest <= price <= self.highest


def slippage_bound(best: int, side: Side, max_slippage_bps: int) -> int:
    """The worst price that a taker accepts, from the best one at its entry."""
    if side is Side.BUY:
        return best * (BASIS_POINTS + max_slippage_bps) // BASIS_POINTS
    return -(-best * max(0, BASIS_POINTS - max_slippage_bps) // BASIS_POINTS)


@lru_cache(maxsize=1024)
def price_band(reference_twice: int, percent: int) -> Band:
    """The band around a reference price, which is given doubled, so that a mid price between two ticks is exact. Many orders
    come between two trades: the last bands are remembered.
    """
    mantissa, decimals = unpack(percent)
    whole, share = 100 * POWER_OF_TEN[decimals], mantissa
    return Band(max(1, -(-reference_twice * (whole - share) // (2 * whole))), reference_twice * (whole + share) // (2 * whole))
