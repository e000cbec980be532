"""What the HTTP edge can be told; every limit has its unit in its name."""

from __future__ import annotations

from msgspec import Struct


class RateSettings(Struct, frozen=True, kw_only=True):
    """How much a key, or an address without one, may ask a second; 0: no limit. Bursts: five seconds' worth."""

    orders_per_second: float = 100.0
    cancels_per_second: float = 500.0
    reads_per_second: float = 50.0
    failed_keys_per_second: float = 50.0
    trusted_proxies: tuple[str, ...] = ()
    """Networks of proxies whose X-Forwarded-For is believed."""


class ApiSettings(Struct, frozen=True, kw_only=True):
    """`api_key` empty: everybody is the operator. `private_reads`: orders are read with the key only."""

    api_key: str = ""
    private_reads: bool = False
    trusted_hosts: tuple[str, ...] = ()
    """Names that the service may be called by where there is no key, besides those that are local."""
    rates: RateSettings = RateSettings()
    max_body_bytes: int = 64 * 1024
    """Largest request body; a thousand times an order, and still read in one piece."""
    max_batch_bytes: int = 1024 * 1024
    """Largest body of POST /orders/batch: its thousand operations, each a kilobyte."""
    max_head_bytes: int = 16 * 1024
    """Largest path, query and headers together; browsers and proxies send a tenth of it."""
    retry_after_seconds: int = 1
    """What 503 answers advise: batches commit in milliseconds, so a queue that is full now has room a second later."""
    ping_timeout_seconds: float = 2.0
    """How long /health waits for the database before it says that there is none."""
    forwarding_seconds: float = 0.0
    """How long a command may be on its way from another process to its engine: so much older is a watermark than its question."""
    request_log_seconds: float = 0.25
    """How long request log lines and counts are collected before they are written in one go."""


class StreamSettings(Struct, frozen=True, kw_only=True):
    """Bounds of streams, for WebSockets and server-sent events alike."""

    max_connections: int = 11_000
    """Open streams; an idle one costs some twenty kilobytes."""
    max_subscriptions: int = 1000
    """Of one connection: more than anybody watches, and bounded."""
    max_in_flight: int = 1000
    """Orders of one connection that wait for their answers; beyond it the connection isn't read for a while."""
    messages_per_second: int = 1000
    """Messages that a connection may send where there is a key (bursts of a second's worth); without one there is no limit."""
    queue_messages: int = 16_384
    """How far a reader may be behind: eight full batches of the engine."""
    queue_bytes: int = 4 * 1024 * 1024
    """The same in bytes; one ring for all readers of a topic."""
    heartbeat_seconds: float = 30.0
    """How long a connection may be silent before it gets a heartbeat; one that hasn't been heard for two of these is pinged, and
    for four closed."""
    auth_seconds: float = 5.0
    """How long a connection may take to say its key or to subscribe, where there is a key."""
    max_order_bytes: int = 64 * 1024
    """Largest message that is no batch, as for bodies."""
    allowed_origins: tuple[str, ...] = ()
    """Origins of pages, besides the service's own, that may open WebSockets."""
    linger_seconds: float = 60.0
    """How long the recent messages of a topic are kept after its last reader has left."""
