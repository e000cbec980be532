"""The client for code without asyncio: the same methods, each of which waits for its answer.

One thread runs one event loop with the asyncio client in it; any number of threads may call.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from functools import update_wrapper
from typing import Any, Concatenate, Final, ParamSpec, Self, TypeVar

from ome.client.book import Book
from ome.client.client import DEADLINE_SECONDS, Client
from ome.client.models import ChannelName, IntervalName, Level, Message, OrderEvent

P = ParamSpec("P")
T = TypeVar("T")
_END: Final = object()


def _waiting(
    method: Callable[Concatenate[Client, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[BlockingClient, P], T]:
    def call(self: BlockingClient, /, *arguments: P.args, **named: P.kwargs) -> T:
        return self.wait(method(self.client, *arguments, **named))

    update_wrapper(call, method)
    return call


class BlockingClient:
    """See `Client`; use it with `with`, or call `close`."""

    def __init__(self, url: str, api_key: str | None = None, *, deadline_seconds: float = DEADLINE_SECONDS) -> None:
        self.client = Client(url, api_key, deadline_seconds=deadline_seconds)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="ome client", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection and end the thread; streams end."""
        if self._loop.is_closed():
            return
        self.wait(self._finish())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _finish(self) -> None:
        await self.client.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._loop.shutdown_asyncgens()

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """What a coroutine gives, carried out in the client's thread."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # an interrupt from the keyboard ends the call too
            raise

    submit = _waiting(Client.submit)
    modify = _waiting(Client.modify)
    cancel = _waiting(Client.cancel)
    cancel_all = _waiting(Client.cancel_all)
    batch = _waiting(Client.batch)
    order = _waiting(Client.order)
    orders = _waiting(Client.orders)
    history = _waiting(Client.history)
    events = _waiting(Client.events)
    explain = _waiting(Client.explain)
    trades = _waiting(Client.trades)
    market = _waiting(Client.market)
    markets = _waiting(Client.markets)
    depth = _waiting(Client.depth)
    candles = _waiting(Client.candles)
    auction = _waiting(Client.auction)
    snapshots = _waiting(Client.snapshots)
    snapshot = _waiting(Client.snapshot)
    instruments = _waiting(Client.instruments)

    def stream(
        self,
        channel: ChannelName,
        symbol: str,
        *,
        interval: IntervalName | None = None,
        after_sequence: int | None = None,
    ) -> Iterator[Message]:
        """See `Client.stream`."""
        return self._each(self.client.stream(channel, symbol, interval=interval, after_sequence=after_sequence))

    def order_events(self, user_id: str | None = None, *, cursor: str | None = None) -> Iterator[OrderEvent]:
        """See `Client.order_events`."""
        return self._each(self.client.order_events(user_id, cursor=cursor))

    def book(self, symbol: str) -> BlockingBook:
        """See `Client.book`."""
        return BlockingBook(self, symbol)

    def _each(self, source: AsyncGenerator[T]) -> Iterator[T]:
        async def following() -> Any:
            return await anext(source, _END)

        try:
            while (item := self.wait(following())) is not _END:
                yield item
        finally:
            if not self._loop.is_closed():
                self.wait(source.aclose())


class BlockingBook:
    """See `Book`. Each question is answered in the client's thread, as of one moment."""

    def __init__(self, client: BlockingClient, symbol: str) -> None:
        self._client = client
        self._symbol = symbol
        self._book: Book | None = None

    def __enter__(self) -> Self:
        self._client.wait(self._open())
        return self

    def __exit__(self, *_: object) -> None:
        self._client.wait(self._followed.close())

    async def _open(self) -> None:
        self._book = await self._client.client.book(self._symbol).__aenter__()

    @property
    def _followed(self) -> Book:
        if self._book is None:
            raise RuntimeError("use the book with `with`")
        return self._book

    def _ask(self, question: Callable[[Book], T]) -> T:
        async def answer() -> T:
            return question(self._followed)

        return self._client.wait(answer())

    def changed(self, *, timeout_seconds: float | None = None) -> bool:
        """Wait until it has changed since this was last asked; False where it hasn't within that time."""
        return self._in_time(self._followed.changed(), timeout_seconds)

    def wait_for(self, holds: Callable[[Book], Any], *, timeout_seconds: float | None = None) -> bool:
        """As `Book.wait_for`; False where it doesn't hold within that time. `holds` is called in the client's thread."""
        return self._in_time(self._followed.wait_for(holds), timeout_seconds)

    def _in_time(self, waiting: Coroutine[Any, Any, None], seconds: float | None) -> bool:
        async def attempt() -> bool:
            try:
                async with asyncio.timeout(seconds):
                    await waiting
            except TimeoutError:
                return False
            return True

        return self._client.wait(attempt())

    @property
    def best_bid(self) -> Level | None:
        """The highest price to buy."""
        return self._ask(lambda book: book.best_bid)

    @property
    def best_ask(self) -> Level | None:
        """The lowest price to sell."""
        return self._ask(lambda book: book.best_ask)

    @property
    def sequence(self) -> int:
        """Where in the symbol's sequence it is."""
        return self._ask(lambda book: book.sequence)

    @property
    def is_live(self) -> bool:
        """Whether it is the service's own book."""
        return self._ask(lambda book: book.is_live)

    def bids(self, levels: int | None = None) -> list[Level]:
        """The best levels to buy, highest first."""
        return self._ask(lambda book: book.bids(levels))

    def asks(self, levels: int | None = None) -> list[Level]:
        """The best levels to sell, lowest first."""
        return self._ask(lambda book: book.asks(levels))
