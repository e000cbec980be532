"""The audit of the long run: it passes what is right, and names what isn't."""

from __future__ import annotations

from random import Random

import pytest
from msgspec import structs

from ome.domain.build import CORE
from ome.domain.commands import Stamped
from ome.engine.changes import Changes
from ome.engine.engine import Engine
from ome.engine.funds import Funds
from properties.flow import Flow
from properties.money import audited
from properties.money_audit import MoneyAudit
from properties.pair import START


def funded_changes() -> tuple[MoneyAudit, Changes]:
    """An audit that has seen everybody's first money, and the changes that told it so."""
    engine, audit = Engine(0), MoneyAudit()
    for position, command in enumerate(Flow(Random(1), funded=True).listing(), 1):
        engine.apply(Stamped(position, START, command))
    changes = engine.take_changes()
    audit.take(changes)
    return audit, changes


def test_flow_with_funds_adds_up_after_each_command() -> None:
    """F1-F4: two seeds of flow, with restarts from the engine's own state between."""
    counts = audited(11, 400) + audited(12, 400)
    assert counts["trades"] > 10
    assert counts["refused for funds"] > 10


def test_money_from_nowhere_is_noticed() -> None:
    """A user who has more, with nobody who has less."""
    audit, changes = funded_changes()
    richer = structs.replace(changes.balances[0], total="1" + changes.balances[0].total)
    with pytest.raises(AssertionError, match="not zero"):
        audit.take(structs.replace(changes, balances=[richer]))


def test_more_held_than_owned_is_noticed() -> None:
    """A reservation beyond the total."""
    audit, changes = funded_changes()
    with pytest.raises(AssertionError, match="less than nothing"):
        audit.take(structs.replace(changes, balances=[structs.replace(changes.balances[0], reserved="1" * 20)]))


@pytest.mark.skipif(CORE == "compiled", reason="it replaces a function of the engine")
def test_a_reservation_that_is_never_released_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that forgets what ended orders held parts from what the open orders imply."""
    monkeypatch.setattr(Funds, "reduced", lambda *_: None)
    with pytest.raises(AssertionError, match="the open orders imply"):
        audited(11, 400)
