"""Databases with a history: seeded random commands carried out by an engine and committed, batch by batch, as a service does."""

from __future__ import annotations

from random import Random

from ome.db.storage import open_storage
from ome.domain.commands import Administered, AdvanceTime, Command, DefineInstrument, NewOrder, Release, SetLimits, Stamped
from ome.domain.enums import OrderType, Side, TimeInForce
from ome.domain.numbers import pack
from ome.domain.records import Limits
from ome.engine.engine import Engine
from ome.engine.pending_batch import PendingBatch, Waiting
from properties.flow import Flow

START_US = 1_795_341_600_000_000
STEP_US = 700


async def write_history(
    url: str,
    commands: int,
    *,
    seed: int = 1,
    batches: tuple[int, ...] = (1, 7, 3, 20),
    plain: bool = False,
    funded: bool = False,
    engines: int = 2,
    moved: bool = False,
) -> Engine:
    """Commit so many commands to an empty database, in batches of these sizes in turn, by so many engines one after the other
    (each takes an epoch): the last engine. `plain` and `funded` are as in `Flow`; `moved`: at last a symbol leaves for another
    shard, which hasn't taken it yet.
    """
    random, made = Random(seed), 0
    flow = Flow(random, plain=plain, funded=funded)
    queue: list[Command] = flow.listing()
    for number in range(engines):
        storage = open_storage(url)
        await storage.repository.start()
        try:
            engine = Engine.restore((await storage.repository.load()).state)
            while made < commands * (number + 1) // engines:
                pending = PendingBatch()
                for _ in range(min(random.choice(batches), commands - made)):
                    position = engine.position + 1
                    time = max(engine.time, START_US + position * STEP_US)
                    command = queue.pop(0) if queue else beside(made) or flow.next(position, time)
                    if funded and made % 29 == 28:
                        command = Administered("operator", "PUT /instruments/{symbol}", f"/instruments/{made}", '{"body":"{}"}')
                    stamped = Stamped(position, time, command)
                    pending.add(stamped, engine.apply(stamped), Waiting(AdvanceTime()))
                    made += 1
                await storage.repository.commit(pending.seal(engine))
            if moved and number == engines - 1:
                await storage.repository.commit(_leaving(engine).seal(engine))
        finally:
            await storage.close()
    return engine


def _leaving(engine: Engine) -> PendingBatch:
    """A symbol is listed, trades, and leaves with what is still open."""
    pending = PendingBatch()
    orders = [
        NewOrder(f"mover {number}", "MOVED", side, OrderType.LIMIT, TimeInForce.GTC, pack(number + 1, 0), pack(price, 2))
        for number, (side, price) in enumerate([(Side.BUY, 1000), (Side.SELL, 1000), (Side.SELL, 1001), (Side.BUY, 999)])
    ]
    commands: list[Command] = [DefineInstrument("MOVED", max_order_quantity=pack(99, 0)), *orders, Release("MOVED", 1)]
    for command in commands:
        stamped = Stamped(engine.position + 1, engine.time, command)
        pending.add(stamped, engine.apply(stamped), Waiting(AdvanceTime()))
    return pending


def beside(made: int) -> Command | None:
    """Now and then what random flow draws seldom: an entry of the audit, and limits, so that those tables have rows."""
    if made % 20 == 19:
        return Administered("operator", "PUT /instruments/{symbol}", f"/instruments/{made}", '{"body":"{}"}')
    if made % 40 == 30:
        return SetLimits(f"user{made}", "AAA", Limits(max_open_orders=made))
    return None
