"""Grids and instruments: whole ticks and lots, or a refusal."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ome.domain.instrument import BEYOND, DEFAULT_LOT_SIZE, DEFAULT_TICK_SIZE, MAX_UNITS, OFF_GRID, Grid, Instrument
from ome.domain.numbers import canonical, format_number, pack, parse, value_of

steps_of = st.builds(pack, st.integers(1, 10**6), st.integers(0, 9)).map(canonical)
numbers = st.builds(pack, st.integers(0, 10**15 - 1), st.integers(0, 9)).map(canonical)


@given(steps_of, st.integers(0, 10**6))
def test_a_count_of_steps_and_back(step: int, count: int) -> None:
    """M5: a multiple of the step is that many steps, whichever way it is written."""
    grid = Grid(step)
    number = grid.number(count)
    assert value_of(number) == count * value_of(step)
    assert grid.steps(canonical(number)) == count
    assert grid.steps_of_own(number) == count


@given(steps_of, numbers)
def test_steps_are_exact_or_refused(step: int, number: int) -> None:
    """M5: a number is a whole count of steps, or between two, or too large to keep; it is never rounded."""
    steps = Grid(step).steps(number)
    ratio = Fraction(value_of(number)) / Fraction(value_of(step))
    _, decimals = divmod(step, 10)
    if steps >= 0:
        assert ratio == steps
    elif steps == OFF_GRID:
        assert ratio.denominator != 1
    else:
        assert steps == BEYOND
        assert value_of(number).scaleb(decimals) > MAX_UNITS


@given(steps_of)
def test_the_largest_number_is_the_last_that_fits(step: int) -> None:
    """N1: `largest` has room in 64 bits, and one step more has none."""
    grid = Grid(step)
    count = grid.steps_of_own(grid.largest)
    assert grid.largest < 2**63
    assert grid.mantissa * count <= MAX_UNITS < grid.mantissa * (count + 1)
    assert grid.steps(grid.largest) == count
    assert grid.steps(grid.number(count + 1)) == BEYOND


def test_numbers_of_a_grid_have_its_decimals() -> None:
    """Events and records carry the instrument's decimals: 150.50 at a tick of 0.05."""
    assert format_number(Grid(parse("0.05")).number(3010)) == "150.50"
    assert format_number(Grid(parse("0.001")).number(0)) == "0.000"
    assert format_number(Grid(parse("10")).number(3)) == "30"


@pytest.mark.parametrize(
    ("text", "steps"), [("0.05", 1), ("100", 2000), ("100.05", 2001), ("100.01", OFF_GRID), ("0.051", OFF_GRID)]
)
def test_examples_of_a_tick_of_five_cents(text: str, steps: int) -> None:
    """M5: what is on the tick and what isn't."""
    assert Grid(parse("0.05")).steps(parse(text)) == steps


@given(steps_of, steps_of, st.integers(1, 10**30))
def test_money_is_exact(tick: int, lot: int, tick_lots: int) -> None:
    """A sum of ticks times lots is written exactly, however large, and read back."""
    instrument = Instrument("X", tick, lot)
    text = instrument.value_text(tick_lots)
    assert Fraction(text) == tick_lots * Fraction(value_of(tick)) * Fraction(value_of(lot))
    assert instrument.value_of_text(text) == tick_lots


def test_the_defaults_are_a_cent_and_one() -> None:
    """A symbol that its first order lists has tick 0.01 and lot 1."""
    assert (format_number(DEFAULT_TICK_SIZE), format_number(DEFAULT_LOT_SIZE)) == ("0.01", "1")
    assert repr(Instrument("X", DEFAULT_TICK_SIZE, DEFAULT_LOT_SIZE)) == "Instrument(X, tick 0.01, lot 1)"
