"""What streams say, as Structs, and how it is put into bytes: once for everybody who hears it.

A WebSocket gets each message as one unmasked text frame; a server-sent event has the same JSON in its `data`. Every message of
a channel has `channel` and `type`; prices and quantities are strings, as everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final
from zlib import crc32

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType
from websockets.frames import Frame, Opcode

from ome.api.past_schemas import CandleView
from ome.api.problems import Problem, ProblemDocument
from ome.api.schemas import LevelView, OperationResult, OrderAnswer, OrderView, QuoteView, TradeView
from ome.api.views import trade_view
from ome.domain.clock import format_time
from ome.domain.enums import MarketState, Side
from ome.domain.events import BookChanged
from ome.domain.numbers import format_number, unpack
from ome.domain.ports import Auction, Candle, Depth, Quote
from ome.domain.records import TradeRecord

CHECKSUM_LEVELS: Final = 10
"""Best levels of each side that a checksum covers."""
ALL_LEVELS: Final = 2**62
_encoder: Final = msgspec.json.Encoder()
_STATES: Final = tuple(state.name for state in MarketState)
_SIDES: Final = tuple(side.name for side in Side)


class _Sequenced(Struct, frozen=True, kw_only=True, gc=False):
    """What every message of a public channel has: `previous_sequence` is that of the message before it, null in a snapshot."""

    channel: str
    type: str
    symbol: str
    sequence: int
    previous_sequence: int | None


class DepthMessage(_Sequenced, frozen=True, kw_only=True, gc=False):
    """Levels as they are now: all of them in a snapshot, those that changed in an update; quantity "0" is gone."""

    timestamp: str
    bids: list[LevelView] | Raw
    asks: list[LevelView] | Raw
    checksum: int


class TradeMessage(_Sequenced, frozen=True, kw_only=True, gc=False):
    """A trade, as GET /trades shows it."""

    trade: TradeView


class AuctionPrices(Struct, frozen=True, kw_only=True, gc=False):
    """What a running auction would give now, as GET /market/{symbol}/auction shows it."""

    indicative_price: str | None
    indicative_volume: str
    imbalance: str
    imbalance_side: str | None


class TickerMessage(_Sequenced, frozen=True, kw_only=True, gc=False):
    """Best prices and the last trade; `auction` while the symbol is in one."""

    timestamp: str
    state: str
    best_bid: QuoteView | None
    best_ask: QuoteView | None
    last_price: str | None
    last_quantity: str | None
    auction: AuctionPrices | UnsetType = UNSET


class CandleMessage(_Sequenced, frozen=True, kw_only=True, gc=False):
    """The running candle of an interval; null in a snapshot before the first trade."""

    interval: str
    candle: CandleView | None


class Subscription(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is heard."""

    channel: str
    symbol: str | UnsetType = UNSET
    interval: str | UnsetType = UNSET
    user_id: str | UnsetType = UNSET


class Reply(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The answer to a message with an `op`: its `id`, the status that HTTP would have, and what belongs to it. It has no
    `channel` of its own: a message that has one is from a channel.
    """

    id: Raw | UnsetType = UNSET
    status: int
    retry_after_seconds: int | UnsetType = UNSET
    type: str | UnsetType = UNSET
    subscription: Subscription | UnsetType = UNSET
    sequence: int | UnsetType = UNSET
    cursor: str | UnsetType = UNSET
    epoch: int | UnsetType = UNSET
    incarnation: str | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET
    timestamp: str | UnsetType = UNSET
    order: OrderAnswer | OrderView | UnsetType = UNSET
    results: list[OperationResult] | UnsetType = UNSET
    dry_run: bool | UnsetType = UNSET
    problem: ProblemDocument | UnsetType = UNSET


def retry_after(problem: Problem) -> int | UnsetType:
    """The seconds that HTTP has in the header Retry-After: with 429 and 503."""
    seconds = dict(problem.headers).get(b"retry-after")
    return UNSET if seconds is None else int(seconds)


def encode(message: Any) -> bytes:
    """A message's JSON."""
    return _encoder.encode(message)


def as_frame(payload: bytes) -> bytes:
    """JSON as one unmasked text frame (RFC 6455)."""
    return Frame(Opcode.TEXT, payload).serialize(mask=False)


def as_event(payload: bytes, name: bytes, event_id: str | None) -> bytes:
    """JSON as one server-sent event; without an id it can't be resumed from."""
    place = "" if event_id is None else f"id: {event_id}\n"
    return b"event: %b\n%bdata: %b\n\n" % (name, place.encode(), payload)


def notice(kind: str, moment_us: int, **more: Any) -> bytes:
    """A message about the connection itself: heartbeat, shutdown."""
    return as_frame(encode({"type": kind, "timestamp": format_time(moment_us), **more}))


def checksum(depth: Depth) -> int:
    """CRC-32 (zlib's) of `price:quantity;` of the best ten bids, best first, then of the best ten asks, as texts of messages."""
    levels = (*depth.bids[:CHECKSUM_LEVELS], *depth.asks[:CHECKSUM_LEVELS])
    return crc32("".join([f"{format_number(price)}:{format_number(quantity)};" for price, quantity, _ in levels]).encode())


def levels_in_json(levels: Iterable[tuple[int, int, int]]) -> bytes:
    """Levels as they stand in a JSON list, without its brackets."""
    return encode(_levels(levels))[1:-1]


def list_in_json(pieces: Iterable[bytes]) -> Raw:
    """The JSON list that pieces of `levels_in_json` make."""
    return Raw(b"[%b]" % b",".join(pieces))


def depth_snapshot(depth: Depth, bids: Raw, asks: Raw) -> DepthMessage:
    """Every level of a book; `bids` and `asks` are its levels in JSON."""
    return DepthMessage(
        channel="depth",
        type="snapshot",
        symbol=depth.symbol,
        sequence=depth.sequence,
        previous_sequence=None,
        timestamp=format_time(depth.time),
        bids=bids,
        asks=asks,
        checksum=checksum(depth),
    )


def depth_update(change: BookChanged, previous_sequence: int, top: Depth) -> DepthMessage:
    """The levels that a command changed; `top` are the best levels right after."""
    sides: tuple[list[LevelView], list[LevelView]] = ([], [])
    for side, price, quantity, orders in change.levels:
        text = format_number(quantity) if unpack(quantity)[0] else "0"
        sides[side].append(LevelView(price=format_number(price), quantity=text, orders=orders))
    return DepthMessage(
        channel="depth",
        type="update",
        symbol=change.symbol,
        sequence=change.sequence,
        previous_sequence=previous_sequence,
        timestamp=format_time(change.time),
        bids=sides[Side.BUY],
        asks=sides[Side.SELL],
        checksum=checksum(top),
    )


def trade_update(trade: TradeRecord, previous_sequence: int) -> TradeMessage:
    """A trade."""
    return TradeMessage(
        channel="trades",
        type="update",
        symbol=trade.symbol,
        sequence=trade.sequence,
        previous_sequence=previous_sequence,
        trade=trade_view(trade),
    )


def ticker_message(quote: Quote, previous_sequence: int | None) -> TickerMessage:
    """A symbol's ticker: an update, or without a previous sequence a snapshot."""
    return TickerMessage(
        channel="ticker",
        type="snapshot" if previous_sequence is None else "update",
        symbol=quote.symbol,
        sequence=quote.sequence,
        previous_sequence=previous_sequence,
        timestamp=format_time(quote.time),
        state=_STATES[quote.state],
        best_bid=_quote(quote.best_bid),
        best_ask=_quote(quote.best_ask),
        last_price=_optional(quote.last_price),
        last_quantity=_optional(quote.last_quantity),
        auction=UNSET if quote.auction is None else _auction(quote.auction),
    )


def candle_message(
    symbol: str, interval: str, candle: Candle | None, sequence: int, previous_sequence: int | None
) -> CandleMessage:
    """A running candle: an update, or without a previous sequence a snapshot."""
    return CandleMessage(
        channel="candles",
        type="snapshot" if previous_sequence is None else "update",
        symbol=symbol,
        sequence=sequence,
        previous_sequence=previous_sequence,
        interval=interval,
        candle=None if candle is None else candle_view(candle),
    )


def candle_view(candle: Candle) -> CandleView:
    """A candle's figures."""
    return CandleView(
        open_time=format_time(candle.open_time),
        close_time=format_time(candle.close_time),
        open=format_number(candle.open),
        high=format_number(candle.high),
        low=format_number(candle.low),
        close=format_number(candle.close),
        volume=format_number(candle.volume),
        vwap=candle.vwap,
        trades=candle.trades,
    )


def _levels(levels: Iterable[tuple[int, int, int]]) -> list[LevelView]:
    return [
        LevelView(price=format_number(price), quantity=format_number(quantity), orders=orders)
        for price, quantity, orders in levels
    ]


def _quote(quote: tuple[int, int] | None) -> QuoteView | None:
    return None if quote is None else QuoteView(price=format_number(quote[0]), quantity=format_number(quote[1]))


def _auction(auction: Auction) -> AuctionPrices:
    return AuctionPrices(
        indicative_price=_optional(auction.price),
        indicative_volume=format_number(auction.volume),
        imbalance=format_number(auction.imbalance),
        imbalance_side=None if auction.surplus_side is None else _SIDES[auction.surplus_side],
    )


def _optional(number: int | None) -> str | None:
    return None if number is None else format_number(number)
