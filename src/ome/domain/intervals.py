"""What candles there are: every interval, by the name that clients give it."""

from __future__ import annotations

from typing import Final

INTERVALS: Final[dict[str, int]] = {"1s": 1, "1m": 60, "5m": 300, "15m": 900, "1h": 3600, "4h": 14_400, "1d": 86_400}
"""With their length in seconds, shortest first; each but the first is a multiple of the one before."""
