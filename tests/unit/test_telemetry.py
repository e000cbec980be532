"""What is sent elsewhere: errors by Sentry's protocol, traces by OpenTelemetry, and nothing that it shouldn't have."""

from __future__ import annotations

import builtins
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import sentry_sdk
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sentry_sdk.envelope import Envelope
from sentry_sdk.transport import Transport

from ome import telemetry
from ome.observability import Metrics, RequestLine
from ome.telemetry import Errors, ExtraMissing, Traces

DSN = "http://public@127.0.0.1:9/1"


class Kept(Transport):
    """Keeps what would have been sent."""

    envelopes: list[Envelope] = []  # noqa: RUF012  the SDK makes the instance itself

    def capture_envelope(self, envelope: Envelope) -> None:
        """Keep one."""
        self.envelopes.append(envelope)


@pytest.fixture
def errors() -> Iterator[logging.Logger]:
    """A logger whose errors are sent to Kept."""
    Kept.envelopes.clear()
    handler = Errors(DSN, Kept)
    logger = logging.getLogger("ome.tried")
    logger.addHandler(handler)
    yield logger
    logger.removeHandler(handler)
    handler.end()
    sentry_sdk.get_global_scope().set_client(None)


def sent() -> list[dict[str, Any]]:
    """The events that were."""
    return [dict(event) for envelope in Kept.envelopes if (event := envelope.get_event()) is not None]


def test_errors_are_sent_with_their_fields_and_their_traceback(errors: logging.Logger) -> None:
    """Of level ERROR or above, structlog's and the standard library's; no value of a local variable goes along."""
    secret = "sesame" * 2
    errors.warning("not sent")
    errors.error({"event": "cannot_start", "exit_status": 6})  # as structlog hands it over
    try:
        raise ValueError(len(secret))
    except ValueError:
        errors.critical("halted", exc_info=True)
    said, raised = sent()
    assert (said["message"], said["contexts"]["log"]["exit_status"], said["level"]) == ("cannot_start", "6", "error")
    assert (raised["exception"]["values"][0]["type"], raised["level"]) == ("ValueError", "fatal")
    assert raised["contexts"]["log"]["event"] == "halted"
    assert secret not in json.dumps(raised, default=str)
    assert all("vars" not in frame for frame in raised["exception"]["values"][0]["stacktrace"]["frames"])
    assert "user" not in raised


def test_requests_and_batches_become_spans() -> None:
    """By route and request id; each batch with its stages in it, in their times."""
    exporter = InMemorySpanExporter()
    metrics = Metrics()
    traces = metrics.spans = Traces(exporter)
    metrics.answered([RequestLine(1000.5, "POST", "/orders", 503, 0.25, "r-1", "overloaded", 10)])
    metrics.batch_committed(7, 0.5, 3, 0.25, 0.125)
    traces.end()
    request, wait, commit, publish, batch = exporter.get_finished_spans()
    assert (request.name, request.start_time, request.end_time) == ("POST /orders", 1_000_250_000_000, 1_000_500_000_000)
    assert request.attributes is not None
    assert (request.attributes["ome.request_id"], request.attributes["error.type"]) == ("r-1", "overloaded")
    assert not request.status.is_ok
    assert [span.name for span in (wait, commit, publish)] == ["wait", "commit", "publish"]
    assert all(span.parent == batch.context for span in (wait, commit, publish))
    assert (wait.start_time, publish.end_time) == (batch.start_time, batch.end_time)
    assert (commit.end_time or 0) - (commit.start_time or 0) == 500_000_000


def test_who_does_not_take_spans_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopping waits for a moment at most."""
    gate, asked = threading.Event(), threading.Event()

    class Stuck(InMemorySpanExporter):
        def export(self, spans: Any) -> Any:
            asked.set()
            gate.wait()
            return super().export(spans)

    monkeypatch.setattr(telemetry, "FLUSH_SECONDS", 0.01)
    traces = Traces(Stuck())
    traces.batch_committed(1, 0.1, 0, 0.1, 0.1)
    traces.end()
    assert asked.wait(10)
    assert not gate.is_set()
    gate.set()


@pytest.mark.parametrize(("make", "extra"), [(lambda: Errors(DSN), "ome[sentry]"), (Traces, "ome[otel]")])
def test_an_extra_that_is_missing_is_named(make: Any, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And how to install it."""
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith(("sentry_sdk", "opentelemetry")):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ExtraMissing) as raised:
        make()
    assert extra in str(raised.value)


def test_nothing_of_them_is_imported_before_it_is_asked_for() -> None:
    """A service without the settings costs nothing of it."""
    code = (
        "import sys, ome.bootstrap\n"
        "print([name for name in sys.modules if name.startswith(('sentry_sdk', 'opentelemetry.sdk', 'opentelemetry.exporter'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
