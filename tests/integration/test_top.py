"""`ome top`: a market drawn in a terminal, as it stands and as it moves."""

import asyncio
import io
import re
from collections.abc import Iterator
from decimal import Decimal

import pytest
from rich.console import Console

from ome.client import Client
from ome.client.models import SideName
from ome.terminal import WatchError, watch
from servers import Server, running_server, sqlite_url


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service for this module."""
    with running_server(sqlite_url(tmp_path_factory.mktemp("top"))) as running:
        yield running


async def put(client: Client, side: SideName, quantity: int, price: str, symbol: str = "AAPL") -> None:
    """Submit a limit order."""
    await client.submit(user_id=side.lower(), symbol=symbol, side=side, quantity=quantity, price=Decimal(price))


def lines(output: io.StringIO) -> list[str]:
    """What is drawn, without colours and frames, spaces run together."""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output.getvalue())
    return [" ".join(line.replace("│", " ").split()) for line in text.splitlines()]


async def test_a_market_is_drawn_as_it_stands_and_as_it_moves(server: Server) -> None:
    """Without a terminal once: both sides around the spread, the tape beside them. In one until cancelled, with what is new."""
    with pytest.raises(WatchError, match="no symbol is listed yet"):
        await watch(server.url, None, "", per_second=20, is_once=True)
    with pytest.raises(WatchError, match="symbol_not_found"):
        await watch(server.url, None, "NONE", per_second=20, is_once=True)
    async with Client(server.url) as client:
        await put(client, "BUY", 1, "7", symbol="ZZZ")
        await put(client, "SELL", 30, "150.75")
        await put(client, "SELL", 10, "150.50")
        await put(client, "BUY", 4, "150.50")
        await put(client, "BUY", 40, "150.25")
        output = io.StringIO()
        await watch(server.url, None, "", per_second=20, is_once=True, console=Console(file=output, width=100))
        drawn = lines(output)
        assert drawn[0].startswith("AAPL 150.50 0.00 % 24 h: high 150.50 low 150.50 volume 4")
        assert drawn[0].endswith("live")
        ladder = [line for line in drawn if "150." in line][1:]
        assert [re.sub(" [▏▎▍▌▋▊▉█]+", "", line) for line in ladder if "spread" not in line][-3:] == [
            "1 30 150.75", "1 6 150.50", "1 40 150.25",
        ]  # fmt: skip
        assert any("spread 0.25" in line for line in drawn)
        assert any(re.search(r"\d\d:\d\d:\d\d\.\d{3} 150\.50 4$", line) for line in drawn)

        live = io.StringIO()
        console = Console(file=live, width=100, height=24, force_terminal=True)
        watching = asyncio.create_task(watch(server.url, None, "aapl", per_second=50, is_once=False, console=console))
        try:
            async with asyncio.timeout(30):
                while not any("live" in line for line in lines(live)):
                    await asyncio.sleep(0.02)
                await put(client, "BUY", 6, "150.50")
                while not any(re.search(r" 150\.50 6$", line) for line in lines(live)):
                    await asyncio.sleep(0.02)
        except TimeoutError:
            pytest.fail(live.getvalue()[-3000:])
        finally:
            watching.cancel()
            with pytest.raises(asyncio.CancelledError):
                await watching
    assert live.getvalue().rstrip().endswith("\x1b[?25h\x1b[?1049l")  # the terminal has its cursor and its text back
