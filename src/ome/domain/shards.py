"""Which shard a symbol belongs to: the map that every gateway and every engine of a cluster has a copy of.

A symbol that is listed, or that was moved, has its shard in the database. Any other one has the shard that rendezvous hashing
gives it: each shard draws a number from its own and the symbol's name, and the highest has it. So all copies agree about symbols
that nobody has heard of yet, and one shard more takes only its share from the others.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

from msgspec import Struct, field

FUNDS_SHARD: Final = 0
"""Where money is: symbols that trade against balances are listed there."""
_REMEMBERED: Final = 100_000
"""Symbols whose draw is remembered: anybody can ask for any name."""


class ShardMap(Struct):
    """The map at a version: `placed` has the symbols whose shard is in the database; `cluster` names the cluster on NATS.
    `in_transit` are those of them that haven't arrived on their shard yet, `moved` all that ever came from another one. `left`
    has, by shard, the position of the last command that gave a symbol away.
    """

    cluster: str
    version: int
    shards: int
    placed: dict[str, int]
    in_transit: frozenset[str] = frozenset()
    moved: frozenset[str] = frozenset()
    left: dict[int, int] = field(default_factory=dict)
    _drawn: dict[str, int] = field(default_factory=dict)

    def shard_of(self, symbol: str) -> int:
        """The shard that a symbol belongs to, listed or not."""
        placed = self.placed.get(symbol)
        if placed is not None:
            return placed
        drawn = self._drawn.get(symbol)
        if drawn is None:
            if len(self._drawn) >= _REMEMBERED:
                self._drawn.clear()
            drawn = self._drawn[symbol] = highest(symbol, self.shards)
        return drawn


def highest(symbol: str, shards: int) -> int:
    """The shard of the highest draw for a symbol."""
    return max(range(shards), key=lambda shard: blake2b(f"{shard}:{symbol}".encode(), digest_size=8).digest())
