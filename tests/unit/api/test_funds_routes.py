"""Deposits, withdrawals and balances over HTTP, and the instrument fields that switch funds on."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from fakes import FakeExchange, MakeApp, client_of
from ome.domain.commands import DefineInstrument, Transfer
from ome.domain.enums import TransferKind
from ome.domain.errors import OutcomeUnknown
from ome.domain.events import CommandRefused
from ome.domain.numbers import pack
from ome.domain.reasons import Reason

WIRE = {"user_id": "alice", "asset": "usd", "amount": "1000.50", "client_transfer_id": "wire-1"}


async def test_a_deposit_is_shown_as_it_was_made(client: httpx.AsyncClient, exchange: FakeExchange) -> None:
    """F2: 201 with the transfer; the asset's name is folded, the amount exact."""
    answer = await client.post("/admin/deposits", json=WIRE)
    assert answer.status_code == 201
    assert exchange.commands == [Transfer(TransferKind.DEPOSIT, "alice", "USD", pack(10005, 1), "wire-1")]
    assert answer.json() == {
        "transfer_id": "1000000000000001",
        "kind": "DEPOSIT",
        "user_id": "alice",
        "asset": "USD",
        "amount": "1000.5",
        "client_transfer_id": "wire-1",
        "created_at": "2026-11-22T10:00:00.000000Z",
        "replayed": False,
    }


async def test_a_transfer_sent_again_is_made_once(client: httpx.AsyncClient) -> None:
    """F2: the same again is answered as the first time, and says so; another with its client id is refused."""
    first = await client.post("/admin/deposits", json=WIRE)
    again = await client.post("/admin/deposits", json=WIRE)
    assert again.status_code == 201
    assert again.json() == first.json() | {"replayed": True}
    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    for other in ({"amount": 1}, {"asset": "EUR"}):
        refused = await client.post("/admin/deposits", json=WIRE | other)
        assert (refused.status_code, refused.json()["code"]) == (409, "client_transfer_id_conflict")
    refused = await client.post("/admin/withdrawals", json=WIRE)
    assert (refused.status_code, refused.json()["code"]) == (409, "client_transfer_id_conflict")


async def test_a_withdrawal_beyond_what_is_there_is_refused(client: httpx.AsyncClient, exchange: FakeExchange) -> None:
    """F2: 422, with what is available; nothing was executed."""
    exchange.script = [[CommandRefused(None, Reason.INSUFFICIENT_FUNDS, pack(25, 1))]]
    refused = await client.post("/admin/withdrawals", json=WIRE)
    assert refused.status_code == 422
    body = refused.json()
    assert (body["code"], body["outcome"]) == ("insufficient_funds", "not_executed")
    assert "2.5 is available" in body["detail"]


async def test_balances_add_up(client: httpx.AsyncClient) -> None:
    """Total, reserved and available of each asset, by name; a user without any has none."""
    await client.post("/admin/deposits", json=WIRE)
    await client.post("/admin/deposits", json=WIRE | {"asset": "BTC", "amount": 2, "client_transfer_id": "wire-2"})
    answer = await client.get("/users/alice/balances")
    assert answer.json() == {
        "user_id": "alice",
        "balances": [
            {"asset": "BTC", "total": "2", "reserved": "0.5", "available": "1.5"},
            {"asset": "USD", "total": "1000.5", "reserved": "0.5", "available": "1000"},
        ],
    }
    assert (await client.get("/users/bob/balances")).json() == {"user_id": "bob", "balances": []}


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        ({"amount": 0}, "amount"),
        ({"amount": "-1"}, "amount"),
        ({"amount": "0.0000000001"}, "amount"),
        ({"asset": ""}, "asset"),
        ({"asset": "US D"}, "asset"),
        ({"user_id": "a b"}, "user_id"),
        ({"client_transfer_id": ""}, "client_transfer_id"),
        ({"note": "x"}, "note"),
    ],
)
async def test_a_transfer_that_can_not_be_read_names_its_field(
    client: httpx.AsyncClient, exchange: FakeExchange, sent: dict[str, Any], field: str
) -> None:
    """422, the field that is wrong, and nothing was executed."""
    answer = await client.post("/admin/deposits", json=WIRE | sent)
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert exchange.commands == []


@pytest.mark.parametrize("field", WIRE)
async def test_every_field_of_a_transfer_is_required(client: httpx.AsyncClient, field: str) -> None:
    """The client id above all: without one a lost answer could not be asked for again."""
    answer = await client.post("/admin/withdrawals", json={name: value for name, value in WIRE.items() if name != field})
    assert answer.status_code == 422
    assert answer.json()["errors"] == [{"field": field, "message": "is required"}]


async def test_an_unknown_outcome_is_said(client: httpx.AsyncClient, exchange: FakeExchange) -> None:
    """504, `unknown`: the same transfer sent again settles it."""
    exchange.fail = OutcomeUnknown("no answer")
    answer = await client.post("/admin/deposits", json=WIRE)
    assert (answer.status_code, answer.json()["outcome"]) == (504, "unknown")


async def test_transfers_are_the_operators(make_app: MakeApp) -> None:
    """With a key set, nobody else moves funds; balances are as private as orders."""
    async with client_of(make_app(api_key="secret", private_reads=True)) as client:
        for path in ("/admin/deposits", "/admin/withdrawals"):
            assert (await client.post(path, json=WIRE)).status_code == 401
            assert (await client.post(path, json=WIRE, headers={"X-API-Key": "wrong"})).status_code == 401
        assert (await client.get("/users/alice/balances")).status_code == 401
        key = {"X-API-Key": "secret"}
        assert (await client.post("/admin/deposits", json=WIRE, headers=key)).status_code == 201
        assert (await client.get("/users/alice/balances", headers=key)).json()["balances"][0]["total"] == "1000.5"


async def test_an_instrument_gets_funds(client: httpx.AsyncClient, exchange: FakeExchange) -> None:
    """F1: two assets and signed fees; without them it needs none, and empty ones take them away."""
    plain = (await client.put("/instruments/BTC-USD", json={})).json()
    wanted = {"base_asset": "btc", "quote_asset": "USD", "maker_fee_bps": -2, "taker_fee_bps": 5}
    funded = (await client.put("/instruments/BTC-USD", json=wanted)).json()
    off = (await client.put("/instruments/BTC-USD", json={"base_asset": "", "quote_asset": ""})).json()
    shown = [[each[name] for name in wanted] for each in (plain, funded, off)]
    assert shown == [[None, None, 0, 0], ["BTC", "USD", -2, 5], [None, None, -2, 5]]
    assert exchange.commands[1] == DefineInstrument(
        "BTC-USD", base_asset="BTC", quote_asset="USD", maker_fee_bps=-2, taker_fee_bps=5
    )


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        ({"base_asset": "BTC"}, "quote_asset"),
        ({"quote_asset": "USD"}, "base_asset"),
        ({"base_asset": "BTC", "quote_asset": "btc"}, "quote_asset"),
        ({"base_asset": "BTC", "quote_asset": ""}, "quote_asset"),
        ({"base_asset": "", "quote_asset": "USD"}, "base_asset"),
        ({"base_asset": "B C", "quote_asset": "USD"}, "base_asset"),
        ({"maker_fee_bps": 10_001}, "maker_fee_bps"),
        ({"maker_fee_bps": -10_001}, "maker_fee_bps"),
        ({"taker_fee_bps": 0.5}, "taker_fee_bps"),
        ({"taker_fee_bps": "5"}, "taker_fee_bps"),
    ],
)
async def test_funds_that_can_not_be_are_refused(client: httpx.AsyncClient, sent: dict[str, Any], field: str) -> None:
    """One asset alone, twice the same, or a fee beyond all that is traded: 422 with the field."""
    answer = await client.put("/instruments/BTC-USD", json=sent)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == field
