"""By what name the service is called while there is no key: a page whose name was made to point here is nobody's operator."""

from __future__ import annotations

import pytest

from fakes import MakeApp, client_of
from ome.api.auth import is_local_name
from ome.api.dispatcher import Dispatcher

ORDER = {"user_id": "alice", "symbol": "AAPL", "side": "BUY", "quantity": "10", "price": "150.50"}
FOREIGN = {"Host": "rebound.example:5000"}


@pytest.mark.parametrize(
    ("host", "is_local"),
    [
        ("127.0.0.1:5000", True),
        ("[::1]:5000", True),
        ("localhost", True),
        ("ome.localhost:5000", True),
        ("db", True),
        ("LOCALHOST:5000", True),
        ("exchange.example", True),
        ("rebound.example:5000", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("[::1", False),
    ],
)
def test_a_local_name_is_one_that_no_stranger_can_have(host: str, is_local: bool) -> None:
    """An address, localhost, a name without a dot, or a trusted one; nothing that only looks like them."""
    assert is_local_name(host.encode(), {"exchange.example"}) is is_local


async def test_without_a_key_a_foreign_name_may_read_what_is_public_and_nothing_else(app: Dispatcher) -> None:
    """DNS rebinding: the browser takes a foreign page for the service's own, and sends what it asks for."""
    async with client_of(app) as client:
        answer = await client.post("/orders", json=ORDER, headers=FOREIGN)
        assert (answer.status_code, answer.json()["code"]) == (421, "host_not_trusted")
        assert "TRUSTED_HOSTS" in answer.json()["detail"]
        assert (await client.get("/orders/user/alice", headers=FOREIGN)).status_code == 421
        assert (await client.get("/market", headers=FOREIGN)).status_code == 200
        assert (await client.post("/orders", json=ORDER)).status_code == 201


async def test_a_trusted_name_and_a_key_both_let_it_be_called_so(make_app: MakeApp) -> None:
    """TRUSTED_HOSTS names a proxy's name; a page that was rebound has no key."""
    async with client_of(make_app(trusted_hosts=("rebound.example",))) as client:
        assert (await client.post("/orders", json=ORDER, headers=FOREIGN)).status_code == 201
    async with client_of(make_app(api_key="sesame")) as client:
        answer = await client.post("/orders", json=ORDER, headers=FOREIGN | {"X-API-Key": "sesame"})
        assert answer.status_code == 201
