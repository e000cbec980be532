"""What was, in a cluster: each symbol's past is its shard's."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ome.domain.ports import Depth, Past
from ome.domain.records import BookSnapshot, CandleRecord


class ClusterPast:
    """The Past of a gateway."""

    def __init__(self, shards: Sequence[Past], shard_of: Callable[[str], int]) -> None:
        self._shards = shards
        self._shard_of = shard_of

    def _of(self, symbol: str) -> Past:
        return self._shards[self._shard_of(symbol)]

    async def candles(
        self, symbol: str, seconds: int, start: int, end: int, limit: int, *, newest: bool = False
    ) -> list[CandleRecord]:
        """See Past."""
        return await self._of(symbol).candles(symbol, seconds, start, end, limit, newest=newest)

    async def candles_trimmed_before(self, seconds: int) -> int:
        """See Past: the latest of all shards."""
        return max([await past.candles_trimmed_before(seconds) for past in self._shards])

    async def books(self, symbol: str, before: int, limit: int) -> list[BookSnapshot]:
        """See Past."""
        return await self._of(symbol).books(symbol, before, limit)

    async def books_trimmed_before(self) -> int:
        """See Past: the latest of all shards."""
        return max([await past.books_trimmed_before() for past in self._shards])

    async def depth_at_sequence(self, symbol: str, sequence: int) -> Depth:
        """See Past."""
        return await self._of(symbol).depth_at_sequence(symbol, sequence)

    async def depth_at_time(self, symbol: str, time: int) -> Depth | None:
        """See Past."""
        return await self._of(symbol).depth_at_time(symbol, time)
