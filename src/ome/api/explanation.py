"""Why an order stands where it does: its place in the queue, what would fill it, why it ended, and the rules behind it.

Everything is said of what anybody may see of a book: the hidden part of an iceberg is never counted, so that more can stand
before an order at better prices than is said.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from msgspec import Struct

from ome.api.audit_schemas import ExplainView, QueuePlaceView, ReasonView
from ome.api.history import Modes, event_views, plus, reason_view
from ome.domain.enums import MarketState, OrderStatus, OrderType, Side, TimeInForce
from ome.domain.events import CommandEvents, OrderRejected, OrderTriggered, SelfTradePrevented
from ome.domain.numbers import format_number, unpack, value_of
from ome.domain.ports import Depth
from ome.domain.reasons import TABLE
from ome.domain.records import OrderRecord, SpecialTerms

_SIDES: Final = {Side.BUY: ("buys", "sell", "lower", "higher"), Side.SELL: ("sells", "buy", "higher", "lower")}
"""Of each side: what it does, who it trades with, which way from its limit is better for it, and which way its stop lies."""
_TIME_RULES: Final = {
    TimeInForce.GTC: "T1",
    TimeInForce.IOC: "T1",
    TimeInForce.FOK: "T2",
    TimeInForce.GTD: "T5",
    TimeInForce.DAY: "T5",
}
_CLOSED: Final = frozenset({MarketState.HALTED, MarketState.CANCEL_ONLY, MarketState.POST_ONLY})
"""The states in which nothing trades."""


class Standing(Struct, frozen=True):
    """Where an order stands in its market: `queue` is (orders, quantity) ahead of it at its price, None unless it rests;
    `better` the quantity, a number, that its side of the book shows at better prices.
    """

    state: MarketState
    queue: tuple[int, int] | None = None
    better: int = 0


def rests(order: OrderRecord) -> bool:
    """Whether it stands in the book."""
    return order.is_open and order.status is not OrderStatus.PENDING_TRIGGER


def shown_at_better_prices(order: OrderRecord, depth: Depth) -> int:
    """The quantity, a number, that the order's side of its book shows at prices that trade before the order's."""
    levels, sign = (depth.bids, 1) if order.side is Side.BUY else (depth.asks, -1)
    price = value_of(order.price or 0)
    total = 0
    for level_price, quantity, _ in levels:
        if (value_of(level_price) - price) * sign <= 0:
            break
        total = plus(total, quantity)
    return total


def explain_view(
    order: OrderRecord,
    commands: Sequence[CommandEvents],
    modes: Modes,
    standing: Standing,
    next_cursor: str | None = None,
) -> ExplainView:
    """The explanation of an order, from its record, the first of the stored events that name it, and its standing."""
    queue = standing.queue
    return ExplainView(
        order_id=str(order.id),
        status=order.status.name,
        queue=None if queue is None else QueuePlaceView(orders_ahead=queue[0], quantity_ahead=format_number(queue[1])),
        would_fill_when=would_fill_when(order, standing),
        reason=_reason(order, commands),
        rules=rules(order, commands, standing.state),
        events=event_views(order, commands, modes),
        next_cursor=next_cursor,
    )


def would_fill_when(order: OrderRecord, standing: Standing) -> str | None:
    """What has to happen for it to trade, as the end of a sentence; None once it has ended."""
    if not order.is_open:
        return None
    reopened = "the symbol is open again and " if standing.state in _CLOSED else ""
    if order.status is OrderStatus.PENDING_TRIGGER:
        return reopened + _would_fire_when(order, order.terms or SpecialTerms(), standing.state)
    _, other, better, _ = _SIDES[order.side]
    price = format_number(order.price or 0)
    if standing.state is MarketState.AUCTION:
        return f"the auction trades at {price} or {better}"
    at_its_price = standing.queue[1] if standing.queue else 0
    ahead = plus(at_its_price, standing.better)
    size = f" of more than {format_number(ahead)}" if unpack(ahead)[0] else ""
    sentence = f"{reopened}a {other} order{size} at {price} or {better} arrives"
    if unpack(standing.better)[0]:
        sentence += f": {format_number(standing.better)} at better prices and {format_number(at_its_price)} at its own come first"
    return sentence


def _would_fire_when(order: OrderRecord, terms: SpecialTerms, state: MarketState) -> str:
    """What sets a waiting stop off (S1), and what it then does (S4)."""
    if terms.is_due:
        return f"its turn comes among the stops that are due; then it {_once_fired(order, terms)}"
    if terms.stop_price is None:
        return f"a trade gives it a price to follow, and a later one reaches its stop; then it {_once_fired(order, terms)}"
    stop, way = format_number(terms.stop_price), _SIDES[order.side][3]
    trade = "the auction trades, or a trade after it happens," if state is MarketState.AUCTION else "a trade happens"
    return f"{trade} at {stop} or {way}; then it {_once_fired(order, terms)}"


def _once_fired(order: OrderRecord, terms: SpecialTerms) -> str:
    does, _, better, worse = _SIDES[order.side]
    if order.price is not None:
        return f"{does} at {format_number(order.price)} or {better}"
    if terms.limit_offset is not None:
        return f"{does} up to {format_number(terms.limit_offset)} {worse} than its stop price"
    return f"{does} at the best prices there are"


def rules(order: OrderRecord, commands: Iterable[CommandEvents], state: MarketState) -> list[str]:
    """The ids of the rules that made the order stand or end as it does, the one of its reason first, each once."""
    terms = order.terms or SpecialTerms()
    named = [] if order.reason is None else [TABLE[order.reason].rule]
    if order.status is OrderStatus.PENDING_TRIGGER:
        named += ["S1", "S5"]
        named += ["S2", "S3"] if terms.is_due else []
    elif rests(order) or unpack(order.filled_quantity)[0]:
        named += ["M1", "T3" if order.price is None else _TIME_RULES[order.time_in_force]]
    happened = [type(event) for command in commands for event in command.events]
    named += ["S4"] if OrderTriggered in happened or terms.triggered_at is not None else []
    named += ["P1", "P2"] if SelfTradePrevented in happened or terms.prevented_quantity is not None else []
    if order.status is not OrderStatus.REJECTED:
        named += _rules_of_terms(order, terms)
    if order.is_open:
        named += {MarketState.OPEN: [], MarketState.AUCTION: ["H3"]}.get(state, ["H1"])
    return list(dict.fromkeys(rule for rule in named if rule))


def _rules_of_terms(order: OrderRecord, terms: SpecialTerms) -> list[str]:
    """Those of what it asked for beyond the plain, and of its deadline where it waits for a price."""
    asked = {
        "S6": order.type is OrderType.TRAILING_STOP,
        "T4": terms.post_only,
        "T5": order.expires_at is not None,
        "T6": terms.display_quantity is not None,
        "T7": terms.min_quantity is not None,
        "T3": terms.max_slippage_bps is not None,
    }
    return [rule for rule, applies in asked.items() if applies]


def _reason(order: OrderRecord, commands: Iterable[CommandEvents]) -> ReasonView | None:
    """Why it was refused or cancelled, with the bound that it missed, where the refusal named one."""
    if order.reason is None:
        return None
    limits = [event.limit for command in commands for event in command.events if isinstance(event, OrderRejected)]
    return reason_view(order.reason, limits[0] if limits else None)
