"""What the twin knows of money: who has how much of what. What is reserved is never kept: it is added up from the open orders.

Every amount is a count of 10**-18: a price times a quantity. Shares are rounded where rule F3 says so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from ome.domain.enums import OrderType, Side
from reference.pictures import Market, Order

WHOLE = 10**9
"""A quantity of one times a price of one is as many amounts as this squared."""
OUTSIDE, FEES = "<outside>", "<fees>"
"""The venue's own accounts; no user can be called so."""


class Hold(NamedTuple):
    """What an order keeps from being spent."""

    asset: str
    amount: int


def fee(value: int, basis_points: int) -> int:
    """What a trade costs: the exact share, or the next amount above it (F3)."""
    return -(-value * basis_points // 10_000)


def price_of_a_lot(market: Market, price: int) -> int:
    """What buying one lot takes at most, whoever of the two it turns out to be: maker or taker (F1)."""
    value = price * market.lot
    return value + max(fee(value, market.maker_fee_bps), fee(value, market.taker_fee_bps), 0)


def hold_of(market: Market, order: Order) -> Hold | None:
    """What an open order holds (F1): a sell what it sells; a buy what it costs at its price; nothing while it has none."""
    if market.base is None or market.quote is None:
        return None
    if order.asked.side is Side.SELL:
        return Hold(market.base, order.left * WHOLE)
    if order.price is None:
        return Hold(market.quote, 0)
    return Hold(market.quote, order.left // market.lot * price_of_a_lot(market, order.price))


class Accounts:
    """Totals by owner and asset; everything else is worked out."""

    def __init__(self) -> None:
        self.totals: defaultdict[tuple[str, str], int] = defaultdict(int)

    def move(self, asset: str, giver: str, taker: str, amount: int) -> None:
        """From one to the other; an amount below zero goes the other way."""
        self.totals[giver, asset] -= amount
        self.totals[taker, asset] += amount

    def reserved(self, markets: dict[str, Market], orders: Iterable[Order]) -> dict[tuple[str, str], int]:
        """What open orders hold, by owner and asset."""
        found: defaultdict[tuple[str, str], int] = defaultdict(int)
        for order in orders:
            hold = hold_of(markets[order.asked.symbol], order)
            if hold is not None:
                found[order.asked.user_id, hold.asset] += hold.amount
        return found

    def available(self, user: str, asset: str, markets: dict[str, Market], orders: Iterable[Order]) -> int:
        """What a user may still spend, hold or take out."""
        return self.totals.get((user, asset), 0) - self.reserved(markets, orders).get((user, asset), 0)

    def trade(self, market: Market, maker: Order, taker: Order, price: int, quantity: int) -> None:
        """Money one way, goods the other, and a fee from each (F3)."""
        if market.base is None or market.quote is None:
            return
        buyer, seller = (maker, taker) if maker.asked.side is Side.BUY else (taker, maker)
        self.move(market.quote, buyer.asked.user_id, seller.asked.user_id, price * quantity)
        self.move(market.base, seller.asked.user_id, buyer.asked.user_id, quantity * WHOLE)
        for order, basis_points in ((maker, market.maker_fee_bps), (taker, market.taker_fee_bps)):
            charged = fee(price * quantity, basis_points)
            if charged:
                self.move(market.quote, order.asked.user_id, FEES, charged)


def is_priced_later(order: Order) -> bool:
    """A buy whose price is only known once it fires holds nothing until then (F1)."""
    return order.asked.side is Side.BUY and order.asked.type in {OrderType.STOP, OrderType.TRAILING_STOP}


def cost_of_sweeping(market: Market, taker: Order, makers: Iterable[Order]) -> int:
    """What a buy without a price can cost at most: the makers in their order, each whole, until it has enough (F1)."""
    left, total = taker.left, 0
    for maker in makers:
        part = min(left, maker.left)
        total += part // market.lot * price_of_a_lot(market, maker.price or 0)
        left -= part
    return total
