"""The shapes of deposits, withdrawals and balances, as msgspec Structs like those of `schemas`."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Raw, Struct

from ome.api.schemas import (
    CLIENT_ORDER_ID,
    SYMBOL,
    USER_ID,
    Decimal,
    Id,
    Time,
    number,
    whole,
)

Amount = Annotated[str, Meta(description="An exact decimal, of up to 18 decimals", examples=["1000.5"])]


class TransferRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """How much of what goes to or from whose account."""

    user_id: Annotated[str, Meta(description="Whose account", examples=["alice"], extra_json_schema={"pattern": whole(USER_ID)})]
    asset: Annotated[
        str, Meta(description="Lower case is folded", examples=["USD"], extra_json_schema={"pattern": whole(SYMBOL)})
    ]
    amount: Annotated[Raw, number("How much.", "1000")]
    client_transfer_id: Annotated[
        str,
        Meta(
            description="Unique per user, for ever: the same transfer sent again is made once.",
            examples=["wire-2026-11-22-1"],
            extra_json_schema={"pattern": whole(CLIENT_ORDER_ID)},
        ),
    ]


class TransferView(Struct, frozen=True, kw_only=True, gc=False):
    """A deposit or withdrawal that was made."""

    transfer_id: Id
    kind: Annotated[str, Meta(extra_json_schema={"enum": ["DEPOSIT", "WITHDRAWAL"]})]
    user_id: str
    asset: str
    amount: Decimal
    client_transfer_id: str
    created_at: Time
    replayed: Annotated[bool, Meta(description="true: it was made when it was first asked for")] = False


class BalanceView(Struct, frozen=True, kw_only=True, gc=False):
    """What a user has of an asset; `available` and `reserved` add up to `total`."""

    asset: str
    total: Amount
    reserved: Annotated[str, Meta(description="What open orders hold", examples=["150.5"])]
    available: Annotated[str, Meta(description="What new orders may hold, or be withdrawn", examples=["850"])]


class BalanceList(Struct, frozen=True, kw_only=True):
    """A user's accounts, by asset; an asset that never came to the user isn't among them."""

    user_id: str
    balances: list[BalanceView]
