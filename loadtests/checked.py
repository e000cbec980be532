"""A service with every check on: each user of `orders.lua` has a key, and limits; rates are counted, and are never used up."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from loadtests.servers import Cores, Server, service

USERS: Final = tuple(f"{side}{number}" for side in ("buyer", "seller") for number in range(1, 21))
"""As the script names them."""
_OPERATORS_KEY: Final = "bench-operator"
_MANY: Final = 10**9
_LIMITS: Final = {
    "max_order_quantity": str(_MANY),
    "max_order_notional": str(_MANY),
    "max_open_orders": 1_000_000,
    "max_position": str(_MANY),
    "price_collar_percent": "99",
}
"""Each is looked at for each order, and none is reached."""


@contextmanager
def checked_service(cores: Cores, database_url: str, **more: str) -> Iterator[tuple[Server, dict[str, str]]]:
    """The service, and what wrk's environment needs besides, for as many keys as there are users; `more` are further settings."""
    settings = {"API_KEY": _OPERATORS_KEY, "RATE_ORDERS_PER_SEC": str(_MANY), **more}
    with service(cores, database_url, **settings) as server:
        keys = {user: _ask(server, "POST", "/keys", {"user_id": user, "scopes": ["read", "trade"]})["key"] for user in USERS}
        for user in USERS:
            _ask(server, "PUT", f"/users/{user}/limits", _LIMITS)
        yield server, {"USER_KEYS": ",".join(f"{user}={key}" for user, key in keys.items())}


def _ask(server: Server, method: str, path: str, body: dict[str, Any]) -> Any:
    headers = {"Content-Type": "application/json", "X-API-Key": _OPERATORS_KEY}
    request = urllib.request.Request(server.url + path, json.dumps(body).encode(), headers, method=method)  # noqa: S310  loopback
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        return json.load(answer)
