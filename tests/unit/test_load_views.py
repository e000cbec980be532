"""What the views know when an engine begins to serve."""

from __future__ import annotations

from factories import START_US, a_trade, an_order
from fakes import FakeExchange
from ome.bootstrap import load_views
from ome.domain.commands import NewOrder, Stamped
from ome.domain.enums import OrderType, Side, TimeInForce
from ome.domain.events import Traded
from ome.domain.numbers import pack
from ome.engine.engine import Engine
from ome.marketdata.feed import Feed
from ome.marketdata.view import MarketView


async def test_trades_of_another_engine_that_has_taken_over_are_left_out() -> None:
    """DUR8: an engine that is overtaken while it starts reads its trades after its books: the later ones aren't its own.

    They may even be in symbols that it doesn't know; it starts all the same, and is fenced at its first commit.
    """
    engine, reads, market = Engine(), FakeExchange(), MarketView(lambda: START_US)
    for position, (user, side) in enumerate([("ann", Side.SELL), ("bob", Side.BUY)], 1):
        order = NewOrder(user, "AAPL", side, OrderType.LIMIT, TimeInForce.GTC, pack(10, 0), pack(150, 0))
        events = engine.apply(Stamped(position, START_US, order))
    own = next(event.trade for event in events if isinstance(event, Traded))
    later = [
        a_trade(number, an_order(number, symbol=symbol), an_order(number + 1, symbol=symbol), taker=Side.BUY)
        for number, symbol in ((3, "AAPL"), (5, "LATER"))
    ]
    reads.trade_records = [own, *later]

    await load_views(engine, reads, market, Feed(market), START_US)

    ticker = market.ticker("AAPL")
    assert ticker is not None
    assert ticker.volume == own.quantity
    assert market.ticker("LATER") is None
