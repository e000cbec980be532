"""A market maker: a bid and an ask around the middle of the book, leaning against its position, renewed in one batch a round."""

import argparse
import asyncio
from decimal import Decimal

from ome.client import Client

TICK = Decimal("0.01")


async def follow_position(client: Client, user: str, position: list[Decimal]) -> None:
    """Keep the position that its own fills make."""
    async for event in client.order_events(user):
        if event.type == "FILLED":
            bought = event.order_id == event.trade.buy_order_id
            position[0] += event.trade.quantity if bought else -event.trade.quantity


async def make_market(client: Client, symbol: str, user: str, fair: Decimal, size: Decimal, seconds: float) -> None:
    """Quote until the time is over, then leave nothing behind."""
    position, quotes = [Decimal(0)], []
    follower = asyncio.create_task(follow_position(client, user, position))
    ends = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < ends:
        lean = -(position[0] / size).to_integral_value() * TICK  # long: both quotes lower, so that it sells
        sides = {"BUY": fair + lean - 2 * TICK, "SELL": fair + lean + 2 * TICK}
        renewed = [{"op": "cancel", "order_id": order_id} for order_id in quotes]
        for side, price in sides.items():
            order = {"symbol": symbol, "side": side, "price": price, "quantity": size, "post_only": True}
            renewed.append({"op": "submit", "user_id": user, **order})
        answer = await client.batch(renewed)
        entered = answer.results[len(quotes) :]
        quotes = [result.order.order_id for result in entered if result.order and result.problem is None]
        print(f"position {position[0]:+}, bid {sides['BUY']}, ask {sides['SELL']}", flush=True)
        market = await client.market(symbol)
        fair = (fair * 9 + market.last_price) / 10 if market.last_price else fair  # follows the trades slowly
        fair = fair.quantize(TICK)
        await asyncio.sleep(0.2)
    follower.cancel()
    await client.cancel_all(user_id=user, symbol=symbol)


async def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:5000")
    parser.add_argument("--symbol", default="AAPL")
    parser.add_argument("--fair", type=Decimal, default=Decimal(150))
    parser.add_argument("--size", type=Decimal, default=Decimal(10))
    parser.add_argument("--seconds", type=float, default=60)
    said = parser.parse_args()
    async with Client(said.url) as client:
        await make_market(client, said.symbol, "maker", said.fair, said.size, said.seconds)


asyncio.run(main())
