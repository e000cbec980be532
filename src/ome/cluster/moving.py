"""The part of a shard's server that gives symbols to other shards and takes in those that come (`engine.moving`).

A move has two commits. The giving engine's puts the symbol's state into `symbol_moves`, and from then on the symbol is on its
way; the taking engine's takes it in from there. Whoever dies between the two, the symbol arrives: its shard looks for what is on
its way to it when it starts, when it is told to, and every `LOOK_S`. Nothing ever goes back.

Before a symbol is given nothing new may enter the queue for it: from the first line of `give` on it is answered for with Moved,
which is certain, and what had been taken before is waited for. So no command for it comes to the engine behind the Release, where
an unlisted symbol would be listed anew.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from math import inf
from typing import Final

import structlog

from ome.cluster.places import Places
from ome.cluster.wire import Moved, Staying, StillListed
from ome.domain.clock import MICROSECONDS, now_us
from ome.domain.commands import Admit, Release
from ome.domain.errors import OmeError, StorageError, TooLate
from ome.domain.events import SymbolReleased
from ome.domain.moves import MoveRecord, decode_state, timers_on_the_way
from ome.domain.ports import CommandBus

LOOK_S: Final = 2.0
"""Seconds between two looks for symbols on their way here."""
AGAIN_S: Final = 0.5
"""Seconds between two looks at what became of a Release whose outcome is unknown."""

log = structlog.get_logger(__name__)


class Mover:
    """Lives on the event loop, beside one engine that is running. `is_listed` says of a symbol whether the engine has it, as of
    its last commit; `why_it_stays` why it can't be given away now; `settled` waits for what was taken before; `stored` has what
    is derived of the shard's trades so far written down, before another shard goes on with it.
    """

    def __init__(  # noqa: PLR0913  what it stands between
        self,
        shard: int,
        bus: CommandBus,
        places: Places,
        *,
        is_listed: Callable[[str], bool],
        why_it_stays: Callable[[str], Awaitable[str]],
        settled: Callable[[], Awaitable[None]],
        stored: Callable[[], Awaitable[object]],
        epoch: Callable[[], int],
        skew_s: float = 1.0,
    ) -> None:
        """`epoch` is the engine's; `skew_s` is how far the clocks of two engines may be apart."""
        self._shard = shard
        self._bus = bus
        self._places = places
        self._is_listed = is_listed
        self._why_it_stays = why_it_stays
        self._settled = settled
        self._stored = stored
        self._epoch = epoch
        self._skew_us = int(skew_s * MICROSECONDS)
        self._giving: set[str] = set()
        """Whose Release may be in the queue, or may yet come there."""
        self._gone: set[str] = set()
        """What isn't this shard's any more, whatever the map says that was read before."""
        self._lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Look for what is on its way here, now and from now on. What can't be taken in yet is answered for with Moved."""
        await self._look_again()
        self._keep(self._look_now_and_then())

    def stop(self) -> None:
        """Look no more."""
        for task in self._tasks:
            task.cancel()

    @property
    def has_moved(self) -> bool:
        """Whether any symbol ever went from a shard to another, as far as it is known here."""
        return bool(self._places.moved or self._giving or self._gone)

    @property
    def is_giving(self) -> bool:
        """Whether a symbol is about to leave: what is open here now may not be when a command comes to its turn."""
        return bool(self._giving)

    def owns(self, symbol: str) -> bool:
        """Whether a symbol is this shard's, listed or not, and has arrived."""
        places = self._places
        is_here = places.shard_of(symbol) == self._shard and symbol not in places.in_transit
        return is_here and symbol not in self._giving and symbol not in self._gone

    async def cede(self, symbol: str, target: int) -> None:
        """Have a symbol that isn't listed be another shard's: from the first line on nothing new can list it here. Raises
        StillListed where it is, Moved where it isn't this shard's, and what the map's store raises.
        """
        async with self._lock:
            if self._places.shard_of(symbol) == target:
                return
            if not self.owns(symbol):
                raise Moved(symbol)
            self._giving.add(symbol)
            try:
                await self._settled()
                await self._bus.risk(symbol)  # passes when all before it is durable, whoever is asked after
                if self._is_listed(symbol):
                    raise StillListed(symbol)
                await self._places.put(symbol, target, by=self._shard, epoch=self._epoch())
                self._gone.add(symbol)
            finally:
                self._giving.discard(symbol)
            await self._read_map()

    async def give(self, symbol: str, target: int, deadline_s: float) -> None:
        """Give a listed symbol to another shard, by `deadline_s` as `time.monotonic` counts. Raises Staying with the reason,
        Moved where it isn't this shard's, and what `CommandBus.send` raises.
        """
        if not 0 <= target < self._places.shards:
            raise Staying(f"there is no shard {target}")
        async with self._lock:
            if not self.owns(symbol):
                raise Moved(symbol)
            if target == self._shard:
                return
            self._giving.add(symbol)
            is_certain = True
            try:
                if why := await self._why_it_stays(symbol):
                    raise Staying(why)
                await self._settled()
                await self._bus.risk("")  # as above
                await self._stored()
                is_certain = False
                events = await self._bus.send(Release(symbol, target), deadline_s=deadline_s)
                is_certain = True
                if not any(isinstance(event, SymbolReleased) for event in events):
                    raise Staying(await self._why_it_stays(symbol) or "it was needed at that moment: try again")
                self._gone.add(symbol)
            finally:
                if is_certain:
                    self._giving.discard(symbol)
                else:
                    self._keep(self._find_out(symbol))
            log.info("symbol_given", symbol=symbol, target=target)
            await self._read_map()

    async def _find_out(self, symbol: str) -> None:
        """Whether a symbol has left, once everything taken before now is durable; until then it is answered for with Moved."""
        while True:
            try:
                await self._bus.risk("")
            except OmeError:
                await asyncio.sleep(AGAIN_S)
            else:
                if not self._is_listed(symbol):
                    self._gone.add(symbol)
                self._giving.discard(symbol)
                return

    async def _read_map(self) -> None:
        """Have the map as it is after all that has left, where it can be read; until then what is gone is remembered."""
        gone = set(self._gone)
        try:
            await self._places.read()
        except StorageError as error:
            log.warning("map_not_read", error=str(error))
        else:
            self._gone -= gone

    async def look(self) -> None:
        """Take in what is on its way here; one that can't be taken now keeps none of the others waiting. Raises a StorageError,
        and what `CommandBus.send` raises.
        """
        async with self._lock:
            failed: OmeError | None = None
            for move in await self._places.arriving(self._shard):
                try:
                    await self._take(move)
                except OmeError as error:
                    log.warning("symbol_not_taken", symbol=move.symbol, source=move.shard, error=str(error))
                    failed = error
            if self._gone:  # it may have been given back without ever having been listed
                await self._read_map()
            if failed is not None:
                raise failed

    async def _take(self, move: MoveRecord) -> None:
        """Take in a symbol. Timers that come while its command waits for its turn are looked up again."""
        symbol, data = move.symbol, move.state
        if data is None or self._is_listed(symbol):
            return
        state = decode_state(data)  # what can't be read must not come into the journal
        ahead_us = move.time - now_us() - self._skew_us
        if ahead_us > 0:
            raise Staying(
                f"{symbol} was given {ahead_us / MICROSECONDS:.1f} s later than CLOCK_SKEW_SEC allows for by this machine's"
                " clock, which would go forward with it: set the clocks"
            )
        users = {order.user_id for order in state.orders}
        while True:
            changes = await self._places.timers_since(move, users)
            now = now_us()
            missed, next_one = timers_on_the_way(state.timers, changes, now)
            deadline_s = inf if next_one is None else time.monotonic() + (next_one - now) / MICROSECONDS
            try:
                await self._bus.send(Admit(symbol, move.shard, move.position, move.time, data, missed), deadline_s=deadline_s)
            except TooLate:
                continue
            break
        self._gone.discard(symbol)
        self._places.arrived(symbol, self._shard)
        log.info("symbol_taken", symbol=symbol, source=move.shard)

    async def _look_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            await self._look_again()

    async def _look_again(self) -> None:
        try:
            await self.look()
            if self._places.in_transit:
                await self._places.read()
        except OmeError as error:
            log.warning("not_looked_for_symbols", error=str(error))

    def _keep(self, work: Awaitable[None]) -> None:
        async def run() -> None:
            await work

        task = asyncio.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
