"""The ledger by itself, beside a naive one: one list of postings that is added up anew for every question."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ome.domain.amounts import amount_text
from ome.domain.digests import digest
from ome.domain.errors import InvariantBroken
from ome.domain.records import AssetRecord, BalanceRecord
from ome.engine.ledger import Ledger, Payment
from properties.profiles import machine_settings

users = st.sampled_from(["ann", "bob", "cat"])
assets = st.sampled_from(["BTC", "USD", "EUR"])
amounts = st.one_of(st.integers(1, 12), st.integers(1, 10**24))
shares = st.integers(0, 100)
EXTERNAL, FEES = "<outside>", "<fees>"


class LedgerMachine(RuleBasedStateMachine):
    """Every step that there is; ledger and postings agree after each, and each asset adds up to zero."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger()
        self.postings: list[tuple[str, str, int]] = []
        self.holds: list[tuple[str, str, int]] = []
        self.digest_sum = 0
        self.rows: dict[object, BalanceRecord | AssetRecord] = {}

    def total(self, account: str, asset: str) -> int:
        """What an account has."""
        return sum(amount for name, kind, amount in self.postings if (name, kind) == (account, asset))

    def held(self, user: str, asset: str) -> int:
        """What is reserved of it."""
        return sum(amount for name, kind, amount in self.holds if (name, kind) == (user, asset))

    def free(self, user: str, asset: str) -> int:
        """What is left to take."""
        return self.total(user, asset) - self.held(user, asset)

    @rule(user=users, asset=assets, amount=amounts)
    def deposit(self, user: str, asset: str, amount: int) -> None:
        """Money comes in; the contra account goes down by as much."""
        self.ledger.deposit(user, asset, amount)
        self.postings += [(user, asset, amount), (EXTERNAL, asset, -amount)]

    @rule(user=users, asset=assets, amount=amounts | st.none(), over=st.booleans())
    def withdraw(self, user: str, asset: str, amount: int | None, over: bool) -> None:
        """Up to what is available, to the last atom, and not one more."""
        free = self.free(user, asset)
        amount = free + over if amount is None else amount
        has_account = any(name == user and kind == asset for name, kind, _ in self.postings)
        assert self.ledger.withdraw(user, asset, amount) is (has_account and amount <= free)
        if has_account and amount <= free:
            self.postings += [(user, asset, -amount), (EXTERNAL, asset, amount)]

    @rule(user=users, asset=assets, amount=amounts | st.none(), over=st.booleans())
    def reserve(self, user: str, asset: str, amount: int | None, over: bool) -> None:
        """Up to what is available, to the last atom, and not one more; nothing can be held of nothing."""
        free = self.free(user, asset)
        amount = free + over if amount is None else amount
        assert self.ledger.reserve(user, asset, amount) is (amount <= free)
        if amount <= free:
            self.holds.append((user, asset, amount))

    @precondition(lambda self: self.holds)
    @rule(data=st.data(), share=shares)
    def release(self, data: st.DataObject, share: int) -> None:
        """A part of a hold, or all of it."""
        user, asset, amount = self.holds.pop(data.draw(st.integers(0, len(self.holds) - 1)))
        given_back = amount * share // 100
        self.ledger.release(user, asset, given_back)
        self.holds.append((user, asset, amount - given_back))

    @precondition(lambda self: self.holds)
    @rule(data=st.data(), seller=users, sold=shares, used=shares, fee=shares, rebate=st.booleans())
    def settle(self, data: st.DataObject, seller: str, sold: int, used: int, fee: int, rebate: bool) -> None:
        """A trade out of a buyer's hold and of what a seller has free: paid in part, at a fee, with a rebate for the seller."""
        place = data.draw(st.integers(0, len(self.holds) - 1))
        buyer, quote, hold = self.holds[place]
        base = "BTC" if quote != "BTC" else "USD"
        paid = hold * used // 100
        buyer_fee = (hold - paid) * fee // 100
        seller_fee = -(paid * fee // 100) if rebate else paid * fee // 100
        given = self.free(seller, base) * sold // 100
        if any(name == seller and kind == base for name, kind, _ in self.postings):
            self.holds[place] = (buyer, quote, 0)
            self.ledger.settle(base, quote, Payment(buyer, hold, paid, buyer_fee), Payment(seller, 0, given, seller_fee))
            self.postings += [
                *[(buyer, quote, -paid - buyer_fee), (seller, quote, paid - seller_fee), (FEES, quote, buyer_fee + seller_fee)],
                *[(buyer, base, given), (seller, base, -given)],
            ]

    @rule()
    def take_changes(self) -> None:
        """What changed since the last time, each account once, brings a reader's copy and the sum of digests up to date."""
        balances, venue, shift = self.ledger.take_changes()
        self.digest_sum += shift
        self.rows |= {(row.user_id, row.asset): row for row in balances} | {row.asset: row for row in venue}
        assert len(self.rows) == len(self.ledger.balances()) + len(self.ledger.assets())
        assert set(self.rows.values()) == {*self.ledger.balances(), *self.ledger.assets()}
        assert self.digest_sum == sum(map(digest, self.rows.values()))
        again = Ledger()
        assert again.restore(self.ledger.balances(), self.ledger.assets()) == self.digest_sum
        assert (again.balances(), again.assets()) == (self.ledger.balances(), self.ledger.assets())

    @invariant()
    def agrees(self) -> None:
        """Every account is what the postings say; nobody has less than nothing; each asset adds up to zero."""
        holds = {(user, asset): self.held(user, asset) for user, asset, _ in self.holds}
        self.ledger.check_invariants(holds)
        for row in self.ledger.balances():
            total, held = self.total(row.user_id, row.asset), self.held(row.user_id, row.asset)
            assert row == BalanceRecord(row.user_id, row.asset, amount_text(total), amount_text(held))
            assert 0 <= held <= total
            assert self.ledger.available(row.user_id, row.asset) == total - held
        for venue in self.ledger.assets():
            external, fees = self.total(EXTERNAL, venue.asset), self.total(FEES, venue.asset)
            assert venue == AssetRecord(venue.asset, amount_text(external), amount_text(fees))
            assert sum(amount for _, kind, amount in self.postings if kind == venue.asset) == 0


TestLedger = LedgerMachine.TestCase
TestLedger.settings = machine_settings()


def test_what_nobody_has_cannot_be_released_or_paid() -> None:
    """A step that would leave somebody with less than nothing is a bug, and says whose."""
    ledger = Ledger()
    ledger.deposit("ann", "USD", 5)
    with pytest.raises(InvariantBroken, match="ann has 5 atoms of USD, -1 of them reserved"):
        ledger.release("ann", "USD", 1)
    ledger = Ledger()
    ledger.deposit("ann", "USD", 5)
    with pytest.raises(InvariantBroken, match="ann has -1 atoms of USD"):
        ledger.settle("BTC", "USD", Payment("ann", 0, 5, 1), Payment("bob", 0, 1, 0))


def test_reservations_that_no_order_implies_are_found() -> None:
    """The check is against what open orders imply: too much, too little, and an account that is missing."""
    ledger = Ledger()
    ledger.deposit("ann", "USD", 5)
    assert ledger.reserve("ann", "USD", 3)
    ledger.check_invariants({("ann", "USD"): 3})
    with pytest.raises(InvariantBroken, match="3 atoms of USD reserved, and orders that hold 2"):
        ledger.check_invariants({("ann", "USD"): 2})
    with pytest.raises(InvariantBroken, match="bob has orders that hold 1 atoms"):
        ledger.check_invariants({("ann", "USD"): 3, ("bob", "USD"): 1})


def test_an_asset_that_does_not_add_up_is_found() -> None:
    """A balance that was changed by hand shows, and by how much."""
    ledger = Ledger()
    ledger.restore([BalanceRecord("ann", "USD", "5", "0")], [AssetRecord("USD", "-4.5", "0")])
    with pytest.raises(InvariantBroken, match="all accounts of USD add up to 500000000000000000 atoms"):
        ledger.check_invariants({})
