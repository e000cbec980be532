"""What a user holds of a symbol, from its trades alone: average cost, in exact integers.

Units: quantities are counted in 10**-9, prices in 10**-9 of the currency, money in 10**-18 of it, so that every number of any
tick and lot is whole (N1) and a symbol whose tick or lot changes keeps its positions.

A trade that adds to a position adds what it cost. One that reduces it releases the cost in proportion, and the difference to what
it was traded at is realised; one that goes beyond zero closes all, and begins a position on the other side. The released cost
is rounded down to 10**-18, what that leaves stays in the cost: `realised - cost` is what was received for sales less what was
paid for purchases, exactly, always. Fees are no part of it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from ome.domain.numbers import MAX_DECIMALS, POWER_OF_TEN, unpack
from ome.domain.records import PositionRecord

QUANTITY_DECIMALS: Final = MAX_DECIMALS
MONEY_DECIMALS: Final = 2 * MAX_DECIMALS


class Position:
    """`quantity` is below zero for a short position, and so is `cost` then; `realised` is the profit, below zero for a loss;
    `volume` is the quantity bought and sold so far.
    """

    __slots__ = ("cost", "quantity", "realised", "volume")

    def __init__(self) -> None:
        self.quantity = 0
        self.cost = 0
        self.realised = 0
        self.volume = 0

    def fill(self, bought: int, price: int) -> None:
        """Take in a trade: `bought` is below zero for a sale."""
        quantity = self.quantity
        self.volume += abs(bought)
        if (quantity >= 0 and bought > 0) or (quantity <= 0 and bought < 0):
            self.quantity = quantity + bought
            self.cost += bought * price
        elif abs(bought) > abs(quantity):
            self.realised += quantity * price - self.cost
            self.quantity = quantity + bought
            self.cost = self.quantity * price
        else:
            released = self.cost * -bought // quantity
            self.realised -= bought * price + released
            self.cost -= released
            self.quantity = quantity + bought

    def record(self, user_id: str, symbol: str) -> PositionRecord:
        """The picture of it as it stands."""
        return PositionRecord(
            user_id,
            symbol,
            text_of(self.quantity, QUANTITY_DECIMALS),
            text_of(self.cost, MONEY_DECIMALS),
            text_of(self.realised, MONEY_DECIMALS),
            text_of(self.volume, QUANTITY_DECIMALS),
        )

    def restore(self, record: PositionRecord) -> None:
        """Stand as `record` pictures it. Raises ValueError for text that is no decimal."""
        self.quantity = units_of(record.quantity, QUANTITY_DECIMALS)
        self.cost = units_of(record.cost, MONEY_DECIMALS)
        self.realised = units_of(record.realised, MONEY_DECIMALS)
        self.volume = units_of(record.volume, QUANTITY_DECIMALS)


PRICE_UNITS: Final = 10**MAX_DECIMALS
"""How many units a price, a quantity, of one is."""


@lru_cache(maxsize=1024)
def units_of_number(number: int) -> int:
    """A price or a quantity, a number as in `domain.numbers`, counted in 10**-9. Asked of limits, which are few."""
    mantissa, decimals = unpack(number)
    return mantissa * POWER_OF_TEN[MAX_DECIMALS - decimals]


def text_of(units: int, decimals: int) -> str:
    """The exact decimal text of a count of 10**-decimals, without trailing zeros behind the point: "-12.5"."""
    digits = str(abs(units)).rjust(decimals + 1, "0")
    text = f"{digits[:-decimals]}.{digits[-decimals:]}".rstrip("0").rstrip(".")
    return f"-{text}" if units < 0 else text


def units_of(text: str, decimals: int) -> int:
    """The inverse of `text_of`. Raises ValueError for what it would not write."""
    whole, _, fraction = text.partition(".")
    if len(fraction) > decimals:
        raise ValueError(f"{text!r} has more than {decimals} decimals")
    return int(whole + fraction.ljust(decimals, "0"))
