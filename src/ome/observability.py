"""What operators see: Prometheus metrics, logs, and one log line per request.

`Metrics` has a registry of its own, so that two services in one process don't count into each other. It implements the
`EngineMetrics` and `EventListener` ports. Requests are collected by `RequestLog` and counted and written in batches: on the
hot path a request costs one append. No label and no log line holds a user id, a body, a path or a key.

Logs go to standard output through structlog, those of the standard library and of uvicorn included: JSON, or for people
where the output is a terminal. `LOG_FORMAT` (json, console, auto) and `LOG_LEVEL` decide.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections import Counter as Tally
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple, Protocol, TextIO

import msgspec
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from ome.domain.build import CORE
from ome.domain.enums import OrderStatus, OrderType
from ome.domain.events import (
    Event,
    OrderAccepted,
    OrderCancelled,
    OrderExpired,
    OrderFilled,
    OrderRejected,
    OrderTriggered,
    Traded,
)
from ome.domain.numbers import unpack

METRICS_CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
STATES: Final = ("STARTING", "RECOVERING", "RUNNING", "STALLED", "DRAINING", "HALTED")
MAX_LINES: Final = 10_000
"""Request lines that wait to be written; at more, they are written at once."""

_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_BATCHES: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)


_OUTCOMES: Final[Mapping[type, str]] = {
    OrderAccepted: "accepted",
    OrderFilled: "filled",
    OrderCancelled: "cancelled",
    OrderExpired: "expired",
    OrderRejected: "rejected",
}


class RequestLine(msgspec.Struct, frozen=True, gc=False):
    """One answered request. `route` is the route's template, `code` the problem's or "", `size` the body's bytes."""

    moment: float
    method: str
    route: str
    status: int
    seconds: float
    request_id: str
    code: str
    size: int


class Figures(NamedTuple):
    """What is counted only when somebody asks for metrics: it costs orders nothing.

    `open_orders` has waiting stops too; `price_levels` and `instruments` are those of all books; `subscriptions` are by channel;
    `stream_lag` is how many messages the slowest reader is behind.
    """

    open_orders: int = 0
    price_levels: int = 0
    instruments: int = 0
    subscriptions: Mapping[str, int] = MappingProxyType({})
    stream_lag: int = 0


class Spans(Protocol):
    """Whoever makes traces of what is counted (`ome.telemetry`)."""

    def answered(self, lines: Sequence[RequestLine]) -> None:
        """Requests were answered."""

    def batch_committed(
        self, commands: int, commit_seconds: float, queue_depth: int, wait_seconds: float, publish_seconds: float
    ) -> None:
        """A batch is durable and published."""


class Metrics:
    """Counters, gauges and histograms, all named ome_*; rendered by `render`. `figures` is asked then, where it is set.

    An order that ends by a fill as maker counts as LIMIT, but for stops that have fired since the start: events tell no more.
    """

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self._orders = Counter("ome_orders", "Orders by type and outcome", ["type", "outcome"], registry=registry)
        self._trades = Counter("ome_trades", "Trades", registry=registry)
        self._refusals = Counter("ome_refusals", "Refused requests by code", ["code"], registry=registry)
        self._queue_depth = Gauge("ome_queue_depth", "Commands that waited when the last batch was committed", registry=registry)
        self._queue_peak = Gauge(
            "ome_queue_peak", "Most that waited at any batch since metrics were last asked for", registry=registry
        )
        self._batch_size = Histogram("ome_batch_commands", "Commands in a batch", buckets=_BATCHES, registry=registry)
        self._commit_seconds = Histogram("ome_commit_seconds", "How long a commit took", buckets=_SECONDS, registry=registry)
        self._wait_seconds = Histogram(
            "ome_batch_wait_seconds",
            "From the arrival of a batch's first command until its commit began: queue and matching",
            buckets=_SECONDS,
            registry=registry,
        )
        self._publish_seconds = Histogram(
            "ome_publish_seconds", "How long the views took to take in a batch", buckets=_SECONDS, registry=registry
        )
        self._requests = Counter("ome_http_requests", "Answers", ["route", "method", "status"], registry=registry)
        self._request_seconds = Histogram(
            "ome_http_request_seconds", "How long an answer took", ["route", "method"], buckets=_SECONDS, registry=registry
        )
        self._connections = Gauge("ome_connections", "Open connections, WebSockets not counted", registry=registry)
        self._turned_away = Counter(
            "ome_connection_refusals", "Requests and connections refused before they were worked on", ["code"], registry=registry
        )
        self._state = Gauge("ome_engine_state", "1 for the state that the engine is in", ["state"], registry=registry)
        self._wal_bytes = Gauge("ome_wal_bytes", "Size of an SQLite database's write-ahead log", registry=registry)
        self._disk_free_bytes = Gauge("ome_disk_free_bytes", "Free on an SQLite database's disk", registry=registry)
        self._position = Gauge("ome_engine_position", "The last committed position", registry=registry)
        self._waiting = Gauge("ome_commands_waiting", "Commands taken that aren't durable yet", registry=registry)
        self._streams = Gauge("ome_streams", "Open WebSockets and event streams", registry=registry)
        self._streams_closed = Counter(
            "ome_streams_closed", "Streams that have ended, by the close code from this side", ["code"], registry=registry
        )
        self._open_orders = Gauge("ome_open_orders", "Open orders, waiting stops too", registry=registry)
        self._price_levels = Gauge("ome_price_levels", "Price levels of all books", registry=registry)
        self._instruments = Gauge("ome_instruments", "Listed symbols", registry=registry)
        self._subscriptions = Gauge("ome_subscriptions", "Subscriptions that are open", ["channel"], registry=registry)
        self._stream_lag = Gauge("ome_stream_lag_messages", "Messages that the slowest reader is behind", registry=registry)
        self._gaps, self._mended = _of_gaps(registry)
        self._replica_reads = Counter("ome_replica_reads", "Questions that the read replica has answered", registry=registry)
        self._replica_fallbacks = Counter(
            "ome_replica_fallbacks",
            "Questions about the past put to the primary, by what was wrong with the read replica: behind, away, other, primary",
            ["cause"],
            registry=registry,
        )
        self._replica_lag = Gauge(
            "ome_replica_lag_seconds",
            "For how long the read replica has lacked something that the primary had",
            registry=registry,
        )
        self._peak = 0
        self._fired: dict[int, OrderType] = {}
        """The types of stops that have fired and rest."""
        self.spans: Spans | None = None
        """Told of requests and batches, too, where traces are asked for."""
        self.figures: Callable[[], Figures] | None = None
        Gauge("ome_build_info", "Always 1", ["version", "core"], registry=registry).labels(version("ome"), CORE).set(1)
        self.state_changed("STARTING")

    # EngineMetrics

    def batch_committed(
        self, commands: int, commit_seconds: float, queue_depth: int, wait_seconds: float, publish_seconds: float
    ) -> None:
        """A batch is durable and published."""
        self._batch_size.observe(commands)
        self._wait_seconds.observe(wait_seconds)
        self._commit_seconds.observe(commit_seconds)
        self._publish_seconds.observe(publish_seconds)
        self._queue_depth.set(queue_depth)
        self._peak = max(self._peak, queue_depth)
        if self.spans is not None:
            self.spans.batch_committed(commands, commit_seconds, queue_depth, wait_seconds, publish_seconds)

    def disk_measured(self, wal_bytes: int, free_bytes: int) -> None:
        """How long an SQLite database's WAL is and how much of its disk is free."""
        self._wal_bytes.set(wal_bytes)
        self._disk_free_bytes.set(free_bytes)

    def state_changed(self, state: str) -> None:
        """The engine's state is now another."""
        for name in STATES:
            self._state.labels(name).set(name == state)

    # ConnectionMetrics

    def connections_open(self, count: int) -> None:
        """So many are connected."""
        self._connections.set(count)

    def connection_refused(self, code: str, count: int) -> None:
        """So many were refused by the server itself; a line for all of them."""
        self._turned_away.labels(code).inc(count)
        logging.getLogger("ome.connections").warning("refused", extra={"code": code, "count": count})

    # ReplicaMetrics

    def replica_read(self) -> None:
        """The read replica has answered a question."""
        self._replica_reads.inc()

    def replica_fell_back(self, cause: str) -> None:
        """A question that was meant for the read replica was put to the primary."""
        self._replica_fallbacks.labels(cause).inc()

    def replica_lag(self, seconds: float) -> None:
        """For so long the read replica has lacked something."""
        self._replica_lag.set(seconds)

    # GapMetrics

    def market_data_gap(self) -> None:
        """See cluster.follower.GapMetrics."""
        self._gaps.inc()

    def market_data_mended(self, by: str) -> None:
        """See cluster.follower.GapMetrics."""
        self._mended.labels(by).inc()

    # EventListener

    def committed(self, events: Sequence[Event]) -> None:
        """Count the orders and trades of one batch."""
        outcomes: Tally[tuple[OrderType, str]] = Tally()
        trades, fired = 0, self._fired
        event: Any
        for event in events:
            kind = type(event)
            if kind is Traded:
                trades += 1
                if not unpack(event.maker_remaining)[0]:  # only LIMIT orders rest, and stops that have fired
                    maker = fired.pop(event.trade.maker_order_id, OrderType.LIMIT) if fired else OrderType.LIMIT
                    outcomes[maker, "filled"] += 1
            elif kind in _OUTCOMES:
                if kind is not OrderFilled or event.order.status is OrderStatus.FILLED:
                    outcomes[event.order.type, _OUTCOMES[kind]] += 1
                    fired.pop(event.order.id, None)
            elif kind is OrderTriggered:
                fired[event.order.id] = event.order.type
        for (order_type, outcome), count in outcomes.items():
            self._orders.labels(order_type.name, outcome).inc(count)
        self._trades.inc(trades)

    # Streams

    def streams_open(self, count: int) -> None:
        """So many are open now."""
        self._streams.set(count)

    def stream_closed(self, code: int | None) -> None:
        """One has ended; None where its client left."""
        self._streams_closed.labels("client" if code is None else str(code)).inc()

    # Requests and reading

    def answered(self, lines: Sequence[RequestLine]) -> None:
        """Count a batch of answered requests."""
        if self.spans is not None:
            self.spans.answered(lines)
        for (route, method, status), count in Tally((line.route, line.method, line.status) for line in lines).items():
            self._requests.labels(route, method, str(status)).inc(count)
        for code, count in Tally(line.code for line in lines if line.code).items():
            self._refusals.labels(code).inc(count)
        timings: dict[tuple[str, str], list[float]] = {}
        for line in lines:
            timings.setdefault((line.route, line.method), []).append(line.seconds)
        for (route, method), seconds in timings.items():
            observe = self._request_seconds.labels(route, method).observe
            for duration in seconds:
                observe(duration)

    def render(self, position: int, waiting: int = 0) -> bytes:
        """Everything, in Prometheus' text format; `position` is the engine's last committed one, `waiting` how many commands
        aren't durable yet.
        """
        self._position.set(position)
        self._waiting.set(waiting)
        self._queue_peak.set(max(self._peak, waiting))
        self._peak = 0
        if self.figures is not None:
            figures = self.figures()
            self._open_orders.set(figures.open_orders)
            self._price_levels.set(figures.price_levels)
            self._instruments.set(figures.instruments)
            self._stream_lag.set(figures.stream_lag)
            self._subscriptions.clear()
            for channel, count in figures.subscriptions.items():
                self._subscriptions.labels(channel).set(count)
        return generate_latest(_WithoutCreated(self.registry))


class _WithoutCreated(Collector):
    """A registry's metrics without the `_created` sample of each series, which would double what is stored of them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        """The metrics; each is made for this call, so that it can be changed."""
        for metric in self._registry.collect():
            metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
            yield metric


KEPT_ERRORS: Final = 100
"""How many answers that were errors are remembered one by one."""


class RequestLog:
    """Collects a line per answered request; counts and logs them together, every `interval_seconds` and when told to."""

    def __init__(self, metrics: Metrics, interval_seconds: float) -> None:
        self._metrics = metrics
        self._interval_seconds = interval_seconds
        self._lines: list[RequestLine] = []
        self._timer: asyncio.TimerHandle | None = None
        self._logger = logging.getLogger("ome.requests")
        self._error_counts: Tally[str] = Tally()
        self._last_errors: deque[RequestLine] = deque(maxlen=KEPT_ERRORS)

    def errors(self) -> tuple[dict[str, int], list[RequestLine]]:
        """How many answers there were of each code since the start, and the last ones, newest first."""
        self.flush()
        return dict(self._error_counts.most_common()), list(reversed(self._last_errors))

    def add(self, method: str, route: str, status: int, started: float, request_id: str, code: str, size: int) -> None:
        """An answer was sent; `started` is `time.perf_counter()` of when its request arrived. Called on the event loop."""
        lines = self._lines
        lines.append(RequestLine(time.time(), method, route, status, time.perf_counter() - started, request_id, code, size))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._interval_seconds, self.flush)
        elif len(lines) >= MAX_LINES:
            self.flush()

    def flush(self) -> None:
        """Count and write what was collected."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lines, self._lines = self._lines, []
        if not lines:
            return
        self._metrics.answered(lines)
        for line in lines:
            if line.code:
                self._error_counts[line.code] += 1
                self._last_errors.append(line)
        if self._logger.isEnabledFor(logging.INFO):
            self._logger.info("requests", extra={"request_lines": lines})


# Logging

LogFormat = Literal["json", "console", "auto"]


def configure_logging(
    level: str = "INFO", log_format: LogFormat = "auto", stream: TextIO | None = None, *, process: str = ""
) -> None:
    """Send every log line of this process through one formatter to `stream` (standard output); to be called once, at start.

    Where a cluster's processes write to one place, `process` is what this one is called: each of its lines says it, and the id.
    """
    stream = stream or sys.stdout
    as_json = log_format == "json" or (log_format == "auto" and not stream.isatty())
    whose = {"process": process, "pid": os.getpid()} if process else {}

    def signed(_logger: object, _name: str, fields: structlog.typing.EventDict) -> structlog.typing.EventDict:
        fields.update(whose)
        return fields

    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        signed,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_Formatter(shared, whose, as_json=as_json))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in ("uvicorn", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    logging.getLogger("alembic.runtime.plugins").setLevel(logging.WARNING)  # it says of each that it is there
    logging.getLogger("uvicorn.access").disabled = True  # the request log says it, once


def _without_colours(_logger: object, _name: str, fields: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """What uvicorn says a second time, for terminals with colours."""
    fields.pop("color_message", None)
    return fields


class _Formatter(structlog.stdlib.ProcessorFormatter):
    """structlog's, which also writes a batch of request lines as one record."""

    def __init__(self, shared: list[structlog.typing.Processor], whose: Mapping[str, object], *, as_json: bool) -> None:
        last: list[structlog.typing.Processor] = (
            [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
            if as_json
            else [structlog.dev.ConsoleRenderer(colors=False)]
        )
        super().__init__(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder(), _without_colours],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
        self._line = partial(_json_line if as_json else _console_line, whose)

    def format(self, record: logging.LogRecord) -> str:
        lines: Sequence[RequestLine] | None = getattr(record, "request_lines", None)
        return super().format(record) if lines is None else "\n".join(map(self._line, lines))


_encoder: Final = msgspec.json.Encoder()


def _json_line(whose: Mapping[str, object], line: RequestLine) -> str:
    return _encoder.encode(
        {
            "event": "request",
            "method": line.method,
            "route": line.route,
            "status": line.status,
            "ms": round(line.seconds * 1000, 3),
            "request_id": line.request_id,
            "code": line.code,
            "bytes": line.size,
            "level": "info",
            "logger": "ome.requests",
            "timestamp": datetime.fromtimestamp(line.moment, UTC),
            **whose,
        }
    ).decode()


def _console_line(whose: Mapping[str, object], line: RequestLine) -> str:
    moment = datetime.fromtimestamp(line.moment, UTC).isoformat(timespec="milliseconds")
    words = f"{moment} {line.method} {line.route} {line.status} {line.seconds * 1000:.3f} ms {line.size} bytes {line.request_id}"
    signature = " ".join(f"{name}={value}" for name, value in whose.items())
    return " ".join(filter(None, (words, line.code, signature)))


def _of_gaps(registry: CollectorRegistry) -> tuple[Counter, Counter]:
    """What a gateway counts of what it has missed, and by what that was made up for."""
    return (
        Counter("ome_market_data_gaps", "Times that a gateway missed something that an engine told", registry=registry),
        Counter(
            "ome_market_data_mended",
            "Times that a gateway made up for it: from the log, which nobody notices, or from the books, for which streams end",
            ["by"],
            registry=registry,
        ),
    )
