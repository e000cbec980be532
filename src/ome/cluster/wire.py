"""What gateways and engines say to each other: MessagePack, several requests in a frame, several answers in another.

Gateways and engines of one cluster are to be of one version: unlike the journal's, these bytes are read at once and never kept.
A message that NATS would refuse for its size is cut into pieces (`cut`) and put together again (`Pieces`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any, Final

import msgspec
from msgspec import Struct, msgpack

from ome.domain.commands import CancelOrder, Command, ModifyOrder, NewOrder
from ome.domain.enums import Side
from ome.domain.errors import (
    NotAccepting,
    OmeError,
    OutcomeUnknown,
    Overloaded,
    Pending,
    StorageAway,
    StorageUnusable,
    TooLate,
)
from ome.domain.events import (
    AuctionIndicated,
    BookChanged,
    CommandEvents,
    CommandRefused,
    Event,
    InstrumentChanged,
    SymbolAdmitted,
    Traded,
)
from ome.domain.ports import Answer, Auction, Depth, TransferAnswer, UserRisk
from ome.domain.records import InstrumentRecord, TransferRecord


class Moved(OmeError):
    """The symbol belongs to another shard than the one that was asked. Certain: nothing was executed."""


class Staying(OmeError):
    """The symbol can't be moved now; the message says why. Certain: nothing has changed."""


class StillListed(OmeError):
    """The symbol is listed, and only one that isn't can be ceded. Certain: nothing has changed."""


class WireError(OmeError):
    """A message that isn't one of these: gateway and engine are of different versions, or somebody else speaks there."""


# Requests


class _Request(Struct, frozen=True, array_like=True, gc=False, tag_field="kind"):
    """What all requests share: `id` is the gateway's, never used twice."""

    id: int


class Operate(_Request, frozen=True, tag=1):
    """One submit, change or cancel; `until` (microseconds of wall time) where it is to be executed by then or not at all."""

    operation: NewOrder | ModifyOrder | CancelOrder
    until: int | None = None


class OperateAll(_Request, frozen=True, tag=2):
    """Operations in their order, each with its `until` as above; `tells_queued`: say so once all have joined the queue."""

    operations: list[tuple[NewOrder | ModifyOrder | CancelOrder, int | None]]
    dry_run: bool = False
    tells_queued: bool = False


class CancelAll(_Request, frozen=True, tag=3):
    """A mass cancel."""

    user_id: str | None
    symbol: str | None
    side: Side | None


class AwaitFate(_Request, frozen=True, tag=4):
    """Wait until nothing with this client order id is worked on."""

    user_id: str
    client_order_id: str
    symbol: str | None


class Send(_Request, frozen=True, tag=5):
    """A command as it is: a control, an instrument's definition, an entry of the audit."""

    command: Command


class MoveFunds(_Request, frozen=True, tag=6):
    """A deposit or withdrawal, once per client id; `command` is a Transfer."""

    command: Command


class AskRisk(_Request, frozen=True, tag=7):
    """What a user may still do."""

    user_id: str


class Cede(_Request, frozen=True, tag=8):
    """Give a symbol that isn't listed to another shard: it is never to be listed here from now on."""

    symbol: str
    target: int


class LookAgain(_Request, frozen=True, tag=9):
    """The shard map has changed: take in what has come, and read it again before answering."""


class Give(_Request, frozen=True, tag=10):
    """Give a listed symbol, with all that is open in it, to another shard."""

    symbol: str
    target: int


Request = Operate | OperateAll | CancelAll | AwaitFate | Send | MoveFunds | AskRisk | Cede | LookAgain | Give


class Frame(Struct, frozen=True, array_like=True):
    """Requests of a gateway that came together. `number` counts a gateway's frames to this engine, from 1: one that isn't above
    the last is a duplicate. After `deadline`, in microseconds of wall time, none of them may be executed any more.
    """

    gateway: str
    number: int
    deadline: int
    requests: list[Request]


# Answers


class Carried(Struct, frozen=True, array_like=True, tag=1):
    """An `Answer`, with the events that its reader is told of."""

    order_id: int
    events: Sequence[Event]
    replayed: bool = False


class Failed(Struct, frozen=True, array_like=True, tag=2):
    """An error: which one, and its message."""

    error: str
    message: str = ""


class Several(Struct, frozen=True, array_like=True, tag=3):
    """The outcomes of a batch, in its order."""

    outcomes: list[Carried | Failed]


class Queued(Struct, frozen=True, array_like=True, tag=4):
    """All operations of a batch have joined the queue, or won't; its outcomes are still to come."""


class Cancelled(Struct, frozen=True, array_like=True, tag=5):
    """The orders that a mass cancel took out, in the order of their acceptance: when that was, and their ids."""

    orders: list[tuple[int, int]]


class Decided(Struct, frozen=True, array_like=True, tag=6):
    """It is as was asked for: no command with the client order id is worked on, the symbol is ceded or given, the map read."""


class Sent(Struct, frozen=True, array_like=True, tag=7):
    """The events of a command."""

    events: Sequence[Event]


class Transferred(Struct, frozen=True, array_like=True, tag=8):
    """A TransferAnswer: one of the two is there."""

    made: TransferRecord | None
    refused: CommandRefused | None
    replayed: bool


class Risk(Struct, frozen=True, array_like=True, tag=9):
    """What a user may still do."""

    risk: UserRisk


Result = Carried | Failed | Several | Queued | Cancelled | Decided | Sent | Transferred | Risk


class Reply(Struct, frozen=True, array_like=True):
    """Answers of an engine that came together, by the ids of their requests: what they tell of is in the tables, and, up to
    `position`, in what the engine has published.
    """

    shard: int
    position: int
    results: list[tuple[int, Result]]


class State(Struct, frozen=True, array_like=True):
    """How an engine is: `epoch` is in the name of the subject that it hears requests on; `waiting` and the rest as CommandBus."""

    shard: int
    epoch: int
    incarnation: str
    state: str
    reason: str
    position: int
    waiting: int
    durability: str


# What happens

MarketEvent = BookChanged | Traded | InstrumentChanged | AuctionIndicated | SymbolAdmitted
"""The events that market data is folded from."""


class Told(Struct, frozen=True, array_like=True):
    """What a batch, of the positions `first` to `last`, changed. Every batch has one, empty or not. `private` are the stored
    events of its commands, encoded: only those read them whose users somebody hears.
    """

    shard: int
    epoch: int
    first: int
    last: int
    events: list[MarketEvent]
    private: msgspec.Raw


class Books(Struct, frozen=True, array_like=True):
    """All that is public about an engine's symbols after its command `position`: what `MarketView.load` takes."""

    shard: int
    position: int
    markets: list[tuple[InstrumentRecord, Depth]]
    auctions: list[AuctionIndicated]


_encoder: Final = msgpack.Encoder()
encode: Final = _encoder.encode


def _reader(kind: Any) -> Callable[[Any], Any]:
    decoder = msgpack.Decoder(kind)

    def read(data: Any) -> Any:
        try:
            return decoder.decode(data)
        except msgspec.DecodeError as error:
            raise WireError(f"A message of the cluster can't be read: {error}. Are all processes of one version?") from error

    return read


read_frame: Final[Callable[[bytes], Frame]] = _reader(Frame)
read_reply: Final[Callable[[bytes], Reply]] = _reader(Reply)
read_state: Final[Callable[[bytes], State]] = _reader(State)
read_told: Final[Callable[[bytes], Told]] = _reader(Told)
read_private: Final[Callable[[bytes | msgspec.Raw], list[CommandEvents]]] = _reader(list[CommandEvents])
read_books: Final[Callable[[bytes], Books]] = _reader(Books)

# Errors

_ERRORS: Final[dict[str, type[OmeError]]] = {
    kind.__name__: kind
    for kind in (
        Overloaded,
        NotAccepting,
        TooLate,
        OutcomeUnknown,
        Pending,
        StorageAway,
        StorageUnusable,
        Moved,
        StillListed,
        Staying,
    )
}


def failed(error: BaseException) -> Failed:
    """An error as it is told. What isn't one of ours is a bug: nobody can say what became of the command."""
    for kind in type(error).__mro__:
        if kind.__name__ in _ERRORS:
            return Failed(kind.__name__, str(error))
    return Failed(OutcomeUnknown.__name__, "the engine failed at this command")


def error_of(told: Failed) -> OmeError:
    """The inverse of `failed`."""
    return _ERRORS.get(told.error, OutcomeUnknown)(told.message)


# Answers into those of order entry, and back

_PUBLIC: Final = (BookChanged, AuctionIndicated)


def carried(answer: Answer) -> Carried:
    """An answer without what its reader isn't told of: the book's changes."""
    events = answer.events
    if any(isinstance(event, _PUBLIC) for event in events):
        events = [event for event in events if not isinstance(event, _PUBLIC)]
    return Carried(answer.order_id, events, answer.replayed)


def answer_of(told: Carried) -> Answer:
    """The inverse of `carried`."""
    return Answer(told.order_id, told.events, told.replayed)


def transferred(answer: TransferAnswer) -> Transferred:
    """A transfer's answer as it is told."""
    outcome = answer.outcome
    if isinstance(outcome, CommandRefused):
        return Transferred(None, outcome, answer.replayed)
    return Transferred(outcome, None, answer.replayed)


def transfer_answer_of(told: Transferred) -> TransferAnswer:
    """The inverse of `transferred`."""
    outcome = told.made or told.refused
    if outcome is None:
        raise WireError("A transfer was neither made nor refused.")
    return TransferAnswer(outcome, told.replayed)


def auction_event(auction: Auction) -> AuctionIndicated:
    """What an auction would give, as the event that told it."""
    return AuctionIndicated(
        auction.symbol,
        auction.sequence,
        auction.time,
        auction.price,
        auction.volume,
        auction.imbalance,
        auction.surplus_side,
    )


# Pieces

_WHOLE: Final = b"\x00"
_PIECE: Final = b"\x01"
_ROOM: Final = 64
"""Bytes of a piece beside what it carries, at the most."""
MOST_UNFINISHED: Final = 64
"""Messages that are being put together at the same time; the oldest is forgotten beyond it: its rest got lost."""
_numbers: Final = count(1)


class _Piece(Struct, frozen=True, array_like=True):
    sender: str
    number: int
    index: int
    count: int
    data: bytes


def cut(data: bytes, most_bytes: int, sender: str = "", number: int | None = None) -> list[bytes]:
    """A message as NATS messages of at most `most_bytes` each, to be sent in this order; `sender` tells who cuts, `number` which
    message of that sender it is: by default one more than the last.
    """
    if len(data) < most_bytes:
        return [_WHOLE + data]
    size = most_bytes - _ROOM - len(sender)
    parts = [data[start : start + size] for start in range(0, len(data), size)]
    which = next(_numbers) if number is None else number
    return [_PIECE + encode(_Piece(sender, which, index, len(parts), part)) for index, part in enumerate(parts)]


class Pieces:
    """Puts messages together. A message of which a piece is missing never comes, unless it is sent again."""

    def __init__(self) -> None:
        self._read: Callable[[bytes], _Piece] = _reader(_Piece)
        self._unfinished: OrderedDict[tuple[str, int], list[bytes]] = OrderedDict()

    def add(self, data: bytes) -> bytes | None:
        """The message that is whole with this, or None; raises WireError for what is none of `cut`'s."""
        if data[:1] == _WHOLE:
            return data[1:]
        if data[:1] != _PIECE:
            raise WireError("A message of the cluster can't be read. Are all processes of one version?")
        piece = self._read(data[1:])
        key = (piece.sender, piece.number)
        found = self._unfinished.setdefault(key, [])
        if piece.index == 0:
            found.clear()  # it is sent again
        if piece.index != len(found):
            del self._unfinished[key]
            return None
        found.append(piece.data)
        if len(found) == piece.count:
            del self._unfinished[key]
            return b"".join(found)
        if len(self._unfinished) > MOST_UNFINISHED:
            self._unfinished.popitem(last=False)
        return None
