"""What `ome top` draws: a market as a ladder, a tape and rates. Drawing asks nobody and waits for nothing."""

from __future__ import annotations

from collections import deque
from decimal import Decimal
from typing import Final

from msgspec import Struct, field
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from ome.client import Book
from ome.client.models import Level, Market, Trade

BAR_CELLS: Final = 16
RATE_SECONDS: Final = 10.0
"""What a rate is the mean of."""
_TAPE_TRADES: Final = 200
_EIGHTHS: Final = " ▏▎▍▌▋▊▉█"
_BUY, _SELL, _DIM = "green", "red", "dim"


class Rate:
    """How often something happened per second, of late."""

    def __init__(self) -> None:
        self._times: deque[float] = deque()

    def count(self, now: float) -> None:
        """It happened, at `now` in seconds of a steady clock."""
        self._times.append(now)

    def per_second(self, now: float) -> float:
        """The mean of the last RATE_SECONDS."""
        while self._times and self._times[0] < now - RATE_SECONDS:
            self._times.popleft()
        return len(self._times) / RATE_SECONDS


class Screen(Struct):
    """All that is drawn: the last that was heard of everything."""

    symbol: str
    market: Market | None = None
    trades: deque[Trade] = field(default_factory=lambda: deque(maxlen=_TAPE_TRADES))
    """Newest first."""
    updates: Rate = field(default_factory=Rate)
    fills: Rate = field(default_factory=Rate)


def drawn(screen: Screen, book: Book, *, levels: int, now: float) -> RenderableType:
    """The screen with `levels` levels of each side; `now` is the clock that its rates were counted by."""
    body = Table.grid(expand=True, padding=(0, 1))
    body.add_column(ratio=3)
    body.add_column(ratio=2)
    body.add_row(
        Panel(_ladder(book, levels), title="ladder", border_style=_DIM),
        Panel(_tape(screen, 2 * levels + 1), title="trades", border_style=_DIM),
    )
    return Group(_head(screen, book), body, _foot(screen, book, now))


def plain(number: Decimal | None) -> str:
    """A number in plain digits, as it came; a dash for none."""
    return "-" if number is None else f"{number:f}"


def _head(screen: Screen, book: Book) -> Text:
    text = Text.assemble((f" {screen.symbol} ", "bold reverse"), "  ")
    market = screen.market
    if market is not None:
        change = market.change_percent
        percent = "" if change is None else f" {change:+.2f} %".replace("-0.00", "0.00").replace("+0.00", "0.00")
        colour = _BUY if "+" in percent else _SELL if "-" in percent else _DIM
        text.append(plain(market.last_price), style="bold")
        text.append(percent, style=colour)
        text.append(f"   24 h: high {plain(market.high)}  low {plain(market.low)}  volume {plain(market.volume)}   ", style=_DIM)
        if market.state != "OPEN":
            text.append(f" {market.state} ", style="bold yellow reverse")
    text.append("  live" if book.is_live else "  reconnecting", style=_BUY if book.is_live else "bold yellow")
    return text


def _foot(screen: Screen, book: Book, now: float) -> Text:
    return Text(
        f" sequence {book.sequence}  {screen.updates.per_second(now):.1f} updates/s  "
        f"{screen.fills.per_second(now):.1f} trades/s  {book.resynchronisations} resyncs  Ctrl-C leaves",
        style=_DIM,
    )


def _ladder(book: Book, levels: int) -> Table:
    """Asks above bids, best in the middle; the bar is a level's part of the largest one shown."""
    asks, bids = book.asks(levels), book.bids(levels)
    largest = max((level.quantity for level in (*asks, *bids)), default=Decimal(0))
    table = Table.grid(expand=True, padding=(0, 1))
    for heading in ("orders", "quantity", "price"):
        table.add_column(heading, justify="right")
    table.add_column("", width=BAR_CELLS)
    for _ in range(levels - len(asks)):
        table.add_row("")
    for level in reversed(asks):
        table.add_row(*_level(level, largest, _SELL))
    table.add_row("", "", Text(_spread(book), style=_DIM), "")
    for level in bids:
        table.add_row(*_level(level, largest, _BUY))
    for _ in range(levels - len(bids)):
        table.add_row("")
    return table


def _level(level: Level, largest: Decimal, colour: str) -> tuple[Text, Text, Text, Text]:
    eighths = int(level.quantity * BAR_CELLS * 8 / largest)
    bar = _EIGHTHS[8] * (eighths // 8) + _EIGHTHS[eighths % 8]
    return (
        Text(str(level.orders), style=_DIM),
        Text(plain(level.quantity)),
        Text(plain(level.price), style=f"bold {colour}"),
        Text(bar.strip() or _EIGHTHS[1], style=colour),
    )


def _spread(book: Book) -> str:
    bid, ask = book.best_bid, book.best_ask
    return "" if bid is None or ask is None else f"spread {plain(ask.price - bid.price)}"


def _tape(screen: Screen, rows: int) -> Table:
    table = Table.grid(expand=True, padding=(0, 1))
    for _ in range(3):
        table.add_column(justify="right")
    for trade in list(screen.trades)[:rows]:
        colour = {"BUY": _BUY, "SELL": _SELL}.get(trade.taker_side or "", "")
        time = Text(f"{trade.executed_at:%H:%M:%S}.{trade.executed_at.microsecond // 1000:03d}", style=_DIM)
        table.add_row(time, Text(plain(trade.price), style=colour), Text(plain(trade.quantity)))
    return table
