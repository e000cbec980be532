"""Load on a cluster for tests of its faults: traders who keep a ledger, listeners who keep books, and what holds for both."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

import httpx
import nats
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from clusters import Cluster
from servers import until
from streams import Book, Message

Body = dict[str, Any]
PAUSE_S = 0.02
"""Between two attempts to have an outcome known."""
LISTENS_S = 0.1
"""After so long without a message a listener looks whether it is to stop."""


class Trader(threading.Thread):
    """Sends orders one after another through alternating gateways, so that they cross; each is sent again, elsewhere, until its
    outcome is known. `told` has the order id that each client id was answered with.
    """

    def __init__(self, urls: Sequence[str], number: int, symbols: Sequence[str], headers: dict[str, str]) -> None:
        super().__init__()
        self.urls = urls
        self.name = f"trader{number}"
        self.number = number
        self.symbols = symbols
        self.headers = headers
        self.told: dict[str, str] = {}
        self.retried = 0
        self.stops = threading.Event()
        self.differences: list[Any] = []

    def body(self, count: int) -> Body:
        """The order with this number: sides alternate between traders, prices move up and down."""
        side = "BUY" if (count + self.number) % 2 else "SELL"
        price = f"{100 + count % 5}.00"
        symbol = self.symbols[count // 2 % len(self.symbols)]
        identity = {"user_id": self.name, "symbol": symbol, "client_order_id": f"{self.number}-{count}"}
        return identity | {"side": side, "quantity": 1 + count % 3, "price": price}

    def run(self) -> None:
        """See Thread."""
        count = 0
        with httpx.Client(timeout=30, headers=self.headers) as client:
            while not self.stops.is_set():
                count += 1
                body = self.body(count)
                answer = self.until_known(client, body, count)
                if answer is None:
                    return
                self.told[body["client_order_id"]] = answer["order_id"]

    def until_known(self, client: httpx.Client, body: Body, turn: int) -> Any:
        """The answer to an order, which is asked for at one gateway after another; None for one that it must not get."""
        while True:
            turn += 1
            try:
                answer = client.post(f"{self.urls[turn % len(self.urls)]}/orders", json=body)
            except httpx.TransportError:
                self.retried += 1
                continue
            if answer.status_code == 201:
                return answer.json()
            if answer.status_code not in {503, 504}:
                self.differences.append(answer.text)
                return None
            self.retried += 1
            time.sleep(PAUSE_S)


class Listener(threading.Thread):
    """Hears depth and trades of symbols at one gateway; `closed` says how its stream ended where nobody has asked for it."""

    def __init__(self, url: str, symbols: Sequence[str], headers: dict[str, str]) -> None:
        super().__init__()
        self.url = url
        self.headers = headers
        self.books = {symbol: Book() for symbol in symbols}
        self.trades: dict[str, list[Message]] = defaultdict(list)
        self.closed = ""
        self.failure: BaseException | None = None
        self._stops = threading.Event()

    def run(self) -> None:
        """See Thread."""
        try:
            with connect(self.url.replace("http", "ws") + "/ws", additional_headers=self.headers, max_queue=None) as socket:
                for symbol in self.books:
                    for channel in ("depth", "trades"):
                        socket.send(json.dumps({"op": "subscribe", "channel": channel, "symbol": symbol}))
                while not self._stops.is_set():
                    with contextlib.suppress(TimeoutError):
                        self._take(json.loads(socket.recv(timeout=LISTENS_S)))
        except ConnectionClosed as error:
            self.closed = str(error)
        except Exception as error:  # noqa: BLE001  the test raises it
            self.failure = error

    def _take(self, message: Message) -> None:
        if message.get("channel") == "depth" and message["type"] in {"snapshot", "update"}:
            self.books[message["symbol"]].take(message)
        elif message.get("channel") == "trades" and message["type"] == "update":
            self.trades[message["symbol"]].append(message["trade"])

    def stop(self) -> None:
        """End the stream."""
        self._stops.set()
        self.join()


@contextlib.contextmanager
def traders(
    urls: Sequence[str], count: int, symbols: Sequence[str], headers: dict[str, str], first: int = 0
) -> Iterator[list[Trader]]:
    """So many at work, until the end; then each knows what became of all that it has sent."""
    found = [Trader(urls, first + number, symbols, headers) for number in range(count)]
    for trader in found:
        trader.start()
    try:
        yield found
    finally:
        for trader in found:
            trader.stops.set()
        for trader in found:
            trader.join()
    assert [trader.differences for trader in found] == [[]] * count


def trade_on(found: Sequence[Trader], orders: int) -> None:
    """Wait until each of the traders has had so many orders answered since."""
    wanted = [len(trader.told) + orders for trader in found]
    until(lambda: all(len(trader.told) >= want for trader, want in zip(found, wanted, strict=True)))


def check_ledgers(url: str, found: Sequence[Trader], headers: dict[str, str]) -> None:
    """Nothing that was acknowledged is missing, nothing is there twice or that nobody was told of."""
    with httpx.Client(base_url=url, headers=headers, timeout=30) as client:
        for trader in found:
            stored = [
                (each["client_order_id"], each["order_id"]) for each in pages(client, f"/orders/user/{trader.name}", "orders")
            ]
            assert len(stored) == len(dict(stored))
            assert dict(stored) == trader.told


def pages(client: httpx.Client, path: str, name: str, **parameters: str) -> list[Any]:
    """All entries of a list, page after page."""
    found: list[Any] = []
    cursor: dict[str, str] = {}
    while True:
        answer = client.get(path, params={"limit": "1000"} | parameters | cursor).raise_for_status().json()
        found += answer[name]
        if answer["next_cursor"] is None:
            return found
        cursor = {"cursor": answer["next_cursor"]}


def check_market_data(urls: Sequence[str], symbols: Sequence[str], headers: dict[str, str]) -> None:
    """Each gateway's books, tickers and candles are what the stored orders and trades say; it may still be a moment behind."""
    for url in urls:
        with httpx.Client(base_url=url, headers=headers, timeout=30) as client:
            for symbol in symbols:
                until(lambda client=client, symbol=symbol: _depth(client, symbol) == _queues(client, symbol))  # type: ignore[misc]
                trades = pages(client, "/trades", "trades", symbol=symbol)
                ticker = client.get(f"/market/{symbol}").json()
                assert ticker["last_price"] == trades[0]["price"]
                assert Decimal(ticker["volume"]) == sum(Decimal(trade["quantity"]) for trade in trades)
                candle = _candle(url, symbol, headers)
                today = [trade for trade in trades if trade["executed_at"] >= candle["open_time"]]
                assert Decimal(candle["volume"]) == sum(Decimal(trade["quantity"]) for trade in today)
                assert (candle["trades"], candle["close"]) == (len(today), today[0]["price"])


def _candle(url: str, symbol: str, headers: dict[str, str]) -> Message:
    """The running candle of a day."""
    with connect(url.replace("http", "ws") + "/ws", additional_headers=headers) as socket:
        socket.send(json.dumps({"op": "subscribe", "channel": "candles", "symbol": symbol, "interval": "1d"}))
        while (message := json.loads(socket.recv(timeout=20))).get("type") != "snapshot":
            pass
    found: Message = message["candle"]
    return found


def _depth(client: httpx.Client, symbol: str) -> Any:
    found = client.get(f"/market/{symbol}/depth", params={"levels": "1000"}).json()
    sides = ([(level["price"], level["quantity"]) for level in found[side]] for side in ("bids", "asks"))
    return (found["sequence"], *sides)


def _queues(client: httpx.Client, symbol: str) -> Any:
    """The same of the database."""
    found = client.get(f"/market/{symbol}/depth", params={"levels": "1000", "detail": "orders"}).json()
    sides = ([(level["price"], level["quantity"]) for level in found[side]] for side in ("bids", "asks"))
    return (found["sequence"], *sides)


def check_listener(listener: Listener, url: str, headers: dict[str, str]) -> None:
    """Its stream was never ended, its books are those of its gateway, and it has heard every trade since it began, once."""
    with httpx.Client(base_url=url, headers=headers, timeout=30) as client:
        for symbol, book in listener.books.items():
            depth = _depth(client, symbol)
            until(lambda book=book, depth=depth: book.sequence == depth[0] or not listener.is_alive())  # type: ignore[misc]
            assert (listener.failure, listener.closed) == (None, "")
            assert book.levels() == depth[1:]
            heard = [trade["trade_id"] for trade in listener.trades[symbol]]
            stored = [trade["trade_id"] for trade in reversed(pages(client, "/trades", "trades", symbol=symbol))]
            assert heard == stored[len(stored) - len(heard) :]
            assert len(heard) > 0


def break_nats(cluster: Cluster, fault: str) -> None:
    """What happens to it; where it was stopped it runs again at the end."""
    if fault == "stream deleted":
        asyncio.run(delete_streams(cluster))
        return
    cluster.nats.stop(signal.SIGKILL if fault == "emptied" else signal.SIGTERM)
    if fault == "emptied":
        cluster.nats.forget()
    cluster.nats.start()


async def delete_streams(cluster: Cluster) -> None:
    """Every stream that the engines have made."""
    connection = await nats.connect(cluster.nats.url)
    try:
        jetstream = connection.jetstream()
        names = [stream.config.name for stream in await jetstream.streams_info()]
        assert len(names) == len(cluster.engines)
        for name in names:
            await jetstream.delete_stream(str(name))
    finally:
        await connection.close()
