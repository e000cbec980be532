"""All money after every command, worked out from what the database would be given, and from nothing else.

What each user has and holds, and what the venue has, are the balances and assets that changed; what open orders imply is worked
out here, by the naive formulas of `reference.funds`, from the orders and instruments that changed. It costs as much as what
changed, so millions of commands are looked at one by one.
"""

from __future__ import annotations

from collections import defaultdict

from ome.domain.enums import Side
from ome.domain.records import InstrumentRecord, OrderRecord
from ome.engine.changes import Changes
from reference.funds import WHOLE, fee
from reference.holdings import MONEY, units
from reference.pictures import exact

Key = tuple[str, str]
"""A user and an asset."""


class MoneyAudit:
    """F1-F4 of everything that was ever told; `take` raises AssertionError where it doesn't add up any more."""

    def __init__(self) -> None:
        self.accounts: dict[Key, tuple[int, int]] = {}
        self.venue: dict[str, int] = {}
        self.sums: defaultdict[str, int] = defaultdict(int)
        self.implied: defaultdict[Key, int] = defaultdict(int)
        self.instruments: dict[str, InstrumentRecord] = {}
        self.holds: dict[int, tuple[Key, int]] = {}

    def take(self, changes: Changes) -> None:
        """Take in what one command changed."""
        touched: set[Key] = set()
        self.instruments |= {record.symbol: record for record in changes.instruments}
        for order in changes.orders:
            touched |= self._order(order)
        for balance in changes.balances:
            key = balance.user_id, balance.asset
            total, reserved = units(balance.total, MONEY), units(balance.reserved, MONEY)
            assert 0 <= reserved <= total, f"{balance}: less than nothing, or than its orders hold"
            self.sums[balance.asset] += total - self.accounts.get(key, (0, 0))[0]
            self.accounts[key] = total, reserved
            touched.add(key)
        for venue in changes.assets:
            total = units(venue.external, MONEY) + units(venue.fees, MONEY)
            self.sums[venue.asset] += total - self.venue.get(venue.asset, 0)
            self.venue[venue.asset] = total
        for key in touched:
            reserved = self.accounts.get(key, (0, 0))[1]
            assert reserved == self.implied[key], f"{key}: {reserved} is reserved, the open orders imply {self.implied[key]}"
        assert not any(self.sums.values()), f"not zero: {dict(self.sums)}"

    def _order(self, order: OrderRecord) -> set[Key]:
        """What an order holds from now on; whose accounts that changes."""
        touched = set()
        before = self.holds.pop(order.id, None)
        if before is not None:
            self.implied[before[0]] -= before[1]
            touched.add(before[0])
        rules = self.instruments[order.symbol].rules
        if order.is_open and rules.base_asset is not None and rules.quote_asset is not None:
            key = order.user_id, rules.base_asset if order.side is Side.SELL else rules.quote_asset
            self.holds[order.id] = key, self._amount(order)
            self.implied[key] += self.holds[order.id][1]
            touched.add(key)
        return touched

    def _amount(self, order: OrderRecord) -> int:
        """F1: a sell what it sells; a buy, for each lot, its price and the larger fee on it; nothing while it has none."""
        left = exact(order.remaining_quantity)
        if order.side is Side.SELL:
            return left * WHOLE
        if order.price is None:
            return 0
        instrument = self.instruments[order.symbol]
        lot, rules = exact(instrument.lot_size), instrument.rules
        value = exact(order.price) * lot
        return left // lot * (value + max(0, fee(value, rules.maker_fee_bps), fee(value, rules.taker_fee_bps)))
