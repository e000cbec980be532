"""A few rows of `make faults`, with tiny budgets: the harness works, and the service keeps its promises in it."""

from __future__ import annotations

import pytest

from faults.__main__ import FAULTS, main, row_of


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("name", "least"), [("kill", 3), ("kill-postgresql", 2), ("sigterm", 2), ("power-cut", 50)])
async def test_a_row_is_as_it_has_to_be(name: str, least: int) -> None:
    """DUR1, DUR6: nothing acknowledged is lost or doubled, no place in a queue changes; a tool that is missing is said."""
    row = await row_of(FAULTS[name], 7, least, 0.0)
    assert row.is_good, "\n".join((row.line(), *row.details()))
    assert row.skipped or (row.outcome.injected == least and row.outcome.findings.acknowledged)


def test_an_unknown_row_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """With the names that there are."""
    with pytest.raises(SystemExit):
        main(["kil"])
    assert "kill-postgresql" in capsys.readouterr().err
