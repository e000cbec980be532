"""An engine's voice: what it tells of its books."""

from __future__ import annotations

from typing import cast

from factories import an_instrument
from nats_fake import FakeNats
from ome.cluster.publisher import Publisher
from ome.cluster.subjects import Subjects
from ome.cluster.wire import read_books
from ome.domain.ports import Depth, MarketData
from ome.domain.records import InstrumentRecord

SUBJECTS = Subjects("test")


class Market:
    """One empty book; counts how often it is gone through."""

    looks = 0

    def instruments(self) -> list[InstrumentRecord]:
        """See MarketData."""
        self.looks += 1
        return [an_instrument("AAPL")]

    def depth(self, symbol: str, _levels: int) -> Depth:
        """See MarketData."""
        return Depth(symbol, 1, 1, [], [])

    def auction(self, _symbol: str) -> None:
        """See MarketData."""


async def test_the_books_are_made_once_for_all_who_ask_between_two_batches() -> None:
    """Every gateway asks at the same time once NATS is back; after a batch they are as it has left them."""
    nats, market = FakeNats(), Market()
    publisher = Publisher(0, nats.connection(), SUBJECTS, cast("MarketData", market), lambda: (1, "abc"))
    await publisher.start(7)
    told = [await nats.ask(SUBJECTS.snapshot(0), b"?", 1) for _ in range(3)]
    assert {read_books(each).position for each in told} == {7}
    assert market.looks == 1
    publisher.committed([])
    publisher.commands_committed(9, [])
    assert read_books(await nats.ask(SUBJECTS.snapshot(0), b"?", 1)).position == 9
    assert market.looks == 2
