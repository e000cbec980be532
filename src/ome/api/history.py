"""An order's history out of its stored events: every event with where it left the order, and every version.

A maker's fills are told by `Traded` alone, a taker's by `Traded` and, once they are all made, by `OrderFilled`: either side reads
one FILLED for each trade. What an order has left after each is carried along from event to event; wherever an event has the whole
order, that is taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Final

from msgspec import UNSET, Meta, Struct, ValidationError, convert, structs

from ome.api.audit_schemas import HistoryView, OrderEventView, ReasonView, VersionView
from ome.api.problems import advice
from ome.api.views import order_view, trade_view
from ome.domain.clock import format_time
from ome.domain.enums import OrderStatus, SelfTradePrevention
from ome.domain.events import (
    CommandEvents,
    CommandRefused,
    OrderAccepted,
    OrderCancelled,
    OrderEvent,
    OrderExpired,
    OrderFilled,
    OrderModified,
    OrderRejected,
    OrderTriggered,
    PrivateEvent,
    SelfTradePrevented,
    Traded,
)
from ome.domain.numbers import POWER_OF_TEN, format_number, pack, unpack
from ome.domain.reasons import TABLE, Reason
from ome.domain.records import OrderRecord

Modes = Mapping[int, SelfTradePrevention]
"""By order id: the self-trade prevention that each taker asked for."""

_TYPES: Final[dict[type[OrderEvent], str]] = {
    OrderAccepted: "ACCEPTED",
    OrderRejected: "REJECTED",
    OrderModified: "MODIFIED",
    OrderCancelled: "CANCELLED",
    OrderExpired: "EXPIRED",
    OrderTriggered: "TRIGGERED",
}


def prevented_takers(order_id: int, commands: Iterable[CommandEvents]) -> set[int]:
    """The orders whose trade with this one, as maker, was prevented: their mode says what that did to it (P1)."""
    return {
        event.taker_order_id
        for command in commands
        for event in command.events
        if isinstance(event, SelfTradePrevented) and event.maker_order_id == order_id
    }


Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class Place(Struct, frozen=True, array_like=True):
    """Between two events of an order: how many have been told, what of its command has been read, and the order as it was there.

    `seen` counts the stored events of the command at `position` that name the order; quantities are numbers. All 0: before the
    first event.
    """

    number: Count = 0
    position: Count = 0
    seen: Count = 0
    version: Count = 0
    status: OrderStatus = OrderStatus.PENDING
    quantity: Count = 0
    filled: Count = 0
    remaining: Count = 0

    @property
    def text(self) -> str:
        """It as a cursor has it."""
        return ".".join(map(str, map(int, structs.astuple(self))))

    @classmethod
    def of_text(cls, text: str) -> Place:
        """The inverse of `text`; ValueError for what isn't one."""
        try:
            place = convert([int(number) for number in text.split(".")], cls)
        except ValidationError as error:
            raise ValueError(text) from error
        if place.text != text:
            raise ValueError(text)
        return place


BEGINNING: Final = Place()


def cut_events(commands: Sequence[CommandEvents], limit: int) -> tuple[Sequence[CommandEvents], bool]:
    """At most `limit` events of at most one more, and whether there was one more."""
    if sum(len(command.events) for command in commands) <= limit:
        return commands, False
    last = commands[-1]
    rest = [structs.replace(last, events=last.events[:-1])] if len(last.events) > 1 else []
    return [*commands[:-1], *rest], True


def history_view(
    order: OrderRecord,
    commands: Sequence[CommandEvents],
    modes: Modes,
    place: Place = BEGINNING,
    next_cursor: str | None = None,
) -> HistoryView:
    """Versions and events of an order, from stored events that name it, the first of them at `place`; `modes` are those of
    `prevented_takers`.
    """
    events = event_views(order, commands, modes, place)
    versions = version_views(commands, place.version)
    return HistoryView(order_id=str(order.id), versions=versions, events=events, count=len(events), next_cursor=next_cursor)


def place_after(order: OrderRecord, commands: Sequence[CommandEvents], modes: Modes, place: Place) -> Place:
    """The place behind stored events, at least one, the first of which is at `place`."""
    followed, last = list(_followed(order, commands, modes, place)), commands[-1]
    told = sum(not isinstance(event, OrderFilled) for _, event, _ in followed)
    seen = len(last.events) + (place.seen if last.position == place.position else 0)
    after = followed[-1][2]
    quantities = (after.quantity, after.filled_quantity, after.remaining_quantity)
    return Place(place.number + told, last.position, seen, after.version, after.status, *quantities)


def version_views(commands: Iterable[CommandEvents], told: int = 0) -> list[VersionView]:
    """Every version above `told`, from the first event that has it (A7). One that ended the order (A5) is told by its
    cancellation.
    """
    versions: list[VersionView] = []
    for command in commands:
        for event in command.events:
            if isinstance(event, OrderEvent) and event.order.version > told + len(versions):
                fields = structs.asdict(order_view(event.order))
                versions.append(VersionView(**fields, position=command.position))
    return versions


def _followed(
    order: OrderRecord, commands: Iterable[CommandEvents], modes: Modes, place: Place
) -> Iterator[tuple[CommandEvents, PrivateEvent, OrderRecord]]:
    """Every event with its command and the order right after it."""
    modes = {**modes, order.id: order.self_trade_prevention}
    order = structs.replace(
        order,
        version=place.version,
        status=place.status,
        quantity=place.quantity,
        filled_quantity=place.filled,
        remaining_quantity=place.remaining,
    )
    for command in commands:
        for event in command.events:
            order = _after(order, event, modes)
            yield command, event, order


def event_views(
    order: OrderRecord, commands: Iterable[CommandEvents], modes: Modes, place: Place = BEGINNING
) -> list[OrderEventView]:
    """Events from `place` on, oldest first, each with the order as it was right after."""
    views: list[OrderEventView] = []
    for command, event, after in _followed(order, commands, modes, place):
        if isinstance(event, OrderFilled):  # its trades have told it
            continue
        views.append(
            OrderEventView(
                number=place.number + len(views) + 1,
                position=command.position,
                time=format_time(command.time),
                version=after.version,
                status=after.status.name,
                quantity=format_number(after.quantity),
                filled_quantity=format_number(after.filled_quantity),
                remaining_quantity=format_number(after.remaining_quantity),
                **_particulars(event, order.id),
            )
        )
    return views


def reason_view(reason: Reason, limit: int | None = None) -> ReasonView:
    """The words of the table; `limit` is the bound that was missed, where there is one."""
    info = TABLE[reason]
    return ReasonView(code=reason.code, rule=info.rule or None, title=info.title, advice=advice(reason, limit))


def _particulars(event: PrivateEvent, order_id: int) -> dict[str, Any]:
    """What an event is, and what only its type has."""
    match event:
        case Traded(trade=trade):
            role = "MAKER" if trade.maker_order_id == order_id else "TAKER"
            return {"type": "FILLED", "role": role, "trade": trade_view(trade)}
        case SelfTradePrevented():
            is_maker = event.maker_order_id == order_id
            return {
                "type": "SELF_TRADE_PREVENTED",
                "role": "MAKER" if is_maker else "TAKER",
                "other_order_id": str(event.taker_order_id if is_maker else event.maker_order_id),
                "prevented_quantity": format_number(event.quantity),
                "prevented_price": format_number(event.price),
            }
        case CommandRefused():
            return {"type": "REFUSED", "reason": reason_view(event.reason, event.limit)}
        case _:
            limit = event.limit if isinstance(event, OrderRejected) else None
            reason = event.order.reason
            return {"type": _TYPES[type(event)], "reason": UNSET if reason is None else reason_view(reason, limit)}


def _after(order: OrderRecord, event: PrivateEvent, modes: Modes) -> OrderRecord:
    """The order after an event; of what the event doesn't say, as it was before."""
    match event:
        case Traded(trade=trade):
            if trade.maker_order_id == order.id:
                filled, remaining = event.maker_filled, event.maker_remaining
            else:
                filled = plus(order.filled_quantity, trade.quantity)
                remaining = plus(order.remaining_quantity, trade.quantity, -1)
            status = OrderStatus.PARTIALLY_FILLED if unpack(remaining)[0] else OrderStatus.FILLED
            return structs.replace(order, filled_quantity=filled, remaining_quantity=remaining, status=status)
        case SelfTradePrevented():
            if modes.get(event.taker_order_id) is not SelfTradePrevention.DECREMENT:
                return order
            return structs.replace(order, remaining_quantity=plus(order.remaining_quantity, event.quantity, -1))
        case CommandRefused():
            return order
        case _:
            return event.order


def plus(number: int, other: int, sign: int = 1) -> int:
    """A number with another one added (sign 1) or taken away (-1), exactly."""
    (mantissa, decimals), (by, its_decimals) = unpack(number), unpack(other)
    places = max(decimals, its_decimals)
    return pack(mantissa * POWER_OF_TEN[places - decimals] + sign * by * POWER_OF_TEN[places - its_decimals], places)
