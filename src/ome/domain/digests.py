"""64-bit digests of records: what the state hash is the sum of (HOLE17).

A digest is made of a record's MessagePack form, an array of its fields: whoever has those bytes needs no record.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

from msgspec import msgpack

DIGEST_BYTES: Final = 8

encode: Final = msgpack.Encoder().encode
"""The bytes that a record's digest is made of."""
_number = int.from_bytes


def digest(record: object) -> int:
    """64 bits over everything in a record."""
    return _number(blake2b(encode(record), digest_size=DIGEST_BYTES).digest())


def digest_of_bytes(encoded: bytes) -> bytes:
    """The digest of a record that is encoded already, as bytes, the highest first."""
    return blake2b(encoded, digest_size=DIGEST_BYTES).digest()
