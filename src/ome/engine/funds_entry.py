"""The entry of deposits and withdrawals: whether a client id was used is looked up before a command is stamped (M6, F2).

A client id is kept from before its look-up until the fate of its command is certain, so that one transfer sent twice at once, or
again after an unknown outcome, is never made twice. Each is a task of its own: once begun it goes on when its client has gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, NamedTuple

from msgspec import structs

from ome.domain.commands import Transfer
from ome.domain.errors import InvariantBroken
from ome.domain.events import CommandRefused, Event, FundsTransferred
from ome.domain.ports import CommandBus, ReadModels, TransferAnswer
from ome.domain.reasons import Reason
from ome.domain.records import TransferRecord

CONFLICT: Final = TransferAnswer(CommandRefused(None, Reason.CLIENT_TRANSFER_ID_CONFLICT))


class _Underway(NamedTuple):
    """A transfer whose fate isn't certain."""

    asked: Transfer
    answer: asyncio.Task[TransferAnswer]


class FundsDesk:
    """The FundsEntry of a single process."""

    def __init__(self, bus: CommandBus, reads: ReadModels) -> None:
        self._bus = bus
        self._reads = reads
        self._underway: dict[tuple[str, str], _Underway] = {}

    async def transfer(self, asked: Transfer) -> TransferAnswer:
        """See FundsEntry."""
        key = (asked.user_id, asked.client_transfer_id)
        underway = self._underway.get(key)
        if underway is None:
            task = asyncio.create_task(self._carry_out(asked))
            task.add_done_callback(_retrieve)
            self._underway[key] = _Underway(asked, task)
            return await asyncio.shield(task)
        if underway.asked != asked:
            return CONFLICT
        answer = await asyncio.shield(underway.answer)
        return answer if isinstance(answer.outcome, CommandRefused) else structs.replace(answer, replayed=True)

    async def _carry_out(self, asked: Transfer) -> TransferAnswer:
        def settled() -> None:
            self._underway.pop((asked.user_id, asked.client_transfer_id), None)

        try:
            known = await self._reads.transfer_of_user(asked.user_id, asked.client_transfer_id)
        except BaseException:
            settled()
            raise
        if known is not None:
            settled()
            return TransferAnswer(known, replayed=True) if _asks_for(asked, known) else CONFLICT
        return _answer(await self._bus.send(asked, settled))


def _retrieve(task: asyncio.Task[TransferAnswer]) -> None:
    """Look at the exception, so that one whose clients have all gone is not reported as forgotten."""
    if not task.cancelled():
        task.exception()


def _asks_for(asked: Transfer, made: TransferRecord) -> bool:
    return (asked.transfer_kind, asked.asset, asked.amount) == (made.kind, made.asset, made.amount)


def _answer(events: Sequence[Event]) -> TransferAnswer:
    """What the command led to; expiries that came due with it may stand before its own event."""
    for event in events:
        if isinstance(event, FundsTransferred):
            return TransferAnswer(event.transfer)
        if isinstance(event, CommandRefused):
            return TransferAnswer(event)
    raise InvariantBroken("a transfer was neither made nor refused")
