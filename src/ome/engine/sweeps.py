"""What kill switches have yet to cancel: a large kill goes in chunks, each a command, the oldest order first (I2).

Nothing of it is state: while a switch is on no order enters its scope, so whatever is open in it is what is left to cancel. The
ids are sorted once, when the switch is set or found set at a start.
"""

from __future__ import annotations

from collections.abc import Container, Iterable

Scope = tuple[str, str]
"""User and symbol; "" for all."""


class Sweeps:
    """The ids of the orders in each scope, the newest first; those that have ended meanwhile are passed over."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left: dict[Scope, list[int]] = {}

    def begin(self, scope: Scope, order_ids: Iterable[int]) -> None:
        """Cancel these from now on."""
        self._left[scope] = sorted(order_ids, reverse=True)

    def stop(self, scope: Scope) -> None:
        """The switch is off: leave what is still open."""
        self._left.pop(scope, None)

    def next(self, is_open: Container[int]) -> int | None:
        """The order to cancel next, which stays the next one until it has ended; None where nothing is left."""
        if not self._left:
            return None
        for scope in sorted(self._left):
            ids = self._left[scope]
            while ids and ids[-1] not in is_open:
                ids.pop()
            if ids:
                return ids[-1]
            del self._left[scope]
        return None
