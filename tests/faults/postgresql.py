"""PostgreSQL taken away in every way while the service runs: no restart of ours, nothing lost or doubled, and it trades again."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from faults import places
from faults.load import Load, loaded
from faults.oracle import audit
from faults.places import Postgres
from faults.proxy import Swallower
from faults.run import Fault, Outcome, Run
from faults.service import a_nursery, a_service

TRADING_WITHIN_S = 2.0
"""How soon after the database's return an order has to be acknowledged."""
GIVEN_UP_WITHIN_S = 15.0
"""A commit that hears nothing is given up after 10 s, the next look at what became of it after 1.5 s."""
GONE_S = 30.0
LEASE_S = 1.5
SHORT_LEASE = {"LEASE_SEC": str(LEASE_S)}
WRITER = (
    "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)
LOCKED_BY_US = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
)


@asynccontextmanager
async def trading(run: Run, outcome: Outcome) -> AsyncIterator[tuple[Postgres, Load]]:
    """A service over a PostgreSQL of its own, under load; it has to be the same process at the end."""
    database = await places.postgresql(run)
    with a_nursery() as nursery, a_service(database.url, nursery=nursery) as service:
        load = Load(service.port, run.seed)
        async with loaded(load):
            await service.up()
            yield database, load
            outcome.expect(
                service.process is not None and service.process.poll() is None, f"it ended:\n{service.output()[-2000:]}"
            )
            await load.stop()
            outcome.findings.add(await audit(load.ledger, database.url, service.port, load.watcher))


async def away(run: Run, how: signal.Signals, seconds: float) -> Outcome:
    """The server is stopped and started again after so many seconds, as often as there is time."""
    outcome, after, loop = Outcome(), list[float](), asyncio.get_running_loop()
    async with trading(run, outcome) as (database, load):
        while run.goes_on(outcome.injected):
            await load.acknowledge_next()
            await asyncio.sleep(run.rng.uniform(0.0, 0.3))
            await database.stop(how)
            await asyncio.sleep(seconds)
            await database.start()
            back = loop.time()
            outcome.expect(await load.acknowledge_next(), "it does not trade again within 30 s")
            after.append(loop.time() - back)
            outcome.injected += 1
    outcome.expect(max(after) <= TRADING_WITHIN_S, f"it traded again {max(after):.2f} s after the return")
    outcome.notes.append(
        f"trading again {max(after):.2f} s after its return, at the longest; {load.ledger.unknown} answers asked for again"
    )
    return outcome


async def restarted_fast(run: Run) -> Outcome:
    """A fast shutdown and a start."""
    return await away(run, signal.SIGINT, 0.0)


async def restarted_immediate(run: Run) -> Outcome:
    """An immediate shutdown, as in a crash, and a start."""
    return await away(run, signal.SIGQUIT, 0.0)


async def killed(run: Run) -> Outcome:
    """Kill -9 of the postmaster, and a start."""
    return await away(run, signal.SIGKILL, 0.0)


async def gone(run: Run) -> Outcome:
    """Away for 30 seconds: clients are told that it is unknown or not executed; afterwards everything comes to its end."""
    return await away(run, signal.SIGINT, GONE_S)


async def backends_terminated(run: Run) -> Outcome:
    """Every backend of the service is terminated, again and again."""
    outcome = Outcome()
    async with trading(run, outcome) as (database, load):
        while run.goes_on(outcome.injected):
            await asyncio.sleep(run.rng.uniform(0.0, 0.3))
            outcome.injected += await database.execute(LOCKED_BY_US)
            outcome.expect(await load.acknowledge_next(), "it does not trade again")
    return outcome


async def silent(run: Run) -> Outcome:
    """The way to the server swallows what is sent, for a moment, and lets nobody know: what was under way is given up, new
    connections are made, and trading goes on without a restart.
    """
    outcome, after, loop = Outcome(), list[float](), asyncio.get_running_loop()
    database = await places.postgresql(run)
    proxy = Swallower(database.port)
    run.stack.push_async_callback(proxy.close)
    url = database.url.replace(f":{database.port}/", f":{await proxy.start()}/")
    with a_nursery() as nursery, a_service(url, nursery=nursery) as service:
        load = Load(service.port, run.seed)
        async with loaded(load):
            await service.up()
            while run.goes_on(outcome.injected):
                await load.acknowledge_next()
                with proxy.silence():
                    await asyncio.sleep(run.rng.uniform(0.5, 6.0))
                healed = loop.time()
                outcome.expect(await load.acknowledge_next(), "it does not trade again within 30 s")
                after.append(loop.time() - healed)
                outcome.injected += 1
            outcome.expect(service.process is not None and service.process.poll() is None, "it ended")
            await load.stop()
        outcome.findings.add(await audit(load.ledger, database.url, service.port, load.watcher))
    outcome.expect(max(after) <= GIVEN_UP_WITHIN_S, f"it traded again {max(after):.2f} s after the way was free")
    outcome.notes.append(f"trading again {max(after):.2f} s after the way was free, at the longest; {proxy.swallowed} swallowed")
    return outcome


async def backend_stopped(run: Run) -> Outcome:
    """The backend that commits is stopped (SIGSTOP) and goes on later: what it had is there once."""
    outcome = Outcome()
    async with trading(run, outcome) as (database, load):
        while run.goes_on(outcome.injected):
            await load.acknowledge_next()
            pid = await database.scalar(WRITER)
            if pid is None:  # it looks after a commit just now
                continue
            os.kill(pid, signal.SIGSTOP)
            try:
                await asyncio.sleep(run.rng.uniform(1.0, 14.0))
            finally:
                os.kill(pid, signal.SIGCONT)
            outcome.expect(await load.acknowledge_next(), "it does not trade again")
            outcome.injected += 1
    return outcome


async def restarted_beside_a_standby(run: Run) -> Outcome:
    """DUR7: PostgreSQL is restarted beneath an engine that trades little and one that stands by: the first one stays."""
    outcome, database = Outcome(), await places.postgresql(run)
    with (
        a_nursery() as nursery,
        a_service(database.url, SHORT_LEASE, nursery=nursery) as first,
        a_service(database.url, SHORT_LEASE | {"STANDBY": "true"}, nursery=nursery) as second,
    ):
        load = Load(first.port, run.seed)
        async with loaded(load):
            await first.up()
            await load.acknowledge_next()
            await load.stop()
            second.spawn()
            while run.goes_on(outcome.injected):
                await asyncio.sleep(run.rng.uniform(0.0, 2.0))
                await database.stop(signal.SIGINT)
                await database.start()
                await asyncio.sleep(LEASE_S)
                outcome.injected += 1
                outcome.expect(first.process is not None and first.process.poll() is None, "the first was unseated")
                outcome.expect(await database.scalar("SELECT epoch FROM engine") == 1, "another engine took the fence")
        outcome.findings.add(await audit(load.ledger, database.url, first.port, load.watcher))
    return outcome


FAULTS = (
    Fault("postgresql-fast", restarted_fast, 5, 15),
    Fault("postgresql-immediate", restarted_immediate, 5, 15),
    Fault("postgresql-kill", killed, 5, 15),
    Fault("postgresql-backends", backends_terminated, 50, 15),
    Fault("postgresql-gone-30s", gone, 1, 45),
    Fault("postgresql-silent", silent, 1, 15),
    Fault("postgresql-backend-stop", backend_stopped, 1, 15),
    Fault("postgresql-standby", restarted_beside_a_standby, 3, 15),
)
