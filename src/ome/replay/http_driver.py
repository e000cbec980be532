"""Drives a server over HTTP, one request in flight, and outlives the server's being killed and restarted at any moment.

An answer that did not come, or that says that the outcome is unknown, leaves three questions, each with its own way out:

- a submit is sent again with the same client order id: the server answers for the first, if there was one (I1);
- a cancel is followed up by reading the order: CANCELLED means that it took effect, else it is sent again;
- a modify likewise: the wanted price and total mean that it took effect, else it is sent again, for the version just read (A7),
  so that a first one that arrives late after all can't be carried out twice.

Nothing else trades or cancels these orders, and one request is under way at a time, which is what makes these readings certain.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from typing import Final, TypeVar

from msgspec import DecodeError, Struct, field, json

from ome.domain.numbers import format_number, parse
from ome.domain.reasons import Reason
from ome.replay.digest import Book, Level, Resting
from ome.replay.driver import RESTING_USER, TAKING_USER, Entry, Market, Outcome
from ome.replay.errors import ReplayError
from ome.replay.flow import Fill
from ome.replay.http_connection import ConnectionLost, HttpConnection

PATIENCE_SECONDS: Final = 60.0
"""How long a server may be away before the replay is given up."""
FIRST_ANSWER_SECONDS: Final = 3.0
"""How long it may be away before its first answer: most likely nobody has started it."""
FIRST_PAUSE_SECONDS: Final = 0.05
LONGEST_PAUSE_SECONDS: Final = 1.0
DEPTH_LEVELS: Final = 1000
"""Levels asked for on each side; a deeper book can't be digested over HTTP."""

_REFUSALS: Final = frozenset({404, 409, 422})
_UNSETTLED: Final = frozenset({429, 500, 502, 503, 504})
_Shape = TypeVar("_Shape")


class _TradeBody(Struct):
    trade_id: str
    maker_order_id: str
    price: str
    quantity: str


class _OrderBody(Struct):
    order_id: str
    status: str
    price: str
    quantity: str
    filled_quantity: str
    remaining_quantity: str
    version: int
    executed_trades: list[_TradeBody] = field(default_factory=list)


class _TradesBody(Struct):
    trades: list[_TradeBody]


class _ProblemBody(Struct):
    code: str = ""
    detail: str = ""


class _RestingBody(Struct):
    order_id: str
    quantity: str


class _LevelBody(Struct):
    price: str
    queue: list[_RestingBody]


class _DepthBody(Struct):
    bids: list[_LevelBody]
    asks: list[_LevelBody]


class HttpDriver:
    """A `Driver` of a server's REST interface. `run_id` starts every client order id; each replay needs one of its own."""

    def __init__(
        self,
        market: Market,
        url: str,
        *,
        api_key: str | None = None,
        run_id: str | None = None,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._market = market
        self._prices, self._quantities = market.grids()
        self._connection = HttpConnection(url, {} if api_key is None else {"X-API-Key": api_key})
        self._run_id = run_id or secrets.token_hex(6)
        self._patience_seconds = min(FIRST_ANSWER_SECONDS, patience_seconds)
        self._patience_later = patience_seconds
        self._last_trade_id = 0
        self._trouble = ""

    async def open(self) -> None:
        """Set the instrument; see `Driver`."""
        market = self._market
        sizes = {"tick_size": format_number(market.tick_size), "lot_size": format_number(market.lot_size)}
        status, body = await self._settled("PUT", f"/instruments/{market.symbol}", json.encode(sizes))
        self._patience_seconds = self._patience_later
        if status >= 400:
            raise ReplayError(f"{market} can't be listed: {_problem(body)}")
        book = await self.book()
        if book.live_orders:
            raise ReplayError(f"the book of {market.symbol} holds {book.live_orders} orders; replay into another symbol")

    async def submit(self, entry: Entry) -> Outcome:
        """Submit an order, once however often it has to be sent; see `Driver`."""
        order = {
            "user_id": TAKING_USER if entry.taking else RESTING_USER,
            "symbol": self._market.symbol,
            "side": entry.side.name,
            "type": "LIMIT",
            "time_in_force": "IOC" if entry.taking else "GTC",
            "quantity": self._quantity_text(entry.quantity),
            "price": self._price_text(entry.price),
            "client_order_id": f"{self._run_id}-{entry.label}",
        }
        status, body = await self._settled("POST", "/orders", json.encode(order))
        return self._outcome(0, status, body)

    async def modify(self, order_id: int, quantity: int, price: int) -> Outcome:
        """Change an order; see `Driver`."""
        change: dict[str, str | int] = {"quantity": self._quantity_text(quantity), "price": self._price_text(price)}

        def took_effect(order: _OrderBody) -> bool:
            return self._lots(order.quantity) == quantity and self._ticks(order.price) == price

        return await self._change("PUT", order_id, change, took_effect)

    async def cancel(self, order_id: int) -> Outcome:
        """Cancel an order; see `Driver`."""
        return await self._change("DELETE", order_id, None, lambda order: order.status == "CANCELLED")

    async def book(self) -> Book:
        """The whole book, as depth shows it; see `Driver`."""
        status, body = await self._settled("GET", f"/market/{self._market.symbol}/depth?levels={DEPTH_LEVELS}&detail=orders")
        if status != 200:
            raise ReplayError(f"the book of {self._market.symbol} can't be read: {_problem(body)}")
        depth = _read(body, _DepthBody)
        if max(len(depth.bids), len(depth.asks)) >= DEPTH_LEVELS:
            raise ReplayError(f"the book of {self._market.symbol} has {DEPTH_LEVELS} levels or more: too deep to be compared")
        return Book(self._levels(depth.bids), self._levels(depth.asks))

    async def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    async def _change(
        self, method: str, order_id: int, change: dict[str, str | int] | None, took_effect: Callable[[_OrderBody], bool]
    ) -> Outcome:
        """Modify or cancel; where an answer was lost, by what the order then looks like."""
        path = f"/orders/{order_id}"
        body = None if change is None else json.encode(change)
        patience, in_doubt = self._patience(), False
        while True:
            answer = await self._try(method, path, body)
            if answer is not None and not (in_doubt and answer[0] in _REFUSALS):
                return self._outcome(order_id, *answer)
            # No answer, or a refusal that an attempt before this one may be the cause of: the order itself tells.
            in_doubt = True
            order = await self._order(order_id)
            if order is None:
                return Outcome(order_id, refused=Reason.ORDER_NOT_FOUND.code)
            if took_effect(order):
                return Outcome(order_id, self._lots(order.remaining_quantity), await self._unseen_fills(order_id))
            if answer is not None and _read(answer[1], _ProblemBody).code != Reason.VERSION_CONFLICT.code:
                return self._outcome(order_id, *answer)
            if change is not None:
                body = json.encode({**change, "expected_version": order.version})
            await patience.pause(self._trouble)

    async def _order(self, order_id: int) -> _OrderBody | None:
        status, body = await self._settled("GET", f"/orders/{order_id}")
        return None if status == 404 else _read(body, _OrderBody)

    async def _unseen_fills(self, order_id: int) -> tuple[Fill, ...]:
        """The fills that a lost answer would have told of. Every trade is made by this driver's calls, one at a time."""
        status, body = await self._settled("GET", f"/trades?order_id={order_id}&limit=1000")
        if status != 200:
            raise ReplayError(f"the trades of order {order_id} can't be read: {_problem(body)}")
        newest_first = _read(body, _TradesBody).trades
        return self._fills([trade for trade in reversed(newest_first) if int(trade.trade_id) > self._last_trade_id])

    async def _settled(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Send a request that may be sent any number of times, until there is an answer to it."""
        patience = self._patience()
        while True:
            answer = await self._try(method, path, body)
            if answer is not None:
                return answer
            await patience.pause(self._trouble)

    async def _try(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes] | None:
        """An answer that settles what happened, or None; then `_trouble` says why."""
        try:
            status, answer = await self._connection.request(method, path, body)
        except ConnectionLost as error:
            self._trouble = str(error)
            return None
        if status in _UNSETTLED:
            self._trouble = f"{method} {path}: {status} {_problem(answer)}"
            return None
        if status >= 400 and status not in _REFUSALS:
            raise ReplayError(f"{method} {path} is answered {status}: {_problem(answer)}")
        return status, answer

    def _patience(self) -> _Patience:
        return _Patience(self._patience_seconds)

    def _outcome(self, order_id: int, status: int, body: bytes) -> Outcome:
        if status in _REFUSALS:
            return Outcome(order_id, refused=_read(body, _ProblemBody).code or str(status))
        order = _read(body, _OrderBody)
        return Outcome(int(order.order_id), self._lots(order.remaining_quantity), self._fills(order.executed_trades))

    def _fills(self, trades: list[_TradeBody]) -> tuple[Fill, ...]:
        if not trades:
            return ()
        self._last_trade_id = max(self._last_trade_id, int(trades[-1].trade_id))
        return tuple(Fill(int(trade.maker_order_id), self._ticks(trade.price), self._lots(trade.quantity)) for trade in trades)

    def _levels(self, levels: list[_LevelBody]) -> list[Level]:
        return [
            Level(self._ticks(level.price), [Resting(int(order.order_id), self._lots(order.quantity)) for order in level.queue])
            for level in levels
        ]

    def _price_text(self, ticks: int) -> str:
        return format_number(self._prices.number(ticks))

    def _quantity_text(self, lots: int) -> str:
        return format_number(self._quantities.number(lots))

    def _ticks(self, price: str) -> int:
        return self._prices.steps(parse(price))

    def _lots(self, quantity: str) -> int:
        return self._quantities.steps(parse(quantity))


class _Patience:
    """Growing pauses between attempts, until a deadline."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds
        self._pause_seconds = FIRST_PAUSE_SECONDS

    async def pause(self, trouble: str) -> None:
        """Wait before the next attempt. ReplayError, with the last trouble, when the time is over."""
        if time.monotonic() > self._deadline:
            raise ReplayError(f"given up after {self._seconds:g} s without an answer that settles it: {trouble}")
        await asyncio.sleep(self._pause_seconds)
        self._pause_seconds = min(self._pause_seconds * 2, LONGEST_PAUSE_SECONDS)


def _read(body: bytes, shape: type[_Shape]) -> _Shape:
    try:
        return json.decode(body, type=shape)
    except DecodeError as error:
        raise ReplayError(f"the server answers {body[:200]!r}, which can't be read: {error}") from error


def _problem(body: bytes) -> str:
    """What a problem's body says, or the start of a body that is none."""
    try:
        problem = json.decode(body, type=_ProblemBody)
    except DecodeError:
        return repr(body[:200])
    return f"{problem.code}: {problem.detail}"
