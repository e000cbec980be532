"""An engine's events and state in the twin's words, so that the two can be compared for equality."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from ome.domain.enums import OrderStatus, Side
from ome.domain.events import (
    AuctionIndicated,
    BookChanged,
    CommandRefused,
    ControlChanged,
    Event,
    FundsTransferred,
    InstrumentChanged,
    OrderAccepted,
    OrderCancelled,
    OrderExpired,
    OrderFilled,
    OrderModified,
    OrderRejected,
    OrderTriggered,
    SelfTradePrevented,
    SymbolAdmitted,
    SymbolReleased,
    Traded,
)
from ome.domain.records import AssetRecord, BalanceRecord, EngineState, InstrumentRecord, OrderRecord, SpecialTerms
from reference.auction import Indication
from reference.funds import FEES, OUTSIDE
from reference.holdings import MONEY, assert_same_holdings, units
from reference.pictures import DECIMALS, Outcome, Picture, Rules, Terms, Trade, exact, maybe_exact
from reference.twin import Twin

_NAMES = {
    OrderAccepted: "accepted",
    OrderRejected: "rejected",
    OrderFilled: "filled",
    OrderModified: "modified",
    OrderCancelled: "cancelled",
    OrderExpired: "expired",
    OrderTriggered: "triggered",
}


def terms(record: SpecialTerms | None) -> Terms:
    """Terms in the twin's units; an order without any asks for nothing."""
    t = record or SpecialTerms()
    return Terms(
        maybe_exact(t.stop_price), maybe_exact(t.trail_amount), maybe_exact(t.trail_percent), maybe_exact(t.limit_offset),
        t.post_only, maybe_exact(t.display_quantity), maybe_exact(t.min_quantity), t.max_slippage_bps,
        maybe_exact(t.shown_quantity), exact(t.prevented_quantity or 0), maybe_exact(t.trail_extreme), t.triggered_at, t.is_due,
    )  # fmt: skip


def picture(record: OrderRecord) -> Picture:
    """A record in the twin's units."""
    whole, _, fraction = record.filled_value.partition(".")
    r = record
    return Picture(
        r.id, r.user_id, r.symbol, r.side, r.type, r.time_in_force, r.self_trade_prevention, r.client_order_id, exact(r.quantity),
        maybe_exact(r.price), exact(r.filled_quantity), int(whole + fraction.ljust(2 * DECIMALS, "0")),
        exact(r.remaining_quantity), r.status, r.reason, r.version, r.expires_at, r.created_at, r.updated_at, terms(r.terms),
    )  # fmt: skip


def rules(record: InstrumentRecord) -> Rules:
    """A symbol's rules and state in the twin's units."""
    r = record.rules
    return Rules(
        exact(record.tick_size), exact(record.lot_size), record.state, maybe_exact(r.max_order_quantity),
        maybe_exact(r.price_band_percent), r.band_halt_s, r.session_close_s, r.halted_until, r.base_asset, r.quote_asset,
        r.maker_fee_bps, r.taker_fee_bps,
    )  # fmt: skip


def outcome_of(events: Sequence[Event]) -> Outcome:
    """What an engine's events tell, as the twin would tell it; a book's update must come after all else of its symbol."""
    out = Outcome()
    for event in events:
        match event:
            case Traded(trade, _, _, maker_filled, maker_remaining):
                assert trade.symbol not in out.books, "a trade after its book's update"
                out.story.append(("traded", trade.id))
                out.trades.append(
                    Trade(trade.id, trade.symbol, exact(trade.price), exact(trade.quantity), trade.maker_order_id,
                          trade.taker_order_id, trade.taker_side, trade.executed_at, trade.sequence, exact(maker_filled),
                          exact(maker_remaining))
                )  # fmt: skip
            case SelfTradePrevented():
                met = (event.maker_order_id, event.taker_order_id, exact(event.price), exact(event.quantity))
                out.story.append(("prevented", event.maker_order_id))
                out.prevented.append(met)
            case CommandRefused(order_id, reason):
                assert out.refused is None, "refused twice"
                out.story.append(("refused", order_id or 0))
                out.refused = (order_id, reason)
            case InstrumentChanged(instrument):
                out.story.append(("market", instrument.sequence))
                out.markets.append((instrument.symbol, instrument.sequence, rules(instrument)))
            case BookChanged():
                assert event.symbol not in out.books, "one update per command and symbol"
                levels = sorted((side, exact(price), exact(quantity), orders) for side, price, quantity, orders in event.levels)
                out.books[event.symbol] = (event.sequence, levels)
            case FundsTransferred(t):
                out.story.append(("transferred", t.id))
                out.transfers.append((t.id, t.kind, t.user_id, t.asset, exact(t.amount)))
            case AuctionIndicated():
                assert event.symbol not in out.auctions, "one indication per command and symbol"
                out.auctions[event.symbol] = (event.sequence, indication(event))
            case ControlChanged(control, open_orders):
                out.story.append(("control", control.kind))
                out.controls.append((control, open_orders))
            case _:
                assert not isinstance(event, SymbolReleased | SymbolAdmitted), "one engine has nobody to give to"
                assert event.order.symbol not in out.books, "an order event after its book's update"
                out.story.append((_NAMES[type(event)], event.order.id))
                out.orders.append((_NAMES[type(event)], picture(event.order)))
    return out


def indication(event: AuctionIndicated) -> Indication | None:
    """What an auction would give, in the twin's units."""
    if event.price is None:
        assert (exact(event.volume), exact(event.imbalance), event.surplus_side) == (0, 0, None)
        return None
    assert (event.surplus_side is None) is (exact(event.imbalance) == 0)
    sign = -1 if event.surplus_side is Side.SELL else 1
    return Indication(exact(event.price), exact(event.volume), sign * exact(event.imbalance))


def differences(twin: Outcome, engine: Outcome) -> list[str]:
    """What the two outcomes of one command disagree on, in words; empty when they agree."""
    return [
        f"{name}:\n    twin   {getattr(twin, name)}\n    engine {getattr(engine, name)}"
        for name in ("refused", "trades", "prevented", "transfers", "orders", "markets", "books", "auctions", "controls", "story")
        if getattr(twin, name) != getattr(engine, name)
    ]


def queue_of(state: EngineState, symbol: str, side: Side) -> list[Picture]:
    """One side of a book in the order in which it trades, from a state's records and their priorities."""
    orders = [
        order
        for order in state.orders
        if order.symbol == symbol and order.side is side and order.status is not OrderStatus.PENDING_TRIGGER
    ]
    sign = -1 if side is Side.BUY else 1
    return [picture(order) for order in sorted(orders, key=lambda order: (sign * exact(order.price or 0), order.priority))]


def stops_of(state: EngineState) -> list[Picture]:
    """The waiting stops in the order of acceptance."""
    stops = [picture(order) for order in state.orders if order.status is OrderStatus.PENDING_TRIGGER]
    return sorted(stops, key=lambda order: order.id)


def assert_same_state(twin: Twin, state: EngineState) -> None:
    """Every symbol, every open order, every queue and every count is the same."""
    assert (state.position, state.time, state.trade_count) == (twin.position, twin.time, twin.trade_count)
    assert state.settings == twin.settings
    assert_same_holdings(twin.fills, state.positions)
    assert_same_accounts(twin, state.balances, state.assets)
    assert state.controls == twin.risk.active()
    assert len({order.priority for order in state.orders}) == len(state.orders), "priorities are unique in a shard"
    assert {order.id for order in state.orders} == {order.id for order in (*twin.resting, *twin.waiting)}
    assert stops_of(state) == [order.picture() for order in sorted(twin.waiting, key=lambda order: order.id)]
    assert sorted(record.symbol for record in state.instruments) == sorted(twin.markets)
    for record in state.instruments:
        assert_same_market(twin, record)
        for side in Side:
            assert queue_of(state, record.symbol, side) == [order.picture() for order in twin.queue(record.symbol, side)]


def assert_same_accounts(twin: Twin, balances: Iterable[BalanceRecord], assets: Iterable[AssetRecord]) -> None:
    """Everybody has the same of everything, the venue too; nobody has less than nothing; what is reserved is what the open orders
    imply; and each asset adds up to zero.
    """
    reserved = twin.accounts.reserved(twin.markets, (*twin.resting, *twin.waiting))
    users = {key: total for key, total in twin.accounts.totals.items() if key[0] not in {OUTSIDE, FEES}}
    told = {(row.user_id, row.asset): (units(row.total, MONEY), units(row.reserved, MONEY)) for row in balances}
    assert told == {key: (total, reserved.get(key, 0)) for key, total in users.items()}
    assert all(0 <= held <= total for total, held in told.values())
    sums: defaultdict[str, int] = defaultdict(int)
    for (_, asset), (total, _) in told.items():
        sums[asset] += total
    for venue in assets:
        outside, fees = (twin.accounts.totals.get((owner, venue.asset), 0) for owner in (OUTSIDE, FEES))
        assert (units(venue.external, MONEY), units(venue.fees, MONEY)) == (outside, fees)
        sums[venue.asset] += outside + fees
    assert not any(sums.values())


def assert_same_market(twin: Twin, record: InstrumentRecord) -> None:
    """A listed symbol is the same in both."""
    market = twin.markets[record.symbol]
    assert rules(record) == market.rules()
    assert (record.sequence, record.listed_at) == (market.sequence, market.listed_at)
    if record.last_price is None or record.last_quantity is None or record.last_trade_at is None:
        assert market.last is None
    else:
        assert (exact(record.last_price), exact(record.last_quantity), record.last_trade_at) == market.last
