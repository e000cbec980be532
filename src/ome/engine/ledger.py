"""The ledger: what every user has of every asset, how much of it is reserved, and the venue's two accounts of each asset.

Double entry, in whole atoms (`domain.amounts`): whatever one account gets another gives, so that per asset the users' totals, the
venue's fees and its contra account `external` (minus deposits, plus withdrawals) always add up to zero. No user's total is ever
below what is reserved of it, nor is that below zero; a step that would make it so is refused where a user asks for it (`reserve`,
`withdraw`) and is a bug, InvariantBroken, anywhere else.

Pure: it knows nothing of orders and prices; `engine.funds` says what they mean for it. Every step costs O(1). An account begins
with the first amount that comes to it and stays, at zero too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ome.domain.amounts import amount_text, atoms_of_text
from ome.domain.digests import digest
from ome.domain.errors import InvariantBroken
from ome.domain.records import AssetRecord, BalanceRecord

Key = tuple[str, str]
"""User and asset."""


class Account:
    """A user's of one asset, in atoms: `reserved` is the part of `total` that open orders hold."""

    __slots__ = ("digest", "reserved", "total")

    def __init__(self, total: int = 0, reserved: int = 0) -> None:
        self.total = total
        self.reserved = reserved
        self.digest = 0

    @property
    def available(self) -> int:
        """What may be reserved or withdrawn."""
        return self.total - self.reserved


class VenueAccounts:
    """The venue's of one asset, in atoms. Either may be negative: `fees` where rebates outweigh them, `external` by nature."""

    __slots__ = ("digest", "external", "fees")

    def __init__(self, external: int = 0, fees: int = 0) -> None:
        self.external = external
        self.fees = fees
        self.digest = 0


class Payment(NamedTuple):
    """What one side of a trade does: it gives up `released` of what is reserved in the asset it pays with, pays `paid` of that
    asset, and a `fee` in the quote asset, which is negative for a rebate. Atoms.
    """

    user_id: str
    released: int
    paid: int
    fee: int


class Ledger:
    """All accounts of a shard."""

    def __init__(self) -> None:
        self._accounts: dict[Key, Account] = {}
        self._venue: dict[str, VenueAccounts] = {}
        self._changed_accounts: dict[Key, Account] = {}
        self._changed_assets: dict[str, VenueAccounts] = {}

    # What is asked

    def account(self, user_id: str, asset: str) -> Account | None:
        """A user's account, None before anything came to it; to look at, not to change."""
        return self._accounts.get((user_id, asset))

    def available(self, user_id: str, asset: str) -> int:
        """What the user may reserve or withdraw of an asset."""
        account = self._accounts.get((user_id, asset))
        return 0 if account is None else account.available

    # Steps

    def deposit(self, user_id: str, asset: str, amount: int) -> None:
        """An amount comes from outside."""
        self._credit(user_id, asset, amount)
        self._venue_of(asset).external -= amount

    def withdraw(self, user_id: str, asset: str, amount: int) -> bool:
        """An amount goes outside; False, and nothing has changed, where that is more than is available."""
        account = self._accounts.get((user_id, asset))
        if account is None or amount > account.available:
            return False
        self._credit(user_id, asset, -amount)
        self._venue_of(asset).external += amount
        return True

    def reserve(self, user_id: str, asset: str, amount: int) -> bool:
        """Hold an amount of 0 or more for an order; False, and nothing has changed, where that is more than is available."""
        if not amount:
            return True
        account = self._accounts.get((user_id, asset))
        if account is None or amount > account.available:
            return False
        account.reserved += amount
        self._changed_accounts[user_id, asset] = account
        return True

    def release(self, user_id: str, asset: str, amount: int) -> None:
        """Give back an amount of 0 or more that was held."""
        if not amount:
            return
        account = self._account(user_id, asset)
        account.reserved -= amount
        self._check(user_id, asset, account)

    def settle(self, base: str, quote: str, buyer: Payment, seller: Payment) -> None:
        """A trade: the buyer's quote asset for the seller's base asset, and the fees of both. The two may be one user."""
        self.release(buyer.user_id, quote, buyer.released)
        self.release(seller.user_id, base, seller.released)
        self._credit(buyer.user_id, quote, -buyer.paid - buyer.fee)
        self._credit(seller.user_id, base, -seller.paid)
        self._credit(seller.user_id, quote, buyer.paid - seller.fee)
        self._credit(buyer.user_id, base, seller.paid)
        if buyer.fee or seller.fee:
            self._venue_of(quote).fees += buyer.fee + seller.fee

    def _credit(self, user_id: str, asset: str, amount: int) -> None:
        account = self._account(user_id, asset)
        account.total += amount
        self._check(user_id, asset, account)

    def _account(self, user_id: str, asset: str) -> Account:
        key = (user_id, asset)
        account = self._accounts.get(key)
        if account is None:
            account = self._accounts[key] = Account()
        self._changed_accounts[key] = account
        return account

    def _venue_of(self, asset: str) -> VenueAccounts:
        venue = self._venue.get(asset)
        if venue is None:
            venue = self._venue[asset] = VenueAccounts()
        self._changed_assets[asset] = venue
        return venue

    @staticmethod
    def _check(user_id: str, asset: str, account: Account) -> None:
        if not 0 <= account.reserved <= account.total:
            raise InvariantBroken(f"{user_id} has {account.total} atoms of {asset}, {account.reserved} of them reserved")

    # What is kept

    def take_changes(self) -> tuple[list[BalanceRecord], list[AssetRecord], int]:
        """The accounts that have changed since the last call, as they are now, and by how much their digests' sum did."""
        shift = 0
        balances = [_balance(key, account) for key, account in self._changed_accounts.items()]
        for record, account in zip(balances, self._changed_accounts.values(), strict=True):
            now = digest(record)
            shift += now - account.digest
            account.digest = now
        assets = [_asset(asset, venue) for asset, venue in self._changed_assets.items()]
        for its_record, venue in zip(assets, self._changed_assets.values(), strict=True):
            now = digest(its_record)
            shift += now - venue.digest
            venue.digest = now
        self._changed_accounts, self._changed_assets = {}, {}
        return balances, assets, shift

    def balances(self, user_ids: frozenset[str] | None = None) -> list[BalanceRecord]:
        """Every account, or those of some users."""
        return [_balance(key, account) for key, account in self._accounts.items() if user_ids is None or key[0] in user_ids]

    def assets(self) -> list[AssetRecord]:
        """The venue's accounts of every asset."""
        return [_asset(asset, venue) for asset, venue in self._venue.items()]

    def restore(self, balances: Iterable[BalanceRecord], assets: Iterable[AssetRecord]) -> int:
        """Take in accounts as they were, into an empty ledger: the sum of their digests. Raises ValueError for no amount."""
        for record in balances:
            account = self._accounts[record.user_id, record.asset] = Account(
                atoms_of_text(record.total), atoms_of_text(record.reserved)
            )
            account.digest = digest(record)
        for each in assets:
            venue = self._venue[each.asset] = VenueAccounts(atoms_of_text(each.external), atoms_of_text(each.fees))
            venue.digest = digest(each)
        users, venues = self._accounts.values(), self._venue.values()
        return sum(account.digest for account in users) + sum(venue.digest for venue in venues)

    def check_invariants(self, reserved: Mapping[Key, int]) -> None:
        """Every asset adds up to zero, nobody has less than nothing, and what is reserved is `reserved`, which holds what open
        orders imply for each user and asset. InvariantBroken says what doesn't hold.
        """
        sums: defaultdict[str, int] = defaultdict(int)
        for (user_id, asset), account in self._accounts.items():
            self._check(user_id, asset, account)
            sums[asset] += account.total
            implied = reserved.get((user_id, asset), 0)
            if account.reserved != implied:
                raise InvariantBroken(
                    f"{user_id} has {account.reserved} atoms of {asset} reserved, and orders that hold {implied} of them"
                )
        for (user_id, asset), implied in reserved.items():
            if implied and (user_id, asset) not in self._accounts:
                raise InvariantBroken(f"{user_id} has orders that hold {implied} atoms of {asset}, and no account of it")
        for asset, venue in self._venue.items():
            sums[asset] += venue.external + venue.fees
        for asset, total in sums.items():
            if total:
                raise InvariantBroken(f"all accounts of {asset} add up to {total} atoms, not to zero")


def _balance(key: Key, account: Account) -> BalanceRecord:
    return BalanceRecord(*key, amount_text(account.total), amount_text(account.reserved))


def _asset(asset: str, venue: VenueAccounts) -> AssetRecord:
    return AssetRecord(asset, amount_text(venue.external), amount_text(venue.fees))
