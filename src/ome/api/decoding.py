"""Bodies into commands: one fast way for what is right, one slow way that explains everything that is wrong, at once.

Fast: one Struct decode, one table look-up for the combination of fields. Whatever it can't take, for any reason, the slow way
reads field by field and raises a Problem that names each bad field (INVALID_REQUEST), or, when all are good, each that isn't
built yet (NOT_SUPPORTED). Both ways use the same readers, patterns and rules.

Of a key that is repeated in an object, the last counts. `null` is refused everywhere: leave out what isn't given.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from enum import IntEnum
from itertools import product
from typing import Any, Final, NoReturn, TypeVar

import msgspec
from msgspec import UNSET, Raw

from ome.api.problems import FieldError, Problem
from ome.api.schemas import CLIENT_ORDER_ID, SYMBOL, USER_ID, InstrumentRequest, ModifyRequest, OrderRequest, Version
from ome.domain.clock import parse_time
from ome.domain.commands import DefineInstrument, ModifyOrder, NewOrder
from ome.domain.enums import MarketState, OrderType, SelfTradePrevention, Side, TimeInForce
from ome.domain.errors import NumberError
from ome.domain.numbers import parse, parse_json_number
from ome.domain.reasons import Reason

Name = TypeVar("Name", bound=IntEnum)
Reader = Callable[[Raw], Any]
Rules = Callable[[Mapping[str, Any], Collection[str]], list[FieldError]]

UNEXPLAINED: Final = "could not be read as a whole"
"""Should the slow way ever find nothing wrong with what the fast way refused: a bug, and still no order."""
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
    if text[:1] == b'"':
        number = parse(_string(raw) if b"\\" in text else text[1:-1].decode())
    elif text[:1] in b"-0123456789":
        number = parse_json_number(text.decode())
    else:
        raise Unreadable('must be a number or a string of one, such as "150.50"; leave it out if there is none')
    if not number:
        raise Unreadable("must be above zero")
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


def _read_version(raw: Raw) -> int:
    try:
        return _VERSION.decode(raw)
    except msgspec.ValidationError:
        raise Unreadable("must be a whole number from 1, as `version` in the order") from None


def _read_moment(raw: Raw) -> int:
    return parse_time(_string(raw))


_STRING: Final = msgspec.json.Decoder(str)
_BOOLEAN: Final = msgspec.json.Decoder(bool)
_VERSION: Final = msgspec.json.Decoder(Version)
_OBJECT: Final = msgspec.json.Decoder(dict[str, Raw])
_ORDER: Final = msgspec.json.Decoder(OrderRequest)
_MODIFY: Final = msgspec.json.Decoder(ModifyRequest)
_INSTRUMENT: Final = msgspec.json.Decoder(InstrumentRequest)

_SIDES: Final = Names(Side)
_TYPES: Final = Names(OrderType)
_TIMES_IN_FORCE: Final = Names(TimeInForce)
_MODES: Final = Names(SelfTradePrevention)

BUILT_TYPES: Final = frozenset({OrderType.LIMIT, OrderType.MARKET})
BUILT_TIMES_IN_FORCE: Final = frozenset({TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK, TimeInForce.GTD})
BUILT_MODES: Final = frozenset({SelfTradePrevention.CANCEL_NEWEST, SelfTradePrevention.NONE})


# The rules between an order's fields


def order_rules(values: Mapping[str, Any], given: Collection[str]) -> list[FieldError]:
    """What is wrong between fields: `values` are those that could be read, `given` all that were sent, bad ones too."""
    order_type = values.get("type", None if "type" in given else OrderType.LIMIT)
    time_in_force = values.get("time_in_force", None if "time_in_force" in given else TimeInForce.GTC)
    return [*_type_rules(order_type, given), *_time_rules(order_type, time_in_force, given)]


_PRICED: Final = frozenset({OrderType.LIMIT, OrderType.STOP_LIMIT})
_STOPS: Final = frozenset({OrderType.STOP, OrderType.STOP_LIMIT})
_TRAILING_FIELDS: Final = ("trail_amount", "trail_percent", "limit_offset")


def _type_rules(order_type: OrderType | None, given: Collection[str]) -> list[FieldError]:
    if order_type is None:
        return []
    errors = []
    for field, types in (("price", _PRICED), ("stop_price", _STOPS)):
        if order_type in types and field not in given:
            errors.append(FieldError(field, f"is required for a {order_type.name} order"))
        elif order_type not in types and field in given:
            errors.append(FieldError(field, f"does not belong to a {order_type.name} order; leave it out"))
    if order_type is OrderType.TRAILING_STOP:
        if ("trail_amount" in given) == ("trail_percent" in given):
            errors.append(FieldError("trail_amount", "or trail_percent is required, one of the two"))
    else:
        foreign = [field for field in _TRAILING_FIELDS if field in given]
        errors += [FieldError(field, "belongs to TRAILING_STOP orders only; leave it out") for field in foreign]
    return errors


def _time_rules(order_type: OrderType | None, time_in_force: TimeInForce | None, given: Collection[str]) -> list[FieldError]:
    errors = []
    if order_type is OrderType.MARKET and time_in_force in {TimeInForce.FOK, TimeInForce.GTD}:
        errors.append(
            FieldError("time_in_force", "must be IOC, or left out, for a MARKET order: it never rests, and fills in part")
        )
    elif time_in_force is TimeInForce.GTD and "expires_at" not in given:
        errors.append(FieldError("expires_at", "is required with GTD"))
    if time_in_force not in {TimeInForce.GTD, None} and "expires_at" in given:
        errors.append(FieldError("expires_at", "belongs to GTD only; leave it out, or send time_in_force GTD"))
    return errors


def _combinations() -> dict[tuple[OrderType, TimeInForce, bool, bool], TimeInForce]:
    """Every combination of type, time in force, price and expires_at that the rules allow, and the time in force it reads."""
    allowed = {}
    for key in product(BUILT_TYPES, BUILT_TIMES_IN_FORCE, (False, True), (False, True)):
        order_type, time_in_force, priced, dated = key
        given = [field for field, there in (("price", priced), ("expires_at", dated)) if there]
        values = {"type": order_type, "time_in_force": time_in_force}
        if not order_rules(values, [*values, *given]):
            allowed[key] = TimeInForce.IOC if order_type is OrderType.MARKET else time_in_force
    return allowed


_COMBINATIONS: Final = _combinations()


# Bodies


def read_new_order(body: bytes) -> NewOrder:
    """The command that a POST /orders body asks for; raises Problem."""
    try:
        return _new_order(_ORDER.decode(body))
    except _REFUSALS:
        _explain(body, _ORDER_READERS, ("user_id", "symbol", "side", "quantity"), order_rules)


def _new_order(request: OrderRequest) -> NewOrder:
    """The command; KeyError where names or their combination need a closer look."""
    order_type = _TYPES[request.type]
    price, expires_at, client_order_id = request.price, request.expires_at, request.client_order_id
    time_in_force = _COMBINATIONS[order_type, _TIMES_IN_FORCE[request.time_in_force], price is not UNSET, expires_at is not UNSET]
    mode = _MODES[request.self_trade_prevention]
    if request.post_only or mode not in BUILT_MODES:
        raise KeyError
    symbol = request.symbol
    return NewOrder(
        request.user_id,
        symbol if symbol.isupper() else symbol.upper(),
        _SIDES[request.side],
        order_type,
        time_in_force,
        read_number(request.quantity),
        None if price is UNSET else read_number(price),
        mode,
        None if client_order_id is UNSET else client_order_id,
        None if expires_at is UNSET else parse_time(expires_at),
    )


def read_modify(body: bytes, order_id: int) -> ModifyOrder:
    """The command that a PUT /orders/{order_id} body asks for; raises Problem. `exists` is for order entry to fill in."""
    try:
        request = _MODIFY.decode(body)
        quantity, price, expires_at, version = request.quantity, request.price, request.expires_at, request.expected_version
        if quantity is UNSET and price is UNSET and expires_at is UNSET:
            raise KeyError
        return ModifyOrder(
            order_id,
            exists=True,
            quantity=None if quantity is UNSET else read_number(quantity),
            price=None if price is UNSET else read_number(price),
            expires_at=None if expires_at is UNSET else parse_time(expires_at),
            expected_version=None if version is UNSET else version,
        )
    except _REFUSALS:
        _explain(body, _MODIFY_READERS, (), _modify_rules)


def _modify_rules(_values: Mapping[str, Any], given: Collection[str]) -> list[FieldError]:
    if any(field in given for field in _MODIFY_READERS if field != "expected_version"):
        return []
    return [FieldError("quantity", "or another field to change is required")]


def read_instrument(body: bytes, symbol: str) -> DefineInstrument:
    """The command that a PUT /instruments/{symbol} body asks for; raises Problem."""
    try:
        request = _INSTRUMENT.decode(body)
        tick_size, lot_size = request.tick_size, request.lot_size
        return DefineInstrument(
            symbol,
            None if tick_size is UNSET else read_number(tick_size),
            None if lot_size is UNSET else read_number(lot_size),
        )
    except _REFUSALS:
        _explain(body, _INSTRUMENT_READERS, (), lambda _values, _given: [])


# The slow way

_ORDER_READERS: Final[dict[str, Reader]] = {
    "user_id": _text(USER_ID, "must be 1 to 64 of the characters A-Z a-z 0-9 . _ : @ -"),
    "symbol": _text(SYMBOL, "must be 1 to 32 of the characters A-Z 0-9 . _ - and start with a letter or digit"),
    "side": _name_reader(_SIDES),
    "type": _name_reader(_TYPES),
    "quantity": read_number,
    "price": read_number,
    "stop_price": read_number,
    "trail_amount": read_number,
    "trail_percent": read_number,
    "limit_offset": read_number,
    "time_in_force": _name_reader(_TIMES_IN_FORCE),
    "expires_at": _read_moment,
    "post_only": _read_boolean,
    "display_quantity": read_number,
    "min_quantity": read_number,
    "max_slippage_bps": read_number,
    "self_trade_prevention": _name_reader(_MODES),
    "client_order_id": _text(CLIENT_ORDER_ID, "must be 1 to 64 printable ASCII characters"),
}
_MODIFY_READERS: Final[dict[str, Reader]] = {
    "quantity": read_number,
    "price": read_number,
    "stop_price": read_number,
    "display_quantity": read_number,
    "trail_amount": read_number,
    "trail_percent": read_number,
    "expires_at": _read_moment,
    "expected_version": _read_version,
}
_INSTRUMENT_READERS: Final[dict[str, Reader]] = {
    "tick_size": read_number,
    "lot_size": read_number,
    "max_order_quantity": read_number,
    "price_band_percent": read_number,
    "state": _name_reader(Names(MarketState)),
    "session_close": _string,
}
_BUILT: Final[dict[str, Collection[Any]]] = {
    "type": BUILT_TYPES,
    "time_in_force": BUILT_TIMES_IN_FORCE,
    "self_trade_prevention": BUILT_MODES,
    "post_only": (False,),
}
"""Fields of which some values are built."""
_NOT_BUILT: Final = frozenset(
    {
        "stop_price", "trail_amount", "trail_percent", "limit_offset", "display_quantity", "min_quantity", "max_slippage_bps",
        "max_order_quantity", "price_band_percent", "state", "session_close",
    }
)  # fmt: skip
"""Fields of the contract that aren't built at all."""


def _explain(body: bytes, readers: Mapping[str, Reader], required: Collection[str], rules: Rules) -> NoReturn:
    members = _members(body)
    values: dict[str, Any] = {}
    errors: list[FieldError] = []
    for name, raw in members.items():
        reader = readers.get(name)
        if reader is None:
            errors.append(FieldError(name[:MAX_NAME], f"is no field of this request; it takes {', '.join(readers)}"))
            continue
        try:
            values[name] = reader(raw)
        except (ValueError, NumberError) as error:
            errors.append(FieldError(name, str(error)))
    errors += [FieldError(name, "is required") for name in required if name not in members]
    errors += rules(values, members.keys())
    if errors:
        raise Problem(Reason.INVALID_REQUEST, errors=errors)
    missing = [name for name, value in values.items() if name in _NOT_BUILT or (name in _BUILT and value not in _BUILT[name])]
    if missing:
        raise not_supported(*missing)
    raise Problem(Reason.INVALID_REQUEST, errors=[FieldError("", UNEXPLAINED)])


def not_supported(*fields: str) -> Problem:
    """The refusal of fields, or parameters, that are good but not built yet."""
    detail = f"Not built yet, so leave out or choose otherwise: {', '.join(fields)}."
    return Problem(Reason.NOT_SUPPORTED, detail, errors=[FieldError(field, "is not built yet") for field in fields])


def _members(body: bytes) -> dict[str, Raw]:
    try:
        body.decode()
        return _OBJECT.decode(body)
    except msgspec.ValidationError:
        raise Problem(Reason.INVALID_REQUEST, "The body must be one JSON object.") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Problem(Reason.MALFORMED_JSON, f"Send one JSON object in UTF-8; reading stopped: {error}.") from None
    except RecursionError:
        raise Problem(Reason.MALFORMED_JSON, "The body is nested too deeply; no field of this service is.") from None
