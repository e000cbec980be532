"""Bodies into commands: what is taken, what is refused, and what the refusal says."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ome.api.decoding import (
    INSTRUMENT_FORM,
    MODIFY_FORM,
    OPERATION_FORMS,
    ORDER_FORM,
    Form,
    read_batch,
    read_instrument,
    read_modify,
    read_new_order,
)
from ome.api.problems import Problem
from ome.api.schemas import (
    CancelOperation,
    InstrumentRequest,
    ModifyOperation,
    ModifyRequest,
    OrderRequest,
    PlainOrderRequest,
    SubmitOperation,
)
from ome.domain.clock import parse_time
from ome.domain.commands import CancelOrder, DefineInstrument, ModifyOrder, NewOrder
from ome.domain.enums import MarketState, OrderType, SelfTradePrevention, Side, TimeInForce
from ome.domain.numbers import parse
from ome.domain.ports import Timely, command_of
from ome.domain.reasons import Reason
from ome.domain.records import SpecialTerms

LIMIT: dict[str, Any] = {"user_id": "alice", "symbol": "AAPL", "side": "BUY", "quantity": 100, "price": "150.50"}
MARKET: dict[str, Any] = {"user_id": "alice", "symbol": "AAPL", "side": "SELL", "type": "MARKET", "quantity": 100}
STOP: dict[str, Any] = {
    "user_id": "alice",
    "symbol": "AAPL",
    "side": "SELL",
    "type": "STOP",
    "quantity": 100,
    "stop_price": "140",
}
STOP_LIMIT: dict[str, Any] = STOP | {"type": "STOP_LIMIT", "price": "139.5"}
TRAIL: dict[str, Any] = {
    "user_id": "alice",
    "symbol": "AAPL",
    "side": "SELL",
    "type": "TRAILING_STOP",
    "quantity": 100,
    "trail_amount": "1.5",
}
TRAIL_LIMIT: dict[str, Any] = TRAIL | {"limit_offset": "0.25"}
RESTING = {"limit": LIMIT, "stop limit": STOP_LIMIT, "trail limit": TRAIL_LIMIT}
UNPRICED = {"market": MARKET, "stop": STOP, "trail": TRAIL}
LATER = "2099-12-31T23:59:59Z"


def order(body: dict[str, Any] | bytes) -> NewOrder:
    """The command that a body asks for."""
    command = command_of(read_new_order(body if isinstance(body, bytes) else json.dumps(body).encode()))
    assert isinstance(command, NewOrder)
    return command


def test_a_time_to_live_goes_with_the_command_and_is_no_part_of_it() -> None:
    """DUR9: in a submit, a change and a batch; the order is the same order without it."""
    assert read_new_order(json.dumps(LIMIT | {"valid_for_ms": 250}).encode()) == Timely(order(LIMIT), 250)
    change = ModifyOrder(7, exists=True, price=order({**LIMIT, "price": "2"}).price)
    assert read_modify(b'{"price": "2", "valid_for_ms": 60000}', 7) == Timely(change, 60_000)
    batch = {"orders": [LIMIT | {"valid_for_ms": 1}, {"op": "modify", "order_id": "7", "price": 2, "valid_for_ms": 2}, LIMIT]}
    assert read_batch(json.dumps(batch).encode()) == [Timely(order(LIMIT), 1), Timely(change, 2), order(LIMIT)]


@pytest.mark.parametrize(("sent", "read"), [("250", 250), ("250.0", 250), ("60000.000", 60_000), ("1", 1)])
def test_a_whole_number_is_whole_with_zeros_behind_the_point_too(sent: str, read: int) -> None:
    """As JSON Schema has it, and as some encoders write them."""
    body = json.dumps(LIMIT)[:-1] + f', "valid_for_ms": {sent}}}'
    assert read_new_order(body.encode()) == Timely(order(LIMIT), read)


@pytest.mark.parametrize("sent", [0, -1, 60_001, 1.5, "250", True, None])
def test_a_time_to_live_is_whole_milliseconds_up_to_a_minute(sent: Any) -> None:
    """Anything else is refused by name, and alone it changes nothing."""
    with pytest.raises(Problem) as refused:
        order(LIMIT | {"valid_for_ms": sent})
    assert [error.field for error in refused.value.errors] == ["valid_for_ms"]
    with pytest.raises(Problem):
        read_modify(b'{"valid_for_ms": 250}', 7)


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
        ({"time_in_force": "GTD", "expires_at": "2030-02-30T00:00:00Z"}, "expires_at"),
        ({"client_order_id": "  "}, "client_order_id"),
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


def refused(body: dict[str, Any]) -> dict[str, str]:
    """What an order is refused for: each field with its message."""
    problem = refusal(body)
    assert problem.reason is Reason.INVALID_REQUEST
    return {error.field: error.message for error in problem.errors}


@pytest.mark.parametrize("mode", SelfTradePrevention)
def test_every_mode_of_self_trade_prevention_is_taken(mode: SelfTradePrevention) -> None:
    """P1: all five, on the fast way."""
    command = order(LIMIT | {"self_trade_prevention": mode.name})
    assert (command.self_trade_prevention, command.terms) == (mode, None)


@pytest.mark.parametrize("body", [LIMIT, LIMIT | {"time_in_force": "DAY"}, LIMIT | {"post_only": False}, MARKET])
def test_a_plain_order_has_no_special_terms(body: dict[str, Any]) -> None:
    """The engine pays for what was asked for only."""
    assert order(body).terms is None


@pytest.mark.parametrize(
    ("body", "time_in_force", "terms"),
    [
        (STOP, TimeInForce.IOC, SpecialTerms(stop_price=parse("140"))),
        (STOP | {"time_in_force": "IOC"}, TimeInForce.IOC, SpecialTerms(stop_price=parse("140"))),
        (STOP | {"post_only": False}, TimeInForce.IOC, SpecialTerms(stop_price=parse("140"))),
        (STOP | {"max_slippage_bps": 0}, TimeInForce.IOC, SpecialTerms(stop_price=parse("140"), max_slippage_bps=0)),
        (STOP_LIMIT, TimeInForce.GTC, SpecialTerms(stop_price=parse("140"))),
        (STOP_LIMIT | {"time_in_force": "IOC"}, TimeInForce.IOC, SpecialTerms(stop_price=parse("140"))),
        (STOP_LIMIT | {"time_in_force": "FOK"}, TimeInForce.FOK, SpecialTerms(stop_price=parse("140"))),
        (
            STOP_LIMIT | {"post_only": True, "display_quantity": "10", "time_in_force": "day"},
            TimeInForce.DAY,
            SpecialTerms(stop_price=parse("140"), post_only=True, display_quantity=parse("10")),
        ),
        (STOP_LIMIT | {"min_quantity": 5}, TimeInForce.GTC, SpecialTerms(stop_price=parse("140"), min_quantity=parse("5"))),
        (TRAIL, TimeInForce.IOC, SpecialTerms(trail_amount=parse("1.5"))),
        (without(TRAIL, "trail_amount") | {"trail_percent": 2.5}, TimeInForce.IOC, SpecialTerms(trail_percent=parse("2.5"))),
        (
            without(TRAIL, "trail_amount") | {"trail_percent": "99.999999999"},
            TimeInForce.IOC,
            SpecialTerms(trail_percent=parse("99.999999999")),
        ),
        (TRAIL | {"max_slippage_bps": 50}, TimeInForce.IOC, SpecialTerms(trail_amount=parse("1.5"), max_slippage_bps=50)),
        (TRAIL_LIMIT, TimeInForce.GTC, SpecialTerms(trail_amount=parse("1.5"), limit_offset=parse("0.25"))),
        (
            TRAIL_LIMIT | {"time_in_force": "FOK"},
            TimeInForce.FOK,
            SpecialTerms(trail_amount=parse("1.5"), limit_offset=parse("0.25")),
        ),
        (
            TRAIL_LIMIT | {"post_only": True},
            TimeInForce.GTC,
            SpecialTerms(trail_amount=parse("1.5"), limit_offset=parse("0.25"), post_only=True),
        ),
        (LIMIT | {"post_only": True}, TimeInForce.GTC, SpecialTerms(post_only=True)),
        (LIMIT | {"display_quantity": 10}, TimeInForce.GTC, SpecialTerms(display_quantity=parse("10"))),
        (LIMIT | {"min_quantity": 10}, TimeInForce.GTC, SpecialTerms(min_quantity=parse("10"))),
        (LIMIT | {"min_quantity": 10, "time_in_force": "FOK"}, TimeInForce.FOK, SpecialTerms(min_quantity=parse("10"))),
        (LIMIT | {"min_quantity": 10, "time_in_force": "IOC"}, TimeInForce.IOC, SpecialTerms(min_quantity=parse("10"))),
        (
            LIMIT | {"min_quantity": 10, "display_quantity": 5},
            TimeInForce.GTC,
            SpecialTerms(display_quantity=parse("5"), min_quantity=parse("10")),
        ),
        (MARKET | {"min_quantity": 10}, TimeInForce.IOC, SpecialTerms(min_quantity=parse("10"))),
        (MARKET | {"max_slippage_bps": 10_000}, TimeInForce.IOC, SpecialTerms(max_slippage_bps=10_000)),
        (MARKET | {"max_slippage_bps": 0}, TimeInForce.IOC, SpecialTerms(max_slippage_bps=0)),
    ],
)
def test_special_terms_arrive_in_the_command(body: dict[str, Any], time_in_force: TimeInForce, terms: SpecialTerms) -> None:
    """Each type and each field, with the time in force that the order reads; 0 basis points are a bound, not none."""
    command = order(body)
    assert (command.type.name, command.time_in_force, command.terms) == (body.get("type", "LIMIT"), time_in_force, terms)
    assert command.price == (parse(body["price"]) if "price" in body else None)


@pytest.mark.parametrize("body", RESTING.values(), ids=RESTING)
@pytest.mark.parametrize("time_in_force", TimeInForce)
def test_an_order_with_a_limit_takes_every_time_in_force(body: dict[str, Any], time_in_force: TimeInForce) -> None:
    """LIMIT, STOP_LIMIT, and TRAILING_STOP with a limit_offset; a deadline goes with GTD alone."""
    dated = {"expires_at": LATER} if time_in_force is TimeInForce.GTD else {}
    assert order(body | {"time_in_force": time_in_force.name} | dated).time_in_force is time_in_force
    if time_in_force is not TimeInForce.GTD:
        assert set(refused(body | {"time_in_force": time_in_force.name, "expires_at": LATER})) == {"expires_at"}


@pytest.mark.parametrize("body", UNPRICED.values(), ids=UNPRICED)
@pytest.mark.parametrize("time_in_force", ["FOK", "GTD", "DAY"])
def test_an_order_without_a_limit_reads_ioc_or_is_refused(body: dict[str, Any], time_in_force: str) -> None:
    """S4, T3: it never rests, and it fills in part."""
    dated = {"expires_at": LATER} if time_in_force == "GTD" else {}
    errors = refused(body | {"time_in_force": time_in_force} | dated)
    assert (list(errors), "must be IOC or GTC" in errors["time_in_force"]) == (["time_in_force"], True)


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        (without(STOP, "stop_price"), "stop_price", "is required for a STOP order"),
        (STOP | {"price": 1}, "price", "does not belong to a STOP order"),
        (without(STOP_LIMIT, "stop_price"), "stop_price", "is required for a STOP_LIMIT order"),
        (without(STOP_LIMIT, "price"), "price", "is required for a STOP_LIMIT order"),
        (TRAIL | {"price": 1}, "price", "does not belong to a TRAILING_STOP order"),
        (TRAIL | {"stop_price": 1}, "stop_price", "does not belong to a TRAILING_STOP order"),
        (without(TRAIL, "trail_amount"), "trail_amount", "one of the two"),
        (TRAIL | {"trail_percent": 1}, "trail_amount", "one of the two"),
        (without(TRAIL, "trail_amount") | {"trail_percent": 100}, "trail_percent", "below 100"),
        (without(TRAIL, "trail_amount") | {"trail_percent": "0"}, "trail_percent", "above zero"),
        (TRAIL | {"trail_amount": 0}, "trail_amount", "above zero"),
        (TRAIL | {"limit_offset": "0"}, "limit_offset", "above zero"),
        (LIMIT | {"limit_offset": 1}, "limit_offset", "TRAILING_STOP orders only"),
        (STOP | {"trail_percent": 1}, "trail_percent", "TRAILING_STOP orders only"),
        (LIMIT | {"stop_price": 1}, "stop_price", "does not belong to a LIMIT order"),
        (MARKET | {"stop_price": 1}, "stop_price", "does not belong to a MARKET order"),
        (MARKET | {"post_only": True}, "post_only", "orders with a limit"),
        (STOP | {"post_only": True}, "post_only", "orders with a limit"),
        (TRAIL | {"post_only": True}, "post_only", "orders with a limit"),
        (LIMIT | {"post_only": True, "time_in_force": "IOC"}, "post_only", "contradicts IOC"),
        (STOP_LIMIT | {"post_only": True, "time_in_force": "FOK"}, "post_only", "contradicts FOK"),
        (LIMIT | {"post_only": True, "min_quantity": 1}, "min_quantity", "contradicts post_only"),
        (MARKET | {"display_quantity": 1}, "display_quantity", "orders with a limit"),
        (STOP | {"display_quantity": 1}, "display_quantity", "orders with a limit"),
        (TRAIL | {"display_quantity": 1}, "display_quantity", "orders with a limit"),
        (LIMIT | {"display_quantity": 1, "time_in_force": "IOC"}, "display_quantity", "contradicts IOC"),
        (TRAIL_LIMIT | {"display_quantity": 1, "time_in_force": "FOK"}, "display_quantity", "contradicts FOK"),
        (STOP | {"min_quantity": 1}, "min_quantity", "LIMIT, MARKET and STOP_LIMIT"),
        (TRAIL | {"min_quantity": 1}, "min_quantity", "LIMIT, MARKET and STOP_LIMIT"),
        (TRAIL_LIMIT | {"min_quantity": 1}, "min_quantity", "LIMIT, MARKET and STOP_LIMIT"),
        (LIMIT | {"min_quantity": 0}, "min_quantity", "above zero"),
        (LIMIT | {"max_slippage_bps": 1}, "max_slippage_bps", "without a limit"),
        (STOP_LIMIT | {"max_slippage_bps": 1}, "max_slippage_bps", "without a limit"),
        (TRAIL_LIMIT | {"max_slippage_bps": 1}, "max_slippage_bps", "without a limit"),
        *(
            (MARKET | {"max_slippage_bps": sent}, "max_slippage_bps", "whole number from 0 to 10000")
            for sent in (-1, 10_001, "1", 1.5, True, 2**70, [1])
        ),
        (LIMIT | {"post_only": 1}, "post_only", "true or false"),
    ],
)
def test_what_does_not_go_together_explains_itself(body: dict[str, Any], field: str, words: str) -> None:
    """One combination that makes no sense, one error, at the field to leave out or to mend."""
    errors = refused(body)
    assert list(errors) == [field]
    assert words in errors[field]


def test_a_field_of_another_type_and_a_bad_value_are_told_together() -> None:
    """Rules between fields don't wait for the values to be right."""
    assert set(refused(MARKET | {"post_only": True, "min_quantity": -1, "display_quantity": 1})) == {
        "post_only",
        "min_quantity",
        "display_quantity",
    }


@pytest.mark.parametrize(
    ("form", "shape"),
    [
        (ORDER_FORM, OrderRequest),
        (MODIFY_FORM, ModifyRequest),
        (INSTRUMENT_FORM, InstrumentRequest),
        (OPERATION_FORMS["submit"], SubmitOperation),
        (OPERATION_FORMS["modify"], ModifyOperation),
        (OPERATION_FORMS["cancel"], CancelOperation),
    ],
)
def test_the_thorough_way_reads_the_fields_that_are_declared(form: Form, shape: type[msgspec.Struct]) -> None:
    """What OpenAPI shows and what is read are the same fields; the fast way knows some of an order's."""
    assert set(form.readers) == set(shape.__struct_fields__)
    assert set(PlainOrderRequest.__struct_fields__) < set(OrderRequest.__struct_fields__)


@pytest.mark.parametrize(
    "body",
    [LIMIT, LIMIT | {"post_only": True}, LIMIT | {"time_in_force": "GTD", "expires_at": LATER}, LIMIT | {"time_in_force": "ioc"},
     LIMIT | {"client_order_id": "a b", "self_trade_prevention": "decrement"}, MARKET, MARKET | {"time_in_force": "IOC"}],
)  # fmt: skip
def test_both_ways_of_reading_agree(body: dict[str, Any]) -> None:
    """An order read fast is the order read thoroughly."""
    thorough = read_batch(json.dumps({"orders": [body | {"op": "submit"}]}).encode())
    assert thorough == [order(body)]


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
        ({"price": 1, "display_quantity": 0}, Reason.INVALID_REQUEST, ["display_quantity"]),
        ({"trail_amount": 1, "trail_percent": 1}, Reason.INVALID_REQUEST, ["trail_amount"]),
        ({"trail_percent": 100}, Reason.INVALID_REQUEST, ["trail_percent"]),
        ({"post_only": True}, Reason.INVALID_REQUEST, ["post_only", "quantity"]),
    ],
)
def test_a_bad_change_is_refused(body: dict[str, Any], reason: Reason, fields: list[str]) -> None:
    """An empty change is none, and a bad one is explained like an order."""
    with pytest.raises(Problem) as caught:
        read_modify(json.dumps(body).encode(), 1)
    assert (caught.value.reason, [error.field for error in caught.value.errors]) == (reason, fields)


def test_a_change_of_a_stop_is_read_into_a_command() -> None:
    """A8: a waiting stop can be modified in everything."""
    body = {"stop_price": "1.5", "display_quantity": 2}
    assert read_modify(json.dumps(body).encode(), 42) == ModifyOrder(
        42, exists=True, stop_price=parse("1.5"), display_quantity=parse("2")
    )
    for field, sent in (("trail_amount", "0.5"), ("trail_percent", 99.9)):
        assert getattr(read_modify(json.dumps({field: sent}).encode(), 42), field) == parse(str(sent))


def test_an_instrument_is_read_into_a_command() -> None:
    """Each field optional, each in its unit."""
    body = {
        "tick_size": "0.5",
        "lot_size": 2,
        "state": "auction",
        "max_order_quantity": 1000,
        "price_band_percent": "7.5",
        "band_halt_seconds": 300,
        "session_close": "21:30",
    }
    assert read_instrument(json.dumps(body).encode(), "BTC") == DefineInstrument(
        "BTC",
        parse("0.5"),
        parse("2"),
        MarketState.AUCTION,
        max_order_quantity=parse("1000"),
        price_band_percent=parse("7.5"),
        band_halt_s=300,
        session_close_s=77_400,
    )
    assert read_instrument(b"{}", "BTC") == DefineInstrument("BTC")


@pytest.mark.parametrize("zero", ["0", '"0"', "0.0", '"0.00"'])
def test_a_rule_of_an_instrument_is_taken_away_with_zero(zero: str) -> None:
    """However the zero is written; no halt and midnight are zeros too."""
    body = f'{{"max_order_quantity": {zero}, "price_band_percent": {zero}, "band_halt_seconds": 0, "session_close": "00:00:00"}}'
    assert read_instrument(body.encode(), "BTC") == DefineInstrument(
        "BTC", max_order_quantity=0, price_band_percent=0, band_halt_s=0, session_close_s=0
    )


@pytest.mark.parametrize(("sent", "seconds"), [("23:59:59", 86_399), ("09:05", 32_700), ("00:00:01", 1)])
def test_a_session_close_is_a_time_of_day(sent: str, seconds: int) -> None:
    """With seconds or without."""
    assert read_instrument(json.dumps({"session_close": sent}).encode(), "A").session_close_s == seconds


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"tick_size": 0}', "tick_size"),
        (b'{"tick": 1}', "tick"),
        (b'{"state": "CLOSED"}', "state"),
        (b'{"state": null}', "state"),
        (b'{"max_order_quantity": -1}', "max_order_quantity"),
        (b'{"max_order_quantity": null}', "max_order_quantity"),
        (b'{"max_order_quantity": "00"}', "max_order_quantity"),
        (b'{"price_band_percent": "x"}', "price_band_percent"),
        (b'{"price_band_percent": "0\\n"}', "price_band_percent"),
        (b'{"band_halt_seconds": "1"}', "band_halt_seconds"),
        (b'{"band_halt_seconds": 604801}', "band_halt_seconds"),
        (b'{"band_halt_seconds": 1.5}', "band_halt_seconds"),
        (b'{"session_close": "24:00"}', "session_close"),
        (b'{"session_close": "9:00"}', "session_close"),
        (b'{"session_close": "21:00Z"}', "session_close"),
        (b'{"session_close": "21:00\\n"}', "session_close"),
        (b'{"session_close": 75600}', "session_close"),
    ],
)
def test_a_bad_instrument_is_refused(body: bytes, field: str) -> None:
    """A tick of nothing, unknown fields, and values out of their range."""
    with pytest.raises(Problem) as caught:
        read_instrument(body, "BTC")
    assert (caught.value.reason, [error.field for error in caught.value.errors]) == (Reason.INVALID_REQUEST, [field])


def batch(*operations: Any) -> list[Any]:
    """What a batch of these is read into: commands, and for those that are bad their reason with their fields."""
    read = read_batch(json.dumps({"orders": operations}).encode())
    return [(each.reason, [error.field for error in each.errors]) if isinstance(each, Problem) else each for each in read]


def test_a_batch_is_read_operation_by_operation() -> None:
    """I4: submit is the default; modify and cancel name their order."""
    assert batch(
        LIMIT, STOP | {"op": "submit"}, {"op": "modify", "order_id": "7", "price": 2}, {"op": "cancel", "order_id": "8"}
    ) == [
        order(LIMIT),
        order(STOP),
        ModifyOrder(7, exists=True, price=parse("2")),
        CancelOrder(8, exists=True),
    ]
    assert batch() == []


@pytest.mark.parametrize(
    ("operation", "reason", "fields"),
    [
        (1, Reason.INVALID_REQUEST, []),
        (None, Reason.INVALID_REQUEST, []),
        ([], Reason.INVALID_REQUEST, []),
        ({}, Reason.INVALID_REQUEST, ["user_id", "symbol", "side", "quantity", "price"]),
        (LIMIT | {"quantity": 0}, Reason.INVALID_REQUEST, ["quantity"]),
        (LIMIT | {"op": "SUBMIT"}, Reason.INVALID_REQUEST, ["op"]),
        (LIMIT | {"op": 1}, Reason.INVALID_REQUEST, ["op"]),
        (LIMIT | {"op": None}, Reason.INVALID_REQUEST, ["op"]),
        (LIMIT | {"order_id": "1"}, Reason.INVALID_REQUEST, ["order_id"]),
        ({"op": "modify", "price": 1}, Reason.INVALID_REQUEST, ["order_id"]),
        ({"op": "modify", "order_id": "1"}, Reason.INVALID_REQUEST, ["quantity"]),
        ({"op": "modify", "order_id": "1", "user_id": "a", "price": 1}, Reason.INVALID_REQUEST, ["user_id"]),
        ({"op": "cancel"}, Reason.INVALID_REQUEST, ["order_id"]),
        ({"op": "cancel", "order_id": 1}, Reason.INVALID_REQUEST, ["order_id"]),
        ({"op": "cancel", "order_id": "1", "price": 1}, Reason.INVALID_REQUEST, ["price"]),
        ({"op": "cancel", "order_id": "x"}, Reason.ORDER_NOT_FOUND, []),
        ({"op": "cancel", "order_id": "0"}, Reason.ORDER_NOT_FOUND, []),
        ({"op": "modify", "order_id": "9" * 30, "price": 1}, Reason.ORDER_NOT_FOUND, []),
    ],
)
def test_a_bad_operation_does_not_stop_the_others(operation: Any, reason: Reason, fields: list[str]) -> None:
    """Each is read by itself, and a bad one is a problem in its own place."""
    assert batch(LIMIT, operation, MARKET) == [order(LIMIT), (reason, fields), order(MARKET)]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"{}", Reason.INVALID_REQUEST),
        (b"[]", Reason.INVALID_REQUEST),
        (b'{"orders": {}}', Reason.INVALID_REQUEST),
        (b'{"orders": null}', Reason.INVALID_REQUEST),
        (b'{"orders": [], "dry_run": true}', Reason.INVALID_REQUEST),
        (b'{"orders": [' + b"1," * 1000 + b"1]}", Reason.INVALID_REQUEST),
        (b'{"orders": [{]}', Reason.MALFORMED_JSON),
        (b'{"orders": ["\xff"]}', Reason.MALFORMED_JSON),
        (b'{"orders": ' + b"[" * 60_000, Reason.MALFORMED_JSON),
        (b'{"orders": ' + b"[" * 30_000 + b"]" * 30_000 + b"}", Reason.MALFORMED_JSON),
    ],
)
def test_what_is_no_batch_is_refused_as_a_whole(body: bytes, reason: Reason) -> None:
    """Not a list, more than a thousand, unknown fields, no JSON."""
    with pytest.raises(Problem) as caught:
        read_batch(body)
    assert caught.value.reason is reason


def test_a_batch_takes_a_thousand() -> None:
    """The limit itself is fine."""
    assert len(read_batch(b'{"orders": [' + b"1," * 999 + b"1]}")) == 1000


REFUSALS = {Reason.MALFORMED_JSON, Reason.INVALID_REQUEST}
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
VALUES = LEAVES | st.lists(LEAVES, max_size=3) | st.dictionaries(st.text(max_size=5), LEAVES, max_size=3)
NAMES = st.sampled_from(
    ["user_id", "symbol", "side", "type", "quantity", "price", "stop_price", "time_in_force", "expires_at", "post_only",
     "self_trade_prevention", "client_order_id", "display_quantity", "expected_version", "tick_size", "state", "trail_amount",
     "trail_percent", "limit_offset", "min_quantity", "max_slippage_bps", "session_close", "price_band_percent", "op", "order_id"]
)  # fmt: skip
LIKELY = st.sampled_from(
    ["BUY", "limit", "MARKET", "GTD", "IOC", "DAY", "NONE", "STOP", "TRAILING_STOP", LATER, "1", "0", "1e5", 7, 1.5, -1, "A",
     "cancel", "modify", True]
)  # fmt: skip


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
    assert found.errors or found.detail
    return found.reason


@settings(max_examples=300)
@given(st.dictionaries(NAMES | st.text(max_size=8), VALUES | LIKELY, max_size=8), st.booleans())
def test_any_object_is_taken_or_explained(members: dict[str, Any], complete: bool) -> None:
    """Whatever an object holds, it is a command or a refusal that names what is wrong: never another exception."""
    body = json.dumps(LIMIT | members if complete else members).encode(errors="surrogatepass")
    outcome(read_new_order, body)
    outcome(lambda body: read_modify(body, 1), body)
    outcome(lambda body: read_instrument(body, "A"), body)
    outcome(read_batch, b'{"orders": [' + body + b"]}")


@settings(max_examples=300)
@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode(errors="replace")))
def test_any_bytes_are_refused_with_a_reason(body: bytes) -> None:
    """Noise is never taken for an order and never fails."""
    assert outcome(read_new_order, body) is not None
    outcome(read_batch, b'{"orders": [' + body + b"]}")
