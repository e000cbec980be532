"""The rule book over HTTP with kill -9 and a restart of the service between steps: nothing may show.

Many scenarios, each in symbols of its own, are played in rounds against one service, which is killed between any two rounds:
so one restart cuts all of them.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import httpx
import pytest

from ome.conformance.language import Scenario, Step, read_rule_book
from ome.conformance.over_http import CAN, OverHttp
from ome.conformance.venue import Player, needs
from servers import Server, running_server, sqlite_url

CUTTABLE = [scenario for scenario in read_rule_book() if needs(scenario) <= CAN and len(scenario.steps) > 1]
Rounds = Sequence[Sequence[Step]]


def play_in_rounds(server: Server, cut: Sequence[tuple[Scenario, Rounds]]) -> list[str]:
    """Play what each scenario has for a round, kill the service, start it again, and so on; what came out otherwise."""
    problems: list[str] = []
    with httpx.Client(base_url=server.url, timeout=30) as client:
        players = [(Player(OverHttp(client, scenario)), scenario, rounds) for scenario, rounds in cut]
        for number in range(max(len(rounds) for _, rounds in cut)):
            if number:
                server.restart()
            for player, scenario, rounds in players:
                for step in rounds[number] if number < len(rounds) else ():
                    try:
                        player.take(step)
                    except AssertionError as error:
                        problems.append(f"{scenario.id}, line {step.line}, {number} kills: {step.text}\n    {error}")
    return problems


def test_a_kill_within_a_scenario_does_not_show(tmp_path: Path) -> None:
    """M6, D3: a scenario of each file goes on after a kill -9 between two of its steps, drawn by lot, as if nothing had been."""
    rng = random.Random(1)
    drawn = [rng.choice(list(scenarios)) for _, scenarios in groupby(CUTTABLE, key=lambda scenario: scenario.file)]
    places = [rng.randrange(1, len(scenario.steps)) for scenario in drawn]
    cut = [(each, (each.steps[:place], each.steps[place:])) for each, place in zip(drawn, places, strict=True)]
    with running_server(sqlite_url(tmp_path)) as server:
        assert play_in_rounds(server, cut) == []


@pytest.mark.long
def test_kills_between_all_steps_of_all_scenarios_do_not_show(tmp_path: Path) -> None:
    """M6, D3: every scenario comes out as written with a kill -9 between any two of its steps; the last before a kill varies."""
    cut = [(scenario, [[step] for step in scenario.steps]) for scenario in CUTTABLE]
    random.Random(1).shuffle(cut)
    with running_server(sqlite_url(tmp_path)) as server:
        assert play_in_rounds(server, cut) == []
