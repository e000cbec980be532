"""What history and explain say of orders that a real engine has dealt with, kind by kind, and how the routes answer."""

from __future__ import annotations

from typing import Any

import httpx
import msgspec
import pytest

from fakes import FakeExchange, order_record
from ome.api.audit_schemas import EVENT_TYPES, STATUSES, ExplainView, HistoryView, OrderEventView, VersionView
from ome.api.explanation import Standing, explain_view, shown_at_better_prices
from ome.api.history import BEGINNING, Place, cut_events, history_view, place_after, prevented_takers
from ome.domain.commands import CancelOrder, Command, Configure, DefineInstrument, ModifyOrder, NewOrder, Stamped
from ome.domain.enums import MarketState, OrderStatus, OrderType, SelfTradePrevention, Side, TimeInForce
from ome.domain.events import (
    UNSTORED_EVENTS,
    CommandEvents,
    CommandRefused,
    OrderEvent,
    PrivateEvent,
    SelfTradePrevented,
    Traded,
)
from ome.domain.numbers import pack, parse
from ome.domain.ports import Depth
from ome.domain.records import EngineSettings, OrderRecord, SpecialTerms
from ome.engine.engine import Engine

START = 1_795_341_600_000_000
"""2026-11-22T10:00:00Z; each command comes a second after the one before."""
SECOND = 1_000_000


class Venue:
    """An engine whose events and orders are kept as the database keeps them."""

    def __init__(self) -> None:
        self.engine = Engine()
        self.commands: list[CommandEvents] = []
        self.orders: dict[int, OrderRecord] = {}

    def tell(self, command: Command, after_s: int = 1) -> int:
        """Carry out a command `after_s` seconds later; its position, which is the id of an order that it submits."""
        engine = self.engine
        events = engine.apply(Stamped(engine.position + 1, max(engine.time, START) + after_s * SECOND, command))
        private = [event for event in events if not isinstance(event, UNSTORED_EVENTS)]
        self.commands.append(CommandEvents(engine.position, engine.time, private))
        self.orders |= {order.id: order for order in engine.take_changes().orders}
        return engine.position

    def order(self, user: str, side: Side, quantity: str, price: str | None = None, **more: Any) -> int:
        """Submit an order of AAPL; LIMIT and GTC, or MARKET without a price, unless `more` says otherwise."""
        kind = more.pop("type", OrderType.MARKET if price is None else OrderType.LIMIT)
        time_in_force = more.pop("time_in_force", TimeInForce.IOC if price is None else TimeInForce.GTC)
        number = None if price is None else parse(price)
        return self.tell(NewOrder(user, "AAPL", side, kind, time_in_force, parse(quantity), number, **more))

    def told_of(self, order_id: int) -> list[CommandEvents]:
        """Every kept event that names an order."""
        found = ((each, [event for event in each.events if names(event, order_id)]) for each in self.commands)
        return [CommandEvents(each.position, each.time, events) for each, events in found if events]

    def told_after(self, order_id: int, place: Place, limit: int) -> list[CommandEvents]:
        """At most `limit` of them, from a place on."""
        found = list[CommandEvents]()
        for each in self.told_of(order_id):
            seen = place.seen if each.position == place.position else 0
            events = each.events[seen:][:limit] if each.position >= place.position else []
            found += [CommandEvents(each.position, each.time, events)] if events else []
            limit -= len(events)
        return found

    def modes(self, order_id: int) -> dict[int, SelfTradePrevention]:
        """What the takers that it kept from trading asked for."""
        takers = prevented_takers(order_id, self.told_of(order_id))
        return {taker: self.orders[taker].self_trade_prevention for taker in takers}

    def history(self, order_id: int) -> HistoryView:
        """The history of an order."""
        return history_view(self.orders[order_id], self.told_of(order_id), self.modes(order_id))

    def explain(self, order_id: int, standing: Standing | None = None) -> ExplainView:
        """The explanation of an order that stands so."""
        standing = standing or Standing(MarketState.OPEN)
        return explain_view(self.orders[order_id], self.told_of(order_id), self.modes(order_id), standing)


def names(event: PrivateEvent, order_id: int) -> bool:
    """Whether an event is about an order."""
    match event:
        case Traded(trade=trade):
            return order_id in {trade.buy_order_id, trade.sell_order_id}
        case SelfTradePrevented():
            return order_id in {event.maker_order_id, event.taker_order_id}
        case CommandRefused():
            return event.order_id == order_id
        case _:
            return event.order.id == order_id


def told(view: HistoryView | ExplainView) -> list[tuple[str, str, str, str]]:
    """Type, status, filled and remaining quantity of each event."""
    return [(each.type, each.status, each.filled_quantity, each.remaining_quantity) for each in view.events]


@pytest.fixture
def venue() -> Venue:
    """A fresh engine."""
    return Venue()


def test_the_words_are_those_of_the_enums() -> None:
    """Declared statuses are all there are, and every event that carries an order has its word."""
    assert list(STATUSES) == [status.name for status in OrderStatus]
    assert len(EVENT_TYPES) == len(set(EVENT_TYPES)) == len(OrderEvent.__args__) - 1 + 3


def test_a_maker_and_a_taker_read_the_same_trades_from_their_sides(venue: Venue) -> None:
    """M1: one FILLED for each trade, with what was filled and left right after it, whichever side the order had."""
    makers = [venue.order("ann", Side.SELL, quantity, price) for quantity, price in (("100", "150.50"), ("50", "150.60"))]
    taker = venue.order("bob", Side.BUY, "120", "151")
    rest = venue.order("cleo", Side.BUY, "30")
    first, second, took = (venue.history(order_id) for order_id in (*makers, taker))
    assert told(first) == [("ACCEPTED", "PENDING", "0", "100"), ("FILLED", "FILLED", "100", "0")]
    assert told(second) == [
        ("ACCEPTED", "PENDING", "0", "50"),
        ("FILLED", "PARTIALLY_FILLED", "20", "30"),
        ("FILLED", "FILLED", "50", "0"),
    ]
    assert told(took) == [
        ("ACCEPTED", "PENDING", "0", "120"),
        ("FILLED", "PARTIALLY_FILLED", "100", "20"),
        ("FILLED", "FILLED", "120", "0"),
    ]
    assert [each.role for each in second.events[1:]] == ["MAKER", "MAKER"]
    assert [each.role for each in took.events[1:]] == ["TAKER", "TAKER"]
    assert took.events[1].trade == first.events[1].trade
    assert [(each.number, each.position) for each in second.events] == [(1, 2), (2, taker), (3, rest)]
    assert second.events[2].time == "2026-11-22T10:00:04.000000Z"
    assert [(version.version, version.status, version.position) for version in took.versions] == [(1, "PENDING", taker)]


def test_every_version_is_there_with_the_terms_that_it_had(venue: Venue) -> None:
    """A7: the order as it stood from each change on; a change that was refused makes no version and says why (A6)."""
    order = venue.order("ann", Side.BUY, "10", "150.50")
    venue.tell(ModifyOrder(order, exists=True, quantity=parse("8")))
    venue.tell(ModifyOrder(order, exists=True, price=parse("150.505")))
    venue.tell(ModifyOrder(order, exists=True, price=parse("151"), expected_version=9))
    venue.tell(ModifyOrder(order, exists=True, price=parse("151")))
    venue.tell(CancelOrder(order, exists=True))
    venue.tell(CancelOrder(order, exists=True))
    history = venue.history(order)
    assert [(each.version, each.quantity, each.price, each.position) for each in history.versions] == [
        (1, "10", "150.50", 1),
        (2, "8", "150.50", 2),
        (3, "8", "151.00", 5),
    ]
    assert [(each.type, each.version) for each in history.events] == [
        ("ACCEPTED", 1),
        ("MODIFIED", 2),
        ("REFUSED", 2),
        ("REFUSED", 2),
        ("MODIFIED", 3),
        ("CANCELLED", 3),
        ("REFUSED", 3),
    ]
    reasons = [each.reason for each in history.events if each.reason]
    assert [(reason.code, reason.rule) for reason in reasons] == [
        ("price_off_tick", "M5"),
        ("version_conflict", "A7"),
        ("cancelled_by_user", "M3"),
        ("order_not_open", "M3"),
    ]
    assert [reason.advice for reason in reasons[:2]] == [
        "A tick is 0.01; prices are never rounded.",
        "It has version 2; read it again and decide anew.",
    ]


def test_a_change_that_ends_the_order_is_a_version_too(venue: Venue) -> None:
    """A5: lowered to what was filled, it is told by its cancellation, with the quantity that was asked for."""
    order = venue.order("ann", Side.BUY, "10", "150.50")
    venue.order("bob", Side.SELL, "4", "150.50")
    venue.tell(ModifyOrder(order, exists=True, quantity=parse("4")))
    history = venue.history(order)
    assert [(each.version, each.quantity, each.status) for each in history.versions] == [
        (1, "10", "PENDING"),
        (2, "4", "CANCELLED"),
    ]
    assert told(history)[-1] == ("CANCELLED", "CANCELLED", "4", "0")


@pytest.mark.parametrize(
    ("mode", "maker", "taker"),
    [
        (SelfTradePrevention.DECREMENT, ("PENDING", "6"), ("PENDING", "0")),
        (SelfTradePrevention.CANCEL_NEWEST, ("PENDING", "10"), ("PENDING", "4")),
        (SelfTradePrevention.CANCEL_OLDEST, ("PENDING", "10"), ("PENDING", "4")),
    ],
)
def test_a_prevented_trade_is_told_to_both_orders(
    venue: Venue, mode: SelfTradePrevention, maker: tuple[str, str], taker: tuple[str, str]
) -> None:
    """P2: both ids, the price and the quantity; what DECREMENT took off shows on both sides, of which one has the mode."""
    rested = venue.order("ann", Side.SELL, "10", "150.50")
    came = venue.order("ann", Side.BUY, "4", "151", self_trade_prevention=mode)
    for order, other, role, left in ((rested, came, "MAKER", maker), (came, rested, "TAKER", taker)):
        event = venue.history(order).events[1]
        assert (event.type, event.role, event.other_order_id) == ("SELF_TRADE_PREVENTED", role, str(other))
        assert (event.prevented_price, event.prevented_quantity) == ("150.50", "4")
        assert (event.status, event.remaining_quantity) == left
        assert {"P1", "P2"} <= set(venue.explain(order).rules)


def test_what_a_maker_lost_to_prevention_stays_lost_in_what_follows(venue: Venue) -> None:
    """P1: filled + prevented + open = quantity, event by event, up to the order as it stands."""
    rested = venue.order("ann", Side.SELL, "10", "150.50")
    venue.order("ann", Side.BUY, "4", "151", self_trade_prevention=SelfTradePrevention.DECREMENT)
    venue.order("bob", Side.BUY, "5", "151")
    assert told(venue.history(rested))[1:] == [
        ("SELF_TRADE_PREVENTED", "PENDING", "0", "6"),
        ("FILLED", "PARTIALLY_FILLED", "5", "1"),
    ]
    assert venue.orders[rested].remaining_quantity == parse("1")


def test_a_stop_is_told_from_waiting_to_filled(venue: Venue) -> None:
    """S1, S4: waiting it says which trade sets it off and what it then does; fired it says so, before what it traded."""
    order = venue.order("ann", Side.BUY, "10", "156", type=OrderType.STOP_LIMIT, terms=SpecialTerms(stop_price=parse("155")))
    waiting = venue.explain(order)
    assert waiting.would_fill_when == "a trade happens at 155.00 or higher; then it buys at 156.00 or lower"
    assert (waiting.queue, waiting.reason, waiting.rules) == (None, None, ["S1", "S5"])
    venue.order("bob", Side.SELL, "30", "155")
    venue.order("cleo", Side.BUY, "1", "155")
    fired = venue.explain(order)
    assert [each.type for each in fired.events] == ["ACCEPTED", "TRIGGERED", "FILLED"]
    assert [each.status for each in fired.events] == ["PENDING_TRIGGER", "PENDING", "FILLED"]
    assert (fired.would_fill_when, fired.rules) == (None, ["M1", "T1", "S4"])


def test_a_trailing_stop_says_where_it_stands_and_what_it_waits_for(venue: Venue) -> None:
    """S6: without a last price it waits for one; then its stop has a place."""
    trail = SpecialTerms(trail_amount=parse("1.5"), limit_offset=parse("0.25"))
    order = venue.order("ann", Side.SELL, "10", type=OrderType.TRAILING_STOP, time_in_force=TimeInForce.GTC, terms=trail)
    assert venue.explain(order).would_fill_when == (
        "a trade gives it a price to follow, and a later one reaches its stop; then it sells up to 0.25 lower than its stop price"
    )
    venue.order("bob", Side.SELL, "1", "155")
    venue.order("cleo", Side.BUY, "1", "155")
    now = venue.explain(order)
    assert now.would_fill_when == "a trade happens at 153.50 or lower; then it sells up to 0.25 lower than its stop price"
    assert now.rules == ["S1", "S5", "S6"]
    assert venue.explain(order, Standing(MarketState.AUCTION)).would_fill_when == (
        "the auction trades, or a trade after it happens, at 153.50 or lower; then it sells up to 0.25 lower than its stop price"
    )


def test_a_stop_over_the_bound_of_a_cascade_waits_for_its_turn(venue: Venue) -> None:
    """S2, S3: it is due, whatever the price does now."""
    venue.tell(Configure(EngineSettings(max_cascade=0)))
    venue.order("bob", Side.SELL, "1", "155")
    venue.order("cleo", Side.BUY, "1", "155")
    terms = SpecialTerms(stop_price=parse("150"))
    order = venue.order("ann", Side.BUY, "10", type=OrderType.STOP, terms=terms)
    explained = venue.explain(order)
    assert explained.would_fill_when == "its turn comes among the stops that are due; then it buys at the best prices there are"
    assert explained.rules == ["S1", "S5", "S2", "S3"]


PLACES: list[tuple[Side, Standing, str]] = [
    (Side.BUY, Standing(MarketState.OPEN, (2, parse("300"))), "a sell order of more than 300 at 150.50 or lower arrives"),
    (Side.SELL, Standing(MarketState.OPEN, (0, 0)), "a buy order at 150.50 or higher arrives"),
    (
        Side.BUY,
        Standing(MarketState.OPEN, (1, parse("20")), parse("0.5")),
        "a sell order of more than 20.5 at 150.50 or lower arrives: 0.5 at better prices and 20 at its own come first",
    ),
    (
        Side.SELL,
        Standing(MarketState.HALTED, (0, 0)),
        "the symbol is open again and a buy order at 150.50 or higher arrives",
    ),
    (Side.BUY, Standing(MarketState.AUCTION, (1, parse("20"))), "the auction trades at 150.50 or lower"),
]


@pytest.mark.parametrize(("side", "standing", "sentence"), PLACES)
def test_a_resting_order_says_what_would_fill_it(venue: Venue, side: Side, standing: Standing, sentence: str) -> None:
    """M1: what stands before it, at its price and at better ones, and how far the other side has to come."""
    explained = venue.explain(venue.order("ann", side, "10", "150.50"), standing)
    assert explained.would_fill_when == sentence
    assert standing.queue is not None
    assert explained.queue is not None
    assert explained.queue.orders_ahead == standing.queue[0]
    by_state = {MarketState.OPEN: [], MarketState.AUCTION: ["H3"], MarketState.HALTED: ["H1"]}[standing.state]
    assert (explained.status, explained.reason, explained.rules) == ("PENDING", None, ["M1", "T1", *by_state])


def test_better_prices_are_those_that_trade_before_the_orders_own() -> None:
    """M1: higher bids for a buy, lower asks for a sell, whatever decimals the numbers are written with."""
    bids = [(parse("151"), parse("5"), 1), (parse("150.7"), parse("2.5"), 1), (pack(15050, 2), parse("9"), 3)]
    asks = [(parse("150.4"), parse("7"), 1), (parse("150.5"), parse("8"), 1), (parse("152"), parse("1"), 1)]
    depth = Depth("AAPL", 1, START, bids, asks)
    assert shown_at_better_prices(order_record(), depth) == parse("7.5")
    assert shown_at_better_prices(order_record(side=Side.SELL), depth) == parse("7")


def test_what_an_order_asks_for_names_its_rules(venue: Venue) -> None:
    """T4 to T7: an iceberg, post-only, a minimum and a deadline each have theirs."""
    iceberg = venue.order("ann", Side.BUY, "10", "150", terms=SpecialTerms(display_quantity=parse("2"), post_only=True))
    assert venue.explain(iceberg).rules == ["M1", "T1", "T4", "T6"]
    dated = venue.order("ann", Side.BUY, "10", "150", time_in_force=TimeInForce.GTD, expires_at=START + 60 * SECOND)
    assert venue.explain(dated).rules == ["M1", "T5"]
    venue.tell(CancelOrder(99, exists=False), after_s=100)
    expired = venue.explain(dated)
    assert (expired.status, expired.would_fill_when, expired.rules) == ("EXPIRED", None, ["T5"])
    assert expired.reason is not None
    assert expired.reason.code == "expired"
    assert expired.events[-1].type == "EXPIRED"


ENDED: list[tuple[dict[str, Any], str, str, list[str]]] = [
    ({"price": "150.505"}, "REJECTED", "price_off_tick", ["M5"]),
    ({"price": "150", "time_in_force": TimeInForce.IOC}, "CANCELLED", "ioc_remainder", ["T1"]),
    ({"price": "155", "quantity": "99", "time_in_force": TimeInForce.IOC}, "CANCELLED", "ioc_remainder", ["T1", "M1"]),
    ({"price": "155", "quantity": "99", "time_in_force": TimeInForce.FOK}, "CANCELLED", "fok_unfillable", ["T2"]),
    ({"quantity": "99"}, "CANCELLED", "market_remainder", ["T3", "M1"]),
    ({"price": "155", "terms": SpecialTerms(post_only=True)}, "REJECTED", "post_only_would_take", ["T4"]),
    ({"price": "155", "quantity": "9", "terms": SpecialTerms(min_quantity=parse("7"))}, "CANCELLED",
     "min_quantity_unfillable", ["T7"]),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "status", "code", "rules"), ENDED)
def test_an_order_that_ended_says_why(venue: Venue, fields: dict[str, Any], status: str, code: str, rules: list[str]) -> None:
    """The reason's code, words and rule first; nothing will fill it any more."""
    venue.order("bob", Side.SELL, "5", "155")
    order = venue.order("ann", Side.BUY, **{"quantity": "10", **fields})
    explained = venue.explain(order)
    assert (explained.status, explained.queue, explained.would_fill_when, explained.rules) == (status, None, None, rules)
    assert explained.reason is not None
    assert (explained.reason.code, explained.reason.rule) == (code, rules[0])
    assert explained.events[-1].reason == explained.reason
    assert explained.events[-1].remaining_quantity == "0"


def test_a_rejection_names_the_bound_that_was_missed(venue: Venue) -> None:
    """The advice of the table, filled in."""
    venue.tell(DefineInstrument("AAPL", max_order_quantity=parse("5")))
    reason = venue.explain(venue.order("ann", Side.BUY, "10", "150")).reason
    assert reason is not None
    assert (reason.code, reason.advice) == ("quantity_above_maximum", "At most 5 per order.")


def test_an_auction_tells_both_sides_of_their_trades(venue: Venue) -> None:
    """H3: the older order is the maker; what each has left is right though neither came in."""
    venue.tell(DefineInstrument("AAPL", state=MarketState.AUCTION))
    sell = venue.order("ann", Side.SELL, "10", "150")
    buy = venue.order("bob", Side.BUY, "4", "151")
    venue.tell(DefineInstrument("AAPL", state=MarketState.OPEN))
    assert told(venue.history(sell))[-1] == ("FILLED", "PARTIALLY_FILLED", "4", "6")
    assert told(venue.history(buy))[-1] == ("FILLED", "FILLED", "4", "0")
    assert [venue.history(order).events[-1].role for order in (sell, buy)] == ["MAKER", "TAKER"]


# Pages


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 100])
def test_pages_of_a_history_are_its_parts(venue: Venue, limit: int) -> None:
    """D5: however long the pages, one after the other they are the whole, with its numbers, quantities and versions."""
    maker = venue.order("ann", Side.SELL, "30", "150")
    venue.order("bob", Side.BUY, "5", "150")
    venue.tell(ModifyOrder(maker, exists=True, quantity=parse("25")))
    venue.tell(ModifyOrder(maker, exists=True, expected_version=9))
    venue.order("ann", Side.BUY, "2", "150", self_trade_prevention=SelfTradePrevention.DECREMENT)
    venue.order("cat", Side.SELL, "3", "150")
    taker = venue.order("bob", Side.BUY, "40", "150")
    venue.tell(CancelOrder(taker, exists=True))
    for order_id, length in ((maker, 6), (taker, 4)):
        whole = venue.history(order_id)
        assert len(whole.events) == length
        place, more, events, versions = BEGINNING, True, list[OrderEventView](), list[VersionView]()
        while more:
            commands, more = cut_events(venue.told_after(order_id, place, limit + 1), limit)
            view = history_view(venue.orders[order_id], commands, venue.modes(order_id), place)
            assert view.count == len(view.events) <= limit
            events += view.events
            versions += view.versions
            place = Place.of_text(place_after(venue.orders[order_id], commands, venue.modes(order_id), place).text)
        assert events == whole.events
        assert versions == whole.versions


NO_PLACES = ["", "a", "1", "1.2.3.4.5.6.7", "1.2.3.4.9.6.7.8", "1.2.3.4.0.6.7.-8", f"1.{2**63}.3.4.0.6.7.8", "1.02.3.4.0.6.7.8"]


@pytest.mark.parametrize("text", NO_PLACES)
def test_a_place_that_was_never_given_out_is_none(text: str) -> None:
    """Only what cursors hold is read: whole numbers that the database can hold, as they are written, the fifth a status."""
    with pytest.raises(ValueError, match=r".*"):
        Place.of_text(text)
    assert Place.of_text("1.2.3.4.1.6.7.8") == Place(1, 2, 3, 4, OrderStatus.PARTIALLY_FILLED, 6, 7, 8)


# The routes


async def test_a_history_goes_on_at_its_cursor(client: httpx.AsyncClient) -> None:
    """D5: limit, cursor, next_cursor and count as in any list; what is no cursor of this history is refused."""
    body = {"user_id": "alice", "symbol": "AAPL", "side": "BUY", "quantity": 100, "price": "151"}
    order_id, other_id = [(await client.post("/orders", json=body)).json()["order_id"] for _ in range(2)]
    for quantity in (90, 80, 70):
        await client.put(f"/orders/{order_id}", json={"quantity": quantity})
    path = f"/orders/{order_id}/history"
    whole = (await client.get(path)).json()
    assert (whole["count"], whole["next_cursor"]) == (4, None)
    first = (await client.get(path, params={"limit": 3})).json()
    second = (await client.get(path, params={"limit": 3, "cursor": first["next_cursor"]})).json()
    assert (first["count"], second["count"], second["next_cursor"]) == (3, 1, None)
    assert first["events"] + second["events"] == whole["events"]
    assert first["versions"] + second["versions"] == whole["versions"]
    for bad in (f"{path}?cursor=xyz", f"/orders/{other_id}/history?cursor={first['next_cursor']}", f"{path}?limit=1001"):
        answer = await client.get(bad)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


async def test_an_explanation_of_a_long_life_has_its_beginning(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds so many events and no more; the history goes on at its cursor."""
    monkeypatch.setattr("ome.api.routes.explain.MAX_LIMIT", 2)
    body = {"user_id": "alice", "symbol": "AAPL", "side": "BUY", "quantity": 100, "price": "151"}
    order_id = (await client.post("/orders", json=body)).json()["order_id"]
    for quantity in (90, 80):
        await client.put(f"/orders/{order_id}", json={"quantity": quantity})
    explained = (await client.get(f"/orders/{order_id}/explain")).json()
    rest = (await client.get(f"/orders/{order_id}/history", params={"cursor": explained["next_cursor"]})).json()
    assert [event["number"] for event in explained["events"] + rest["events"]] == [1, 2, 3]


async def test_the_routes_answer_with_an_orders_life_and_place(client: httpx.AsyncClient) -> None:
    """Over HTTP: an order behind two others, changed, partly filled; both routes tell of the same events."""
    body = {"user_id": "alice", "symbol": "AAPL", "side": "BUY", "quantity": 100, "price": "151"}
    for quantity in (100, 200):
        await client.post("/orders", json=body | {"quantity": quantity})
    order_id = (await client.post("/orders", json=body)).json()["order_id"]
    await client.put(f"/orders/{order_id}", json={"quantity": 50})
    history = (await client.get(f"/orders/{order_id}/history?symbol=aapl")).json()
    assert [(version["version"], version["quantity"]) for version in history["versions"]] == [(1, "100"), (2, "50")]
    explained = (await client.get(f"/orders/{order_id}/explain")).json()
    assert explained["queue"] == {"orders_ahead": 2, "quantity_ahead": "300"}
    assert explained["would_fill_when"] == "a sell order of more than 300 at 151 or lower arrives"
    assert explained["events"] == history["events"]
    await client.delete(f"/orders/{order_id}")
    ended = (await client.get(f"/orders/{order_id}/explain")).json()
    assert (ended["queue"], ended["would_fill_when"], ended["status"]) == (None, None, "CANCELLED")
    assert ended["reason"] == {
        "code": "cancelled_by_user",
        "rule": "M3",
        "title": "Cancelled on request",
        "advice": "Nothing to do.",
    }


@pytest.mark.parametrize("route", ["history", "explain"])
async def test_an_order_that_never_was_has_neither(client: httpx.AsyncClient, route: str) -> None:
    """M3: 404 for an id that nobody has, and for what can't be one; a misspelt parameter is refused."""
    for order_id in ("77", "x", "0", "9" * 30):
        answer = await client.get(f"/orders/{order_id}/{route}")
        assert (answer.status_code, answer.json()["code"]) == (404, "order_not_found")
    assert (await client.get(f"/orders/1/{route}?symbl=AAPL")).json()["code"] == "invalid_request"


@pytest.mark.parametrize("route", ["history", "explain"])
async def test_they_are_as_private_as_the_order(keyed: httpx.AsyncClient, exchange: FakeExchange, route: str) -> None:
    """Where reads are private the key is needed, whether the order exists or not."""
    exchange.orders[1] = order_record(id=1)
    for order_id in (1, 2):
        assert (await keyed.get(f"/orders/{order_id}/{route}")).status_code == 401
    assert (await keyed.get(f"/orders/1/{route}", headers={"X-API-Key": "sesame"})).status_code == 200


async def test_an_explanation_is_of_one_moment(
    client: httpx.AsyncClient, exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An order that changes while its parts are read is read again: never a place in the queue for one that has ended."""
    exchange.orders[1] = order_record(id=1)

    async def ends_meanwhile(order: OrderRecord) -> tuple[int, int]:
        exchange.orders[1] = msgspec.structs.replace(order, status=OrderStatus.FILLED, remaining_quantity=0)
        return 0, 0

    monkeypatch.setattr(exchange, "queue_ahead", ends_meanwhile)
    explained = (await client.get("/orders/1/explain")).json()
    assert (explained["status"], explained["queue"], explained["would_fill_when"]) == ("FILLED", None, None)
