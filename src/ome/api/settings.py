"""What the HTTP edge can be told; every limit has its unit in its name."""

from __future__ import annotations

from msgspec import Struct


class ApiSettings(Struct, frozen=True, kw_only=True):
    """`api_key` empty: everybody is the operator. `private_reads`: orders are read with the key only."""

    api_key: str = ""
    private_reads: bool = False
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
    request_log_seconds: float = 0.25
    """How long request log lines and counts are collected before they are written in one go."""
