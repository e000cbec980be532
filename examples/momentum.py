"""A momentum bot: when the last trades rise it buys, when they fall it sells, never more than a position that it bears."""

import argparse
import asyncio
from collections import deque
from contextlib import suppress
from decimal import Decimal

from ome.client import Client, Refused

WINDOW = 10
"""Trades that make a trend."""


async def follow(client: Client, symbol: str, user: str, size: Decimal, limit: Decimal) -> None:
    """Trade on every move of the tape, from when somebody has listed the symbol."""
    while symbol not in {instrument.symbol for instrument in (await client.instruments(limit=1000)).instruments}:
        await asyncio.sleep(0.2)
    prices: deque[Decimal] = deque(maxlen=WINDOW)
    position = Decimal(0)
    async for message in client.stream("trades", symbol):
        prices.append(message.trade.price)
        if len(prices) < WINDOW or prices[-1] == prices[0]:
            continue
        side = "BUY" if prices[-1] > prices[0] else "SELL"
        sign = 1 if side == "BUY" else -1
        if abs(position + sign * size) > limit:
            continue
        try:
            order = await client.submit(user_id=user, symbol=symbol, side=side, quantity=size, type="MARKET", max_slippage_bps=50)
        except Refused as refusal:  # nobody to trade with, say
            print(refusal)
            continue
        position += sign * order.filled_quantity
        prices.clear()
        print(f"{side} {order.filled_quantity} at {order.average_price}: position {position:+}", flush=True)


async def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:5000")
    parser.add_argument("--symbol", default="AAPL")
    parser.add_argument("--size", type=Decimal, default=Decimal(5))
    parser.add_argument("--limit", type=Decimal, default=Decimal(50))
    parser.add_argument("--seconds", type=float, default=60)
    said = parser.parse_args()
    async with Client(said.url) as client:
        with suppress(TimeoutError):
            async with asyncio.timeout(said.seconds):
                await follow(client, said.symbol, "momentum", said.size, said.limit)


asyncio.run(main())
