"""Bodies into commands: one fast way for plain orders, one thorough way for everything else.

Fast: one Struct decode, one table look-up for the combination of fields. Whatever it can't take, for any reason, the thorough
way reads field by field: into a command, or into a Problem that names each bad field (INVALID_REQUEST), all at once. Both ways
use the same readers, patterns and rules.

Of a key that is repeated in an object, the last counts. `null` is refused everywhere: leave out what isn't given.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from enum import IntEnum
from functools import lru_cache
from itertools import product
from typing import Any, Final, NamedTuple, TypeVar, get_type_hints

import msgspec
from msgspec import UNSET, Raw

from ome.api.auth import OPERATOR, Caller, user_for
from ome.api.order_rules import has_limit, order_rules
from ome.api.problems import FieldError, Problem
from ome.api.risk_schemas import MAX_OPEN_ORDERS, MAX_TIMER_SECONDS
from ome.api.schemas import (
    ASSET_WORDS,
    CLIENT_ORDER_ID,
    CLIENT_ORDER_ID_WORDS,
    MAX_HALT_SECONDS,
    MAX_OPERATIONS,
    MAX_VALID_FOR_MS,
    MAX_VERSION,
    NO_ASSET,
    SYMBOL,
    SYMBOL_WORDS,
    TIME_OF_DAY,
    USER_ID,
    USER_ID_WORDS,
    PlainOrderRequest,
)
from ome.domain.amounts import MAX_FEE_BPS
from ome.domain.clock import parse_time
from ome.domain.commands import (
    CancelAllAfter,
    CancelOrder,
    DefineInstrument,
    ModifyOrder,
    NewOrder,
    SetKill,
    SetLimits,
    Transfer,
)
from ome.domain.enums import (
    MarketState,
    OrderType,
    SelfTradePrevention,
    Side,
    TimeInForce,
    TransferKind,
)
from ome.domain.errors import NumberError
from ome.domain.ids import parse_id
from ome.domain.numbers import MAX_TEXT, parse, parse_json_number, value_of
from ome.domain.ports import Operation, Timely
from ome.domain.reasons import Reason
from ome.domain.records import Limits, SpecialTerms

Name = TypeVar("Name", bound=IntEnum)
Reader = Callable[[Raw], Any]
Rules = Callable[[Mapping[str, Any], Collection[str]], list[FieldError]]

_ZERO: Final = re.compile(rb'0(?:\.0{1,38})?|"0(?:\.0{1,38})?"')
_WHOLE: Final = re.compile(rb"(-?(?:0|[1-9][0-9]{0,15}))(?:\.0{1,15})?")
"""A whole number, as JSON Schema has it: 5.0 is one."""
_MESSAGE_ID: Final = re.compile(rb'-?[0-9]{1,18}|"[ !#-\[\]-~]{0,64}"')
MAX_NAME: Final = 64
"""Characters of an unknown field's name that an answer repeats."""


class Unreadable(ValueError):
    """A field's value is not as it should be; the message completes a sentence that starts with its name."""


_REFUSALS: Final = (msgspec.MsgspecError, ValueError, NumberError, KeyError, RecursionError)
"""What the fast way can end in: decoding, unreadable values (UnicodeDecodeError among them), unknown names, nesting."""


# Readers: one JSON value each


def read_number(raw: Raw) -> int:
    """A number above zero, read from the very digits that were sent, in a string or bare (N1)."""
    text = bytes(raw)
    return _number(text) if len(text) <= MAX_TEXT else _number.__wrapped__(text)


@lru_cache(maxsize=4096)
def _number(text: bytes) -> int:
    """Prices and quantities come again and again: the last ones are remembered as they were read."""
    if text[:1] == b'"':
        number = parse(_STRING.decode(text) if b"\\" in text else text[1:-1].decode())
    elif text[:1] in b"-0123456789":
        number = parse_json_number(text.decode())
    else:
        raise Unreadable('must be a number or a string of one, such as "150.50"; leave it out if there is none')
    if not number:
        raise Unreadable("must be above zero")
    return number


def _read_number_or_zero(raw: Raw) -> int:
    return 0 if _ZERO.fullmatch(bytes(raw)) else read_number(raw)


def _read_percent(raw: Raw) -> int:
    number = read_number(raw)
    if value_of(number) >= 100:
        raise Unreadable("must be below 100, in percent")
    return number


def _string(raw: Raw) -> str:
    try:
        return _STRING.decode(raw)
    except msgspec.ValidationError:
        raise Unreadable("must be a string") from None


def _text(pattern: str, message: str) -> Reader:
    matches = re.compile(pattern, re.ASCII).fullmatch

    def read(raw: Raw) -> str:
        text = _string(raw)
        if matches(text) is None:
            raise Unreadable(message)
        return text

    return read


class Names(dict[str, Name]):
    """The members of an enum by their names, in any case of ASCII; KeyError for anything else."""

    def __init__(self, members: type[Name]) -> None:
        super().__init__({spelt: member for member in members for spelt in (member.name, member.name.lower())})
        self.choices = ", ".join(member.name for member in members)

    def __missing__(self, spelt: str) -> Name:
        folded = spelt.upper()
        if folded == spelt or not spelt.isascii():
            raise KeyError(spelt)
        return self[folded]


def _name_reader(names: Names[Name]) -> Reader:
    def read(raw: Raw) -> Name:
        try:
            return names[_string(raw)]
        except KeyError:
            raise Unreadable(f"must be one of {names.choices}") from None

    return read


def _read_boolean(raw: Raw) -> bool:
    try:
        return _BOOLEAN.decode(raw)
    except msgspec.ValidationError:
        raise Unreadable("must be true or false") from None


def _upper(reader: Reader) -> Reader:
    return lambda raw: reader(raw).upper()


def _whole_reader(low: int, high: int, message: str) -> Reader:
    def read(raw: Raw) -> int:
        match = _WHOLE.fullmatch(bytes(raw))
        if match is None or not low <= int(match[1]) <= high:
            raise Unreadable(message)
        return int(match[1])

    return read


def _read_moment(raw: Raw) -> int:
    return parse_time(_string(raw))


def _read_time_of_day(raw: Raw) -> int:
    """Seconds since midnight."""
    text = _read_clock(raw)
    hours, minutes, *seconds = map(int, text.split(":"))
    return hours * 3600 + minutes * 60 + sum(seconds)


def _read_order_id(raw: Raw) -> int:
    """An order id; 0, which no order has, for text that can't be one."""
    return parse_id(_string(raw)) or 0


def _read_operations(raw: Raw) -> list[Raw]:
    try:
        operations = _LIST.decode(raw)
    except msgspec.ValidationError:
        raise Unreadable("must be a list of operations") from None
    except RecursionError:
        raise Unreadable("is nested too deeply") from None
    if len(operations) > MAX_OPERATIONS:
        raise Unreadable(f"has {len(operations)} operations; at most {MAX_OPERATIONS} go into one batch")
    return operations


def _read_operation(raw: Raw) -> str:
    name = _string(raw)
    if name not in _OPERATIONS:
        raise Unreadable(f"must be one of {', '.join(_OPERATIONS)}")
    return name


def one_of(*names: str) -> Reader:
    """A reader of one of these words."""

    def read(raw: Raw) -> str:
        name = _string(raw)
        if name not in names:
            raise Unreadable(f"must be one of {', '.join(names)}")
        return name

    return read


read_string: Final = _string
read_boolean: Final = _read_boolean
read_symbol: Final = _text(SYMBOL, SYMBOL_WORDS)
read_user_id: Final = _text(USER_ID, USER_ID_WORDS)
read_moment: Final = _read_moment
read_whole: Final = _whole_reader
_read_clock: Final = _text(TIME_OF_DAY, "must be a time of day, HH:MM or HH:MM:SS")
_STRING: Final = msgspec.json.Decoder(str)
_BOOLEAN: Final = msgspec.json.Decoder(bool)
_LIST: Final = msgspec.json.Decoder(list[Raw])
_OBJECT: Final = msgspec.json.Decoder(dict[str, Raw])

_SIDES: Final = Names(Side)
_TYPES: Final = Names(OrderType)
_TIMES_IN_FORCE: Final = Names(TimeInForce)
_MODES: Final = Names(SelfTradePrevention)

_OPERATIONS: Final = ("submit", "modify", "cancel")


# The fast way


def _combinations() -> dict[tuple[OrderType, TimeInForce, bool, bool, bool], TimeInForce]:
    """Every combination of type, time in force, price, expires_at and post_only that the rules allow, and the time in force that
    the order reads.
    """
    allowed = {}
    for key in product(OrderType, TimeInForce, (False, True), (False, True), (False, True)):
        order_type, time_in_force, priced, dated, post_only = key
        given = [field for field, there in (("price", priced), ("expires_at", dated)) if there]
        values = {"type": order_type, "time_in_force": time_in_force, "post_only": post_only}
        if not order_rules(values, [*values, *given]):
            allowed[key] = time_in_force if has_limit(order_type, given) else TimeInForce.IOC
    return allowed


def _without_patterns(model: type[msgspec.Struct]) -> Any:
    """The same fields without what is looked at here: msgspec takes longer for two patterns than for all the rest."""
    types = get_type_hints(model)
    fields = [
        (field.name, types[field.name]) if field.required else (field.name, types[field.name], field.default)
        for field in msgspec.structs.fields(model)
    ]
    return msgspec.defstruct(f"Bare{model.__name__}", fields, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False)


_COMBINATIONS: Final = _combinations()
_POST_ONLY: Final = SpecialTerms(post_only=True)
_PLAIN_ORDER: Final = msgspec.json.Decoder(_without_patterns(PlainOrderRequest))
_is_client_order_id: Final = re.compile(CLIENT_ORDER_ID, re.ASCII).fullmatch


def _check_of(pattern: str) -> Callable[[str], None]:
    """Raises ValueError for what doesn't match. What does is remembered, the last few thousand."""
    matches = re.compile(pattern, re.ASCII).fullmatch

    @lru_cache(maxsize=4096)
    def check(text: str) -> None:
        if matches(text) is None:
            raise ValueError(text)

    return check


_check_user_id: Final = _check_of(USER_ID)
_check_symbol: Final = _check_of(SYMBOL)


def _plain_order(body: bytes | Raw, caller: Caller) -> NewOrder:
    """The command that a plain order's body asks for, the caller's where it names no user.

    Raises one of `_REFUSALS` for whatever needs a closer look, or NOT_YOUR_USER.
    """
    request = _PLAIN_ORDER.decode(body)
    order_type, price, expires_at, post_only = _TYPES[request.type], request.price, request.expires_at, request.post_only
    time_in_force = _COMBINATIONS[
        order_type, _TIMES_IN_FORCE[request.time_in_force], price is not UNSET, expires_at is not UNSET, post_only
    ]
    symbol, client_order_id = request.symbol, request.client_order_id
    user_id = request.user_id
    if user_id is UNSET:
        if caller.user_id is None:
            raise KeyError(user_id)
        user_id = caller.user_id
    else:
        _check_user_id(user_id)
    _check_symbol(symbol)
    if client_order_id is not UNSET and _is_client_order_id(client_order_id) is None:
        raise ValueError(client_order_id)
    if caller.account is not None and user_id != caller.account:
        raise Problem(Reason.NOT_YOUR_USER)
    return NewOrder(
        user_id,
        symbol if symbol.isupper() else symbol.upper(),
        _SIDES[request.side],
        order_type,
        time_in_force,
        read_number(request.quantity),
        None if price is UNSET else read_number(price),
        _MODES[request.self_trade_prevention],
        None if client_order_id is UNSET else client_order_id,
        None if expires_at is UNSET else parse_time(expires_at),
        _POST_ONLY if post_only else None,
    )


# The thorough way


class Form(NamedTuple):
    """How an object is read: a reader for each field that it may have, the fields that it must have, the rules between them."""

    readers: Mapping[str, Reader]
    required: Collection[str]
    rules: Rules


def _modify_rules(_values: Mapping[str, Any], given: Collection[str]) -> list[FieldError]:
    if not any(field in given for field in MODIFY_FORM.readers if field not in CONDITIONS):
        return [FieldError("quantity", "or another field to change is required")]
    if "trail_amount" in given and "trail_percent" in given:
        return [FieldError("trail_amount", "or trail_percent, not both")]
    return []


def _no_rules(_values: Mapping[str, Any], _given: Collection[str]) -> list[FieldError]:
    return []


def _instrument_rules(values: Mapping[str, Any], given: Collection[str]) -> list[FieldError]:
    """Both assets or neither: named, and not the same, or both empty."""
    for one, other in (("base_asset", "quote_asset"), ("quote_asset", "base_asset")):
        if one in given and other not in given:
            return [FieldError(other, f"goes with {one}: send both")]
    base, quote = values.get("base_asset"), values.get("quote_asset")
    if base is not None and quote is not None:
        if bool(base) is not bool(quote):
            return [FieldError("quote_asset" if base else "base_asset", "must be named too, or both be empty")]
        if base and base == quote:
            return [FieldError("quote_asset", "must be another than base_asset")]
    return []


_read_fee: Final = _whole_reader(
    -MAX_FEE_BPS, MAX_FEE_BPS, f"must be a whole number from {-MAX_FEE_BPS} to {MAX_FEE_BPS}, in hundredths of a percent"
)
_read_valid_for: Final = _whole_reader(
    1, MAX_VALID_FOR_MS, f"must be a whole number of milliseconds from 1 to {MAX_VALID_FOR_MS}"
)
CONDITIONS: Final = frozenset({"expected_version", "valid_for_ms"})
"""What a change asks to be so, beside what it changes."""
ORDER_FORM: Final = Form(
    {
        "user_id": _text(USER_ID, USER_ID_WORDS),
        "symbol": _text(SYMBOL, SYMBOL_WORDS),
        "side": _name_reader(_SIDES),
        "type": _name_reader(_TYPES),
        "quantity": read_number,
        "price": read_number,
        "stop_price": read_number,
        "trail_amount": read_number,
        "trail_percent": _read_percent,
        "limit_offset": read_number,
        "time_in_force": _name_reader(_TIMES_IN_FORCE),
        "expires_at": _read_moment,
        "post_only": _read_boolean,
        "display_quantity": read_number,
        "min_quantity": read_number,
        "max_slippage_bps": _whole_reader(0, 10_000, "must be a whole number from 0 to 10000, in hundredths of a percent"),
        "self_trade_prevention": _name_reader(_MODES),
        "client_order_id": _text(CLIENT_ORDER_ID, CLIENT_ORDER_ID_WORDS),
        "valid_for_ms": _read_valid_for,
    },
    ("user_id", "symbol", "side", "quantity"),
    order_rules,
)
MODIFY_FORM: Final = Form(
    {
        "quantity": read_number,
        "price": read_number,
        "stop_price": read_number,
        "display_quantity": read_number,
        "expires_at": _read_moment,
        "trail_amount": read_number,
        "trail_percent": _read_percent,
        "expected_version": _whole_reader(1, MAX_VERSION, "must be a whole number from 1, as `version` in the order"),
        "valid_for_ms": _read_valid_for,
    },
    (),
    _modify_rules,
)
INSTRUMENT_FORM: Final = Form(
    {
        "tick_size": read_number,
        "lot_size": read_number,
        "max_order_quantity": _read_number_or_zero,
        "price_band_percent": _read_number_or_zero,
        "band_halt_seconds": _whole_reader(
            0, MAX_HALT_SECONDS, f"must be a whole number of seconds from 0 to {MAX_HALT_SECONDS}"
        ),
        "session_close": _read_time_of_day,
        "state": _name_reader(Names(MarketState)),
        "base_asset": _upper(_text(NO_ASSET, ASSET_WORDS)),
        "quote_asset": _upper(_text(NO_ASSET, ASSET_WORDS)),
        "maker_fee_bps": _read_fee,
        "taker_fee_bps": _read_fee,
    },
    (),
    _instrument_rules,
)
TRANSFER_FORM: Final = Form(
    {
        "user_id": _text(USER_ID, USER_ID_WORDS),
        "asset": _upper(_text(SYMBOL, SYMBOL_WORDS)),
        "amount": read_number,
        "client_transfer_id": _text(CLIENT_ORDER_ID, CLIENT_ORDER_ID_WORDS),
    },
    ("user_id", "asset", "amount", "client_transfer_id"),
    _no_rules,
)
LIMITS_FORM: Final = Form(
    {
        "symbol": lambda raw: read_symbol(raw).upper(),
        "max_order_quantity": _read_number_or_zero,
        "max_order_notional": _read_number_or_zero,
        "max_open_orders": _whole_reader(0, MAX_OPEN_ORDERS, f"must be a whole number from 0 to {MAX_OPEN_ORDERS}"),
        "max_position": _read_number_or_zero,
        "price_collar_percent": _read_number_or_zero,
    },
    (),
    _no_rules,
)
TIMER_FORM: Final = Form(
    {"seconds": _whole_reader(0, MAX_TIMER_SECONDS, f"must be a whole number of seconds from 0 to {MAX_TIMER_SECONDS}")},
    ("seconds",),
    _no_rules,
)
KILL_FORM: Final = Form(
    {"scope": _text("all|user|symbol", "must be all, user or symbol"), "id": _string, "active": _read_boolean},
    ("scope", "active"),
    _no_rules,
)
BATCH_FORM: Final = Form({"orders": _read_operations}, ("orders",), _no_rules)
_OP: Final[dict[str, Reader]] = {"op": _read_operation}
_NAMED: Final[dict[str, Reader]] = {**_OP, "order_id": _read_order_id}
OPERATION_FORMS: Final = {
    "submit": ORDER_FORM._replace(readers={**_OP, **ORDER_FORM.readers}),
    "modify": MODIFY_FORM._replace(readers={**_NAMED, **MODIFY_FORM.readers}, required=("order_id",)),
    "cancel": Form(_NAMED, ("order_id",), _no_rules),
}
_WITHOUT_USER: Final = tuple(field for field in ORDER_FORM.required if field != "user_id")
_OWN_ORDER_FORM: Final = ORDER_FORM._replace(required=_WITHOUT_USER)
_OWN_SUBMIT_FORM: Final = OPERATION_FORMS["submit"]._replace(required=_WITHOUT_USER)
"""Where the key belongs to a user."""
_TERMS: Final = (
    "stop_price", "trail_amount", "trail_percent", "limit_offset", "post_only", "display_quantity", "min_quantity",
    "max_slippage_bps",
)  # fmt: skip
"""The fields of an order that are its special terms; a plain order has none of them."""


def _read(members: Mapping[str, Raw], form: Form) -> dict[str, Any]:
    """The value of each field that was sent; raises Problem with all that is wrong."""
    values: dict[str, Any] = {}
    errors: list[FieldError] = []
    for name, raw in members.items():
        reader = form.readers.get(name)
        if reader is None:
            errors.append(
                FieldError(name[:MAX_NAME], f"is no field of this request; it takes {', '.join(form.readers) or 'none'}")
            )
            continue
        try:
            values[name] = reader(raw)
        except (ValueError, NumberError) as error:
            errors.append(FieldError(name, str(error)))
    errors += [FieldError(name, "is required") for name in form.required if name not in members]
    errors += form.rules(values, members.keys())
    if errors:
        raise Problem(Reason.INVALID_REQUEST, errors=errors)
    return values


def _members(body: bytes | Raw) -> dict[str, Raw]:
    """The members of one JSON object, each still as it was sent; raises Problem."""
    try:
        bytes(body).decode()
        return _OBJECT.decode(body)
    except msgspec.ValidationError:
        raise Problem(Reason.INVALID_REQUEST, "The body must be one JSON object.") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Problem(Reason.MALFORMED_JSON, f"Send one JSON object in UTF-8; reading stopped: {error}.") from None
    except RecursionError:
        raise Problem(Reason.MALFORMED_JSON, "The body is nested too deeply; no field of this service is.") from None


# Bodies


def read_body(body: bytes, form: Form) -> dict[str, Any]:
    """The value of each field of a body; raises Problem with all that is wrong."""
    return _read(_members(body), form)


def read_new_order(body: bytes, caller: Caller = OPERATOR) -> NewOrder | Timely:
    """The command that a POST /orders body asks for, the caller's where it names no user; raises Problem."""
    try:
        return _plain_order(body, caller)
    except _REFUSALS:
        return _order(_read(_members(body), ORDER_FORM if caller.user_id is None else _OWN_ORDER_FORM), caller)


def _order(values: Mapping[str, Any], caller: Caller) -> NewOrder | Timely:
    order_type = values.get("type", OrderType.LIMIT)
    special = {name: values[name] for name in _TERMS if values.get(name, False) is not False}
    order = NewOrder(
        user_for(caller, values.get("user_id")),
        values["symbol"].upper(),
        values["side"],
        order_type,
        values.get("time_in_force", TimeInForce.GTC) if has_limit(order_type, values) else TimeInForce.IOC,
        values["quantity"],
        values.get("price"),
        values.get("self_trade_prevention", SelfTradePrevention.CANCEL_NEWEST),
        values.get("client_order_id"),
        values.get("expires_at"),
        SpecialTerms(**special) if special else None,
    )
    return order if "valid_for_ms" not in values else Timely(order, values["valid_for_ms"])


def read_modify(body: bytes, order_id: int, caller: Caller = OPERATOR) -> ModifyOrder | Timely:
    """The command that a PUT /orders/{order_id} body asks for; raises Problem. `exists` is for order entry to fill in."""
    return _change(order_id, _read(_members(body), MODIFY_FORM), caller)


def _change(order_id: int, values: dict[str, Any], caller: Caller) -> ModifyOrder | Timely:
    valid_for_ms: int | None = values.pop("valid_for_ms", None)
    change = ModifyOrder(order_id, exists=True, account=caller.account, **values)
    return change if valid_for_ms is None else Timely(change, valid_for_ms)


def read_instrument(body: bytes, symbol: str) -> DefineInstrument:
    """The command that a PUT /instruments/{symbol} body asks for; raises Problem."""
    values = _read(_members(body), INSTRUMENT_FORM)
    return DefineInstrument(
        symbol,
        tick_size=values.get("tick_size"),
        lot_size=values.get("lot_size"),
        state=values.get("state"),
        max_order_quantity=values.get("max_order_quantity"),
        price_band_percent=values.get("price_band_percent"),
        band_halt_s=values.get("band_halt_seconds"),
        session_close_s=values.get("session_close"),
        base_asset=values.get("base_asset"),
        quote_asset=values.get("quote_asset"),
        maker_fee_bps=values.get("maker_fee_bps"),
        taker_fee_bps=values.get("taker_fee_bps"),
    )


def read_transfer(body: bytes, kind: TransferKind) -> Transfer:
    """The command that a POST /admin/deposits or /admin/withdrawals body asks for; raises Problem."""
    return Transfer(kind, **_read(_members(body), TRANSFER_FORM))


def read_limits(body: bytes, user_id: str) -> SetLimits:
    """The command that a PUT /users/{user_id}/limits body asks for; raises Problem."""
    values = _read(_members(body), LIMITS_FORM)
    return SetLimits(user_id, values.pop("symbol", ""), Limits(**values))


def read_timer(body: bytes, user_id: str) -> CancelAllAfter:
    """The command that a POST /users/{user_id}/cancel_all_after body asks for; raises Problem."""
    return CancelAllAfter(user_id, _read(_members(body), TIMER_FORM)["seconds"])


def read_kill(body: bytes) -> SetKill:
    """The command that a PUT /admin/kill body asks for; raises Problem."""
    values = _read(_members(body), KILL_FORM)
    scope, name = values["scope"], values.get("id")
    if scope == "all":
        if name is not None:
            raise Problem(Reason.INVALID_REQUEST, errors=[FieldError("id", "goes with the scopes user and symbol only")])
        return SetKill("", "", values["active"])
    pattern, words = (USER_ID, USER_ID_WORDS) if scope == "user" else (SYMBOL, SYMBOL_WORDS)
    if name is None or re.fullmatch(pattern, name, re.ASCII) is None:
        message = "is required with the scopes user and symbol" if name is None else f"with the scope {scope} it {words}"
        raise Problem(Reason.INVALID_REQUEST, errors=[FieldError("id", message)])
    return SetKill(name, "", values["active"]) if scope == "user" else SetKill("", name.upper(), values["active"])


def read_batch(body: bytes, caller: Caller = OPERATOR) -> list[Operation | Problem]:
    """The operations that a POST /orders/batch body asks for, in their order; one that can't be read is its own Problem.

    An order that names no user is the caller's. Raises Problem for a body that holds no list of at most MAX_OPERATIONS.
    """
    operations: list[Raw] = _read(_members(body), BATCH_FORM)["orders"]
    return [_operation(operation, caller) for operation in operations]


def _operation(body: Raw, caller: Caller) -> Operation | Problem:
    try:
        try:
            return _plain_order(body, caller)
        except _REFUSALS:
            return _thorough_operation(body, caller)
    except Problem as problem:
        return problem


def _thorough_operation(body: Raw, caller: Caller) -> Operation:
    members = _members(body)
    try:
        op = _read_operation(members["op"]) if "op" in members else "submit"
    except Unreadable as error:
        raise Problem(Reason.INVALID_REQUEST, errors=[FieldError("op", str(error))]) from None
    form = _OWN_SUBMIT_FORM if op == "submit" and caller.user_id is not None else OPERATION_FORMS[op]
    values = _read(members, form)
    values.pop("op", None)
    if op == "submit":
        return _order(values, caller)
    order_id = values.pop("order_id")
    if not order_id:
        raise Problem(Reason.ORDER_NOT_FOUND)
    if op == "cancel":
        return CancelOrder(order_id, exists=True, account=caller.account)
    return _change(order_id, values, caller)


# Messages of a socket


class Asked(NamedTuple):
    """A message of a socket: what is asked, the `id` that its answer carries as it was sent (None: none), the other members."""

    op: str
    id: Raw | None
    members: dict[str, Raw]

    @property
    def body(self) -> bytes:
        """The other members, as the body of a request would have them."""
        return msgspec.json.encode(self.members)


def read_message(text: bytes) -> Asked:
    """One message; raises Problem where it is no object, or has no readable `op` or `id`."""
    members = _members(text)
    given_id = members.pop("id", None)
    errors: list[FieldError] = []
    if given_id is not None and _MESSAGE_ID.fullmatch(bytes(given_id)) is None:
        errors.append(FieldError("id", "must be a whole number, or a string of at most 64 plain characters"))
        given_id = None
    op = ""
    try:
        op = _string(members.pop("op"))
    except KeyError:
        errors.append(FieldError("op", "is required"))
    except Unreadable as error:
        errors.append(FieldError("op", str(error)))
    if errors:
        raise Problem(Reason.INVALID_REQUEST, errors=errors)
    return Asked(op, given_id, members)


def read_form(members: Mapping[str, Raw], form: Form) -> dict[str, Any]:
    """The value of each member that was sent; raises Problem with all that is wrong."""
    return _read(members, form)


def pop_order_id(members: dict[str, Raw]) -> int:
    """The order that a message names, taken out of its members; raises Problem."""
    raw = members.pop("order_id", None)
    try:
        order_id = 0 if raw is None else _read_order_id(raw)
    except Unreadable as error:
        raise Problem(Reason.INVALID_REQUEST, errors=[FieldError("order_id", str(error))]) from None
    if raw is None:
        raise Problem(Reason.INVALID_REQUEST, errors=[FieldError("order_id", "is required")])
    if not order_id:
        raise Problem(Reason.ORDER_NOT_FOUND)
    return order_id


def pop_dry_run(members: dict[str, Raw]) -> bool:
    """Whether a message asks for a dry run, taken out of its members; raises Problem."""
    raw = members.pop("dry_run", None)
    try:
        return raw is not None and _read_boolean(raw)
    except Unreadable as error:
        raise Problem(Reason.INVALID_REQUEST, errors=[FieldError("dry_run", str(error))]) from None
