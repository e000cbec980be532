"""Limits, kill switches and dead-man timers: what has been laid down for orders to come, by commands that the journal keeps.

What is in force counts in the state hash, a digest of each; what has been lifted counts for nothing, as if it had never been set.
Looking up whether a user is stopped or limited costs O(1), and nothing where nobody is. Whether an order passes is for
`engine.limits` to say.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from sortedcontainers import SortedDict

from ome.domain.clock import MICROSECONDS
from ome.domain.commands import CancelAllAfter, SetKill, SetLimits
from ome.domain.digests import digest
from ome.domain.enums import ControlKind, Switch
from ome.domain.records import ControlRecord
from ome.engine.user_limits import NO_LIMITS, UserLimits

Key = tuple[ControlKind, str, str]
"""Of what kind, of which user, in which symbol; "" for all."""
EVERYBODY: Final = ("", "")


class Controls:
    """All of a shard. `kills` has (user, symbol) of each switch that is on, `limits` those of each user who has any; `next_timer`
    is the soonest deadline of a timer, in microseconds, or None.
    """

    __slots__ = ("_active", "_digest", "_pictures", "_timers", "kills", "limits", "next_timer")

    def __init__(self) -> None:
        self.kills: set[tuple[str, str]] = set()
        self.limits: dict[str, UserLimits] = {}
        self._timers: SortedDict[tuple[int, str], None] = SortedDict()
        self.next_timer: int | None = None
        self._active: dict[Key, ControlRecord] = {}
        self._pictures: dict[Key, ControlRecord] = {}
        self._digest = 0

    # Commands

    def set_limits(self, command: SetLimits, time: int) -> ControlRecord:
        """These and no others hold from now on."""
        limits = None if command.limits == NO_LIMITS else command.limits
        switch = Switch.OFF if limits is None else Switch.ON
        return self._put(ControlRecord(ControlKind.LIMITS, command.user_id, command.symbol, switch, time, None, limits))

    def set_kill(self, command: SetKill, time: int) -> ControlRecord:
        """Switch one on or off; one that is on already stays as it is."""
        known = self._active.get((ControlKind.KILL, command.user_id, command.symbol))
        if known is not None and command.is_active:
            return known
        switch = Switch.ON if command.is_active else Switch.OFF
        return self._put(ControlRecord(ControlKind.KILL, command.user_id, command.symbol, switch, time))

    def set_timer(self, command: CancelAllAfter, time: int) -> ControlRecord:
        """Arm a user's timer anew, or disarm it."""
        if not command.seconds:
            return self.disarm(command.user_id, time)
        until = time + command.seconds * MICROSECONDS
        return self._put(ControlRecord(ControlKind.TIMER, command.user_id, "", Switch.ON, time, until))

    def disarm(self, user_id: str, time: int) -> ControlRecord:
        """A timer is no longer wanted, or has done what it was for."""
        return self._put(ControlRecord(ControlKind.TIMER, user_id, "", Switch.OFF, time))

    # To look at

    def is_killed(self, user_id: str, symbol: str) -> bool:
        """Whether this user may have no orders in this symbol now."""
        kills = self.kills
        return bool(kills) and (EVERYBODY in kills or (user_id, "") in kills or ("", symbol) in kills)

    def due_timers(self, time: int) -> Iterator[str]:
        """The users whose deadline has come, the soonest first. May be disarmed while they are gone through."""
        while self._timers and self._timers.peekitem(0)[0][0] <= time:
            yield self._timers.peekitem(0)[0][1]

    def users_due(self, time: int) -> list[str]:
        """The same, at once."""
        return [user_id for _, user_id in self._timers.irange(maximum=(time, "\U0010ffff"))]

    def active(self) -> list[ControlRecord]:
        """All that is in force, in order of kind, user and symbol."""
        return [record for _, record in sorted(self._active.items())]

    def concerning(self, user_ids: set[str]) -> list[ControlRecord]:
        """What decides about orders of these users: every kill, and their limits."""
        return [
            record
            for record in self.active()
            if record.kind is ControlKind.KILL or (record.kind is ControlKind.LIMITS and record.user_id in user_ids)
        ]

    def timer_of(self, user_id: str) -> int | None:
        """When all of a user's orders will be cancelled; None for never."""
        record = self._active.get((ControlKind.TIMER, user_id, ""))
        return None if record is None else record.until

    # A symbol on its way

    def take_out(self, symbol: str, time: int) -> list[ControlRecord]:
        """Have none of a symbol's own in force any more: those that were, in order of kind and user."""
        found = [record for record in self.active() if record.symbol == symbol]
        for record in found:
            self._put(ControlRecord(record.kind, record.user_id, symbol, Switch.OFF, time))
        return found

    def take_in(self, records: Iterable[ControlRecord]) -> None:
        """Have these in force, as they were set elsewhere."""
        for record in records:
            self._put(record)

    # State

    def restore(self, records: Iterable[ControlRecord]) -> None:
        """Have these in force, and say nothing of them."""
        for record in records:
            self._put(record)
        self._pictures = {}

    @property
    def digest(self) -> int:
        """What all that is in force adds to the state hash."""
        return self._digest

    def take_pictures(self) -> list[ControlRecord]:
        """What has changed since the last call, each once, as it is now."""
        pictures, self._pictures = list(self._pictures.values()), {}
        return pictures

    def _put(self, record: ControlRecord) -> ControlRecord:
        key = (record.kind, record.user_id, record.symbol)
        before = self._active.pop(key, None)
        if before is not None:
            self._digest -= digest(before)
            self._forget(before)
        self._pictures[key] = record
        if record.switch is Switch.ON:
            self._active[key] = record
            self._digest += digest(record)
            self._index(record)
        return record

    def _index(self, record: ControlRecord) -> None:
        if record.kind is ControlKind.KILL:
            self.kills.add((record.user_id, record.symbol))
        elif record.limits is not None:
            theirs = self.limits.get(record.user_id)
            if theirs is None:
                theirs = self.limits[record.user_id] = UserLimits()
            theirs.put(record.symbol, record.limits)
        elif record.until is not None:
            self._timers[record.until, record.user_id] = None
            self._look_at_timers()

    def _forget(self, record: ControlRecord) -> None:
        if record.kind is ControlKind.KILL:
            self.kills.discard((record.user_id, record.symbol))
        elif record.limits is not None:
            theirs = self.limits[record.user_id]
            theirs.drop(record.symbol)
            if not theirs.symbols:
                del self.limits[record.user_id]
        elif record.until is not None:
            del self._timers[record.until, record.user_id]
            self._look_at_timers()

    def _look_at_timers(self) -> None:
        self.next_timer = self._timers.peekitem(0)[0][0] if self._timers else None
