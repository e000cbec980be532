"""What a seed is made of: which faults occur in its run, how often, and how the world is set up.

Each seed has some of the faults only, and some of them often (swarm testing): all of them at once would hide each other.
"""

from __future__ import annotations

from random import Random
from typing import Final

from msgspec import Struct

from ome.engine.runner import RunnerLimits

COMMIT_FAULTS: Final = ("refused", "committed but raised", "hung", "hung and lost", "zombie", "zombie with the lock", "slow")
"""What may happen to a write of the database.

refused: it raises and was not carried out. committed but raised: it was, and raises. hung: it takes seconds. hung and lost: it
raises after seconds. zombie: it raises at once, and is carried out later, or never where its turn has passed; with the lock:
everybody else waits until then. slow: it takes some tenths of a second.
"""
ACTIONS: Final = ("crash", "pause", "takeover", "standby", "stop", "disk low", "outage", "clock step")
"""What may happen to a process or to the whole database.

crash: nothing of it is left but what is committed. pause: it stands still for a while. takeover: so it does, and another engine
starts meanwhile. standby: another is started, which waits for its turn. stop: it is told to stop. disk low: its disk is almost
full for a while. outage: nothing reaches the database. clock step: the clock jumps back or forward.
"""
_RATES: Final = (0.01, 0.03, 0.1, 0.25)


class Plan(Struct, frozen=True):
    """The set-up of one run; times in seconds, rates are probabilities."""

    seed: int
    steps: int
    """Requests that clients make before the faults end, retries not counted."""
    clients: int
    shuffled: bool
    """Whether the seed chooses among the callbacks that can run, or the oldest is next."""
    plain: bool
    """Whether orders are LIMIT and MARKET only."""
    think_s: float
    network_s: float
    database_s: float
    commit_faults: dict[str, float]
    read_faults: float
    actions: dict[str, float]
    """How likely each action is to be the next, in shares."""
    calm_s: float
    """How long there is peace between two actions, on average."""
    crash_at_commit: float
    """How often a process crashes just as something of it has become durable."""
    loss: float
    duplication: float
    going_away: float
    limits: RunnerLimits


def random_of(seed: int, name: str) -> Random:
    """A source of chance of its own, so that one part's draws don't move another's."""
    return Random(f"{seed}/{name}")


def plan_of(seed: int, steps: int) -> Plan:
    """The plan of a seed."""
    random = random_of(seed, "plan")

    def some(rates: tuple[float, ...] = _RATES, odds: float = 0.5) -> float:
        return random.choice(rates) if random.random() < odds else 0.0

    return Plan(
        seed=seed,
        steps=steps,
        clients=random.choice([1, 2, 4, 8, 16]),
        shuffled=random.random() < 0.7,
        plain=random.random() < 0.2,
        think_s=random.choice([0.002, 0.02, 0.1]),
        network_s=random.choice([0.0005, 0.005, 0.05]),
        database_s=random.choice([0.0002, 0.002, 0.02]),
        commit_faults={kind: rate for kind in COMMIT_FAULTS if (rate := some(odds=0.4))},
        read_faults=some((0.01, 0.1), odds=0.3),
        actions={action: random.choice([1, 1, 3]) for action in ACTIONS if random.random() < 0.5},
        calm_s=random.choice([0.3, 1.0, 4.0]),
        crash_at_commit=some((0.01, 0.05), odds=0.3),
        loss=some((0.01, 0.05, 0.2)),
        duplication=some((0.02, 0.1, 0.3)),
        going_away=some((0.02, 0.1), odds=0.4),
        limits=RunnerLimits(
            queue=random.choice([8, 32, 8192]),
            cancel_slots=1,
            batch=random.choice([1, 2, 7, 2048]),
            client_wait_s=random.choice([0.2, 1.0, 5.0]),
            drain_s=random.choice([0.5, 10.0]),
        ),
    )
