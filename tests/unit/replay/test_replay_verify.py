"""The verifier agrees with an engine that is right, and catches one that is wrong in any one way."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest

from ome.domain.enums import Side
from ome.replay.digest import Book, Level, Resting, TapeDigest, best_levels, book_sha
from ome.replay.driver import Driver, Entry, Outcome
from ome.replay.flow import Fill, Op, Row, read_rows
from ome.replay.generate import FlowKind, generate
from ome.replay.replayer import replay
from ome.replay.report import ReplayReport
from ome.replay.verify import KEPT, Expected, read_expected
from unit.replay.naive_driver import ListDriver, ListedOrder

ROWS = 3000


@pytest.fixture(scope="module")
def flows(tmp_path_factory: pytest.TempPathFactory) -> dict[FlowKind, Path]:
    """A generated flow of each kind."""
    folder = tmp_path_factory.mktemp("flows")
    kinds: tuple[FlowKind, ...] = ("sweeps", "replay")
    return {kind: generate(folder / f"X.{kind}.csv", rows=ROWS, seed=5, kind=kind).path for kind in kinds}


async def _run(path: Path, driver: Driver) -> ReplayReport:
    return await replay(read_rows(path), driver, read_expected(path))


class _LastInFirstOut(ListDriver):
    def candidates(self, taker: ListedOrder) -> list[ListedOrder]:
        newest_first = super().candidates(taker)[::-1]
        return sorted(newest_first, key=lambda order: order.price * (1 if taker.side is Side.BUY else -1))


class _TakersPrice(ListDriver):
    def match(self, taker: ListedOrder) -> tuple[Fill, ...]:
        return tuple(fill._replace(price=taker.price) for fill in super().match(taker))


class _WrongQuantity(ListDriver):
    def match(self, taker: ListedOrder) -> tuple[Fill, ...]:
        return tuple(fill._replace(quantity=fill.quantity + 1) for fill in super().match(taker))


class _WorstPriceFirst(ListDriver):
    def candidates(self, taker: ListedOrder) -> list[ListedOrder]:
        return super().candidates(taker)[::-1]


class _LosesOneOrder(ListDriver):
    async def submit(self, entry: Entry) -> Outcome:
        outcome = await super().submit(entry)
        if entry.label == "r100":
            self.resting.remove(self.orders[outcome.order_id])
        return outcome


class _IgnoresCancels(ListDriver):
    async def cancel(self, order_id: int) -> Outcome:
        return Outcome(order_id)


class _RefusesModifies(ListDriver):
    async def modify(self, order_id: int, quantity: int, price: int) -> Outcome:  # noqa: ARG002  the interface's
        return Outcome(order_id, refused="not_supported")


class _ReplaceKeepsPlace(ListDriver):
    async def modify(self, order_id: int, quantity: int, price: int) -> Outcome:
        place = self.resting.index(self.orders[order_id])
        outcome = await super().modify(order_id, quantity, price)
        self.resting.remove(self.orders[order_id])
        self.resting.insert(place, self.orders[order_id])
        return outcome


class _ReduceLosesPlace(ListDriver):
    async def modify(self, order_id: int, quantity: int, price: int) -> Outcome:
        outcome = await super().modify(order_id, quantity, price)
        self.resting.remove(self.orders[order_id])
        self.resting.append(self.orders[order_id])
        return outcome


class _QuantityIsWhatIsLeft(ListDriver):
    """Takes a modify's quantity for what is to be open, not for the total with what is filled."""

    async def modify(self, order_id: int, quantity: int, price: int) -> Outcome:
        order = self.orders[order_id]
        return await super().modify(order_id, quantity + order.quantity - order.remaining, price)


class _LeavesRemaindersOfTakers(ListDriver):
    async def submit(self, entry: Entry) -> Outcome:
        taken = entry._replace(quantity=entry.quantity + 1) if entry.taking else entry
        return self.enter(taken.side, taken.price, taken.quantity, rests=True)


WRONG = [
    _LastInFirstOut,
    _WrongQuantity,
    _WorstPriceFirst,
    _LosesOneOrder,
    _IgnoresCancels,
    _RefusesModifies,
    _ReplaceKeepsPlace,
    _ReduceLosesPlace,
    _LeavesRemaindersOfTakers,
]


@pytest.mark.parametrize("kind", ["sweeps", "replay"])
async def test_a_right_engine_agrees_in_everything(flows: dict[FlowKind, Path], kind: FlowKind) -> None:
    """A naive book that shares nothing with the generator's agrees with every fill and every checkpoint."""
    report = await _run(flows[kind], ListDriver())
    assert report.disagreements == []
    assert report.ok
    assert report.rows == ROWS
    assert report.checkpoints_agreed == report.checkpoints >= 20
    assert report.trades > report.fill_rows // 2 > 0


@pytest.mark.parametrize("wrong", WRONG)
async def test_a_wrong_engine_is_caught(flows: dict[FlowKind, Path], wrong: type[ListDriver]) -> None:
    """Whatever rule an engine breaks, the replay says so and names rows."""
    report = await _run(flows["sweeps"], wrong())
    assert not report.ok
    assert report.disagreement_count >= len(report.disagreements) > 0
    assert len(report.disagreements) <= KEPT
    assert all(1 <= disagreement.row <= ROWS for disagreement in report.disagreements)


@pytest.mark.parametrize("wrong", WRONG)
async def test_a_wrong_engine_is_caught_by_single_fills_too(flows: dict[FlowKind, Path], wrong: type[ListDriver]) -> None:
    """The flow with one row for each fill shows the same faults."""
    assert not (await _run(flows["replay"], wrong())).ok


@pytest.mark.parametrize("wrong", [_TakersPrice, _QuantityIsWhatIsLeft])
async def test_a_fault_that_random_flow_seldom_shows_is_caught(wrong: type[ListDriver]) -> None:
    """A take at two prices, and a replacement of an order that is partly filled, show what most rows hide."""
    rows = [
        *TWO_ASKS,
        _added(3, 5, price=101),
        Row(0, 0, Op.TAKE, 9, Side.BUY, 101, 12),
        Row(0, 0, Op.REPLACE, 3, Side.SELL, 102, 7),
    ]
    expected = Expected(tape={4: [Fill(1, 100, 5), Fill(2, 100, 5), Fill(3, 101, 2)]})
    assert (await replay(rows, ListDriver(), expected)).ok
    assert not (await replay(rows, wrong(), expected)).ok


async def test_a_lost_order_is_caught_without_any_companion(flows: dict[FlowKind, Path]) -> None:
    """An EXECUTE row names its own maker, so that a flow alone, without files beside it, is verified as well."""
    report = await replay(read_rows(flows["replay"]), _LastInFirstOut(), Expected())
    assert not report.ok
    assert report.checkpoints == 0


def _added(order_id: int, quantity: int, side: Side = Side.SELL, price: int = 100) -> Row:
    return Row(0, 0, Op.ADD, order_id, side, price, quantity)


TWO_ASKS = [_added(1, 5), _added(2, 5)]


async def test_a_mismatch_row_is_compared_with_what_its_file_says() -> None:
    """At a mismatch row the fills by price and time are right, and those of the venue wrong."""
    rows = [*TWO_ASKS, Row(0, 0, Op.EXECUTE, 2, Side.SELL, 100, 5)]
    excused = await replay(rows, ListDriver(), Expected(mismatches={3: [Fill(1, 100, 5)]}))
    assert excused.ok
    assert excused.mismatch_rows == 1
    assert not (await replay(rows, ListDriver(), Expected())).ok
    assert not (await replay(rows, _LastInFirstOut(), Expected(mismatches={3: [Fill(1, 100, 5)]}))).ok


@pytest.mark.parametrize("op", [Op.CANCEL, Op.PURGE, Op.REDUCE, Op.REPLACE])
async def test_an_ended_order_must_be_refused(op: Op) -> None:
    """After a mismatch a row may name an order that the engine has filled: it is refused, and that is right."""
    rows = [*TWO_ASKS, Row(0, 0, Op.EXECUTE, 1, Side.SELL, 100, 5), Row(0, 0, op, 1, Side.SELL, 100, 3)]
    assert (await replay(rows, ListDriver(), Expected())).ok

    class Lenient(ListDriver):
        async def cancel(self, order_id: int) -> Outcome:
            return Outcome(order_id)

        async def modify(self, order_id: int, quantity: int, price: int) -> Outcome:  # noqa: ARG002  the interface's
            return Outcome(order_id, remaining=3)

    report = await replay(rows, Lenient(), Expected())
    assert "a refusal" in str(report.disagreements[0])


async def test_an_unknown_order_is_a_disagreement() -> None:
    """A cancel of an order that was never added can't be sent, and is reported."""
    report = await replay([Row(0, 0, Op.CANCEL, 9, Side.BUY, 1, 1)], ListDriver(), Expected())
    assert [disagreement.row for disagreement in report.disagreements] == [1]


async def test_an_added_order_must_not_trade() -> None:
    """What comes to rest in the file may not trade in the engine."""
    report = await replay([*TWO_ASKS, _added(3, 2, Side.BUY)], ListDriver(), Expected())
    assert [disagreement.what for disagreement in report.disagreements] == [
        "ADD of order 3 rests with",
        "ADD of order 3 traded",
    ]


async def test_a_take_without_a_tape_is_compared_by_its_sum() -> None:
    """Without a tape an incoming order must still fill wholly and end at its price."""
    whole = Row(0, 0, Op.TAKE, 9, Side.BUY, 100, 10)
    assert (await replay([*TWO_ASKS, whole], ListDriver(), Expected())).ok
    beyond = Row(0, 0, Op.TAKE, 9, Side.BUY, 100, 11)
    assert not (await replay([*TWO_ASKS, beyond], ListDriver(), Expected())).ok


async def test_a_take_that_its_tape_lacks_must_not_fill() -> None:
    """With a tape, a TAKE row that has no tape row fills nothing."""
    take = Row(0, 0, Op.TAKE, 9, Side.BUY, 99, 10)
    assert (await replay([*TWO_ASKS, take], ListDriver(), Expected(tape={}))).ok


async def test_a_replacement_at_the_same_price_goes_to_the_back() -> None:
    """REPLACE loses the place even where the engine's own modify would keep it (A1)."""
    rows = [*TWO_ASKS, Row(0, 0, Op.REPLACE, 1, Side.SELL, 100, 5), Row(0, 0, Op.EXECUTE, 2, Side.SELL, 100, 5)]
    assert (await replay(rows, ListDriver(), Expected())).ok


async def test_a_replaced_order_has_the_rows_quantity_open() -> None:
    """The new total is what is filled and the row's quantity, so that exactly the latter is open."""
    rows = [
        *TWO_ASKS,
        Row(0, 0, Op.EXECUTE, 1, Side.SELL, 100, 2),
        Row(0, 0, Op.REPLACE, 1, Side.SELL, 99, 4),
        Row(0, 0, Op.REDUCE, 1, Side.SELL, 99, 1),
        Row(0, 0, Op.TAKE, 9, Side.BUY, 99, 3),
        Row(0, 0, Op.REDUCE, 2, Side.SELL, 100, 5),
    ]
    driver = ListDriver()
    assert (await replay(rows, driver, Expected(tape={6: [Fill(1, 99, 3)]}))).ok
    assert (await driver.book()).live_orders == 0


def test_the_digest_of_a_book_is_over_its_queues() -> None:
    """One line for each level, bids first, best first, with the orders in queue order."""
    book = Book([Level(99, [Resting(1, 5), Resting(4, 2)]), Level(98, [Resting(2, 7)])], [Level(101, [Resting(3, 1)])])
    assert book_sha(book) == sha256(b"B 99 1=5 4=2\nB 98 2=7\nS 101 3=1\n").hexdigest()[:16]
    assert book.live_orders == 4
    assert best_levels(book.bids) == "99:7 98:7"
    assert best_levels(book.bids, 1) == "99:7"


def test_the_digest_of_a_tape_is_over_its_fills() -> None:
    """One line for each fill, and nothing before the first."""
    tape = TapeDigest()
    assert tape.hexdigest() == "e3b0c44298fc1c14"
    tape.add(7, [Fill(1, 100, 5), Fill(2, 101, 6)])
    assert tape.hexdigest() == sha256(b"7,1,100,5\n7,2,101,6\n").hexdigest()[:16]
    assert (tape.trades, tape.traded_quantity) == (2, 11)
