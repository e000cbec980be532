"""Metrics, logs and the request log."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog
from starlette.types import Message

from fakes import NOW, MakeApp, client_of, order_record
from ome.domain.enums import OrderStatus, OrderType, Side
from ome.domain.events import (
    CommandRefused,
    OrderAccepted,
    OrderCancelled,
    OrderExpired,
    OrderFilled,
    OrderRejected,
    OrderTriggered,
    Traded,
)
from ome.domain.reasons import Reason
from ome.domain.records import TradeRecord
from ome.observability import MAX_LINES, Figures, Metrics, RequestLog, configure_logging


@pytest.fixture
def logs() -> Iterator[io.StringIO]:
    """Where JSON logs go; logging is as it was afterwards."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    stream = io.StringIO()
    configure_logging("info", "json", stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("uvicorn.access").disabled = False
    structlog.reset_defaults()


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    """A sample's value; None if there is none."""
    return metrics.registry.get_sample_value(name, labels)


def test_orders_and_trades_are_counted_from_events(metrics: Metrics) -> None:
    """By type and outcome: accepted, filled (makers too), cancelled, expired, rejected."""
    market = order_record(type=OrderType.MARKET, status=OrderStatus.FILLED)
    trade = TradeRecord(1, "A", 10, 10, 1, 2, Side.BUY, NOW, 1, 1)
    metrics.committed(
        [
            OrderAccepted(market),
            Traded(trade, "a", "b", 10, 0),
            Traded(trade, "a", "b", 10, 20),
            OrderFilled(market),
            OrderFilled(order_record(status=OrderStatus.PARTIALLY_FILLED)),
            OrderCancelled(order_record()),
            OrderExpired(order_record()),
            OrderRejected(order_record()),
            CommandRefused(1, Reason.ORDER_NOT_FOUND),
        ]
    )
    assert value(metrics, "ome_trades_total") == 2
    assert value(metrics, "ome_orders_total", type="MARKET", outcome="accepted") == 1
    assert value(metrics, "ome_orders_total", type="MARKET", outcome="filled") == 1
    for outcome in ("filled", "cancelled", "expired", "rejected"):
        assert value(metrics, "ome_orders_total", type="LIMIT", outcome=outcome) == 1


def test_batches_and_states_are_shown(metrics: Metrics) -> None:
    """Sizes and seconds as histograms, depth and state as gauges; one state is 1."""
    metrics.batch_committed(7, 0.003, 42, 0.02, 0.0001)
    metrics.batch_committed(1, 0.003, 9, 0.02, 0.0001)
    metrics.state_changed("RUNNING")
    assert value(metrics, "ome_batch_commands_sum") == 8
    assert value(metrics, "ome_commit_seconds_bucket", le="0.005") == 2
    assert value(metrics, "ome_batch_wait_seconds_bucket", le="0.01") == 0
    assert value(metrics, "ome_publish_seconds_bucket", le="0.0005") == 2
    assert value(metrics, "ome_queue_depth") == 9
    assert value(metrics, "ome_engine_state", state="RUNNING") == 1
    assert value(metrics, "ome_engine_state", state="STARTING") == 0
    assert b"ome_engine_position 9.0" in metrics.render(9)
    assert value(metrics, "ome_queue_peak") == 42
    metrics.render(9, waiting=3)
    assert value(metrics, "ome_queue_peak") == 3


def test_figures_are_asked_for_when_somebody_looks(metrics: Metrics) -> None:
    """Size of the books, subscriptions and the slowest reader; a channel that nobody hears any more is gone."""
    figures = iter([Figures(5, 4, 3, {"depth": 2}, 7), Figures(6, 4, 3, {"trades": 1}, 0)])
    metrics.figures = lambda: next(figures)
    metrics.render(1)
    assert [value(metrics, f"ome_{name}") for name in ("open_orders", "price_levels", "instruments")] == [5, 4, 3]
    assert value(metrics, "ome_subscriptions", channel="depth") == 2
    assert value(metrics, "ome_stream_lag_messages") == 7
    metrics.render(1)
    assert value(metrics, "ome_subscriptions", channel="depth") is None
    assert value(metrics, "ome_subscriptions", channel="trades") == 1


def test_a_stop_that_has_fired_counts_by_its_own_type(metrics: Metrics) -> None:
    """Also where a maker's fill ends it; one that was cancelled is forgotten."""
    for number in (1, 2):
        metrics.committed([OrderTriggered(order_record(id=number, type=OrderType.STOP_LIMIT))])
    metrics.committed([OrderCancelled(order_record(id=2, type=OrderType.STOP_LIMIT))])
    metrics.committed([Traded(TradeRecord(1, "A", 10, 10, 3, number, Side.BUY, NOW, 1, 1), "a", "b", 10, 0) for number in (1, 2)])
    assert value(metrics, "ome_orders_total", type="STOP_LIMIT", outcome="filled") == 1
    assert value(metrics, "ome_orders_total", type="STOP_LIMIT", outcome="cancelled") == 1
    assert value(metrics, "ome_orders_total", type="LIMIT", outcome="filled") == 1


def test_two_services_count_apart(metrics: Metrics) -> None:
    """No global registry."""
    Metrics().batch_committed(1, 0.1, 5, 0.0, 0.0)
    assert value(metrics, "ome_queue_depth") == 0


def test_no_series_tells_when_it_was_made(metrics: Metrics) -> None:
    """`_created` samples would double every counter and histogram; all others are there."""
    metrics.batch_committed(1, 0.1, 5, 0.0, 0.0)
    text = metrics.render(1).decode()
    assert "_created" not in text
    assert "ome_commit_seconds_sum 0.1" in text
    assert "ome_trades_total 0.0" in text


async def test_requests_are_counted_by_route_and_code(make_app: MakeApp, metrics: Metrics) -> None:
    """Hot and ordinary alike, by the route's template: a path from outside is never a label."""
    async with client_of(make_app()) as client:
        for path in ("/orders/1", "/orders/2", "/market/AAPL", "/secret-path", "/static/app.js", "/health"):
            await client.get(path)
        await client.request("BREW", "/coffee")
        text = (await client.get("/metrics")).text
    assert value(metrics, "ome_http_requests_total", route="/orders/{order_id}", method="GET", status="404") == 2
    assert value(metrics, "ome_http_requests_total", route="/market/{symbol}", method="GET", status="404") == 1
    assert value(metrics, "ome_http_requests_total", route="/static", method="GET", status="200") == 1
    assert value(metrics, "ome_http_requests_total", route="unmatched", method="OTHER", status="404") == 1
    assert value(metrics, "ome_refusals_total", code="order_not_found") == 2
    assert value(metrics, "ome_http_request_seconds_count", route="/health", method="GET") == 1
    assert "secret-path" not in text
    assert "BREW" not in text


async def test_a_request_is_one_line_in_the_log(make_app: MakeApp, logs: io.StringIO) -> None:
    """With what operators look for, and nothing of the body; lines are written together, at the latest at shutdown."""
    app = make_app(request_log_seconds=1000)
    async with client_of(app) as client:
        body = {"user_id": "secret-user", "symbol": "AAPL"}
        await client.post("/orders", json=body, headers={"X-Request-ID": "mine"})
        await client.get("/market")
    before = [line for line in logs.getvalue().splitlines() if json.loads(line)["event"] == "request"]
    assert before == []

    messages: list[Message] = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]

    async def receive() -> Message:
        return messages.pop(0)

    async def send(_message: Message) -> None:
        pass

    await app({"type": "lifespan", "asgi": {}, "state": {}}, receive, send)
    lines = [json.loads(line) for line in logs.getvalue().splitlines()]
    refused, listed = [line for line in lines if line["event"] == "request"]
    assert (refused["method"], refused["route"], refused["status"], refused["code"]) == (
        "POST",
        "/orders",
        422,
        "invalid_request",
    )
    assert (refused["request_id"], refused["level"]) == ("mine", "info")
    assert refused["bytes"] > 0
    assert refused["ms"] >= 0
    assert (listed["route"], listed["status"], listed["code"]) == ("/market", 200, "")
    assert "secret-user" not in logs.getvalue()


async def test_waiting_lines_are_bounded(metrics: Metrics) -> None:
    """A limit on everything: at so many lines they are counted and written at once."""
    log = RequestLog(metrics, 1000)
    for _ in range(MAX_LINES):
        log.add("GET", "/x", 200, 0.0, "r", "", 1)
    assert value(metrics, "ome_http_requests_total", route="/x", method="GET", status="200") == MAX_LINES
    log.add("GET", "/x", 200, 0.0, "r", "", 1)
    log.flush()
    assert value(metrics, "ome_http_requests_total", route="/x", method="GET", status="200") == MAX_LINES + 1


def test_every_logger_writes_json_lines(logs: io.StringIO) -> None:
    """structlog's, the standard library's and uvicorn's; line breaks and tracebacks stay inside their line."""
    structlog.get_logger("ome.engine").info("started", shard=1)
    logging.getLogger("uvicorn.error").warning("careful: %s", "a\r\nb", extra={"color_message": "in colours"})
    logging.getLogger("uvicorn.access").info("never seen")
    logging.getLogger("any").debug("nor this")
    try:
        raise ValueError("inside")
    except ValueError:
        logging.getLogger("ome.api").exception("failed", extra={"request_id": "r-1"})
    started, careful, failed = [json.loads(line) for line in logs.getvalue().splitlines()]
    assert (started["event"], started["shard"], started["level"], started["logger"]) == ("started", 1, "info", "ome.engine")
    assert careful["event"] == "careful: a\r\nb"
    assert "color_message" not in careful
    assert (failed["request_id"], "ValueError: inside" in failed["exception"]) == ("r-1", True)
    assert started["timestamp"].endswith("Z")


async def test_people_get_plain_lines(logs: io.StringIO, metrics: Metrics) -> None:
    """LOG_FORMAT=console, or a terminal: no JSON, the same words."""
    del logs  # restores logging afterwards
    stream = io.StringIO()
    configure_logging("INFO", "console", stream)
    structlog.get_logger("ome").info("started", port=5000)
    log = RequestLog(metrics, 1000)
    log.add("GET", "/market", 200, 0.0, "r-1", "", 17)
    log.flush()
    started, request = stream.getvalue().splitlines()
    assert "started" in started
    assert "port=5000" in started
    assert " GET /market 200 " in request
    assert request.endswith("17 bytes r-1")


async def test_request_lines_obey_the_log_level(metrics: Metrics, logs: io.StringIO) -> None:
    """At WARNING they are counted, not written."""
    logging.getLogger().setLevel("WARNING")
    log = RequestLog(metrics, 1000)
    log.add("GET", "/market", 200, 0.0, "r-1", "", 17)
    log.flush()
    assert logs.getvalue() == ""
    assert value(metrics, "ome_http_requests_total", route="/market", method="GET", status="200") == 1
