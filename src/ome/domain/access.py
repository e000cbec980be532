"""The scopes of keys and of routes, from least to most: each includes those before it."""

from __future__ import annotations

from enum import IntEnum


class Access(IntEnum):
    """What a route asks for, and what a key gives. Stored by number; clients see the lower-case name."""

    PUBLIC = 0
    """Everybody, with or without a key: market data, trades, the service about itself."""
    READ = 1
    """To see orders, and what else belongs to a user."""
    TRADE = 2
    """To submit, change and cancel orders."""
    OPERATOR = 3
    """Everything, for every user."""

    @property
    def scope(self) -> str:
        """Its name, as clients write it."""
        return self.name.lower()
