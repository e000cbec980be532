"""A user's private events where several engines make them: every one of them, once, those of each shard in their order (D2).

A place is one of `order_events` for each shard. The places that a process has been at are a chain, in which each is in no shard
before the one before it: so they are compared as tuples are. A client's cursor may be of another process, and ahead of this one
in some shard: then this one catches up before it goes on from there.

Stored events of several shards are told by their times; how those of different shards follow each other says nothing, and isn't
the same whenever it is asked. What is behind a cursor is.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Sequence
from heapq import merge
from itertools import chain
from typing import Any, Final

from ome.api.paging import MAX_CURSOR, decode_cursor, encode_cursor
from ome.api.problems import FieldError, Problem
from ome.api.services import Lineage
from ome.api.streams.order_events import HISTORY_DIGITS, KIND, LAST, PAGE, START, OrderEvents, Place, UserEventView, event_view
from ome.api.streams.outlet import Outlet
from ome.api.streams.pump import Pump, Topic
from ome.api.streams.ring import QueueLimits
from ome.domain.errors import OutcomeUnknown
from ome.domain.events import CommandEvents, UserEvent, events_of, users_of
from ome.domain.ports import ReadModels
from ome.domain.reasons import Reason

CATCH_UP_S: Final = 5.0
"""How long a process may be behind a cursor that another one gave."""
PAUSE_S: Final = 0.02
GOING_AWAY: Final = 1012
_PLACES: Final = re.compile(r"([0-9a-f]{0,8})((?:\.[0-9]{1,18}\.[0-9]{1,10})+)", re.ASCII)

Places = tuple[Place, ...]
"""A place in each shard."""


class LocatedEvent(UserEvent, frozen=True):
    """An event, and the places behind it."""

    places: Places = ()


class ShardedCursors:
    """Cursors over several shards. `told` is the position of each up to which everything was told here."""

    def __init__(self, lineage: Lineage, shards: int) -> None:
        self._lineage = lineage
        self.told = [0] * shards

    @property
    def now(self) -> Places:
        """The place behind everything that was told."""
        return tuple((position, LAST) for position in self.told)

    def cursor_of(self, places: Places) -> str:
        """A place as clients see it."""
        return encode_cursor(KIND, ".".join([self._history, *(f"{position}.{number + 1}" for position, number in places)]))

    def read(self, cursor: str, field: str = "cursor") -> Places:
        """The place that a cursor, given as `field`, stands for; raises Problem for what is none, or one of another history."""
        found = None
        with contextlib.suppress(Problem):
            found = _PLACES.fullmatch(decode_cursor(KIND, cursor[: MAX_CURSOR * len(self.told)]))
        if found is None:
            raise _wrong(field, "must be the cursor of an event, as it was given")
        numbers = [int(text) for text in found[2][1:].split(".")]
        places = tuple((position, number - 1) for position, number in zip(numbers[::2], numbers[1::2], strict=True))
        if found[1] != self._history or len(places) != len(self.told):
            raise _wrong(field, "is of another history than this: the database was restored or replaced; start anew")
        return places

    @property
    def _history(self) -> str:
        return self._lineage()[1][:HISTORY_DIGITS]


def _wrong(field: str, message: str) -> Problem:
    return Problem(Reason.INVALID_REQUEST, errors=[FieldError(field, message)])


class ShardedOrderEvents(OrderEvents):
    """The private channel over several shards; `reads` are those of each."""

    def __init__(self, reads: Sequence[ReadModels], pump: Pump, limits: QueueLimits, cursors: ShardedCursors) -> None:
        super().__init__(reads[0], pump, limits, cursors)
        self._shards = reads
        self._places = cursors

    @property
    def start(self) -> Any:
        """See OrderEvents."""
        return (START,) * len(self._shards)

    @property
    def is_heard(self) -> bool:
        """Whether anybody hears anything."""
        return bool(self._topics)

    def told(self, shard: int, position: int, commands: Sequence[CommandEvents]) -> None:
        """Take in the events of a batch of a shard, which ends at this position; those up to a place that is known are."""
        if position <= self._places.told[shard]:
            return
        for command in commands:
            users = {user_id for event in command.events for user_id in users_of(event)}
            for user_id in users & self._topics.keys():
                topic, now = self._topics[user_id], self._places.now
                for event in events_of(user_id, command):
                    places = _with(now, shard, (event.position, event.number))
                    topic.ring.append(self._frame(user_id, _located(event, places)), places)
                self._pump.mark(topic)
        self._places.told[shard] = position
        self._pump.start()

    def missed(self, shard: int, position: int) -> None:
        """A shard has come so far, and what it told meanwhile wasn't heard: whoever hears anything has to resume."""
        if position == self._places.told[shard]:
            return
        self._places.told[shard] = position
        topics = list(self._topics.values())
        self._topics.clear()
        for topic in topics:
            for outlet in list(topic.outlets):
                outlet.close(GOING_AWAY, "events were missed; connect again and resume")

    def view(self, user_id: str, told: UserEvent) -> UserEventView:
        """See OrderEvents."""
        return event_view(user_id, told, self.cursors.cursor_of(self.place_of(told)))

    def place_of(self, told: UserEvent) -> Any:
        """See OrderEvents."""
        if not isinstance(told, LocatedEvent):
            raise TypeError("an event that was not located")
        return told.places

    async def page(self, user_id: str, place: Any, limit: int, upto: Any = None) -> list[UserEvent]:
        """See OrderEvents; what is told while it is read is left out."""
        places: Places = place
        bound: Places = upto or self._places.now
        found = await asyncio.gather(
            *(reads.events_of_user(user_id, each, limit) for reads, each in zip(self._shards, places, strict=True))
        )
        known = [
            [(event.time, shard, event) for event in events if event.position <= bound[shard][0]]
            for shard, events in enumerate(found)
        ]
        page: list[UserEvent] = []
        for _, shard, event in merge(*known, key=lambda each: each[:2]):
            if len(page) == limit:
                break
            places = _with(places, shard, (event.position, event.number))
            page.append(_located(event, places))
        return page

    async def replay(self, user_id: str, topic: Topic, outlet: Outlet, place: Any) -> None:
        """See OrderEvents."""
        await self._reach(place)
        while not outlet.is_closed:
            stored = self._places.now
            page = await self.page(user_id, place, PAGE, stored)
            if page:
                outlet.say(b"".join([self._frame(user_id, told) for told in page]))
                place = self.place_of(page[-1])
            if len(page) < PAGE:
                place = tuple(map(max, place, stored))
                index = topic.ring.after(place)
                if index is not None:
                    topic.join(outlet, index)
                    return
            await outlet.drained()

    async def _reach(self, places: Places) -> None:
        """Wait until everything up to a place was told here too. Raises OutcomeUnknown where that takes too long."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + CATCH_UP_S
        while any(position > told for (position, _), told in zip(places, self._places.told, strict=True)):
            if loop.time() > deadline:
                raise OutcomeUnknown("this gateway has not come as far as the cursor")
            await asyncio.sleep(PAUSE_S)


def _with(places: Places, shard: int, place: Place) -> Places:
    """These places, with another one for a shard."""
    return tuple(chain(places[:shard], (place,), places[shard + 1 :]))


def _located(event: UserEvent, places: Places) -> LocatedEvent:
    return LocatedEvent(event.position, event.number, event.time, event.event, places)
