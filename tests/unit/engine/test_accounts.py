"""Whose an order is: to a command of one account the orders of all others don't exist, open or ended, and none keeps a trace."""

from __future__ import annotations

import pytest

from ome.domain.commands import CancelOrder, ModifyOrder, Stamped, decode_commands, encode_commands
from ome.domain.enums import Side
from ome.domain.events import CommandRefused, Event
from ome.domain.numbers import pack
from ome.domain.reasons import Reason
from unit.engine.test_engine_rules import NOW, engine_after, order
from unit.engine.test_order_entry import ORDER, desk, refusal
from unit.engine.test_runner import Rig


def refused(events: list[Event]) -> CommandRefused:
    """The one refusal."""
    (event,) = events
    assert isinstance(event, CommandRefused)
    return event


@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize("change", ["cancel", "modify"])
def test_another_accounts_order_is_none_to_the_engine(change: str, exists: bool) -> None:
    """Whatever a look-up before has said: it is refused as an unknown id is, names no order, and nothing changes."""
    engine = engine_after(order("ann", Side.SELL, 5, 100))
    before = engine.state_hash()
    command = (
        CancelOrder(1, exists, account="bob")
        if change == "cancel"
        else ModifyOrder(1, exists, quantity=pack(3, 0), account="bob")
    )
    assert refused(engine.apply(Stamped(2, NOW + 2, command))) == CommandRefused(None, Reason.ORDER_NOT_FOUND)
    assert engine.open_order(1) is not None
    assert engine.state().orders == engine_after(order("ann", Side.SELL, 5, 100)).state().orders
    assert before != engine.state_hash()  # it has had a position of its own, and no more
    engine.apply(Stamped(3, NOW + 3, CancelOrder(1, exists=True, account="ann")))
    assert engine.open_order(1) is None


async def test_another_accounts_order_is_none_to_order_entry() -> None:
    """Open or ended: `exists` is looked up for the account, by submit, change, cancel and batch alike."""
    rig = Rig()
    async with desk(rig) as entry:
        mine = (await entry.submit(ORDER)).order_id
        change = ModifyOrder(mine, exists=True, quantity=5, account="bob")
        for _ in ("while it is open", "when it has ended"):
            answers = [await entry.cancel(mine, "bob"), await entry.modify(change), await entry.cancel(12345, "bob")]
            batch = await entry.batch([CancelOrder(mine, exists=True, account="bob"), change])
            assert {refusal(answer) for answer in [*answers, *batch]} == {Reason.ORDER_NOT_FOUND}  # type: ignore[arg-type]
            await entry.cancel(mine, "ann")
        assert refusal(await entry.cancel(mine, "ann")) is Reason.ORDER_NOT_OPEN


def test_the_journal_of_before_reads_without_accounts() -> None:
    """A command that was written down before there were accounts has none."""
    old = encode_commands([Stamped(1, 1, CancelOrder(7, exists=True)), Stamped(2, 2, ModifyOrder(7, exists=True, quantity=5))])
    commands = [stamped.command for stamped in decode_commands(old)]
    assert [command.account for command in commands if isinstance(command, CancelOrder | ModifyOrder)] == [None, None]
    short = b"\x91\x93\x01\x02\x93\x03\x07\xc3"  # kind, order_id, exists: as it was written
    assert decode_commands(short)[0].command == CancelOrder(7, exists=True)
