"""What is made of a server's answers: servers here are functions of a request, most of them wrong."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from ome.conformance import rule_book
from ome.conformance.language import Scenario, read_file, read_rule_book
from ome.conformance.report import print_list, print_report
from ome.conformance.rule_book import FAILED, NOT_PLAYED, PASSED, ConformanceError, ConformanceReport, play_rule_book, select

URL = "http://127.0.0.1:5000"
Handler = Callable[[httpx.Request], httpx.Response]
TEXT = """
Scenario: one order rests
Proves: M2

    ann sells 5 @ 100.00                     -> PENDING
    book: bids -; asks 5 @ 100.00

Scenario: one order is listed
Proves: M5
Needs: auto listing

    ann sells 5 @ 100.00                     -> PENDING

Scenario: time passes
Proves: T5

    ann sells 5 @ 100.00 until +60s          -> PENDING
    60s pass                                 -> done
"""


class GoodServer:
    """Takes every order, shows the last one's quantity and price as the only level, and remembers what was asked."""

    def __init__(self) -> None:
        self.asked: list[httpx.Request] = []
        self.order: dict[str, Any] = {}

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer."""
        self.asked.append(request)
        if request.method == "POST":
            self.order = json.loads(request.content)
            numbers = {"filled_quantity": "0", "remaining_quantity": self.order["quantity"], "version": 1}
            answer = {"order_id": "1", "status": "PENDING", "reason": None, "executed_trades": []} | numbers
            return httpx.Response(201, json=answer)
        level = {"price": self.order["price"], "quantity": self.order["quantity"], "orders": 1}
        return httpx.Response(200, json={"bids": [], "asks": [level]})


@pytest.fixture
def scenarios(tmp_path: Path) -> list[Scenario]:
    """Three scenarios, of which the last needs a clock."""
    file = tmp_path / "few.txt"
    file.write_text(TEXT, encoding="utf-8")
    return list(read_file(file))


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch, scenarios: list[Scenario]) -> Callable[[Handler], ConformanceReport]:
    """Plays the three against a function in the place of a server."""

    def played(handler: Handler) -> ConformanceReport:
        def client(url: str, headers: dict[str, str]) -> httpx.Client:
            return httpx.Client(base_url=url, headers=headers, transport=httpx.MockTransport(handler))

        monkeypatch.setattr(rule_book, "_client", client)
        return play_rule_book(scenarios, URL, "the key")

    return played


def printed(report: ConformanceReport) -> str:
    """The report as people read it."""
    file = io.StringIO()
    print_report(report, file)
    return file.getvalue()


def test_what_comes_out_as_written_passes_and_what_cannot_be_played_is_counted(
    play: Callable[[Handler], ConformanceReport],
) -> None:
    """The report is good; it says how many were not played, and why; the key goes with every request."""
    server = GoodServer()
    report = play(server)
    assert [result.outcome for result in report.results] == [PASSED, PASSED, NOT_PLAYED]
    assert report.ok
    assert {request.headers["x-api-key"] for request in server.asked} == {"the key"}
    text = printed(report)
    assert "few        2       .           1\n" in text
    assert "1 not played: time has to pass, and a server's clock can't be moved\n" in text
    assert f"2 of 2 scenarios played at {URL} came out as written, in " in text


def test_symbols_and_users_are_fresh_each_time(play: Callable[[Handler], ConformanceReport]) -> None:
    """No symbol and no user is used by two scenarios or by two runs, and all of them fit the contract."""
    server = GoodServer()
    for _ in range(2):
        play(server)
    bodies = [json.loads(request.content) for request in server.asked if request.method == "POST"]
    assert len(bodies) == 6  # one to begin with and two scenarios, twice
    for field in ("symbol", "user_id"):
        assert len({body[field] for body in bodies}) == 6
        assert all(len(body[field]) <= 32 for body in bodies)


def test_a_wrong_server_is_told_line_by_line(play: Callable[[Handler], ConformanceReport]) -> None:
    """A failure names its scenario, line, rules, what was expected, what came, and the answer that it was read from."""
    good = GoodServer()

    def shows_nothing(request: httpx.Request) -> httpx.Response:
        return good(request) if request.method == "POST" else httpx.Response(200, json={"bids": [], "asks": []})

    report = play(shows_nothing)
    assert [result.outcome for result in report.results] == [FAILED, PASSED, NOT_PLAYED]
    assert not report.ok
    failure = report.results[0].failure
    assert failure is not None
    assert (failure.line, failure.what, failure.expected, failure.got) == (6, "book", "[[], [[5, 100.00]]]", "[[], []]")
    text = printed(report)
    assert text.startswith("FAILED few: one order rests (M2)\n  few.txt:6: book: bids -; asks 5 @ 100.00\n    expected book: ")
    assert '-> 200 {"bids":[],"asks":[]}\n' in text
    assert text.endswith("; rules in doubt: M2\n")


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(201, text="<html>"),
        httpx.Response(201, json=[1]),
        httpx.Response(201, json={"order_id": "1"}),
        httpx.Response(201, json={"order_id": "1", "status": "PENDING", "reason": None, "filled_quantity": "none"}),
        httpx.Response(422, json={"detail": "no code"}),
        httpx.Response(503, json={"code": "overloaded"}),
    ],
)
def test_an_answer_of_another_shape_fails_its_line(play: Callable[[Handler], ConformanceReport], answer: httpx.Response) -> None:
    """Whatever a server answers, the run goes on to its end and says where it was."""
    first = GoodServer()
    report = play(lambda request: answer if first.asked else first(request))
    assert [result.outcome for result in report.results] == [FAILED, FAILED, NOT_PLAYED]
    assert report.results[0].failure is not None
    assert report.results[0].failure.line == 5
    assert printed(report).count("answered POST /orders -> ") == 2


def test_a_server_that_goes_away_ends_the_run(play: Callable[[Handler], ConformanceReport]) -> None:
    """What was being played fails, what was to come is not played, and the report is not a good one."""
    server = GoodServer()

    def leaves(request: httpx.Request) -> httpx.Response:
        if server.asked:
            raise httpx.ConnectError("refused")
        return server(request)

    report = play(leaves)
    assert [result.outcome for result in report.results] == [FAILED, NOT_PLAYED, NOT_PLAYED]
    assert [result.reason for result in report.results[1:]] == ["the server was gone"] * 2
    assert not report.ok


def test_a_connection_that_breaks_once_fails_one_scenario(play: Callable[[Handler], ConformanceReport]) -> None:
    """The next one is played."""
    server = GoodServer()

    def breaks(request: httpx.Request) -> httpx.Response:
        answer = server(request)
        if len(server.asked) == 2:
            raise httpx.ReadError("reset")
        return answer

    assert [result.outcome for result in play(breaks).results] == [FAILED, PASSED, NOT_PLAYED]


def test_without_automatic_listing_symbols_are_listed_first(play: Callable[[Handler], ConformanceReport]) -> None:
    """A server with AUTO_LIST off is asked to list each symbol; what shows automatic listing is not played."""
    server = GoodServer()
    listed: list[str] = []

    def lists_none(request: httpx.Request) -> httpx.Response:
        symbol = request.url.path.removeprefix("/instruments/")
        if request.method == "PUT":
            listed.append(symbol)
            return httpx.Response(201, json={})
        if request.method == "POST" and json.loads(request.content)["symbol"] not in listed:
            return httpx.Response(422, json={"code": "unknown_symbol"})
        return server(request)

    report = play(lists_none)
    assert [result.outcome for result in report.results] == [PASSED, NOT_PLAYED, NOT_PLAYED]
    assert len(listed) == 1


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (httpx.Response(401, json={"code": "unauthorized"}), "wants the operator's key"),
        (httpx.Response(404, text="not here"), "does not speak JSON"),
    ],
)
def test_what_is_no_server_for_it_is_said_at_once(
    play: Callable[[Handler], ConformanceReport], answer: httpx.Response, words: str
) -> None:
    """No key or another service: one sentence rather than two hundred failures."""
    with pytest.raises(ConformanceError, match=words):
        play(lambda _: answer)


def test_a_url_needs_its_scheme(scenarios: list[Scenario]) -> None:
    """The sentence shows how it is written."""
    with pytest.raises(ConformanceError, match="http://HOST:PORT"):
        play_rule_book(scenarios, "localhost:5000")


def test_scenarios_are_selected_by_rule_and_by_file() -> None:
    """Either or both, in any case and with or without the suffix; what there is not is said."""
    everything = read_rule_book()
    by_rule = select(everything, ["a3"])
    assert by_rule
    assert all("A3" in scenario.rules for scenario in by_rule)
    by_file = select(everything, files=["stops.txt", "batches"])
    assert {scenario.file for scenario in by_file} == {"stops", "batches"}
    both = select(everything, ["A3"], ["modify"])
    assert both == [scenario for scenario in by_rule if scenario.file == "modify"]
    assert select(everything) == everything
    with pytest.raises(ConformanceError, match="'Q1'"):
        select(everything, ["Q1"])
    with pytest.raises(ConformanceError, match="'stop'"):
        select(everything, files=["stop"])


def test_nothing_played_is_no_success(play: Callable[[Handler], ConformanceReport], scenarios: list[Scenario]) -> None:
    """A selection of which nothing can be played proves nothing."""
    del scenarios[:2]
    assert not play(GoodServer()).ok


def test_the_list_has_every_scenario_with_its_rules(scenarios: list[Scenario]) -> None:
    """File by file."""
    file = io.StringIO()
    print_list(scenarios, file)
    rows = ["few", "  one order rests (M2)", "  one order is listed (M5)", "  time passes (T5)", "3 scenarios"]
    assert file.getvalue().splitlines() == rows
