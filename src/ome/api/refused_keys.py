"""Keys that were refused, in the audit: one entry for all of a minute, whatever is tried, so that it can't fill the disk."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Final

import structlog

from ome.api.audit import Audit
from ome.domain.errors import OmeError

ACTION: Final = "keys_refused"
INTERVAL_S: Final = 60.0
MOST_ADDRESSES: Final = 20
"""Addresses that one entry names, those with the most refusals; the others are counted."""
_MOST_COUNTED: Final = 1000

log = structlog.get_logger(__name__)


class RefusedKeys:
    """Lives on the event loop."""

    def __init__(self, audit: Audit) -> None:
        self._audit = audit
        self._by_address: Counter[str] = Counter()
        self._total = 0
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Task[None] | None = None

    def note(self, address: str) -> None:
        """A key that came from there was refused."""
        self._total += 1
        if address in self._by_address or len(self._by_address) < _MOST_COUNTED:
            self._by_address[address] += 1
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(INTERVAL_S, self._ring)

    async def flush(self) -> None:
        """Write down what was counted. Where that can't be done it stays counted."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._total:
            return
        total, found = self._total, self._by_address
        self._total, self._by_address = 0, Counter()
        try:
            most = dict(found.most_common(MOST_ADDRESSES))
            await self._audit.write("", ACTION, "", {"count": total, "addresses": most, "more_addresses": len(found) - len(most)})
        except OmeError as error:
            log.warning("not_written_down", action=ACTION, count=total, error=str(error) or type(error).__name__)
            self._total += total
            self._by_address.update(found)

    def _ring(self) -> None:
        self._timer = None
        self._writing = asyncio.create_task(self.flush())
