"""The price of a call auction, naively: every price that could be the one, held against each of the rule's conditions (H3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Indication(NamedTuple):
    """What would trade: `imbalance` is what is wanted (above 0) or offered (below 0) too many at the price."""

    price: int
    volume: int
    imbalance: int


def call_price(
    bids: Sequence[tuple[int, int]], asks: Sequence[tuple[int, int]], tick: int, reference: int | None
) -> Indication | None:
    """The one price for orders of (price, quantity) each, in any unit; None where nothing would trade.

    What can trade changes at the orders' prices only, so that of all ticks these, their neighbours and the reference are enough:
    between two neighbouring orders' prices every tick is alike but for its distance to either end and to the reference.
    """
    prices = {price for price, _ in (*bids, *asks)}
    ticks = {near for price in prices for near in (price - tick, price, price + tick)}
    if reference is not None:
        ticks.add(reference)
    found = [_at(price, bids, asks) for price in sorted(ticks) if min(prices, default=0) <= price <= max(prices, default=0)]
    volume = max((indication.volume for indication in found), default=0)
    if not volume:
        return None
    found = [indication for indication in found if indication.volume == volume]
    least = min(abs(indication.imbalance) for indication in found)
    found = [indication for indication in found if abs(indication.imbalance) == least]
    if all(indication.imbalance > 0 for indication in found):
        return found[-1]
    if all(indication.imbalance < 0 for indication in found):
        return found[0]
    return min(found, key=lambda indication: abs(indication.price - (reference or 0)) if reference is not None else 0)


def _at(price: int, bids: Sequence[tuple[int, int]], asks: Sequence[tuple[int, int]]) -> Indication:
    bought = sum(quantity for limit, quantity in bids if limit >= price)
    sold = sum(quantity for limit, quantity in asks if limit <= price)
    return Indication(price, min(bought, sold), bought - sold)
