"""Follows a market and draws it, some times a second, until it is told to stop."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Final

from rich.console import Console
from rich.live import Live

from ome.client import Book, Client, ClientError, Unavailable
from ome.client.models import TradeMessage
from ome.terminal.screen import Screen, drawn

MARKET_SECONDS: Final = 1.0
"""How often the 24 hours' statistics are asked for."""
_AROUND_LADDER: Final = 6
"""Lines of the screen that are no levels: head, foot, frame, spread."""
_LEAST_LEVELS: Final = 3
_ONCE_LEVELS: Final = 10


class WatchError(Exception):
    """A market can't be watched; the message says why."""


async def watch(
    url: str, api_key: str | None, symbol: str, *, per_second: float, is_once: bool, console: Console | None = None
) -> None:
    """Draw a market until cancelled; `is_once`, or where there is no terminal, draw it once and return.

    Without a symbol it is the one that most was traded of in 24 hours. Raises WatchError where there is no such market, or nobody
    who could tell.
    """
    console = console or Console()
    try:
        async with Client(url, api_key) as client:
            screen = Screen(symbol.upper() or await _busiest(client))
            screen.market = await client.market(screen.symbol)
            screen.trades.extend((await client.trades(symbol=screen.symbol, limit=50)).trades)
            async with client.book(screen.symbol) as book:
                if is_once or not console.is_terminal:
                    console.print(drawn(screen, book, levels=_ONCE_LEVELS, now=time.monotonic()))
                else:
                    await _live(client, screen, book, console, per_second)
    except ClientError as error:
        raise WatchError(str(error)) from error


async def _live(client: Client, screen: Screen, book: Book, console: Console, per_second: float) -> None:
    """Until cancelled. Raises what one of its followers can't get over."""
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_follow_trades(client, screen))
            group.create_task(_follow_market(client, screen))
            group.create_task(_follow_book(book, screen))
            group.create_task(_draw(console, screen, book, per_second))
    except* ClientError as errors:
        raise errors.exceptions[0] from errors


async def _busiest(client: Client) -> str:
    markets = (await client.markets(limit=1000)).markets
    if not markets:
        raise WatchError(
            "no symbol is listed yet: the first order lists its own, or `ome generate` and `ome replay` make a market"
        )
    return max(markets, key=lambda market: market.volume * (market.last_price or 0)).symbol


async def _follow_trades(client: Client, screen: Screen) -> None:
    newest = screen.trades[0].sequence if screen.trades else 0
    async for message in client.stream("trades", screen.symbol, after_sequence=newest):
        if isinstance(message, TradeMessage):
            screen.trades.appendleft(message.trade)
            screen.fills.count(time.monotonic())


async def _follow_market(client: Client, screen: Screen) -> None:
    while True:
        await asyncio.sleep(MARKET_SECONDS)
        with suppress(Unavailable):  # the head says that the book isn't live
            screen.market = await client.market(screen.symbol)


async def _follow_book(book: Book, screen: Screen) -> None:
    while True:
        await book.changed()
        screen.updates.count(time.monotonic())


async def _draw(console: Console, screen: Screen, book: Book, per_second: float) -> None:
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            levels = max(_LEAST_LEVELS, (console.height - _AROUND_LADDER) // 2)
            live.update(drawn(screen, book, levels=levels, now=time.monotonic()), refresh=True)
            await asyncio.sleep(1 / per_second)
