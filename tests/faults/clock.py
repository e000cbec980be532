"""A clock that is set back by an hour and forward by a day, while the service trades: nothing is reordered."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path

from faults import places
from faults.load import Load, loaded
from faults.oracle import Reader, audit
from faults.run import Fault, Missing, Outcome, Run
from faults.service import a_nursery, a_service

LIBRARIES = (
    "/usr/lib/*/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
    "/usr/local/lib/faketime/libfaketimeMT.so.1",
)
STEPS = (timedelta(hours=-1), timedelta(days=1), timedelta(), timedelta(days=1, hours=-1))
"""Where the clock is set, from the real time, one after another."""


async def stepped(run: Run) -> Outcome:
    """Set the clock again and again under load."""
    outcome, url, offset = Outcome(), places.sqlite(run), run.folder / "offset"
    set_to(offset, timedelta())
    environment = {
        "LD_PRELOAD": str(library()),
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }
    with a_nursery(environment=environment) as nursery, a_service(url, nursery=nursery) as service:
        load = Load(service.port, run.seed)
        async with loaded(load):
            await service.up()
            while run.goes_on(outcome.injected):
                outcome.expect(await load.acknowledge_next(), "it does not trade")
                set_to(offset, STEPS[outcome.injected % len(STEPS)])
                outcome.injected += 1
                for _ in range(5):
                    outcome.expect(await load.acknowledge_next(), "it does not trade")
                if run.rng.random() < 0.3:
                    service.kill()
                    await service.up()
            await load.stop()
            outcome.findings.add(await audit(load.ledger, url, service.port, load.watcher))
    times = await Reader(url).rows("SELECT created_at FROM stored_orders ORDER BY id")
    outcome.expect(times == sorted(times), "an order is older than the one before it")
    span_s = (times[-1][0] - times[0][0]) / 1e6
    furthest = min(max(STEPS[: outcome.injected]), timedelta(hours=20))  # the first steps alone don't go that far
    outcome.expect(span_s > furthest.total_seconds(), f"the clock was never set: {span_s} s from first to last order")
    return outcome


def set_to(offset: Path, step: timedelta) -> None:
    """Set the clock so far from the real time; the file is replaced, so that nobody reads half of it."""
    new = offset.with_name("offset.new")
    new.write_text(f"{step.total_seconds():+.0f}\n")
    new.replace(offset)


def library() -> Path:
    """The library that fakes the time."""
    found = [path for pattern in LIBRARIES for path in Path("/").glob(pattern[1:])]
    if sys.platform != "linux" or not found:
        raise Missing("libfaketime (package faketime)")
    return found[0]


FAULTS = (Fault("clock", stepped, 8, 15),)
