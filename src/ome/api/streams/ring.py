"""The recent messages of one topic, kept once for all who hear it; each reader is no more than a place in it.

A message has an index, from 0, which never changes, and a key that grows with it: the sequence, or a cursor's place. `trim`
drops the oldest beyond the limits. Appending and reading from the end are O(1) a message; what many readers want, the same last
messages in one piece, is put together once.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Any, Final

from msgspec import Struct

_SLACK: Final = 512
"""Dropped messages that may stay in the lists until these are cut, so that a cut is paid for by many messages."""


class QueueLimits(Struct, frozen=True):
    """How far a reader may be behind before it is disconnected (D2)."""

    messages: int
    bytes: int


class Ring:
    """The messages of one topic, in bytes as they are sent."""

    __slots__ = ("_base", "_ends", "_first", "_floor", "_joined", "_keys", "_limits", "_messages", "is_held")

    def __init__(self, limits: QueueLimits, floor: Any) -> None:
        """`floor` is the key that all messages to come are above."""
        self._limits = limits
        self._floor = floor
        self._base = self._first = 0  # the index of the lists' first message, and of the first one kept
        self._messages: list[bytes] = []
        self._ends: list[int] = [0]  # the bytes before each message, and at the end, since the beginning
        self._keys: list[Any] = []
        self._joined: dict[int, bytes] = {}
        self.is_held = False
        """Whether nothing is dropped for now."""

    @property
    def first(self) -> int:
        """The index of the oldest message that is kept."""
        return self._first

    @property
    def end(self) -> int:
        """The index that the next message will have."""
        return self._base + len(self._messages)

    @property
    def last_key(self) -> Any:
        """The key of the newest message, or the floor."""
        return self._keys[-1] if self._keys else self._floor

    def append(self, message: bytes, key: Any) -> None:
        """Keep a message."""
        self._messages.append(message)
        self._ends.append(self._ends[-1] + len(message))
        self._keys.append(key)
        self._joined = {}

    def since(self, index: int) -> bytes:
        """Everything from an index on, in one piece; it must be kept still. Nothing from the end on."""
        if index == self.end:
            return b""
        if index == self.end - 1:
            return self._messages[-1]
        joined = self._joined.get(index)
        if joined is None:
            joined = self._joined[index] = b"".join(self._messages[index - self._base :])
        return joined

    def behind(self, index: int) -> tuple[int, int]:
        """How many messages and bytes there are from an index on, kept or dropped."""
        count = self.end - index
        return count, self._ends[-1] - self._ends[max(0, index - self._base)]

    def after(self, key: Any) -> int | None:
        """The index of the first message above a key; None where one above it isn't kept any more."""
        if key < self._floor:
            return None
        return self._base + bisect_right(self._keys, key, lo=self._first - self._base)

    def trim(self, below: int) -> None:
        """Drop the oldest messages beyond the limits, but none from the index `below` on."""
        if self.is_held:
            return
        ends, base, end = self._ends, self._base, self.end
        first = max(self._first, min(below, end - self._limits.messages))
        while first < below and ends[-1] - ends[first - base] > self._limits.bytes:
            first += 1
        if first == self._first:
            return
        self._first, self._floor = first, self._keys[first - base - 1]
        gone = first - base
        if gone >= _SLACK or first == end:
            del self._messages[:gone], self._keys[:gone], self._ends[:gone]
            self._base = first
