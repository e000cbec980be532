"""What a replay tells people: the report at its end, and a progress bar on the way."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TextIO

from msgspec import Struct

from ome.replay.verify import Disagreement, Verifier

SHOWN: Final = 20
"""How many disagreements the printed report spells out."""

Progress = Callable[[int, int], None]
"""Told now and then how many rows are done, of how many (0 where that is not known before the end)."""


class ReplayReport(Struct, frozen=True):
    """What came of a replay. `fill_rows` are the EXECUTE and TAKE rows, each compared; `mismatch_rows` those of them that were
    compared with what the mismatch file says; `disagreements` the first ones, `disagreement_count` all.
    """

    rows: int
    trades: int
    traded_quantity: int
    fill_rows: int
    mismatch_rows: int
    checkpoints: int
    checkpoints_agreed: int
    disagreements: list[Disagreement]
    disagreement_count: int
    seconds: float

    @classmethod
    def of(cls, verifier: Verifier, seconds: float) -> ReplayReport:
        """What a verifier has seen."""
        return cls(
            rows=verifier.rows,
            trades=verifier.trades,
            traded_quantity=verifier.traded_quantity,
            fill_rows=verifier.fill_rows,
            mismatch_rows=verifier.mismatch_rows,
            checkpoints=verifier.checkpoints,
            checkpoints_agreed=verifier.checkpoints_agreed,
            disagreements=list(verifier.disagreements),
            disagreement_count=verifier.disagreement_count,
            seconds=seconds,
        )

    @property
    def ok(self) -> bool:
        """Whether everything agreed: what the exit status is made of."""
        return self.disagreement_count == 0

    @property
    def rows_per_second(self) -> float:
        """The replay's speed."""
        return self.rows / self.seconds if self.seconds else 0.0

    def lines(self) -> list[str]:
        """The report in words."""
        aside = f", {self.mismatch_rows} of them known mismatches" if self.mismatch_rows else ""
        text = [
            f"rows          {self.rows:,} in {self.seconds:,.1f} s ({self.rows_per_second:,.0f} rows/s)",
            f"trades        {self.trades:,} for a quantity of {self.traded_quantity:,}",
            f"fills         {self.fill_rows:,} incoming orders compared{aside}",
            f"checkpoints   {self.checkpoints_agreed} of {self.checkpoints} agree",
            f"disagreements {self.disagreement_count:,}",
        ]
        text += [f"  {disagreement}" for disagreement in self.disagreements[:SHOWN]]
        if self.disagreement_count > SHOWN:
            text.append(f"  ... and {self.disagreement_count - min(SHOWN, len(self.disagreements)):,} more")
        return text


def print_report(report: ReplayReport, file: TextIO | None = None) -> None:
    """Write the report to `file` (standard output if None)."""
    (file or sys.stdout).write("\n".join(report.lines()) + "\n")


@contextmanager
def progress_bar(description: str) -> Iterator[Progress | None]:
    """A progress callable that moves a bar on standard error, or None where that is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console  # noqa: PLC0415  slow to import, and only a terminal needs it
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(description, total=None)

        def moved(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total or None)

        yield moved
