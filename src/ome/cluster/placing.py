"""Putting a symbol that isn't listed yet on a shard of one's choice, while the cluster runs."""

from __future__ import annotations

import asyncio
import secrets
from typing import Final

from ome.cluster.connection import NatsConnection
from ome.cluster.shard_link import RUNNING, ShardLink
from ome.cluster.subjects import Subjects
from ome.cluster.wire import Cede, LookAgain, State, read_state
from ome.domain.errors import NotAccepting
from ome.domain.shards import ShardMap

WITHIN_S: Final = 5.0
"""How long NATS and each engine may take to answer."""


async def place(nats_url: str, known: ShardMap, symbol: str, target: int) -> None:
    """Have a symbol belong to another shard from now on. The one that had it refuses it first, then the database says so, then
    the target reads that.

    Raises StillListed for one that is listed, NotAccepting where NATS or one of the two engines doesn't answer, and what these
    say.
    """
    home = known.shard_of(symbol)
    if home == target:
        return
    name = f"placing-{secrets.token_hex(4)}"
    nats, subjects = NatsConnection(nats_url, name), Subjects(known.cluster)
    links = {shard: ShardLink(shard, name, nats, subjects, WITHIN_S) for shard in (home, target)}

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
        await links[home].ask(lambda number: Cede(number, symbol, target))
        await links[target].ask(LookAgain)
    except TimeoutError:
        raise NotAccepting(f"NATS, the engine of shard {home} or that of shard {target} does not answer") from None
    finally:
        for link in links.values():
            link.close()
        await nats.close()
