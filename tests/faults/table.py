"""The one table: a row for each fault, printed as soon as it is known, and as it stands in the README."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from faults.run import Outcome

MARKS = "<!-- faults: start -->", "<!-- faults: end -->"
"""What the table of a README stands between."""
HEAD = f"{'fault':<28}{'injected':>9}{'acknowledged':>14}{'lost':>6}{'doubled':>9}{'moved':>7}  {'result':<34}{'seconds':>8}"


@dataclass
class Row:
    """One fault's line. `failure` is an exception that ended it; `skipped` the tool that is missing."""

    name: str
    seconds: float = 0.0
    outcome: Outcome = field(default_factory=Outcome)
    is_canary: bool = False
    skipped: str = ""
    failure: str = ""

    @property
    def is_good(self) -> bool:
        """Whether it shows what it has to: nothing found, or for a canary something."""
        if self.skipped:
            return True
        return not self.failure and self.outcome.findings.is_clean is not self.is_canary

    @property
    def result(self) -> str:
        """The result, in a word or two."""
        if self.skipped:
            return f"SKIPPED: {self.skipped}"
        if self.is_canary and not self.failure:
            return "red, as it must be" if self.is_good else "FAILED: not found out"
        return "ok" if self.is_good else "FAILED"

    def line(self) -> str:
        """The row as it is printed: a row that was skipped has no numbers at all."""
        if self.skipped:
            return f"{self.name:<28}{'-':>9}{'-':>14}{'-':>6}{'-':>9}{'-':>7}  {self.result}"
        found = self.outcome.findings
        numbers = f"{self.outcome.injected:>9,}{found.acknowledged:>14,}{found.lost:>6}{found.doubled:>9}{found.moved:>7}"
        return f"{self.name:<28}{numbers}  {self.result:<34}{self.seconds:>8.1f}"

    def details(self) -> list[str]:
        """What follows the row, one sentence a line: its figures, and what was found where nothing should be."""
        sentences = [f"    {note}" for note in self.outcome.notes]
        if self.failure:
            sentences.append(f"    {self.failure}")
        if not self.is_good or self.is_canary:
            sentences += [f"    {sentence[:400]}" for sentence in self.outcome.findings.sentences[: 2 if self.is_good else 12]]
        return sentences


def total(rows: Sequence[Row]) -> str:
    """The last line: the sums over all rows that are no canaries."""
    real = [row.outcome for row in rows if not row.is_canary]
    found = [outcome.findings for outcome in real]
    numbers = (
        f"{sum(outcome.injected for outcome in real):>9,}{sum(each.acknowledged for each in found):>14,}"
        f"{sum(each.lost for each in found):>6}{sum(each.doubled for each in found):>9}{sum(each.moved for each in found):>7}"
    )
    skipped = sum(bool(row.skipped) for row in rows)
    bad = [row.name for row in rows if not row.is_good]
    result = f"FAILED: {', '.join(bad)}" if bad else "ok" + (f", {skipped} skipped" if skipped else "")
    return f"{'all':<28}{numbers}  {result:<34}{sum(row.seconds for row in rows):>8.1f}"


def sentence(rows: Sequence[Row], seed: int) -> str:
    """A run in a sentence, to be quoted."""
    found = [row.outcome.findings for row in rows if not row.is_canary]
    bad = [row.name for row in rows if not row.is_good]
    canaries = sum(row.is_canary and row.is_good and not row.skipped for row in rows)
    return (
        f"Seed {seed}: {sum(row.outcome.injected for row in rows if not row.is_canary):,} faults injected,"
        f" {sum(each.acknowledged for each in found):,} orders acknowledged, {sum(each.lost for each in found)} lost,"
        f" {sum(each.doubled for each in found)} doubled, {sum(each.moved for each in found)} moved in their queue;"
        f" {canaries} of {sum(row.is_canary for row in rows)} builds with a known mistake found out;"
        f" {sum(bool(row.skipped) for row in rows)} rows skipped, {len(bad)} failed{': ' if bad else ''}{', '.join(bad)};"
        f" {sum(row.seconds for row in rows):,.0f} s."
    )


def markdown(rows: Sequence[Row], seed: int) -> str:
    """A run as a README shows it."""
    lines = ["| fault | injected | acknowledged | lost | doubled | moved | |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        found = row.outcome.findings
        counts = (f"{row.outcome.injected:,}", f"{found.acknowledged:,}", found.lost, found.doubled, found.moved)
        cells = (row.name, *("-" if row.skipped else str(count) for count in counts), row.result)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join((*lines, "", sentence(rows, seed)))


def put(path: Path, text: str) -> None:
    """Write a text between the marks of a file. ValueError where they aren't there."""
    before, start, rest = path.read_text().partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    if not end:
        raise ValueError(f"{path} has no marks {MARKS}")
    path.write_text(f"{before}{start}\n{text}\n{end}{after}")
