"""A NATS server in memory, as `NatsConnection` shows it: messages arrive in order, when the event loop comes to it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

from ome.cluster.connection import NatsConnection, Told, Unheard


class FakeNats:
    """Connections of one server; `lose` drops what is sent to a subject that begins so."""

    def __init__(self) -> None:
        self.is_connected = True
        self.sent: list[tuple[str, bytes, str]] = []
        self.lose = ""
        self.holds = False
        self._hearers: list[tuple[str, Told]] = []
        self._answers: dict[str, Callable[[bytes], bytes]] = {}

    def connection(self) -> NatsConnection:
        """A connection of its."""
        return cast("NatsConnection", self)

    def send(self, subject: str, data: bytes, reply: str = "", message_id: str = "") -> bool:
        """See NatsConnection."""
        del message_id
        if not self.is_connected:
            return False
        self.sent.append((subject, data, reply))
        if self.lose and subject.startswith(self.lose):
            return True
        told = [told for pattern, told in self._hearers if _matches(pattern, subject)]
        for each in told:
            asyncio.get_running_loop().call_soon(each, subject, data)
        if not told and reply:
            self.send(reply, b"")
        return True

    async def hear(self, subject: str, told: Told) -> Callable[[], Awaitable[None]]:
        """See NatsConnection."""
        entry = (subject, told)
        self._hearers.append(entry)

        async def stop() -> None:
            self._hearers.remove(entry)

        return stop

    async def answer(self, subject: str, made: Callable[[bytes], bytes]) -> Callable[[], Awaitable[None]]:
        """See NatsConnection."""
        self._answers[subject] = made

        async def stop() -> None:
            del self._answers[subject]

        return stop

    async def ask(self, subject: str, data: bytes, within_s: float) -> bytes:
        """See NatsConnection."""
        del within_s
        await asyncio.sleep(0)
        if subject not in self._answers or (self.lose and subject.startswith(self.lose)):
            raise Unheard(subject)
        return self._answers[subject](data)

    def of(self, prefix: str) -> list[Any]:
        """What was sent to subjects that begin so."""
        return [data for subject, data, _ in self.sent if subject.startswith(prefix)]


def _matches(pattern: str, subject: str) -> bool:
    wanted, given = pattern.split("."), subject.split(".")
    return len(wanted) == len(given) and all(one in {"*", other} for one, other in zip(wanted, given, strict=True))


async def settle() -> None:
    """Let everything that is under way come to its end."""
    for _ in range(20):
        await asyncio.sleep(0)
