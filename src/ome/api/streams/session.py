"""One WebSocket's conversation: each message with an `op` is answered, in JSON, with its `id` and a `status` as HTTP has.

Ops: subscribe and unsubscribe (channels depth, trades, ticker, candles, orders), submit, modify, cancel and batch, auth, ping,
cancel_on_disconnect. A refusal carries a problem document of the one table; the connection stays open. It is closed for what
makes going on pointless: 1003 a binary message, 1009 one that is too large, 4001 a wrong key or none in time, 4008 a reader too
slow.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from time import monotonic
from typing import Any, Final, NamedTuple

from msgspec import UNSET, Raw

from ome.api.auth import Caller, Gate, check_scope, user_for
from ome.api.decoding import (
    Asked,
    Form,
    one_of,
    read_boolean,
    read_form,
    read_message,
    read_string,
    read_symbol,
    read_user_id,
)
from ome.api.failures import problem_of
from ome.api.problems import FieldError, Problem
from ome.api.services import Lineage
from ome.api.settings import StreamSettings
from ome.api.streams.market_topics import CHANNELS, MarketTopics
from ome.api.streams.messages import Reply, Subscription, as_frame, encode, retry_after
from ome.api.streams.order_events import OrderEvents
from ome.api.streams.order_lane import OPERATIONS, Desk, OrderLane, check_size
from ome.api.streams.outlet import Outlet
from ome.api.streams.pump import Topic
from ome.domain.access import Access
from ome.domain.clock import format_time, now_us
from ome.domain.intervals import INTERVALS
from ome.domain.numbers import pack
from ome.domain.reasons import Reason

UNAUTHENTICATED: Final = 4001
"""The close code of a connection whose key is wrong or came too late."""
_MOST_KEYS: Final = 15
FROM_START: Final = "start"
"""Instead of a cursor: every event since the beginning."""

OP_ACCESS: Final = {
    "subscribe": Access.PUBLIC,
    "unsubscribe": Access.PUBLIC,
    "submit": Access.TRADE,
    "modify": Access.TRADE,
    "cancel": Access.TRADE,
    "batch": Access.TRADE,
    "auth": Access.PUBLIC,
    "ping": Access.PUBLIC,
    "cancel_on_disconnect": Access.TRADE,
}
"""Every op there is, and the scope that it asks for: one that isn't declared here is no op."""
CHANNEL_ACCESS: Final = {**dict.fromkeys(CHANNELS, Access.PUBLIC), "orders": Access.READ}
"""The same of the channels that are subscribed to."""


def _channel_rules(values: Mapping[str, Any], given: Collection[str]) -> list[FieldError]:
    channel = values.get("channel")
    if channel is None:
        return []
    wanted = () if channel == "orders" else ("symbol",)
    taken = {"orders": ("user_id", "from"), "candles": ("symbol", "interval")}.get(channel, ("symbol",))
    errors = [FieldError(name, f"is required for the channel {channel}") for name in wanted if name not in given]
    return errors + [
        FieldError(name, f"is not for the channel {channel}")
        for name in given
        if name in SUBSCRIBE_FORM.readers and name not in {"channel", *taken}
    ]


SUBSCRIBE_FORM: Final = Form(
    {
        "channel": one_of(*CHANNEL_ACCESS),
        "symbol": read_symbol,
        "interval": one_of(*INTERVALS),
        "user_id": read_user_id,
        "from": read_string,
    },
    ("channel",),
    _channel_rules,
)
UNSUBSCRIBE_FORM: Final = SUBSCRIBE_FORM._replace(
    readers={name: reader for name, reader in SUBSCRIBE_FORM.readers.items() if name != "from"}
)
AUTH_FORM: Final = Form({"key": read_string}, ("key",), lambda _values, _given: [])
SWITCH_FORM: Final = Form({"enabled": read_boolean}, ("enabled",), lambda _values, _given: [])
NOTHING_FORM: Final = Form({}, (), lambda _values, _given: [])


class Sources(NamedTuple):
    """What sessions work with."""

    market: MarketTopics
    orders: OrderEvents
    desk: Desk
    gate: Gate
    settings: StreamSettings
    retry_after_seconds: int
    lineage: Lineage


class _Subscription:
    """What a connection hears; `start` is what gives it what comes before, where that takes a while."""

    __slots__ = ("start", "topic")

    def __init__(self, topic: Topic, start: asyncio.Task[None] | None = None) -> None:
        self.topic = topic
        self.start = start


class Session:
    """Lives on the event loop, for as long as its connection."""

    def __init__(self, sources: Sources, outlet: Outlet, caller: Caller, request_id: str, address: str = "") -> None:
        self._sources = sources
        self.outlet = outlet
        self._request_id = request_id
        self._address = address
        self._caller = caller
        self._earlier: tuple[Caller, ...] = ()
        self._subscriptions: dict[tuple[str, str, str], _Subscription] | None = None
        self._lane: OrderLane | None = None
        limit = sources.settings.messages_per_second if sources.gate.needs_key else 0
        self._bucket = _Bucket(limit) if limit else None
        self._cancels = _Bucket(limit) if limit else None
        self.must_speak_by = (
            monotonic() + sources.settings.auth_seconds if caller.access < Access.TRADE and not caller.key_id else None
        )
        """Until when a key or a subscription must have come, on the monotonic clock; None where that is settled."""

    def has_used(self, key_id: str) -> bool:
        """Whether this key has opened any of it."""
        return any(caller.key_id == key_id for caller in (self._caller, *self._earlier))

    @property
    def may_stay(self) -> bool:
        """Whether each key that has opened any of it is still good."""
        return all(map(self._sources.gate.is_good, (self._caller, *self._earlier)))

    async def take(self, text: str) -> None:
        """Do what a message asks for and answer it. Waits only where too many orders are in flight."""
        given_id: Raw | None = None
        try:
            body = text.encode()
            asked = read_message(body)
            given_id = asked.id
            bucket = self._cancels if asked.op == "cancel" else self._bucket  # never held up by anything else (R3)
            if bucket is not None:
                bucket.take()
            check_size(asked, len(body), self._sources.settings.max_order_bytes)
            self._check_scope(asked.op)
            if asked.op in OPERATIONS:
                await self._order(asked)
            else:
                self._answer(asked)
        except Exception as error:  # noqa: BLE001  whatever it is, the client gets a problem document
            self._refuse(error, given_id)

    async def settled(self) -> None:
        """Wait until every order that was taken is answered."""
        if self._lane is not None:
            await self._lane.settled()

    async def ended(self) -> None:
        """The connection is gone: hear nothing more, and cancel orders where that was asked for."""
        self.outlet.close(1000, "")
        now = monotonic()
        for subscription in (self._subscriptions or {}).values():
            _leave(subscription, self.outlet, now)
        self._subscriptions = None
        if self._lane is not None:
            await self._lane.disconnected()

    async def _order(self, asked: Asked) -> None:
        lane = self._lane_for_orders()
        await lane.room()
        lane.take(asked, self._caller)

    def _lane_for_orders(self) -> OrderLane:
        if self._lane is None:
            settings = self._sources.settings
            self._lane = OrderLane(self._sources.desk, self.outlet.say, settings.max_in_flight, self._request_id)
        return self._lane

    def _answer(self, asked: Asked) -> None:
        handlers: dict[str, Callable[[Asked], None]] = {
            "subscribe": self._subscribe,
            "unsubscribe": self._unsubscribe,
            "auth": self._authenticate,
            "ping": self._ping,
            "cancel_on_disconnect": self._cancel_on_disconnect,
        }
        handlers[asked.op](asked)

    def _reply(self, asked: Asked, **more: Any) -> None:
        reply = Reply(id=UNSET if asked.id is None else asked.id, status=200, **more)
        self.outlet.say(as_frame(encode(reply)))

    def _refuse(self, error: Exception, given_id: Raw | None) -> None:
        problem = problem_of(error, self._request_id, self._sources.retry_after_seconds)
        document = problem.document("POST", "/ws", self._request_id)
        message_id = UNSET if given_id is None else given_id
        reply = Reply(id=message_id, status=problem.status, retry_after_seconds=retry_after(problem), problem=document)
        self.outlet.say(as_frame(encode(reply)))

    # Who is there

    def _check_scope(self, op: str) -> None:
        access = OP_ACCESS.get(op)
        if access is None:
            raise Problem(Reason.INVALID_REQUEST, errors=[FieldError("op", f"must be one of {', '.join(OP_ACCESS)}")])
        self._check_access(access)

    def _check_access(self, access: Access) -> None:
        if access > self._caller.access and not self._caller.key_id:
            raise Problem(Reason.UNAUTHORIZED, 'Send {"op":"auth","key":...} first, or the header X-API-Key with the handshake.')
        check_scope(self._caller, access)

    def _authenticate(self, asked: Asked) -> None:
        key: str = read_form(asked.members, AUTH_FORM)["key"]
        try:
            caller = self._sources.gate.identify(key.encode(), {"client": (self._address, 0), "headers": ()})
        except Problem as problem:
            self._refuse(problem, asked.id)
            self.outlet.close(UNAUTHENTICATED, "wrong key")
            return
        if caller != self._caller:
            self._earlier = (*self._earlier[-_MOST_KEYS:], self._caller)
            self._caller = caller
        self.must_speak_by = None
        self._reply(asked, type="authenticated")

    def _ping(self, asked: Asked) -> None:
        read_form(asked.members, NOTHING_FORM)
        self._reply(asked, type="pong", timestamp=format_time(now_us()))

    def _cancel_on_disconnect(self, asked: Asked) -> None:
        enabled: bool = read_form(asked.members, SWITCH_FORM)["enabled"]
        self._lane_for_orders().cancel_on_disconnect = enabled
        self._reply(asked, type="cancel_on_disconnect", enabled=enabled)

    # What it hears

    def _subscribe(self, asked: Asked) -> None:
        values = read_form(asked.members, SUBSCRIBE_FORM)
        self._check_access(CHANNEL_ACCESS[values["channel"]])
        key = self._key(values)
        subscriptions = self._subscriptions = {} if self._subscriptions is None else self._subscriptions
        limit = self._sources.settings.max_subscriptions
        if key not in subscriptions and len(subscriptions) >= limit:
            raise Problem(Reason.TOO_MANY_SUBSCRIPTIONS, limit=pack(limit, 0))
        if key[0] == "orders":
            self._subscribe_orders(asked, key, values.get("from"))
        else:
            self._subscribe_market(asked, key)
        self.must_speak_by = None

    def _subscribe_market(self, asked: Asked, key: tuple[str, str, str]) -> None:
        """Ack, snapshot and everything after it, in one go: nothing can come between. Subscribing again starts anew.

        The snapshot comes later where it has to be made first, and to a connection that doesn't take bytes now: what it asked
        for shall not make it a slow reader.
        """
        market = self._sources.market
        topic, sequence = market.open(*key)
        self._drop(key)
        self._reply(asked, type="subscribed", subscription=_shown(key), sequence=sequence, **self._history)
        beginning = market.beginning(topic)
        if beginning is None or (beginning and self.outlet.is_paused):
            topic.expect(self.outlet)
            self._keep(key, _Subscription(topic, asyncio.create_task(self._begin_later(key, topic))))
        else:
            self._begin(topic, beginning)
            self._keep(key, _Subscription(topic))

    def _begin(self, topic: Topic, beginning: bytes) -> None:
        if beginning:
            self.outlet.say(beginning)
        topic.join(self.outlet)

    async def _begin_later(self, key: tuple[str, str, str], topic: Topic) -> None:
        market = self._sources.market
        try:
            while not self.outlet.is_closed:
                await self.outlet.drained()
                beginning = market.beginning(topic)
                if beginning is not None:
                    self._begin(topic, beginning)
                    return
                await market.prepare(topic)
        except Exception as error:  # noqa: BLE001  whatever it is, the client is told, and subscribes again
            self._drop(key)
            self._refuse(error, None)

    @property
    def _history(self) -> dict[str, Any]:
        """What the numbers that follow are numbers of."""
        epoch, incarnation = self._sources.lineage()
        return {"epoch": epoch, "incarnation": incarnation}

    def _subscribe_orders(self, asked: Asked, key: tuple[str, str, str], start: str | None) -> None:
        orders = self._sources.orders
        if start is None:
            place = orders.cursors.now
        elif start == FROM_START:
            place = orders.start
        else:
            place = orders.cursors.read(start, "from")
        self._drop(key)
        topic = orders.open(key[1], self.outlet)
        self._reply(asked, type="subscribed", subscription=_shown(key), cursor=orders.cursors.cursor_of(place), **self._history)
        replay = asyncio.create_task(self._replay(key, topic, place))
        self._keep(key, _Subscription(topic, replay))

    async def _replay(self, key: tuple[str, str, str], topic: Topic, place: Any) -> None:
        try:
            await self._sources.orders.replay(key[1], topic, self.outlet, place)
        except Exception as error:  # noqa: BLE001  the database may be away: the client is told, and subscribes again
            self._drop(key)
            self._refuse(error, None)

    def _unsubscribe(self, asked: Asked) -> None:
        key = self._key(read_form(asked.members, UNSUBSCRIBE_FORM))
        self._drop(key)
        self._reply(asked, type="unsubscribed", subscription=_shown(key))

    def _key(self, values: Mapping[str, Any]) -> tuple[str, str, str]:
        """What is heard: the channel, whose, and the interval of candles. Raises NOT_YOUR_USER."""
        channel: str = values["channel"]
        if channel == "orders":
            return channel, user_for(self._caller, values.get("user_id")), ""
        return channel, values["symbol"].upper(), values.get("interval", "1m") if channel == "candles" else ""

    def _keep(self, key: tuple[str, str, str], subscription: _Subscription) -> None:
        if self._subscriptions is not None:
            self._subscriptions[key] = subscription

    def _drop(self, key: tuple[str, str, str]) -> None:
        subscription = (self._subscriptions or {}).pop(key, None)
        if subscription is not None:
            _leave(subscription, self.outlet, monotonic())


def _leave(subscription: _Subscription, outlet: Outlet, now: float) -> None:
    if subscription.start is not None:
        subscription.start.cancel()
    subscription.topic.part(outlet, now)


def _shown(key: tuple[str, str, str]) -> Subscription:
    channel, about, interval = key
    if channel == "orders":
        return Subscription(channel=channel, user_id=about)
    return Subscription(channel=channel, symbol=about, interval=interval or UNSET)


class _Bucket:
    """Tokens of a second's worth at most, refilled by the clock."""

    __slots__ = ("_at", "_left", "_rate")

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._left = float(rate)
        self._at = monotonic()

    def take(self) -> None:
        """Take one; raises Problem where there is none."""
        now = monotonic()
        self._left = min(self._rate, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            raise Problem(Reason.RATE_LIMITED, limit=pack(self._rate, 0), headers=((b"retry-after", b"1"),))
        self._left -= 1
