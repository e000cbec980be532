"""A process's copy of the shard map, and the way to change what the database says of a symbol."""

from __future__ import annotations

from typing import Protocol

from ome.domain.errors import StorageUnusable
from ome.domain.shards import ShardMap


class MapStore(Protocol):
    """Where the map is kept. Raises StorageUnusable where there is no answer."""

    async def read(self) -> ShardMap | None:
        """The map; None where there is none."""

    async def put(self, symbol: str, shard: int) -> None:
        """Put a symbol that isn't listed on a shard; one version more."""


class Places:
    """Lives on the event loop."""

    def __init__(self, known: ShardMap, store: MapStore) -> None:
        self._map = known
        self._store = store

    @property
    def shards(self) -> int:
        """How many shards there are."""
        return self._map.shards

    def shard_of(self, symbol: str) -> int:
        """The shard that a symbol belongs to, as far as it is known here."""
        return self._map.shard_of(symbol)

    def expect(self, symbol: str, shard: int) -> None:
        """Take a symbol for this shard's from now on, whatever the database says until it is read again."""
        self._map.placed[symbol] = shard

    async def put(self, symbol: str, shard: int) -> None:
        """Have the database say so too."""
        await self._store.put(symbol, shard)
        self.expect(symbol, shard)

    async def read(self) -> None:
        """Take in what the database says now. Raises StorageUnusable where it doesn't."""
        found = await self._store.read()
        if found is None:
            raise StorageUnusable("The cluster's row has gone.")
        self._map = found
