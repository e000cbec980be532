"""What every implementation of the `Repository` and `ReadModels` ports promises: what was committed is there, as it was."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from databases import Database
from factories import START_US, a_batch, a_stop, a_trade, an_instrument, an_order, filled, happened, resting_batch, trading_batch
from ome.db.storage import Storage, open_storage
from ome.domain.batch import CHAIN_START, chain_hash
from ome.domain.enums import MarketState, OrderStatus, OrderType, SelfTradePrevention, Side, TimeInForce, TransferKind
from ome.domain.errors import InvariantBroken
from ome.domain.events import (
    CommandRefused,
    OrderAccepted,
    OrderCancelled,
    PrivateEvent,
    SelfTradePrevented,
    Traded,
    UserEvent,
    decode_events,
    events_of,
)
from ome.domain.ids import make_id
from ome.domain.numbers import pack
from ome.domain.ports import Page
from ome.domain.reasons import Reason
from ome.domain.records import (
    AssetRecord,
    BalanceRecord,
    EngineSettings,
    EngineState,
    InstrumentRules,
    PositionRecord,
    SpecialTerms,
    TransferRecord,
)

ALL_TERMS = SpecialTerms(
    stop_price=pack(15500, 2),
    trail_amount=pack(150, 2),
    trail_percent=pack(15, 1),
    limit_offset=pack(5, 2),
    post_only=True,
    display_quantity=pack(2, 0),
    min_quantity=pack(3, 0),
    max_slippage_bps=25,
    shown_quantity=pack(1, 0),
    prevented_quantity=pack(4, 0),
    trail_extreme=pack(15350, 2),
    triggered_at=START_US + 4,
    is_due=True,
)
"""Terms in which nothing has its default; no order has all of these."""


async def reopened(storage: Storage, database: Database) -> Storage:
    """The same database in a new storage, as after a restart."""
    await storage.close()
    again = open_storage(database.url)
    await again.repository.start()
    return again


async def test_an_empty_database_is_a_fresh_engine(storage: Storage) -> None:
    """The first start finds position 0, nothing listed, default settings and no state hash."""
    recovered = await storage.repository.load()
    assert recovered.state == EngineState(0, 0, 0, 0, 0, EngineSettings(), [], [])
    assert recovered.state_hash is None


async def test_every_field_of_an_order_comes_back_with_its_type(storage: Storage) -> None:
    """An order with a value in each field, and one with every optional field empty, are read as they were written."""
    full = an_order(
        1,
        side=Side.SELL,
        type=OrderType.STOP_LIMIT,
        time_in_force=TimeInForce.GTD,
        price=pack(999_999_999_999_999, 9),
        filled_quantity=pack(3, 0),
        filled_value="451.500000000",
        remaining_quantity=pack(7, 0),
        status=OrderStatus.EXPIRED,
        reason=Reason.EXPIRED,
        version=4,
        self_trade_prevention=SelfTradePrevention.NONE,
        client_order_id="käse-1",
        expires_at=START_US + 5,
        terms=ALL_TERMS,
    )
    empty = an_order(2, type=OrderType.MARKET, price=None)
    await storage.repository.commit(a_batch(1, 2, orders=[full, empty]))
    found = await storage.reads.order(1)
    assert found == full
    assert found is not None
    assert isinstance(found.side, Side)
    assert isinstance(found.status, OrderStatus)
    assert isinstance(found.reason, Reason)
    assert await storage.reads.order(2) == empty
    assert await storage.reads.order(3) is None


async def test_what_few_orders_and_symbols_have_costs_the_others_nothing(storage: Storage, database: Database) -> None:
    """Terms and rules are JSON of what differs from the defaults; a plain order and a symbol without rules have NULL there."""
    orders = [an_order(1), an_order(2, terms=SpecialTerms()), an_order(3, terms=SpecialTerms(post_only=True))]
    listed = [an_instrument("AAPL"), an_instrument("MSFT", rules=InstrumentRules(band_halt_s=60))]
    await storage.repository.commit(a_batch(1, 3, orders=orders, instruments=listed))
    assert await database.fetch("SELECT terms FROM stored_orders ORDER BY id") == [(None,), ("{}",), ('{"post_only":true}',)]
    assert await database.fetch("SELECT rules FROM stored_instruments ORDER BY symbol") == [(None,), ('{"band_halt_s":60}',)]
    assert [await storage.reads.order(order.id) for order in orders] == orders
    assert (await storage.repository.load()).state.instruments == listed


async def test_a_changed_order_replaces_the_row_it_had(storage: Storage) -> None:
    """The last state of an order in each batch is the row that remains, and everything that can change has changed."""
    await storage.repository.commit(a_batch(1, 1, orders=[an_order(1, client_order_id="a")]))
    changed = an_order(
        1,
        client_order_id="a",
        quantity=pack(20, 0),
        price=pack(151, 0),
        filled_quantity=pack(5, 0),
        filled_value="755",
        remaining_quantity=pack(15, 0),
        status=OrderStatus.PARTIALLY_FILLED,
        reason=Reason.CANCELLED_BY_USER,
        version=2,
        priority=2,
        expires_at=START_US + 9,
        updated_at=START_US + 2,
        terms=ALL_TERMS,
    )
    await storage.repository.commit(a_batch(2, 2, orders=[changed]))
    assert await storage.reads.order(1) == changed
    plain_again = replace(changed, terms=None)
    await storage.repository.commit(a_batch(3, 3, orders=[plain_again]))
    assert await storage.reads.order(1) == plain_again


async def test_positions_come_back(storage: Storage, database: Database) -> None:
    """What users hold is there after a restart as the last batch left it; people read decimals."""

    def number(text: str) -> Any:
        return text if database.kind == "sqlite" else Decimal(text)

    short = PositionRecord("bob", "AAPL", "-10.5", "-1580.25", "0.000000000000000001", "10.5")
    gone = PositionRecord("ann", "AAPL", "0", "0", "-12", "30")
    await storage.repository.commit(a_batch(1, 1, positions=[short, replace(gone, quantity="15", cost="3000")]))
    await storage.repository.commit(a_batch(2, 2, positions=[gone]))
    assert (await storage.repository.load()).state.positions == [gone, short]
    rows = await database.fetch("SELECT * FROM positions ORDER BY user_id DESC")
    assert rows[0] == ("bob", "AAPL", *map(number, ("-10.5", "-1580.25", "0.000000000000000001", "10.5")))


async def test_balances_and_transfers_come_back(storage: Storage, database: Database) -> None:
    """F2: the last state of each account, exactly, in the state and for whoever reads; transfers by their client id; and the
    views show both in human units.
    """

    def number(text: str) -> Any:
        return text if database.kind == "sqlite" else Decimal(text)

    ann, bob = (
        BalanceRecord("ann", "USD", "0.000000000000000001", "0"),
        BalanceRecord("bob", "BTC", "12345678901234567890", "7.5"),
    )
    venue = [AssetRecord("BTC", "-12345678901234567889", "-1"), AssetRecord("USD", "-3.5", "0.25")]
    wire = TransferRecord(1, TransferKind.DEPOSIT, "ann", "USD", pack(35, 1), "wire-1", START_US)
    out = TransferRecord(2, TransferKind.WITHDRAWAL, "ann", "USD", pack(2, 0), "out-1", START_US + 1)
    first = [replace(ann, total="3.5"), replace(bob, reserved="0")]
    await storage.repository.commit(a_batch(1, 1, balances=first, assets=[replace(venue[1], fees="0")], transfers=[wire]))
    await storage.repository.commit(a_batch(2, 2, balances=[bob, ann], assets=venue, transfers=[out]))
    state = (await storage.repository.load()).state
    assert (state.balances, state.assets) == ([ann, bob], venue)
    assert await storage.reads.balances_of_user("ann") == [ann]
    assert await storage.reads.balances_of_user("eve") == []
    assert [await storage.reads.transfer_of_user("ann", name) for name in ("wire-1", "out-1", "none")] == [wire, out, None]
    assert await storage.reads.transfer_of_user("bob", "wire-1") is None
    shown = await database.fetch("SELECT * FROM balances ORDER BY user_id")
    assert shown[1] == ("bob", "BTC", number("12345678901234567890"), number("7.5"))
    transfers = await database.fetch("SELECT id, kind, user_id, asset, amount, client_transfer_id FROM transfers ORDER BY id")
    assert transfers == [
        (1, "DEPOSIT", "ann", "USD", number("3.5"), "wire-1"),
        (2, "WITHDRAWAL", "ann", "USD", number("2"), "out-1"),
    ]


async def test_trades_from_before_positions_were_kept_make_them(storage: Storage) -> None:
    """Until the settings say that positions are kept, a load makes them from every trade; then it takes those that are stored."""
    await storage.repository.commit(trading_batch(1, 1))
    await storage.repository.commit(trading_batch(3, 2, seller="carol", buyer="dan", price=pack(15100, 2)))
    made = (await storage.repository.load()).to_adopt
    assert made == [
        PositionRecord("bob", "AAPL", "-10", "-1505", "0", "10"),
        PositionRecord("carol", "AAPL", "0", "0", "5", "20"),
        PositionRecord("dan", "AAPL", "10", "1510", "0", "10"),
    ]
    settings = EngineSettings(keeps_positions=True)
    await storage.repository.commit(a_batch(5, 5, positions=made, settings=settings, trade_count=2))
    loaded = await storage.repository.load()
    assert (loaded.state.positions, loaded.to_adopt) == (made, [])


async def test_the_rules_of_a_symbol_come_back_and_go_again(storage: Storage) -> None:
    """An operator's rules are there after a restart, each field with its value, until they are taken away."""
    rules = InstrumentRules(
        max_order_quantity=pack(5, 0),
        price_band_percent=pack(25, 1),
        band_halt_s=60,
        session_close_s=57_600,
        halted_until=START_US,
    )
    listed = an_instrument(rules=rules, state=MarketState.HALTED)
    await storage.repository.commit(a_batch(1, 1, instruments=[listed]))
    assert (await storage.repository.load()).state.instruments == [listed]
    await storage.repository.commit(a_batch(2, 2, instruments=[an_instrument()]))
    assert (await storage.repository.load()).state.instruments == [an_instrument()]


async def test_recovery_gives_what_the_last_batch_left(storage: Storage, database: Database) -> None:
    """Open orders in order of priority, instruments, counters, settings and state hash are the same after a restart."""
    late = an_order(1, priority=9)
    early = an_order(2, priority=3, status=OrderStatus.PARTIALLY_FILLED)
    waiting = a_stop(3, priority=5, time_in_force=TimeInForce.GTD, expires_at=START_US + 50)
    done = [filled(an_order(4)), an_order(5, status=OrderStatus.CANCELLED), an_order(6, status=OrderStatus.REJECTED)]
    instruments = [an_instrument("MSFT", sequence=7), an_instrument("AAPL", last_price=1, last_quantity=2, last_trade_at=3)]
    settings = EngineSettings(auto_list=False, max_symbols=5)
    batch = a_batch(
        1,
        9,
        orders=[late, early, waiting, *done],
        instruments=instruments,
        settings=settings,
        state_hash=2**64 - 1,
        priority_count=9,
    )
    await storage.repository.commit(batch)
    again = await reopened(storage, database)
    try:
        recovered = await again.repository.load()
        expected = EngineState(0, 9, START_US + 9, 0, 9, settings, instruments[::-1], [early, waiting, late])
        assert recovered.state == expected
        assert recovered.state_hash == 2**64 - 1
        await again.repository.commit(a_batch(10, 10, state_hash=5))
        assert again.repository.epoch == 2
    finally:
        await again.close()


async def test_the_journal_is_chained(storage: Storage, database: Database) -> None:
    """Each batch leaves one journal row with its commands, and hashes that lead from one row to the next."""
    first, second = resting_batch(1, 3), resting_batch(4, 2)
    await storage.repository.commit(first)
    await storage.repository.commit(second)
    columns = "first_position, last_position, epoch, time, commands, chain_before, chain_hash"
    rows = await database.fetch(f"SELECT {columns} FROM journal ORDER BY last_position")  # noqa: S608  the words above
    one = chain_hash(CHAIN_START, first)
    assert rows == [
        (1, 3, 1, first.time, first.commands, CHAIN_START, one),
        (4, 5, 1, second.time, second.commands, one, chain_hash(one, second)),
    ]
    assert await database.fetch("SELECT position, chain_hash, state_hash FROM engine") == [
        (5, chain_hash(one, second), f"{second.state_hash:016x}")
    ]


async def test_a_batch_that_doesnt_follow_is_refused(storage: Storage, database: Database) -> None:
    """A gap or a repeat in the positions is a bug, and nothing of it is written."""
    await storage.repository.commit(resting_batch(1, 3))
    before = await database.counts()
    for first in (3, 5):
        with pytest.raises(InvariantBroken, match="doesn't follow position 3"):
            await storage.repository.commit(resting_batch(first, 1))
    assert await database.counts() == before
    await storage.repository.commit(resting_batch(4, 1))


async def test_orders_of_a_user_come_newest_first_by_page(storage: Storage) -> None:
    """Pages follow each other without a gap or a repeat, filtered by symbol and by status."""
    orders = [
        an_order(n, symbol="AAPL" if n % 2 else "MSFT", status=OrderStatus.FILLED if n % 3 == 0 else OrderStatus.PENDING)
        for n in range(1, 13)
    ]
    await storage.repository.commit(
        a_batch(1, 12, orders=[*orders, an_order(13, user_id="bob")], priority_count=13, last_position=13)
    )
    reads = storage.reads
    first = await reads.orders_of_user("alice", Page(limit=7))
    rest = await reads.orders_of_user("alice", Page(before_id=first[-1].id, limit=7))
    assert [order.id for order in first + rest] == list(range(12, 0, -1))
    assert [order.id for order in await reads.orders_of_user("alice", Page(), symbol="MSFT")] == [12, 10, 8, 6, 4, 2]
    ended = await reads.orders_of_user("alice", Page(), statuses=[OrderStatus.FILLED, OrderStatus.EXPIRED])
    assert [order.id for order in ended] == [12, 9, 6, 3]
    still_open = await reads.orders_of_user("alice", Page(limit=2), statuses=[OrderStatus.PENDING, OrderStatus.PARTIALLY_FILLED])
    assert [order.id for order in still_open] == [11, 10]
    assert await reads.orders_of_user("nobody", Page()) == []


async def test_a_client_order_id_is_found_per_symbol(storage: Storage) -> None:
    """The same client id may stand once in each symbol of each user, and each is found."""
    orders = [
        an_order(1, client_order_id="x"),
        an_order(2, client_order_id="x", symbol="MSFT"),
        an_order(3, client_order_id="x", user_id="bob"),
        an_order(4),
        an_order(5),
    ]
    await storage.repository.commit(a_batch(1, 5, orders=orders))
    reads = storage.reads
    assert await reads.orders_by_client_id("alice", "x") == [orders[1], orders[0]]
    assert await reads.orders_by_client_id("alice", "x", "MSFT") == [orders[1]]
    assert await reads.orders_by_client_id("alice", "y") == []


async def test_open_orders_of_a_symbol_stand_in_order_of_priority(storage: Storage) -> None:
    """The symbol's sequence and its resting orders; stops that wait, ended orders and other symbols are not among them."""
    resting = [an_order(1, priority=5), an_order(2, priority=2, status=OrderStatus.PARTIALLY_FILLED)]
    others = [a_stop(3), filled(an_order(4)), an_order(5, symbol="MSFT")]
    listed = [an_instrument("AAPL", sequence=41), an_instrument("IBM", sequence=2)]
    await storage.repository.commit(a_batch(1, 5, orders=[*resting, *others], instruments=listed))
    assert await storage.reads.open_orders("AAPL", 10) == (41, resting[::-1])
    assert await storage.reads.open_orders("IBM", 10) == (2, [])
    assert await storage.reads.open_orders("NONE", 10) == (0, [])


async def test_the_best_levels_are_those_of_the_best_prices(storage: Storage) -> None:
    """All orders of the highest bids and of the lowest asks, and no others; stops and ended orders make no level."""
    bids = [an_order(n, price=pack(15000 + n % 10, 2)) for n in range(1, 31)]
    asks = [an_order(n, side=Side.SELL, price=pack(16000 + n % 10, 2)) for n in range(31, 61)]
    no_levels = [a_stop(61, price=pack(15999, 2)), filled(an_order(62, price=pack(15998, 2)))]
    listed = [an_instrument(sequence=9)]
    await storage.repository.commit(a_batch(1, 62, orders=[*bids, *asks, *no_levels], instruments=listed))
    for levels in (1, 3, 10, 11):
        best = [order for order in bids if order.id % 10 >= 10 - levels]
        best += [order for order in asks if order.id % 10 < levels]
        assert await storage.reads.open_orders("AAPL", levels) == (9, best)


async def test_the_queue_ahead_is_what_stands_before_at_the_same_price(storage: Storage) -> None:
    """Resting orders of the same symbol, side and price with an earlier priority, and what they show: a slice of an iceberg."""
    iceberg = SpecialTerms(display_quantity=pack(20, 1), shown_quantity=pack(15, 1))
    lots = {"quantity": pack(80, 1), "remaining_quantity": pack(80, 1)}
    mine = an_order(50, priority=50, **lots)
    ahead = [
        an_order(1, priority=1, **lots),
        an_order(2, priority=2, **lots),
        an_order(3, priority=49, remaining_quantity=pack(5, 1), status=OrderStatus.PARTIALLY_FILLED),
        an_order(4, priority=4, terms=iceberg, **lots),
        an_order(5, priority=5, terms=SpecialTerms(post_only=True), **lots),
    ]
    others = [
        an_order(6, priority=51, **lots),
        an_order(7, priority=7, price=pack(15051, 2), **lots),
        an_order(8, priority=8, side=Side.SELL, **lots),
        an_order(9, priority=9, symbol="MSFT", **lots),
        a_stop(10, priority=10, price=pack(15050, 2), **lots),
        filled(an_order(11, priority=11, **lots)),
    ]
    await storage.repository.commit(a_batch(1, 60, orders=[mine, *ahead, *others]))
    assert await storage.reads.queue_ahead(mine) == (5, pack(260, 1))
    assert await storage.reads.queue_ahead(ahead[0]) == (0, pack(0, 1))


async def test_trades_are_found_by_symbol_user_and_order(storage: Storage) -> None:
    """Newest first, by page; whichever way they are asked for, the same trades come back."""
    batches = [
        trading_batch(2 * n - 1, n, seller="bob" if n % 2 else "dave", symbol="AAPL" if n % 3 else "MSFT") for n in range(1, 21)
    ]
    for batch in batches:
        await storage.repository.commit(batch)
    trades = [batch.trades[0] for batch in reversed(batches)]
    reads = storage.reads
    assert await reads.trades(Page()) == trades
    assert await reads.trades(Page(limit=3)) == trades[:3]
    assert await reads.trades(Page(before_id=18, limit=3)) == trades[3:6]
    assert await reads.trades(Page(), symbol="MSFT") == [trade for trade in trades if trade.symbol == "MSFT"]
    assert await reads.trades(Page(), user_id="carol") == trades
    assert await reads.trades(Page(limit=4), user_id="bob") == trades[1:8:2]
    assert await reads.trades(Page(before_id=13, limit=4), user_id="bob") == trades[9:16:2]
    assert await reads.trades(Page(before_id=1), user_id="bob") == []
    assert await reads.trades(Page(), user_id="bob", symbol="MSFT") == [trades[5], trades[11], trades[17]]
    assert await reads.trades(Page(), order_id=trades[4].sell_order_id) == [trades[4]]
    assert await reads.trades(Page(), order_id=trades[4].sell_order_id, user_id="nobody") == []
    assert await reads.trades(Page(), order_id=999) == []


async def test_a_resting_order_has_the_trades_of_later_batches(storage: Storage) -> None:
    """A maker's fills and events in batches after its own are found by its id, in the order in which they happened."""
    maker = an_order(1, user_id="bob", side=Side.SELL, quantity=pack(30, 0), remaining_quantity=pack(30, 0))
    accepted = happened(1, OrderAccepted(maker))
    await storage.repository.commit(a_batch(1, 1, orders=[maker], events=[accepted]))
    events = [accepted]
    for number in (1, 2, 3):
        taker = an_order(2 * number, user_id="carol")
        trade = a_trade(number, taker, maker, taker=Side.BUY, quantity=pack(10, 0))
        traded = happened(taker.id, Traded(trade, "bob", "carol", pack(10 * number, 0), pack(30 - 10 * number, 0)))
        events.append(traded)
        orders = [filled(taker), maker]
        await storage.repository.commit(a_batch(taker.id, taker.id + 1, orders=orders, trades=[trade], events=[traded]))
    trades = [each.trade for command in reversed(events) for each in command.events if isinstance(each, Traded)]
    assert await storage.reads.trades(Page(), order_id=1) == trades
    assert await storage.reads.trades(Page(before_id=3), order_id=1) == trades[1:]
    assert await storage.reads.trades(Page(limit=2), user_id="bob") == trades[:2]
    assert await storage.reads.events_of_order(1, (0, 0), 100) == events
    for number, command in enumerate(events):
        assert await storage.reads.events_of_order(1, (command.position, 0), 2) == events[number : number + 2]
        assert await storage.reads.events_of_order(1, (command.position, 1), 2) == events[number + 1 : number + 3]


async def test_the_events_of_a_command_are_found_by_its_position(storage: Storage) -> None:
    """In the middle of a batch or at its ends; a position without events, or not reached yet, has none."""
    order = an_order(1)
    prevented = SelfTradePrevented("AAPL", "alice", 1, 3, pack(15050, 2), pack(10, 0))
    events = [
        happened(1, OrderAccepted(order)),
        happened(3, prevented),
        happened(4, CommandRefused(1, Reason.VERSION_CONFLICT, 1), CommandRefused(None, Reason.UNKNOWN_SYMBOL)),
    ]
    cancelled = happened(5, OrderCancelled(an_order(1, status=OrderStatus.CANCELLED, reason=Reason.CANCELLED_BY_USER)))
    await storage.repository.commit(a_batch(1, 4, orders=[order], events=events))
    await storage.repository.commit(a_batch(5, 6, orders=[order], events=[cancelled]))
    reads = storage.reads
    found = [await reads.command_events(position) for position in range(8)]
    assert found == [None, events[0], None, events[1], events[2], cancelled, None, None]
    refused = happened(4, CommandRefused(1, Reason.VERSION_CONFLICT, 1))
    assert await reads.events_of_order(1, (0, 0), 100) == [events[0], events[1], refused, cancelled]
    assert await reads.events_of_order(77, (0, 0), 100) == []


async def test_the_events_of_an_order_are_read_a_few_batches_at_a_time(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many batches name it, and wherever a page begins in the middle of a command: each event once, in its order."""
    monkeypatch.setattr("ome.db.read_models.BATCHES_AT_ONCE", 2)
    order = an_order(1)
    events = [happened(1, OrderAccepted(order))]
    for position in range(2, 9):
        refusals = [CommandRefused(1, Reason.VERSION_CONFLICT, number) for number in range(3)]
        events.append(happened(position, *refusals))
    for command in events:
        batch = a_batch(command.position, command.position, orders=[order] if command.position == 1 else [], events=[command])
        await storage.repository.commit(batch)
    found, after = list[PrivateEvent](), (0, 0)
    while page := await storage.reads.events_of_order(1, after, 2):
        assert sum(len(command.events) for command in page) <= 2
        last = page[-1]
        after = (last.position, len(last.events) + (after[1] if after[0] == last.position else 0))
        found += (event for command in page for event in command.events)
    assert found == [event for command in events for event in command.events]


async def test_the_events_of_a_user_come_oldest_first_from_any_place(storage: Storage) -> None:
    """D2: every event of the user and none of anybody else, each once, however they are paged."""
    batches = [trading_batch(2 * n - 1, n, buyer="carol" if n % 2 else "dave") for n in range(1, 31)]
    for batch in batches:
        await storage.repository.commit(batch)
    reads = storage.reads
    stored = [command for batch in batches for command in decode_events(batch.events)]
    for user_id, count in (("carol", 45), ("bob", 60)):
        mine = [each for command in stored for each in events_of(user_id, command)]
        assert len(mine) == count
        assert await reads.events_of_user(user_id, (0, -1), 1000) == mine
        for limit in (1, 7):
            paged, place = list[UserEvent](), (0, -1)
            while page := await reads.events_of_user(user_id, place, limit):
                assert len(page) <= limit
                paged += page
                place = (page[-1].position, page[-1].number)
            assert paged == mine
        assert (
            await reads.events_of_user(user_id, (mine[9].position, 2**31), 3)
            == [each for each in mine if each.position > mine[9].position][:3]
        )
    assert await reads.events_of_user("carol", (10**6, 0), 10) == []
    assert await reads.events_of_user("nobody", (0, -1), 10) == []


async def test_trades_since_a_moment_come_oldest_first(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every trade at or after the moment, however many pages it takes."""
    monkeypatch.setattr("ome.db.read_models.TRADES_AT_ONCE", 3)
    assert [page async for page in storage.reads.trades_since(0)] == []
    batches = [trading_batch(2 * n - 1, n) for n in range(1, 11)]
    for batch in batches:
        await storage.repository.commit(batch)
    trades = [batch.trades[0] for batch in batches]
    for start in (0, 4, 7, 9):
        pages = [page async for page in storage.reads.trades_since(trades[start].executed_at)]
        assert [trade for page in pages for trade in page] == trades[start:]
        assert all(0 < len(page) <= 3 for page in pages)
    assert [page async for page in storage.reads.trades_since(trades[-1].executed_at + 1)] == []
    await storage.reads.ping()


NUMBERS = [
    (pack(0, 0), "0"),
    (pack(10, 0), "10"),
    (pack(1505, 1), "150.5"),
    (pack(15050, 2), "150.50"),
    (pack(1, 9), "0.000000001"),
    (pack(999_999_999_999_999, 9), "999999.999999999"),
    (pack(10**17, 2), "1000000000000000.00"),
    (pack(0, 3), "0.000"),
]


async def test_the_views_are_exact_and_readable(storage: Storage, database: Database) -> None:
    """A person reads decimals with all their digits, words and times; on PostgreSQL they are numerics and timestamps."""

    def number(text: str) -> Any:
        return text if database.kind == "sqlite" else Decimal(text)

    orders = [an_order(n, quantity=packed, price=packed) for n, (packed, _) in enumerate(NUMBERS, 1)]
    orders.append(an_order(len(orders) + 1, price=None, type=OrderType.MARKET, side=Side.SELL, status=OrderStatus.CANCELLED))
    await storage.repository.commit(a_batch(1, len(orders), orders=orders))
    rows = await database.fetch("SELECT quantity, price FROM orders ORDER BY id")
    expected = [(number(text), number(text)) for _, text in NUMBERS]
    assert rows == [*expected, (number("10"), None)]
    assert [str(price) for _, price in rows[:-1]] == [str(number(text)) for _, text in NUMBERS]
    as_text = ", ".join(f"CAST({name} AS TEXT)" for name in ("side", "status", "filled_quantity"))
    assert await database.fetch(f"SELECT id, user_id, symbol, {as_text} FROM orders WHERE id >= 8 ORDER BY id") == [  # noqa: S608
        (8, "alice", "AAPL", "BUY", "PENDING", "0"),
        (9, "alice", "AAPL", "SELL", "CANCELLED", "0"),
    ]
    moment = (
        "created_at"
        if database.kind == "sqlite"
        else """to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""
    )
    assert await database.fetch(f"SELECT {moment} FROM orders WHERE id = 3") == [("2026-11-22T10:00:00.000003Z",)]  # noqa: S608


async def test_the_views_have_the_columns_that_the_docs_name(storage: Storage, database: Database) -> None:
    """`orders` and `trades` at a SQL prompt."""
    await storage.repository.commit(trading_batch(1, 1))
    columns = {
        "orders": "id, user_id, symbol, side, quantity, price, status, filled_quantity, created_at, updated_at",
        "trades": "id, buy_order_id, sell_order_id, symbol, quantity, price, executed_at",
    }
    for view, names in columns.items():
        everything = await database.fetch(f"SELECT * FROM {view}")  # noqa: S608  the words above
        assert everything == await database.fetch(f"SELECT {names} FROM {view}")  # noqa: S608
    row = (await database.fetch("SELECT id, buy_order_id, sell_order_id, symbol FROM trades"))[0]
    assert row == (1, 2, 1, "AAPL")


@pytest.mark.parametrize(("column", "kind", "table"), [("status", OrderStatus, "orders"), ("side", Side, "orders")])
async def test_every_word_has_its_name_in_the_views(
    storage: Storage, database: Database, column: str, kind: type[OrderStatus | Side], table: str
) -> None:
    """An enum that has grown needs a revision of the views."""
    fields = [{column: value} for value in kind]
    await storage.repository.commit(a_batch(1, len(fields), orders=[an_order(n, **each) for n, each in enumerate(fields, 1)]))
    assert await database.fetch(f"SELECT {column} FROM {table} ORDER BY id") == [(value.name,) for value in kind]  # noqa: S608


async def test_shards_share_a_database(database: Database) -> None:
    """Two shards of one PostgreSQL database commit, recover and answer apart from each other."""
    if database.kind == "sqlite":
        pytest.skip("an SQLite file has one engine")
    storages = [open_storage(database.url, shard=shard) for shard in (0, 3)]
    try:
        for storage, shard in zip(storages, (0, 3), strict=True):
            await storage.repository.start()
            instrument = an_instrument(f"S{shard}")
            await storage.repository.commit(
                a_batch(1, 1, orders=[an_order(make_id(shard, 1), symbol=f"S{shard}")], instruments=[instrument], shard=shard)
            )
            await storage.repository.commit(trading_batch(2, 1, shard=shard))
        for storage, shard in zip(storages, (0, 3), strict=True):
            state = (await storage.repository.load()).state
            assert [order.id for order in state.orders] == [make_id(shard, 1)]
            assert [instrument.symbol for instrument in state.instruments] == [f"S{shard}"]
            assert [trade.id for trade in await storage.reads.trades(Page(), user_id="bob")] == [make_id(shard, 1)]
            assert [len(page) async for page in storage.reads.trades_since(0)] == [1]
    finally:
        for storage in storages:
            await storage.close()
