"""The examples run as their README says, against one service."""

import os
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import httpx
import pytest

from servers import Server, running_server, sqlite_url

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
PYTHON = sys.executable


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service for this module."""
    with running_server(sqlite_url(tmp_path_factory.mktemp("examples"))) as running:
        yield running


def started(*words: str, **environment: str) -> subprocess.Popen[str]:
    """A command on its way, as a reader would give it."""
    known = os.environ | {"PYTHONPATH": str(ROOT / "src"), "PYTHONUNBUFFERED": "1"} | environment
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=known, cwd=ROOT)


def said(process: subprocess.Popen[str]) -> str:
    """What it has printed in the end; it must end well."""
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    return output


@pytest.mark.parametrize("file", sorted(filter(Path.is_file, EXAMPLES.iterdir())), ids=lambda file: file.name)
def test_an_example_is_short_and_is_listed(file: Path) -> None:
    """Under 60 lines, and in the table of the README beside it."""
    assert len(file.read_text().splitlines()) < 60
    assert file.name == "README.md" or f"| `{file.name}` |" in (EXAMPLES / "README.md").read_text()


def test_an_order_lives_its_life_by_curl(server: Server) -> None:
    """orders.sh: entered, lowered, explained, tried, traded, cancelled, told."""
    output = said(started("sh", str(EXAMPLES / "orders.sh"), OME_URL=server.url))
    answers = [line for line in output.splitlines() if line.startswith("{")]
    assert len(answers) == 7
    assert '"quantity":"8"' in answers[1]
    assert '"dry_run":true' in answers[3]
    assert '"status":"FILLED"' in answers[4]
    assert '"status":"CANCELLED"' in answers[5]


def test_bots_trade_and_leave_nothing_behind(server: Server) -> None:
    """The market maker quotes and goes; the momentum bot buys what rises; Locust loads; pandas sees it all."""
    maker = started(
        PYTHON, str(EXAMPLES / "market_maker.py"), "--url", server.url, "--symbol", "MAKE", "--fair", "150", "--seconds", "2"
    )
    bot = started(PYTHON, str(EXAMPLES / "momentum.py"), "--url", server.url, "--symbol", "RISE", "--seconds", "4")
    load = started(
        PYTHON, "-m", "locust", "-f", str(EXAMPLES / "locustfile.py"), "--headless", "--host", server.url,
        "-u", "4", "-r", "4", "-t", "2s", "--only-summary",
    )  # fmt: skip
    with httpx.Client(base_url=server.url, timeout=30) as client:

        def enter(symbol: str, side: str, price: Decimal) -> str:
            order = {"user_id": f"{side}er", "symbol": symbol, "side": side, "quantity": "5", "price": str(price)}
            answer = client.post("/orders", json=order)
            assert answer.status_code == 201, answer.text
            return str(answer.json()["order_id"])

        enter("RISE", "BUY", Decimal(1))
        lines: list[str] = []
        price = Decimal(100)
        while not lines:
            price += Decimal("0.01")
            enter("RISE", "SELL", price)
            enter("RISE", "BUY", price)
            enter("RISE", "SELL", price + 1)
            if bot.poll() is not None or client.get("/orders", params={"user_id": "momentum"}).json()["count"]:
                lines = said(bot).splitlines()
        assert any(line.startswith("BUY 5") for line in lines), lines
        quoted = said(maker)
        assert "bid 149.98, ask 150.02" in quoted
        assert not client.get("/market/MAKE/depth").json()["bids"]
        assert client.get("/orders", params={"user_id": "maker"}).json()["count"] > 2
        assert "Aggregated" in said(load)
    seen = said(started(PYTHON, str(EXAMPLES / "trades_in_pandas.py"), DATABASE_URL=server.database_url))
    assert "Candles of a minute" in seen
    assert "momentum" in seen
