"""What has become of dead-man timers while a symbol was on its way (I3)."""

from __future__ import annotations

import pytest

from ome.domain.moves import TimerChange, timers_on_the_way

NOW = 100

CASES: list[tuple[list[tuple[str, int]], list[TimerChange], list[str], int | None]] = [
    ([], [], [], None),
    ([("ann", 99), ("bob", 101)], [], ["ann"], 101),
    ([("ann", 50)], [TimerChange("ann", 49, None)], [], None),
    ([("ann", 50)], [TimerChange("ann", 50, None)], ["ann"], None),
    ([("ann", 50)], [TimerChange("ann", 49, 80), TimerChange("ann", 79, None)], [], None),
    ([("ann", 50)], [TimerChange("ann", 49, 80), TimerChange("ann", 81, None)], ["ann"], None),
    ([("ann", 50)], [TimerChange("ann", 51, 150)], ["ann"], 150),
    ([], [TimerChange("bob", 10, 20), TimerChange("ann", 10, 100)], ["ann", "bob"], None),
    ([], [TimerChange("ann", 10, None), TimerChange("ann", 11, 20), TimerChange("ann", 15, None)], [], None),
]
"""The timers that were running, what users did since, whose came, and when the next one comes."""


@pytest.mark.parametrize(("timers", "changes", "missed", "next_one"), CASES)
def test_a_timer_that_came_is_told_from_one_that_was_disarmed(
    timers: list[tuple[str, int]], changes: list[TimerChange], missed: list[str], next_one: int | None
) -> None:
    """By whether it was disarmed, or set anew, before the deadline that it was set to last."""
    assert timers_on_the_way(timers, changes, NOW) == (missed, next_one)
