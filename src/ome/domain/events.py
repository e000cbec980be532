"""What the engine says has happened. Every answer, row, stream and audit line is made from events alone.

The events of one command come in the order in which things happened. Those about an order carry the whole order as it stood
right after (`OrderRecord`); a maker's fill is told by `Traded`, with what the maker had filled and left after it. `BookChanged`
closes the public part: one per command and symbol whose levels changed, with absolute quantities (D1).
"""

from __future__ import annotations

from typing import Final, get_args

from msgspec import Raw, Struct, msgpack

from ome.domain.enums import Side
from ome.domain.reasons import Reason
from ome.domain.records import (
    ControlRecord,
    InstrumentRecord,
    OrderRecord,
    TradeRecord,
    TransferRecord,
)


class OrderAccepted(Struct, frozen=True, array_like=True, tag=1):
    """An order was taken; `order` is as it was before anything traded."""

    order: OrderRecord


class OrderRejected(Struct, frozen=True, array_like=True, tag=2):
    """A well-formed order was refused, for `order.reason`; `limit` is the bound it missed, where there is one."""

    order: OrderRecord
    limit: int | None = None


class Traded(Struct, frozen=True, array_like=True, tag=3):
    """Two orders traded. `maker_filled` and `maker_remaining` are the maker's quantities right after."""

    trade: TradeRecord
    maker_user_id: str
    taker_user_id: str
    maker_filled: int
    maker_remaining: int


class OrderFilled(Struct, frozen=True, array_like=True, tag=4):
    """The taker after all the trades that its command made: PARTIALLY_FILLED or FILLED. Follows its `Traded` events."""

    order: OrderRecord


class OrderModified(Struct, frozen=True, array_like=True, tag=5):
    """An open order was changed; `order` has the new version and is as it was before its new price traded (A4)."""

    order: OrderRecord


class OrderCancelled(Struct, frozen=True, array_like=True, tag=6):
    """What was left of an order was taken out, for `order.reason`."""

    order: OrderRecord


class OrderExpired(Struct, frozen=True, array_like=True, tag=7):
    """A deadline passed (T5)."""

    order: OrderRecord


class SelfTradePrevented(Struct, frozen=True, array_like=True, tag=8):
    """Two orders of one user met and did not trade (P2): `quantity` at `price` is what would have."""

    symbol: str
    user_id: str
    maker_order_id: int
    taker_order_id: int
    price: int
    quantity: int


class CommandRefused(Struct, frozen=True, array_like=True, tag=9):
    """A modify, cancel or instrument change was refused and nothing changed; `limit` as in OrderRejected.

    `order_id` is None where the command was not about an order.
    """

    order_id: int | None
    reason: Reason
    limit: int | None = None


class InstrumentChanged(Struct, frozen=True, array_like=True, tag=10):
    """A symbol was listed, or what it trades in was changed."""

    instrument: InstrumentRecord


class BookChanged(Struct, frozen=True, array_like=True, tag=11):
    """The levels of a symbol that a command changed: (side, price, quantity, orders) each, absolute; quantity 0 is gone."""

    symbol: str
    sequence: int
    time: int
    levels: list[tuple[Side, int, int, int]]


class OrderTriggered(Struct, frozen=True, array_like=True, tag=12):
    """A stop fired: from here on it is a MARKET or LIMIT order with new time priority (S4). Comes before what it trades."""

    order: OrderRecord


class AuctionIndicated(Struct, frozen=True, array_like=True, tag=13):
    """What an uncross would give now, told after each command that changed the book of a symbol in AUCTION (H3).

    `price` is None where nothing would trade; `surplus_side` says of which side the imbalance is (None: of neither).
    """

    symbol: str
    sequence: int
    time: int
    price: int | None
    volume: int
    imbalance: int
    surplus_side: Side | None


class FundsTransferred(Struct, frozen=True, array_like=True, tag=20):
    """A deposit or a withdrawal was made (F2). Transfers are stored as such, so it isn't kept with its batch's events."""

    transfer: TransferRecord


class ControlChanged(Struct, frozen=True, array_like=True, tag=14):
    """Limits, a kill switch or a timer were set or lifted, or a timer has come; `open_orders` is how many orders a kill finds
    open: they are cancelled from here on.
    """

    control: ControlRecord
    open_orders: int = 0


class SymbolReleased(Struct, frozen=True, array_like=True, tag=30):
    """A symbol has left this shard for `target`; nothing has changed in it."""

    symbol: str
    target: int


class SymbolAdmitted(Struct, frozen=True, array_like=True, tag=31):
    """A symbol has come from `shard`, as `instrument` shows it, with these levels: (price, quantity, orders) each, best first."""

    instrument: InstrumentRecord
    shard: int
    time: int
    bids: list[tuple[int, int, int]]
    asks: list[tuple[int, int, int]]


OrderEvent = OrderAccepted | OrderRejected | OrderFilled | OrderModified | OrderCancelled | OrderExpired | OrderTriggered
"""The events that carry a whole order."""
ORDER_EVENTS: Final[frozenset[type[Struct]]] = frozenset(get_args(OrderEvent))
PrivateEvent = OrderEvent | Traded | SelfTradePrevented | CommandRefused
"""The events that belong to users: they are stored with their batch, for ever (D6)."""
SymbolEvent = InstrumentChanged | BookChanged | AuctionIndicated | SymbolReleased | SymbolAdmitted
Event = PrivateEvent | SymbolEvent | FundsTransferred | ControlChanged

UNSTORED_EVENTS = (
    *(InstrumentChanged, BookChanged, AuctionIndicated, SymbolReleased, SymbolAdmitted),
    *(FundsTransferred, ControlChanged),
)
"""The events that are not stored with their batch: those about a symbol and nobody's; transfers and controls have own rows."""


class CommandEvents(Struct, frozen=True, array_like=True):
    """The stored events of one command."""

    position: int
    time: int
    events: list[PrivateEvent]


class UserEvent(Struct, frozen=True):
    """One event of a user's: `number` says which of the user's events in its command it is, from 0."""

    position: int
    number: int
    time: int
    event: PrivateEvent


_encoder = msgpack.Encoder()
_decoder = msgpack.Decoder(list[CommandEvents])
_part_decoder = msgpack.Decoder(list[Raw])
_command_decoder = msgpack.Decoder(CommandEvents)


def encode_events(batch: list[CommandEvents]) -> bytes:
    """The stored form of a batch's events."""
    return _encoder.encode(batch)


def decode_events(data: bytes) -> list[CommandEvents]:
    """The inverse of `encode_events`."""
    return _decoder.decode(data)


def decode_events_naming(who: str | int, data: bytes) -> list[CommandEvents]:
    """Of `decode_events` those that have this user, or the order with this id, anywhere in their bytes: all of whom it is asked
    for, and others by chance. A batch has many commands, of which a user's or an order's events need a few.
    """
    name = who.encode() if isinstance(who, str) else _encoder.encode(who)
    if name not in data:
        return []
    return [_command_decoder.decode(part) for part in _part_decoder.decode(data) if name in bytes(part)]


def users_of(event: PrivateEvent) -> tuple[str, ...]:
    """Whose event this is: one user, or a trade's two."""
    match event:
        case Traded():
            return (event.maker_user_id, event.taker_user_id)
        case SelfTradePrevented():
            return (event.user_id,)
        case CommandRefused():
            return ()
        case _:
            return (event.order.user_id,)


def events_of(user_id: str, command: CommandEvents) -> list[UserEvent]:
    """A user's events in a command, in order."""
    mine = [event for event in command.events if user_id in users_of(event)]
    return [UserEvent(command.position, number, command.time, event) for number, event in enumerate(mine)]
