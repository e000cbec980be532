"""The structures that an engine's books are made of: levels, sides, deadlines, and orders as they are restored."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ome.domain.digests import digest
from ome.domain.enums import OrderStatus, OrderType, SelfTradePrevention, Side, TimeInForce
from ome.domain.errors import InvariantBroken
from ome.domain.instrument import Instrument
from ome.domain.numbers import pack
from ome.domain.reasons import Reason
from ome.engine.book_side import MOST_EMPTIED, BookSide
from ome.engine.expiry import Deadlines
from ome.engine.order import Order
from ome.engine.order_book import OrderBook
from ome.engine.price_level import PriceLevel
from ome.engine.snapshot import MASK

X = Instrument("X", pack(5, 2), pack(1, 1))


def order(
    number: int, price: int | None = 100, quantity: int = 10, side: Side = Side.BUY, expires_at: int | None = None
) -> Order:
    """An order with its number as id and priority; ticks and lots."""
    tif = TimeInForce.GTC if expires_at is None else TimeInForce.GTD
    mode = SelfTradePrevention.CANCEL_NEWEST
    return Order(number, X, "ann", side, OrderType.LIMIT, tif, quantity, price, number, 1000 + number, mode, None, expires_at)


def ids(orders: Sequence[Order] | PriceLevel) -> list[int]:
    """Who stands where."""
    return [each.id for each in orders]


class TestPriceLevel:
    """The queue at one price."""

    @pytest.mark.parametrize(("gone", "left"), [(1, [2, 3]), (2, [1, 3]), (3, [1, 2])])
    def test_leaving_from_anywhere_keeps_the_order_of_the_rest(self, gone: int, left: list[int]) -> None:
        """M1: first, middle or last, the others stay in their order."""
        level = PriceLevel(100)
        orders = {number: order(number, quantity=number) for number in (1, 2, 3)}
        for each in orders.values():
            level.append(each)
        level.remove(orders[gone])
        level.check_invariants()
        assert ids(level) == left
        assert (level.quantity, level.count) == (6 - gone, 2)
        assert orders[gone].level is None

    def test_the_last_one_to_leave_leaves_it_empty(self) -> None:
        """M4: an empty level has neither head nor tail nor quantity."""
        level, only = PriceLevel(100), order(1)
        level.append(only)
        level.remove(only)
        assert (level.head, level.tail, level.quantity, level.count) == (None, None, 0, 0)

    def test_an_order_that_left_may_join_the_back(self) -> None:
        """A2: leaving and joining again is the back of the queue."""
        level, first, second = PriceLevel(100), order(1), order(2)
        level.append(first)
        level.append(second)
        level.remove(first)
        first.priority = 3
        level.append(first)
        level.check_invariants()
        assert ids(level) == [2, 1]

    def test_wrong_sums_and_wrong_queues_are_seen(self) -> None:
        """INV4, INV5: the check is worth its name."""
        level = PriceLevel(100)
        level.append(order(1))
        level.append(order(2))
        level.quantity += 1
        with pytest.raises(InvariantBroken):
            level.check_invariants()
        level.quantity -= 1
        level.check_invariants()
        assert level.tail is not None
        level.tail.priority = 0
        with pytest.raises(InvariantBroken):
            level.check_invariants()
        with pytest.raises(InvariantBroken):
            PriceLevel(7).check_invariants()


class SideMachine(RuleBasedStateMachine):
    """A book side against a plain list."""

    side = Side.BUY

    def __init__(self) -> None:
        super().__init__()
        self.book_side = BookSide(self.side)
        self.resting: list[Order] = []
        self.count = 0

    @rule(price=st.integers(95, 105), quantity=st.integers(1, 9))
    def add(self, price: int, quantity: int) -> None:
        """An order joins."""
        self.count += 1
        new = order(self.count, price, quantity, self.side)
        self.book_side.add(new)
        self.resting.append(new)

    @rule(index=st.integers(0, 50))
    def remove(self, index: int) -> None:
        """An order leaves."""
        if self.resting:
            self.book_side.remove(self.resting.pop(index % len(self.resting)))

    @invariant()
    def same(self) -> None:
        """M1, M4: levels in order of price, the best at hand, none empty, sums right."""
        self.book_side.check_invariants()
        sign = -1 if self.side is Side.BUY else 1
        expected = sorted(self.resting, key=lambda each: (sign * (each.price or 0), each.id))
        assert [each.id for level in self.book_side.best_first() for each in level] == ids(expected)
        assert len(self.book_side) == len({each.price for each in self.resting})
        best = self.book_side.best
        assert (None if best is None else best.price) == (expected[0].price if expected else None)
        shown = {level.price: level.quantity for level in self.book_side.best_first()}
        for price in range(95, 106):
            assert shown.get(price, 0) == sum(each.remaining for each in self.resting if each.price == price)


class AskMachine(SideMachine):
    """The same for asks."""

    side = Side.SELL


TestBidSide = SideMachine.TestCase
TestAskSide = AskMachine.TestCase
TestBidSide.settings = TestAskSide.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)


@pytest.mark.parametrize("side", Side)
def test_places_of_emptied_levels_are_bounded(side: Side) -> None:
    """M4: levels that orders come to and leave are gone at once, and what is kept of them is no more than of those that stay."""
    book_side, count = BookSide(side), 3 * MOST_EMPTIED
    staying = [order(number, price, side=side) for number, price in enumerate((1, 5 * count), start=1)]
    for each in staying:
        book_side.add(each)
    for number in range(count):
        passing = order(3 + number, 2 + number, side=side)
        book_side.add(passing)
        assert len(book_side) == 3
        book_side.remove(passing)
        assert (len(book_side), len(list(book_side.best_first())), len(book_side._levels) <= MOST_EMPTIED + 3) == (2, 2, True)
    book_side.check_invariants()
    assert [level.price for level in book_side.best_first()] == sorted((1, 5 * count), reverse=side is Side.BUY)
    for each in staying:
        book_side.remove(each)
    assert (book_side.best, len(book_side), list(book_side.best_first())) == (None, 0, [])
    book_side.check_invariants()


def test_a_level_that_is_counted_wrongly_when_it_is_empty_is_seen() -> None:
    """INV4: what has left counts for nothing."""
    side, only, other = BookSide(Side.BUY), order(1, 100), order(2, 101)
    for each in (only, other):
        side.add(each)
    level = only.level
    side.remove(only)
    side.check_invariants()
    assert level is not None
    level.quantity = 1
    with pytest.raises(InvariantBroken, match="level 100 is empty and counts 1 in 0"):
        side.check_invariants()


def test_what_has_no_price_cannot_rest() -> None:
    """T3: a market order in a book is a bug, and is seen."""
    with pytest.raises(InvariantBroken):
        BookSide(Side.BUY).add(order(1, price=None))


def test_what_is_in_no_level_cannot_leave_one() -> None:
    """Taking out an order twice is a bug, and is seen."""
    side, only = BookSide(Side.BUY), order(1)
    side.add(only)
    side.remove(only)
    with pytest.raises(InvariantBroken):
        side.remove(only)


def test_a_crossed_book_is_seen() -> None:
    """INV3, M2: a bid at the ask breaks the book's invariants."""
    book = OrderBook(X, 0)
    book.add(order(1, 100))
    book.add(order(2, 101, side=Side.SELL))
    book.check_invariants()
    book.add(order(3, 101))
    with pytest.raises(InvariantBroken, match="crossed"):
        book.check_invariants()


def test_changes_are_absolute_and_taken_once() -> None:
    """D1: each touched level as it stands, in the instrument's decimals, each time under the next number."""
    book, bid = OrderBook(X, 0), order(1, 100, 15)
    book.add(bid)
    book.add(order(2, 100, 5))
    assert book.take_changes(7).levels == [(Side.BUY, pack(500, 2), pack(20, 1), 2)]
    book.remove(bid)
    book.add(order(3, 99, 1))
    change = book.take_changes(8)
    assert (change.sequence, change.time) == (2, 8)
    assert change.levels == [(Side.BUY, pack(500, 2), pack(5, 1), 1), (Side.BUY, pack(495, 2), pack(1, 1), 1)]
    assert not book.has_changed


class TestDeadlines:
    """The soonest first."""

    @given(st.lists(st.integers(1, 5), max_size=30), st.integers(0, 6))
    def test_what_is_due_comes_out_by_deadline_then_by_id(self, moments: list[int], now: int) -> None:
        """T5: everything at or before now, nothing after it."""
        deadlines = Deadlines()
        for number, moment in enumerate(moments, 1):
            deadlines.add(order(number, expires_at=moment))
        assert deadlines.soonest == min(moments, default=None)
        due = []
        while (each := deadlines.pop_due(now)) is not None:
            due.append((each.expires_at, each.id))
        assert due == sorted((moment, number) for number, moment in enumerate(moments, 1) if moment <= now)
        assert len(deadlines) == len(moments) - len(due)

    def test_an_order_that_is_dropped_never_comes_out(self) -> None:
        """T5: dropping is for good, twice does no harm, and orders without a deadline are not watched."""
        deadlines, dated = Deadlines(), order(1, expires_at=5)
        for each in (dated, order(2)):
            deadlines.add(each)
        for _ in range(2):
            deadlines.drop(dated)
        assert deadlines.pop_due(9) is None
        assert deadlines.soonest is None


class TestOrder:
    """An order's arithmetic and its picture."""

    def test_fills_add_up_and_decide_the_status(self) -> None:
        """INV1: quantity is filled and remaining; FILLED when nothing remains."""
        each = order(1, quantity=10)
        each.fill(4, 100, 2000)
        assert (each.filled, each.remaining, each.status, each.updated_at) == (4, 6, OrderStatus.PARTIALLY_FILLED, 2000)
        each.fill(6, 99, 2001)
        assert (each.filled, each.remaining, each.status) == (10, 0, OrderStatus.FILLED)
        assert each.record().filled_value == "4.970"

    def test_an_ended_order_has_nothing_open(self) -> None:
        """N3: remaining is 0 once it has ended, and the picture says why."""
        each = order(1)
        each.fill(4, 100, 2000)
        each.end(OrderStatus.CANCELLED, Reason.CANCELLED_BY_USER, 2001)
        record = each.record()
        assert not record.is_open
        assert record.remaining_quantity == pack(0, 1)
        assert (record.reason, record.filled_quantity) == (Reason.CANCELLED_BY_USER, pack(4, 1))

    @given(st.integers(1, 10**9), st.integers(1, 10**9), st.integers(0, 10**9))
    def test_a_restored_order_is_the_same(self, price: int, quantity: int, filled: int) -> None:
        """DUR6: what recovery makes of a record has that record again."""
        each = order(1, price, quantity + filled, expires_at=5)
        if filled:
            each.fill(filled, price, 2000)
        assert Order.restored(each.record(), X).record() == each.record()

    def test_a_picture_does_not_change_afterwards(self) -> None:
        """What events carry stays what it was."""
        each = order(1)
        before = each.record()
        each.fill(4, 100, 2000)
        assert before.filled_quantity == pack(0, 1)
        assert each.record() != before


def test_a_digest_covers_every_field() -> None:
    """HOLE17: any change of an order's record changes its digest."""
    plain = order(1, expires_at=9).record()
    changed = [
        order(2, expires_at=9),
        order(1, 101, expires_at=9),
        order(1, 100, 11, expires_at=9),
        order(1, side=Side.SELL, expires_at=9),
    ]
    changed += [order(1, expires_at=8), order(1)]
    digests = {digest(plain), *(digest(each.record()) for each in changed)}
    assert len(digests) == 1 + len(changed)
    assert all(0 <= value <= MASK for value in digests)
