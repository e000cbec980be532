"""Fan-out at its own pace: readers of topics that have something new are given it in rounds, a few of them at a time.

A round visits each such reader once and writes all that is new for it in one piece; what arrives meanwhile goes out with the
next round, in one piece again. The event loop gets its turn every SLICE_S, and between rounds the pump rests for REST times as
long as the last one took: orders are answered first, however many listen, and a single reader is served at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from time import perf_counter
from typing import Any, Final

from ome.api.streams.outlet import Outlet
from ome.api.streams.ring import QueueLimits, Ring

SLICE_S: Final = 0.0001
"""How long a round goes on before others get their turn; as long again goes into the system calls of what it wrote."""
REST: Final = 3.0
"""How much longer than a round the rest after it is: readers, however many, take a quarter of the time at most."""
MOST_REST_S: Final = 0.1
_CHECK_EVERY: Final = 4
"""Readers that are served between two looks at the clock."""


TopicKey = tuple[str, str, str]
"""A channel, whose it is, and the interval of candles."""


class Topic:
    """Something to hear: its recent messages and who hears it. `left_at` is when the last one left, None while there is one."""

    __slots__ = ("key", "left_at", "outlets", "ring")

    def __init__(self, key: TopicKey, limits: QueueLimits, floor: Any, now: float) -> None:
        self.key = key
        self.ring = Ring(limits, floor)
        self.outlets: dict[Outlet, None] = {}
        self.left_at: float | None = now

    def expect(self, outlet: Outlet) -> None:
        """Keep messages for a reader that will join."""
        self.outlets[outlet] = None
        self.left_at = None

    def join(self, outlet: Outlet, index: int | None = None) -> None:
        """Let a reader hear it from a message on; from now on where None is given."""
        self.expect(outlet)
        outlet.follow(self.ring, self.ring.end if index is None else index)

    def part(self, outlet: Outlet, now: float) -> None:
        """Let a reader hear it no more."""
        outlet.leave(self.ring)
        self.outlets.pop(outlet, None)
        if not self.outlets:
            self.left_at = now


class Pump:
    """Lives on the event loop."""

    def __init__(self) -> None:
        self._new: dict[Topic, None] = {}
        self._round: Iterator[Outlet] | None = None
        self._rings: dict[Ring, int] = {}
        self._took_s = 0.0
        self._is_due = False

    def mark(self, topic: Topic) -> None:
        """A topic has something new."""
        self._new[topic] = None

    def start(self) -> None:
        """See to it that what is new goes out, after what is ready to run now."""
        if self._new and not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._go_on)

    def finish(self) -> None:
        """Give everybody what is new right now, in one go."""
        while self._round is not None or self._new:
            self._serve(float("inf"))

    def _go_on(self) -> None:
        loop = asyncio.get_running_loop()
        if self._serve(SLICE_S):
            loop.call_soon(self._go_on)
        elif self._new:
            loop.call_later(min(REST * self._took_s, MOST_REST_S), self._go_on)
        else:
            self._is_due = False

    def _serve(self, slice_s: float) -> bool:
        """Go on with the round, or begin one; whether it isn't at its end."""
        started = perf_counter()
        if self._round is None:
            topics, self._new = self._new, {}
            self._rings = {topic.ring: topic.ring.end for topic in topics}
            self._round = iter({outlet: None for topic in topics for outlet in topic.outlets})
            self._took_s = 0.0
        for number, outlet in enumerate(self._round, 1):
            outlet.flush(self._rings)
            if number % _CHECK_EVERY == 0 and perf_counter() - started > slice_s:
                self._took_s += perf_counter() - started
                return True
        self._took_s += perf_counter() - started
        self._round = None
        for ring, end in self._rings.items():
            ring.trim(end)  # what came during the round has not been given to everybody yet
        return False
