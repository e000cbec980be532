"""Connections that break at every stage of a request."""

from __future__ import annotations

from faults import places
from faults.load import Load, loaded
from faults.oracle import audit
from faults.proxy import Proxy
from faults.run import Fault, Outcome, Run
from faults.service import a_nursery, a_service

RATE = 0.2
"""The part of the requests that is cut."""


async def connections(run: Run) -> Outcome:
    """Clients and service lose each other before, in and after a request and its answer; clients ask again with the same id."""
    outcome, url = Outcome(), places.sqlite(run)
    with a_nursery() as nursery, a_service(url, nursery=nursery) as service:
        proxy = Proxy(service.port, run.rng, RATE)
        load = Load(await proxy.start(), run.seed, clients=16)
        async with loaded(load):
            await service.up()
            while run.goes_on(proxy.cuts.total()):
                outcome.expect(await load.acknowledge_next(), "it does not trade")
            proxy.rate = 0.0
            await load.stop()
        await proxy.close()
        outcome.findings.add(await audit(load.ledger, url, service.port, load.watcher))
        outcome.injected = proxy.cuts.total()
    outcome.notes.append(", ".join(f"{count} {cut.value}" for cut, count in sorted(proxy.cuts.items(), key=str)))
    return outcome


FAULTS = (Fault("connections", connections, 1_000, 15),)
