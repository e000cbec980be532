"""The engine's state machine with funds: every command of it, and deposits, withdrawals, other fees and other assets beside."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from ome.domain.commands import DefineInstrument, Transfer
from ome.domain.enums import TransferKind
from ome.domain.numbers import canonical, pack
from properties.flow import Flow
from properties.profiles import machine_settings
from properties.test_engine_machine import EngineMachine, symbols, users

assets = st.sampled_from(["USD", "SHARE", "BTC", "ETH"])
fees = st.sampled_from([-10_000, -7, -1, 0, 1, 3, 10, 10_000])


class FundsMachine(EngineMachine):
    """The same, where orders are paid for: engine and twin agree on all money, which adds up to zero, after each command."""

    @initialize()
    def list_symbols(self) -> None:
        """All three are funded; everybody begins with a little of everything."""
        super().list_symbols()
        for command in Flow(Random(0), funded=True).first_funds():
            self.pair.send(command)

    @rule(user=users, asset=assets, amount=st.sampled_from([1, 3, 20, 500]), decimals=st.sampled_from([0, 0, 2, 9]))
    def deposit(self, user: str, asset: str, amount: int, decimals: int) -> None:
        """Money comes in (F2)."""
        self.transfer(TransferKind.DEPOSIT, user, asset, canonical(pack(amount, decimals)))

    @rule(user=users, asset=assets, more=st.sampled_from([-1, 0, 1]))
    def withdraw(self, user: str, asset: str, more: int) -> None:
        """All that is available, and a billionth less or more (F2)."""
        amount = self.pair.twin.available(user, asset) // 10**9 + more
        if 0 < amount < 10**15:
            self.transfer(TransferKind.WITHDRAWAL, user, asset, canonical(pack(amount, 9)))

    @rule(symbol=symbols, maker=st.none() | fees, taker=st.none() | fees)
    def change_fees(self, symbol: str, maker: int | None, taker: int | None) -> None:
        """Other fees, while nothing is open (F1, F3)."""
        self.pair.send(DefineInstrument(symbol, maker_fee_bps=maker, taker_fee_bps=taker))

    @rule(symbol=symbols, pair=st.sampled_from([("", ""), ("SHARE", "USD"), ("ETH", "BTC"), ("USD", "BTC")]))
    def change_assets(self, symbol: str, pair: tuple[str, str]) -> None:
        """Other assets, or none, while nothing is open (F1)."""
        self.pair.send(DefineInstrument(symbol, base_asset=pair[0], quote_asset=pair[1]))

    def transfer(self, kind: TransferKind, user: str, asset: str, amount: int) -> None:
        """With a client id of its own."""
        self.pair.send(Transfer(kind, user, asset, amount, f"t{len(self.pair.journal)}"))


TestFundsMachine = pytest.mark.timeout(3600)(FundsMachine.TestCase)
TestFundsMachine.settings = machine_settings()
