"""The seeded mistakes can all be made: their texts are still in the source."""

from __future__ import annotations

import ast

import pytest

from mutants.__main__ import SOURCE, mutated
from mutants.mistakes import MISTAKES, Mistake


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.what)
def test_a_mistake_can_be_made(mistake: Mistake) -> None:
    """Its text stands in its file exactly once, and with the mistake the file is still a program."""
    ast.parse(mutated(mistake, (SOURCE / "ome" / mistake.file).read_text(encoding="utf-8")))


def test_no_mistake_is_made_twice() -> None:
    """Each has a description of its own, and there are fifty at least."""
    assert len({mistake.what for mistake in MISTAKES}) == len(MISTAKES) >= 50


def test_a_mistake_whose_text_has_gone_is_an_error() -> None:
    """What can't be made is never passed over."""
    with pytest.raises(ValueError, match="stands 0 times"):
        mutated(MISTAKES[0], "")
