"""The language of the executable rule book, and its reader.

A file of the folder `rules` holds scenarios; each has a title, the rules that it proves, and steps, one to a line; `#` starts a
comment:

    Scenario: the best price trades first
    Proves: M1, M4

        ann sells 5 @ 101.00                         -> PENDING
        bob sells 5 @ 100.00                         -> PENDING
        cat buys 7 @ 101.00                          -> FILLED; trades 5 @ 100.00 with bob, 2 @ 101.00 with ann
        book: bids -; asks 3 @ 101.00

Steps that send something, each with what must come of it behind `->`:

    USER buys|sells QUANTITY [SYMBOL] @ PRICE|at market [stop PRICE] [trailing AMOUNT|PERCENT% [offset AMOUNT]]
        [ioc|fok|day|until +SECONDSs] [post only] [showing QUANTITY] [at least QUANTITY] [within N bps]
        [meeting own orders|cancelling the oldest|cancelling both|decrementing] [id CLIENTID] [as NAME]
    USER changes NAME: [quantity Q], [price P], [stop P], [trailing AMOUNT|PERCENT%], [showing Q], [until +SECONDSs],
        [if version N]
    USER cancels NAME
    USER|operator cancels all [buys|sells] [in SYMBOL]
    together: STEP | STEP | ...                             one batch of the steps above, each with an outcome behind `->`
    SYMBOL is listed [with tick T] [with lot L] [with maximum Q] [with band P%] [halting SECONDSs] [closing at HH:MM]
        [without funds|for ASSET in ASSET] [maker N bps] [taker N bps]
    USER deposits|withdraws AMOUNT ASSET [id CLIENTID]      a client id of its own where none is given
    SYMBOL goes OPEN|POST_ONLY|CANCEL_ONLY|HALTED|AUCTION
    limits of USER [in SYMBOL]: [quantity Q], [notional N], [open N], [position Q], [collar P%]    or: none
    operator stops|frees everybody|USER|SYMBOL              the kill switch; a symbol begins with a capital, users don't
    USER cancels all after SECONDSs
    auto listing is on|off, at most N symbols
    at most N stops fire at once
    SECONDSs pass

An order is called by its user's name unless it gets another with `as`; without a symbol it is in X. With `stop` it is a STOP or,
at a price, a STOP_LIMIT; with `trailing` a TRAILING_STOP. What must come of a step: `STATUS [REASON] [, filled Q] [, left Q]
[, version N] [, stop P] [, at P] [, lost Q]` (where a stop stands, the price, what prevention took off), or `refused REASON`, or
`done`; then `; trades Q @ P with NAME, ...` (without it, none may be made by the order itself) and `; prevented Q @ P with NAME`.
`; cancelled NAME, NAME` is what a mass cancel ends, in order. `; replayed` means that the answer is an earlier one. In a batch
the outcomes are set apart by `|` as the steps are. Steps that look:

    order NAME: STATUS [REASON] [, filled Q] ...            as above
    book [SYMBOL]: bids Q @ P, ...; asks -                  every level, best first: what is shown
    queue [SYMBOL] PRICE: NAME Q, NAME Q                    the orders of one level as they trade, what each has left
    last [SYMBOL]: PRICE
    tape [SYMBOL]: Q @ P MAKER with TAKER, ...              every trade since the scenario began, oldest first
    state [SYMBOL]: STATE
    position USER [SYMBOL]: Q[ at P][, won P]               what it holds, at what average price, and has realised
    auction [SYMBOL]: Q @ P[, surplus Q bought|sold]        what an uncross would give now; `-` for nothing
    balance USER ASSET: TOTAL[, reserved AMOUNT]            without `reserved`, none of it is

`Needs: service` marks what only the whole service can show, `Needs: auto listing` what only one with AUTO_LIST shows.
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
    stop: Decimal | None = None
    price: Decimal | None = None
    lost: Decimal | None = None
    trades: tuple[Fill, ...] = ()
    prevented: tuple[Fill, ...] = ()
    cancelled: tuple[str, ...] = ()
    replayed: bool = False


@dataclass(frozen=True)
class Submit:
    """An order is sent; texts are as they are written, so that odd ones can be."""

    user: str
    side: str
    quantity: str
    symbol: str
    type: str
    price: str | None = None
    time_in_force: str = "GTC"
    deadline_s: int | None = None
    stop_price: str | None = None
    trail_amount: str | None = None
    trail_percent: str | None = None
    limit_offset: str | None = None
    post_only: bool = False
    display_quantity: str | None = None
    min_quantity: str | None = None
    max_slippage_bps: int | None = None
    prevention: str = "CANCEL_NEWEST"
    client_order_id: str | None = None
    name: str = ""


@dataclass(frozen=True)
class Change:
    """A modify is sent; what is None stays."""

    name: str
    quantity: str | None = None
    price: str | None = None
    deadline_s: int | None = None
    version: int | None = None
    stop_price: str | None = None
    trail_amount: str | None = None
    trail_percent: str | None = None
    display_quantity: str | None = None


@dataclass(frozen=True)
class Cancel:
    """A cancel is sent."""

    name: str


@dataclass(frozen=True)
class CancelAll:
    """A mass cancel is sent; None is any."""

    user: str | None
    symbol: str | None
    side: str | None


@dataclass(frozen=True)
class Together:
    """A batch is sent; each of its steps has an outcome of its own."""

    actions: tuple[Submit | Change | Cancel, ...]
    expected: tuple[Expected, ...]


@dataclass(frozen=True)
class Listing:
    """A symbol is listed or changed."""

    symbol: str
    tick: str | None = None
    lot: str | None = None
    maximum: str | None = None
    band_percent: str | None = None
    band_halt_s: int | None = None
    session_close: str | None = None
    state: str | None = None
    base_asset: str | None = None
    quote_asset: str | None = None
    maker_fee_bps: int | None = None
    taker_fee_bps: int | None = None


@dataclass(frozen=True)
class Transfer:
    """An operator deposits or withdraws for a user."""

    user: str
    is_deposit: bool
    amount: str
    asset: str
    client_transfer_id: str | None = None


@dataclass(frozen=True)
class Allow:
    """A user gets these limits, in a symbol or (None) in every one; what is None is none."""

    user: str
    symbol: str | None
    quantity: str | None = None
    notional: str | None = None
    open_orders: int | None = None
    position: str | None = None
    collar_percent: str | None = None


@dataclass(frozen=True)
class Kill:
    """The kill switch of a user, of a symbol, or (neither) of all is set or lifted."""

    user: str | None
    symbol: str | None
    active: bool


@dataclass(frozen=True)
class CancelAfter:
    """A user's dead-man timer is armed, or (0) disarmed."""

    user: str
    seconds: int


@dataclass(frozen=True)
class Settings:
    """The engine gets other settings; None stays."""

    auto_list: bool | None = None
    max_symbols: int | None = None
    max_cascade: int | None = None


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


@dataclass(frozen=True)
class LookAtTape:
    """Every trade of a symbol is looked at: what was traded with the maker, and the taker."""

    symbol: str
    trades: tuple[tuple[Fill, str], ...]


@dataclass(frozen=True)
class LookAtState:
    """What a symbol takes is looked at."""

    symbol: str
    state: str


@dataclass(frozen=True)
class LookAtBalance:
    """What a user has of an asset is looked at, and how much of it open orders hold."""

    user: str
    asset: str
    total: Decimal
    reserved: Decimal


@dataclass(frozen=True)
class LookAtAuction:
    """What an uncross would give is looked at: volume, price, and the surplus, above 0 of buyers; None for nothing."""

    symbol: str
    found: tuple[Decimal, Decimal, Decimal] | None


@dataclass(frozen=True)
class LookAtPosition:
    """What a user holds is looked at: how much, at what average price, what it has realised; None is not looked at."""

    user: str
    symbol: str
    quantity: Decimal
    average: Decimal | None = None
    realised: Decimal | None = None


Action = (
    Submit | Change | Cancel | CancelAll | Together | Listing | Transfer | Allow | Kill | CancelAfter | Settings | Pass
    | LookAtOrder | LookAtBook | LookAtQueue | LookAtLast | LookAtTape | LookAtState | LookAtAuction | LookAtBalance
    | LookAtPosition
)  # fmt: skip


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
        """What people call it."""
        return f"{self.file}: {self.title}"


_SUBMIT = re.compile(
    r"(?P<user>\S+) (?P<side>buys|sells) (?P<quantity>\S+)(?: (?P<symbol>[A-Z]\S*))? (?:@ (?P<price>\S+)|at market)"
    r"(?: stop (?P<stop>\S+))?(?: trailing (?P<trail>[\d.]+)(?P<percent>%)?(?: offset (?P<offset>\S+))?)?"
    r"(?: (?P<tif>ioc|fok|day|until (?P<deadline>[+-]\d+)s))?(?P<post_only> post only)?(?: showing (?P<display>\S+))?"
    r"(?: at least (?P<least>\S+))?(?: within (?P<slippage>\d+) bps)?"
    r"(?: (?P<prevention>meeting own orders|cancelling the oldest|cancelling both|decrementing))?"
    r"(?: id (?P<client>\S+))?(?: as (?P<name>\S+))?"
)
_PREVENTION = {
    None: "CANCEL_NEWEST",
    "meeting own orders": "NONE",
    "cancelling the oldest": "CANCEL_OLDEST",
    "cancelling both": "CANCEL_BOTH",
    "decrementing": "DECREMENT",
}
_CHANGE = re.compile(
    r"\S+ changes (?P<name>[^\s:]+): (?:quantity (?P<quantity>\S+?))?(?:,? ?price (?P<price>\S+?))?(?:,? ?stop (?P<stop>\S+?))?"
    r"(?:,? ?trailing (?P<trail>[\d.]+)(?P<percent>%)?)?(?:,? ?showing (?P<display>\S+?))?"
    r"(?:,? ?until (?P<deadline>[+-]\d+)s)?(?:,? ?if version (?P<version>\d+))?"
)
_CANCEL = re.compile(r"\S+ cancels (?P<name>\S+)")
_CANCEL_ALL = re.compile(r"(?P<user>\S+) cancels all(?: (?P<side>buys|sells))?(?: in (?P<symbol>[A-Z]\S*))?")
_LISTING = re.compile(
    r"(?P<symbol>[A-Z]\S*) is listed(?: with tick (?P<tick>\S+))?(?: with lot (?P<lot>\S+))?(?: with maximum (?P<maximum>\S+))?"
    r"(?: with band (?P<band>\S+)%)?(?: halting (?P<halt>\d+)s)?(?: closing at (?P<close>\d\d:\d\d))?"
    r"(?P<unfunded> without funds)?(?: for (?P<base>\S+) in (?P<quote>\S+))?(?: maker (?P<maker>-?\d+) bps)?"
    r"(?: taker (?P<taker>-?\d+) bps)?"
)
_TRANSFER = re.compile(r"(?P<user>\S+) (?P<kind>deposits|withdraws) (?P<amount>\S+) (?P<asset>\S+)(?: id (?P<client>\S+))?")
_BALANCE = re.compile(r"balance (?P<user>\S+) (?P<asset>\S+): (?P<total>[\d.]+)(?:, reserved (?P<reserved>[\d.]+))?")
_STATE_CHANGE = re.compile(r"(?P<symbol>[A-Z]\S*) goes (?P<state>[A-Z_]+)")
_ALLOW = re.compile(
    r"limits of (?P<user>\S+?)(?: in (?P<symbol>[A-Z]\S*?))?: (?:none|(?:quantity (?P<quantity>[\d.]+))?"
    r"(?:,? ?notional (?P<notional>[\d.]+))?(?:,? ?open (?P<open>\d+))?(?:,? ?position (?P<position>[\d.]+))?"
    r"(?:,? ?collar (?P<collar>[\d.]+)%)?)"
)
_KILL = re.compile(r"operator (?P<what>stops|frees) (?:everybody|(?P<symbol>[A-Z]\S*)|(?P<user>[a-z]\S*))")
_CANCEL_AFTER = re.compile(r"(?P<user>\S+) cancels all after (?P<seconds>\d+)s")
_SETTINGS = re.compile(r"auto listing is (?P<auto>on|off), at most (?P<most>\d+) symbols")
_CASCADE = re.compile(r"at most (?P<most>\d+) stops? fires? at once")
_PASS = re.compile(r"(?P<seconds>\d+)s pass")
_ORDER = re.compile(r"order (?P<name>\S+): (?P<expected>.*)")
_BOOK = re.compile(r"book(?: (?P<symbol>\S+))?: bids (?P<bids>[^;]*); asks (?P<asks>[^;]*)")
_QUEUE = re.compile(r"queue(?: (?P<symbol>[A-Z]\S*))? (?P<price>[\d.]+): (?P<orders>.*)")
_LAST = re.compile(r"last(?: (?P<symbol>\S+))?: (?P<price>\S+)")
_TAPE = re.compile(r"tape(?: (?P<symbol>[A-Z]\S*))?: (?P<trades>.*)")
_TAPE_ROW = re.compile(r"(?P<quantity>[\d.]+) @ (?P<price>[\d.]+) (?P<maker>\S+) with (?P<taker>\S+)")
_STATE = re.compile(r"state(?: (?P<symbol>[A-Z]\S*))?: (?P<state>[A-Z_]+)")
_POSITION = re.compile(
    r"position (?P<user>\S+?)(?: (?P<symbol>[A-Z]\S*?))?: (?P<quantity>-?[\d.]+)(?: at (?P<average>[\d.]+))?"
    r"(?:, won (?P<realised>-?[\d.]+))?"
)
_AUCTION = re.compile(
    r"auction(?: (?P<symbol>[A-Z]\S*))?: "
    r"(?:-|(?P<volume>[\d.]+) @ (?P<price>[\d.]+)(?:, surplus (?P<surplus>[\d.]+) (?P<side>bought|sold))?)"
)
_OUTCOME = re.compile(
    r"(?:refused (?P<refused>[a-z_]+)|done|(?P<status>[A-Z_]+)(?: (?P<reason>[a-z_]+))?)"
    r"(?:, filled (?P<filled>[\d.]+))?(?:, left (?P<left>[\d.]+))?(?:, version (?P<version>\d+))?"
    r"(?:, stop (?P<stop>[\d.]+))?(?:, at (?P<price>[\d.]+))?(?:, lost (?P<lost>[\d.]+))?"
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
        step = read_step(number, text)
        taken = {name for earlier in scenario.steps for name in _names_given(earlier)}
        for name in _names_given(step):
            if name in taken:
                raise ValueError(f"another order is called {name}; give it a name with `as`")
            taken.add(name)
        scenario.steps.append(step)


def _names_given(step: Step) -> Iterator[str]:
    """What the orders are called that a step makes: not those of refusals and replays, which make none."""
    batch = step.action if isinstance(step.action, Together) else None
    pairs = [(step.action, step.expected)] if batch is None else zip(batch.actions, batch.expected, strict=True)
    for action, expected in pairs:
        if isinstance(action, Submit) and expected.refused is None and not expected.replayed:
            yield action.name


def read_step(number: int, text: str) -> Step:
    """One line's step; ValueError where it is none."""
    action_text, arrow, outcome = (part.strip() for part in text.partition("->"))
    if not arrow:
        return _read_look(number, text)
    head, _, rest = action_text.partition(": ")
    if head == "together":
        return Step(number, text, _read_together(rest, outcome), Expected())
    return Step(number, text, _read_action(action_text), _read_expected(outcome))


def _read_together(actions: str, outcomes: str) -> Together:
    steps = [_read_action(part.strip()) for part in actions.split("|")]
    expected = tuple(_read_expected(part.strip()) for part in outcomes.split("|"))
    orders = tuple(step for step in steps if isinstance(step, Submit | Change | Cancel))
    if not len(steps) == len(orders) == len(expected):
        raise ValueError("a batch is of orders, changes and cancels, each with its outcome")
    return Together(orders, expected)


def _read_action(text: str) -> Action:
    if match := _SUBMIT.fullmatch(text):
        return _read_submit(match)
    if match := _CHANGE.fullmatch(text):
        version = None if match["version"] is None else int(match["version"])
        amount, percent = _trail(match)
        return Change(
            match["name"], match["quantity"], match["price"], _number(match["deadline"]), version, match["stop"], amount, percent,
            match["display"],
        )  # fmt: skip
    if match := _CANCEL_ALL.fullmatch(text):
        user = None if match["user"] == "operator" else match["user"]
        return CancelAll(user, match["symbol"], {"buys": "BUY", "sells": "SELL", None: None}[match["side"]])
    if match := _CANCEL.fullmatch(text):
        return Cancel(match["name"])
    return _read_control(text) or _read_operators_action(text)


def _read_control(text: str) -> Action | None:
    """A step about limits, kills or timers, if it is one."""
    if match := _ALLOW.fullmatch(text):
        most = _number(match["open"])
        return Allow(
            match["user"], match["symbol"], match["quantity"], match["notional"], most, match["position"], match["collar"]
        )
    if match := _KILL.fullmatch(text):
        return Kill(match["user"], match["symbol"], match["what"] == "stops")
    if match := _CANCEL_AFTER.fullmatch(text):
        return CancelAfter(match["user"], int(match["seconds"]))
    return None


def _read_operators_action(text: str) -> Action:
    if match := _LISTING.fullmatch(text):
        base, quote = ("", "") if match["unfunded"] else (match["base"], match["quote"])
        return Listing(
            match["symbol"], match["tick"], match["lot"], match["maximum"], match["band"], _number(match["halt"]), match["close"],
            None, base, quote, _number(match["maker"]), _number(match["taker"]),
        )  # fmt: skip
    if match := _TRANSFER.fullmatch(text):
        return Transfer(match["user"], match["kind"] == "deposits", match["amount"], match["asset"], match["client"])
    if match := _STATE_CHANGE.fullmatch(text):
        return Listing(match["symbol"], state=match["state"])
    if match := _SETTINGS.fullmatch(text):
        return Settings(match["auto"] == "on", int(match["most"]))
    if match := _CASCADE.fullmatch(text):
        return Settings(max_cascade=int(match["most"]))
    if match := _PASS.fullmatch(text):
        return Pass(int(match["seconds"]))
    raise ValueError("no such step")


def _read_submit(match: re.Match[str]) -> Submit:
    order_type = "MARKET" if match["price"] is None else "LIMIT"
    if match["stop"] is not None:
        order_type = "STOP" if match["price"] is None else "STOP_LIMIT"
    if match["trail"] is not None:
        order_type = "TRAILING_STOP"
    never_rests = match["price"] is None and match["offset"] is None
    deadline = _number(match["deadline"])
    amount, percent = _trail(match)
    return Submit(
        user=match["user"],
        side="BUY" if match["side"] == "buys" else "SELL",
        quantity=match["quantity"],
        symbol=match["symbol"] or DEFAULT_SYMBOL,
        type=order_type,
        price=match["price"],
        time_in_force="GTD" if deadline is not None else (match["tif"] or ("ioc" if never_rests else "gtc")).upper(),
        deadline_s=deadline,
        stop_price=match["stop"],
        trail_amount=amount,
        trail_percent=percent,
        limit_offset=match["offset"],
        post_only=match["post_only"] is not None,
        display_quantity=match["display"],
        min_quantity=match["least"],
        max_slippage_bps=_number(match["slippage"]),
        prevention=_PREVENTION[match["prevention"]],
        client_order_id=match["client"],
        name=match["name"] or match["user"],
    )


def _trail(match: re.Match[str]) -> tuple[str | None, str | None]:
    """Amount and percent of a trail, one of them or neither."""
    return (None, match["trail"]) if match["percent"] else (match["trail"], None)


def _number(text: str | None) -> int | None:
    return None if text is None else int(text)


def _read_look(number: int, text: str) -> Step:
    if match := _ORDER.fullmatch(text):
        return Step(number, text, LookAtOrder(match["name"]), _read_expected(match["expected"]))
    if match := _BALANCE.fullmatch(text):
        total, reserved = Decimal(match["total"]), Decimal(match["reserved"] or 0)
        return Step(number, text, LookAtBalance(match["user"], match["asset"], total, reserved), Expected())
    if match := _POSITION.fullmatch(text):
        average, realised = (None if match[name] is None else Decimal(match[name]) for name in ("average", "realised"))
        looked = LookAtPosition(match["user"], match["symbol"] or DEFAULT_SYMBOL, Decimal(match["quantity"]), average, realised)
        return Step(number, text, looked, Expected())
    return Step(number, text, _read_look_at_market(text), Expected())


def _read_look_at_market(text: str) -> Action:
    if match := _BOOK.fullmatch(text):
        return LookAtBook(match["symbol"] or DEFAULT_SYMBOL, _read_levels(match["bids"]), _read_levels(match["asks"]))
    if match := _QUEUE.fullmatch(text):
        rows = [row.split(" ") for row in match["orders"].split(", ")]
        orders = tuple((name, Decimal(quantity)) for name, quantity in rows)
        return LookAtQueue(match["symbol"] or DEFAULT_SYMBOL, Decimal(match["price"]), orders)
    if match := _LAST.fullmatch(text):
        return LookAtLast(match["symbol"] or DEFAULT_SYMBOL, Decimal(match["price"]))
    if match := _STATE.fullmatch(text):
        return LookAtState(match["symbol"] or DEFAULT_SYMBOL, match["state"])
    if match := _AUCTION.fullmatch(text):
        surplus = Decimal(match["surplus"] or 0) * (-1 if match["side"] == "sold" else 1)
        found = None if match["volume"] is None else (Decimal(match["volume"]), Decimal(match["price"]), surplus)
        return LookAtAuction(match["symbol"] or DEFAULT_SYMBOL, found)
    if match := _TAPE.fullmatch(text):
        return LookAtTape(match["symbol"] or DEFAULT_SYMBOL, _read_tape(match["trades"]))
    raise ValueError("no such step, or nothing that must come of it")


def _read_tape(text: str) -> tuple[tuple[Fill, str], ...]:
    matches = [] if text == "-" else [_TAPE_ROW.fullmatch(row) for row in text.split(", ")]
    if None in matches:
        raise ValueError("no such trade")
    return tuple((Fill(Decimal(m["quantity"]), Decimal(m["price"]), m["maker"]), m["taker"]) for m in matches if m is not None)


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
    cancelled: tuple[str, ...] = ()
    for clause in clauses[1:]:
        kind, _, rest = clause.partition(" ")
        if kind in fills:
            fills[kind] = _read_fills(rest)
        elif kind == "cancelled":
            cancelled = tuple(rest.split(", "))
        elif clause != "replayed":
            raise ValueError("no such outcome")
    filled, left, stop, price, lost = (
        None if match[name] is None else Decimal(match[name]) for name in ("filled", "left", "stop", "price", "lost")
    )
    return Expected(
        match["status"], match["refused"], match["reason"], filled, left, _number(match["version"]), stop, price, lost,
        fills["trades"], fills["prevented"], cancelled, "replayed" in clauses,
    )  # fmt: skip


def _read_fills(text: str) -> tuple[Fill, ...]:
    matches = [_FILL.fullmatch(row) for row in text.split(", ")]
    if None in matches:
        raise ValueError("no such trade")
    return tuple(Fill(Decimal(m["quantity"]), Decimal(m["price"]), m["name"]) for m in matches if m is not None)
