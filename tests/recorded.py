"""Databases that hold recorded order flow, committed batch by batch at the times that the flow itself has."""

from __future__ import annotations

from collections.abc import Iterable

from ome.db.storage import open_storage
from ome.domain.commands import AdvanceTime, Command, Configure, Stamped
from ome.domain.events import Event
from ome.domain.records import EngineSettings
from ome.engine.engine import Engine
from ome.engine.pending_batch import PendingBatch, Waiting
from ome.history.books import BookKeeper
from ome.marketdata.view import MarketView
from ome.replay.driver import Market
from ome.replay.engine_driver import EngineDriver
from ome.replay.flow import Row
from ome.replay.replayer import Replayer
from ome.replay.verify import Expected, Verifier

BATCH = 500
"""Commands that share a transaction."""


class _Recorder(EngineDriver):
    """Carries out commands at the time of the row that it is told of, and keeps them for a transaction."""

    def __init__(self, market: Market, engine: Engine) -> None:
        super().__init__(market, engine)
        self.pending = PendingBatch()
        self.time_us = 0

    def keep_positions(self) -> None:
        """Begin as the service does: a history without them gets them adopted at its first start."""
        self._apply(Configure(EngineSettings(keeps_positions=True)))

    def _apply(self, command: Command) -> list[Event]:
        stamped = Stamped(self.engine.position + 1, max(self.engine.time, self.time_us), command)
        events = self.engine.apply(stamped)
        self.pending.add(stamped, events, Waiting(AdvanceTime()))
        return events


async def write_flow(url: str, market: Market, rows: Iterable[Row], expected: Expected, snapshot_every: int) -> Verifier:
    """Carry out rows on an empty database, with a snapshot of the book and of the engine after each so many commands: what came
    of them, compared with what was expected.
    """
    storage = open_storage(url)
    await storage.repository.start()
    try:
        engine = Engine.restore((await storage.repository.load()).state)
        driver, view, verifier = _Recorder(market, engine), MarketView(), Verifier(expected)
        books = BookKeeper(storage.archive, view, lambda: engine.position)
        replayer, taken = Replayer(driver, verifier), 0

        async def commit() -> None:
            events = driver.pending.events()
            await storage.repository.commit(driver.pending.seal(engine))
            driver.pending = PendingBatch()
            view.committed(events)

        driver.keep_positions()
        await driver.open()
        for number, row in enumerate(rows, start=1):
            driver.time_us = row.ts_ns // 1000
            await replayer.play(number, row)
            if len(driver.pending) >= BATCH:
                await commit()
            if engine.position - taken >= snapshot_every and not driver.pending:
                taken = engine.position
                await books.keep()
                await storage.archive.take_engine_snapshot(snapshot_every)
        if driver.pending:
            await commit()
    finally:
        await storage.close()
    return verifier
