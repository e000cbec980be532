"""The call auction: the one price that trades the most, and what trades at it (rule H3).

While a symbol is in AUCTION its book may be crossed. `indication` is what an uncross would give now, in O(levels); `uncross`
carries it out, in price-time order on both sides. Icebergs count in full.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ome.domain.enums import Side
from ome.domain.events import AuctionIndicated
from ome.engine.book_side import BookSide
from ome.engine.order import Order
from ome.engine.order_book import OrderBook


class Indication(NamedTuple):
    """What would trade: `price` in ticks, `volume` in lots, `imbalance` the lots wanted (above 0) or offered too many at it."""

    price: int
    volume: int
    imbalance: int


def indication(book: OrderBook) -> Indication | None:
    """The price with the most volume, then the least imbalance, then where the pressure is (a surplus of buyers: the highest; of
    sellers: the lowest), then nearest the reference, then the lowest. None where nothing would trade.
    """
    best_bid, best_ask = book.bids.best, book.asks.best
    if best_bid is None or best_ask is None or best_bid.price < best_ask.price:
        return None
    candidates = [Indication(price, min(bought, sold), bought - sold) for price, bought, sold in _volumes(book)]
    volume = max(candidate.volume for candidate in candidates)
    tied = [candidate for candidate in candidates if candidate.volume == volume]
    least = min(abs(candidate.imbalance) for candidate in tied)
    tied = [candidate for candidate in tied if abs(candidate.imbalance) == least]
    if all(candidate.imbalance > 0 for candidate in tied):
        return max(tied)
    if all(candidate.imbalance < 0 for candidate in tied):
        return min(tied)
    reference = book.last_ticks
    return min(tied, key=lambda candidate: (0 if reference is None else abs(candidate.price - reference), candidate.price))


def _volumes(book: OrderBook) -> Iterator[tuple[int, int, int]]:
    """(price, lots bought at it or above, lots sold at it or below) for each price that could be the one, lowest first.

    Volumes change at limit prices only: the ticks beside each stand for the prices between two of them, the reference for itself.
    """
    bids = [(level.price, level.quantity + level.hidden) for level in book.bids.best_first()]
    asks = [(level.price, level.quantity + level.hidden) for level in book.asks.best_first()]
    lowest, highest = asks[0][0], bids[0][0]
    limits = {beside for price, _ in (*bids, *asks) for beside in (price - 1, price, price + 1)}
    if book.last_ticks is not None:
        limits.add(book.last_ticks)
    prices = {price for price in limits if lowest <= price <= highest}
    bought, sold, next_ask = sum(lots for _, lots in bids), 0, 0
    for price in sorted(prices):
        while bids and bids[-1][0] < price:
            bought -= bids.pop()[1]
        while next_ask < len(asks) and asks[next_ask][0] <= price:
            sold += asks[next_ask][1]
            next_ask += 1
        yield price, bought, sold


def auction_indicated(book: OrderBook, time: int, sequence: int) -> AuctionIndicated:
    """What the public is told of a running auction."""
    found = indication(book)
    quantities, symbol = book.instrument.quantities, book.instrument.symbol
    if found is None:
        return AuctionIndicated(symbol, sequence, time, None, quantities.number(0), quantities.number(0), None)
    surplus = None if not found.imbalance else Side.BUY if found.imbalance > 0 else Side.SELL
    return AuctionIndicated(
        symbol,
        sequence,
        time,
        book.instrument.prices.number(found.price),
        quantities.number(found.volume),
        quantities.number(abs(found.imbalance)),
        surplus,
    )


def crossing_pair(book: OrderBook, price: int) -> tuple[Order, Order] | None:
    """The first buyer and the first seller in price-time order that trade at `price`, or None when it has no more."""
    bid, ask = _first(book.bids), _first(book.asks)
    if bid is None or ask is None or bid.price is None or ask.price is None or bid.price < price or ask.price > price:
        return None
    return bid, ask


def taker_and_maker(one: Order, other: Order) -> tuple[Order, Order]:
    """Of two orders that an auction matches, the older is the maker."""
    return (one, other) if one.id > other.id else (other, one)


def _first(side: BookSide) -> Order | None:
    return None if side.best is None else side.best.head
