"""What `make coverage` says of a room, and when it fails."""

from __future__ import annotations

from typing import Any

import pytest
from tools.branches import report


def measured(**rooms: tuple[int, int]) -> dict[str, dict[str, Any]]:
    """A JSON report with one module in each room, so many of its branches taken, so many there."""
    return {
        f"src/ome/{room}/one.py": {
            "summary": {"num_branches": count, "covered_branches": taken, "missing_branches": count - taken}
        }
        for room, (taken, count) in rooms.items()
    }


@pytest.mark.parametrize(
    ("rooms", "is_enough"),
    [
        ({"engine": (95, 100), "db": (100, 100), "api": (19, 20)}, True),
        ({"engine": (95, 100), "db": (949, 1000), "api": (20, 20)}, False),
        ({"engine": (95, 100), "api": (20, 20)}, False),
        ({"engine": (95, 100), "db": (9, 9), "api": (20, 20), "replay": (0, 9)}, True),
    ],
)
def test_every_room_has_its_share_of_branches(rooms: dict[str, tuple[int, int]], is_enough: bool) -> None:
    """95 % of each, not of all together; one of which nothing was measured falls short; other rooms aren't asked."""
    assert report(measured(**rooms))[1] is is_enough


def test_what_lacks_most_is_named() -> None:
    """So that one sees where to begin."""
    lines, _ = report(measured(engine=(90, 100), db=(9, 9), api=(20, 20)))
    assert lines[:2] == ["engine      90 of 100 branches   90.0 %  under 95 %", "      10  src/ome/engine/one.py"]
