"""Market data of several shards as one, while one of them hasn't been heard since the gateway has started."""

from __future__ import annotations

import pytest

from factories import an_instrument
from ome.cluster.cluster_market import ClusterMarket
from ome.domain.errors import NotAccepting
from ome.domain.ports import Depth
from ome.marketdata.feed import Feed
from ome.marketdata.view import MarketView


class Shard:
    """One that was heard, or not."""

    def __init__(self, *, is_loaded: bool) -> None:
        self.is_loaded = is_loaded


class Shown:
    """A gateway's market: symbols that begin with A are the first shard's, all others the late one's."""

    def __init__(self) -> None:
        self.view = MarketView()
        self.late = Shard(is_loaded=False)
        self.list("AAPL")
        shards = [Shard(is_loaded=True), self.late]
        self.market = ClusterMarket(self.view, Feed(self.view), shards, lambda symbol: 0 if symbol.startswith("A") else 1)

    def list(self, *symbols: str) -> None:
        """Books have come."""
        self.view.put([(an_instrument(symbol), Depth(symbol, 1, 0, [], [])) for symbol in symbols])


@pytest.fixture
def shown() -> Shown:
    """A gateway that has heard one shard of two."""
    return Shown()


@pytest.fixture
def market(shown: Shown) -> ClusterMarket:
    """What it answers."""
    return shown.market


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


def test_a_list_that_would_lack_a_shard_is_refused(market: ClusterMarket, shown: Shown) -> None:
    """Whoever reads it would take the rest for delisted; it is whole once the shard is there."""
    with pytest.raises(NotAccepting):
        market.instruments()
    shown.list("MSFT", "TSLA")
    shown.late.is_loaded = True
    assert [instrument.symbol for instrument in market.instruments()] == ["AAPL", "MSFT", "TSLA"]
    assert market.depth("MSFT", 10) is not None
    assert market.depth("NVDA", 10) is None
