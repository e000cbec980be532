"""What can be sent elsewhere, where a setting asks for it and its extra is installed; else nothing of it is even imported.

Errors go to whatever speaks Sentry's protocol (`SENTRY_DSN`, `ome[sentry]`): each log line of level ERROR or above, with its
fields and its traceback, without local variables, requests or users. Traces go to OpenTelemetry (`OTEL_TRACES`, `ome[otel]`; the
SDK's own `OTEL_*` variables say where to and how many): a span for each request and each batch. They are made afterwards, from
what was collected anyway, when request lines are written and batches are published: no order waits for them, and no context of
the client's is read. Both send from threads of their own.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any, Final

from ome.observability import RequestLine

FLUSH_SECONDS: Final = 2.0
"""How long stopping waits for what is still to be sent."""
_NS: Final = 1_000_000_000
_SENDERS: Final = ("sentry_sdk", "opentelemetry", "urllib3")
"""Loggers of those that send: that sending fails isn't sent."""


class ExtraMissing(Exception):
    """A setting asks for what isn't installed; the message says how to install it."""


class Errors(logging.Handler):
    """Sends log lines of level ERROR or above. `transport` takes the place of the SDK's own, in tests."""

    def __init__(self, dsn: str, transport: Any = None) -> None:
        super().__init__(logging.ERROR)
        try:
            import sentry_sdk  # noqa: PLC0415  an extra
        except ImportError:
            raise ExtraMissing("SENTRY_DSN needs the extra: pip install 'ome[sentry]'") from None
        self._sentry = sentry_sdk
        sentry_sdk.init(
            dsn=dsn,
            transport=transport,
            release=f"ome@{version('ome')}",
            default_integrations=False,
            include_local_variables=False,
            server_name="",
        )

    def emit(self, record: logging.LogRecord) -> None:
        """Send one, as far as it says what and where; whatever goes wrong with that is nobody else's trouble."""
        if record.name.startswith(_SENDERS):
            return
        try:
            fields = dict(record.msg) if isinstance(record.msg, dict) else {"event": record.getMessage()}
            error = fields.pop("exc_info", None) or (record.exc_info and record.exc_info[1])
            with self._sentry.new_scope() as scope:
                scope.set_tag("logger", record.name)
                scope.set_level("fatal" if record.levelno >= logging.CRITICAL else "error")
                scope.set_context("log", {name: str(value) for name, value in fields.items()})
                if isinstance(error, BaseException):
                    self._sentry.capture_exception(error)
                else:
                    self._sentry.capture_message(str(fields.get("event")))
        except Exception:  # noqa: BLE001  as every logging handler does
            self.handleError(record)

    def end(self) -> None:
        """Send what is left, for FLUSH_SECONDS at most."""
        _within(FLUSH_SECONDS, self._sentry.flush)


class Traces:
    """Makes spans. `exporter` takes the place of OTLP over HTTP, in tests."""

    def __init__(self, exporter: Any = None) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415  an extra
            from opentelemetry.sdk.resources import Resource  # noqa: PLC0415  likewise
            from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415  likewise
            from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415  likewise
            from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context  # noqa: PLC0415  likewise
        except ImportError:
            raise ExtraMissing("OTEL_TRACES needs the extra: pip install 'ome[otel]'") from None
        resource = Resource.create({"service.name": "ome", "service.version": version("ome")})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter or OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("ome")
        self._server, self._failed, self._inside = SpanKind.SERVER, Status(StatusCode.ERROR), set_span_in_context

    def answered(self, lines: Sequence[RequestLine]) -> None:
        """A span for each request: its route, status, id and code, never a path, a user or a key."""
        for line in lines:
            ended = int(line.moment * _NS)
            attributes: dict[str, str | int] = {
                "http.request.method": line.method,
                "http.route": line.route,
                "http.response.status_code": line.status,
                "ome.request_id": line.request_id,
            }
            if line.code:
                attributes["error.type"] = line.code
            span = self._tracer.start_span(
                f"{line.method} {line.route}",
                kind=self._server,
                start_time=ended - int(line.seconds * _NS),
                attributes=attributes,
            )
            if line.status >= 500:
                span.set_status(self._failed)
            span.end(ended)

    def batch_committed(
        self, commands: int, commit_seconds: float, queue_depth: int, wait_seconds: float, publish_seconds: float
    ) -> None:
        """A span for a batch, and one for each of its stages in it."""
        stages = [("wait", wait_seconds), ("commit", commit_seconds), ("publish", publish_seconds)]
        start = time.time_ns() - int(sum(seconds for _, seconds in stages) * _NS)
        attributes = {"ome.commands": commands, "ome.queue_depth": queue_depth}
        batch = self._tracer.start_span("batch", start_time=start, attributes=attributes)
        within = self._inside(batch)
        for name, seconds in stages:
            span = self._tracer.start_span(name, context=within, start_time=start)
            start += int(seconds * _NS)
            span.end(start)
        batch.end(start)

    def end(self) -> None:
        """Send what is left, for FLUSH_SECONDS at most."""
        _within(FLUSH_SECONDS, self._provider.shutdown)


def _within(seconds: float, work: Callable[[], object]) -> None:
    """Do it, but wait no longer for it: both SDKs try again and again where nobody listens, whatever they are told."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
