"""The trading page in a real browser, against a real server."""

import re
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

from servers import Server, running_server, sqlite_url

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --enable-logging=stderr --virtual-time-budget=2500"
)

pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs chromium (apt-get install --no-install-recommends chromium)")


def order(server: Server, user: str, side: str, quantity: str, price: str) -> None:
    """Send a limit order that must be taken."""
    body = {"user_id": user, "symbol": "AAPL", "side": side, "quantity": quantity, "price": price}
    assert httpx.post(f"{server.url}/orders", json=body).status_code == 201


def open_page(server: Server, folder: Path) -> tuple[str, str]:
    """The page as it stands after some seconds of its own time, and what its console said."""
    command = [str(BROWSER), *FLAGS.split(), f"--user-data-dir={folder / 'profile'}", "--dump-dom"]
    done = subprocess.run([*command, f"{server.url}/#user=alice"], capture_output=True, text=True, check=False, timeout=90)
    assert done.returncode == 0, done.stderr
    return done.stdout, "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


def rows(dom: str, name: str) -> list[list[str]]:
    """The texts of the cells of a table body."""
    body = re.search(rf'<tbody id="{name}">(.*?)</tbody>', dom, re.DOTALL)
    assert body is not None
    return [re.findall(r"<td[^>]*>(?:<[^>]+>)*([^<]*)", row) for row in re.findall(r"<tr.*?</tr>", body[1], re.DOTALL)]


def test_page_shows_the_market(tmp_path: Path) -> None:
    """The page shows health, symbols, the book with its totals, the tape and one's open orders, and its console stays silent."""
    with running_server(sqlite_url(tmp_path)) as server:
        order(server, "alice", "SELL", "100", "150.50")
        order(server, "alice", "SELL", "30", "150.70")
        order(server, "bob", "BUY", "60", "150.50")
        order(server, "bob", "BUY", "5", "149.00")
        dom, console = open_page(server, tmp_path)
    assert console == ""
    assert 'data-state="healthy"' in dom
    assert rows(dom, "markets") == [["AAPL", "149.00", "150.50", "150.50"]]
    assert rows(dom, "asks") == [["150.70", "30", "70"], ["150.50", "40", "40"]]
    assert rows(dom, "bids") == [["149.00", "5", "5"]]
    assert [row[1:] for row in rows(dom, "tape")] == [["BUY", "150.50", "60"]]
    assert [row[:6] for row in rows(dom, "orders")] == [
        ["AAPL", "SELL", "150.70", "30", "0", "pending"],
        ["AAPL", "SELL", "150.50", "100", "60", "partially filled"],
    ]
