"""Numbers: one parser, exact, within N1."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ome.domain.errors import NumberError
from ome.domain.numbers import (
    MAX_DECIMALS,
    MAX_DIGITS,
    MAX_TEXT,
    canonical,
    format_number,
    pack,
    parse,
    parse_json_number,
    ratio_text,
    unpack,
    value_of,
)

mantissas = st.integers(0, 10**MAX_DIGITS - 1)
decimals = st.integers(0, MAX_DECIMALS)
EXACT = Context(prec=80)


@given(mantissas, decimals)
def test_text_and_back_is_the_same_value(mantissa: int, places: int) -> None:
    """N1: every number that fits is written and read back exactly, in canonical form."""
    number = pack(mantissa, places)
    assert parse(format_number(number)) == canonical(number)
    assert parse_json_number(format_number(number)) == canonical(number)
    assert Decimal(format_number(number)) == value_of(number) == Decimal(mantissa).scaleb(-places)


@given(mantissas, decimals)
def test_numbers_fit_64_bits(mantissa: int, places: int) -> None:
    """N1: a number is a signed 64-bit integer, as the journal and the databases carry it."""
    number = pack(mantissa, places)
    assert 0 <= number < 2**63
    assert unpack(number) == (mantissa, places)


@given(mantissas, decimals, st.integers(0, 5))
def test_equal_values_parse_to_equal_numbers(mantissa: int, places: int, zeros: int) -> None:
    """Zeros behind the point mean nothing: the parser's form is one per value."""
    text = format_number(pack(mantissa, places))
    longer = (text if "." in text else text + ".0") + "0" * zeros
    assert parse(longer) == parse(text)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0), ("0.000", 0), ("1", 10), ("10", 100), ("150.50", 15051), ("0.000000001", 19),
        ("999999999999999", 9999999999999990), ("123456.789012345", 1234567890123459), ("1.0000000000000000000", 10),
    ],
)  # fmt: skip
def test_examples_of_numbers(text: str, number: int) -> None:
    """The layout: the mantissa, then one digit that counts the decimals."""
    assert parse(text) == number


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "-1", "+1", "-0", "1.", ".5", ".", "1..2", "1.2.3", "00", "01", "1e3", "1E3", "0x10", "1_000", "1,5", "NaN",
        "nan", "Infinity", "-Infinity", "inf", " 1", "1 ", "1\n", "\t1", "\uff11", "\u0661\u0660", "1\u0660", "1\x00", "\u00bd",
        "1/2", "true", "null", "0.0000000001", "1.0000000001", "9999999999999999", "1234567890123456", "12345678901234.56",
        "1" * (MAX_TEXT + 1), "9" * 5000, "0." + "0" * MAX_TEXT + "1",
    ],
)  # fmt: skip
def test_what_is_no_number_is_refused(text: str) -> None:
    """N1: anything but plain ASCII digits with at most one point, and what has no room, is refused with a sentence."""
    with pytest.raises(NumberError, match=r"^(is|must|has) "):
        parse(text)


@given(st.text(max_size=45))
def test_any_text_is_a_number_or_refused(text: str) -> None:
    """No text makes the parsers raise anything else, and what they take is what `Decimal` reads."""
    for reader in (parse, parse_json_number):
        try:
            number = reader(text)
        except NumberError:
            continue
        assert value_of(number) == Decimal(text)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("1e-7", "0.0000001"),
        ("1E5", "100000"),
        ("1.5e+2", "150"),
        ("150.5e0", "150.5"),
        ("0e24", "0"),
        ("1.23e-07", "0.000000123"),
    ],
)
def test_json_numbers_may_have_a_small_exponent(text: str, plain: str) -> None:
    """N1: what JSON encoders make of small floats is read exactly."""
    assert parse_json_number(text) == parse(plain)


@pytest.mark.parametrize(
    "text", ["1e999", "1e-999", "1e25", "1e20", "1e-10", "1e400", "1e", "e5", "1e5.0", "-1e5", "1e9999999999"]
)
def test_json_numbers_beyond_n1_are_refused(text: str) -> None:
    """N1: an exponent that leads beyond digits or decimals is refused, however it is written."""
    with pytest.raises(NumberError):
        parse_json_number(text)


def test_a_json_number_with_too_many_digits_is_advised_to_be_a_string() -> None:
    """N1: a JSON number that doesn't fit is refused with the advice to send a string."""
    with pytest.raises(NumberError, match="as a string"):
        parse_json_number("0.1000000000000000055511151231257827")


@given(st.integers(-(10**20), 10**20), st.integers(1, 10**12), decimals)
def test_ratios_round_half_even(numerator: int, denominator: int, places: int) -> None:
    """N1: averages, mid prices and percentages are rounded half-even."""
    exact = Fraction(numerator, denominator) * 10**places
    expected = Fraction(round(exact), 10**places)  # round() of a Fraction is half-even
    assert Fraction(ratio_text(numerator, denominator, places)) == expected


def test_a_ratio_that_rounds_to_nothing_has_no_sign() -> None:
    """There is no -0."""
    assert ratio_text(-1, 10**12) == "0"
    assert ratio_text(0, 5) == "0"


def test_a_ratio_half_way_goes_to_the_even_neighbour() -> None:
    """N1: half-even, as `Decimal` does it."""
    for halves in range(-9, 10, 2):
        expected = Decimal(halves) / 2
        assert Decimal(ratio_text(halves, 2, 0)) == expected.quantize(Decimal(1), ROUND_HALF_EVEN, EXACT)
