"""What the ordinary routes work with, in one place, and how they answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import msgspec
from fastapi import Request, Response
from msgspec import Struct

from ome.api.auth import Gate, Headers
from ome.api.keys import Keys
from ome.api.settings import ApiSettings
from ome.domain.ports import CommandBus, FundsEntry, MarketData, MarketFeed, OrderEntry, Past, ReadModels
from ome.observability import Metrics, RequestLog

_encoder: Final = msgspec.json.Encoder()

Durability = Callable[[], str]
Lineage = Callable[[], tuple[int, str]]
"""The engine's epoch and its history's incarnation: a position is the same one only where both are (HOLE12)."""
FULL: Final = "full"
"""What `Durability` answers where a commit survives a power cut; anything else is shown to whoever changes something (DUR1)."""


class DemoMarket(Protocol):
    """Simulated traders beside the service."""

    seed: int

    @property
    def is_running(self) -> bool:
        """Whether they are at work."""

    async def start(self, seed: int, api_key: str) -> None:
        """Let them begin, with this key, an operator's where there are keys."""

    async def stop(self) -> None:
        """Let them stop and cancel what they have open."""


class Ports(Struct, frozen=True, kw_only=True):
    """What is behind the edge."""

    entry: OrderEntry
    funds: FundsEntry
    reads: ReadModels
    market: MarketData
    past: Past
    feed: MarketFeed
    bus: CommandBus
    demo: DemoMarket | None = None
    shards: Sequence[ReadModels] = ()
    """The data of each shard, where the edge is a gateway's: a user's private events are told shard by shard."""


class Services(Struct, frozen=True, kw_only=True):
    """The ports, the settings and what watches over them."""

    entry: OrderEntry
    funds: FundsEntry
    reads: ReadModels
    market: MarketData
    past: Past
    bus: CommandBus
    settings: ApiSettings
    metrics: Metrics
    request_log: RequestLog
    gate: Gate
    keys: Keys
    durability: Durability
    lineage: Lineage
    demo: DemoMarket | None = None


class JsonAnswer(Response):
    """A Struct of `schemas`, rendered."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """The body's bytes."""
        return _encoder.encode(content)


def headers_of(request: Request) -> Headers:
    """The request's headers as `Gate` reads them."""
    return dict(request.scope["headers"])
