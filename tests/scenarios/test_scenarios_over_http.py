"""The rule book, played against a running service."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from ome.conformance.language import Scenario, read_rule_book
from ome.conformance.over_http import CAN, OverHttp
from ome.conformance.venue import needs, play
from servers import running_server, sqlite_url

PLAYABLE = [scenario for scenario in read_rule_book() if needs(scenario) <= CAN]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of a service on a fresh SQLite database."""
    folder: Path = tmp_path_factory.mktemp("rule-book")
    with running_server(sqlite_url(folder)) as server, httpx.Client(base_url=server.url) as client:
        yield client


@pytest.mark.parametrize("scenario", PLAYABLE, ids=lambda scenario: scenario.id)
def test_the_service_follows_the_rule_book(client: httpx.Client, scenario: Scenario) -> None:
    """Every scenario that needs no other clock or settings comes out over HTTP as it does in the engine."""
    play(scenario, OverHttp(client, scenario))
