"""Candles, snapshots and books of the past, as they are asked for and answered."""

from __future__ import annotations

import httpx
import pytest

from factories import an_instrument
from fakes import FakeExchange
from ome.domain.clock import MICROSECONDS, parse_time
from ome.domain.errors import Evicted, NotYet, OmeError
from ome.domain.numbers import pack
from ome.domain.ports import Depth
from ome.domain.records import BookSnapshot, CandleRecord

TEN = parse_time("2026-11-22T10:00:00Z")
MINUTE = 60 * MICROSECONDS


def a_candle(minute: int, *, volume: str = "3", value: str = "301", trades: int = 2) -> CandleRecord:
    """A candle of a minute after ten."""
    opened, high, low, close = (pack(10_000 + cents, 2) for cents in (0, 100, -100, minute))
    return CandleRecord("AAPL", 60, TEN + minute * MINUTE, opened, high, low, close, volume, value, trades, minute + 1)


@pytest.fixture(autouse=True)
def market(exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch) -> FakeExchange:
    """AAPL is listed and traded in minutes 0, 1 and 4; it is minute 4 still."""
    monkeypatch.setattr("ome.api.routes.past.now_us", lambda: TEN + 4 * MINUTE + 1)
    exchange.listed["AAPL"] = an_instrument("AAPL")
    exchange.past.candle_records = [a_candle(minute) for minute in (0, 1, 4)]
    return exchange


async def times(client: httpx.AsyncClient, query: str) -> tuple[list[str], str | None]:
    """The minutes of the candles of an answer, and its cursor."""
    answer = (await client.get(f"/market/aapl/candles?{query}")).json()
    assert answer["count"] == len(answer["candles"])
    return [candle["open_time"][14:16] for candle in answer["candles"]], answer["next_cursor"]


async def test_a_candle_has_all_its_figures(client: httpx.AsyncClient) -> None:
    """D4: open time inclusive, close time exclusive; the VWAP is value over volume."""
    answer = (await client.get("/market/AAPL/candles?interval=1m&limit=1")).json()
    assert (answer["symbol"], answer["interval"]) == ("AAPL", "1m")
    assert answer["candles"] == [
        {
            "open_time": "2026-11-22T10:04:00.000000Z",
            "close_time": "2026-11-22T10:05:00.000000Z",
            "open": "100.00",
            "high": "101.00",
            "low": "99.00",
            "close": "100.04",
            "volume": "3",
            "vwap": "100.333333333",
            "trades": 2,
        }
    ]


async def test_without_a_start_the_latest_come(client: httpx.AsyncClient) -> None:
    """Oldest first, up to `end`; the cursor leads to earlier ones (D5)."""
    found, cursor = await times(client, "limit=2")
    assert (found, cursor is None) == (["01", "04"], False)
    assert await times(client, f"limit=2&cursor={cursor}") == (["00"], None)
    assert await times(client, "limit=2&end=2026-11-22T10:04:00Z") == (["00", "01"], None)


async def test_from_a_start_the_list_goes_on_by_cursor(client: httpx.AsyncClient) -> None:
    """D5; a candle that opens before the start isn't in it."""
    found, cursor = await times(client, "start=2026-11-22T09:00:00Z&limit=2")
    assert found == ["00", "01"]
    assert cursor is not None
    assert await times(client, f"start=2026-11-22T09:00:00Z&limit=2&cursor={cursor}") == (["04"], None)
    assert await times(client, "start=2026-11-22T10:00:01Z") == (["01", "04"], None)


async def test_empty_intervals_are_filled_in_when_asked_for(client: httpx.AsyncClient) -> None:
    """D4: with the close before them and no volume; pages of them join without a gap."""
    assert await times(client, "empty=true") == (["00", "01", "02", "03", "04"], None)
    found, cursor = await times(client, "empty=true&limit=3")
    assert found == ["02", "03", "04"]
    assert await times(client, f"empty=true&limit=3&cursor={cursor}") == (["00", "01"], None)
    found, cursor = await times(client, "empty=true&start=2026-11-22T10:00:00Z&limit=3")
    assert found == ["00", "01", "02"]
    assert await times(client, f"empty=true&start=2026-11-22T10:00:00Z&limit=3&cursor={cursor}") == (["03", "04"], None)
    empty = (await client.get("/market/AAPL/candles?empty=true&start=2026-11-22T10:02:00Z&limit=1")).json()["candles"][0]
    assert {empty[name] for name in ("open", "high", "low", "close")} == {"100.01"}
    assert (empty["volume"], empty["vwap"], empty["trades"]) == ("0", None, 0)


async def test_quiet_intervals_reach_up_to_now(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """D4: those after the last trade too, up to `end` or to now, and in a window without any; none before the first trade."""
    monkeypatch.setattr("ome.api.routes.past.now_us", lambda: TEN + 7 * MINUTE)
    found, _ = await times(client, "empty=true")
    assert found == ["00", "01", "02", "03", "04", "05", "06", "07"]
    assert (await times(client, "empty=true&limit=2"))[0] == ["06", "07"]
    assert await times(client, "empty=true&start=2026-11-22T10:05:00Z") == (["05", "06", "07"], None)
    assert await times(client, "empty=true&start=2026-11-22T10:05:00Z&end=2026-11-22T10:07:00Z") == (["05", "06"], None)
    assert await times(client, "empty=true&start=2026-11-22T10:08:00Z") == ([], None)
    assert await times(client, "empty=true&end=2026-11-22T10:00:00Z") == ([], None)
    found, cursor = await times(client, "empty=true&start=2026-11-22T01:00:00Z&limit=1")
    assert (found, cursor is None) == (["00"], False)
    assert (await times(client, "empty=true&interval=1d"))[0] == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("interval=2m", "interval"),
        ("start=yesterday", "start"),
        ("end=2026-11-22", "end"),
        ("start=2026-11-22T10:00:00Z&end=2026-11-22T10:00:00Z", "end"),
        ("limit=1001", "limit"),
        ("cursor=abc", "cursor"),
        ("from=1", "from"),
    ],
)
async def test_what_makes_no_sense_is_said(client: httpx.AsyncClient, query: str, field: str) -> None:
    """422 with the parameter's name."""
    response = await client.get(f"/market/AAPL/candles?{query}")
    assert response.status_code == 422
    assert [error["field"] for error in response.json()["errors"]] == [field]


@pytest.mark.parametrize("path", ["candles", "snapshots", "snapshots/1", "depth?as_of_sequence=1"])
async def test_an_unlisted_symbol_has_no_past(client: httpx.AsyncClient, path: str) -> None:
    """404, and nothing is listed."""
    response = await client.get(f"/market/NONE/{path}")
    assert (response.status_code, response.json()["code"]) == (404, "symbol_not_found")


def a_book(sequence: int) -> BookSnapshot:
    """A book with one bid."""
    return BookSnapshot("AAPL", sequence, sequence, TEN + sequence, [(pack(15000, 2), pack(sequence, 0), 2)], [])


async def test_snapshots_are_listed_and_read(client: httpx.AsyncClient, exchange: FakeExchange) -> None:
    """Newest first, by cursor; each in full by its id."""
    exchange.past.book_records = [a_book(sequence) for sequence in (3, 5, 9)]
    first = (await client.get("/market/aapl/snapshots?limit=2")).json()
    assert [snapshot["snapshot_id"] for snapshot in first["snapshots"]] == ["9", "5"]
    assert first["snapshots"][0] == {
        "snapshot_id": "9",
        "sequence": 9,
        "timestamp": "2026-11-22T10:00:00.000009Z",
        "best_bid": {"price": "150.00", "quantity": "9"},
        "best_ask": None,
        "bid_levels": 1,
        "ask_levels": 0,
    }
    last = (await client.get(f"/market/aapl/snapshots?limit=2&cursor={first['next_cursor']}")).json()
    assert [snapshot["snapshot_id"] for snapshot in last["snapshots"]] == ["3"]
    assert last["next_cursor"] is None
    full = (await client.get("/market/aapl/snapshots/5")).json()
    assert full["bids"] == [{"price": "150.00", "quantity": "5", "orders": 2}]
    for unknown in ("4", "0", "x"):
        response = await client.get(f"/market/aapl/snapshots/{unknown}")
        assert (response.status_code, response.json()["code"]) == (404, "snapshot_not_found")


async def test_a_book_is_read_as_it_was(client: httpx.AsyncClient, exchange: FakeExchange) -> None:
    """By sequence or by time, its best levels."""
    bids = [(pack(15000 - n, 2), pack(1, 0), 1) for n in range(3)]
    exchange.past.depths = {7: Depth("AAPL", 7, TEN, bids, [])}
    for query in ("as_of_sequence=7", "as_of=2026-11-22T10:00:00Z", "as_of=2026-11-22T11:00:00%2B00:30"):
        answer = (await client.get(f"/market/aapl/depth?levels=2&{query}")).json()
        assert (answer["sequence"], answer["timestamp"]) == (7, "2026-11-22T10:00:00.000000Z")
        assert [level["price"] for level in answer["bids"]] == ["150.00", "149.99"]
    before = await client.get("/market/aapl/depth?as_of=2026-11-22T09:00:00Z")
    assert (before.status_code, before.json()["code"]) == (404, "symbol_not_found")


async def test_who_asks_for_what_was_trimmed_is_told(client: httpx.AsyncClient, exchange: FakeExchange) -> None:
    """D6: 410 for candles and snapshots alike, rather than an empty list; not for a symbol that was listed since."""
    exchange.past.book_records = [a_book(9)]
    exchange.past.trimmed_before = TEN
    kept = ["candles?interval=1s", "candles?interval=1s&start=2026-11-22T10:00:00Z", "candles?start=2026-11-22T09:00:00Z"]
    gone = ["candles?interval=1s&start=2026-11-22T09:59:59Z", "candles?interval=1s&end=2026-11-22T09:00:00Z", "snapshots/5"]
    exchange.listed["AAPL"] = an_instrument("AAPL", listed_at=TEN - MINUTE, sequence=9)
    for path in [*kept, "snapshots", "snapshots/9"]:
        assert (await client.get(f"/market/AAPL/{path}")).status_code == 200, path
    assert (await client.get("/market/AAPL/snapshots/10")).status_code == 404
    for path in gone:
        response = await client.get(f"/market/AAPL/{path}")
        assert (response.status_code, response.json()["code"]) == (410, "sequence_evicted"), path
    exchange.past.book_records = []
    assert (await client.get("/market/AAPL/snapshots")).status_code == 410
    exchange.listed["AAPL"] = an_instrument("AAPL", listed_at=TEN, sequence=9)
    for path in [*kept, *gone[:2], "snapshots"]:
        assert (await client.get(f"/market/AAPL/{path}")).status_code == 200, path
    assert (await client.get("/market/AAPL/snapshots/5")).status_code == 404


@pytest.mark.parametrize(("error", "status", "code"), [(Evicted, 410, "sequence_evicted"), (NotYet, 404, "sequence_not_reached")])
async def test_a_past_that_is_not_there_is_said(
    client: httpx.AsyncClient, exchange: FakeExchange, error: type[OmeError], status: int, code: str
) -> None:
    """D2: trimmed, or still to come."""
    exchange.past.fail = error()
    response = await client.get("/market/aapl/depth?as_of_sequence=1")
    assert (response.status_code, response.json()["code"]) == (status, code)


@pytest.mark.parametrize("query", ["as_of_sequence=1&as_of=2026-11-22T10:00:00Z", "as_of_sequence=1&detail=orders", "as_of=x"])
async def test_a_past_is_asked_for_in_one_way(client: httpx.AsyncClient, query: str) -> None:
    """By sequence or by time, levels alone."""
    assert (await client.get(f"/market/aapl/depth?{query}")).status_code == 422
