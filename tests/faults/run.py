"""What a row of the table is: a fault, how it is run, and what came of it.

A fault is a coroutine function that takes a `Run` and returns an `Outcome`. It injects at least `run.least` times, and goes on
for as long as the run's budget lasts (`run.goes_on`).
"""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from faults.oracle import Findings


class Missing(Exception):
    """A tool that a fault needs isn't there; the message names it. The row is SKIPPED."""


@dataclass
class Outcome:
    """What came of a fault: how often it was injected, what the oracle found, and figures worth a word."""

    injected: int = 0
    findings: Findings = field(default_factory=Findings)
    notes: list[str] = field(default_factory=list)

    def expect(self, kept: object, sentence: str) -> None:
        """Count a broken promise that isn't about one order."""
        if not kept:
            self.findings.say("other", sentence)


class Run:
    """One run of a fault: its seeded randomness, its folder, its time."""

    def __init__(self, seed: str, folder: Path, least: int, budget_s: float) -> None:
        self.seed, self.folder, self.least = seed, folder, least
        self.rng = random.Random(seed)
        self.stack = AsyncExitStack()
        self._until = time.monotonic() + budget_s

    def goes_on(self, injected: int) -> bool:
        """Whether to inject once more."""
        return injected < self.least or time.monotonic() < self._until

    @property
    def left_s(self) -> float:
        """Seconds of the budget that are left."""
        return max(0.0, self._until - time.monotonic())


class Fault(NamedTuple):
    """A row: `least` injections always, and what it is expected to take in seconds. A canary has to be found out."""

    name: str
    run: Callable[[Run], Awaitable[Outcome]]
    least: int
    seconds: float
    is_canary: bool = False
