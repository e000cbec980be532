"""Funds: what orders and trades mean for the ledger, in the instruments that name two assets (rules F1-F4).

What an open order holds follows from the order alone, so nothing is kept with it, and a restart finds it again:

- a sell, waiting or not: its remaining quantity, of the base asset;
- a buy that has a price: for each lot that remains what it costs at that price, and the larger of the two fees on it, none where
  both are rebates, rounded up for each lot: so it covers any trades that the lots may be cut into;
- a buy without one: nothing. MARKET never rests: it must be able to pay for what there is to take when it enters. STOP and
  TRAILING_STOP have no price before they fire: then they must be able to pay, or are cancelled.

An order is admitted, a change made, a stop fired only if the user has available what it takes; that is the last of all checks
(R1), and until then nothing has changed. Whatever an order no longer needs is available at once: filled at a better price,
prevented, reduced, ended. Symbols without assets cost one look-up in an empty dictionary.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from ome.domain.amounts import AMOUNT_DECIMALS, atoms_of, fee_of, number_below
from ome.domain.commands import Transfer
from ome.domain.enums import OrderType, SelfTradePrevention, Side, TransferKind
from ome.domain.errors import InvariantBroken
from ome.domain.events import CommandRefused, Event, FundsTransferred
from ome.domain.numbers import POWER_OF_TEN
from ome.domain.reasons import Reason
from ome.domain.records import AssetRecord, BalanceRecord, TransferRecord
from ome.engine.ledger import Key, Ledger, Payment
from ome.engine.order import Order
from ome.engine.order_book import OrderBook
from ome.engine.refusal import Refusal

_PRICED_LATER: Final = frozenset({OrderType.STOP, OrderType.TRAILING_STOP})
"""The types that have no price before they fire."""


class Terms(NamedTuple):
    """How an instrument's orders are paid: its two assets, how many atoms of base a lot is, of quote a lot at one tick, and the
    fees.
    """

    base: str
    quote: str
    lot: int
    tick_lot: int
    maker_fee_bps: int
    taker_fee_bps: int

    def pays_with(self, side: Side) -> str:
        """The asset that orders of a side hold."""
        return self.quote if side is Side.BUY else self.base

    def held(self, side: Side, price: int | None, lots: int) -> int:
        """The atoms that lots of an open order hold, at its own price in ticks."""
        if side is Side.SELL:
            return lots * self.lot
        return 0 if price is None else lots * self.cost(price)

    def cost(self, price: int) -> int:
        """The most that buying one lot at a price can cost, fee included; that of several is at most as many times this."""
        value = price * self.tick_lot
        return value + max(0, fee_of(value, max(self.maker_fee_bps, self.taker_fee_bps)))


class Funds:
    """The ledger of a shard, as its orders use it."""

    def __init__(self, limit_of: Callable[[OrderBook, Order], tuple[int | None, Reason | None]]) -> None:
        """`limit_of` says how far an order may trade now, and why no further."""
        self._limit_of = limit_of
        self._ledger = Ledger()
        self.terms: dict[str, Terms] = {}
        """Of each symbol that names two assets; where there is none, nothing below is of any concern to orders."""
        self._balance_pictures: dict[Key, BalanceRecord] = {}
        self._asset_pictures: dict[str, AssetRecord] = {}

    def define(self, book: OrderBook) -> None:
        """Take in how a symbol's orders are paid from now on; it has none now."""
        instrument, rules = book.instrument, book.rules
        self.terms.pop(instrument.symbol, None)
        if rules.base_asset is not None and rules.quote_asset is not None:
            tick, lot = instrument.prices, instrument.quantities
            tick_lot = tick.mantissa * lot.mantissa * POWER_OF_TEN[AMOUNT_DECIMALS - tick.decimals - lot.decimals]
            self.terms[instrument.symbol] = Terms(
                rules.base_asset,
                rules.quote_asset,
                lot.mantissa * POWER_OF_TEN[AMOUNT_DECIMALS - lot.decimals],
                tick_lot,
                rules.maker_fee_bps,
                rules.taker_fee_bps,
            )

    # Orders

    def open(self, book: OrderBook, order: Order) -> None:
        """Hold what a new order needs. Raises Refusal, before anything has changed."""
        terms = self.terms.get(order.instrument.symbol)
        if terms is None or (order.side is Side.BUY and order.type in _PRICED_LATER):
            return
        if not self._can_pay(terms, book, order):
            raise self._refusal(order.user_id, terms.pays_with(order.side))

    def fire(self, book: OrderBook, order: Order) -> bool:
        """Hold what a stop needs that becomes a MARKET or LIMIT order now, beyond what it holds since it was accepted; whether
        there is so much.
        """
        terms = self.terms.get(order.instrument.symbol)
        if terms is None or order.side is Side.SELL or order.type is OrderType.STOP_LIMIT:
            return True
        return self._can_pay(terms, book, order)

    def change(self, order: Order, price: int | None, lots: int) -> None:
        """Hold what an open order will need with another price, and so many lots that remain. Raises Refusal, before anything has
        changed; never where it needs no more than before.
        """
        terms = self.terms.get(order.instrument.symbol)
        if terms is None:
            return
        asset = terms.pays_with(order.side)
        more = terms.held(order.side, price, lots) - terms.held(order.side, order.price, order.remaining)
        if more <= 0:
            self._ledger.release(order.user_id, asset, -more)
        elif not self._ledger.reserve(order.user_id, asset, more):
            raise self._refusal(order.user_id, asset)

    def reduced(self, order: Order, lots: int) -> None:
        """So many lots of an open order will not trade any more: prevented, cancelled, expired."""
        terms = self.terms.get(order.instrument.symbol)
        if terms is not None:
            self._ledger.release(order.user_id, terms.pays_with(order.side), terms.held(order.side, order.price, lots))

    def traded(self, taker: Order, maker: Order, lots: int, price: int) -> None:
        """Two orders have traded: the buyer's quote asset goes to the seller, the seller's base asset to the buyer, fees to the
        venue, and what the buyer held beyond that is available again.
        """
        terms = self.terms.get(taker.instrument.symbol)
        if terms is None:
            return
        value, quantity = lots * price * terms.tick_lot, lots * terms.lot
        maker_fee, taker_fee = fee_of(value, terms.maker_fee_bps), fee_of(value, terms.taker_fee_bps)
        if taker.side is Side.BUY:
            buyer, buyer_fee, seller, seller_fee = taker, taker_fee, maker, maker_fee
        else:
            buyer, buyer_fee, seller, seller_fee = maker, maker_fee, taker, taker_fee
        self._ledger.settle(
            terms.base,
            terms.quote,
            Payment(buyer.user_id, terms.held(Side.BUY, buyer.price, lots), value, buyer_fee),
            Payment(seller.user_id, quantity, quantity, seller_fee),
        )

    # Transfers

    def transfer(self, command: Transfer, transfer_id: int, time: int) -> Event:
        """Carry out a deposit or a withdrawal; the refusal of one beyond what is available (F2)."""
        amount = atoms_of(command.amount)
        if command.transfer_kind is TransferKind.DEPOSIT:
            self._ledger.deposit(command.user_id, command.asset, amount)
        elif not self._ledger.withdraw(command.user_id, command.asset, amount):
            refusal = self._refusal(command.user_id, command.asset)
            return CommandRefused(None, refusal.reason, refusal.limit)
        return FundsTransferred(
            TransferRecord(
                transfer_id,
                command.transfer_kind,
                command.user_id,
                command.asset,
                command.amount,
                command.client_transfer_id,
                time,
            )
        )

    # What is kept

    def fold(self) -> int:
        """Bring the pictures of the accounts that have changed up to now; by how much the sum of all digests did."""
        balances, assets, shift = self._ledger.take_changes()
        self._balance_pictures.update(((each.user_id, each.asset), each) for each in balances)
        self._asset_pictures.update((each.asset, each) for each in assets)
        return shift

    def take_pictures(self) -> tuple[list[BalanceRecord], list[AssetRecord]]:
        """Every account that has changed since the last call, as it was at the last `fold`."""
        pictures = list(self._balance_pictures.values()), list(self._asset_pictures.values())
        self._balance_pictures, self._asset_pictures = {}, {}
        return pictures

    def balances(self, user_ids: frozenset[str] | None = None) -> list[BalanceRecord]:
        """Every account, or those of some users."""
        return self._ledger.balances(user_ids)

    def assets(self) -> list[AssetRecord]:
        """The venue's accounts of every asset."""
        return self._ledger.assets()

    def restore(self, balances: Iterable[BalanceRecord], assets: Iterable[AssetRecord], books: Iterable[OrderBook]) -> int:
        """Stand as it was pictured: the sum of all digests. Raises InvariantBroken for a picture that can't be read."""
        for book in books:
            self.define(book)
        try:
            return self._ledger.restore(balances, assets)
        except ValueError as error:
            raise InvariantBroken(f"a balance can't be restored: {error}") from error

    def check_invariants(self, orders: Iterable[Order]) -> None:
        """What `Ledger.check_invariants` does, with what the open orders imply."""
        implied: defaultdict[Key, int] = defaultdict(int)
        if self.terms:
            for order in orders:
                terms = self.terms.get(order.instrument.symbol)
                if terms is not None:
                    held = terms.held(order.side, order.price, order.remaining)
                    implied[order.user_id, terms.pays_with(order.side)] += held
        self._ledger.check_invariants(implied)

    def _can_pay(self, terms: Terms, book: OrderBook, order: Order) -> bool:
        """Whether there is what an order needs now; it is held, but for what is spent at once."""
        asset = terms.pays_with(order.side)
        if order.side is Side.BUY and order.price is None:
            most = _cost_of_taking(terms, book, order, self._limit_of(book, order)[0])
            return most <= self._ledger.available(order.user_id, asset)
        return self._ledger.reserve(order.user_id, asset, terms.held(order.side, order.price, order.remaining))

    def _refusal(self, user_id: str, asset: str) -> Refusal:
        return Refusal(Reason.INSUFFICIENT_FUNDS, number_below(self._ledger.available(user_id, asset)))


def _cost_of_taking(terms: Terms, book: OrderBook, taker: Order, limit: int | None) -> int:
    """The most that a buy can spend at once: on all of it that others offer within a limit, best price first, hidden parts too.

    The user's own orders are passed over, whatever becomes of them: prevention can only make it spend less (P1).
    """
    left, most = taker.remaining, 0
    passes_own = taker.self_trade_prevention is not SelfTradePrevention.NONE
    for level in book.asks.best_first():
        if limit is not None and level.price > limit:
            break
        each = terms.cost(level.price)
        for maker in level:
            if not (passes_own and maker.user_id == taker.user_id):
                lots = min(left, maker.remaining)
                most += lots * each
                left -= lots
                if not left:
                    return most
    return most
