"""What a run of the rule book tells people: each line that came out otherwise, a table by file, and one sentence at the end."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from typing import TextIO

from ome.conformance.language import Scenario
from ome.conformance.rule_book import FAILED, NOT_PLAYED, PASSED, ConformanceReport, Failure, Result


def print_report(report: ConformanceReport, file: TextIO | None = None) -> None:
    """Write the report to `file` (standard output if None)."""
    text = [line for result in report.results if result.failure for line in [*_failure_lines(result, result.failure), ""]]
    text += [*_table(report), "", *_not_played_lines(report), _summary(report)]
    (file or sys.stdout).write("\n".join(text) + "\n")


def print_list(scenarios: Sequence[Scenario], file: TextIO | None = None) -> None:
    """Write which scenarios there are, and the rules that each proves."""
    text: list[str] = []
    for scenario in scenarios:
        heading = f"{scenario.file}"
        if heading not in text:
            text.append(heading)
        text.append(f"  {scenario.title} ({', '.join(scenario.rules)})")
    (file or sys.stdout).write("\n".join([*text, f"{len(scenarios)} scenarios"]) + "\n")


def _failure_lines(result: Result, failure: Failure) -> list[str]:
    lines = [
        f"FAILED {result.file}: {result.title} ({', '.join(result.rules)})",
        f"  {result.file}.txt:{failure.line}: {failure.step}",
        f"    expected {failure.what}: {failure.expected}",
        f"    got      {failure.what}: {failure.got}",
    ]
    return [*lines, f"    answered {failure.answer}"] if failure.answer else lines


def _table(report: ConformanceReport) -> list[str]:
    """Passed, failed and not played by file, none as a dot."""
    counts = Counter((each.file, each.outcome) for each in report.results)
    files = list(dict.fromkeys(each.file for each in report.results))
    width = max(len(name) for name in [*files, "file"])
    rows = [f"{'file':<{width}}  passed  failed  not played"]
    for name in files:
        passed, failed, not_played = (counts[name, outcome] or "." for outcome in (PASSED, FAILED, NOT_PLAYED))
        rows.append(f"{name:<{width}}  {passed:>6}  {failed:>6}  {not_played:>10}")
    return rows


def _not_played_lines(report: ConformanceReport) -> list[str]:
    reasons = Counter(each.reason for each in report.results if each.outcome == NOT_PLAYED)
    return [f"{count} not played: {reason}" for reason, count in reasons.most_common()]


def _summary(report: ConformanceReport) -> str:
    played = report.count(PASSED) + report.count(FAILED)
    text = f"{report.count(PASSED)} of {played} scenarios played at {report.url} came out as written, in {report.seconds:.1f} s"
    rules = sorted({rule for each in report.results if each.outcome == FAILED for rule in each.rules})
    return f"{text}; rules in doubt: {', '.join(rules)}" if rules else text
