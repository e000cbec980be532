"""Amounts: exact atoms, their text, and fees that are rounded against the trader."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ome.domain.amounts import amount_text, atoms_of, atoms_of_text, fee_of, number_below
from ome.domain.numbers import format_number, pack, parse, value_of

ONE = 10**18
amounts = st.integers(-(10**40), 10**40)


@given(amounts)
def test_the_text_of_an_amount_is_exact_and_read_back(atoms: int) -> None:
    """The text's decimal value is the amount's, it has no zeros to spare, and reading it gives the amount again."""
    text = amount_text(atoms)
    assert Fraction(text) == Fraction(atoms, ONE)
    assert "e" not in text.lower()
    assert text == "0" or "." not in text or text[-1] not in "0."
    assert atoms_of_text(text) == atoms


@given(st.integers(0, 10**15 - 1), st.integers(0, 9))
def test_a_number_is_a_whole_number_of_atoms(mantissa: int, decimals: int) -> None:
    """Whatever N1 lets in has atoms, and these write the same value."""
    number = pack(mantissa, decimals)
    assert Decimal(amount_text(atoms_of(number))) == value_of(number)


@given(st.integers(0, 10**36), st.integers(-10_000, 10_000))
def test_a_fee_is_rounded_against_the_trader(value: int, fee_bps: int) -> None:
    """N1: never below the exact fee, by less than an atom above it, and never more than what was traded."""
    fee, exact = fee_of(value, fee_bps), Fraction(value * fee_bps, 10_000)
    assert 0 <= fee - exact < 1
    assert -value <= fee <= value


@given(st.lists(st.integers(0, 10**20), min_size=1), st.integers(0, 10_000))
def test_fees_by_the_lot_cover_those_of_any_trades(values: list[int], fee_bps: int) -> None:
    """What is reserved lot by lot is enough, into however many trades the lots are cut: a sum's fee is at most the fees' sum."""
    assert fee_of(sum(values), fee_bps) <= sum(fee_of(value, fee_bps) for value in values)


@given(st.integers(0, 10**36))
def test_what_is_said_to_be_there_is_there(atoms: int) -> None:
    """The number that a refusal names is at most the amount, and as near as 15 digits and 9 decimals let it be."""
    number = number_below(atoms)
    assert atoms_of(number) <= atoms
    if atoms < 10**33:  # beyond that the largest number is named
        assert parse(format_number(number)) == number
        assert atoms - atoms_of(number) < max(10**9, atoms // 10**14 + 1)


@pytest.mark.parametrize("text", ["", "-", ".", "1e3", "--1", "1.2.3", "0.0000000000000000001", "\u0661"])
def test_what_is_no_amount_is_not_read(text: str) -> None:
    """A stored text that no amount has is refused, never guessed at."""
    with pytest.raises(ValueError, match="amount"):
        atoms_of_text(text)
