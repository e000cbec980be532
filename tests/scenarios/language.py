"""The language of the executable rule book, and its reader.

A file holds scenarios; each has a title, the rules that it proves, and steps, one to a line; `#` starts a comment:

    Scenario: the best price trades first
    Proves: M1, M4

        ann sells 5 @ 101.00                         -> PENDING
        bob sells 5 @ 100.00                         -> PENDING
        cat buys 7 @ 101.00                          -> FILLED; trades 5 @ 100.00 with bob, 2 @ 101.00 with ann
        book: bids -; asks 3 @ 101.00

Steps that send something, each with what must come of it behind `->`:

    USER buys|sells QUANTITY [SYMBOL] @ PRICE|at market [ioc|fok|until +SECONDSs] [meeting own orders] [id CLIENTID] [as NAME]
    USER changes NAME: [quantity Q], [price P], [until +SECONDSs], [if version N]
    USER cancels NAME
    SYMBOL is listed [with tick T] [with lot L]
    auto listing is on|off, at most N symbols
    SECONDSs pass

An order is called by its user's name unless it gets another with `as`; without a symbol it is in X. `meeting own orders` turns
self-trade prevention off. What must come of a step: `STATUS [REASON] [, filled Q] [, left Q] [, version N]`, or `refused REASON`,
or `done`; then `; trades Q @ P with NAME, ...` (without it, none may be made) and `; prevented Q @ P with NAME`. `; replayed`
means that the answer is an earlier one. Steps that look:

    order NAME: STATUS [REASON] [, filled Q] [, left Q] [, version N]
    book [SYMBOL]: bids Q @ P, ...; asks -                  every level, best first
    queue [SYMBOL] PRICE: NAME Q, NAME Q                    the orders of one level, in the order in which they trade
    last [SYMBOL]: PRICE

`Needs: service` marks what only the whole service can show.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

DEFAULT_SYMBOL = "X"
RULES_FOLDER = Path(__file__).parent / "rules"


class Fill(NamedTuple):
    """A quantity at a price with a named order."""

    quantity: Decimal
    price: Decimal
    name: str


@dataclass(frozen=True)
class Expected:
    """What must come of a step; None is not looked at."""

    status: str | None = None
    refused: str | None = None
    reason: str | None = None
    filled: Decimal | None = None
    left: Decimal | None = None
    version: int | None = None
    trades: tuple[Fill, ...] = ()
    prevented: tuple[Fill, ...] = ()
    replayed: bool = False


@dataclass(frozen=True)
class Submit:
    """An order is sent."""

    user: str
    side: str
    quantity: str
    symbol: str
    price: str | None
    time_in_force: str
    deadline_s: int | None
    meeting_own: bool
    client_order_id: str | None
    name: str


@dataclass(frozen=True)
class Change:
    """A modify is sent; what is None stays."""

    name: str
    quantity: str | None
    price: str | None
    deadline_s: int | None
    version: int | None


@dataclass(frozen=True)
class Cancel:
    """A cancel is sent."""

    name: str


@dataclass(frozen=True)
class Listing:
    """A symbol is listed or changed."""

    symbol: str
    tick: str | None
    lot: str | None


@dataclass(frozen=True)
class Settings:
    """The engine gets other settings."""

    auto_list: bool
    max_symbols: int


@dataclass(frozen=True)
class Pass:
    """Time passes, and whoever watches the deadlines is told."""

    seconds: int


@dataclass(frozen=True)
class LookAtOrder:
    """One order is looked at."""

    name: str


@dataclass(frozen=True)
class LookAtBook:
    """Every level of a symbol is looked at."""

    symbol: str
    bids: tuple[tuple[Decimal, Decimal], ...]
    asks: tuple[tuple[Decimal, Decimal], ...]


@dataclass(frozen=True)
class LookAtQueue:
    """The orders of one level are looked at."""

    symbol: str
    price: Decimal
    orders: tuple[tuple[str, Decimal], ...]


@dataclass(frozen=True)
class LookAtLast:
    """The last price is looked at."""

    symbol: str
    price: Decimal


Action = Submit | Change | Cancel | Listing | Settings | Pass | LookAtOrder | LookAtBook | LookAtQueue | LookAtLast


class Step(NamedTuple):
    """A line, what it does and what must come of it."""

    line: int
    text: str
    action: Action
    expected: Expected


@dataclass
class Scenario:
    """A title, the rules it proves, and its steps in order."""

    file: str
    title: str
    rules: tuple[str, ...] = ()
    needs: frozenset[str] = frozenset()
    steps: list[Step] = field(default_factory=list)

    @property
    def id(self) -> str:
        """What a test run calls it."""
        return f"{self.file}: {self.title}"


_SUBMIT = re.compile(
    r"(?P<user>\S+) (?P<side>buys|sells) (?P<quantity>\S+)(?: (?P<symbol>[A-Z]\S*))? (?:@ (?P<price>\S+)|at market)"
    r"(?: (?P<tif>ioc|fok|until (?P<deadline>[+-]\d+)s))?(?P<own> meeting own orders)?"
    r"(?: id (?P<client>\S+))?(?: as (?P<name>\S+))?"
)
_CHANGE = re.compile(
    r"\S+ changes (?P<name>[^\s:]+): (?:quantity (?P<quantity>\S+?))?(?:,? ?price (?P<price>\S+?))?"
    r"(?:,? ?until (?P<deadline>[+-]\d+)s)?(?:,? ?if version (?P<version>\d+))?"
)
_CANCEL = re.compile(r"\S+ cancels (?P<name>\S+)")
_LISTING = re.compile(r"(?P<symbol>[A-Z]\S*) is listed(?: with tick (?P<tick>\S+))?(?: with lot (?P<lot>\S+))?")
_SETTINGS = re.compile(r"auto listing is (?P<auto>on|off), at most (?P<most>\d+) symbols")
_PASS = re.compile(r"(?P<seconds>\d+)s pass")
_ORDER = re.compile(r"order (?P<name>\S+): (?P<expected>.*)")
_BOOK = re.compile(r"book(?: (?P<symbol>\S+))?: bids (?P<bids>[^;]*); asks (?P<asks>[^;]*)")
_QUEUE = re.compile(r"queue(?: (?P<symbol>[A-Z]\S*))? (?P<price>[\d.]+): (?P<orders>.*)")
_LAST = re.compile(r"last(?: (?P<symbol>\S+))?: (?P<price>\S+)")
_OUTCOME = re.compile(
    r"(?:refused (?P<refused>[a-z_]+)|done|(?P<status>[A-Z_]+)(?: (?P<reason>[a-z_]+))?)"
    r"(?:, filled (?P<filled>[\d.]+))?(?:, left (?P<left>[\d.]+))?(?:, version (?P<version>\d+))?"
)
_FILL = re.compile(r"(?P<quantity>[\d.]+) @ (?P<price>[\d.]+) with (?P<name>\S+)")


def read_rule_book(folder: Path = RULES_FOLDER) -> list[Scenario]:
    """Every scenario of every file, in order; ValueError names the line that can't be read."""
    return [scenario for file in sorted(folder.glob("*.txt")) for scenario in read_file(file)]


def read_file(file: Path) -> Iterator[Scenario]:
    """The scenarios of one file."""
    scenario: Scenario | None = None
    for number, raw in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        text = raw.partition("#")[0].strip()
        head, _, rest = text.partition(": ")
        try:
            if head == "Scenario":
                if scenario is not None:
                    yield scenario
                scenario = Scenario(file.stem, rest)
            elif text and scenario is None:
                raise ValueError("a step before the first scenario")
            elif text and scenario is not None:
                _read_line(scenario, number, text)
        except ValueError as error:
            raise ValueError(f"{file.name}:{number}: {error}: {text}") from error
    if scenario is not None:
        yield scenario


def _read_line(scenario: Scenario, number: int, text: str) -> None:
    head, _, rest = text.partition(": ")
    if head == "Proves":
        scenario.rules = tuple(rest.split(", "))
    elif head == "Needs":
        scenario.needs = frozenset(rest.split(", "))
    else:
        scenario.steps.append(read_step(number, text))


def read_step(number: int, text: str) -> Step:
    """One line's step; ValueError where it is none."""
    action_text, arrow, outcome = (part.strip() for part in text.partition("->"))
    if not arrow:
        return _read_look(number, text)
    return Step(number, text, _read_action(action_text), _read_expected(outcome))


def _read_action(text: str) -> Action:
    if match := _SUBMIT.fullmatch(text):
        tif = match["tif"] or ("ioc" if match["price"] is None else "gtc")
        deadline = None if match["deadline"] is None else int(match["deadline"])
        return Submit(
            match["user"], "BUY" if match["side"] == "buys" else "SELL", match["quantity"], match["symbol"] or DEFAULT_SYMBOL,
            match["price"], "GTD" if deadline is not None else tif.upper(), deadline, match["own"] is not None, match["client"],
            match["name"] or match["user"],
        )  # fmt: skip
    if match := _CHANGE.fullmatch(text):
        deadline = None if match["deadline"] is None else int(match["deadline"])
        version = None if match["version"] is None else int(match["version"])
        return Change(match["name"], match["quantity"], match["price"], deadline, version)
    if match := _CANCEL.fullmatch(text):
        return Cancel(match["name"])
    if match := _LISTING.fullmatch(text):
        return Listing(match["symbol"], match["tick"], match["lot"])
    if match := _SETTINGS.fullmatch(text):
        return Settings(match["auto"] == "on", int(match["most"]))
    if match := _PASS.fullmatch(text):
        return Pass(int(match["seconds"]))
    raise ValueError("no such step")


def _read_look(number: int, text: str) -> Step:
    action: Action
    if match := _ORDER.fullmatch(text):
        return Step(number, text, LookAtOrder(match["name"]), _read_expected(match["expected"]))
    if match := _BOOK.fullmatch(text):
        action = LookAtBook(match["symbol"] or DEFAULT_SYMBOL, _read_levels(match["bids"]), _read_levels(match["asks"]))
    elif match := _QUEUE.fullmatch(text):
        rows = [row.split(" ") for row in match["orders"].split(", ")]
        orders = tuple((name, Decimal(quantity)) for name, quantity in rows)
        action = LookAtQueue(match["symbol"] or DEFAULT_SYMBOL, Decimal(match["price"]), orders)
    elif match := _LAST.fullmatch(text):
        action = LookAtLast(match["symbol"] or DEFAULT_SYMBOL, Decimal(match["price"]))
    else:
        raise ValueError("no such step, or nothing that must come of it")
    return Step(number, text, action, Expected())


def _read_levels(text: str) -> tuple[tuple[Decimal, Decimal], ...]:
    if text == "-":
        return ()
    rows = [row.split(" @ ") for row in text.split(", ")]
    return tuple((Decimal(quantity), Decimal(price)) for quantity, price in rows)


def _read_expected(text: str) -> Expected:
    clauses = [clause.strip() for clause in text.split(";")]
    match = _OUTCOME.fullmatch(clauses[0])
    if match is None:
        raise ValueError("no such outcome")
    fills: dict[str, tuple[Fill, ...]] = {"trades": (), "prevented": ()}
    for clause in clauses[1:]:
        kind, _, rest = clause.partition(" ")
        if kind in fills:
            fills[kind] = _read_fills(rest)
        elif clause != "replayed":
            raise ValueError("no such outcome")
    number = {name: None if match[name] is None else Decimal(match[name]) for name in ("filled", "left")}
    version = None if match["version"] is None else int(match["version"])
    return Expected(
        match["status"], match["refused"], match["reason"], number["filled"], number["left"], version, fills["trades"],
        fills["prevented"], "replayed" in clauses,
    )  # fmt: skip


def _read_fills(text: str) -> tuple[Fill, ...]:
    matches = [_FILL.fullmatch(row) for row in text.split(", ")]
    if None in matches:
        raise ValueError("no such trade")
    return tuple(Fill(Decimal(m["quantity"]), Decimal(m["price"]), m["name"]) for m in matches if m is not None)
