"""A WebSocket's conversation: what is asked, what is answered, and what closes it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from fakes import FakeExchange, MakeApp, order_record
from ome.api.auth import ANYBODY, OPERATOR, Caller
from ome.api.dispatcher import Dispatcher
from ome.api.settings import StreamSettings
from ome.api.streams.outlet import Outlet
from ome.api.streams.ring import QueueLimits
from ome.api.streams.session import UNAUTHENTICATED, Session
from ome.domain.access import Access
from ome.domain.commands import CancelOrder, NewOrder
from ome.domain.errors import OmeError, Overloaded
from ome.domain.ports import Answer, Operation
from streams import FakeSocket, Message

ORDER = {"user_id": "alice", "symbol": "AAPL", "side": "BUY", "quantity": "10", "price": "150.50"}


class Talk:
    """A session over a socket in memory."""

    def __init__(self, app: Dispatcher, caller: Caller = OPERATOR, **settings: Any) -> None:
        sources = app.streams._sources._replace(settings=StreamSettings(**settings))
        self.socket = FakeSocket()
        self.outlet = Outlet(self.socket, app.streams.limits)
        self.session = Session(sources, self.outlet, caller, "r-1")

    async def say(self, message: object) -> list[Message]:
        """What is answered to a message, orders included."""
        await self.session.take(message if isinstance(message, str) else json.dumps(message))
        await self.session.settled()
        return self.socket.read()


@pytest.fixture
def talk(app: Dispatcher) -> Talk:
    """A conversation with default settings and an operator."""
    return Talk(app)


def problem(answers: list[Message]) -> str:
    """The code of the one refusal."""
    (answer,) = answers
    assert answer["status"] == answer["problem"]["status"]
    code: str = answer["problem"]["code"]
    return code


async def test_orders_are_answered_as_over_rest(talk: Talk, exchange: FakeExchange) -> None:
    """The id, the status and the order or the problem that REST has, in the order in which they were sent."""
    (submitted,) = await talk.say({"op": "submit", "id": 7, **ORDER})
    assert (submitted["id"], submitted["status"], submitted["order"]["status"]) == (7, 201, "PENDING")
    order_id = submitted["order"]["order_id"]
    (modified,) = await talk.say({"op": "modify", "id": "two", "order_id": order_id, "quantity": 5})
    assert (modified["id"], modified["status"], modified["order"]["version"]) == ("two", 200, 2)
    (cancelled,) = await talk.say({"op": "cancel", "order_id": order_id})
    assert (cancelled["status"], cancelled["order"]["status"]) == (200, "CANCELLED")
    assert "id" not in cancelled
    (again,) = await talk.say({"op": "cancel", "id": 4, "order_id": order_id})
    assert (again["id"], again["status"], again["problem"]["code"]) == (4, 409, "order_not_open")
    (batch,) = await talk.say({"op": "batch", "id": 5, "orders": [ORDER, {"op": "cancel", "order_id": "1"}]})
    assert [result["status"] for result in batch["results"]] == [201, 404]
    assert len(exchange.commands) == 6


async def test_dry_runs_are_answered_as_over_rest_and_leave_nothing(talk: Talk, exchange: FakeExchange) -> None:
    """The answer that each would get, `dry_run` in it and ids that nobody has null; each sees what was sent before it alone."""
    for message in (
        {"op": "submit", "id": 1, **ORDER, "client_order_id": "once", "dry_run": True},
        {"op": "submit", "id": 2, **ORDER, "client_order_id": "once", "dry_run": True},
        {"op": "submit", "id": 3, **ORDER, "dry_run": False},
    ):
        await talk.session.take(json.dumps(message))
    await talk.session.settled()
    tried, tried_again, real = talk.socket.read()
    for answer in (tried, tried_again):
        assert (answer["status"], answer["order"]["order_id"], answer["order"]["dry_run"]) == (201, None, True)
        assert "replayed" not in answer["order"]
    assert real["order"]["order_id"] in {str(order_id) for order_id in exchange.orders}
    (changed,) = await talk.say({"op": "modify", "order_id": real["order"]["order_id"], "quantity": 4, "dry_run": True})
    assert (changed["order"]["quantity"], changed["order"]["dry_run"]) == ("4", True)
    (batch,) = await talk.say({"op": "batch", "id": 5, "orders": [ORDER, {"op": "cancel", "order_id": "1"}], "dry_run": True})
    assert (batch["dry_run"], [result["status"] for result in batch["results"]]) == (True, [201, 404])
    (kept,) = exchange.orders.values()
    assert (str(kept.id), kept.version) == (real["order"]["order_id"], 1)


async def test_a_connection_that_takes_no_bytes_gets_its_snapshots_when_it_does(app: Dispatcher) -> None:
    """However much it subscribes to at once, it isn't closed as slow for what it asked for."""
    talk = Talk(app)
    await talk.say({"op": "submit", **ORDER})
    talk.outlet._limits = QueueLimits(3, 1000)
    talk.socket.is_paused = True
    for channel in ("depth", "ticker", "trades"):
        assert await talk.say({"op": "subscribe", "channel": channel, "symbol": "AAPL"}) == []
    talk.socket.is_paused = False
    talk.outlet.resume()
    for _ in range(3):
        await asyncio.sleep(0)
    told = talk.socket.read()
    assert [message["type"] for message in told] == ["subscribed"] * 3 + ["snapshot"] * 2
    assert talk.socket.closed is None
    await talk.session.ended()


async def test_what_a_dry_run_would_submit_is_not_cancelled_on_disconnect(talk: Talk, exchange: FakeExchange) -> None:
    """It isn't there; what was submitted in earnest goes."""
    await talk.say({"op": "cancel_on_disconnect", "enabled": True})
    await talk.say({"op": "batch", "orders": [ORDER], "dry_run": True})
    await talk.say({"op": "submit", **ORDER, "dry_run": True})
    (real,) = await talk.say({"op": "submit", **ORDER})
    before = len(exchange.commands)
    await talk.session.ended()
    assert exchange.commands[before:] == [int(real["order"]["order_id"])]


@pytest.mark.parametrize(
    ("message", "code", "field"),
    [
        ("{", "malformed_json", None),
        ("[]", "invalid_request", None),
        ('"x"', "invalid_request", None),
        ('{"op":' * 10_000, "malformed_json", None),
        ({}, "invalid_request", "op"),
        ({"op": 1}, "invalid_request", "op"),
        ({"op": "dance"}, "invalid_request", "op"),
        ({"op": "ping", "id": {}}, "invalid_request", "id"),
        ({"op": "ping", "id": "x" * 65}, "invalid_request", "id"),
        ({"op": "ping", "more": 1}, "invalid_request", "more"),
        ({"op": "submit", **ORDER, "sise": 1}, "invalid_request", "sise"),
        ({"op": "submit"}, "invalid_request", "user_id"),
        ({"op": "modify", "quantity": 1}, "invalid_request", "order_id"),
        ({"op": "modify", "order_id": 7, "quantity": 1}, "invalid_request", "order_id"),
        ({"op": "modify", "order_id": "1"}, "invalid_request", "quantity"),
        ({"op": "cancel", "order_id": "x"}, "order_not_found", None),
        ({"op": "cancel", "order_id": "1", "why": ""}, "invalid_request", "why"),
        ({"op": "cancel", "order_id": "1", "dry_run": True}, "invalid_request", "dry_run"),
        ({"op": "submit", **ORDER, "dry_run": 1}, "invalid_request", "dry_run"),
        ({"op": "batch"}, "invalid_request", "orders"),
        ({"op": "subscribe"}, "invalid_request", "channel"),
        ({"op": "subscribe", "channel": "weather"}, "invalid_request", "channel"),
        ({"op": "subscribe", "channel": "depth"}, "invalid_request", "symbol"),
        ({"op": "subscribe", "channel": "depth", "symbol": "A A"}, "invalid_request", "symbol"),
        ({"op": "subscribe", "channel": "depth", "symbol": "A", "interval": "1m"}, "invalid_request", "interval"),
        ({"op": "subscribe", "channel": "candles", "symbol": "A", "interval": "2m"}, "invalid_request", "interval"),
        ({"op": "subscribe", "channel": "depth", "symbol": "NONE"}, "symbol_not_found", None),
        ({"op": "subscribe", "channel": "orders"}, "invalid_request", "user_id"),
        ({"op": "subscribe", "channel": "orders", "user_id": "a", "from": "x"}, "invalid_request", "from"),
        ({"op": "cancel_on_disconnect", "enabled": "yes"}, "invalid_request", "enabled"),
    ],
)
async def test_what_is_wrong_is_said_and_nothing_is_executed(
    talk: Talk, exchange: FakeExchange, message: object, code: str, field: str | None
) -> None:
    """With a code of the table and the field; the connection stays open."""
    answers = await talk.say(message)
    assert problem(answers) == code
    if field is not None:
        assert field in [error["field"] for error in answers[0]["problem"]["errors"]]
    assert answers[0]["problem"]["outcome"] == "not_executed"
    assert exchange.commands == []
    assert (await talk.say({"op": "ping", "id": 1}))[0]["type"] == "pong"
    assert talk.socket.closed is None


async def test_a_large_message_is_no_order(talk: Talk) -> None:
    """Beyond the size of a body only a batch is taken."""
    assert problem(await talk.say({"op": "submit", **ORDER, "client_order_id": "x" * 70_000})) == "body_too_large"
    orders = [ORDER | {"client_order_id": f"{number}" + "x" * 50} for number in range(500)]
    (answer,) = await talk.say({"op": "batch", "orders": orders})
    assert [result["status"] for result in answer["results"]] == [201] * 500


async def test_subscriptions_are_acknowledged_bounded_and_ended(app: Dispatcher, exchange: FakeExchange) -> None:
    """Subscribing again starts anew and counts once; ending what there isn't is fine."""
    talk = Talk(app, max_subscriptions=2)
    await talk.say({"op": "submit", **ORDER})
    for _ in range(3):
        ack, snapshot = await talk.say({"op": "subscribe", "id": 1, "channel": "depth", "symbol": "aapl"})
        assert (ack["type"], ack["sequence"]) == ("subscribed", snapshot["sequence"])
        assert ack["subscription"] == {"channel": "depth", "symbol": "AAPL"}
        assert (snapshot["channel"], snapshot["type"], snapshot["previous_sequence"]) == ("depth", "snapshot", None)
        assert snapshot["bids"] == [{"price": "150.5", "quantity": "10", "orders": 1}]
    ack, snapshot = await talk.say({"op": "subscribe", "channel": "candles", "symbol": "AAPL"})
    assert (ack["subscription"]["interval"], snapshot["candle"]) == ("1m", None)
    assert problem(await talk.say({"op": "subscribe", "channel": "trades", "symbol": "AAPL"})) == "too_many_subscriptions"
    (gone,) = await talk.say({"op": "unsubscribe", "id": 2, "channel": "candles", "symbol": "AAPL"})
    assert (gone["id"], gone["type"]) == (2, "unsubscribed")
    assert gone["subscription"] == {"channel": "candles", "symbol": "AAPL", "interval": "1m"}
    assert (await talk.say({"op": "unsubscribe", "channel": "ticker", "symbol": "NONE"}))[0]["status"] == 200
    (ack,) = await talk.say({"op": "subscribe", "channel": "trades", "symbol": "AAPL"})
    assert ack["type"] == "subscribed"
    del exchange


async def test_private_events_come_from_the_cursor_on(talk: Talk) -> None:
    """Without one only what happens from now on; `start` is the beginning; the same cursor is taken again and again."""
    await talk.say({"op": "submit", **ORDER})
    await talk.say({"op": "submit", **ORDER})
    subscribe = {"op": "subscribe", "channel": "orders", "user_id": "alice"}

    async def heard(**start: str) -> list[Message]:
        (ack,) = await talk.say(subscribe | start)
        assert ack["cursor"]
        for _ in range(5):
            await asyncio.sleep(0)
        return [message["event"] for message in talk.socket.read()]

    assert await heard() == []
    both = await heard(**{"from": "start"})
    assert [event["type"] for event in both] == ["ACCEPTED", "ACCEPTED"]
    assert await heard(**{"from": both[0]["cursor"]}) == both[1:]
    assert await heard(**{"from": both[1]["cursor"]}) == []
    await talk.session.ended()


async def test_without_the_key_there_is_only_what_is_public(make_app: MakeApp, exchange: FakeExchange) -> None:
    """Orders and, where reads are private, events wait for `auth`; it is asked for in time, and a wrong one closes."""
    app = make_app(api_key="sesame", private_reads=True)
    talk = Talk(app, ANYBODY)
    assert (talk.session.must_speak_by or 0) > 0
    for message in ({"op": "submit", **ORDER}, {"op": "cancel_on_disconnect", "enabled": True}):
        assert problem(await talk.say(message)) == "unauthorized"
    private = {"op": "subscribe", "channel": "orders", "user_id": "alice"}
    assert problem(await talk.say(private)) == "unauthorized"
    assert exchange.commands == []
    (ack,) = await talk.say({"op": "auth", "id": 1, "key": "sesame"})
    assert (ack["id"], ack["status"]) == (1, 200)
    assert talk.session.must_speak_by is None
    assert (await talk.say({"op": "submit", **ORDER}))[0]["status"] == 201
    assert (await talk.say(private))[0]["status"] == 200
    await talk.session.ended()
    stranger = Talk(app, ANYBODY)
    assert (await stranger.say({"op": "subscribe", "channel": "depth", "symbol": "AAPL"}))[0]["status"] == 200
    assert stranger.session.must_speak_by is None
    assert problem(await stranger.say({"op": "auth", "key": "guess"})) == "unauthorized"
    assert tuple(stranger.socket.closed or ()) == (UNAUTHENTICATED, "wrong key")
    await stranger.session.ended()


async def test_messages_are_counted_where_there_is_a_key(make_app: MakeApp, app: Dispatcher) -> None:
    """Beyond a second's worth they are refused, each by its id; without a key there is no limit."""
    limited = Talk(make_app(api_key="sesame"), messages_per_second=5)
    answers = [(await limited.say({"op": "ping", "id": number}))[0] for number in range(40)]
    assert [answer["status"] for answer in answers[:5]] == [200] * 5
    last = answers[-1]
    assert (last["id"], last["status"], last["retry_after_seconds"], last["problem"]["code"]) == (39, 429, 1, "rate_limited")
    free = Talk(app, messages_per_second=5)
    assert {(await free.say({"op": "ping"}))[0]["status"] for _ in range(40)} == {200}


class SlowDesk:
    """Order entry whose queue is joined and whose answers are given when the test says so."""

    def __init__(self, exchange: FakeExchange) -> None:
        self.exchange = exchange
        self.groups: list[Sequence[Operation]] = []
        self.looked_up = asyncio.Event()
        self.durable = asyncio.Event()

    async def batch(
        self, operations: Sequence[Operation], *, dry_run: bool = False, queued: Callable[[], None] | None = None
    ) -> list[Answer | OmeError]:
        """Join the queue, then wait for the commit."""
        self.groups.append(operations)
        await self.looked_up.wait()
        assert queued is not None
        queued()
        await self.durable.wait()
        return await self.exchange.batch(operations, dry_run=dry_run)


async def until(done: Callable[[], object]) -> None:
    """Let tasks run until it holds."""
    for _ in range(100):
        if done():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came to hold")


async def test_nothing_overtakes_and_many_are_in_flight(app: Dispatcher, exchange: FakeExchange) -> None:
    """What comes during a look-up is the next group and joins the queue behind it, before the first is answered."""
    desk = SlowDesk(exchange)
    talk = Talk(app, max_in_flight=6)
    talk.session._sources = talk.session._sources._replace(desk=talk.session._sources.desk._replace(entry=desk))  # type: ignore[arg-type]
    for number in range(5):
        await talk.session.take(json.dumps({"op": "submit", "id": number, **ORDER}))
        await asyncio.sleep(0)
    await until(lambda: desk.groups)
    assert len(desk.groups) == 1
    desk.looked_up.set()
    await until(lambda: sum(map(len, desk.groups)) == 5)
    assert talk.socket.read() == []
    await talk.session.take(json.dumps({"op": "cancel", "id": 5, "order_id": "1"}))
    full: Awaitable[None] = asyncio.ensure_future(talk.session.take(json.dumps({"op": "submit", "id": 6, **ORDER})))
    await asyncio.sleep(0)
    assert isinstance(desk.groups[-1][0], CancelOrder | NewOrder)
    assert not full.done()  # type: ignore[attr-defined]
    desk.durable.set()
    await full
    await talk.session.settled()
    assert sorted(answer["id"] for answer in talk.socket.read()) == list(range(7))


async def test_what_a_full_queue_refuses_is_told_to_each(talk: Talk, exchange: FakeExchange) -> None:
    """Certain: nothing was executed."""
    exchange.fail = Overloaded()
    refused = await talk.say({"op": "submit", **ORDER})
    assert (problem(refused), refused[0]["retry_after_seconds"]) == ("overloaded", 1)


async def test_orders_are_cancelled_on_disconnect_where_that_was_asked_for(talk: Talk, exchange: FakeExchange) -> None:
    """Those that were submitted on the connection and are still open, in a batch or by themselves; others stay."""
    exchange.orders[99] = order_record(id=99)
    (on,) = await talk.say({"op": "cancel_on_disconnect", "id": 1, "enabled": True})
    assert on["enabled"] is True
    await talk.say({"op": "submit", **ORDER})
    await talk.say({"op": "batch", "orders": [ORDER, ORDER | {"price": "1"}]})
    (last,) = await talk.say({"op": "submit", **ORDER})
    await talk.say({"op": "cancel", "order_id": last["order"]["order_id"]})
    before = len(exchange.commands)
    await talk.session.ended()
    assert len(exchange.commands) == before + 3
    assert [order_id for order_id, order in exchange.orders.items() if order.is_open] == [99]


async def test_orders_stay_where_it_was_not_asked_for(talk: Talk, exchange: FakeExchange) -> None:
    """The default."""
    await talk.say({"op": "submit", **ORDER})
    await talk.say({"op": "cancel_on_disconnect", "enabled": True})
    await talk.say({"op": "cancel_on_disconnect", "enabled": False})
    await talk.session.ended()
    assert [order.is_open for order in exchange.orders.values()] == [True]


async def test_cancels_are_not_held_up_by_other_messages(make_app: MakeApp) -> None:
    """R3: however many other messages were too many."""
    talk = Talk(make_app(api_key="sesame"), messages_per_second=5)
    answers = [(await talk.say({"op": "ping"}))[0] for _ in range(40)]
    assert answers[-1]["problem"]["code"] == "rate_limited"
    assert problem(await talk.say({"op": "cancel", "order_id": "987654321"})) == "order_not_found"


def may_stay(talk: Talk) -> bool:
    """Whether the sweep would leave it open."""
    return talk.session.may_stay


async def test_whoever_came_without_a_key_may_stay_for_what_needs_none_now(make_app: MakeApp, exchange: FakeExchange) -> None:
    """The first key ends what was opened as anybody's operator; who only hears what is public stays."""
    app = make_app()
    operator, listener = Talk(app, app.gate.without_key()), Talk(app, ANYBODY)
    assert may_stay(operator)
    assert exchange.entries == []
    key = await app.gate.keys.make("", "alice", Access.READ)
    assert not may_stay(operator)
    assert may_stay(listener)
    (ack,) = await listener.say({"op": "auth", "key": key.key})
    assert ack["status"] == 200
    assert (await listener.say({"op": "subscribe", "channel": "orders"}))[0]["subscription"]["user_id"] == "alice"
    assert problem(await listener.say({"op": "subscribe", "channel": "orders", "user_id": "bob"})) == "not_your_user"
    assert listener.session.has_used(key.record.key_id)
    await app.gate.keys.revoke("", key.record.key_id)
    assert not may_stay(listener)
    await listener.session.ended()
