"""Putting a symbol on a shard of one's choice, while the cluster runs: one that isn't listed yet by ceding it, one that is by
moving it with all that is open in it (`cluster.moving`).
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from typing import Final

from ome.cluster.connection import NatsConnection
from ome.cluster.shard_link import RUNNING, ShardLink
from ome.cluster.subjects import Subjects
from ome.cluster.wire import Cede, Give, LookAgain, State, StillListed, read_state
from ome.domain.errors import NotAccepting
from ome.domain.shards import ShardMap

WITHIN_S: Final = 5.0
"""How long NATS and the engines may take to be heard."""
MOVED_WITHIN_S: Final = 30.0
"""How long each engine may take to do its part, large books included."""


async def place(nats_url: str, known: ShardMap, symbol: str, target: int) -> None:
    """Have a symbol belong to another shard from now on. The one that had it refuses it first, then the database says so, then
    the target reads that. One that has left already and not arrived is brought to its end.

    Raises Staying where a listed one can't be moved, NotAccepting where NATS or one of the two engines doesn't answer, and what
    these say. After OutcomeUnknown it may have left, and arrives then by itself; doing it again tells.
    """
    home = known.shard_of(symbol)
    if home == target and symbol not in known.in_transit:
        return
    name = f"placing-{secrets.token_hex(4)}"
    nats, subjects = NatsConnection(nats_url, name), Subjects(known.cluster)
    links = {shard: ShardLink(shard, name, nats, subjects, MOVED_WITHIN_S) for shard in (home, target)}

    changed = asyncio.Event()

    def heard(state: State) -> None:
        if state.shard in links:
            links[state.shard].heard(state)
            changed.set()

    try:
        async with asyncio.timeout(WITHIN_S):
            await nats.open()
            for link in links.values():
                await link.open()
            await nats.hear(subjects.states, lambda _, data: heard(read_state(data)))
            nats.send(subjects.hello, b"?")
            while any(link.state != RUNNING for link in links.values()):
                changed.clear()
                await changed.wait()
        if home != target:
            try:
                await links[home].ask(lambda number: Cede(number, symbol, target))
            except StillListed:
                await links[home].ask(lambda number: Give(number, symbol, target))
        await links[target].ask(LookAgain)
    except TimeoutError:
        raise NotAccepting(_silent(nats, links)) from None
    finally:
        for link in links.values():
            link.close()
        await nats.close()


def _silent(nats: NatsConnection, links: Mapping[int, ShardLink]) -> str:
    """Who of those that are needed does not answer."""
    if not nats.is_connected:
        return "no answer from NATS"
    away = [shard for shard, link in links.items() if link.state != RUNNING]
    return f"no answer at this NATS from {' and '.join(f'the engine of shard {shard}' for shard in away or links)}"
