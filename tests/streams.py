"""Help for tests of streams: a socket in memory, frames back into messages, and a book that follows the depth channel."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from zlib import crc32

import msgspec
from websockets.frames import Opcode

Message = dict[str, Any]


class FakeSocket:
    """A connection that takes everything, or, while `is_paused`, nothing; `closed` is (code, reason) once it is."""

    def __init__(self) -> None:
        self.is_paused = False
        self.data = b""
        self.writes = 0
        self.closed: tuple[int, str] | None = None

    def write(self, data: bytes) -> None:
        """Take bytes."""
        assert self.closed is None
        self.data += data
        self.writes += 1

    def close(self, code: int, reason: str) -> None:
        """Take the end."""
        self.closed = (code, reason)

    def read(self) -> list[Message]:
        """The messages that were written since the last call."""
        data, self.data = self.data, b""
        return messages(data)


def messages(data: bytes) -> list[Message]:
    """The JSON of whole text frames; pings are passed over, and a frame that is cut off at the end."""
    found, at = [], 0
    while at + 2 <= len(data):
        opcode, size, start = data[at] & 0xF, data[at + 1], at + 2
        assert data[at] & 0x80
        if size >= 126:
            start = at + (4 if size == 126 else 10)
            size = int.from_bytes(data[at + 2 : start], "big")
        at = start + size
        if opcode == Opcode.TEXT and at <= len(data):
            found.append(msgspec.json.decode(data[start:at]))
    return found


class Book:
    """A client's book of one symbol, by the documented procedure: snapshot, then updates; it checks links and checksums."""

    def __init__(self) -> None:
        self.sequence: int | None = None
        self.bids: dict[Decimal, tuple[str, str]] = {}
        self.asks: dict[Decimal, tuple[str, str]] = {}

    def take(self, message: Message) -> None:
        """Take in a message of the channel `depth`."""
        if message["type"] == "snapshot":
            self.bids, self.asks = {}, {}
        else:
            assert self.sequence is not None
            if message["sequence"] <= self.sequence:
                return
            assert message["previous_sequence"] <= self.sequence, "an update is missing"
        for side, levels in ((self.bids, message["bids"]), (self.asks, message["asks"])):
            for level in levels:
                if level["quantity"] == "0":
                    side.pop(Decimal(level["price"]), None)
                else:
                    side[Decimal(level["price"])] = (level["price"], level["quantity"])
        self.sequence = message["sequence"]
        assert message["checksum"] == self.checksum()

    def levels(self) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        """(price, quantity) of the bids and of the asks, best first."""
        bids = [self.bids[price] for price in sorted(self.bids, reverse=True)]
        return bids, [self.asks[price] for price in sorted(self.asks)]

    def checksum(self) -> int:
        """As docs/streams.md defines it."""
        bids, asks = self.levels()
        return crc32("".join(f"{price}:{quantity};" for price, quantity in bids[:10] + asks[:10]).encode())
