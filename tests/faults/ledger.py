"""What clients sent and what they were told, kept outside the service, so that no fault of it can change a word.

A `Page` is one order's: its request, every attempt at it, every answer, and what was asked of the order afterwards. An attempt
has one of three outcomes: a definite answer, a refusal that is certain (`not_executed`), or unknown (no answer, or one that says
so). The ledger judges nothing; `oracle` does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

OPEN = frozenset({"PENDING", "PARTIALLY_FILLED", "PENDING_TRIGGER"})
"""The statuses of an order that has not ended."""

Answer = dict[str, Any]
"""The JSON of an answer."""


@dataclass
class Page:
    """One order in the ledger.

    `body` is the request; `sent_at` when it was first sent (seconds, of one clock). `order` is the newest state that the service
    acknowledged; `ids` are all order ids that it was given (more than one is an order doubled), `trade_ids` the trades that its
    answers named; `attempts` is how often the request left, `refused` how many of these were certainly not executed. `changes`
    counts requests to change it, `ended` says that a cancel was acknowledged, or refused because the order had ended.
    """

    body: Answer
    sent_at: float
    order: Answer | None = None
    ids: set[str] = field(default_factory=set)
    trade_ids: set[str] = field(default_factory=set)
    attempts: int = 0
    refused: int = 0
    changes: int = 0
    ended: bool = False

    @property
    def is_acknowledged(self) -> bool:
        """Whether the service has taken it on: it has to be there for ever."""
        return bool(self.ids)

    @property
    def is_certainly_not_executed(self) -> bool:
        """Whether every attempt was refused with certainty: it must never appear."""
        return not self.ids and self.attempts == self.refused

    @property
    def is_open(self) -> bool:
        """Whether it may still be changed, as far as its sender knows."""
        return not self.ended and self.order is not None and self.order["status"] in OPEN

    def acknowledge(self, order: Answer) -> None:
        """Note an answer that holds the order (201 or 200)."""
        self.ids.add(order["order_id"])
        self.trade_ids.update(trade["trade_id"] for trade in order.get("executed_trades", ()))
        if self.order is None or not order.get("replayed"):
            self.order = order
        self.ended = self.ended or self.order["status"] not in OPEN

    def reject(self, problem: Answer) -> None:
        """Note a refusal by the engine, which is stored: it names the order's id."""
        self.ids.add(problem["order_id"])
        self.ended = True


@dataclass
class Ledger:
    """All pages, by client order id, and what happened on the way."""

    pages: dict[str, Page] = field(default_factory=dict)
    unknown: int = 0
    retries: int = 0
    surprises: list[str] = field(default_factory=list)

    @property
    def acknowledged(self) -> int:
        """How many orders the service has taken on."""
        return sum(page.is_acknowledged for page in self.pages.values())

    def surprise(self, what: str) -> None:
        """Note an answer that no rule foresees."""
        if len(self.surprises) < 50:
            self.surprises.append(what)
