"""Play scenarios of the rule book against a running server, and say of each whether it came out as written.

A scenario that a server can't be made to play is counted, with the reason. What a server answers is never trusted: an answer of
another shape, an error of the server's own or none at all fail the scenario's line. A server that is gone ends the run; what was
still to be played counts as not played.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Final

import httpx
from msgspec import Struct

from ome.conformance.language import Scenario, Step
from ome.conformance.over_http import CAN, OverHttp
from ome.conformance.venue import Mismatch, Player, needs

TIMEOUT_SECONDS: Final = 30.0
"""How long an answer may take."""
PASSED: Final = "passed"
FAILED: Final = "failed"
NOT_PLAYED: Final = "not_played"

_MISSING: Final = {
    "clock": "time has to pass, and a server's clock can't be moved",
    "settings": "it needs settings of its own, and a server has those that it was started with",
    "alone": "it stops everybody, and others may be there",
    "auto listing": "it shows that an order lists its symbol, and this server has that switched off (AUTO_LIST)",
}
_GONE: Final = "the server was gone"
_NO_CONNECTION: Final = "connection"
_UNREADABLE: Final = (LookupError, TypeError, ValueError, ArithmeticError, AttributeError)
"""What reading an answer of another shape raises."""

Progress = Callable[[int, int], None]
"""Told how many scenarios are done, of how many."""


class ConformanceError(Exception):
    """The rule book can't be played: no such rule or file, no server there, or not the key that it wants."""


class Failure(Struct, frozen=True):
    """The step that came out otherwise; `answer` is what the server had answered last."""

    line: int
    step: str
    what: str
    expected: str
    got: str
    answer: str


class Result(Struct, frozen=True):
    """What came of one scenario: `outcome` is passed, failed (with `failure`) or not_played (with `reason`)."""

    file: str
    title: str
    rules: tuple[str, ...]
    outcome: str
    failure: Failure | None = None
    reason: str | None = None


class ConformanceReport(Struct, frozen=True):
    """What came of all that was selected."""

    url: str
    results: list[Result]
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether something was played and nothing came out otherwise: what the exit status is made of."""
        return self.count(FAILED) == 0 and self.count(PASSED) > 0 and not any(each.reason == _GONE for each in self.results)

    def count(self, outcome: str) -> int:
        """How many scenarios came out so."""
        return sum(each.outcome == outcome for each in self.results)


def select(scenarios: Sequence[Scenario], rules: Sequence[str] = (), files: Sequence[str] = ()) -> list[Scenario]:
    """The scenarios that prove one of these rules and stand in one of these files; nothing given is all.

    ConformanceError names the rule or file that there is not.
    """
    known_rules = {rule for scenario in scenarios for rule in scenario.rules}
    known_files = {scenario.file for scenario in scenarios}
    wanted_rules = {_known(rule.upper(), known_rules, "rule") for rule in rules}
    wanted_files = {_known(file.removesuffix(".txt"), known_files, "file") for file in files}
    return [
        scenario
        for scenario in scenarios
        if (not rules or wanted_rules & set(scenario.rules)) and (not files or scenario.file in wanted_files)
    ]


def play_rule_book(
    scenarios: Sequence[Scenario], url: str, api_key: str | None = None, progress: Progress | None = None
) -> ConformanceReport:
    """Play each of them against the server at `url`; ConformanceError if it can't even be begun."""
    started = perf_counter()
    results: list[Result] = []
    headers = {"X-API-Key": api_key} if api_key else {}
    with _client(url, headers) as client:
        can = _greet(client)
        for scenario in scenarios:
            is_gone = bool(results) and _is_gone(results[-1])
            results.append(_missing(scenario, can, is_gone=is_gone) or _play(client, scenario, can))
            if progress is not None:
                progress(len(results), len(scenarios))
    return ConformanceReport(url, results, round(perf_counter() - started, 3))


def _known(name: str, known: set[str], what: str) -> str:
    if name not in known:
        raise ConformanceError(f"no scenario is of {what} {name!r}; there are scenarios of {', '.join(sorted(known))}")
    return name


def _client(url: str, headers: dict[str, str]) -> httpx.Client:
    if not url.startswith(("http://", "https://")):
        raise ConformanceError(f"{url} is no URL of a server: write http://HOST:PORT")
    return httpx.Client(base_url=url, headers=headers, timeout=TIMEOUT_SECONDS)


def _greet(client: httpx.Client) -> frozenset[str]:
    """What the server can do: a dry run of an order in a symbol of its own changes nothing and tells whether orders are taken."""
    probe = OverHttp(client, Scenario("", ""))
    body = {"user_id": probe.prefix, "symbol": probe.prefix, "side": "BUY", "quantity": "1", "price": "1"}
    try:
        response = client.post("/orders", params={"dry_run": "true"}, json=body)
        answer = response.json()
    except (httpx.TransportError, httpx.InvalidURL) as error:
        raise ConformanceError(f"no server answers at {client.base_url}: {error}") from error
    except ValueError as error:
        raise ConformanceError(f"what answers at {client.base_url} does not speak JSON ({response.status_code})") from error
    if response.status_code in {401, 403}:
        raise ConformanceError(f"the server at {client.base_url} wants the operator's key: --api-key, or API_KEY")
    lists_none = isinstance(answer, dict) and answer.get("code") == "unknown_symbol"
    return CAN - {"auto listing"} if lists_none else CAN


def _missing(scenario: Scenario, can: frozenset[str], *, is_gone: bool) -> Result | None:
    """The scenario as not played, where something is missing for it."""
    missing = [_GONE] if is_gone else [_MISSING[each] for each in sorted(needs(scenario) - can)]
    return Result(scenario.file, scenario.title, scenario.rules, NOT_PLAYED, reason="; ".join(missing)) if missing else None


def _is_gone(last: Result) -> bool:
    """Whether nobody took the connection any more when the last scenario was played."""
    return last.reason == _GONE or (last.failure is not None and last.failure.what == _NO_CONNECTION)


def _play(client: httpx.Client, scenario: Scenario, can: frozenset[str]) -> Result:
    venue = OverHttp(client, scenario, lists="auto listing" not in can)
    player = Player(venue)
    failures = (_take(player, venue, step) for step in scenario.steps)
    failure = next((failure for failure in failures if failure is not None), None)
    return Result(scenario.file, scenario.title, scenario.rules, PASSED if failure is None else FAILED, failure)


def _take(player: Player, venue: OverHttp, step: Step) -> Failure | None:
    """What did not come out as written in one step."""
    try:
        player.take(step)
    except Mismatch as mismatch:
        what, expected, got = mismatch.what, mismatch.expected, mismatch.got
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        what, expected, got = _NO_CONNECTION, "an answer", f"no connection: {error}"
    except httpx.TransportError as error:
        what, expected, got = "answer", "one", f"none: {error!r}"
    except _UNREADABLE as error:
        what, expected, got = "answer", "what the contract says", f"another shape ({error!r})"
    else:
        return None
    return Failure(step.line, " ".join(step.text.split()), what, expected, got, venue.last_answer)
