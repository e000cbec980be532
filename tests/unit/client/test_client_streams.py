"""Streams: the book, and channels that go on where they were."""

import asyncio
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from typing import Any

import httpx
import pytest

from ome.client import Book, Client, Refused
from venues import TIME, SocketVenue, socket_venue


@pytest.fixture
async def venue() -> AsyncIterator[SocketVenue]:
    """A venue with a bid and an ask."""
    async with socket_venue() as running:
        running.sides = {"bids": {"99.50": "5", "99.00": "7"}, "asks": {"100.50": "0.00000001"}}
        running.sequence = 10
        running.depth_sequence = 8
        yield running


def shown(book: Book) -> dict[str, dict[str, str]]:
    """A book's levels as texts."""
    return {
        name: {f"{level.price:f}": f"{level.quantity:f}" for level in levels}
        for name, levels in (("bids", book.bids()), ("asks", book.asks()))
    }


async def agree(book: Book, venue: SocketVenue) -> None:
    """Wait until the book is live at the venue's sequence; then it must be the venue's book."""
    await book.wait_for(lambda book: book.sequence == venue.sequence)
    assert shown(book) == venue.sides


async def test_a_book_follows_snapshot_and_updates(venue: SocketVenue) -> None:
    """Levels come, change and go; best prices and order are those of the venue."""
    async with Client(venue.url, "secret") as client, client.book("aapl") as book:
        assert shown(book) == venue.sides
        await venue.change("bids", "99.75", "3")
        await venue.change("bids", "99.50", "0")
        await venue.change("asks", "100.00", "2")
        await agree(book, venue)
        assert book.best_bid is not None
        assert book.best_ask is not None
        assert (book.best_bid.price, book.best_ask.price) == (Decimal("99.75"), Decimal("100.00"))
        assert [f"{level.price}" for level in book.bids(2)] == ["99.75", "99.00"]
        assert book.resynchronisations == 0
    assert venue.headers == ["secret"]
    assert venue.subscriptions == [{"op": "subscribe", "channel": "depth", "symbol": "AAPL"}]


async def test_a_gap_is_noticed_and_mended(venue: SocketVenue) -> None:
    """An update that was lost: the next one doesn't follow what is here; the book isn't live until it has a new snapshot."""
    async with Client(venue.url) as client, client.book("AAPL") as book:
        await venue.change("bids", "98.00", "1", is_lost=True)
        await venue.change("bids", "97.00", "1")
        while book.is_live:
            await book.changed()
        await agree(book, venue)
        assert book.resynchronisations == 1


@pytest.mark.parametrize("wrong", [{"checksum": 1}, {"bids": [{"price": "98.00", "quantity": "2", "orders": 1}]}])
async def test_a_wrong_checksum_is_noticed_and_mended(venue: SocketVenue, wrong: dict[str, Any]) -> None:
    """A sum or a level that isn't right: the book starts anew."""
    async with Client(venue.url) as client, client.book("AAPL") as book:
        await venue.change("bids", "98.00", "1", **wrong)
        while book.resynchronisations == 0:
            await book.changed()
        await agree(book, venue)


async def test_a_repeated_update_changes_nothing(venue: SocketVenue) -> None:
    """What is at or below the book's sequence is old."""
    async with Client(venue.url) as client, client.book("AAPL") as book:
        await venue.say(venue.message("update", {"bids": {"1.00": "1"}, "asks": {}}, 3) | {"sequence": 9})
        await venue.change("bids", "98.00", "1")
        await agree(book, venue)
        assert book.resynchronisations == 0


async def test_a_book_reconnects(venue: SocketVenue) -> None:
    """A broken connection, and changes meanwhile: the book isn't live, then it is the venue's again."""
    async with Client(venue.url) as client, client.book("AAPL") as book:
        await venue.drop()
        while book.is_live:
            await book.changed()
        await venue.change("bids", "98.00", "1")
        await agree(book, venue)
        assert book.resynchronisations == 1


async def test_a_book_of_an_unlisted_symbol_is_refused(venue: SocketVenue) -> None:
    """What trying again won't change is raised, not tried for ever."""
    refusal = {"status": 404, "problem": {"status": 404, "code": "symbol_not_found", "detail": "x", "outcome": "not_executed"}}
    venue.answer = lambda _: [refusal]
    async with Client(venue.url) as client:
        with pytest.raises(Refused, match="symbol_not_found"):
            async with client.book("NOPE"):
                pass


async def test_leaving_a_busy_stream_does_not_wait_for_its_end(venue: SocketVenue) -> None:
    """Whoever breaks off reads no more, and so never gets to the service's goodbye: the connection is cut."""
    async with Client(venue.url) as client:
        stream = client.stream("depth", "AAPL")
        update = await anext(stream)
        flood = asyncio.create_task(venue.flood(venue.message("update", {"bids": {"1.00": "1"}, "asks": {}}, 3)))
        await anext(stream)
        async with asyncio.timeout(9):  # the library's own patience is 10 seconds
            await stream.aclose()
        await flood
    assert update.channel == "depth"


def trade(sequence: int) -> dict[str, Any]:
    """A trade as lists and messages show it."""
    ids = {"trade_id": str(sequence), "buy_order_id": "1", "sell_order_id": "2", "maker_order_id": "1", "taker_side": "SELL"}
    return ids | {"symbol": "AAPL", "price": "1.00", "quantity": "2", "executed_at": TIME, "sequence": sequence}


def traded(sequence: int, previous: int) -> dict[str, Any]:
    """A message of the channel `trades`."""
    about = {"channel": "trades", "type": "update", "symbol": "AAPL", "sequence": sequence, "previous_sequence": previous}
    return about | {"trade": trade(sequence)}


def page(request: httpx.Request) -> httpx.Response:
    """The list of trades, in two pages."""
    if "cursor" not in request.url.params:
        return httpx.Response(200, json={"trades": [trade(s) for s in (17, 15)], "count": 2, "next_cursor": "c"})
    return httpx.Response(200, json={"trades": [trade(s) for s in (13, 12, 3)], "count": 3, "next_cursor": None})


def tell_the_next(venue: SocketVenue, incarnation: Callable[[], str] = str) -> None:
    """Let the venue take a subscription and tell the trade behind its sequence: 12 behind 10, else 17."""

    def answer(_: dict[str, Any]) -> list[dict[str, Any]]:
        ack = {"status": 200, "type": "subscribed", "sequence": venue.sequence, "incarnation": incarnation()}
        first = traded(12, 3) if venue.sequence == 10 else traded(17, 15)
        return [ack, {"type": "heartbeat", "timestamp": TIME}, first]

    venue.answer = answer


async def test_trades_go_on_without_a_gap(venue: SocketVenue) -> None:
    """Those that happened while nobody listened are read from the list, up to where the channel starts again, however often
    the list has to be asked for.
    """
    tell_the_next(venue)
    failures = [httpx.ConnectError("away"), httpx.ConnectError("away")]

    def answer(request: httpx.Request) -> httpx.Response:
        if failures:
            raise failures.pop()
        return page(request)

    async with Client(venue.url, transport=httpx.MockTransport(answer), deadline_seconds=0.01) as client:
        tape = client.stream("trades", "AAPL")
        seen = [(await anext(tape)).sequence]
        venue.sequence = 16
        await venue.drop()
        seen += [(await anext(tape)).sequence for _ in range(3)]
        await tape.aclose()
    assert (seen, failures) == ([12, 13, 15, 17], [])


async def test_trades_begin_behind_a_sequence(venue: SocketVenue) -> None:
    """What was traded since is read from the list first; other channels begin with a snapshot and with nothing else."""
    tell_the_next(venue)
    venue.sequence = 16
    async with Client(venue.url, transport=httpx.MockTransport(page)) as client:
        tape = client.stream("trades", "AAPL", after_sequence=3)
        assert [(await anext(tape)).sequence for _ in range(4)] == [12, 13, 15, 17]
        await tape.aclose()
        with pytest.raises(ValueError, match="after_sequence"):
            client.stream("depth", "AAPL", after_sequence=3)
        with pytest.raises(ValueError, match="must be one of depth, trades"):
            await anext(client.stream("tocker", "AAPL"))  # type: ignore[arg-type]  # as somebody mistypes it


async def test_trades_of_another_history_are_no_gap(venue: SocketVenue) -> None:
    """HOLE12: a restored database has sequences of its own; the tape goes on from where the channel starts."""
    incarnations = iter("ab")
    tell_the_next(venue, lambda: next(incarnations))
    async with Client(venue.url, transport=httpx.MockTransport(page)) as client:
        tape = client.stream("trades", "AAPL")
        seen = [(await anext(tape)).sequence]
        venue.sequence = 16
        await venue.drop()
        seen.append((await anext(tape)).sequence)
        await tape.aclose()
    assert seen == [12, 17]


async def test_private_events_resume_from_the_last_cursor(venue: SocketVenue) -> None:
    """After each break it asks for what follows the last event seen or, before the first, for the place it began at."""

    def answer(asked: dict[str, Any]) -> list[dict[str, Any]]:
        if asked.get("from") is None:
            return [{"status": 200, "type": "subscribed", "cursor": "c0"}, {"status": 503, "problem": {"status": 503}}]
        number = int(asked["from"][1:]) + 1
        event = {"cursor": f"c{number}", "position": number, "time": TIME, "type": "FILLED", "order_id": "1", "role": "MAKER"}
        ack = {"status": 200, "type": "subscribed", "cursor": asked["from"]}
        return [ack, {"channel": "orders", "type": "event", "user_id": "alice", "event": event}]

    venue.answer = answer
    async with Client(venue.url) as client:
        events = client.order_events("alice")
        seen = []
        for _ in range(3):
            seen.append((await anext(events)).cursor)
            await venue.drop()
        await events.aclose()
    assert seen == ["c1", "c2", "c3"]
    assert [asked.get("from") for asked in venue.subscriptions] == [None, "c0", "c1", "c2"]


async def test_closing_the_client_ends_its_streams(venue: SocketVenue) -> None:
    """Who waits for a message comes to the end."""
    async with Client(venue.url) as client:
        messages = [each async for each in _until_closed(client, venue)]
    assert [message.type for message in messages] == ["snapshot"]


async def _until_closed(client: Client, venue: SocketVenue) -> AsyncIterator[Any]:
    async for message in client.stream("depth", "AAPL"):
        yield message
        await client.close()
    assert venue.subscriptions


@pytest.mark.parametrize("url", ["127.0.0.1:5000", "ftp://x"])
def test_a_url_without_http_is_refused(url: str) -> None:
    """It says what is right."""
    with pytest.raises(ValueError, match="http://"):
        Client(url)


def test_asyncio_is_not_needed_to_make_a_client() -> None:
    """Nothing is connected before the first call."""
    asyncio.run(Client("http://127.0.0.1:1").close())
