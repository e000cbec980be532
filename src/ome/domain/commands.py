"""What the engine can be told. Commands are small immutable values; the journal keeps them as MessagePack, for ever readable.

Fields may be added at the end of a command, with a default; none is ever removed, moved or given another meaning within a
journal format. Prices and quantities are canonical numbers as in `domain.numbers`; only the engine's `Instrument` turns
them into ticks and lots, as it is when the command's turn comes.
"""

from __future__ import annotations

from msgspec import Struct, msgpack

from ome.domain.enums import (
    MarketState,
    OrderType,
    SelfTradePrevention,
    Side,
    TimeInForce,
    TransferKind,
)
from ome.domain.records import (
    EngineSettings,
    Limits,
    PositionRecord,
    SpecialTerms,
)


class _Command(Struct, frozen=True, array_like=True, gc=False, tag_field="kind"):
    """What all commands share: how they are written down."""


class NewOrder(_Command, frozen=True, tag=1):
    """Submit an order. The edge has checked that each type has the fields it needs and no others."""

    user_id: str
    symbol: str
    side: Side
    type: OrderType
    time_in_force: TimeInForce
    quantity: int
    price: int | None = None
    self_trade_prevention: SelfTradePrevention = SelfTradePrevention.CANCEL_NEWEST
    client_order_id: str | None = None
    expires_at: int | None = None
    terms: SpecialTerms | None = None


class ModifyOrder(_Command, frozen=True, tag=2):
    """Change an open order; a field left out (None) stays. `exists` says whether the id was ever an order's: the engine
    holds open orders only, so that is looked up before the command is stamped and travels in it (M6).

    With an `account`, an order of any other user is none: it doesn't exist.
    """

    order_id: int
    exists: bool
    quantity: int | None = None
    price: int | None = None
    expires_at: int | None = None
    expected_version: int | None = None
    stop_price: int | None = None
    trail_amount: int | None = None
    trail_percent: int | None = None
    display_quantity: int | None = None
    account: str | None = None


class CancelOrder(_Command, frozen=True, tag=3):
    """Cancel what is left of an order; `exists` and `account` as in ModifyOrder."""

    order_id: int
    exists: bool
    account: str | None = None


class DefineInstrument(_Command, frozen=True, tag=4):
    """List a symbol, or change a listed one; a field left out stays, or has its default on a new symbol.

    A maximum or a band of 0 takes it away, two assets without a name take funds away. The rest of the fields are as in
    InstrumentRules.
    """

    symbol: str
    tick_size: int | None = None
    lot_size: int | None = None
    state: MarketState | None = None
    max_order_quantity: int | None = None
    price_band_percent: int | None = None
    band_halt_s: int | None = None
    session_close_s: int | None = None
    base_asset: str | None = None
    quote_asset: str | None = None
    maker_fee_bps: int | None = None
    taker_fee_bps: int | None = None


class Configure(_Command, frozen=True, tag=5):
    """Give the engine its settings."""

    settings: EngineSettings


class AdvanceTime(_Command, frozen=True, tag=6):
    """Do nothing but let time pass: what has become due, such as an expiry, happens (T5)."""


class CancelOrders(_Command, frozen=True, tag=7):
    """Cancel the open orders of a user, a symbol and a side, each None for any, in the order of acceptance (I2).

    At most `limit` of them: a large mass cancel is several commands, each with what is left.
    """

    user_id: str | None
    symbol: str | None
    side: Side | None
    limit: int


class AdoptPositions(_Command, frozen=True, tag=8):
    """Have positions that were made by trades from before this engine kept any: they stand as given here (M6).

    Sent before anything else, where a database has trades from before; `Configure` with `keeps_positions` ends it.
    """

    positions: list[PositionRecord]


class Administered(_Command, frozen=True, tag=20):
    """Write down what an operator did, or what happened to keys; without any effect on the market. Fields as in AuditEntry."""

    actor: str
    action: str
    subject: str
    detail: str


class Transfer(_Command, frozen=True, tag=21):
    """Move an amount, a number above 0, between a user's account and the world outside (F2).

    That no transfer of the user has this client id is looked up before the command is stamped (M6).
    """

    transfer_kind: TransferKind
    user_id: str
    asset: str
    amount: int
    client_transfer_id: str


class SetLimits(_Command, frozen=True, tag=9):
    """Give a user these limits in a symbol, in the place of those before; `symbol` "": in every symbol (R1)."""

    user_id: str
    symbol: str
    limits: Limits


class SetKill(_Command, frozen=True, tag=10):
    """Stop a user, a symbol, or, where both are "", everybody; or let them go on."""

    user_id: str
    symbol: str
    is_active: bool


class CancelAllAfter(_Command, frozen=True, tag=11):
    """Cancel all of a user's orders so many seconds from now, unless it says this again before; 0 disarms (I3)."""

    user_id: str
    seconds: int


class Release(_Command, frozen=True, tag=30):
    """Give a symbol to another shard, with all that is known of it: from here on it isn't this one's (`domain.moves`)."""

    symbol: str
    target: int


class Admit(_Command, frozen=True, tag=31):
    """Take a symbol that the command at `position` of `shard` gave to this one at `time`, before which this isn't stamped.

    `state` is the encoded `moves.SymbolState`: a replay needs nothing else but `missed`, the users whose dead-man timer ran out
    where the symbol came from while it was on its way (I3). In a journal from before there was that it is None: then those
    missed it whose timer in the state would have come by now, and who have none here.
    """

    symbol: str
    shard: int
    position: int
    time: int
    state: bytes
    missed: list[str] | None = None


Command = (
    NewOrder
    | ModifyOrder
    | CancelOrder
    | DefineInstrument
    | Configure
    | AdvanceTime
    | CancelOrders
    | AdoptPositions
    | Administered
    | Transfer
    | SetLimits
    | SetKill
    | CancelAllAfter
    | Release
    | Admit
)


class Stamped(Struct, frozen=True, array_like=True):
    """A command with its place in the one order of its shard, from 1, without gaps, and the engine's time, which never
    goes back (M6, N2).
    """

    position: int
    time: int
    command: Command


_encoder = msgpack.Encoder()
_decoder = msgpack.Decoder(list[Stamped])


def encode_commands(commands: list[Stamped]) -> bytes:
    """The journal's form of a batch of commands."""
    return _encoder.encode(commands)


def decode_commands(data: bytes) -> list[Stamped]:
    """The inverse of `encode_commands`."""
    return _decoder.decode(data)
