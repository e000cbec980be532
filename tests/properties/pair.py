"""An engine and its twin, told the same commands and compared after each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ome.domain.commands import CancelOrder, Command, ModifyOrder, Stamped
from ome.domain.events import Event
from ome.domain.records import AssetRecord, BalanceRecord
from ome.engine.engine import Engine
from properties.ledger import Ledger
from reference.compare import assert_same_accounts, assert_same_market, assert_same_state, differences, outcome_of, picture
from reference.twin import Twin

START = 1_700_000_000_000_000
"""The first command's time: microseconds since 1970 UTC."""


class Pair:
    """Stamps commands, gives them to both, and holds both to each other and to the invariants."""

    def __init__(self, shard: int = 0) -> None:
        self.engine = Engine(shard)
        self.twin = Twin(shard)
        self.ledger = Ledger()
        self.clock = START
        self.journal: list[Stamped] = []
        self.balances: dict[tuple[str, str], BalanceRecord] = {}
        self.assets: dict[str, AssetRecord] = {}

    def send(self, command: Command) -> list[Event]:
        """Apply a command to both; AssertionError tells where they part."""
        stamped = Stamped(len(self.journal) + 1, self.clock, command)
        self.journal.append(stamped)
        expected = self.twin.apply(stamped)
        events = self.engine.apply(stamped)
        parted = differences(expected, outcome_of(events))
        assert not parted, "\n".join([f"{stamped}:", *parted])
        self.ledger.take(events, self.clock)
        self._compare_changes(events)
        return events

    def modify(self, order_id: int, **changes: Any) -> list[Event]:
        """A modify that says truthfully whether the id was ever an order's."""
        return self.send(ModifyOrder(order_id, order_id in self.twin.orders, **changes))

    def cancel(self, order_id: int) -> list[Event]:
        """A cancel that says truthfully whether the id was ever an order's."""
        return self.send(CancelOrder(order_id, order_id in self.twin.orders))

    def _compare_changes(self, events: Sequence[Event]) -> None:
        """What the writer is given: every order that changed, once, as it is now; and every symbol that something was told of."""
        changes = self.engine.take_changes()
        assert sorted(record.id for record in changes.orders) == sorted(self.twin.changed)
        for record in changes.orders:
            assert picture(record) == self.twin.orders[record.id].picture()
        told = outcome_of(events)
        symbols = {symbol for symbol, *_ in told.markets} | set(told.books) | {trade.symbol for trade in told.trades}
        symbols |= set(told.auctions)
        assert sorted(record.symbol for record in changes.instruments) == sorted(symbols)
        for instrument in changes.instruments:
            assert_same_market(self.twin, instrument)
        self.balances |= {(row.user_id, row.asset): row for row in changes.balances}
        self.assets |= {row.asset: row for row in changes.assets}
        assert_same_accounts(self.twin, self.balances.values(), self.assets.values())

    def compare(self) -> None:
        """The whole of both states, and an engine restored from its own."""
        self.engine.check_invariants()
        state = self.engine.state()
        assert_same_state(self.twin, state)
        self.ledger.assert_levels_are_orders()
        assert all(self.engine.is_open(order.id) for order in (*self.twin.resting, *self.twin.waiting))
        assert self.engine.next_deadline() == self.twin.next_deadline()
        restored = Engine.restore(state)
        restored.check_invariants()
        assert restored.state_hash() == self.engine.state_hash(), "a restored engine knows the same"
        assert_same_state(self.twin, restored.state())
        assert restored.next_deadline() == self.engine.next_deadline()

    def restart(self) -> None:
        """Go on with an engine restored from the state of this one: nothing may show (M6)."""
        self.engine = Engine.restore(self.engine.state())
