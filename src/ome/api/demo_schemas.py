"""The demo market, as it is asked for and shown."""

from __future__ import annotations

from typing import Annotated, Any, Final

from msgspec import UNSET, Meta, Struct, UnsetType

from ome.api.decoding import Form, read_body, read_boolean, read_whole
from ome.api.problems import FieldError

MAX_SEED: Final = 2**31 - 1


class DemoRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """Whether simulated traders trade."""

    active: Annotated[bool, Meta(description="true: they start; false: they stop, and what they have open is cancelled")]
    seed: (
        Annotated[int, Meta(description="The same seed has them draw the same numbers; 1 by default", ge=0, le=MAX_SEED)]
        | UnsetType
    ) = UNSET


class DemoView(Struct, frozen=True, kw_only=True, gc=False):
    """Whether they do."""

    active: bool
    seed: Annotated[int | None, Meta(description="Of those that trade now; null: nobody does")]


_FORM: Final = Form(
    {"active": read_boolean, "seed": read_whole(0, MAX_SEED, f"must be a whole number from 0 to {MAX_SEED}")},
    ("active",),
    lambda _values, _given: list[FieldError](),
)


def read_demo(body: bytes) -> dict[str, Any]:
    """What a PUT /admin/demo body asks for: `active`, and `seed` where it was given; raises Problem."""
    return read_body(body, _FORM)
