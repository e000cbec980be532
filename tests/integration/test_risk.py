"""Limits, kills and timers of a running service: over HTTP, across kills of the process, and in `ome verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx

from ome.verification import verify
from servers import running_server, sqlite_url


def order(server: str, user: str, side: str, price: str, quantity: int = 1, **more: Any) -> tuple[str, str | None]:
    """Status and reason, or code, of an order in AAPL."""
    body = {"user_id": user, "symbol": "AAPL", "side": side, "quantity": quantity, "price": price} | more
    answer = httpx.post(f"{server}/orders", json=body).json()
    return answer.get("status") if isinstance(answer.get("status"), str) else "REJECTED", answer.get("code", answer.get("reason"))


def test_what_was_laid_down_survives_a_kill_of_the_process(tmp_path: Path) -> None:
    """R1, R2, I3: limits, positions, a kill switch and an armed timer are there after kill -9; a deadline that passed is
    kept before anything else, and the journal makes all of it again.
    """
    url = sqlite_url(tmp_path)
    with running_server(url) as server:
        at = server.url
        assert httpx.put(f"{at}/users/ann/limits", json={"max_position": 10}).status_code == 200
        assert order(at, "ann", "BUY", "100.00", 6) == ("PENDING", None)
        assert order(at, "bob", "SELL", "100.00", 6) == ("FILLED", None)
        assert order(at, "ann", "BUY", "99.00", 4) == ("PENDING", None)
        assert order(at, "cat", "BUY", "98.00") == ("PENDING", None)
        assert httpx.post(f"{at}/users/ann/cancel_all_after", json={"seconds": 1}).status_code == 200
        assert httpx.put(f"{at}/admin/kill", json={"scope": "user", "id": "cat", "active": True}).json()["open_orders"] == 1
        assert order(at, "cat", "BUY", "98.00") == ("REJECTED", "kill_switch")
        position = httpx.get(f"{at}/users/bob/positions").json()
        server.kill()
    with running_server(url) as server:
        at = server.url
        assert httpx.get(f"{at}/users/bob/positions").json() == position
        assert position["positions"][0]["quantity"] == "-6"
        assert order(at, "cat", "BUY", "98.00") == ("REJECTED", "kill_switch")
        assert order(at, "ann", "BUY", "99.00", 11) == ("REJECTED", "position_limit")
        risk = httpx.get(f"{at}/users/ann/risk").json()
        while risk["cancel_at"] is not None:  # its second isn't over yet
            risk = httpx.get(f"{at}/users/ann/risk").json()
        assert (risk["open_orders"], risk["symbols"][0]["buy_quantity_left"]) == (0, "4")
        orders = httpx.get(f"{at}/orders/user/ann").json()["orders"]
        assert [each["reason"] for each in orders if each["price"] == "99.00" and each["quantity"] == "4"] == ["cancel_all_after"]
        dry = {"user_id": "ann", "symbol": "AAPL", "side": "BUY", "quantity": 5, "price": "99.00"}
        assert httpx.post(f"{at}/orders?dry_run=true", json=dry).json()["code"] == "position_limit"
        assert server.terminate() == 0
    report = verify(url)
    assert report.problems() == []
