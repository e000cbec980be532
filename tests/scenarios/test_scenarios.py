"""The rule book, played against the engine and against the specification."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ome.conformance.language import Scenario, read_file, read_rule_book, read_step
from ome.conformance.venue import needs, play
from scenarios.in_process import EngineBooks, InProcess, RestartedBooks, TwinBooks

RULE_BOOK = read_rule_book()
RULES = [
    "M1", "M2", "M3", "M4", "M5", "M6", "M7", "A1", "A2", "A3", "A4", "A5", "A6", "A7", "A8", "T1", "T2", "T3", "T4", "T5", "T6",
    "T7", "S1", "S2", "S3", "S4", "S5", "S6", "P1", "P2", "H1", "H2", "H3", "R1", "R2", "R3", "I1", "I2", "I3", "I4", "D1", "D2",
    "D3", "D4", "D5", "D6", "N1", "N2", "N3", "F1", "F2", "F3", "F4",
]  # fmt: skip
"""Every rule there is."""
NOT_BUILT: list[str] = []
"""Rules of which nothing is claimed."""
BUILT = [rule for rule in RULES if rule not in NOT_BUILT]
"""The rules that are built, each of which a scenario or a test must name."""
DOCUMENT = Path(__file__).parents[2] / "docs" / "rules.md"
PLAYABLE = [scenario for scenario in RULE_BOOK if needs(scenario) <= InProcess.can]


@pytest.mark.parametrize("scenario", PLAYABLE, ids=lambda scenario: scenario.id)
def test_the_engine_follows_the_rule_book(scenario: Scenario) -> None:
    """Every scenario comes out as it is written, and the engine's invariants hold after every step."""
    play(scenario, InProcess(EngineBooks()))


@pytest.mark.parametrize("scenario", PLAYABLE, ids=lambda scenario: scenario.id)
def test_the_specification_follows_the_rule_book(scenario: Scenario) -> None:
    """The naive twin agrees with the scenarios, so that what it says of other flows can be trusted."""
    play(scenario, InProcess(TwinBooks()))


@pytest.mark.parametrize("scenario", PLAYABLE, ids=lambda scenario: scenario.id)
def test_restarts_do_not_show_in_the_rule_book(scenario: Scenario) -> None:
    """M6, DUR6: every scenario comes out the same with an engine restored from its state before each step."""
    play(scenario, InProcess(RestartedBooks()))


def sentences_of_tests() -> Iterator[str]:
    """What each test says must hold."""
    for file in Path(__file__).parents[1].rglob("test_*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                yield ast.get_docstring(node) or ""


def test_every_rule_that_is_built_is_proven_by_name() -> None:
    """Each rule's id stands in a scenario or in the sentence of a test."""
    named = {rule for scenario in RULE_BOOK for rule in scenario.rules}
    named |= {rule for sentence in sentences_of_tests() for rule in re.findall(r"\b[A-Z]\d\b", sentence)}
    assert [rule for rule in BUILT if rule not in named] == []


def test_the_rules_that_are_documented_are_those_that_are_built() -> None:
    """No rule is claimed that is not built, and none of those that are is left out: the exceptions are exactly these."""
    documented = re.findall(r"^\| ([A-Z]\d) \|", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(documented) == sorted(BUILT)
    assert set(NOT_BUILT) < set(RULES)


def test_every_scenario_proves_something() -> None:
    """Each has a title of its own, rules that are built, and steps."""
    assert len({scenario.id for scenario in RULE_BOOK}) == len(RULE_BOOK)
    for scenario in RULE_BOOK:
        assert scenario.steps, scenario.id
        assert scenario.rules, scenario.id
        assert set(scenario.rules) <= set(BUILT), scenario.id
        expected = [outcome for step in scenario.steps for outcome in (step.expected, *getattr(step.action, "expected", ()))]
        assert "P2" in scenario.rules or not any(each.prevented for each in expected), f"{scenario.id}: it shows P2"


@pytest.mark.parametrize(
    "line",
    [
        "ann sells 5 @ 100.00 -> PENDING, filled 1",
        "ann sells 5 @ 100.00 -> FILLED; trades 5 @ 100.00 with bob",
        "ann sells 5 @ 100.00 -> refused price_off_tick",
        "bob buys 5 @ 100.00 -> PENDING; trades 5 @ 101.00 with maker",
        "bob buys 5 @ 101.00 -> FILLED",
        "maker cancels maker -> CANCELLED ioc_remainder",
        "maker cancels nobody -> CANCELLED cancelled_by_user",
        "order maker: PENDING, left 4",
        "order maker: PENDING, version 2",
        "book: bids -; asks -",
        "book: bids -; asks 5 @ 101.00, 1 @ 102.00",
        "queue 101.00: nobody 5",
        "last: 101.00",
    ],
)
def test_a_scenario_that_is_wrong_fails(line: str) -> None:
    """What is written is compared: a wrong status, trade, refusal, book, queue or price is seen."""
    scenario = Scenario("wrong", "wrong")
    scenario.steps = [read_step(1, "maker sells 5 @ 101.00 -> PENDING"), read_step(2, line)]
    with pytest.raises(AssertionError, match=re.escape(f"wrong.txt:2: {line}")):
        play(scenario, InProcess(EngineBooks()))


@pytest.mark.parametrize(
    "line",
    [
        "ann sells 5",
        "ann sells 5 @ 100.00",
        "ann sells 5 @ 100.00 -> pending",
        "ann dances -> done",
        "book: bids -",
        "bob sells 5 @ 100.00 -> PENDING",
        "together: cat sells 5 @ 1.00 | cat sells 5 @ 1.00 -> PENDING | PENDING",
    ],
)
def test_a_line_that_is_no_step_is_named(tmp_path: Path, line: str) -> None:
    """A line that can't be read, or gives an order another's name, is an error with its place, never passed over."""
    file = tmp_path / "odd.txt"
    file.write_text(f"Scenario: odd\n  bob buys 1 @ 1.00 -> PENDING\n  {line}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"odd\.txt:3: "):
        list(read_file(file))
