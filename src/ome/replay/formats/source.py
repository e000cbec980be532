"""What the readers of venues' files share: units, the day's midnight, and the orders that rest at the venue."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime, time
from pathlib import Path
from typing import IO, Final, NamedTuple, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sortedcontainers import SortedDict

from ome.domain.enums import Side
from ome.domain.numbers import MAX_DECIMALS, POWER_OF_TEN
from ome.replay.driver import Market
from ome.replay.errors import FlowError

NEW_YORK: Final = "America/New_York"
NANOSECONDS: Final = 1_000_000_000


class Named(NamedTuple):
    """What a file says about itself: the symbol, and the trading day; None for what it doesn't say."""

    symbol: str | None
    day: date | None


class Units:
    """Turns a source's prices (integers of `price_decimals` decimals) and whole quantities into counts of ticks and lots."""

    def __init__(self, market: Market, price_decimals: int) -> None:
        tick, lot = market.grids()
        self._price_factor = POWER_OF_TEN[MAX_DECIMALS - price_decimals]
        self._price_decimals = price_decimals
        self._tick_units = tick.units
        self._lot_units = lot.units

    def ticks(self, price: int) -> int:
        """The price in ticks. ValueError if it lies between two, or is not above zero."""
        ticks, rest = divmod(price * self._price_factor, self._tick_units)
        if rest or ticks <= 0:
            raise ValueError(f"the price {price}e-{self._price_decimals} is no multiple of the tick; give its size with --tick")
        return ticks

    def lots(self, quantity: int) -> int:
        """The quantity in lots. ValueError if it is no whole number of them, or not above zero."""
        lots, rest = divmod(quantity * POWER_OF_TEN[MAX_DECIMALS], self._lot_units)
        if rest or lots <= 0:
            raise ValueError(f"the quantity {quantity} is no multiple of the lot; give its size with --lot")
        return lots


def midnight_ns(path: Path, day: date | None) -> int:
    """When the trading day began in New York, in UTC nanoseconds since 1970. FlowError without a day."""
    if day is None:
        raise FlowError(f"{path}: counts its time from midnight, and its name doesn't say of which day; give --date")
    try:
        midnight = datetime.combine(day, time(), ZoneInfo(NEW_YORK))
    except ZoneInfoNotFoundError as error:
        raise FlowError(f"the time zone {NEW_YORK} is not known on this system; install the package tzdata") from error
    return int(midnight.timestamp()) * NANOSECONDS


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """The file's bytes, unpacked if its name ends in `.gz`. FlowError where they can't be read."""
    try:
        with gzip.open(path) if path.name.endswith(".gz") else path.open("rb") as file:
            yield cast("IO[bytes]", file)
    except (OSError, EOFError) as error:
        raise FlowError(f"{path}: {error}") from error


class RestingOrder:
    """An order that rests at the venue: its price in ticks, what is left of it in lots."""

    __slots__ = ("price", "remaining", "side")

    def __init__(self, side: Side, price: int, remaining: int) -> None:
        self.side = side
        self.price = price
        self.remaining = remaining


class RestingOrders:
    """The orders that rest at the venue, as far as the file has told; by id, and by side and price."""

    def __init__(self) -> None:
        self._orders: dict[int, RestingOrder] = {}
        self._levels: dict[Side, SortedDict[int, dict[int, None]]] = {Side.BUY: SortedDict(), Side.SELL: SortedDict()}

    def get(self, order_id: int) -> RestingOrder | None:
        """The order, if it rests."""
        return self._orders.get(order_id)

    def ids(self) -> list[int]:
        """All that rest, oldest first."""
        return list(self._orders)

    def add(self, order_id: int, side: Side, price: int, remaining: int) -> None:
        """An order comes to rest."""
        self._orders[order_id] = RestingOrder(side, price, remaining)
        self._levels[side].setdefault(price, {})[order_id] = None

    def take(self, order_id: int, quantity: int) -> None:
        """An order loses a quantity; with all of it, its place."""
        order = self._orders[order_id]
        order.remaining -= quantity
        if order.remaining <= 0:
            self.remove(order_id)

    def remove(self, order_id: int) -> None:
        """An order goes."""
        order = self._orders.pop(order_id)
        level = self._levels[order.side][order.price]
        del level[order_id]
        if not level:
            del self._levels[order.side][order.price]

    def in_the_way(self, side: Side, price: int, *, at_price: bool) -> list[int]:
        """The orders of a side at a better price than this one; with `at_price`, those at this very price too."""
        levels = self._levels[side]
        better = (
            levels.irange(minimum=price, inclusive=(at_price, True))
            if side is Side.BUY
            else levels.irange(maximum=price, inclusive=(True, at_price))
        )
        return [order_id for level in list(better) for order_id in levels[level]]
