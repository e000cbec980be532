"""A process's copy of the shard map, and the way to change what the database says of a symbol."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from math import inf
from typing import Protocol

from msgspec import structs

from ome.domain.errors import StorageUnusable
from ome.domain.moves import MoveRecord, TimerChange
from ome.domain.shards import ShardMap


class MapStore(Protocol):
    """Where the map is kept. Raises StorageUnusable where there is no answer."""

    async def read(self) -> ShardMap | None:
        """The map; None where there is none."""

    async def put(self, symbol: str, shard: int, *, by: int, epoch: int) -> None:
        """Put a symbol that isn't listed on a shard; one version more. Raises Fenced where the engine of shard `by` whose word
        this is, that of `epoch`, was overtaken.
        """

    async def arriving(self, shard: int) -> list[MoveRecord]:
        """The symbols that were given to a shard and that it hasn't taken yet."""

    async def timers_since(self, move: MoveRecord, users: Collection[str]) -> list[TimerChange]:
        """What became of these users' dead-man timers on the shard that a symbol has left, behind the command that gave it."""


class Places:
    """Lives on the event loop."""

    def __init__(self, known: ShardMap, store: MapStore) -> None:
        self._map = known
        self._store = store
        self._lock = asyncio.Lock()
        self._read_from = -inf

    @property
    def shards(self) -> int:
        """How many shards there are."""
        return self._map.shards

    def shard_of(self, symbol: str) -> int:
        """The shard that a symbol belongs to, as far as it is known here."""
        return self._map.shard_of(symbol)

    @property
    def version(self) -> int:
        """How often it has changed, as far as it is known here; while a symbol is on its way the next change is to come."""
        return self._map.version

    @property
    def in_transit(self) -> frozenset[str]:
        """The symbols that haven't arrived on their shard yet."""
        return self._map.in_transit

    @property
    def moved(self) -> frozenset[str]:
        """The symbols that ever came from another shard: orders in them may have ids of any."""
        return self._map.moved

    @property
    def left(self) -> dict[int, int]:
        """By shard, the position of the last command that gave a symbol away: an order with a later id is where its id says."""
        return self._map.left

    def arrived(self, symbol: str, shard: int) -> None:
        """A symbol has come to this shard."""
        known = self._map
        self._map = structs.replace(
            known,
            placed=known.placed | {symbol: shard},
            in_transit=known.in_transit - {symbol},
            moved=known.moved | {symbol},
        )

    async def arriving(self, shard: int) -> list[MoveRecord]:
        """The symbols that are on their way to a shard. Raises StorageUnusable."""
        return await self._store.arriving(shard)

    async def timers_since(self, move: MoveRecord, users: Collection[str]) -> list[TimerChange]:
        """See MapStore. Raises StorageUnusable."""
        return await self._store.timers_since(move, users)

    async def put(self, symbol: str, shard: int, *, by: int, epoch: int) -> None:
        """Have the database say that a symbol that isn't listed is on a shard; here it holds once it is read."""
        await self._store.put(symbol, shard, by=by, epoch=epoch)

    async def read(self) -> None:
        """Take in what the database says now. Raises StorageUnusable where it doesn't. However many ask at once, one looks."""
        loop = asyncio.get_running_loop()
        asked = loop.time()
        async with self._lock:
            if self._read_from >= asked:
                return
            begun = loop.time()
            found = await self._store.read()
            if found is None:
                raise StorageUnusable("The cluster's row has gone.")
            self._map, self._read_from = found, begun
