"""Exact decimals as one integer each: prices and quantities outside the engine's books (rule N1).

Layout: `number = mantissa * 10 + decimals`, with 0 <= decimals <= 9, so 150.5 is `15051` and 150.50 is `150502`. At most 15
significant digits make every number fit a signed 64-bit integer, which is how commands, events, the journal and the database
carry it. `parse` gives the canonical form (no trailing zeros), so equal values parse to equal numbers; numbers that come
from an `Instrument` have the instrument's decimals ("150.50"). Compare those by `value_of`, never by `==` across the two.

There is one parser for every price and quantity that comes from outside, whatever the route: no floats anywhere.
"""

from __future__ import annotations

import re
from decimal import Decimal
from functools import lru_cache
from typing import Final

from ome.domain.errors import NumberError

MAX_DIGITS: Final = 15
"""Significant digits a number may have: what every client's double-precision float can still carry exactly."""
MAX_DECIMALS: Final = 9
"""Digits behind the point that a number may have."""
MAX_TEXT: Final = 40
"""Characters that the text of a number may have, zeros included; longer is refused unread."""
MAX_EXPONENT: Final = 24
"""Largest exponent, either way, of a number written as 1e-7: what JSON encoders emit for small floats."""

POWER_OF_TEN: Final[tuple[int, ...]] = tuple(10**exponent for exponent in range(MAX_EXPONENT + MAX_TEXT + 1))

_PLAIN: Final = re.compile(r"(0|[1-9][0-9]*)(?:\.([0-9]+))?", re.ASCII)
_JSON: Final = re.compile(r"(0|[1-9][0-9]*)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]{1,3}))?", re.ASCII)


def pack(mantissa: int, decimals: int) -> int:
    """The number `mantissa / 10**decimals`, keeping its decimals; both must be in range (a bug otherwise)."""
    return mantissa * 10 + decimals


def unpack(number: int) -> tuple[int, int]:
    """(mantissa, decimals) of a number: its value is mantissa / 10**decimals."""
    return divmod(number, 10)


def parse(text: str) -> int:
    """The canonical number that a JSON string writes, such as "150.50": ASCII digits with at most one point.

    Raises NumberError, with a sentence for the sender, for anything else and for what N1 has no room for.
    """
    match = _PLAIN.fullmatch(text) if len(text) <= MAX_TEXT else None
    if match is None:
        raise NumberError(_complaint(text))
    return _canonical(match[1], match[2] or "", 0)


def parse_json_number(text: str) -> int:
    """The canonical number that a bare JSON number writes, read from its own digits; a small exponent is allowed."""
    match = _JSON.fullmatch(text) if len(text) <= MAX_TEXT else None
    if match is None:
        raise NumberError(_complaint(text))
    exponent = int(match[3] or 0)
    if abs(exponent) > MAX_EXPONENT:
        raise NumberError(f"has an exponent beyond {MAX_EXPONENT}; write it in plain digits, as a string")
    try:
        return _canonical(match[1], match[2] or "", exponent)
    except NumberError as error:
        raise NumberError(f'{error}; send it as a string, such as "150.50", if your encoder made these digits') from None


def _canonical(whole: str, fraction: str, exponent: int) -> int:
    mantissa, decimals = int(whole + fraction), len(fraction) - exponent
    if mantissa == 0:
        return 0
    if decimals < 0:
        mantissa, decimals = mantissa * POWER_OF_TEN[-decimals], 0
    while decimals and mantissa % 10 == 0:
        mantissa, decimals = mantissa // 10, decimals - 1
    if decimals > MAX_DECIMALS:
        raise NumberError(f"has {decimals} decimals; at most {MAX_DECIMALS} are kept")
    if mantissa >= POWER_OF_TEN[MAX_DIGITS]:
        raise NumberError(f"has more than {MAX_DIGITS} significant digits")
    return mantissa * 10 + decimals


def _complaint(text: str) -> str:
    if len(text) > MAX_TEXT:
        return f"is longer than {MAX_TEXT} characters"
    if text.startswith("-"):
        return "must not be negative"
    return 'must be a decimal number in plain digits, such as "150.50"'


@lru_cache(maxsize=4096)
def format_number(number: int) -> str:
    """The text of a number, with as many decimals as it carries: 150502 is "150.50". The last ones are remembered."""
    mantissa, decimals = divmod(number, 10)
    if not decimals:
        return str(mantissa)
    digits = str(mantissa)
    if len(digits) <= decimals:
        digits = digits.rjust(decimals + 1, "0")
    return f"{digits[:-decimals]}.{digits[-decimals:]}"


def value_of(number: int) -> Decimal:
    """The exact value as a `Decimal`, for arithmetic away from the hot path; 150.5 and 150.50 compare equal."""
    mantissa, decimals = divmod(number, 10)
    return Decimal(mantissa).scaleb(-decimals)


def canonical(number: int) -> int:
    """The same value without trailing zeros behind the point: what `parse` gives for it."""
    mantissa, decimals = divmod(number, 10)
    while decimals and mantissa % 10 == 0:
        mantissa, decimals = mantissa // 10, decimals - 1
    return mantissa * 10 + decimals


def ratio_text(numerator: int, denominator: int, decimals: int = MAX_DECIMALS) -> str:
    """`numerator / denominator` as text, rounded half-even to `decimals` (N1: averages, mid, percentages), zeros trimmed."""
    scaled, rest = divmod(abs(numerator) * POWER_OF_TEN[decimals], denominator)
    if rest * 2 > denominator or (rest * 2 == denominator and scaled & 1):
        scaled += 1
    text = format_number(canonical(pack(scaled, decimals)))
    return f"-{text}" if numerator < 0 and scaled else text
