"""What was, in a cluster: each symbol's past is its shard's; of one that was moved, that of the shard where it was then."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ome.domain.errors import Evicted
from ome.domain.ports import Depth, Past
from ome.domain.records import BookSnapshot, CandleRecord


class ClusterPast:
    """The Past of a gateway."""

    def __init__(
        self, shards: Sequence[Past], shard_of: Callable[[str], int], was_moved: Callable[[str], bool] = lambda _: False
    ) -> None:
        """`was_moved` says of a symbol whether it ever came from another shard."""
        self._shards = shards
        self._shard_of = shard_of
        self._was_moved = was_moved

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
        """See Past; None too for the moment in which the symbol was on its way. At most one shard had it at a time."""
        home = self._of(symbol)
        elsewhere = [past for past in self._shards if past is not home] if self._was_moved(symbol) else []
        evicted: Evicted | None = None
        for past in (home, *elsewhere):
            try:
                found = await past.depth_at_time(symbol, time)
            except Evicted as error:
                evicted = error
            else:
                if found is not None:
                    return found
        if evicted is not None:
            raise evicted
        return None
