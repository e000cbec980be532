"""History and explain over the real engine and database: the same before and after a restart, waiting stops included."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from fakes import client_of
from ome.bootstrap import Service
from ome.config import Settings


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A service over the database in this folder, and a client of it."""
    service = Service(Settings(database_url=f"sqlite:///{folder}/orders.db"))
    await service.open()
    await service.start()
    try:
        async with client_of(service.app) as client:
            yield client
    finally:
        assert await service.stop()


async def submit(client: httpx.AsyncClient, user: str, side: str, quantity: int, **fields: Any) -> str:
    """Submit an order of AAPL; its id."""
    body = {"user_id": user, "symbol": "AAPL", "side": side, "quantity": quantity} | fields
    answer = await client.post("/orders", json=body)
    assert answer.status_code == 201, answer.text
    order_id: str = answer.json()["order_id"]
    return order_id


async def story(client: httpx.AsyncClient, order_id: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """An order's history and explanation; both tell of the same events."""
    history, explained = [(await client.get(f"/orders/{order_id}/{route}")).json() for route in ("history", "explain")]
    assert history["events"] == explained["events"]
    return history, explained


async def test_every_kind_of_order_has_its_story_before_and_after_a_restart(tmp_path: Path) -> None:
    """S5, T6: a waiting stop, an iceberg ahead in the queue, a partly filled and a trailing order are what they were."""
    async with running(tmp_path) as client:
        ids = {
            "iceberg": await submit(client, "ann", "BUY", 100, price="150.50", display_quantity=30),
            "behind": await submit(client, "bob", "BUY", 50, price="150.50"),
            "better": await submit(client, "cleo", "BUY", 5, price="150.75"),
            "stop": await submit(client, "ann", "BUY", 10, type="STOP_LIMIT", stop_price="155", price="156"),
            "taker": await submit(client, "dan", "SELL", 20, price="150.50"),
            "trail": await submit(client, "bob", "SELL", 10, type="TRAILING_STOP", trail_amount="1.5"),
        }
        before = {name: await story(client, order_id) for name, order_id in ids.items()}
    async with running(tmp_path) as client:
        after = {name: await story(client, order_id) for name, order_id in ids.items()}
        assert after == before
        explained = {name: explanation for name, (_, explanation) in after.items()}
        assert explained["behind"]["queue"] == {"orders_ahead": 1, "quantity_ahead": "15"}
        assert explained["behind"]["would_fill_when"] == "a sell order of more than 15 at 150.50 or lower arrives"
        assert explained["iceberg"]["rules"] == ["M1", "T1", "T6"]
        assert explained["stop"]["would_fill_when"] == "a trade happens at 155.00 or higher; then it buys at 156.00 or lower"
        assert (
            explained["trail"]["would_fill_when"]
            == "a trade happens at 149.00 or lower; then it sells at the best prices there are"
        )
        assert [each["type"] for each in explained["taker"]["events"]] == ["ACCEPTED", "FILLED", "FILLED"]
        assert [each["role"] for each in explained["iceberg"]["events"][1:]] == ["MAKER"]
        assert explained["taker"]["would_fill_when"] is None


@pytest.mark.parametrize("side", ["BUY", "SELL"])
async def test_what_is_said_to_fill_an_order_fills_it(tmp_path: Path, side: str) -> None:
    """M1: a taker of all that stands before it leaves it untouched, and one lot more fills it in part."""
    other, price, better = ("SELL", "150.50", "150.60") if side == "BUY" else ("BUY", "150.50", "150.40")
    async with running(tmp_path) as client:
        await submit(client, "ann", side, 7, price=better)
        await submit(client, "ann", side, 5, price=price)
        order = await submit(client, "bob", side, 10, price=price)
        _, explained = await story(client, order)
        way = "lower" if side == "BUY" else "higher"
        assert explained["would_fill_when"].startswith(f"a {other.lower()} order of more than 12 at {price} or {way} arrives")
        assert explained["queue"] == {"orders_ahead": 1, "quantity_ahead": "5"}
        await submit(client, "dan", other, 12, price=price)
        assert (await story(client, order))[1]["status"] == "PENDING"
        await submit(client, "dan", other, 1, price=price)
        assert (await story(client, order))[1]["status"] == "PARTIALLY_FILLED"


@pytest.mark.parametrize("side", ["BUY", "SELL"])
async def test_what_is_said_to_set_a_stop_off_does(tmp_path: Path, side: str) -> None:
    """S1: a trade one tick short of the stop price leaves it waiting, one at it fires it."""
    short, stop = ("150.99", "151.00") if side == "BUY" else ("151.01", "151.00")
    async with running(tmp_path) as client:
        waiting = await submit(client, "ann", side, 1, type="STOP_LIMIT", stop_price=stop, price="150")
        way, does = ("higher", "buys at 150.00 or lower") if side == "BUY" else ("lower", "sells at 150.00 or higher")
        for price, status in ((short, "PENDING_TRIGGER"), (stop, "PENDING")):
            assert (await story(client, waiting))[1]["would_fill_when"] == f"a trade happens at {stop} or {way}; then it {does}"
            await submit(client, "bob", "SELL", 1, price=price)
            await submit(client, "cleo", "BUY", 1, price=price)
            assert (await story(client, waiting))[1]["status"] == status


@pytest.mark.parametrize(
    ("mode", "quantity", "maker_reason", "taker_reason"),
    [
        ("CANCEL_NEWEST", "3", None, "self_trade_prevented"),
        ("CANCEL_OLDEST", "3", "self_trade_prevented", None),
        ("CANCEL_BOTH", "3", "self_trade_prevented", "self_trade_prevented"),
        ("DECREMENT", "3", None, "self_trade_prevented"),
        ("DECREMENT", "8", "self_trade_prevented", None),
    ],
)
async def test_what_was_prevented_is_read_from_both_orders(
    tmp_path: Path, mode: str, quantity: str, maker_reason: str | None, taker_reason: str | None
) -> None:
    """P2: either order's history has the other's id, the price and the quantity, and an order that it ended says so; for good."""
    async with running(tmp_path) as client:
        maker = await submit(client, "ann", "SELL", 5, price="150.50")
        taker = await submit(client, "ann", "BUY", int(quantity), price="151", self_trade_prevention=mode)
    async with running(tmp_path) as client:
        for order, other, role, reason in ((maker, taker, "MAKER", maker_reason), (taker, maker, "TAKER", taker_reason)):
            assert (await client.get(f"/orders/{order}")).json()["reason"] == reason
            history, explained = await story(client, order)
            assert {"P1", "P2"} <= set(explained["rules"])
            (event,) = [each for each in history["events"] if each["type"] == "SELF_TRADE_PREVENTED"]
            met = str(min(5, int(quantity)))
            wanted = {"role": role, "other_order_id": other, "prevented_price": "150.50", "prevented_quantity": met}
            assert {name: event[name] for name in wanted} == wanted
            ends = [each["reason"]["code"] for each in history["events"] if each["type"] == "CANCELLED"]
            assert ends == ([] if reason is None else [reason])
