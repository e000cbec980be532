"""Positions: average cost in exact integers, against the same arithmetic in fractions."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ome.domain.numbers import pack
from ome.domain.positions import MONEY_DECIMALS, QUANTITY_DECIMALS, Position, text_of, units_of, units_of_number

ONE = 10**QUANTITY_DECIMALS
MONEY = 10**MONEY_DECIMALS


def after(*fills: tuple[int, int]) -> Position:
    """The position after trades of so many units at whole prices."""
    position = Position()
    for bought, price in fills:
        position.fill(bought * ONE, price * ONE)
    return position


@pytest.mark.parametrize(
    ("fills", "quantity", "cost", "realised", "volume"),
    [
        ([(10, 100)], 10, 1000, 0, 10),
        ([(10, 100), (10, 110)], 20, 2100, 0, 20),
        ([(10, 100), (-4, 120)], 6, 600, 80, 14),
        ([(10, 100), (-10, 90)], 0, 0, -100, 20),
        ([(10, 100), (-15, 120)], -5, -600, 200, 25),
        ([(-10, 100)], -10, -1000, 0, 10),
        ([(-10, 100), (4, 90)], -6, -600, 40, 14),
        ([(-10, 100), (12, 110)], 2, 220, -100, 22),
    ],
)
def test_average_cost(fills: list[tuple[int, int]], quantity: int, cost: int, realised: int, volume: int) -> None:
    """Adding costs, reducing realises in proportion, going through zero closes all and opens the other side."""
    position = after(*fills)
    assert (position.quantity, position.cost) == (quantity * ONE, cost * MONEY)
    assert (position.realised, position.volume) == (realised * MONEY, volume * ONE)


def test_what_a_division_leaves_stays_in_the_cost() -> None:
    """A third of the cost of three is rounded down, and nothing is lost once all is closed."""
    position = Position()
    position.fill(3, 1)
    position.fill(4, 2)
    assert (position.quantity, position.cost) == (7, 11)
    position.fill(-1, 5)
    assert (position.quantity, position.cost, position.realised) == (6, 10, 4)
    position.fill(-6, 0)
    assert (position.quantity, position.cost, position.realised) == (0, 0, -6)


@given(st.lists(st.tuples(st.integers(-50, 50).filter(bool), st.integers(1, 10**6))))
def test_money_is_kept_exactly_and_the_split_nearly(fills: list[tuple[int, int]]) -> None:
    """Realised less cost is what came in less what went out; in fractions the split is the same but for 10**-18 a trade."""
    position = Position()
    quantity, cost, cash = 0, Fraction(0), 0
    for bought, price in fills:
        position.fill(bought, price)
        cash -= bought * price
        closed = min(abs(bought), abs(quantity)) if quantity * bought < 0 else 0
        if closed:
            cost -= cost * closed / abs(quantity)
        opened = abs(bought) - closed
        cost += opened * price * (1 if bought > 0 else -1)
        quantity += bought
        assert position.quantity == quantity
        assert position.realised - position.cost == cash
    assert abs(position.cost - cost) <= len(fills)
    assert position.volume == sum(abs(bought) for bought, _ in fills)


@given(st.integers(-(10**40), 10**40), st.integers(1, 18))
def test_text_is_exact_both_ways(units: int, decimals: int) -> None:
    """Every count of units comes back from its text."""
    assert units_of(text_of(units, decimals), decimals) == units


def test_text_reads_as_people_write_it() -> None:
    """No trailing zeros, no lonely point, a sign where it is below zero; more decimals than there are is refused."""
    assert [text_of(units, 9) for units in (0, 1, -(10**9), 12_500_000_000)] == ["0", "0.000000001", "-1", "12.5"]
    assert units_of_number(pack(1255, 2)) == 12_550_000_000
    with pytest.raises(ValueError, match="more than 9 decimals"):
        units_of("0.1234567891", 9)


def test_a_record_gives_the_position_back() -> None:
    """What is stored is all that there is."""
    position, again = after((10, 100), (-15, 120)), Position()
    record = position.record("ann", "AAPL")
    assert (record.quantity, record.cost, record.realised, record.volume) == ("-5", "-600", "200", "25")
    again.restore(record)
    assert again.record("ann", "AAPL") == record
