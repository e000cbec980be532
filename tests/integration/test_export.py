"""Exports of a history that spans days, while a service is running on it: pandas reads them and finds what the API says."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

import histories
from candles import FREQUENCIES, check_candles, exported
from histories import write_history
from ome.cli import app
from ome.client import BlockingClient
from ome.client.models import IntervalName
from ome.export import Export, ExportError, Wanted, export
from servers import Server, running_server, sqlite_url

COMMANDS = 4000
STEP_US = 41_000_003
"""Between two commands: the history spans almost two days."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service on a history of two days."""
    url = sqlite_url(tmp_path_factory.mktemp("history"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(histories, "STEP_US", STEP_US)
        asyncio.run(write_history(url, COMMANDS, seed=7))
    with running_server(url) as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[BlockingClient]:
    """Its client."""
    with BlockingClient(server.url) as connected:
        yield connected


@pytest.mark.parametrize("interval", FREQUENCIES)
def test_candles_are_those_that_pandas_makes_of_the_trades(
    server: Server, client: BlockingClient, tmp_path: Path, interval: IntervalName
) -> None:
    """D4: for every symbol, the API's candles and the exported ones equal those computed from the exported trades."""
    assert check_candles(server.database_url, client, tmp_path, interval) > 1


def test_trades_are_the_api_s(server: Server, client: BlockingClient, tmp_path: Path) -> None:
    """Each trade, oldest first, in CSV and in Parquet, exactly."""
    told, cursor = [], None
    while True:
        page = client.trades(limit=1000, cursor=cursor)
        told += page.trades
        cursor = page.next_cursor
        if cursor is None:
            break
    text = exported(server.database_url, tmp_path, "trades")
    typed = exported(server.database_url, tmp_path, "trades", "parquet")
    for place, trade in enumerate(reversed(told)):
        line, row = text.iloc[place], typed.iloc[place]
        wanted = (int(trade.trade_id or 0), trade.symbol, trade.price, trade.quantity, trade.taker_side, trade.sequence)
        assert (int(line.trade_id), line.symbol, Decimal(line.price), Decimal(line.quantity)) == wanted[:4]
        taker_side = None if pd.isna(row.taker_side) else row.taker_side
        assert (row.trade_id, row.symbol, row.price, row.quantity, taker_side, row.sequence) == wanted
        assert pd.Timestamp(line.executed_at) == row.executed_at == pd.Timestamp(trade.executed_at)
        assert f"{trade.price:f}" == line.price
    assert len(told) == len(text) == len(typed)


def test_orders_are_the_api_s(server: Server, client: BlockingClient, tmp_path: Path) -> None:
    """Every order as it stands, averages and special terms too."""
    typed = exported(server.database_url, tmp_path, "orders", "parquet")
    assert set(typed["type"]) >= {"LIMIT", "MARKET", "STOP"}
    names = [name for name in typed.columns if name != "order_id"]
    for row in typed.sample(60, random_state=1).itertuples():
        order = client.order(str(row.order_id))
        for name in names:
            stored, told = getattr(row, name), getattr(order, name)
            assert (None if pd.isna(stored) else stored) == told, (name, order)


def test_events_are_the_api_s(server: Server, client: BlockingClient, tmp_path: Path) -> None:
    """What happened to an order: the same events, in the same order, as its history tells."""
    events = exported(server.database_url, tmp_path, "events")
    assert set(events["type"]) >= {"ACCEPTED", "FILLED", "CANCELLED", "MODIFIED", "UPDATED", "REFUSED", "TRIGGERED"}
    ids = events[(events["type"] == "ACCEPTED")].order_id.sample(40, random_state=1)
    for order_id in ids:
        mine = events[((events.order_id == order_id) | (events.other_order_id == order_id)) & (events.type != "UPDATED")]
        told = client.history(order_id).events
        since = [(int(each.position), each.type) for each in mine.itertuples() if int(each.position) >= told[0].position]
        assert since == [(each.position, each.type) for each in told]


def test_a_part_goes_to_standard_output(server: Server, tmp_path: Path) -> None:
    """A symbol, from a time on, before another: what the whole has of it, on standard output; the count on standard error."""
    whole = exported(server.database_url, tmp_path, "trades")
    symbol, start, end = whole.symbol[0], whole.executed_at[len(whole) // 4], whole.executed_at[len(whole) // 2]
    wanted = whole[(whole.symbol == symbol) & (whole.executed_at >= start) & (whole.executed_at < end)]
    command = [sys.executable, "-m", "ome", "export", "trades", "--out", "-", "--symbol", symbol.lower()]
    command += ["--start", start, "--end", end, "--database-url", server.database_url]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout.splitlines() == wanted.to_csv(index=False).splitlines()
    assert (done.stderr, done.returncode) == (f"{len(wanted):,} rows\n", 0)
    assert len(wanted) > 1


def test_an_export_that_fails_leaves_no_file(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pyarrow it is said what to install; where a file can't be written, why. Neither leaves anything."""
    folder = tmp_path / "out"
    folder.mkdir()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for out, words in (
        ("a.parquet", r"pip install 'ome\[parquet\]'"),
        ("no/a.parquet", "No such file"),
        ("-", "standard output"),
    ):
        with pytest.raises(ExportError, match=words):
            export(server.database_url, Export("trades", out if out == "-" else str(folder / out), "parquet", Wanted()))
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("name", ["trades.xlsx", "trades.csv.gz", "trades.txt"])
def test_a_name_that_promises_another_form_is_refused(tmp_path: Path, name: str) -> None:
    """Rather than CSV under a name that says something else; a usage error, and no file."""
    result = CliRunner().invoke(app, ["export", "trades", "--out", str(tmp_path / name)])
    assert result.exit_code == 2
    assert list(tmp_path.iterdir()) == []
