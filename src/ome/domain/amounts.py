"""Amounts of an asset: exact integers of 10**-18, their *atoms*, and their decimal text.

A price has at most 9 decimals and a quantity too (N1), so what a trade is worth is a whole number of atoms: nothing but a fee is
ever rounded. Amounts have no upper bound, because sums haven't; outside of the engine they are decimal text without trailing
zeros ("1000.5"), negative ones with a sign, since neither 64 bits nor a double would hold them.
"""

from __future__ import annotations

from typing import Final

from ome.domain.numbers import MAX_DIGITS, POWER_OF_TEN, canonical, pack, unpack

AMOUNT_DECIMALS: Final = 18
"""Decimals of an atom: those of a price and of a quantity together."""
BASIS_POINTS: Final = 10_000
MAX_FEE_BPS: Final = BASIS_POINTS
"""A fee is at most all that is traded, a rebate too: a seller never pays more than he gets."""


def atoms_of(number: int) -> int:
    """The atoms of a number (`domain.numbers`), which is at least 0."""
    mantissa, decimals = unpack(number)
    return mantissa * POWER_OF_TEN[AMOUNT_DECIMALS - decimals]


def amount_text(atoms: int) -> str:
    """The decimal text of an amount: 1_500_000_000_000_000_000 atoms are "1.5"."""
    whole, fraction = divmod(abs(atoms), POWER_OF_TEN[AMOUNT_DECIMALS])
    text = f"{whole}.{fraction:0{AMOUNT_DECIMALS}d}".rstrip("0").rstrip(".")
    return f"-{text}" if atoms < 0 else text


def atoms_of_text(text: str) -> int:
    """The inverse of `amount_text`. Raises ValueError for what isn't such a text."""
    sign, digits = (-1, text[1:]) if text.startswith("-") else (1, text)
    whole, _, fraction = digits.partition(".")
    if not (text.isascii() and (whole + fraction).isdecimal()) or len(fraction) > AMOUNT_DECIMALS:
        raise ValueError(f"{text!r} is no amount")
    return sign * (int(whole) * POWER_OF_TEN[AMOUNT_DECIMALS] + int(fraction.ljust(AMOUNT_DECIMALS, "0")))


def fee_of(value: int, fee_bps: int) -> int:
    """The fee, in atoms, on a trade worth `value` atoms; a rebate is negative. Rounded up to the atom, which is always against
    the trader: he pays the larger fee and gets the smaller rebate (N1). At most `value`, where `fee_bps` is at most 10,000.
    """
    return -(-value * fee_bps // BASIS_POINTS)


def number_below(atoms: int) -> int:
    """The largest number (`domain.numbers`) that isn't above an amount of 0 or more: what a refusal says is there."""
    for decimals in range(9, -1, -1):
        mantissa = atoms // POWER_OF_TEN[AMOUNT_DECIMALS - decimals]
        if mantissa < POWER_OF_TEN[MAX_DIGITS]:
            return canonical(pack(mantissa, decimals))
    return pack(POWER_OF_TEN[MAX_DIGITS] - 1, 0)
