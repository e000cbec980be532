"""What an operator allows one user, as an order looks it up: made when limits are set, not when they are asked for."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from ome.domain.records import Limits

NO_LIMITS: Final = Limits()
EVERY_SYMBOL: Final = ""


class UserLimits:
    """The limits of one user: those of each symbol, and those of every symbol (the symbol ""). `most_open` is how many orders
    may be open in all symbols together, None for any number.
    """

    __slots__ = ("_elsewhere", "_given", "_merged", "most_open")

    def __init__(self) -> None:
        self._given: dict[str, Limits] = {}
        self._merged: dict[str, Limits] = {}
        self._elsewhere = NO_LIMITS
        self.most_open: int | None = None

    def put(self, symbol: str, limits: Limits) -> None:
        """Have these limits in a symbol from now on."""
        self._given[symbol] = limits
        if symbol == EVERY_SYMBOL:
            self._merge()
        else:
            self._merged[symbol] = _merged(limits, self._given.get(EVERY_SYMBOL, NO_LIMITS))

    def drop(self, symbol: str) -> None:
        """Have none in it any more."""
        del self._given[symbol]
        self._merge()

    @property
    def symbols(self) -> Collection[str]:
        """Where there are any."""
        return self._given.keys()

    def of(self, symbol: str) -> Limits:
        """What holds in a symbol: each limit of the symbol, else the one for every symbol, but for the open orders, which are
        counted in the symbol by the one and in all symbols by the other (`most_open`).
        """
        return self._merged.get(symbol, self._elsewhere)

    def _merge(self) -> None:
        every = self._given.get(EVERY_SYMBOL, NO_LIMITS)
        self.most_open = every.max_open_orders
        self._elsewhere = _merged(NO_LIMITS, every)
        self._merged = {symbol: _merged(own, every) for symbol, own in self._given.items() if symbol != EVERY_SYMBOL}


def _merged(own: Limits, every: Limits) -> Limits:
    return Limits(
        *(
            mine if mine is not None else other
            for mine, other in (
                (own.max_order_quantity, every.max_order_quantity),
                (own.max_order_notional, every.max_order_notional),
                (own.max_open_orders, None),
                (own.max_position, every.max_position),
                (own.price_collar_percent, every.price_collar_percent),
            )
        )
    )
