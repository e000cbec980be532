"""Candles three times over: as the API tells them, as `ome export` writes them, as pandas makes them of the exported trades."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from pathlib import Path
from typing import Any

import pandas as pd

from ome.client import BlockingClient
from ome.client.models import Candle, IntervalName
from ome.export import Export, Wanted, export

FREQUENCIES: dict[IntervalName, str] = {
    "1s": "1s",
    "1m": "1min",
    "5m": "5min",
    "15m": "15min",
    "1h": "1h",
    "4h": "4h",
    "1d": "1D",
}
"""Every interval, as pandas calls it."""
FIGURES = ["open", "high", "low", "close", "volume", "vwap", "trades"]

Candles = dict[tuple[str, pd.Timestamp], tuple[Any, ...]]
"""By symbol and open time: open, high, low, close, volume, VWAP and number of trades."""


def exported(database_url: str, folder: Path, what: str, form: str = "csv", **wanted: Any) -> pd.DataFrame:
    """What pandas reads of an export; of CSV every value as text."""
    file = folder / f"{what}.{form}"
    written = export(database_url, Export(what, str(file), form, Wanted(**wanted)))
    frame = pd.read_parquet(file) if form == "parquet" else pd.read_csv(file, dtype=str, keep_default_na=False)
    assert len(frame) == written > 0
    return frame


def computed(trades: pd.DataFrame, interval: IntervalName) -> Candles:
    """What pandas makes of exported trades."""
    trades = trades.assign(
        price=trades["price"].map(Decimal),
        quantity=trades["quantity"].map(Decimal),
        open_time=pd.to_datetime(trades["executed_at"]).dt.floor(FREQUENCIES[interval]),
    )
    trades["value"] = trades["price"] * trades["quantity"]
    groups = trades.groupby(["symbol", "open_time"])
    prices = groups["price"].agg(["first", "max", "min", "last"])
    opened: dict[Any, Any] = {key: tuple(row) for key, row in zip(prices.index, prices.to_numpy(), strict=True)}
    found: dict[Any, tuple[Any, ...]] = {
        key: (*opened[key], sum(group["quantity"]), _average(group), len(group)) for key, group in groups
    }
    return found


def _average(group: pd.DataFrame) -> Decimal:
    """Value over volume, rounded half-even to 9 decimals (N1)."""
    with localcontext() as context:
        context.prec = 60
        exact: Decimal = sum(group["value"]) / sum(group["quantity"])
        return exact.quantize(Decimal("1e-9"), ROUND_HALF_EVEN)


def told(client: BlockingClient, symbols: list[str], interval: IntervalName) -> Candles:
    """What the API tells."""
    return {
        (symbol, pd.Timestamp(each.open_time)): (each.open, each.high, each.low, each.close, each.volume, each.vwap, each.trades)
        for symbol in symbols
        for each in _all(client, symbol, interval)
    }


def _all(client: BlockingClient, symbol: str, interval: IntervalName) -> list[Candle]:
    found: list[Candle] = []
    cursor, start = None, "1970-01-01T00:00:00Z"
    while True:
        page = client.candles(symbol, interval, start=start, limit=1000, cursor=cursor)
        found += page.candles
        cursor = page.next_cursor
        if cursor is None:
            return found


def written(database_url: str, folder: Path, interval: IntervalName) -> Candles:
    """What `ome export` writes."""
    candles = exported(database_url, folder, "candles", seconds=int(pd.Timedelta(FREQUENCIES[interval]).total_seconds()))
    return {
        (row["symbol"], pd.Timestamp(row["open_time"])): tuple(Decimal(row[name]) for name in FIGURES)
        for row in candles.to_dict("records")
    }


def check_candles(database_url: str, client: BlockingClient, folder: Path, interval: IntervalName) -> int:
    """D4: for every symbol the API's candles and the exported ones equal those computed from the exported trades; how many."""
    trades = exported(database_url, folder, "trades")
    wanted = computed(trades, interval)
    assert wanted == told(client, sorted(set(trades["symbol"])), interval) == written(database_url, folder, interval)
    return len(wanted)
