"""Time as OME keeps it: integer microseconds since 1970 UTC. Only the runner reads a clock; the engine is told the time."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from typing import Final

MICROSECONDS: Final = 1_000_000
"""Microseconds in a second."""
LAST_MOMENT_US: Final = 253_402_300_799_999_999
"""The last microsecond of the year 9999, the end of RFC 3339."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_RFC3339: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:[Zz]|([+-])(\d\d):(\d\d))", re.ASCII
)


def now_us() -> int:
    """The wall clock, in microseconds since 1970 UTC."""
    return time.time_ns() // 1000


_last_second: tuple[int, str] = (0, "1970-01-01T00:00:00")


def format_time(moment_us: int) -> str:
    """RFC 3339 in UTC with microseconds: 2026-11-22T10:00:00.000000Z."""
    global _last_second  # noqa: PLW0603  neighbouring moments share their second, and the calendar is slow
    second, micro = divmod(moment_us, MICROSECONDS)
    known, text = _last_second
    if second != known:
        text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        _last_second = (second, text)
    return f"{text}.{micro:06d}Z"


def parse_time(text: str) -> int:
    """The moment that an RFC 3339 text names, in microseconds; digits beyond those are cut off. ValueError if it names none."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError("must be an RFC 3339 time with its zone, such as 2026-11-22T10:00:00Z")
    year, month, day, hour, minute, second, fraction, sign, zone_hour, zone_minute = match.groups()
    try:
        moment = datetime(int(year), int(month), int(day), int(hour), int(minute), int(second), tzinfo=UTC)
    except ValueError:
        raise ValueError("must be an RFC 3339 time that the calendar and the clock have") from None
    if sign:
        if int(zone_hour) > 23 or int(zone_minute) > 59:
            raise ValueError("has a zone that is no time of day")
        shift = timedelta(hours=int(zone_hour), minutes=int(zone_minute))
        try:
            moment = moment - shift if sign == "+" else moment + shift
        except OverflowError:
            raise ValueError("must be between the years 1970 and 9999") from None
    micro = int((fraction or "0")[:6].ljust(6, "0"))
    total = (moment - _EPOCH) // timedelta(microseconds=1) + micro
    if total < 0:
        raise ValueError("must be between the years 1970 and 9999")
    return total
