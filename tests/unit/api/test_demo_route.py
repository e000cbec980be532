"""PUT and GET /admin/demo: the operator's button for simulated traders."""

from __future__ import annotations

from typing import Any

import httpx

from fakes import FakeExchange, client_of
from ome.api.app import build_app
from ome.api.services import Ports
from ome.api.settings import ApiSettings
from ome.observability import Metrics


class FakeDemo:
    """Notes how it was started."""

    def __init__(self) -> None:
        self.seed = 0
        self.keys: list[str] = []
        self.is_running = False

    async def start(self, seed: int, api_key: str) -> None:
        """Run."""
        self.seed, self.is_running = seed, True
        self.keys.append(api_key)

    async def stop(self) -> None:
        """Stop."""
        self.is_running = False


async def test_the_operator_starts_and_stops_the_traders_with_his_own_key(exchange: FakeExchange) -> None:
    """Nobody else may; the seed is 1 where none is given."""
    demo = FakeDemo()
    given: dict[str, Any] = dict.fromkeys(("entry", "funds", "reads", "market", "feed", "bus"), exchange)
    ports = Ports(**given, past=exchange.past, demo=demo)
    app = build_app(ports=ports, settings=ApiSettings(api_key="sesame"), metrics=Metrics())
    key = {"X-API-Key": "sesame"}
    async with client_of(app) as client:
        assert (await client.put("/admin/demo", json={"active": True})).status_code == 401
        assert (await client.get("/admin/demo", headers=key)).json() == {"active": False, "seed": None}
        for body, seed in (({"active": True}, 1), ({"active": True, "seed": 7}, 7)):
            assert (await client.put("/admin/demo", json=body, headers=key)).json() == {"active": True, "seed": seed}
        assert (await client.put("/admin/demo", json={"active": False}, headers=key)).json() == {"active": False, "seed": None}
    assert demo.keys == ["sesame", "sesame"]


async def test_a_service_that_has_no_traders_says_so(client: httpx.AsyncClient) -> None:
    """Starting is refused with a way that works; stopping is what it is already."""
    refused = await client.put("/admin/demo", json={"active": True})
    assert (refused.status_code, refused.json()["code"]) == (422, "not_supported")
    assert "ome demo" in refused.json()["detail"]
    assert (await client.put("/admin/demo", json={"active": False})).json() == {"active": False, "seed": None}
    assert (await client.put("/admin/demo", json={"active": True, "seed": -1})).json()["errors"][0]["field"] == "seed"
