"""Requests: what is sent again, what isn't, and what is said in the end."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import httpx
import pytest

from ome.client import Refused, Unavailable, UnexpectedAnswer, Unknown
from ome.client.models import Operation
from ome.client.transport import Pauses, plain
from venues import TIME, Reply, Script, client_of, order, problem

LOST = httpx.ReadError("the connection broke")
AWAY = httpx.ConnectError("nobody listens")
NOT_OPEN = "order_not_open"


def created(**changed: Any) -> httpx.Response:
    """A submit's answer."""
    return httpx.Response(201, json=order(**changed) | {"executed_trades": []})


async def buy(script: Script, deadline_seconds: float = 30.0, **more: Any) -> Any:
    """Submit an order to a scripted service."""
    async with client_of(script, deadline_seconds) as client:
        return await client.submit(user_id="alice", symbol="AAPL", side="BUY", quantity=10, price=Decimal("150.50"), **more)


async def test_a_submit_is_repeated_with_its_id_until_it_has_its_answer() -> None:
    """Refused connection, broken connection, 504, 429 and 503: the same bytes go out again, with one client_order_id."""
    lost: list[Reply] = [
        AWAY,
        LOST,
        problem(504, "outcome_unknown", "unknown"),
        problem(429, "rate_limited", headers={"Retry-After": "0"}),
    ]
    script = Script(*lost, problem(503, "overloaded"), created(replayed=True))
    answer = await buy(script)
    assert (answer.order_id, answer.replayed, answer.price, answer.created_at) == (
        "1",
        True,
        Decimal("150.50"),
        datetime(2026, 11, 22, 10, 0, 0, 1, UTC),
    )
    assert len({request.content for request in script.requests}) == 1
    assert script.bodies[0]["client_order_id"]
    assert (script.bodies[0]["price"], script.requests[0].headers["x-api-key"]) == ("150.50", "key")


async def test_two_submits_have_two_ids_and_a_given_id_stays() -> None:
    """The id that is made is unique; one that is given is used."""
    script = Script(created(), created(), created())
    await buy(script)
    await buy(script)
    await buy(script, client_order_id="mine")
    first, second, third = (body["client_order_id"] for body in script.bodies)
    assert first != second
    assert third == "mine"


async def test_a_refusal_is_final_and_says_what_is_wrong() -> None:
    """A 4xx isn't repeated; its code, detail, fields and order id are on the exception."""
    script = Script(problem(422, "invalid_request", errors=[{"field": "price", "message": "must be more"}], order_id="7"))
    with pytest.raises(Refused, match="invalid_request: do this; price must be more") as caught:
        await buy(script)
    error = caught.value
    assert (error.code, error.status, error.detail, error.outcome, error.order_id) == (
        "invalid_request",
        422,
        "do this",
        "not_executed",
        "7",
    )
    assert error.fields == {"price": "must be more"}


async def test_a_pause_that_is_longer_than_the_deadline_is_not_waited_for() -> None:
    """503 with a Retry-After beyond the deadline: Unavailable at once, and nothing was executed."""
    script = Script(problem(503, "not_accepting", headers={"Retry-After": "60"}))
    with pytest.raises(Unavailable) as caught:
        await buy(script, deadline_seconds=5)
    assert (caught.value.code, caught.value.outcome, len(script.requests)) == ("not_accepting", "not_executed", 1)
    assert Pauses().next(at_least=3) >= 3


async def test_an_unclear_attempt_stays_unclear_whatever_503_says_later() -> None:
    """After a broken connection a 503 tells of itself alone: the end is Unknown, with the id to ask by."""
    script = Script(LOST, problem(503, "not_accepting", headers={"Retry-After": "60"}))
    with pytest.raises(Unknown) as caught:
        await buy(script, deadline_seconds=5, client_order_id="mine")
    assert (caught.value.outcome, caught.value.client_order_id) == ("unknown", "mine")


@pytest.mark.parametrize("version", [{}, {"expected_version": None}])
async def test_a_change_without_a_version_is_not_repeated_once_it_may_have_been_made(version: Any) -> None:
    """What certainly wasn't executed is sent again; what may have been isn't; a version of None is none."""
    script = Script(AWAY, LOST)
    async with client_of(script) as client:
        with pytest.raises(Unknown):
            await client.modify("1", quantity=5, **version)
    assert script.asked == ["PUT /orders/1"] * 2


@pytest.mark.parametrize(("quantity", "made"), [("5.0", True), ("6", False)])
async def test_a_repeated_change_tells_whether_its_version_is_the_one_it_asked_for(quantity: str, made: bool) -> None:
    """409 after a broken connection: the order's history decides whether that was the change itself, and has its trades."""
    trade = {"trade_id": "9", "symbol": "AAPL", "price": "1", "quantity": "2", "buy_order_id": "1", "sell_order_id": "3"} | {
        "maker_order_id": "3",
        "taker_side": "BUY",
        "executed_at": TIME,
        "sequence": 4,
    }
    event = {"number": 2, "position": 8, "time": TIME, "type": "FILLED", "version": 2, "status": "FILLED", "quantity": "5"} | {
        "filled_quantity": "2",
        "remaining_quantity": "3",
        "role": "TAKER",
        "trade": trade,
    }
    history = {"order_id": "1", "versions": [order(version=2, quantity=quantity, position=8)], "events": [event]}
    script = Script(LOST, problem(409, "version_conflict"), httpx.Response(200, json=history))
    if made:
        script.replies.append(httpx.Response(200, json=order(version=2, quantity="5")))
    async with client_of(script) as client:
        if made:
            changed = await client.modify("1", quantity=5, expected_version=1)
            assert [each.trade_id for each in changed.executed_trades] == ["9"]
        else:
            with pytest.raises(Refused, match="version_conflict"):
                await client.modify("1", quantity=5, expected_version=1)


@pytest.mark.parametrize(("status", "reason", "mine"), [("CANCELLED", "cancelled_by_user", True), ("FILLED", None, False)])
async def test_a_repeated_cancel_tells_how_the_order_ended(status: str, reason: str | None, mine: bool) -> None:
    """409 after a broken connection: cancelled is what was wanted, filled is a refusal."""
    script = Script(LOST, problem(409, NOT_OPEN), httpx.Response(200, json=order(status=status, reason=reason)))
    async with client_of(script) as client:
        if mine:
            assert (await client.cancel("1")).status == "CANCELLED"
        else:
            with pytest.raises(Refused, match=NOT_OPEN):
                await client.cancel("1")


async def test_a_batch_is_repeated_as_a_whole_and_its_cancels_are_looked_up() -> None:
    """Submits get ids; a cancel that the lost attempt carried out is told as done."""
    operations: list[Operation] = [
        {"symbol": "AAPL", "side": "BUY", "quantity": "10", "price": "1"},
        {"op": "cancel", "order_id": "1"},
    ]
    not_open = {"status": 409, "problem": {"code": NOT_OPEN, "status": 409}}
    results = {"results": [{"status": 201, "order": order()}, not_open]}
    ended = order(status="CANCELLED", reason="cancelled_by_user")
    script = Script(LOST, httpx.Response(200, json=results), httpx.Response(200, json=ended))
    async with client_of(script) as client:
        answer = await client.batch(operations)
    assert [(each.status, each.order and each.order.status) for each in answer.results] == [(201, "PENDING"), (200, "CANCELLED")]
    first, again = script.bodies
    assert first == again
    assert first["orders"][0]["client_order_id"]


async def test_a_mass_cancel_says_when_an_attempt_before_may_have_cancelled_more() -> None:
    """Its list is complete only if no attempt was left without an answer."""
    done = {"cancelled": 1, "order_ids": ["1"]}
    script = Script(httpx.Response(200, json=done), LOST, httpx.Response(200, json=done))
    async with client_of(script) as client:
        assert [(await client.cancel_all(user_id="alice")).is_complete for _ in range(2)] == [True, False]
    assert script.asked[0] == "DELETE /orders?user_id=alice"


async def test_reading_is_repeated_and_ends_as_unavailable() -> None:
    """A question changes nothing: it is asked again, and never has an unknown outcome."""
    script = Script(LOST, problem(503, "not_accepting", headers={"Retry-After": "60"}))
    async with client_of(script, deadline_seconds=5) as client:
        with pytest.raises(Unavailable):
            await client.order("1")


async def test_a_failure_that_is_certain_is_not_asked_for_again() -> None:
    """A 500 that says that nothing was executed is an answer; one that a proxy made up isn't."""
    script = Script(httpx.Response(502, text="<html>"), problem(500, "internal_error"))
    async with client_of(script) as client:
        with pytest.raises(Refused, match="internal_error"):
            await client.order("1")
    assert script.replies == []


async def test_what_speaks_another_language_is_said_to() -> None:
    """A page instead of JSON is no order."""
    with pytest.raises(UnexpectedAnswer, match="not as this client knows it"):
        await buy(Script(httpx.Response(200, text="<html>")))


async def test_names_in_a_path_are_escaped() -> None:
    """Whatever a symbol or an id looks like, it stays one segment of the path."""
    script = Script(problem(404, "symbol_not_found"))
    async with client_of(script) as client:
        with pytest.raises(Refused):
            await client.depth("../a?b", levels=5, as_of_sequence=7)
    assert script.asked == ["GET /market/..%2Fa%3Fb/depth?levels=5&as_of_sequence=7"]


async def test_what_is_stored_is_read_by_its_own_calls() -> None:
    """Auctions, snapshots and a user's events, each from its path, with its own form."""
    market = {"symbol": "AAPL", "sequence": 7, "timestamp": TIME}
    auction = market | {"state": "AUCTION", "indicative_price": None, "indicative_volume": "0", "imbalance": "3"}
    glance = {"snapshot_id": "7", "sequence": 7, "timestamp": TIME, "best_bid": {"price": "1", "quantity": "2"}, "best_ask": None}
    listed = {"snapshots": [glance | {"bid_levels": 1, "ask_levels": 0}], "count": 1, "next_cursor": None}
    level = {"price": "1", "quantity": "2", "orders": 1}
    event = {"cursor": "c", "position": 1, "time": TIME, "type": "ACCEPTED", "order": order()}
    replies = (
        auction | {"imbalance_side": "BUY"},
        listed,
        market | {"snapshot_id": "7", "bids": [level], "asks": []},
        {"events": [event], "count": 1, "next_cursor": None},
    )
    script = Script(*(httpx.Response(200, json=reply) for reply in replies))
    async with client_of(script) as client:
        assert (await client.auction("AAPL")).imbalance == 3
        assert [each.snapshot_id for each in (await client.snapshots("AAPL", limit=5)).snapshots] == ["7"]
        assert [each.quantity for each in (await client.snapshot("AAPL", "7")).bids] == [2]
        assert [each.cursor for each in (await client.events("al", cursor="b")).events] == ["c"]
    market_path = "GET /market/AAPL"
    assert script.asked == [
        f"{market_path}/auction",
        f"{market_path}/snapshots?limit=5",
        f"{market_path}/snapshots/7",
        "GET /orders/user/al/events?cursor=b",
    ]


def test_values_go_out_in_plain_digits_and_with_a_zone() -> None:
    """No exponents, no times without a zone."""
    assert plain(Decimal("1E+2")) == "100"
    assert plain(Decimal("0.00000001")) == "0.00000001"
    assert plain(datetime(2026, 1, 1, tzinfo=UTC)) == "2026-01-01T00:00:00+00:00"
    with pytest.raises(ValueError, match="zone"):
        plain(datetime(2026, 1, 1))  # noqa: DTZ001  that is the mistake
