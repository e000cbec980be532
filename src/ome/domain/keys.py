"""API keys: what is kept of each, and how the audit trail tells it.

A key is `ome_<key id>_<secret>`: the id finds it, the secret is 256 random bits. Kept is its SHA-256 alone, which is enough for
something that nobody can guess; the key itself is shown once. Keys are made, revoked and given an end by entries of the audit
trail, which is part of the journal; all there is about keys is folded from these.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from hashlib import sha256
from typing import Final

import msgspec
from msgspec import Struct, structs

from ome.domain.access import Access
from ome.domain.records import AuditEntry

PREFIX: Final = "ome"
SECRET_BYTES: Final = 32
ID_BYTES: Final = 8
_START: Final = f"{PREFIX}_".encode()
KEY_MADE: Final = "key_made"
KEY_ENDS: Final = "key_ends"
KEY_REVOKED: Final = "key_revoked"
KEY_ACTIONS: Final = (KEY_MADE, KEY_ENDS, KEY_REVOKED)
"""The actions whose entries are about a key; its id is their subject."""


class KeyRecord(Struct, frozen=True):
    """What is known of a key; times are microseconds since 1970 UTC, None for never."""

    key_id: str
    user_id: str
    access: Access
    digest: str
    created_at: int
    expires_at: int | None = None
    revoked_at: int | None = None

    def is_good(self, now_us: int) -> bool:
        """Whether it opens anything now."""
        return self.revoked_at is None and (self.expires_at is None or now_us < self.expires_at)

    @property
    def scopes(self) -> list[str]:
        """What it gives, by name."""
        return [access.scope for access in Access if Access.PUBLIC < access <= self.access]


class KeyMade(Struct, frozen=True, omit_defaults=True):
    """The detail of KEY_MADE."""

    user_id: str
    access: Access
    digest: str
    at: int
    expires_at: int | None = None
    replaces: str | None = None


class KeyEnds(Struct, frozen=True):
    """The detail of KEY_ENDS and KEY_REVOKED: when."""

    at: int


def new_key() -> tuple[str, str]:
    """The id of a new key, and the key."""
    key_id = secrets.token_hex(ID_BYTES)
    return key_id, f"{PREFIX}_{key_id}_{secrets.token_urlsafe(SECRET_BYTES)}"


def digest_of(key: bytes) -> str:
    """What is kept of a key: 64 hex digits."""
    return sha256(key).hexdigest()


def key_id_in(key: bytes) -> str:
    """The id that a key names, "" where it names none."""
    begin, end = len(_START), len(_START) + 2 * ID_BYTES
    if not key.startswith(_START) or key.find(b"_", begin) != end:
        return ""
    return key[begin:end].decode("latin-1")


def fold_keys(entries: Iterable[AuditEntry]) -> dict[str, KeyRecord]:
    """Every key that there was, by its id, from the entries about keys, oldest first."""
    keys: dict[str, KeyRecord] = {}
    for entry in entries:
        key_id = entry.subject
        if entry.action == KEY_MADE:
            made = msgspec.json.decode(entry.detail, type=KeyMade)
            keys[key_id] = KeyRecord(key_id, made.user_id, made.access, made.digest, made.at, made.expires_at)
        elif key_id in keys:
            at = msgspec.json.decode(entry.detail, type=KeyEnds).at
            field = "expires_at" if entry.action == KEY_ENDS else "revoked_at"
            keys[key_id] = structs.replace(keys[key_id], **{field: at})
    return keys
