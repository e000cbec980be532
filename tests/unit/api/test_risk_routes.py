"""Limits, positions, headroom, timers and kill switches over HTTP."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from fakes import NOW, FakeExchange, order_record
from ome.domain.commands import CancelAllAfter, SetKill, SetLimits
from ome.domain.enums import MarketState
from ome.domain.errors import NotAccepting
from ome.domain.numbers import pack
from ome.domain.ports import SymbolRisk, UserRisk
from ome.domain.records import InstrumentRecord, Limits, PositionRecord

MOMENT = "2026-11-22T10:00:00.000000Z"


def problem(response: httpx.Response) -> tuple[int, str, list[str]]:
    """Status, code, and the fields that are wrong."""
    document: dict[str, Any] = response.json()
    return response.status_code, document["code"], [error["field"] for error in document.get("errors", [])]


async def test_limits_are_set_as_a_whole_and_read_back(client: httpx.AsyncClient, exchange: FakeExchange) -> None:
    """What is left out is no limit; the symbol is folded; numbers come back as they were sent."""
    given = {"symbol": "aapl", "max_order_quantity": "10.5", "max_open_orders": 3, "price_collar_percent": 5}
    answer = await client.put("/users/alice/limits", json=given)
    assert answer.status_code == 200
    limits = Limits(max_order_quantity=pack(105, 1), max_open_orders=3, price_collar_percent=pack(5, 0))
    assert exchange.commands == [SetLimits("alice", "AAPL", limits)]
    await client.put("/users/alice/limits", json={"max_order_notional": "0", "max_position": "1000"})
    nothing = dict.fromkeys(
        ("max_order_quantity", "max_order_notional", "max_open_orders", "max_position", "price_collar_percent")
    )
    shown = (await client.get("/users/alice/limits")).json()
    assert shown == {
        "user_id": "alice",
        "limits": [
            nothing | {"symbol": None, "max_order_notional": "0", "max_position": "1000"},
            nothing | {"symbol": "AAPL", "max_order_quantity": "10.5", "max_open_orders": 3, "price_collar_percent": "5"},
        ],
    }
    assert (await client.put("/users/alice/limits", json={})).json()["limits"] == shown["limits"][1:]
    assert (await client.get("/users/bob/limits")).json() == {"user_id": "bob", "limits": []}


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"max_order_quantity": -1}, ["max_order_quantity"]),
        ({"max_open_orders": 1.5, "max_position": "x"}, ["max_open_orders", "max_position"]),
        ({"max_open_orders": 10_000_001}, ["max_open_orders"]),
        ({"symbol": "no such"}, ["symbol"]),
        ({"max_notional": 1}, ["max_notional"]),
        ({"max_position": None}, ["max_position"]),
    ],
)
async def test_limits_that_are_none_are_named(client: httpx.AsyncClient, body: dict[str, Any], fields: list[str]) -> None:
    """Every bad field is, at once."""
    assert problem(await client.put("/users/alice/limits", json=body)) == (422, "invalid_request", fields)


async def test_positions_are_told_at_the_last_price(client: httpx.AsyncClient, exchange: FakeExchange) -> None:
    """Average and unrealised profit follow from what is open; without a price, or with nothing open, there is none."""
    exchange.listed["AAPL"] = InstrumentRecord(
        "AAPL", pack(1, 2), pack(1, 0), MarketState.OPEN, 0, pack(10050, 2), pack(1, 0), NOW, NOW
    )
    exchange.positions["alice"] = [
        PositionRecord("alice", "AAPL", "-3", "-301", "12.5", "30"),
        PositionRecord("alice", "GONE", "0", "0", "-1", "10"),
    ]
    answer = (await client.get("/users/alice/positions")).json()
    assert answer["positions"] == [
        {
            "symbol": "AAPL", "quantity": "-3", "average_price": "100.333333333", "mark_price": "100.50",
            "realised_profit": "12.5", "unrealised_profit": "-0.5", "volume": "30",
        },
        {
            "symbol": "GONE", "quantity": "0", "average_price": None, "mark_price": None,
            "realised_profit": "-1", "unrealised_profit": None, "volume": "10",
        },
    ]  # fmt: skip


async def test_headroom_is_the_engines_answer(client: httpx.AsyncClient, exchange: FakeExchange) -> None:
    """What the engine says, in words; its errors are told as any route's are."""
    limits = Limits(max_order_quantity=pack(100, 0), max_position=pack(50, 0))
    risk = SymbolRisk("AAPL", False, "-3", "5", "0", 1, limits, "48", "47", None, pack(10500, 2), pack(9500, 2))
    exchange.risks["alice"] = UserRisk("alice", True, NOW, 1, 4, 3, [risk])
    answer = (await client.get("/users/alice/risk")).json()
    assert {name: answer[name] for name in ("killed", "cancel_at", "open_orders", "open_orders_left")} == {
        "killed": True,
        "cancel_at": MOMENT,
        "open_orders": 1,
        "open_orders_left": 3,
    }
    assert answer["symbols"] == [
        {
            "symbol": "AAPL", "killed": False, "position": "-3", "open_buy_quantity": "5", "open_sell_quantity": "0",
            "open_orders": 1, "open_orders_left": None, "max_order_quantity": "100", "max_order_notional": None,
            "buy_quantity_left": "48", "sell_quantity_left": "47", "highest_buy_price": "105.00", "lowest_sell_price": "95.00",
        }
    ]  # fmt: skip
    exchange.fail = NotAccepting("stalled")
    assert problem(await client.get("/users/alice/risk"))[:2] == (503, "not_accepting")


async def test_a_timer_is_armed_and_disarmed(client: httpx.AsyncClient, exchange: FakeExchange) -> None:
    """The answer says when; 0 says never; more than a day is refused."""
    answer = await client.post("/users/alice/cancel_all_after", json={"seconds": 30})
    assert (answer.status_code, answer.json()["cancel_at"]) == (200, "2026-11-22T10:00:30.000000Z")
    answer = await client.post("/users/alice/cancel_all_after", json={"seconds": 0})
    assert answer.json() == {"user_id": "alice", "seconds": 0, "cancel_at": None}
    assert exchange.commands == [CancelAllAfter("alice", 30), CancelAllAfter("alice", 0)]
    for body in ({}, {"seconds": 86_401}, {"seconds": -1}, {"seconds": "30"}):
        assert problem(await client.post("/users/alice/cancel_all_after", json=body)) == (422, "invalid_request", ["seconds"])


@pytest.mark.parametrize(
    ("body", "command"),
    [
        ({"scope": "all", "active": True}, SetKill("", "", is_active=True)),
        ({"scope": "user", "id": "alice", "active": True}, SetKill("alice", "", is_active=True)),
        ({"scope": "symbol", "id": "aapl", "active": False}, SetKill("", "AAPL", is_active=False)),
    ],
)
async def test_a_kill_switch_is_set_and_lifted(
    client: httpx.AsyncClient, exchange: FakeExchange, body: dict[str, Any], command: SetKill
) -> None:
    """Of all, of a user, of a symbol; those that are on are listed."""
    exchange.orders[1] = order_record(id=1, user_id="alice")
    answer = (await client.put("/admin/kill", json=body)).json()
    name = command.user_id or command.symbol or None
    found = int(command.is_active)
    shown = {"scope": body["scope"], "id": name, "active": command.is_active, "changed_at": MOMENT}
    assert answer == shown | {"open_orders": found}
    assert exchange.commands == [command]
    assert (await client.get("/admin/kill")).json() == {"kills": [shown] if command.is_active else []}


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"scope": "all", "id": "alice", "active": True}, ["id"]),
        ({"scope": "user", "active": True}, ["id"]),
        ({"scope": "symbol", "id": "no such", "active": True}, ["id"]),
        ({"scope": "house", "active": True}, ["scope"]),
        ({"scope": "all"}, ["active"]),
        ({"scope": "all", "active": "yes"}, ["active"]),
    ],
)
async def test_a_kill_that_names_nothing_is_refused(client: httpx.AsyncClient, body: dict[str, Any], fields: list[str]) -> None:
    """The field that is wrong is named, and nobody is stopped."""
    assert problem(await client.put("/admin/kill", json=body)) == (422, "invalid_request", fields)
