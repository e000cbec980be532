"""The public conformance scenarios for matching services, played against the engine and its twin.

The files are found through OME_TEST_DATA; they are facts from the test suites of other engines: requests, and what must be true
after each. Only scenarios whose tags are built are played, and none in which somebody else tries to touch an order: whose order
it is the edge decides, not the engine.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from ome.domain.numbers import format_number, parse
from scenarios.in_process import Books, EngineBooks, InProcess, TwinBooks
from scenarios.language import Change, Fill, Listing, Submit
from scenarios.venue import NOBODYS_ORDER, Answer, OrderView

DATA = os.environ.get("OME_TEST_DATA")
TAGS = {"market", "ioc", "fok", "modify", "cancel", "gtd"}
NEUTRAL = {
    "adapted", "convention", "partial", "sweep", "time-priority", "maker-price", "match", "depth", "tick", "lot", "validation",
    "refused", "no-liquidity", "pending", "limit", "modify-priority", "modify-cross", "iceberg-priority", "trigger",
    "trigger-order", "cascade", "at-entry-trigger", "passive-stop-limit",
}  # fmt: skip
"""Tags that say how to read a failure, or what is exercised in passing."""
BUILT_COUNT = 126
Facts = dict[str, Any]


def built() -> list[Facts]:
    """The scenarios whose tags are built, of every file."""
    if DATA is None:
        return []
    files = sorted(Path(DATA, "conformance", "scenarios").glob("*.json"))
    everything = [scenario for file in files for scenario in json.loads(file.read_text(encoding="utf-8"))]
    return [scenario for scenario in everything if not set(scenario["tags"]) - NEUTRAL - TAGS and not _meddles(scenario)]


def _meddles(scenario: Facts) -> bool:
    return any(step["op"] in {"cancel", "modify"} and "user" in step for step in scenario["steps"])


class Market:
    """One instrument, spoken to as the scenarios speak: refs for orders, and the edge's own refusals."""

    def __init__(self, books: Books, tick: str, lot: str) -> None:
        self.venue = InProcess(books)
        self.ids: dict[str, str] = {}
        self.tape: list[Facts] = []
        self.venue.list_symbol(Listing("X", format_number(parse(tick)), lot))

    def submit(self, step: Facts) -> Answer:
        """Send an order; what the edge would refuse never gets to the engine."""
        price, quantity = step.get("price"), str(step["quantity"])
        if _nought(quantity) or (price is not None and _nought(price)) or (price is None and step["type"] == "LIMIT"):
            return Answer(order=OrderView("REJECTED", None, Decimal(0), Decimal(0), 0))
        time_in_force = step.get("tif", "IOC")
        order = Submit(
            step["user"], step["side"], quantity, "X", price, time_in_force, step.get("expires_in"), False, None, step["ref"]
        )  # fmt: skip
        answer = self.venue.submit(order)
        self.ids[step["ref"]] = answer.order_id
        return self._taped(step["ref"], answer)

    def modify(self, step: Facts) -> Answer:
        """Change an order."""
        quantity, price = step.get("quantity"), step.get("price")
        if (quantity is not None and _nought(str(quantity))) or (price is not None and _nought(price)):
            return Answer(refused="invalid_request")
        change = Change(step["ref"], None if quantity is None else str(quantity), price, None, None)
        return self._taped(step["ref"], self.venue.modify(self.ids.get(step["ref"], NOBODYS_ORDER), change))

    def cancel(self, step: Facts) -> Answer:
        """Cancel an order."""
        return self.venue.cancel(self.ids.get(step["ref"], NOBODYS_ORDER))

    def _taped(self, ref: str, answer: Answer) -> Answer:
        refs = {order_id: name for name, order_id in self.ids.items()}
        trades = tuple(fill._replace(name=refs[fill.name]) for fill in answer.trades)
        self.tape += [{"price": t.price, "quantity": t.quantity, "maker": t.name, "taker": ref} for t in trades]
        return answer._replace(trades=trades)


def _nought(text: str) -> bool:
    return Decimal(text) == 0


def merged(trades: Sequence[Facts]) -> list[list[object]]:
    """Neighbouring trades of the same pair at the same price, as one."""
    rows: list[list[Any]] = []
    for trade in trades:
        key = [Decimal(trade["price"]), trade["maker"], trade.get("taker")]
        if rows and rows[-1][:3] == key:
            rows[-1][3] += trade["quantity"]
        else:
            rows.append([*key, Decimal(trade["quantity"])])
    return rows


def as_facts(fills: Sequence[Fill]) -> list[Facts]:
    """An answer's trades in the words of the files."""
    return [{"price": fill.price, "quantity": fill.quantity, "maker": fill.name} for fill in fills]


def check_order(expected: Facts, order: OrderView | None) -> None:
    """Status and filled quantity, where they are given."""
    assert order is not None
    if "status" in expected:
        assert order.status == expected["status"].replace("OPEN", "PENDING")
    if "filled" in expected:
        assert order.filled == expected["filled"]


def play(facts: Facts, books: Books) -> None:
    """Play one scenario on empty books; AssertionError names its step."""
    instrument = facts.get("instrument", {})
    market = Market(books, instrument.get("tick_size", "0.01"), instrument.get("lot_size", "1"))
    for number, step in enumerate(facts["steps"], 1):
        try:
            take(market, step)
        except AssertionError as error:
            raise AssertionError(f"step {number} {step}: {error}") from None


def take(market: Market, step: Facts) -> None:
    """One step and what must be true after it."""
    match step["op"]:
        case "submit" | "modify" | "cancel" as name:
            expected = step.get("expect", {})
            answer: Answer = getattr(market, name)(step)
            assert bool(answer.refused) == bool(expected.get("refused", False)), answer.refused
            if answer.refused is None:
                check_order(expected, answer.order)
                if "trades" in expected:
                    assert merged(as_facts(answer.trades)) == merged(expected["trades"])
        case "expect_book":
            bids, asks = market.venue.book("X")
            for key, levels in (("bids", bids), ("asks", asks)):
                if key in step:
                    assert [(price, quantity) for quantity, price in levels] == [(Decimal(p), q) for p, q in step[key]]
        case "expect_order":
            check_order(step, market.venue.order(market.ids[step["ref"]]))
        case "expect_trades":
            assert merged(market.tape) == merged(step["trades"])
        case "wait":
            market.venue.let_pass(step["seconds"])
        case other:
            raise ValueError(f"no such step: {other}")


@pytest.mark.skipif(DATA is None, reason="OME_TEST_DATA names no folder with the conformance scenarios")
@pytest.mark.parametrize("books", [EngineBooks, TwinBooks])
def test_the_public_conformance_scenarios_hold(books: Callable[[], Books]) -> None:
    """M1-M5, A1-A6, T1-T3, T5: every fact of every scenario whose tags are built is true of the engine, and of the twin."""
    scenarios = built()
    problems = []
    for scenario in scenarios:
        try:
            play(scenario, books())
        except (AssertionError, KeyError) as error:
            problems.append(f"{scenario['name']} ({scenario['source']}): {error!r}")
    assert not problems, "\n".join(problems)
    assert len(scenarios) == BUILT_COUNT, "other scenarios are played than those that are known to be"
