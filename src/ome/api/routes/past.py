"""What was: candles and snapshots of books. Public, like all market data."""

from __future__ import annotations

from typing import Final

from fastapi import FastAPI, Response

from ome.api.openapi import answers, declare
from ome.api.paging import cut_at, decode_cursor, encode_cursor
from ome.api.past_schemas import CandleList, CandleView, FullSnapshotView, SnapshotList, SnapshotView
from ome.api.problems import FieldError, Problem
from ome.api.routes.market import folded
from ome.api.routes.queries import CandleParameters, CandleQuery, NoParameters, PageParameters, SymbolPath, optional_moment
from ome.api.services import JsonAnswer, Services
from ome.api.views import depth_view, quote_view
from ome.domain.access import Access
from ome.domain.clock import MICROSECONDS, format_time, now_us
from ome.domain.ids import parse_id
from ome.domain.intervals import INTERVALS
from ome.domain.numbers import format_number, ratio_text
from ome.domain.ports import Depth
from ome.domain.reasons import Reason
from ome.domain.records import BookSnapshot, CandleRecord, InstrumentRecord

_EVER: Final = 2**62


class PastRoutes:
    """Each takes a symbol in any case; one that isn't listed is 404."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._past = services.past

    def add_to(self, app: FastAPI) -> None:
        """Declare the routes."""
        tag, path = "Market data", "/market/{symbol}/snapshots"
        declare(app, "GET", "/market/{symbol}/candles", self.candles, tag, answers(CandleList), access=Access.PUBLIC, weight=2)
        declare(app, "GET", path, self.list_snapshots, tag, answers(SnapshotList), access=Access.PUBLIC)
        declare(app, "GET", f"{path}/{{snapshot_id}}", self.read_snapshot, tag, answers(FullSnapshotView), access=Access.PUBLIC)

    async def candles(self, symbol: SymbolPath, query: CandleParameters) -> Response:
        """Candles, oldest first: from `start` on, or the latest ones before `end`.

        The running candle is the last one. Intervals without a trade are left out, unless `empty=true` asks for them: then
        they have the close before them and no volume, from the symbol's first trade up to `end`, or to now. `next_cursor` goes
        on in the same direction: to later candles with `start`, to earlier ones without.
        """
        record = self._listed(symbol)
        start, end = _window(query)
        length = INTERVALS[query.interval] * MICROSECONDS
        first = -(-(start or 0) // length) * length  # a candle that opens before the start has trades from before it
        asked_from = end if start is None else first
        if asked_from is not None:
            _raise_if_evicted(record, asked_from, await self._past.candles_trimmed_before(INTERVALS[query.interval]))
        find = self._filled if query.empty else self._past.candles
        until, newest = _EVER if end is None else end, start is None
        page = await find(record.symbol, INTERVALS[query.interval], first, until, query.limit + 1, newest=newest)
        next_cursor = None
        if len(page) > query.limit:
            further = page.pop(0 if newest else -1)
            next_cursor = encode_cursor("candles", f"-{page[0].open_time}" if newest else str(further.open_time))
        views = [_candle(candle) for candle in page]
        return JsonAnswer(
            CandleList(symbol=record.symbol, interval=query.interval, candles=views, count=len(views), next_cursor=next_cursor)
        )

    async def _filled(
        self, symbol: str, seconds: int, start: int, end: int, limit: int, *, newest: bool = False
    ) -> list[CandleRecord]:
        """As `Past.candles`, with one for each interval in which nothing traded, from the first trade up to now."""
        length, quote = seconds * MICROSECONDS, self._services.market.quote(symbol)
        now = max(now_us(), 0 if quote is None else quote.time)
        last = (min(end, now + 1) - 1) // length * length
        if newest:
            start = max(0, last - (limit - 1) * length)
        page = await self._past.candles(symbol, seconds, 0, start, 1, newest=True)
        if not page:
            begins = await self._past.candles(symbol, seconds, start, end, 1)
            if not begins:
                return []
            start = begins[0].open_time
        stop = min(last, start + (limit - 1) * length) + length
        traded = {candle.open_time: candle for candle in await self._past.candles(symbol, seconds, start, stop, limit)}
        for open_time in range(start, stop, length):
            page.append(traded.get(open_time) or _empty(page[-1], open_time))
        return [candle for candle in page if candle.open_time >= start]

    async def list_snapshots(self, symbol: SymbolPath, query: PageParameters) -> Response:
        """Snapshots of the book, taken every SNAPSHOT_INTERVAL_SEC where it had changed, newest first."""
        record = self._listed(symbol)
        symbol, before = record.symbol, _EVER
        if query.cursor is not None:
            before = parse_id(decode_cursor("snapshots", query.cursor)) or 0
        books = await self._past.books(symbol, before, query.limit + 1)
        if not books:
            _raise_if_evicted(record, record.listed_at, await self._past.books_trimmed_before())
        page, next_cursor = cut_at("snapshots", books, query.limit, lambda book: book.sequence)
        views = [_snapshot(book) for book in page]
        return JsonAnswer(SnapshotList(snapshots=views, count=len(views), next_cursor=next_cursor))

    async def read_snapshot(self, symbol: SymbolPath, snapshot_id: str, query: NoParameters) -> Response:  # noqa: ARG002
        """A snapshot in full."""
        record = self._listed(symbol)
        symbol, sequence = record.symbol, parse_id(snapshot_id)
        found = [] if sequence is None else await self._past.books(symbol, sequence + 1, 1)
        if not found and sequence is not None and 0 < sequence <= record.sequence:  # older than all that are kept
            _raise_if_evicted(record, record.listed_at, await self._past.books_trimmed_before())
        if not found or found[0].sequence != sequence:
            raise Problem(Reason.SNAPSHOT_NOT_FOUND)
        book = found[0]
        levels = depth_view(Depth(symbol, book.sequence, book.time, book.bids, book.asks))
        return JsonAnswer(
            FullSnapshotView(
                snapshot_id=str(book.sequence),
                symbol=symbol,
                sequence=book.sequence,
                timestamp=levels.timestamp,
                bids=levels.bids,
                asks=levels.asks,
            )
        )

    def _listed(self, symbol: str) -> InstrumentRecord:
        record = self._services.market.instrument(folded(symbol))
        if record is None:
            raise Problem(Reason.SYMBOL_NOT_FOUND)
        return record


def _window(query: CandleQuery) -> tuple[int | None, int | None]:
    """From when on, or None for the latest, and before when, or None: as was asked for, and where the cursor goes on."""
    start, end = optional_moment("start", query.start), optional_moment("end", query.end)
    if query.cursor is not None:
        place = decode_cursor("candles", query.cursor)
        if place.startswith("-"):
            return None, parse_id(place[1:])
        start = parse_id(place)
    if start is not None and end is not None and start >= end:
        raise Problem(Reason.INVALID_REQUEST, errors=[FieldError("end", "must be after start")])
    return start, end


def _raise_if_evicted(record: InstrumentRecord, asked_from: int, trimmed_before: int) -> None:
    """Raise Problem where something of the symbol from then on may have been trimmed; of one listed since nothing has (D6)."""
    if max(asked_from, record.listed_at) < trimmed_before:
        raise Problem(Reason.SEQUENCE_EVICTED)


def _candle(candle: CandleRecord) -> CandleView:
    return CandleView(
        open_time=format_time(candle.open_time),
        close_time=format_time(candle.open_time + candle.seconds * MICROSECONDS),
        open=format_number(candle.open),
        high=format_number(candle.high),
        low=format_number(candle.low),
        close=format_number(candle.close),
        volume=candle.volume,
        vwap=_average(candle),
        trades=candle.trades,
    )


def _average(candle: CandleRecord) -> str | None:
    """Value over volume, rounded half-even to 9 decimals (N1)."""
    if not candle.trades:
        return None
    (value, scale_of_value), (volume, scale_of_volume) = _scaled(candle.value), _scaled(candle.volume)
    return ratio_text(value * scale_of_volume, volume * scale_of_value)


def _scaled(text: str) -> tuple[int, int]:
    """An exact decimal text as (mantissa, power of ten below it)."""
    whole, _, fraction = text.partition(".")
    return int(whole + fraction), 10 ** len(fraction)


def _empty(before: CandleRecord, open_time: int) -> CandleRecord:
    """That of an interval in which nothing traded, after another one."""
    close = before.close
    return CandleRecord(before.symbol, before.seconds, open_time, close, close, close, close, "0", "0", 0, before.sequence)


def _snapshot(book: BookSnapshot) -> SnapshotView:
    return SnapshotView(
        snapshot_id=str(book.sequence),
        sequence=book.sequence,
        timestamp=format_time(book.time),
        best_bid=quote_view(book.bids[0][:2] if book.bids else None),
        best_ask=quote_view(book.asks[0][:2] if book.asks else None),
        bid_levels=len(book.bids),
        ask_levels=len(book.asks),
    )
