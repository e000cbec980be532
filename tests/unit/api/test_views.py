"""Records and events as clients see them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from fakes import NOW, order_record
from ome.api import views
from ome.api.outcomes import order_after
from ome.api.problems import Problem
from ome.domain.enums import MarketState, OrderStatus, OrderType, SelfTradePrevention, Side, TimeInForce
from ome.domain.events import (
    CommandRefused,
    Event,
    InstrumentChanged,
    OrderAccepted,
    OrderCancelled,
    OrderExpired,
    OrderFilled,
    OrderRejected,
    Traded,
)
from ome.domain.numbers import pack, parse
from ome.domain.ports import Answer, Auction, Ticker
from ome.domain.reasons import Reason
from ome.domain.records import InstrumentRecord, InstrumentRules, SpecialTerms, TradeRecord

ME = 1_000_000_000_000_001
TIME = "2026-11-22T10:00:00.000000Z"
TRADE = TradeRecord(7, "AAPL", pack(15050, 2), pack(40, 0), ME, 5, Side.BUY, NOW, 12, 3)


def test_an_order_has_every_field_of_the_contract() -> None:
    """Decimals are strings with the instrument's decimals, ids digits in strings, what isn't there null."""
    assert msgspec.to_builtins(views.order_view(order_record())) == {
        "order_id": "1000000000000001",
        "client_order_id": None,
        "user_id": "alice",
        "symbol": "AAPL",
        "side": "BUY",
        "type": "LIMIT",
        "time_in_force": "GTC",
        "quantity": "100",
        "filled_quantity": "0",
        "remaining_quantity": "100",
        "price": "150.50",
        "average_price": None,
        "stop_price": None,
        "self_trade_prevention": "CANCEL_NEWEST",
        "status": "PENDING",
        "reason": None,
        "version": 1,
        "created_at": TIME,
        "updated_at": TIME,
        "triggered_at": None,
    }


def test_a_special_order_shows_what_it_was_given_and_where_that_stands() -> None:
    """Prices and quantities as strings, the stop where it is now; what it wasn't given, and the engine's own, isn't there."""
    terms = SpecialTerms(
        stop_price=pack(14700, 2),
        trail_percent=parse("2.5"),
        limit_offset=pack(25, 2),
        post_only=True,
        display_quantity=pack(10, 0),
        shown_quantity=pack(7, 0),
        prevented_quantity=pack(3, 0),
        trail_extreme=pack(15080, 2),
        triggered_at=NOW + 5,
        is_due=True,
    )
    shown = msgspec.to_builtins(views.order_view(order_record(type=OrderType.TRAILING_STOP, terms=terms)))
    plain = msgspec.to_builtins(views.order_view(order_record(type=OrderType.TRAILING_STOP)))
    assert {name: value for name, value in shown.items() if value != plain.get(name)} == {
        "stop_price": "147.00",
        "trail_percent": "2.5",
        "limit_offset": "0.25",
        "post_only": True,
        "display_quantity": "10",
        "prevented_quantity": "3",
        "triggered_at": "2026-11-22T10:00:00.000005Z",
    }
    assert plain.keys() <= shown.keys()


@pytest.mark.parametrize(
    ("terms", "shown"),
    [
        (SpecialTerms(trail_amount=pack(150, 2)), {"trail_amount": "1.50"}),
        (SpecialTerms(min_quantity=pack(5, 0)), {"min_quantity": "5"}),
        (SpecialTerms(max_slippage_bps=0), {"max_slippage_bps": 0}),
        (SpecialTerms(stop_price=pack(0, 2)), {"stop_price": "0.00"}),
        (SpecialTerms(prevented_quantity=pack(0, 0)), {}),
        (SpecialTerms(), {}),
    ],
)
def test_each_special_term_is_shown_by_itself(terms: SpecialTerms, shown: dict[str, Any]) -> None:
    """Zero is something where it was given, and nothing where nothing was prevented."""
    view = msgspec.to_builtins(views.order_view(order_record(terms=terms)))
    assert view == msgspec.to_builtins(views.order_view(order_record())) | shown


def test_a_trade_of_an_auction_has_no_taker() -> None:
    """H3: the older of two orders is the maker."""
    view = views.trade_view(msgspec.structs.replace(TRADE, taker_side=None))
    assert (view.taker_side, view.maker_order_id) == (None, "5")


@pytest.mark.parametrize(("seconds", "text"), [(0, "00:00:00"), (75_600, "21:00:00"), (86_399, "23:59:59")])
def test_a_session_close_is_shown_as_a_time_of_day(seconds: int, text: str) -> None:
    """UTC, with seconds always."""
    assert views.time_of_day(seconds) == text


def test_an_instrument_shows_its_rules() -> None:
    """Null where there is none; a halt says until when."""
    record = InstrumentRecord("A", pack(1, 2), pack(1, 0), MarketState.OPEN, 0, None, None, None, NOW)
    plain = views.instrument_view(record)
    assert (plain.max_order_quantity, plain.price_band_percent, plain.halted_until) == (None, None, None)
    assert (plain.band_halt_seconds, plain.session_close) == (0, "00:00:00")
    rules = InstrumentRules(pack(500, 0), parse("12.5"), 300, 3600, NOW)
    guarded = views.instrument_view(msgspec.structs.replace(record, state=MarketState.HALTED, rules=rules))
    assert (guarded.max_order_quantity, guarded.price_band_percent, guarded.band_halt_seconds) == ("500", "12.5", 300)
    assert (guarded.session_close, guarded.state, guarded.halted_until) == ("01:00:00", "HALTED", TIME)


def test_the_instrument_of_a_definition_is_the_one_that_it_names() -> None:
    """Another one may have been opened again by the same command, and its own halted after it."""
    mine = InstrumentRecord("A", pack(1, 2), pack(1, 0), MarketState.OPEN, 0, None, None, None, NOW)
    halted = msgspec.structs.replace(mine, state=MarketState.HALTED)
    other = msgspec.structs.replace(mine, symbol="B")
    events: list[Event] = [InstrumentChanged(other), InstrumentChanged(mine), InstrumentChanged(halted), InstrumentChanged(other)]
    assert views.instrument_changed(events, "A") == halted
    assert views.instrument_changed(events, "C") is None
    with pytest.raises(Problem):
        views.instrument_changed([CommandRefused(None, Reason.INSTRUMENT_IN_USE)], "A")


@pytest.mark.parametrize(
    ("auction", "price", "side"),
    [
        (Auction("A", 7, NOW, pack(15050, 2), pack(30, 0), pack(12, 0), Side.SELL), "150.50", "SELL"),
        (Auction("A", 7, NOW, None, 0, 0, None), None, None),
    ],
)
def test_an_auction_shows_what_it_would_give(auction: Auction, price: str | None, side: str | None) -> None:
    """H3: price, volume and what is left over of which side."""
    view = views.auction_view(auction)
    assert (view.symbol, view.state, view.indicative_price, view.imbalance_side) == ("A", "AUCTION", price, side)
    assert (view.indicative_volume, view.imbalance) == (("30", "12") if price else ("0", "0"))
    assert (view.sequence, view.timestamp) == (7, TIME)


def test_the_names_of_every_enum_member_are_shown() -> None:
    """The tables by number have each member at its place."""
    for side in Side:
        assert views.order_view(order_record(side=side)).side == side.name
    for kind in OrderType:
        assert views.order_view(order_record(type=kind)).type == kind.name
    for time_in_force in TimeInForce:
        assert views.order_view(order_record(time_in_force=time_in_force)).time_in_force == time_in_force.name
    for status in OrderStatus:
        assert views.order_view(order_record(status=status)).status == status.name
    for mode in SelfTradePrevention:
        assert views.order_view(order_record(self_trade_prevention=mode)).self_trade_prevention == mode.name


def test_an_expiring_order_shows_when_and_an_ended_one_why() -> None:
    """Given optional fields are shown, and the reason by its code."""
    view = views.order_view(
        order_record(expires_at=NOW + 1_500_000, status=OrderStatus.EXPIRED, reason=Reason.EXPIRED, updated_at=NOW + 1)
    )
    assert view.expires_at == "2026-11-22T10:00:01.500000Z"
    assert (view.reason, view.updated_at) == ("expired", "2026-11-22T10:00:00.000001Z")


@pytest.mark.parametrize(
    ("quantity", "value", "average"),
    [
        ("0", "0", None),
        ("40", "6020.00", "150.5"),
        ("3", "1.00", "0.333333333"),
        ("3", "2.00", "0.666666667"),
        ("0.3", "0.10", "0.333333333"),
        ("8", "0.000000004", "0"),
        ("8", "0.000000012", "0.000000002"),
        ("8", "0.000000020", "0.000000002"),
        ("999999999999999", "999999999999999000000000000000", "1000000000000000"),
    ],
)
def test_the_average_price_is_exact_and_rounded_half_even(quantity: str, value: str, average: str | None) -> None:
    """N1: from whole numbers, to 9 decimals, ties to the even digit."""
    assert views.average_price(order_record(filled_quantity=parse(quantity), filled_value=value)) == average


def test_a_trade_names_its_maker() -> None:
    """The maker is the order that rested, on the other side from the taker."""
    view = views.trade_view(TRADE)
    assert (view.maker_order_id, view.taker_side, view.price, view.quantity, view.sequence) == ("5", "BUY", "150.50", "40", 12)


def test_the_answer_is_the_order_after_its_command_with_its_trades() -> None:
    """The last event about the order counts; those about other orders are passed over."""
    other = order_record(id=5)
    filled = order_record(filled_quantity=pack(40, 0), filled_value="6020.00", status=OrderStatus.PARTIALLY_FILLED)
    ended = msgspec.structs.replace(filled, status=OrderStatus.CANCELLED)
    events: list[Event] = [
        OrderExpired(order_record(id=4)),
        OrderAccepted(order_record()),
        Traded(TRADE, "bob", "alice", pack(40, 0), 0),
        OrderFilled(filled),
        OrderCancelled(ended),
        OrderCancelled(other),
    ]
    answer = views.order_answer(Answer(ME, events))
    assert (answer.status, answer.average_price) == ("CANCELLED", "150.5")
    assert [trade.trade_id for trade in answer.executed_trades] == ["7"]
    assert answer.replayed is msgspec.UNSET


def test_a_rejected_order_is_a_problem_that_names_it() -> None:
    """The order is recorded, so the answer says which; a replay says that it is one."""
    rejected = order_record(status=OrderStatus.REJECTED, reason=Reason.PRICE_OFF_TICK)
    with pytest.raises(Problem) as caught:
        views.order_answer(Answer(ME, [OrderRejected(rejected, pack(1, 2))], replayed=True))
    document = caught.value.document("POST", "/orders", "r")
    assert (document.code, document.order_id, document.replayed, document.status) == ("price_off_tick", str(ME), True, 422)
    assert "0.01" in document.detail


def test_a_refused_command_is_a_problem_even_after_another_orders_expiry() -> None:
    """A cancel that comes too late tells so, though the same command's sweep ended the order."""
    expired = order_record(status=OrderStatus.EXPIRED)
    with pytest.raises(Problem) as caught:
        order_after(Answer(ME, [OrderExpired(expired), CommandRefused(ME, Reason.ORDER_NOT_OPEN)]))
    assert caught.value.reason is Reason.ORDER_NOT_OPEN


def test_an_answer_without_a_word_about_the_order_is_a_bug() -> None:
    """It must not be guessed."""
    with pytest.raises(LookupError):
        order_after(Answer(ME, []))


def test_a_market_shows_what_follows_from_its_best_prices_and_its_day() -> None:
    """Spread with the prices' decimals; mid and change rounded to 9 decimals, trailing zeros trimmed."""
    ticker = Ticker(
        "AAPL", MarketState.OPEN, 9, NOW, (pack(15049, 2), pack(5, 0)), (pack(15052, 2), pack(6, 0)), pack(15000, 2), pack(1, 0),
        pack(15200, 2), pack(15300, 2), pack(14900, 2), pack(77, 0),
    )  # fmt: skip
    view = views.market_view(ticker)
    assert (view.spread, view.mid_price, view.change_percent, view.volume) == ("0.03", "150.505", "-1.315789474", "77")
    assert view.best_bid is not None
    assert (view.best_bid.price, view.best_bid.quantity) == ("150.49", "5")


def test_a_quiet_market_shows_nulls() -> None:
    """Nothing is made up where there is nothing."""
    ticker = Ticker("A", MarketState.HALTED, 0, NOW, None, (pack(1, 0), pack(1, 0)), None, None, None, None, None, 0)
    view = views.market_view(ticker)
    assert (view.best_bid, view.spread, view.mid_price, view.change_percent) == (None, None, None, None)
    assert (view.state, view.volume) == ("HALTED", "0")


def test_the_queues_of_a_book_are_in_order_of_priority() -> None:
    """Levels best first, each with its orders first in line first, and the whole of what they have left."""
    orders = [
        order_record(id=1, remaining_quantity=parse("1")),
        order_record(id=2, price=pack(15051, 2)),
        order_record(id=3, remaining_quantity=parse("2.5")),
        order_record(id=4, side=Side.SELL, price=pack(15100, 2)),
    ]
    view = views.queue_view("AAPL", 8, NOW, orders, levels=1000)
    assert [(level.price, level.quantity, level.orders) for level in view.bids] == [("150.51", "100", 1), ("150.50", "3.5", 2)]
    queue = view.bids[1].queue
    assert isinstance(queue, list)
    assert [order.order_id for order in queue] == ["1", "3"]
    assert len(view.asks) == 1
    assert len(views.queue_view("AAPL", 8, NOW, orders, levels=1).bids) == 1
