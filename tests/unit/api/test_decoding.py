"""Bodies into commands: what is taken, what is refused, and what the refusal says."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ome.api.decoding import UNEXPLAINED, read_instrument, read_modify, read_new_order
from ome.api.problems import Problem
from ome.domain.clock import parse_time
from ome.domain.commands import DefineInstrument, ModifyOrder, NewOrder
from ome.domain.enums import OrderType, SelfTradePrevention, Side, TimeInForce
from ome.domain.numbers import parse
from ome.domain.reasons import Reason

LIMIT: dict[str, Any] = {"user_id": "alice", "symbol": "AAPL", "side": "BUY", "quantity": 100, "price": "150.50"}
MARKET: dict[str, Any] = {"user_id": "alice", "symbol": "AAPL", "side": "SELL", "type": "MARKET", "quantity": 100}
LATER = "2099-12-31T23:59:59Z"


def order(body: dict[str, Any] | bytes) -> NewOrder:
    """The command that a body asks for."""
    return read_new_order(body if isinstance(body, bytes) else json.dumps(body).encode())


def without(body: dict[str, Any], *names: str) -> dict[str, Any]:
    """A body without some fields."""
    return {name: value for name, value in body.items() if name not in names}


def refusal(body: dict[str, Any] | bytes) -> Problem:
    """The problem that an order is refused with."""
    with pytest.raises(Problem) as caught:
        order(body)
    return caught.value


def bad_fields(body: dict[str, Any] | bytes) -> list[str]:
    """The fields that an order is refused for."""
    problem = refusal(body)
    assert problem.reason is Reason.INVALID_REQUEST
    return [error.field for error in problem.errors]


def test_a_limit_order_is_read_into_a_command_with_its_defaults() -> None:
    """Type LIMIT, time in force GTC, CANCEL_NEWEST, and nothing else, are what is left out."""
    assert order(LIMIT) == NewOrder("alice", "AAPL", Side.BUY, OrderType.LIMIT, TimeInForce.GTC, parse("100"), parse("150.5"))


def test_every_field_of_an_order_arrives_in_the_command() -> None:
    """What is given is what the command carries."""
    body = LIMIT | {
        "type": "LIMIT",
        "time_in_force": "GTD",
        "expires_at": LATER,
        "self_trade_prevention": "NONE",
        "client_order_id": 'my "order" \\ 1~',
        "post_only": False,
    }
    command = order(body)
    assert command.time_in_force is TimeInForce.GTD
    assert command.expires_at == parse_time(LATER)
    assert command.self_trade_prevention is SelfTradePrevention.NONE
    assert command.client_order_id == 'my "order" \\ 1~'


@pytest.mark.parametrize("spelt", ["BUY", "buy", "Buy", "bUY"])
def test_names_and_symbols_are_folded(spelt: str) -> None:
    """Lower case is folded, in sides and names as in symbols."""
    command = order(LIMIT | {"side": spelt, "symbol": "aApl", "type": "limit", "time_in_force": "Ioc"})
    assert (command.side, command.symbol, command.type, command.time_in_force) == (
        Side.BUY,
        "AAPL",
        OrderType.LIMIT,
        TimeInForce.IOC,
    )


@pytest.mark.parametrize(
    ("sent", "value"),
    [
        ("150.50", "150.5"),
        ('"150.50"', "150.5"),
        ("0.1", "0.1"),
        ("1e2", "100"),
        ("1E-7", "0.0000001"),
        ('"\\u0031\\u0030"', "10"),
        ("999999999999999", "999999999999999"),
        ("123456.123456789", "123456.123456789"),
        ('"0.000000001"', "0.000000001"),
        ("1.000000000000000000000", "1"),
    ],
)
def test_numbers_are_read_exactly_from_their_own_digits(sent: str, value: str) -> None:
    """Text and bare numbers alike, never through a float (N1)."""
    body = json.dumps(LIMIT | {"price": "PRICE"}).replace('"PRICE"', sent).encode()
    assert order(body).price == parse(value)


@pytest.mark.parametrize(
    "sent",
    [
        "null", "true", "false", "{}", "[]", "[1]", '""', '" 1"', '"1 "', '"1_000"', '"1,5"', '"+1"', '"-1"', "-1", "-0", "0",
        '"0"', '"0.0"', '"00.1"', '"1."', '".5"', '"1e2"', '"NaN"', '"Infinity"', "1e400", "1e-400", "1e999999999", "1e+25",
        "1234567890123456", '"1234567890123456"', "0.0000000001", '"٣"', '"\uff11"', '"1\\u0000"', '"0x10"',
        "9" * 5000, '"' + "9" * 5000 + '"',
        "18446744073709551616", "-9223372036854775808",
    ],
)  # fmt: skip
def test_what_is_no_positive_number_is_refused_by_name(sent: str) -> None:
    """A bad price is the one error, and the message never repeats what was sent."""
    body = json.dumps(LIMIT | {"price": "PRICE"}).replace('"PRICE"', sent).encode()
    problem = refusal(body)
    assert problem.reason is Reason.INVALID_REQUEST
    assert [error.field for error in problem.errors] == ["price"]
    assert len(problem.errors[0].message) < 200


@pytest.mark.parametrize(
    "body",
    [
        b"", b" ", b"{", b"}", b'{"user_id"}', b"{'user_id': 1}", b'{"price": NaN}', b'{"price": Infinity}',
        b'{"price": -Infinity}',
        b'{"price": 01}', b'{"price": .5}', b'{"price": 1.}', b'{"price": +1}', b'{"price": 0x10}', b'{"user_id": "\xff"}',
        b'{"price": "\xff"}', b'{"\xff": 1}', b'{"user_id": "\\ud800"}', b'{"symbol": "\\udc00\\ud800"}',
        b'\xef\xbb\xbf{"user_id": "a"}',
        b'{"user_id": "a\x00b"}', b'{"user_id": "a\nb"}', b'{"user_id": "\\x41"}', b'{"a": 1} {"b": 2}', b'{"a": 1},',
        '{"user_id": "a"}'.encode("utf-16"), b'{"a": ' + b"[" * 60_000, b'{"a": ' + b"[" * 30_000 + b"]" * 30_000 + b"}",
        b'{"a":' * 10_000,
    ],
)  # fmt: skip
def test_what_is_no_json_is_malformed(body: bytes) -> None:
    """Unreadable bodies are 400 malformed_json, whatever is wrong with them; nesting included."""
    assert refusal(body).reason is Reason.MALFORMED_JSON


@pytest.mark.parametrize("body", [b"null", b"1", b'"text"', b"[]", b"[" * 60_000, b"true"])
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    """JSON that isn't one object is no request."""
    assert refusal(body).reason in {Reason.INVALID_REQUEST, Reason.MALFORMED_JSON}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"user_id": ""}, "user_id"),
        ({"user_id": "a" * 65}, "user_id"),
        ({"user_id": "al ice"}, "user_id"),
        ({"user_id": "alice\n"}, "user_id"),
        ({"user_id": "alicé"}, "user_id"),
        ({"user_id": 1}, "user_id"),
        ({"user_id": None}, "user_id"),
        ({"symbol": "A" * 33}, "symbol"),
        ({"symbol": ".A"}, "symbol"),
        ({"symbol": "AAPL\n"}, "symbol"),
        ({"symbol": "A/B"}, "symbol"),
        ({"symbol": "\u017f"}, "symbol"),
        ({"side": "HOLD"}, "side"),
        ({"side": None}, "side"),
        ({"side": "\uff22\uff35\uff39"}, "side"),
        ({"type": "L\u0131MIT"}, "type"),
        ({"type": 0}, "type"),
        ({"time_in_force": "GFD"}, "time_in_force"),
        ({"self_trade_prevention": "MAYBE"}, "self_trade_prevention"),
        ({"client_order_id": ""}, "client_order_id"),
        ({"client_order_id": "x" * 65}, "client_order_id"),
        ({"client_order_id": "é"}, "client_order_id"),
        ({"client_order_id": "a\r\nb"}, "client_order_id"),
        ({"client_order_id": "a\n"}, "client_order_id"),
        ({"client_order_id": None}, "client_order_id"),
        ({"post_only": "yes"}, "post_only"),
        ({"expires_at": LATER}, "expires_at"),
        ({"time_in_force": "GTD"}, "expires_at"),
        ({"time_in_force": "GTD", "expires_at": 1}, "expires_at"),
        ({"time_in_force": "GTD", "expires_at": "tomorrow"}, "expires_at"),
        ({"time_in_force": "GTD", "expires_at": "2026-13-01T00:00:00Z"}, "expires_at"),
        ({"time_in_force": "GTD", "expires_at": "2026-11-22T10:00:00"}, "expires_at"),
        ({"time_in_force": "GTD", "expires_at": "9999-12-31T23:59:59-23:00"}, "expires_at"),
        ({"stop_price": "1"}, "stop_price"),
        ({"trail_amount": "1"}, "trail_amount"),
        ({"surprise": 1}, "surprise"),
        ({"order_id": "1"}, "order_id"),
        ({"status": "FILLED"}, "status"),
        ({"display_quantity": 0}, "display_quantity"),
    ],
)
def test_a_bad_field_is_named(change: dict[str, Any], field: str) -> None:
    """One bad field, one error, by its name."""
    assert bad_fields(LIMIT | change) == [field]


@pytest.mark.parametrize("name", ["user_id", "symbol", "side", "quantity", "price"])
def test_a_missing_field_is_named(name: str) -> None:
    """What is required and isn't there is told."""
    problem = refusal(without(LIMIT, name))
    assert [(error.field, error.message.startswith("is required")) for error in problem.errors] == [(name, True)]


def test_all_bad_fields_are_told_at_once() -> None:
    """A reader mends a body in one go."""
    body = {"user_id": "", "symbol": "?", "side": "UP", "quantity": None, "price": "x", "expires_at": LATER, "zz": 1}
    assert sorted(bad_fields(body)) == ["expires_at", "price", "quantity", "side", "symbol", "user_id", "zz"]


def test_the_last_of_a_repeated_key_counts() -> None:
    """Both ways of reading agree about duplicates."""
    body = b'{"user_id":"a","symbol":"A","side":"BUY","quantity":1,"price":"x","price":"2","quantity":3}'
    command = order(body)
    assert (command.quantity, command.price) == (parse("3"), parse("2"))


@pytest.mark.parametrize("time_in_force", [None, "GTC", "IOC"])
def test_a_market_order_reads_ioc(time_in_force: str | None) -> None:
    """T3: left out, GTC (the default) and IOC are the same for it."""
    body = MARKET if time_in_force is None else MARKET | {"time_in_force": time_in_force}
    assert order(body).time_in_force is TimeInForce.IOC


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"price": "1"}, "price"),
        ({"time_in_force": "FOK"}, "time_in_force"),
        ({"time_in_force": "GTD", "expires_at": LATER}, "time_in_force"),
    ],
)
def test_a_market_order_takes_no_price_and_never_waits(change: dict[str, Any], field: str) -> None:
    """FOK would promise more than MARKET keeps, so it isn't quietly read as IOC."""
    assert bad_fields(MARKET | change) == [field]


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (without(LIMIT, "price") | {"type": "STOP", "stop_price": "1"}, {"type", "stop_price"}),
        (LIMIT | {"type": "STOP_LIMIT", "stop_price": "1"}, {"type", "stop_price"}),
        (without(LIMIT, "price") | {"type": "TRAILING_STOP", "trail_percent": 1}, {"type", "trail_percent"}),
        (LIMIT | {"time_in_force": "DAY"}, {"time_in_force"}),
        (MARKET | {"time_in_force": "DAY"}, {"time_in_force"}),
        (LIMIT | {"post_only": True}, {"post_only"}),
        (LIMIT | {"display_quantity": 10}, {"display_quantity"}),
        (LIMIT | {"min_quantity": 10}, {"min_quantity"}),
        (MARKET | {"max_slippage_bps": 10}, {"max_slippage_bps"}),
        (LIMIT | {"self_trade_prevention": "CANCEL_OLDEST"}, {"self_trade_prevention"}),
        (LIMIT | {"self_trade_prevention": "decrement", "post_only": True}, {"self_trade_prevention", "post_only"}),
    ],
)
def test_what_is_not_built_yet_is_refused_by_name(body: dict[str, Any], fields: set[str]) -> None:
    """A good request for something that isn't there is `not_supported`, each field named."""
    problem = refusal(body)
    assert problem.reason is Reason.NOT_SUPPORTED
    assert {error.field for error in problem.errors} == fields


def test_a_bad_field_comes_before_what_is_not_built() -> None:
    """Malformed stays malformed."""
    assert bad_fields(LIMIT | {"post_only": True, "min_quantity": -1}) == ["min_quantity"]


def test_a_change_is_read_into_a_command() -> None:
    """Each field of a modify arrives."""
    body = {"quantity": 5, "price": "1.25", "expires_at": LATER, "expected_version": 7}
    assert read_modify(json.dumps(body).encode(), 42) == ModifyOrder(
        42, exists=True, quantity=parse("5"), price=parse("1.25"), expires_at=parse_time(LATER), expected_version=7
    )


@pytest.mark.parametrize(
    ("body", "reason", "fields"),
    [
        ({}, Reason.INVALID_REQUEST, ["quantity"]),
        ({"expected_version": 1}, Reason.INVALID_REQUEST, ["quantity"]),
        ({"quantity": 0}, Reason.INVALID_REQUEST, ["quantity"]),
        ({"quantity": None, "price": None}, Reason.INVALID_REQUEST, ["quantity", "price"]),
        ({"price": 1, "expected_version": 0}, Reason.INVALID_REQUEST, ["expected_version"]),
        ({"price": 1, "expected_version": True}, Reason.INVALID_REQUEST, ["expected_version"]),
        ({"price": 1, "expected_version": "1"}, Reason.INVALID_REQUEST, ["expected_version"]),
        ({"price": 1, "expected_version": 2**31}, Reason.INVALID_REQUEST, ["expected_version"]),
        ({"price": 1, "side": "BUY"}, Reason.INVALID_REQUEST, ["side"]),
        ({"stop_price": 1}, Reason.NOT_SUPPORTED, ["stop_price"]),
        ({"price": 1, "display_quantity": 1}, Reason.NOT_SUPPORTED, ["display_quantity"]),
    ],
)
def test_a_bad_change_is_refused(body: dict[str, Any], reason: Reason, fields: list[str]) -> None:
    """An empty change is none, and a bad one is explained like an order."""
    with pytest.raises(Problem) as caught:
        read_modify(json.dumps(body).encode(), 1)
    assert (caught.value.reason, [error.field for error in caught.value.errors]) == (reason, fields)


def test_an_instrument_is_read_into_a_command() -> None:
    """Tick and lot, each optional."""
    assert read_instrument(b'{"tick_size": "0.5"}', "BTC") == DefineInstrument("BTC", parse("0.5"))
    assert read_instrument(b"{}", "BTC") == DefineInstrument("BTC")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"tick_size": 0}', Reason.INVALID_REQUEST),
        (b'{"tick": 1}', Reason.INVALID_REQUEST),
        (b'{"state": "OPEN"}', Reason.NOT_SUPPORTED),
    ],
)
def test_a_bad_instrument_is_refused(body: bytes, reason: Reason) -> None:
    """A tick of nothing, unknown fields and what isn't built."""
    with pytest.raises(Problem) as caught:
        read_instrument(body, "BTC")
    assert caught.value.reason is reason


REFUSALS = {Reason.MALFORMED_JSON, Reason.INVALID_REQUEST, Reason.NOT_SUPPORTED}
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
VALUES = LEAVES | st.lists(LEAVES, max_size=3) | st.dictionaries(st.text(max_size=5), LEAVES, max_size=3)
NAMES = st.sampled_from(
    ["user_id", "symbol", "side", "type", "quantity", "price", "stop_price", "time_in_force", "expires_at", "post_only",
     "self_trade_prevention", "client_order_id", "display_quantity", "expected_version", "tick_size", "state"]
)  # fmt: skip
LIKELY = st.sampled_from(["BUY", "limit", "MARKET", "GTD", "IOC", "NONE", "STOP", LATER, "1", "0", "1e5", 7, 1.5, -1, "A"])


def outcome(read: Callable[[bytes], object], body: bytes) -> Reason | None:
    """None when taken; else the reason, which must come with an explanation."""
    found: Problem | None = None
    try:
        read(body)
    except Problem as problem:
        found = problem
    if found is None:
        return None
    assert found.reason in REFUSALS
    messages = [error.message for error in found.errors]
    assert UNEXPLAINED not in messages, "the slow way found nothing wrong with what the fast way refused"
    return found.reason


@settings(max_examples=300)
@given(st.dictionaries(NAMES | st.text(max_size=8), VALUES | LIKELY, max_size=8), st.booleans())
def test_any_object_is_taken_or_explained(members: dict[str, Any], complete: bool) -> None:
    """Whatever an object holds, it is a command or a refusal that names what is wrong: never another exception."""
    body = json.dumps(LIMIT | members if complete else members).encode(errors="surrogatepass")
    outcome(read_new_order, body)
    outcome(lambda body: read_modify(body, 1), body)
    outcome(lambda body: read_instrument(body, "A"), body)


@settings(max_examples=300)
@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode(errors="replace")))
def test_any_bytes_are_refused_with_a_reason(body: bytes) -> None:
    """Noise is never taken for an order and never fails."""
    assert outcome(read_new_order, body) is not None
