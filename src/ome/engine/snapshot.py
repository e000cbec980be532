"""The state hash: 64 bits over all that the engine knows, kept up as it changes (M6, HOLE17).

It is the sum, modulo 2**64, of a digest of each open order, of each instrument, of each position, and of the counters and
settings. A sum can be kept up by taking an old digest out and putting a new one in, and doesn't depend on the order of anything.
"""

from __future__ import annotations

from typing import Final

from msgspec.structs import astuple

from ome.domain.digests import digest
from ome.domain.records import EngineSettings

MASK: Final = 2**64 - 1


def counters_digest(shard: int, position: int, time: int, trade_count: int, priority_count: int, settings: EngineSettings) -> int:
    """64 bits over what the engine knows beside orders, instruments and positions.

    A setting that came later counts from when it is set: what was hashed before it was there keeps its hash.
    """
    counted = astuple(settings)
    return digest(("engine", shard, position, time, trade_count, priority_count, counted if counted[-1] else counted[:-1]))
