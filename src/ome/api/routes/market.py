"""Market data and instruments: public, answered from views that advance after the commit (D3)."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from typing import Final, Protocol, TypeVar

from fastapi import FastAPI, Request, Response
from msgspec import structs

from ome.api.bodies import read_json, while_there
from ome.api.decoding import read_instrument
from ome.api.openapi import INSTRUMENT_EXAMPLES, answers, body, declare
from ome.api.paging import decode_cursor, encode_cursor
from ome.api.problems import FieldError, Problem
from ome.api.routes.queries import DepthParameters, DepthQuery, NoParameters, PageParameters, PageQuery, SymbolPath, moment
from ome.api.schemas import (
    SYMBOL,
    SYMBOL_WORDS,
    AuctionView,
    DepthView,
    InstrumentList,
    InstrumentRequest,
    InstrumentView,
    MarketList,
    MarketView,
)
from ome.api.services import JsonAnswer, Services, headers_of
from ome.api.views import auction_view, depth_view, instrument_changed, instrument_view, market_view, queue_view
from ome.domain.access import Access
from ome.domain.ports import Depth
from ome.domain.reasons import Reason
from ome.domain.records import InstrumentRecord

_SYMBOL: Final = re.compile(SYMBOL, re.ASCII)


class HasSymbol(Protocol):
    """Whatever a list by symbol holds."""

    @property
    def symbol(self) -> str:
        """What the list is ordered by."""


Item = TypeVar("Item", bound=HasSymbol)


class MarketRoutes:
    """Each takes a symbol in any case; one that isn't listed is 404 and reading lists nothing."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._market = services.market

    def add_to(self, app: FastAPI) -> None:
        """Declare the routes."""
        tag, public, queues = "Market data", Access.PUBLIC, {"detail=orders": Access.OPERATOR}
        declare(app, "GET", "/market", self.list_markets, tag, answers(MarketList), access=public)
        declare(app, "GET", "/market/{symbol}", self.read_market, tag, answers(MarketView), access=public)
        declare(app, "GET", "/market/{symbol}/depth", self.read_depth, tag, answers(DepthView), access=public, raised=queues)
        declare(app, "GET", "/market/{symbol}/auction", self.read_auction, tag, answers(AuctionView), access=public)
        tag, path = "Instruments", "/instruments/{symbol}"
        declare(app, "GET", "/instruments", self.list_instruments, tag, answers(InstrumentList), access=public)
        declare(app, "GET", path, self.read_instrument, tag, answers(InstrumentView), access=public)
        extra = body(InstrumentRequest, INSTRUMENT_EXAMPLES)
        shape = answers(InstrumentView, 200, 201)
        declare(app, "PUT", path, self.define_instrument, tag, shape, access=Access.OPERATOR, openapi_extra=extra)

    async def list_markets(self, query: PageParameters) -> Response:
        """Every symbol at a glance, by name."""
        records, next_cursor = _page("markets", self._market.instruments(), query)
        tickers = [self._market.ticker(record.symbol) for record in records]
        markets = [market_view(ticker) for ticker in tickers if ticker is not None]
        return JsonAnswer(MarketList(markets=markets, count=len(markets), next_cursor=next_cursor))

    async def read_market(self, symbol: SymbolPath, query: NoParameters) -> Response:  # noqa: ARG002  read to refuse others
        """A symbol at a glance: best prices, last trade, 24 hours."""
        ticker = self._market.ticker(folded(symbol))
        if ticker is None:
            raise Problem(Reason.SYMBOL_NOT_FOUND)
        return JsonAnswer(market_view(ticker))

    async def read_depth(self, symbol: SymbolPath, query: DepthParameters, request: Request) -> Response:
        """A book's best levels, now or as they were; with detail=orders, the queue of each.

        A book of the past is rebuilt, which may take seconds, one at a time: where too many are asked for, 503 `overloaded`.
        """
        symbol = folded(symbol)
        if query.as_of is not None or query.as_of_sequence is not None:
            self._listed(symbol)
            return JsonAnswer(depth_view(await while_there(request.receive, self._past_depth(symbol, query))))
        if query.detail == "orders":
            return await self._queues(self._listed(symbol), query)
        depth = self._market.depth(symbol, query.levels)
        if depth is None:
            raise Problem(Reason.SYMBOL_NOT_FOUND)
        return JsonAnswer(depth_view(depth))

    async def _past_depth(self, symbol: str, query: DepthQuery) -> Depth:
        """The best levels as they were."""
        if query.detail == "orders" or (query.as_of is not None and query.as_of_sequence is not None):
            what = "can't be read with detail=orders" if query.detail == "orders" else "goes without as_of"
            raise Problem(Reason.INVALID_REQUEST, errors=[FieldError("as_of_sequence", what)])
        past = self._services.past
        if query.as_of_sequence is not None:
            depth: Depth | None = await past.depth_at_sequence(symbol, query.as_of_sequence)
        else:
            depth = await past.depth_at_time(symbol, moment("as_of", query.as_of or ""))
        if depth is None:
            raise Problem(Reason.SYMBOL_NOT_FOUND, f"{symbol} was not listed yet then.")
        return structs.replace(depth, bids=depth.bids[: query.levels], asks=depth.asks[: query.levels])

    async def read_auction(self, symbol: SymbolPath, query: NoParameters) -> Response:  # noqa: ARG002  read to refuse others
        """What the running auction would give now; 409 while the symbol is in no auction."""
        symbol = folded(symbol)
        auction = self._market.auction(symbol)
        if auction is None:
            self._listed(symbol)
            raise Problem(Reason.NOT_IN_AUCTION)
        return JsonAnswer(auction_view(auction))

    async def _queues(self, record: InstrumentRecord, query: DepthQuery) -> Response:
        """Sequence and orders are of one moment of the database; the time is that of plain depth at this sequence."""
        sequence, orders = await self._services.reads.open_orders(record.symbol, query.levels)
        depth = self._market.depth(record.symbol, query.levels)
        if depth is not None and depth.sequence == sequence:
            changed = depth.time
        else:  # the database and the view are a batch apart: what its orders tell
            changed = max((order.updated_at for order in orders), default=record.last_trade_at or record.listed_at)
        return JsonAnswer(queue_view(record.symbol, sequence, changed, orders, query.levels))

    async def list_instruments(self, query: PageParameters) -> Response:
        """Every listed symbol and what it trades in, by name."""
        records, next_cursor = _page("instruments", self._market.instruments(), query)
        views = [instrument_view(record) for record in records]
        return JsonAnswer(InstrumentList(instruments=views, count=len(views), next_cursor=next_cursor))

    async def read_instrument(self, symbol: SymbolPath, query: NoParameters) -> Response:  # noqa: ARG002  read to refuse others
        """What a symbol trades in."""
        return JsonAnswer(instrument_view(self._listed(folded(symbol))))

    async def define_instrument(self, symbol: SymbolPath, query: NoParameters, request: Request) -> Response:  # noqa: ARG002
        """List a symbol (201), or change a listed one (200).

        Tick and lot can change only while it has no open orders. A maximum or a band of 0 takes it away. Leaving the state
        AUCTION trades at the auction's price first.
        """
        headers = headers_of(request)
        if _SYMBOL.fullmatch(symbol) is None:
            raise Problem(Reason.INVALID_REQUEST, errors=[FieldError("symbol", SYMBOL_WORDS)])
        symbol = symbol.upper()
        definition = read_instrument(await read_json(headers, request.receive, self._services.settings.max_body_bytes), symbol)
        existed = self._market.instrument(symbol) is not None
        record = instrument_changed(await self._services.entry.define_instrument(definition), symbol) or self._listed(symbol)
        return JsonAnswer(instrument_view(record), 200 if existed else 201)

    def _listed(self, symbol: str) -> InstrumentRecord:
        record = self._market.instrument(symbol)
        if record is None:
            raise Problem(Reason.SYMBOL_NOT_FOUND)
        return record


def folded(symbol: str) -> str:
    """The symbol in upper case; raises Problem for what can't be one, and so isn't listed."""
    if _SYMBOL.fullmatch(symbol) is None:
        raise Problem(Reason.SYMBOL_NOT_FOUND)
    return symbol.upper()


def _page(kind: str, items: Sequence[Item], query: PageQuery) -> tuple[Sequence[Item], str | None]:
    """The part of a list by symbol that comes after the cursor, and where it goes on."""
    start = 0
    if query.cursor is not None:
        start = bisect_right(items, decode_cursor(kind, query.cursor), key=lambda item: item.symbol)
    page = items[start : start + query.limit]
    more = start + query.limit < len(items)
    return page, encode_cursor(kind, page[-1].symbol) if more else None
