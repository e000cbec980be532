"""Scopes: each route and each op of a WebSocket has one, or nothing starts."""

from __future__ import annotations

import httpx
import pytest
from fastapi import FastAPI, Response

from fakes import FakeExchange, MakeApp, client_of
from ome.api.access import AccessTable, UndeclaredRoute
from ome.api.audit import Audit
from ome.api.auth import OPERATOR, READER, Caller, Gate, check_scope, user_for
from ome.api.keys import Keys
from ome.api.openapi import declare
from ome.api.problems import Problem
from ome.api.rate_limits import RateLimits
from ome.api.routes.service import ServiceRoutes
from ome.api.settings import ApiSettings, RateSettings
from ome.domain.access import Access


async def answer() -> Response:
    """An endpoint."""
    return Response("seen")


@pytest.fixture
def bare() -> FastAPI:
    """An application with a key and no routes."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.state.access = AccessTable(
        Gate(ApiSettings(api_key="sesame", private_reads=True), Keys(FakeExchange())),
        RateLimits(RateSettings(), lambda: True),
        Audit(FakeExchange()),
        1000,
    )
    return app


@pytest.mark.parametrize("access", Access)
async def test_what_is_declared_is_what_is_asked_for(bare: FastAPI, access: Access) -> None:
    """Without the key only what is public is seen; with it, all."""
    declare(bare, "GET", "/thing", answer, "Things", {}, access=access)
    bare.state.access.check(bare)
    bare.add_exception_handler(Problem, lambda _request, _error: Response(status_code=401))
    async with client_of(bare) as client:
        assert (await client.get("/thing")).status_code == (200 if access is Access.PUBLIC else 401)
        assert (await client.get("/thing", headers={"X-API-Key": "sesame"})).status_code == 200


def test_a_route_without_a_scope_stops_the_start(make_app: MakeApp, bare: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it was added, and though another route of its path has one."""
    declare(bare, "GET", "/thing", answer, "Things", {}, access=Access.READ)
    bare.add_api_route("/thing", answer, methods=["POST"])
    with pytest.raises(UndeclaredRoute, match="/thing"):
        bare.state.access.check(bare)
    monkeypatch.setattr(ServiceRoutes, "add_to", lambda _self, app: app.add_api_route("/secret", answer))
    with pytest.raises(UndeclaredRoute, match="/secret"):
        make_app()


async def test_a_parameter_can_ask_for_more(make_app: MakeApp, exchange: FakeExchange) -> None:
    """Trades are public, but not whose they are; depth is public, but not its queues."""
    assert exchange.orders == {}
    async with client_of(make_app(api_key="sesame", private_reads=True)) as client:
        for path, status in (
            ("/trades", 200),
            ("/trades?user_id=alice", 401),
            ("/trades?user%5Fid=alice", 401),
            ("/market/AAPL/depth?detail=levels", 404),
            ("/market/AAPL/depth?detail=orders", 401),
            ("/market/AAPL/depth?detail=levels&detail=orders", 401),
        ):
            assert (await client.get(path)).status_code == status, path


@pytest.mark.parametrize("access", Access)
def test_scopes_include_those_before_them(access: Access) -> None:
    """A key with too little is told so; somebody without a key is asked for one."""
    for held in Access:
        caller = Caller(held, "alice", "k1")
        if held >= access:
            check_scope(caller, access)
        else:
            with pytest.raises(Problem, match="insufficient_scope"):
                check_scope(caller, access)
    if access > READER.access:
        with pytest.raises(Problem, match="unauthorized"):
            check_scope(READER, access)


def test_whose_orders_are_meant() -> None:
    """A user's key means its user and nobody else; an operator's means whom it names."""
    alice = Caller(Access.TRADE, "alice", "k1")
    assert user_for(alice, None) == user_for(alice, "alice") == "alice"
    with pytest.raises(Problem, match="not_your_user"):
        user_for(alice, "bob")
    assert user_for(OPERATOR, "bob") == user_for(Caller(Access.OPERATOR, "ann", "k2"), "bob") == "bob"
    with pytest.raises(Problem, match="invalid_request"):
        user_for(OPERATOR, None)


async def test_openapi_names_the_scope_of_each_operation(client: httpx.AsyncClient) -> None:
    """What is public needs no key."""
    paths = (await client.get("/openapi.json")).json()["paths"]
    assert paths["/orders"]["post"]["security"] == [{}, {"ApiKey": ["trade"]}]
    assert paths["/instruments/{symbol}"]["put"]["security"] == [{}, {"ApiKey": ["operator"]}]
    assert paths["/orders/{order_id}"]["get"]["security"] == [{}, {"ApiKey": ["read"]}]
    assert "security" not in paths["/market"]["get"]
