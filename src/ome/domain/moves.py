"""A symbol on its way from one shard to another: all that the giving engine knows of it, handed over whole.

The state is written down twice, both times in a transaction of an engine: by the one that gives the symbol (`MoveRecord.state`,
until it has arrived) and in the journal of the one that takes it (`commands.Admit`), so that each journal can be replayed without
the other. Its hash stays with the move for ever: what was handed over is what was taken in.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import Final, NamedTuple

import msgspec
from msgspec import Struct, msgpack

from ome.domain.errors import StorageUnusable
from ome.domain.records import ControlRecord, InstrumentRecord, OrderRecord, PositionRecord

IN_TRANSIT: Final = -1
"""The shard of the rows of a symbol that one engine has given and the other hasn't taken yet."""
STATE_FORMAT: Final = 1
MOST_MOVED: Final = 100_000
"""Open orders, and positions, that a symbol may have to be moved: all of them are one command of a journal and one batch."""


class SymbolState(Struct, frozen=True, array_like=True):
    """All that an engine knows of a symbol at `time`, in microseconds: what `commands.Admit` makes an equal one of.

    `orders` are the open ones, waiting stops too, in the order of their `priority`, none of which is above `priority_count`;
    `controls` the limits and kill switches of this symbol; `timers` (user, deadline in microseconds) the dead-man timers of users
    with open orders in it, which belong to the shard and stay there (I3): what becomes of them on the way is looked up there.
    """

    format: int
    time: int
    priority_count: int
    instrument: InstrumentRecord
    orders: list[OrderRecord]
    positions: list[PositionRecord]
    controls: list[ControlRecord]
    timers: list[tuple[str, int]]


class MoveRecord(Struct, frozen=True, array_like=True):
    """A move, in the order of its row: the command at `position` of `shard` gave `symbol` to `target` at `time`.

    `state` is the encoded `SymbolState` until that shard has taken it, None from then on; `state_hash` stays (64 hex digits), and
    `admitted_position` is the command of `target` that took it.
    """

    shard: int
    position: int
    symbol: str
    target: int
    time: int
    state_hash: str
    state: bytes | None
    admitted_position: int | None = None


class TimerChange(NamedTuple):
    """A user has set a dead-man timer, or disarmed it: from `time` on it is `until` this, or, None, off. Microseconds."""

    user_id: str
    time: int
    until: int | None


def timers_on_the_way(
    timers: Iterable[tuple[str, int]], changes: Iterable[TimerChange], now: int
) -> tuple[list[str], int | None]:
    """Which users' timers came while a symbol was on its way, by name: of those that were running when it left, and what users
    have done with theirs since, in its order. One has come when its deadline was there before it was set anew or disarmed (I3).
    And when the next one comes that is running now.
    """
    running, missed = dict(timers), set[str]()
    for user_id, time, until in changes:
        due = running.pop(user_id, None)
        if due is not None and time >= due:
            missed.add(user_id)
        if until is not None:
            running[user_id] = until
    missed.update(user_id for user_id, due in running.items() if due <= now)
    return sorted(missed), min((due for due in running.values() if due > now), default=None)


_encode: Final = msgpack.Encoder().encode
_decoder: Final = msgpack.Decoder(SymbolState)


def encode_state(state: SymbolState) -> bytes:
    """The bytes that a state travels as."""
    return _encode(state)


def decode_state(data: bytes) -> SymbolState:
    """The inverse of `encode_state`. Raises StorageUnusable for bytes that this version can't read."""
    try:
        state = _decoder.decode(data)
    except msgspec.MsgspecError as error:
        raise StorageUnusable(f"A symbol in transit can't be read: {error}. Are all engines of one version?") from error
    if state.format != STATE_FORMAT:
        raise StorageUnusable(
            f"A symbol in transit is of format {state.format}; this version of OME reads {STATE_FORMAT}."
            " Run the version that wrote it."
        )
    return state


def hash_of_state(data: bytes) -> str:
    """What tells an encoded state from every other: 64 hex digits."""
    return sha256(data).hexdigest()
