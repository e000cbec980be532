"""What readers of a book begin with: a snapshot, encoded once for all who begin, and whatever has come since.

A small book's snapshot is of the very moment. A large one's is made a slice at a time, so that orders are answered meanwhile, and
kept together with the updates that came while it was made; who begins later gets it with the updates since, which leads to the
same book (D1). It is made anew once those are as long as that: however many begin, encoding costs about what the changes do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from msgspec import Raw, Struct

from ome.api.streams.messages import ALL_LEVELS, depth_snapshot, encode, levels_in_json, list_in_json
from ome.api.streams.pump import Topic
from ome.domain.ports import MarketData

SLICE: Final = 500
"""Levels that are encoded in one go: a millisecond. A book with no more than that on either side is small."""

Wrap = Callable[[bytes, int], bytes]
"""A snapshot's JSON and its sequence, as the topic's readers get it."""
Level = tuple[int, int, int]


class _Kept(Struct):
    """What leads to the book at a sequence, and whether that was a large one."""

    sequence: int
    data: bytes
    is_large: bool


class BookSnapshots:
    """Lives on the event loop. Topics are those whose messages keep a snapshot up, in the way that `wrap` puts it."""

    def __init__(self, market: MarketData) -> None:
        self._market = market
        self._kept: dict[Topic, _Kept] = {}
        self._making: dict[Topic, asyncio.Task[None]] = {}

    def beginning(self, topic: Topic, sequence: int, wrap: Wrap) -> bytes | None:
        """What leads to the book at the end of the topic's ring, its symbol being at this sequence; None where a large book's
        snapshot has to be made first.
        """
        kept = self._kept.get(topic)
        if kept is not None and kept.is_large:
            index = topic.ring.after(kept.sequence)
            if index is not None and topic.ring.behind(index)[1] <= len(kept.data):
                return kept.data + topic.ring.since(index)
        elif kept is not None and kept.sequence == sequence:
            return kept.data
        depth = self._market.depth(topic.key[1], SLICE + 1)
        if depth is None or max(len(depth.bids), len(depth.asks)) > SLICE:
            return None
        bids, asks = (list_in_json([levels_in_json(levels)]) for levels in (depth.bids, depth.asks))
        data = wrap(encode(depth_snapshot(depth, bids, asks)), depth.sequence)
        self._kept[topic] = _Kept(depth.sequence, data, is_large=False)
        return data

    async def make(self, topic: Topic, wrap: Wrap) -> None:
        """Make a large book's snapshot; whoever asks while it is being made waits for the same one."""
        making = self._making.get(topic)
        if making is None:
            making = self._making[topic] = asyncio.create_task(self._make(topic, wrap), name="book snapshot")
            making.add_done_callback(lambda _: self._making.pop(topic, None))
        await asyncio.shield(making)

    def forget(self, topic: Topic) -> None:
        """The topic is closed."""
        self._kept.pop(topic, None)

    async def _make(self, topic: Topic, wrap: Wrap) -> None:
        depth = self._market.depth(topic.key[1], ALL_LEVELS)
        if depth is None:
            return
        ring = topic.ring
        start, ring.is_held = ring.end, True
        try:
            bids, asks = await _in_slices(depth.bids), await _in_slices(depth.asks)
            payload = encode(depth_snapshot(depth, bids, asks))
            await asyncio.sleep(0)  # a copy of megabytes takes milliseconds: one at a time
            snapshot = wrap(payload, depth.sequence)
            await asyncio.sleep(0)
            sequence = depth.sequence if ring.end == start else ring.last_key
            self._kept[topic] = _Kept(sequence, snapshot + ring.since(start), is_large=True)
        finally:
            ring.is_held = False


async def _in_slices(levels: list[Level]) -> Raw:
    """Levels in JSON, a slice at a time."""
    pieces = []
    for start in range(0, len(levels), SLICE):
        pieces.append(levels_in_json(levels[start : start + SLICE]))
        await asyncio.sleep(0)
    whole = list_in_json(pieces)
    await asyncio.sleep(0)
    return whole
