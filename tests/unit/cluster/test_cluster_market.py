"""Market data of several shards as one, while one of them hasn't been heard since the gateway has started."""

from __future__ import annotations

import pytest

from factories import an_instrument
from ome.cluster.cluster_market import ClusterMarket
from ome.domain.errors import NotAccepting
from ome.domain.ports import Depth
from ome.marketdata.feed import Feed
from ome.marketdata.view import MarketView


class Views:
    """Those of one shard, with these symbols."""

    def __init__(self, *symbols: str) -> None:
        self.is_loaded = bool(symbols)
        self.view = MarketView()
        self.feed = Feed(self.view)
        self.load(*symbols)

    def load(self, *symbols: str) -> None:
        """Books have come."""
        self.is_loaded = bool(symbols)
        self.view.load([(an_instrument(symbol), Depth(symbol, 1, 0, [], [])) for symbol in symbols])


@pytest.fixture
def late() -> Views:
    """The shard that comes later."""
    return Views()


@pytest.fixture
def market(late: Views) -> ClusterMarket:
    """Symbols that begin with A are the first shard's, all others the late one's."""
    return ClusterMarket([Views("AAPL"), late], lambda symbol: 0 if symbol.startswith("A") else 1)


def test_what_is_heard_is_served(market: ClusterMarket) -> None:
    """Its symbols are there; one that it doesn't have isn't listed, for certain."""
    assert market.instrument("AAPL") is not None
    assert market.watch("AAPL")
    assert market.depth("AMZN", 10) is None
    assert market.watch("AMZN") is False


@pytest.mark.parametrize("name", ["instrument", "ticker", "quote", "auction", "watch"])
def test_what_is_asked_of_a_shard_that_was_not_heard_is_refused(market: ClusterMarket, name: str) -> None:
    """Whether the symbol is listed nobody knows: not "not found" but "try again"."""
    with pytest.raises(NotAccepting):
        getattr(market, name)("MSFT")


def test_a_list_that_would_lack_a_shard_is_refused(market: ClusterMarket, late: Views) -> None:
    """Whoever reads it would take the rest for delisted; it is whole once the shard is there."""
    with pytest.raises(NotAccepting):
        market.instruments()
    late.load("MSFT", "TSLA")
    assert [instrument.symbol for instrument in market.instruments()] == ["AAPL", "MSFT", "TSLA"]
    assert market.depth("MSFT", 10) is not None
    assert market.depth("NVDA", 10) is None
