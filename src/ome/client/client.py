"""The client for asyncio: every call as a method, with typed answers.

A submit always carries a client_order_id, so that it is sent again, after whatever went wrong, until it has its one true answer.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, Self, Unpack
from urllib.parse import quote
from uuid import uuid4

import httpx
from msgspec import structs

from ome.client.book import Book
from ome.client.models import (
    Auction,
    BatchAnswer,
    CandleList,
    Change,
    ChannelName,
    Depth,
    Explanation,
    History,
    InstrumentList,
    IntervalName,
    Market,
    MarketList,
    MassCancel,
    Message,
    NewOrder,
    Operation,
    OperationResult,
    Order,
    OrderEvent,
    OrderEventList,
    OrderList,
    SideName,
    SnapshotList,
    TradeList,
)
from ome.client.streams import Connector, order_events, stream
from ome.client.transport import Answer, Transport

DEADLINE_SECONDS: Final = 30.0
_HISTORY_AT_ONCE: Final = 1_000
_ENDED: Final = "order_not_open"
_MAY_HAVE_BEEN_US: Final = frozenset({_ENDED, "version_conflict"})


class Client:
    """A service at a URL, as `http://127.0.0.1:5000`; use it with `async with`, on one event loop.

    `deadline_seconds` is how long a call may go on trying. Every method raises Refused (a definite no), Unavailable (not done,
    nobody was ready), and, where it changes something, Unknown (no answer tells).
    """

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        *,
        deadline_seconds: float = DEADLINE_SECONDS,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._transport = Transport(url, api_key, deadline_seconds, transport)
        self._connector = Connector(url, api_key)
        self._deadline_seconds = deadline_seconds

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection; streams end."""
        await self._connector.close()
        await self._transport.close()

    # Orders

    async def submit(self, *, dry_run: bool = False, **order: Unpack[NewOrder]) -> Order:
        """Submit an order: the order with the trades that it made. `dry_run` only tells what would happen."""
        named = _named(order)
        client_order_id: str = named["client_order_id"]
        answer = await self._transport.send(
            "POST", "/orders", body=named, parameters={"dry_run": dry_run or None}, client_order_id=client_order_id
        )
        return answer.read(Order, client_order_id)

    async def modify(self, order_id: str, *, dry_run: bool = False, **change: Unpack[Change]) -> Order:
        """Change an open order. With `expected_version` it is sent again after whatever went wrong; without, what may have been
        done already isn't repeated (Unknown): somebody may have changed the order since.
        """
        answer = await self._transport.send(
            "PUT",
            f"/orders/{quote(order_id, safe='')}",
            body=change,
            parameters={"dry_run": dry_run or None},
            repeatable=dry_run or change.get("expected_version") is not None,
        )
        if _was_perhaps_us(answer) and not dry_run and change.get("expected_version") is not None:
            modified = await self._modified(order_id, change)
            if modified is not None:
                return modified
        return answer.read(Order)

    async def cancel(self, order_id: str) -> Order:
        """Cancel what is left of an open order."""
        answer = await self._transport.send("DELETE", f"/orders/{quote(order_id, safe='')}")
        if _was_perhaps_us(answer):
            cancelled = await self._cancelled(order_id)
            if cancelled is not None:
                return cancelled
        return answer.read(Order)

    async def cancel_all(
        self, *, user_id: str | None = None, symbol: str | None = None, side: SideName | None = None
    ) -> MassCancel:
        """Cancel all open orders of a user, of a symbol, or of a user in a symbol."""
        answer = await self._transport.send("DELETE", "/orders", parameters={"user_id": user_id, "symbol": symbol, "side": side})
        return structs.replace(answer.read(MassCancel), is_complete=not answer.was_unclear)

    async def batch(self, operations: Sequence[Operation], *, dry_run: bool = False) -> BatchAnswer:
        """Carry out up to 1000 operations in their order; one that is refused doesn't stop the rest. A batch with a modify isn't
        repeated where it may have been carried out already (Unknown).
        """
        named = [dict(each) if each.get("op", "submit") != "submit" else _named(each) for each in operations]
        answer = await self._transport.send(
            "POST",
            "/orders/batch",
            body={"orders": named},
            parameters={"dry_run": dry_run or None},
            repeatable=dry_run or all(each.get("op") != "modify" for each in named),
        )
        done = answer.read(BatchAnswer)
        if not answer.was_unclear:
            return done
        settled = [await self._settled(each, result) for each, result in zip(named, done.results, strict=True)]
        return structs.replace(done, results=settled)

    async def order(self, order_id: str) -> Order:
        """An order as it stands."""
        return await self._transport.ask(Order, f"/orders/{quote(order_id, safe='')}")

    async def orders(
        self,
        user_id: str | None = None,
        *,
        client_order_id: str | None = None,
        symbol: str | None = None,
        status: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> OrderList:
        """A user's orders, or the key's own, newest first; `status` is one, or several with commas. With `client_order_id`: those
        with this id; an order that isn't there and whose request was taken before `watermark` never will be.
        """
        page = {"symbol": symbol, "limit": limit, "cursor": cursor}
        if client_order_id is not None or user_id is None:
            if status is not None:
                raise ValueError("ask by status with a user_id, and without a client_order_id")
            return await self._transport.ask(OrderList, "/orders", user_id=user_id, client_order_id=client_order_id, **page)
        return await self._transport.ask(OrderList, f"/orders/user/{quote(user_id, safe='')}", status=status, **page)

    async def history(self, order_id: str) -> History:
        """Every version and event of an order, however many pages they take."""
        path, limit = f"/orders/{quote(order_id, safe='')}/history", _HISTORY_AT_ONCE
        history = part = await self._transport.ask(History, path, limit=limit)
        while part.next_cursor is not None:
            part = await self._transport.ask(History, path, limit=limit, cursor=part.next_cursor)
            history.versions.extend(part.versions)
            history.events.extend(part.events)
        return structs.replace(history, next_cursor=None)

    async def events(self, user_id: str, *, limit: int | None = None, cursor: str | None = None) -> OrderEventList:
        """A user's own events that there are, oldest first; cursors are those of `order_events`, which waits for more."""
        return await self._transport.ask(
            OrderEventList, f"/orders/user/{quote(user_id, safe='')}/events", limit=limit, cursor=cursor
        )

    async def explain(self, order_id: str) -> Explanation:
        """Where an order stands, and why."""
        return await self._transport.ask(Explanation, f"/orders/{quote(order_id, safe='')}/explain")

    async def trades(
        self,
        *,
        symbol: str | None = None,
        user_id: str | None = None,
        order_id: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> TradeList:
        """Trades, newest first."""
        return await self._transport.ask(
            TradeList, "/trades", symbol=symbol, user_id=user_id, order_id=order_id, limit=limit, cursor=cursor
        )

    # Market data

    async def market(self, symbol: str) -> Market:
        """A symbol at a glance."""
        return await self._transport.ask(Market, _market(symbol))

    async def markets(self, *, limit: int | None = None, cursor: str | None = None) -> MarketList:
        """Every symbol at a glance, by name."""
        return await self._transport.ask(MarketList, "/market", limit=limit, cursor=cursor)

    async def depth(
        self,
        symbol: str,
        *,
        levels: int | None = None,
        detail: str | None = None,
        as_of_sequence: int | None = None,
        as_of: datetime | str | None = None,
    ) -> Depth:
        """A book's best levels, as they are or as they were; `detail="orders"` has each level's queue (operator)."""
        return await self._transport.ask(
            Depth, f"{_market(symbol)}/depth", levels=levels, detail=detail, as_of_sequence=as_of_sequence, as_of=as_of
        )

    async def candles(
        self,
        symbol: str,
        interval: IntervalName = "1m",
        *,
        start: datetime | str | None = None,
        end: datetime | str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        empty: bool = False,
    ) -> CandleList:
        """Candles, oldest first, that open from `start` on and before `end`; without `start` the latest. `empty`: those of
        intervals in which nothing traded too.
        """
        page = {"limit": limit, "cursor": cursor, "empty": empty or None}
        return await self._transport.ask(
            CandleList, f"{_market(symbol)}/candles", interval=interval, start=start, end=end, **page
        )

    async def auction(self, symbol: str) -> Auction:
        """What the running auction would give now; refused as `not_in_auction` where there is none."""
        return await self._transport.ask(Auction, f"{_market(symbol)}/auction")

    async def snapshots(self, symbol: str, *, limit: int | None = None, cursor: str | None = None) -> SnapshotList:
        """Stored snapshots of a book, newest first."""
        return await self._transport.ask(SnapshotList, f"{_market(symbol)}/snapshots", limit=limit, cursor=cursor)

    async def snapshot(self, symbol: str, snapshot_id: str) -> Depth:
        """A stored snapshot of a book in full."""
        return await self._transport.ask(Depth, f"{_market(symbol)}/snapshots/{quote(snapshot_id, safe='')}")

    async def instruments(self, *, limit: int | None = None, cursor: str | None = None) -> InstrumentList:
        """Every listed symbol, by name."""
        return await self._transport.ask(InstrumentList, "/instruments", limit=limit, cursor=cursor)

    # Streams

    def stream(
        self,
        channel: ChannelName,
        symbol: str,
        *,
        interval: IntervalName | None = None,
        after_sequence: int | None = None,
    ) -> AsyncGenerator[Message]:
        """A channel's messages, over a connection of its own that is made again whenever it breaks.

        Depth, ticker and candles start anew with a snapshot then; trades go on without a gap, from now on or behind
        `after_sequence`, 0 for the first of all; only where the service has another history than before, its database having
        been restored, they start anew too. Raises Refused, as for a symbol that isn't listed.
        """
        if after_sequence is not None and channel != "trades":
            raise ValueError("after_sequence is for the channel trades; the others start with a snapshot")
        return stream(self._connector, self.trades, channel, symbol.upper(), interval, after_sequence)

    def order_events(self, user_id: str | None = None, *, cursor: str | None = None) -> AsyncGenerator[OrderEvent]:
        """The events of a user, or of the key's own, each once and none left out, across broken connections and restarts: from
        now on, behind a `cursor`, or all of them from "start".
        """
        return order_events(self._connector, user_id, cursor)

    def book(self, symbol: str) -> Book:
        """A symbol's book, followed for as long as `async with` lasts."""
        return Book(self._connector, symbol.upper(), self._deadline_seconds)

    # What became of what got no answer

    async def _cancelled(self, order_id: str) -> Order | None:
        """The order, where it was cancelled on request: by the attempt that got no answer, or by somebody as well."""
        order = await self.order(order_id)
        return order if (order.status, order.reason) == ("CANCELLED", "cancelled_by_user") else None

    async def _modified(self, order_id: str, change: Change) -> Order | None:
        """The order, where its next version is as was asked: made by the attempt that got no answer, with the trades it made."""
        history = await self.history(order_id)
        made = next((each for each in history.versions if each.version == change["expected_version"] + 1), None)
        if made is None or not _is_as_asked(made, change):
            return None
        trades = [
            event.trade
            for event in history.events
            if event.position == made.position and event.role == "TAKER" and event.trade is not None
        ]
        return structs.replace(await self.order(order_id), executed_trades=trades)

    async def _settled(self, operation: Mapping[str, Any], result: OperationResult) -> OperationResult:
        """The result of a batch's operation, when the batch was sent again."""
        problem = result.problem
        if operation.get("op") != "cancel" or problem is None or problem.code != _ENDED:
            return result
        order = await self._cancelled(operation["order_id"])
        return result if order is None else OperationResult(status=200, order=order)


def _named(order: Mapping[str, Any]) -> dict[str, Any]:
    """An order that can be sent again: with a client_order_id."""
    return {**order, "client_order_id": order.get("client_order_id") or uuid4().hex}


def _market(symbol: str) -> str:
    return f"/market/{quote(symbol, safe='')}"


def _was_perhaps_us(answer: Answer) -> bool:
    """Whether a refusal may come from what an attempt before, that got no answer, has done."""
    return answer.was_unclear and answer.problem is not None and answer.problem.code in _MAY_HAVE_BEEN_US


def _is_as_asked(order: Order, change: Change) -> bool:
    asked = {name: value for name, value in change.items() if name not in {"expected_version", "valid_for_ms"}}
    return all(_same(getattr(order, name), value) for name, value in asked.items())


def _same(stands: Decimal | datetime | None, asked: Any) -> bool:
    if isinstance(stands, datetime):
        return stands == (asked if isinstance(asked, datetime) else datetime.fromisoformat(asked))
    return stands == Decimal(str(asked))
