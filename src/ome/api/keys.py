"""The keys that there are, in memory, and the way to make, end and revoke them: each by an entry of the audit trail.

A key is good as long as its record says so here, which a request or a message costs one look-up. Revoking takes effect here at
once, before it is durable, so that an answer that didn't come leaves the key closed. Keys that ended stay listed for ever, and
as long as there ever was one, nobody without a key sees orders.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from hmac import compare_digest
from typing import Final

import msgspec
from msgspec import Struct, structs

from ome.api.problems import Problem
from ome.domain.access import Access
from ome.domain.clock import MICROSECONDS, now_us
from ome.domain.commands import Administered
from ome.domain.keys import KEY_ENDS, KEY_MADE, KEY_REVOKED, KeyEnds, KeyMade, KeyRecord, digest_of, key_id_in, new_key
from ome.domain.ports import CommandBus
from ome.domain.reasons import Reason

_NOBODYS: Final = digest_of(b"")
"""What a key with an unknown id is compared with, so that it takes as long."""


class NewKey(Struct, frozen=True):
    """A key that was just made: shown once, `key` is kept nowhere."""

    record: KeyRecord
    key: str


class Keys:
    """Lives on the event loop. `revoked` is told of each key that has just been closed."""

    def __init__(self, bus: CommandBus, clock_us: Callable[[], int] = now_us) -> None:
        self._bus = bus
        self._clock_us = clock_us
        self._keys: dict[str, KeyRecord] = {}
        self._unwritten: set[str] = set()
        self.revoked: Callable[[str], None] = lambda _key_id: None

    @property
    def exist(self) -> bool:
        """Whether there ever was one."""
        return bool(self._keys)

    def load(self, keys: Iterable[KeyRecord]) -> None:
        """Take in what is stored."""
        self._keys = {key.key_id: key for key in keys}

    def follow(self, keys: Iterable[KeyRecord]) -> None:
        """Take in what other processes have made and closed since; what was closed here stays closed."""
        for key in keys:
            known = self._keys.get(key.key_id)
            if known is not None and known.revoked_at is not None:
                continue
            self._keys[key.key_id] = key
            if key.revoked_at is not None:
                self.revoked(key.key_id)

    def all(self) -> list[KeyRecord]:
        """Every key, oldest first."""
        return list(self._keys.values())

    def find(self, given: bytes, digest: str) -> KeyRecord | None:
        """The record of a key that is good now, found by what is kept of it (`digest_of`); None for any other. Compares in
        constant time, also where there is no such id.
        """
        known = self._keys.get(key_id_in(given))
        matches = compare_digest(digest, _NOBODYS if known is None else known.digest)
        return known if matches and known is not None and known.is_good(self._clock_us()) else None

    def is_good(self, key_id: str) -> bool:
        """Whether this key still opens anything."""
        known = self._keys.get(key_id)
        return known is not None and known.is_good(self._clock_us())

    async def make(
        self, actor: str, user_id: str, access: Access, expires_at: int | None = None, replaces: str | None = None
    ) -> NewKey:
        """Make a key. Raises what `CommandBus.send` raises; then there is none."""
        key_id, key = new_key()
        record = KeyRecord(key_id, user_id, access, digest_of(key.encode()), self._clock_us(), expires_at)
        detail = KeyMade(user_id, access, record.digest, record.created_at, expires_at, replaces)
        await self._write(actor, KEY_MADE, key_id, detail)
        self._keys[key_id] = record
        return NewKey(record, key)

    async def rotate(self, actor: str, key_id: str, overlap_s: int) -> NewKey:
        """Make another key like this one, which ends `overlap_s` seconds later, or when it would have ended anyway."""
        old = self._named(key_id)
        if not old.is_good(self._clock_us()):
            raise Problem(Reason.KEY_ENDED)
        new = await self.make(actor, old.user_id, old.access, old.expires_at, replaces=key_id)
        ends = self._clock_us() + overlap_s * MICROSECONDS
        if old.expires_at is None or ends < old.expires_at:
            await self._write(actor, KEY_ENDS, key_id, KeyEnds(ends))
            self._keys[key_id] = structs.replace(self._keys[key_id], expires_at=ends)
        return new

    async def revoke(self, actor: str, key_id: str) -> KeyRecord:
        """Close a key for ever, at once; one that is closed stays so. Where this raises, do it again until it is written down."""
        record = self._named(key_id)
        if record.revoked_at is None:
            record = self._keys[key_id] = structs.replace(record, revoked_at=self._clock_us())
            self._unwritten.add(key_id)
            self.revoked(key_id)
        if key_id in self._unwritten:
            await self._write(actor, KEY_REVOKED, key_id, KeyEnds(record.revoked_at or self._clock_us()))
            self._unwritten.discard(key_id)
        return record

    def _named(self, key_id: str) -> KeyRecord:
        found = self._keys.get(key_id)
        if found is None:
            raise Problem(Reason.KEY_NOT_FOUND)
        return found

    async def _write(self, actor: str, action: str, subject: str, detail: Struct) -> None:
        await self._bus.send(Administered(actor, action, subject, msgspec.json.encode(detail).decode()))
