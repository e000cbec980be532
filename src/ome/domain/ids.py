"""Order and trade ids: 64-bit integers, digits in a string for clients, with the shard in them from the start.

`id = shard * 10**15 + number`. An order's number is the position of the command that submitted it; a trade's is the count of
trades of its shard. Both come from the sequence, so that a replay makes the same ones and none ever repeats (M3, M6).
"""

from typing import Final

SHARD_STEP: Final = 10**15
MAX_ID: Final = 2**63 - 1
_MAX_DIGITS: Final = 19


def make_id(shard: int, number: int) -> int:
    """The id of the order or trade with this number in this shard."""
    return shard * SHARD_STEP + number


def parse_id(text: str) -> int | None:
    """The id that a client wrote, or None where it can't be one: then nothing has it."""
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS):
        return None
    value = int(text)
    return value if 0 < value <= MAX_ID and str(value) == text else None
