"""F2 at the door: one client transfer id moves money once, whatever is sent, however often, and whatever becomes of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from msgspec import structs

from ome.domain.commands import Transfer
from ome.domain.enums import TransferKind
from ome.domain.errors import NotAccepting, OutcomeUnknown, StorageAway
from ome.domain.events import CommandRefused
from ome.domain.numbers import pack
from ome.domain.ports import TransferAnswer
from ome.domain.reasons import Reason
from ome.domain.records import TransferRecord
from ome.engine.funds_entry import FundsDesk
from ome.engine.runner import RunnerLimits
from stores import MemoryReads
from unit.engine.test_runner import Rig, settle

WIRE = Transfer(TransferKind.DEPOSIT, "ann", "USD", pack(1000, 0), "wire-1")
OUT = Transfer(TransferKind.WITHDRAWAL, "ann", "USD", pack(400, 0), "out-1")


class LostReads(MemoryReads):
    """Read models whose database is away."""

    async def transfer_of_user(self, user_id: str, client_transfer_id: str) -> TransferRecord | None:
        """No answer."""
        raise StorageAway(f"away, asked for {client_transfer_id} of {user_id}")


@asynccontextmanager
async def desk(rig: Rig, limits: RunnerLimits | None = None) -> AsyncIterator[FundsDesk]:
    """The desk in front of a running engine."""
    async with rig.running(limits) as runner:
        yield FundsDesk(runner, MemoryReads(rig.repository))


async def total(rig: Rig) -> str:
    """What ann has of dollars, as it was committed."""
    return (await MemoryReads(rig.repository).balances_of_user("ann"))[0].total


def refusal(answer: TransferAnswer) -> Reason:
    """Why it was refused; fails where it wasn't."""
    assert isinstance(answer.outcome, CommandRefused)
    return answer.outcome.reason


async def test_the_same_transfer_again_is_made_once() -> None:
    """F2: after the first is durable it is answered with the first one's record, and nothing is moved."""
    rig = Rig()
    async with desk(rig) as funds:
        first = await funds.transfer(WIRE)
        again = await funds.transfer(WIRE)
    assert isinstance(first.outcome, TransferRecord)
    assert not first.replayed
    assert again == TransferAnswer(first.outcome, replayed=True)
    assert await total(rig) == "1000"


async def test_a_hundred_at_once_move_money_once() -> None:
    """F2: duplicates that arrive while the first is in flight wait for its answer."""
    rig = Rig()
    async with desk(rig) as funds:
        rig.repository.gate.clear()
        tasks = [asyncio.create_task(funds.transfer(WIRE)) for _ in range(100)]
        await settle()
        rig.repository.gate.set()
        answers = await asyncio.gather(*tasks)
    assert sum(not answer.replayed for answer in answers) == 1
    assert len({answer.outcome.id for answer in answers if isinstance(answer.outcome, TransferRecord)}) == 1
    assert await total(rig) == "1000"


@pytest.mark.parametrize(
    "other",
    [
        structs.replace(WIRE, amount=pack(1001, 0)),
        structs.replace(WIRE, asset="EUR"),
        structs.replace(WIRE, transfer_kind=TransferKind.WITHDRAWAL),
    ],
)
async def test_another_transfer_with_the_same_id_is_refused_in_flight_and_later(other: Transfer) -> None:
    """F2: the id belongs to what was first sent with it; it is the user's own, others may use the same."""
    rig = Rig()
    async with desk(rig) as funds:
        rig.repository.gate.clear()
        first = asyncio.create_task(funds.transfer(WIRE))
        await settle()
        assert refusal(await funds.transfer(other)) is Reason.CLIENT_TRANSFER_ID_CONFLICT
        rig.repository.gate.set()
        await first
        assert refusal(await funds.transfer(other)) is Reason.CLIENT_TRANSFER_ID_CONFLICT
        assert not (await funds.transfer(structs.replace(WIRE, user_id="bob"))).replayed
    assert await total(rig) == "1000"


async def test_a_refused_withdrawal_leaves_its_id_free() -> None:
    """F2: nothing was made, so the same withdrawal is made once there is enough."""
    rig = Rig()
    async with desk(rig) as funds:
        assert refusal(await funds.transfer(OUT)) is Reason.INSUFFICIENT_FUNDS
        await funds.transfer(WIRE)
        made = await funds.transfer(OUT)
    assert isinstance(made.outcome, TransferRecord)
    assert not made.replayed
    assert await total(rig) == "600"


async def test_a_client_that_goes_away_changes_nothing() -> None:
    """What was begun goes on; asked again, it is answered."""
    rig = Rig()
    async with desk(rig) as funds:
        rig.repository.gate.clear()
        gone = asyncio.create_task(funds.transfer(WIRE))
        await settle()
        gone.cancel()
        await settle()
        rig.repository.gate.set()
        assert (await funds.transfer(WIRE)).replayed
    assert await total(rig) == "1000"


async def test_an_unknown_outcome_is_never_made_twice() -> None:
    """F2: while the fate of the first is open the same one shares it; once it is durable it is answered from what is stored."""
    rig = Rig()
    async with desk(rig, RunnerLimits(client_wait_s=0.05)) as funds:
        rig.repository.gate.clear()
        for _ in range(2):
            with pytest.raises(OutcomeUnknown):
                await funds.transfer(WIRE)
        rig.repository.gate.set()
        await settle()
        assert (await funds.transfer(WIRE)).replayed
    assert await total(rig) == "1000"


async def test_what_certainly_was_not_made_can_be_sent_again() -> None:
    """An engine that takes nothing, or a look-up without an answer, leaves the client id free."""
    rig = Rig()
    async with rig.running() as runner:
        lost = FundsDesk(runner, LostReads(rig.repository))
        for _ in range(2):
            with pytest.raises(StorageAway):
                await lost.transfer(WIRE)
        funds = FundsDesk(runner, MemoryReads(rig.repository))
        runner.stalled(stalled=True)
        with pytest.raises(NotAccepting):
            await funds.transfer(WIRE)
        runner.stalled(stalled=False)
        assert not (await funds.transfer(WIRE)).replayed
