"""The Python client against a real service: orders, the book, streams, and a service that is killed while it is used."""

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from ome.client import BlockingClient, Book, Client, Refused, Unavailable
from ome.client.models import OrderEvent, SideName, TradeMessage
from servers import Server, free_port, running_server, sqlite_url


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    """A fresh service."""
    with running_server(sqlite_url(tmp_path)) as running:
        yield running


async def put(client: Client, user_id: str, side: SideName, quantity: int, price: str) -> str:
    """Submit a limit order: its id."""
    order = await client.submit(user_id=user_id, symbol="AAPL", side=side, quantity=quantity, price=Decimal(price))
    assert order.order_id is not None
    return order.order_id


async def agree(client: Client, book: Book) -> None:
    """The book comes to be what GET /market/{symbol}/depth says."""
    depth = await client.depth(book.symbol, levels=1000)
    await book.wait_for(lambda book: book.sequence >= depth.sequence)
    assert (book.bids(), book.asks()) == (depth.bids, depth.asks)


async def test_every_method_reads_what_the_service_answers(server: Server) -> None:
    """One order's life, seen through all of them, with exact decimals."""
    async with Client(server.url) as client:
        sell = await put(client, "alice", "SELL", 100, "150.50")
        first = await client.depth("AAPL")
        dry = await client.submit(dry_run=True, user_id="bob", symbol="AAPL", side="BUY", quantity="60", price="151")
        assert (dry.dry_run, dry.order_id, dry.status) == (True, None, "FILLED")
        buy = await client.submit(user_id="bob", symbol="AAPL", side="BUY", quantity="60", price="151")
        assert [(f"{trade.price}", f"{trade.quantity}") for trade in buy.executed_trades] == [("150.50", "60")]
        assert (await client.order(sell)).remaining_quantity == 40
        changed = await client.modify(sell, quantity=90, expected_version=1)
        assert (changed.version, changed.remaining_quantity) == (2, Decimal(30))
        assert (await client.explain(sell)).would_fill_when is not None
        assert [event.type for event in (await client.history(sell)).events] == ["ACCEPTED", "FILLED", "MODIFIED"]
        assert (await client.market("AAPL")).last_price == Decimal("150.50")
        assert [market.symbol for market in (await client.markets()).markets] == ["AAPL"]
        assert [each.tick_size for each in (await client.instruments()).instruments] == [Decimal("0.01")]
        (trade,) = (await client.trades(symbol="AAPL")).trades
        assert trade == buy.executed_trades[0]
        (candle,) = (await client.candles("AAPL", "1d")).candles
        assert [candle.open, candle.volume, candle.vwap] == [Decimal("150.50"), Decimal(60), Decimal("150.5")]
        depth = await client.depth("AAPL")
        assert await client.depth("AAPL", as_of_sequence=first.sequence) == first
        assert [level.quantity for level in (*first.asks, *depth.asks)] == [Decimal(100), Decimal(30)]
        found = await client.orders("bob", client_order_id=buy.client_order_id)
        assert [order.order_id for order in found.orders] == [buy.order_id]
        assert found.watermark is not None
        answer = await client.batch(
            [
                {"user_id": "carol", "symbol": "AAPL", "side": "BUY", "quantity": 1, "price": "1"},
                {"op": "modify", "order_id": sell, "price": "150.505"},
                {"op": "cancel", "order_id": sell},
            ]
        )
        assert [result.status for result in answer.results] == [201, 422, 200]
        assert answer.results[1].problem is not None
        assert answer.results[1].problem.code == "price_off_tick"
        assert (await client.cancel_all(user_id="carol")).cancelled == 1
        with pytest.raises(Refused, match="order_not_open"):
            await client.cancel(sell)
        assert [order.status for order in (await client.orders("alice", status="CANCELLED")).orders] == ["CANCELLED"]
    async with Client(f"http://127.0.0.1:{free_port()}", deadline_seconds=0.2) as nobody:
        with pytest.raises(Unavailable):
            await nobody.submit(user_id="bob", symbol="AAPL", side="BUY", quantity=1, price=1)


async def test_nothing_is_lost_or_doubled_when_the_service_is_killed(server: Server) -> None:
    """Killed and started again while orders are under way: each is executed once, its user is told of each event once, the tape
    has each trade once, and the book is the service's own, before and after.
    """
    async with Client(server.url) as client:
        await put(client, "alice", "SELL", 1, "100.00")
        tape: list[TradeMessage] = []
        events: list[OrderEvent] = []
        readers = [
            asyncio.create_task(collect(client.stream("trades", "AAPL"), tape)),
            asyncio.create_task(collect(client.order_events("bob", cursor="start"), events)),
        ]
        async with client.book("AAPL") as book:
            for number in range(10):
                await put(client, "alice", "SELL", 5, f"{101 + number}.00")
                await put(client, "bob", "BUY", 3, f"{101 + number}.00")
                while not tape:
                    await asyncio.sleep(0.01)
            await agree(client, book)
            orders = [asyncio.create_task(put(client, "bob", "BUY", 1, "120.00")) for _ in range(20)]
            await asyncio.wait(orders, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.to_thread(server.kill)
            orders += [asyncio.create_task(put(client, "bob", "BUY", 1, "120.00")) for _ in range(10)]
            while book.is_live:
                await book.changed()
            await asyncio.to_thread(server.start)
            ids = await asyncio.gather(*orders)
            await agree(client, book)
            assert book.resynchronisations >= 1
        stored = (await client.orders("bob", limit=1000)).orders[::-1]
        assert len(stored) == 10 + len(ids) == 10 + len(set(ids))
        trades = (await client.trades(symbol="AAPL", limit=1000)).trades[::-1]
        while not tape or tape[-1].sequence < trades[-1].sequence:
            await asyncio.sleep(0.01)
        assert [message.trade for message in tape] == trades
        while [event.type for event in events].count("ACCEPTED") < len(stored):
            await asyncio.sleep(0.01)
        accepted = [event.order.order_id for event in events if event.type == "ACCEPTED" and event.order is not None]
        assert accepted == [order.order_id for order in stored]
        assert len({event.cursor for event in events}) == len(events)
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)


async def collect(source: AsyncIterator[Any], found: list[Any]) -> None:
    """Keep what comes."""
    async for each in source:
        found.append(each)  # noqa: PERF401  it is looked at while it grows


def test_the_blocking_twin_does_the_same(tmp_path: Path) -> None:
    """Without asyncio: an order, the book that shows it, a stream, and an end that leaves no thread."""
    with running_server(sqlite_url(tmp_path), API_KEY="secret") as server, BlockingClient(server.url, "secret") as client:
        client.submit(user_id="alice", symbol="AAPL", side="BUY", quantity=5, price="99.50")
        with client.book("AAPL") as book:
            client.submit(user_id="alice", symbol="AAPL", side="SELL", quantity=7, price="100.50")
            assert book.wait_for(lambda book: book.best_ask is not None)
            while book.changed(timeout_seconds=0):
                pass
            assert not book.wait_for(lambda book: book.best_ask is None, timeout_seconds=0)
            assert book.best_bid is not None
            assert book.best_ask is not None
            assert [book.best_bid.quantity, book.best_ask.quantity] == [Decimal(5), Decimal(7)]
            assert book.is_live
            assert [level.price for level in (*book.bids(1), *book.asks(1))] == [Decimal("99.50"), Decimal("100.50")]
            assert book.sequence == client.depth("AAPL").sequence
        message = next(client.stream("ticker", "AAPL"))
        assert (message.type, message.symbol) == ("snapshot", "AAPL")
        event = next(client.order_events("alice", cursor="start"))
        assert event.type == "ACCEPTED"
        with BlockingClient(server.url, "wrong") as stranger, pytest.raises(Refused, match="unauthorized"):
            stranger.submit(user_id="alice", symbol="AAPL", side="BUY", quantity=5, price="99.50")
        with BlockingClient(server.url, "wrong") as stranger, pytest.raises(Refused, match="unauthorized"):
            next(stranger.stream("depth", "AAPL"))


async def test_with_a_users_key_nobody_has_to_be_named(tmp_path: Path) -> None:
    """Orders, lists and events are the key's user's; another user's are refused."""
    with running_server(sqlite_url(tmp_path), API_KEY="sesame") as server:
        body = {"user_id": "alice", "scopes": ["trade"]}
        async with httpx.AsyncClient(base_url=server.url, headers={"X-API-Key": "sesame"}) as operator:
            key = (await operator.post("/keys", json=body)).json()["key"]
        async with Client(server.url, key) as client:
            order = await client.submit(symbol="AAPL", side="BUY", quantity=1, price="10")
            assert order.user_id == "alice"
            assert [each.order_id for each in (await client.orders()).orders] == [order.order_id]
            async for event in client.order_events(cursor="start"):
                assert event.order is not None
                assert event.order.order_id == order.order_id
                break
            with pytest.raises(Refused, match="not_your_user"):
                await client.orders("bob")
