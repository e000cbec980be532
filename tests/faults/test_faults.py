"""A few rows of `make faults`, with tiny budgets: the harness works, and the service keeps its promises in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from faults.__main__ import FAULTS, main, row_of
from faults.oracle import Findings
from faults.run import Outcome
from faults.table import MARKS, Row, markdown, put, sentence


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("name", "least"), [("kill", 3), ("kill-postgresql", 2), ("sigterm", 2), ("power-cut", 50)])
async def test_a_row_is_as_it_has_to_be(name: str, least: int) -> None:
    """DUR1, DUR6: nothing acknowledged is lost or doubled, no place in a queue changes; a tool that is missing is said."""
    row = await row_of(FAULTS[name], 7, least, 0.0)
    assert row.is_good, "\n".join((row.line(), *row.details()))
    assert row.skipped or (row.outcome.injected == least and row.outcome.findings.acknowledged)


def test_the_table_is_put_between_the_marks_of_a_readme(tmp_path: Path) -> None:
    """What is around them stays; a row that was skipped has no numbers, and a file without marks is refused."""
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{MARKS[0]}\nold\n{MARKS[1]}\nafter\n")
    rows = [Row("kill", 2.0, Outcome(3, Findings(acknowledged=1000))), Row("gone", skipped="PostgreSQL")]
    put(readme, markdown(rows, 7))
    before, table, after = readme.read_text().partition(sentence(rows, 7))
    assert before.startswith(f"before\n{MARKS[0]}\n| fault |")
    assert "| kill | 3 | 1,000 | 0 | 0 | 0 | ok |\n| gone | - | - | - | - | - | SKIPPED: PostgreSQL |" in before
    assert "Seed 7: 3 faults injected, 1,000 orders acknowledged, 0 lost" in table
    assert after == f"\n{MARKS[1]}\nafter\n"
    readme.write_text("no marks")
    with pytest.raises(ValueError, match="has no marks"):
        put(readme, "")


def test_an_unknown_row_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """With the names that there are."""
    with pytest.raises(SystemExit):
        main(["kil"])
    assert "kill-postgresql" in capsys.readouterr().err
