"""A user's private events: every one of them, in order, from any cursor on, and then as they are committed (D2).

What has happened is read from the database, by the index of users, a page at a time; what happens is told by the runner right
after the commit and kept in a ring for as long as somebody hears it. A reader that has caught up with the database is joined to
the ring behind the last event that it was given; where the ring doesn't reach back so far it reads on from the database. So
there is no gap and no double, and no more in memory than a page and the ring. A batch is in the database a moment before it is
told: what is found of it there is left to the telling, so that nobody hears it twice or has a cursor ahead of its time.

A cursor is the place of an event: the history's incarnation, its command's position and which of the user's events in it.
Refused changes and cancels have no event of their own here: whoever sent them was answered.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Sequence
from time import monotonic
from typing import Any, Final, Protocol

from msgspec import UNSET, Struct, UnsetType

from ome.api.paging import MAX_CURSOR, decode_cursor, encode_cursor
from ome.api.problems import FieldError, Problem
from ome.api.schemas import OrderView, TradeView
from ome.api.services import Lineage
from ome.api.streams.messages import as_frame, encode
from ome.api.streams.outlet import Outlet
from ome.api.streams.pump import Pump, Topic
from ome.api.streams.ring import QueueLimits
from ome.api.views import order_view, trade_view
from ome.domain.clock import format_time
from ome.domain.events import (
    CommandEvents,
    CommandRefused,
    OrderAccepted,
    OrderCancelled,
    OrderEvent,
    OrderExpired,
    OrderFilled,
    OrderModified,
    OrderRejected,
    OrderTriggered,
    SelfTradePrevented,
    Traded,
    UserEvent,
    events_of,
    users_of,
)
from ome.domain.numbers import format_number, unpack
from ome.domain.ports import ReadModels
from ome.domain.reasons import Reason

PAGE: Final = 500
"""Events that are read from the database at a time, at least: a few hundred kilobytes."""
KIND: Final = "events"
HISTORY_DIGITS: Final = 8
"""Of the incarnation: enough to tell the few histories that a client meets apart."""
_PLACE: Final = re.compile(r"([0-9a-f]{0,8})\.([0-9]{1,18})\.([0-9]{1,18})", re.ASCII)
Place = tuple[int, int]
"""Of an event: its command's position, and which of the user's events in it, from 0."""
START: Final[Place] = (0, -1)
"""Before every event."""
LAST: Final = 2**31 - 1
"""A number that no event of a command has: behind all of them."""

_TYPES: Final[dict[type[OrderEvent], str]] = {
    OrderAccepted: "ACCEPTED",
    OrderRejected: "REJECTED",
    OrderModified: "MODIFIED",
    OrderCancelled: "CANCELLED",
    OrderExpired: "EXPIRED",
    OrderTriggered: "TRIGGERED",
    OrderFilled: "UPDATED",
}


class UserEventView(Struct, frozen=True, kw_only=True):
    """One event of a user's. `cursor` is its place: what follows is read from there.

    ACCEPTED, REJECTED, MODIFIED, TRIGGERED, CANCELLED and EXPIRED have the `order` as it was right after. Each trade is a FILLED,
    with the `order_id` and the user's `role` in it: of a MAKER's order it tells what is filled and left; a TAKER's order is shown
    by UPDATED after all the trades of its command; BOTH, where users may trade with themselves, is told of the maker's order.
    SELF_TRADE_PREVENTED names both orders.
    """

    cursor: str
    position: int
    time: str
    type: str
    order: OrderView | UnsetType = UNSET
    order_id: str | UnsetType = UNSET
    role: str | UnsetType = UNSET
    trade: TradeView | UnsetType = UNSET
    filled_quantity: str | UnsetType = UNSET
    remaining_quantity: str | UnsetType = UNSET
    other_order_id: str | UnsetType = UNSET
    prevented_price: str | UnsetType = UNSET
    prevented_quantity: str | UnsetType = UNSET


class UserEventList(Struct, frozen=True, kw_only=True):
    """A user's events, oldest first."""

    events: list[UserEventView]
    count: int
    next_cursor: str | None


class OrderMessage(Struct, frozen=True, kw_only=True):
    """An event on the private channel."""

    channel: str
    type: str
    user_id: str
    event: UserEventView


class Cursors:
    """Cursors of one history: a place in another one, such as the database had before it was restored, is refused (HOLE12)."""

    def __init__(self, lineage: Lineage, position: Callable[[], int]) -> None:
        """`lineage` tells the history, `position` its last committed one."""
        self._lineage = lineage
        self._position = position

    @property
    def now(self) -> Place:
        """The place behind everything that is committed."""
        return (self._position(), LAST)

    def cursor_of(self, place: Place) -> str:
        """A place as clients see it."""
        return encode_cursor(KIND, f"{self._history}.{place[0]}.{place[1] + 1}")

    def read(self, cursor: str, field: str = "cursor") -> Place:
        """The place that a cursor, given as `field`, stands for; raises Problem for what is none, or one of another history."""
        found = None
        with contextlib.suppress(Problem):
            found = _PLACE.fullmatch(decode_cursor(KIND, cursor[:MAX_CURSOR]))
        if found is None:
            raise _wrong(field, "must be the cursor of an event, as it was given")
        place = (int(found[2]), int(found[3]) - 1)
        if found[1] != self._history or place > self.now:
            raise _wrong(field, "is of another history than this: the database was restored or replaced; start anew")
        return place

    @property
    def _history(self) -> str:
        return self._lineage()[1][:HISTORY_DIGITS]


def _wrong(field: str, message: str) -> Problem:
    return Problem(Reason.INVALID_REQUEST, errors=[FieldError(field, message)])


def event_view(user_id: str, told: UserEvent, cursor: str) -> UserEventView:
    """An event as its user sees it."""
    event = told.event
    common: dict[str, Any] = {
        "cursor": cursor,
        "position": told.position,
        "time": format_time(told.time),
    }
    match event:
        case Traded(trade=trade):
            is_maker, is_taker = event.maker_user_id == user_id, event.taker_user_id == user_id
            return UserEventView(
                **common,
                type="FILLED",
                order_id=str(trade.maker_order_id if is_maker else trade.taker_order_id),
                role="BOTH" if is_maker and is_taker else "MAKER" if is_maker else "TAKER",
                trade=trade_view(trade),
                filled_quantity=format_number(event.maker_filled) if is_maker else UNSET,
                remaining_quantity=_left(event.maker_remaining) if is_maker else UNSET,
            )
        case SelfTradePrevented():
            return UserEventView(
                **common,
                type="SELF_TRADE_PREVENTED",
                order_id=str(event.taker_order_id),
                other_order_id=str(event.maker_order_id),
                prevented_price=format_number(event.price),
                prevented_quantity=format_number(event.quantity),
            )
        case CommandRefused():
            raise LookupError("a refused command is no event of a user")
        case _:
            return UserEventView(**common, type=_TYPES[type(event)], order=order_view(event.order))


def _left(remaining: int) -> str:
    return format_number(remaining) if unpack(remaining)[0] else "0"


class AnyCursors(Protocol):
    """Cursors of whatever kind of place."""

    @property
    def now(self) -> Any:
        """The place behind everything that was told."""

    def cursor_of(self, place: Any, /) -> str:
        """A place as clients see it."""

    def read(self, cursor: str, field: str = "cursor") -> Any:
        """The place that a cursor stands for; raises Problem for what is none."""


class OrderEvents:
    """The CommandListener of the private channel: a topic for each user whom somebody hears."""

    def __init__(self, reads: ReadModels, pump: Pump, limits: QueueLimits, cursors: AnyCursors) -> None:
        self._reads = reads
        self._pump = pump
        self._limits = limits
        self.cursors = cursors
        self._topics: dict[str, Topic] = {}

    @property
    def start(self) -> Any:
        """The place before every event."""
        return START

    def place_of(self, told: UserEvent) -> Any:
        """The place behind an event."""
        return (told.position, told.number)

    def commands_committed(self, position: int, commands: Sequence[CommandEvents]) -> None:
        """See CommandListener."""
        del position
        if not self._topics:
            return
        for command in commands:
            users = {user_id for event in command.events for user_id in users_of(event)}
            for user_id in users & self._topics.keys():
                topic = self._topics[user_id]
                for told in events_of(user_id, command):
                    topic.ring.append(self._frame(user_id, told), (told.position, told.number))
                self._pump.mark(topic)
        self._pump.start()

    def view(self, user_id: str, told: UserEvent) -> UserEventView:
        """An event as its user sees it."""
        return event_view(user_id, told, self.cursors.cursor_of((told.position, told.number)))

    def _frame(self, user_id: str, told: UserEvent) -> bytes:
        message = OrderMessage(channel="orders", type="event", user_id=user_id, event=self.view(user_id, told))
        return as_frame(encode(message))

    def open(self, user_id: str, outlet: Outlet) -> Topic:
        """The topic of a user's events, kept in its ring from now on; the reader hears it once it is joined."""
        topic = self._topics.get(user_id)
        if topic is None:
            topic = self._topics[user_id] = Topic(("orders", user_id, ""), self._limits, self.cursors.now, monotonic())
        topic.expect(outlet)
        return topic

    def topics(self) -> Iterable[Topic]:
        """Each that somebody hears, or has just left."""
        return self._topics.values()

    def close_idle(self, before: float) -> None:
        """Forget the users whom nobody has heard since that moment, on the monotonic clock."""
        for user_id, topic in list(self._topics.items()):
            if topic.left_at is not None and topic.left_at < before:
                del self._topics[user_id]

    async def page(self, user_id: str, place: Place, limit: int) -> list[UserEvent]:
        """At most `limit` of a user's events behind a place, oldest first, of what has been told; fewer: those are all."""
        found = await self._reads.events_of_user(user_id, place, limit)
        position, _ = self.cursors.now
        return [each for each in found if each.position <= position]

    async def replay(self, user_id: str, topic: Topic, outlet: Outlet, place: Place) -> None:
        """Give a reader all that is stored behind a place, at the pace at which it reads, then let it hear what happens."""
        while not outlet.is_closed:
            stored = self.cursors.now  # all up to here is found by the question that follows
            page = await self.page(user_id, place, PAGE)
            if page:
                outlet.say(b"".join([self._frame(user_id, told) for told in page]))
                place = (page[-1].position, page[-1].number)
            if len(page) < PAGE:
                place = max(place, stored)
                index = topic.ring.after(place)
                if index is not None:
                    topic.join(outlet, index)
                    return
            await outlet.drained()
