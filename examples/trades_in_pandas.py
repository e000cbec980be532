"""Exported trades in pandas: candles of a minute and how much they move, and what each user traded as maker and as taker.

Reads the service's database, also while it runs: DATABASE_URL, or ome.db in this folder.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd


def exported(what: str, folder: Path) -> pd.DataFrame:
    """What `ome export` writes, with floats for decimals: statistics don't need them exact, and floats are fast."""
    file = folder / f"{what}.parquet"
    subprocess.run([sys.executable, "-m", "ome", "export", what, "--out", str(file)], check=True)
    frame = pd.read_parquet(file)
    return frame.astype({name: float for name in ("price", "quantity") if name in frame})


with tempfile.TemporaryDirectory() as name:
    trades, orders = exported("trades", Path(name)), exported("orders", Path(name))

if trades.empty:
    sys.exit("No trades yet.")

by_minute = trades.groupby(["symbol", pd.Grouper(key="executed_at", freq="1min")])
candles = by_minute["price"].ohlc().assign(volume=by_minute["quantity"].sum())
print("Candles of a minute", candles.tail(10), sep="\n")
print("\nReturns of a minute, standard deviation", candles["close"].groupby("symbol").pct_change().std(), sep="\n")

users = orders.set_index("order_id")["user_id"]
traded = trades.assign(notional=trades["price"] * trades["quantity"], maker=trades["maker_order_id"].map(users))
taker_ids = trades["buy_order_id"].where(trades["taker_side"] == "BUY", trades["sell_order_id"])
traded["taker"] = taker_ids.map(users)
shares = {role: traded.groupby(role)["notional"].sum() for role in ("maker", "taker")}
print("\nNotional by user", pd.DataFrame(shares).fillna(0.0).sort_index(), sep="\n")
