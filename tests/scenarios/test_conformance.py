"""The public conformance scenarios for matching services, played against the engine and its twin.

The files are found through OME_TEST_DATA; they are facts from the test suites of other engines: requests, and what must be true
after each. All are played but those in which somebody else tries to touch an order: whose order it is the edge decides, not the
engine.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from ome.conformance.language import Change, Fill, Listing, Submit
from ome.conformance.venue import NOBODYS_ORDER, Answer, OrderView
from ome.domain.numbers import format_number, parse
from scenarios.in_process import Books, EngineBooks, InProcess, TwinBooks

DATA = os.environ.get("OME_TEST_DATA")
PLAYED_COUNT = 212
Facts = dict[str, Any]


def playable() -> list[Facts]:
    """The scenarios of every file that ask nothing of the edge."""
    if DATA is None:
        return []
    files = sorted(Path(DATA, "conformance", "scenarios").glob("*.json"))
    everything = [scenario for file in files for scenario in json.loads(file.read_text(encoding="utf-8"))]
    return [scenario for scenario in everything if not _meddles(scenario)]


def _meddles(scenario: Facts) -> bool:
    return any(step["op"] in {"cancel", "modify"} and "user" in step for step in scenario["steps"])


class Market:
    """One instrument, spoken to as the scenarios speak: refs for orders, and the edge's own refusals."""

    def __init__(self, books: Books, tick: str, lot: str) -> None:
        self.venue = InProcess(books)
        self.ids: dict[str, str] = {}
        self.venue.list_symbol(Listing("X", format_number(parse(tick)), lot))

    def submit(self, step: Facts) -> Answer:
        """Send an order; what the edge would refuse never gets to the engine."""
        quantity, order_type, display = str(step["quantity"]), step["type"], step.get("display_quantity")
        needed = {"LIMIT": ["price"], "STOP": ["stop_price"], "STOP_LIMIT": ["price", "stop_price"]}.get(order_type, [])
        if _nought(quantity) or any(_nought(step.get(field, "0")) for field in needed):
            return Answer(order=OrderView("REJECTED", None, Decimal(0), Decimal(0), 0))
        order = Submit(
            step["user"], step["side"], quantity, "X", order_type, step.get("price"), step.get("tif", "IOC"),
            step.get("expires_in"), step.get("stop_price"), step.get("trail_offset"), post_only=step.get("post_only", False),
            display_quantity=None if display is None else str(display), name=step["ref"],
        )  # fmt: skip
        answer = self.venue.submit(order)
        self.ids[step["ref"]] = answer.order_id
        return self._named(answer)

    def modify(self, step: Facts) -> Answer:
        """Change an order."""
        quantity, price = step.get("quantity"), step.get("price")
        if (quantity is not None and _nought(str(quantity))) or (price is not None and _nought(price)):
            return Answer(refused="invalid_request")
        change = Change(step["ref"], None if quantity is None else str(quantity), price)
        return self._named(self.venue.modify(self.ids.get(step["ref"], NOBODYS_ORDER), change))

    def cancel(self, step: Facts) -> Answer:
        """Cancel an order."""
        return self.venue.cancel(self.ids.get(step["ref"], NOBODYS_ORDER))

    def tape(self) -> list[Facts]:
        """Every trade so far."""
        trades = self.venue.tape("X")
        return [
            {"price": fill.price, "quantity": fill.quantity, "maker": self._ref(fill.name), "taker": self._ref(taker)}
            for fill, taker in trades
        ]

    def _named(self, answer: Answer) -> Answer:
        return answer._replace(trades=tuple(fill._replace(name=self._ref(fill.name)) for fill in answer.trades))

    def _ref(self, order_id: str) -> str:
        return next(ref for ref, known in self.ids.items() if known == order_id)


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
            assert merged(market.tape()) == merged(step["trades"])
        case "wait":
            market.venue.let_pass(step["seconds"])
        case other:
            raise ValueError(f"no such step: {other}")


@pytest.mark.skipif(DATA is None, reason="OME_TEST_DATA names no folder with the conformance scenarios")
@pytest.mark.parametrize("books", [EngineBooks, TwinBooks])
def test_the_public_conformance_scenarios_hold(books: Callable[[], Books]) -> None:
    """M1-M5, A1-A6, T1-T6, S1-S6: every fact of every scenario is true of the engine, and of the twin."""
    scenarios = playable()
    problems = []
    for scenario in scenarios:
        try:
            play(scenario, books())
        except (AssertionError, KeyError) as error:
            problems.append(f"{scenario['name']} ({scenario['source']}): {error!r}")
    assert not problems, "\n".join(problems)
    assert len(scenarios) == PLAYED_COUNT, "other scenarios are played than those that are known to be"
