"""How long the property tests run: seconds for every test run, or minutes where OME_LONG_TESTS is set."""

from __future__ import annotations

import os
from typing import Final

from hypothesis import HealthCheck, settings

LONG: Final = bool(os.environ.get("OME_LONG_TESTS"))
"""Set to anything, it makes the state machine take 100,000 steps and the seeded flow some hundreds of seeds."""

_UNHURRIED = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


def machine_settings() -> settings:
    """For the state machines: 60 runs of 60 steps, or 1,200 of 100."""
    examples, steps = (1200, 100) if LONG else (60, 60)
    return settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, print_blob=True, suppress_health_check=_UNHURRIED
    )


def flow_settings() -> settings:
    """For tests that draw a whole flow at a time."""
    return settings(max_examples=500 if LONG else 40, deadline=None, print_blob=True, suppress_health_check=_UNHURRIED)
