"""What everybody holds, naively: the list of all trades, gone through from the first one for each question, in fractions."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from ome.domain.records import PositionRecord

QUANTITY, MONEY = 9, 18
"""Decimals that quantities and money are counted in."""


class Fill(NamedTuple):
    """One trade: quantity and price count 10**-9."""

    symbol: str
    buyer: str
    seller: str
    quantity: int
    price: int


class Holding(NamedTuple):
    """`quantity` and `volume` count 10**-9, the money 10**-18; `cash` is what came in less what went out."""

    quantity: int
    volume: int
    cost: Fraction
    realised: Fraction
    cash: int


def holding(fills: Sequence[Fill], user: str, symbol: str) -> Holding:
    """What a user holds of a symbol: unit by unit the average cost of what is open, the rest realised. A user who trades with
    itself buys first.
    """
    quantity, volume, cost, realised, cash = 0, 0, Fraction(0), Fraction(0), 0
    for fill in fills:
        for owner, sign in ((fill.buyer, 1), (fill.seller, -1)):
            if (owner, fill.symbol) != (user, symbol):
                continue
            closes = min(fill.quantity, abs(quantity)) if quantity * sign < 0 else 0
            if closes:
                average = cost / quantity
                realised += -sign * closes * (fill.price - average)
                cost += sign * closes * average
            cost += sign * (fill.quantity - closes) * fill.price
            quantity += sign * fill.quantity
            volume += fill.quantity
            cash -= sign * fill.quantity * fill.price
    return Holding(quantity, volume, cost, realised, cash)


def assert_same_holdings(fills: Sequence[Fill], records: Sequence[PositionRecord]) -> None:
    """Every position is there, and is what the trades make; the split of money is exact but for 10**-18 a trade."""
    traded = {(user, fill.symbol) for fill in fills for user in (fill.buyer, fill.seller)}
    assert [(record.user_id, record.symbol) for record in records] == sorted(traded)
    for record in records:
        expected = holding(fills, record.user_id, record.symbol)
        cost, realised = units(record.cost, MONEY), units(record.realised, MONEY)
        assert (units(record.quantity, QUANTITY), units(record.volume, QUANTITY)) == (expected.quantity, expected.volume)
        assert realised - cost == expected.cash
        assert abs(cost - expected.cost) <= len(fills)


def units(text: str, decimals: int) -> int:
    """Decimal text as a count of 10**-decimals; it has no more decimals than that."""
    whole, _, fraction = text.partition(".")
    assert len(fraction) <= decimals, text
    return int(whole + fraction.ljust(decimals, "0"))
