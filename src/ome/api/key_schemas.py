"""Keys and the audit trail, as they are asked for and shown."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET as LEFT_OUT
from msgspec import Meta, Raw, Struct, UnsetType

from ome.api.decoding import Form, read_body, read_moment, read_user_id, read_whole
from ome.api.problems import FieldError
from ome.api.schemas import Time, UserId
from ome.domain.access import Access
from ome.domain.clock import format_time
from ome.domain.keys import KeyRecord
from ome.domain.records import AuditEntry

DAY_S: Final = 86_400
MAX_OVERLAP_S: Final = 30 * DAY_S
_SCOPES: Final = {access.scope: access for access in Access if access is not Access.PUBLIC}
_SECRETS: Final = frozenset({"digest"})
"""What of an entry's detail isn't shown."""

EndTime = Annotated[
    str,
    Meta(
        description="RFC 3339 with its zone, in the future; without it, it doesn't end by itself",
        examples=["2099-12-31T23:59:59Z"],
        extra_json_schema={"format": "date-time"},
    ),
]
ScopeName = Annotated[str, Meta(extra_json_schema={"enum": list(_SCOPES)})]


class KeyRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key to be made."""

    user_id: UserId
    scopes: Annotated[list[ScopeName], Meta(min_length=1, description="Each includes those before it: read, trade, operator")]
    expires_at: EndTime | UnsetType = LEFT_OUT


class RotationRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a key is replaced."""

    overlap_seconds: Annotated[
        int, Meta(ge=0, le=MAX_OVERLAP_S, description="How long the old key stays good beside the new one")
    ] = DAY_S


class KeyView(Struct, frozen=True, kw_only=True):
    """A key, but for the key itself: that is kept nowhere."""

    key_id: str
    user_id: str
    scopes: list[ScopeName]
    status: Annotated[str, Meta(extra_json_schema={"enum": ["ACTIVE", "EXPIRED", "REVOKED"]})]
    created_at: Time
    expires_at: Time | None
    revoked_at: Time | None


class NewKeyView(KeyView, frozen=True, kw_only=True):
    """A key that was just made."""

    key: Annotated[str, Meta(description="Shown this once, kept nowhere: store it now")]


class KeyList(Struct, frozen=True, kw_only=True):
    """Every key there was, oldest first."""

    keys: list[KeyView]
    count: int
    next_cursor: None = None


class AuditView(Struct, frozen=True, kw_only=True):
    """Something that an operator did, or that happened to keys."""

    position: Annotated[int, Meta(description="Of the command in the journal that says so, which the hash chain covers")]
    time: Time
    actor: Annotated[str, Meta(description='The id of the key that was used; "operator" for API_KEY, "" for none')]
    action: str
    subject: str
    detail: dict[str, Any]


class AuditList(Struct, frozen=True, kw_only=True):
    """Entries of the audit trail, newest first."""

    entries: list[AuditView]
    count: int
    next_cursor: str | None


class ErrorView(Struct, frozen=True, kw_only=True):
    """An answer that was an error."""

    time: Time
    code: str
    status: int
    method: str
    route: str
    request_id: str


class ErrorList(Struct, frozen=True, kw_only=True):
    """How many errors of each code were answered since the start, and the last ones, newest first."""

    counts: dict[str, int]
    errors: list[ErrorView]
    count: int


def _read_scopes(raw: Raw) -> Access:
    try:
        return max(_SCOPES[name] for name in msgspec.json.decode(raw, type=list[str]))
    except (msgspec.MsgspecError, KeyError, ValueError):
        raise ValueError(f"must be a list of {', '.join(_SCOPES)}, at least one") from None


def _no_rules(_values: object, _given: object) -> list[FieldError]:
    return []


KEY_FORM: Final = Form(
    {"user_id": read_user_id, "scopes": _read_scopes, "expires_at": read_moment}, ("user_id", "scopes"), _no_rules
)
ROTATION_FORM: Final = Form(
    {"overlap_seconds": read_whole(0, MAX_OVERLAP_S, f"must be a whole number of seconds from 0 to {MAX_OVERLAP_S}")},
    (),
    _no_rules,
)


def read_key(body: bytes) -> tuple[str, Access, int | None]:
    """User, scope and end of a key to be made; raises Problem."""
    values = read_body(body, KEY_FORM)
    return values["user_id"], values["scopes"], values.get("expires_at")


def read_rotation(body: bytes) -> int:
    """The overlap in seconds; raises Problem."""
    overlap: int = read_body(body, ROTATION_FORM).get("overlap_seconds", DAY_S)
    return overlap


def key_view(record: KeyRecord, now_us: int) -> KeyView:
    """A key as it is shown."""
    return KeyView(**_fields(record, now_us))


def new_key_view(record: KeyRecord, key: str, now_us: int) -> NewKeyView:
    """A new key as it is shown, once."""
    return NewKeyView(**_fields(record, now_us), key=key)


def _fields(record: KeyRecord, now_us: int) -> dict[str, Any]:
    status = "REVOKED" if record.revoked_at is not None else "ACTIVE" if record.is_good(now_us) else "EXPIRED"
    return {
        "key_id": record.key_id,
        "user_id": record.user_id,
        "scopes": record.scopes,
        "status": status,
        "created_at": format_time(record.created_at),
        "expires_at": _time(record.expires_at),
        "revoked_at": _time(record.revoked_at),
    }


def audit_view(entry: AuditEntry) -> AuditView:
    """An entry as it is shown: times in words, without digests."""
    detail = {name: value for name, value in msgspec.json.decode(entry.detail).items() if name not in _SECRETS}
    return AuditView(
        position=entry.position,
        time=format_time(entry.time),
        actor=entry.actor,
        action=entry.action,
        subject=entry.subject,
        detail={name: _worded(name, value) for name, value in detail.items()},
    )


def _worded(name: str, value: Any) -> Any:
    if name == "access":
        return Access(value).scope
    return format_time(value) if name in {"at", "expires_at"} and isinstance(value, int) else value


def _time(moment: int | None) -> str | None:
    return None if moment is None else format_time(moment)
