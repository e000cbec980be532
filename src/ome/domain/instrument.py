"""An instrument: the only place that converts between decimals and the engine's whole ticks and lots (rule M5)."""

from __future__ import annotations

from typing import Final

from ome.domain.numbers import MAX_DECIMALS, POWER_OF_TEN, format_number, pack, unpack

MAX_UNITS: Final = 10**17
"""Largest price or quantity, counted in the last decimal of its tick or lot, so that every number of it fits 64 bits."""
OFF_GRID: Final = -1
"""What `Grid.steps` gives for a number between two steps."""
BEYOND: Final = -2
"""What `Grid.steps` gives for a number above MAX_UNITS."""


class Grid:
    """Evenly spaced decimals: multiples of a tick or of a lot. Steps are counts of it; numbers are as in `domain.numbers`."""

    __slots__ = ("decimals", "mantissa", "most_steps", "number_step", "units")

    def __init__(self, step: int) -> None:
        """`step` is the tick or lot as a canonical number above zero."""
        self.mantissa, self.decimals = unpack(step)
        """The step, counted in its last decimal, and how many decimals its numbers have."""
        self.number_step = self.mantissa * 10
        """By how much the numbers of neighbouring steps differ."""
        self.units = self.mantissa * POWER_OF_TEN[MAX_DECIMALS - self.decimals]
        """A step, counted in the smallest number that there is: what positions are counted in."""
        self.most_steps = MAX_UNITS // self.mantissa
        """How many steps the largest number is."""

    def steps(self, number: int) -> int:
        """How many steps a canonical number is: exact, or OFF_GRID between two, or BEYOND when too large to keep."""
        units, missing = number // 10, self.decimals - number % 10
        if missing:
            if missing < 0:
                return OFF_GRID
            units *= POWER_OF_TEN[missing]
        if units > MAX_UNITS:
            return BEYOND
        if self.mantissa == 1:
            return units
        count, rest = divmod(units, self.mantissa)
        return OFF_GRID if rest else count

    def number(self, steps: int) -> int:
        """The number for a count of steps, with the grid's own decimals: what events and records carry."""
        return steps * self.number_step + self.decimals

    def steps_of_own(self, number: int) -> int:
        """The inverse of `number`, for numbers that this grid made (in recovery)."""
        return number // self.number_step

    def floor(self, number: int) -> int:
        """How many whole steps are in a number, whatever its decimals (for a price from before a change of tick)."""
        mantissa, decimals = divmod(number, 10)
        return mantissa * POWER_OF_TEN[self.decimals] // (self.mantissa * POWER_OF_TEN[decimals])

    @property
    def largest(self) -> int:
        """The largest number on this grid."""
        return self.number(self.most_steps)


class Instrument:
    """What a symbol trades in: `prices` is the grid of ticks, `quantities` that of lots."""

    __slots__ = ("lot_size", "prices", "quantities", "symbol", "tick_size")

    def __init__(self, symbol: str, tick_size: int, lot_size: int) -> None:
        self.symbol = symbol
        self.tick_size = tick_size
        self.lot_size = lot_size
        self.prices = Grid(tick_size)
        self.quantities = Grid(lot_size)

    def value_text(self, tick_lots: int) -> str:
        """The exact decimal text of a sum of ticks times lots: money, in price times quantity."""
        prices, quantities = self.prices, self.quantities
        units = tick_lots * prices.mantissa * quantities.mantissa
        decimals = prices.decimals + quantities.decimals
        if not decimals:
            return str(units)
        digits = str(units).rjust(decimals + 1, "0")
        return f"{digits[:-decimals]}.{digits[-decimals:]}"

    def value_of_text(self, text: str) -> int:
        """The inverse of `value_text`: the sum of ticks times lots (in recovery)."""
        return int(text.replace(".", "")) // (self.prices.mantissa * self.quantities.mantissa)

    def __repr__(self) -> str:
        return f"Instrument({self.symbol}, tick {format_number(self.tick_size)}, lot {format_number(self.lot_size)})"


DEFAULT_TICK_SIZE: Final = pack(1, 2)
"""0.01: the tick of a symbol that its first order lists."""
DEFAULT_LOT_SIZE: Final = pack(1, 0)
"""1: the lot of a symbol that its first order lists."""
