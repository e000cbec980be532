"""The judge counts what it is there for: a ledger, a book or a disk that was falsified is found out, one that wasn't is not."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

import pytest

from faults.faulty_disk import File, Record
from faults.ledger import Ledger, Page
from faults.oracle import Findings, Queues, StoredOrder, compare_queues, judge_orders, judge_queues
from faults.power_cuts import Disk, Told, bodies, reaches
from faults.run import Outcome
from faults.table import Row, total

BODY = {"user_id": "ann", "symbol": "AAA", "side": "BUY", "type": "LIMIT", "quantity": 5, "price": "100.00"}
ANSWER: dict[str, Any] = {"order_id": "7", "version": 1, "quantity": "5", "filled_quantity": "2", "status": "PARTIALLY_FILLED"}
STORED = StoredOrder(7, "x", "ann", "AAA", "BUY", Decimal(5), Decimal(100), "PARTIALLY_FILLED", Decimal(2), 1)


def told(**changes: Any) -> Ledger:
    """A ledger with one acknowledged order."""
    page = Page(BODY, 0.0, attempts=1)
    page.acknowledge(ANSWER | changes)
    return Ledger({"x": page})


def stored(**changes: Any) -> StoredOrder:
    """The order that goes with it."""
    return StoredOrder(**{**vars(STORED), **changes})


def judged(ledger: Ledger, *orders: StoredOrder) -> tuple[int, int, int]:
    """(lost, doubled, other) of a ledger and stored orders."""
    findings = Findings()
    judge_orders(ledger, list(orders), findings)
    return findings.lost, findings.doubled, findings.other


def test_what_was_told_and_is_stored_is_no_finding() -> None:
    """Also where the stored order has gone on since."""
    assert judged(told(), STORED) == (0, 0, 0)
    assert judged(told(), stored(filled=Decimal(5), status="FILLED")) == (0, 0, 0)


@pytest.mark.parametrize(
    "changes",
    [
        {"id": 8},
        {"user_id": "bob"},
        {"side": "SELL"},
        {"quantity": Decimal(6)},
        {"price": Decimal("100.01")},
        {"filled": Decimal(1)},
        {"version": 2},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_an_order_that_is_stored_otherwise_is_lost(changes: dict[str, Any]) -> None:
    """Another id, content or version, or less of it filled, than was acknowledged."""
    lost, _, _ = judged(told(), stored(**changes))
    assert lost


def test_an_acknowledged_order_that_is_not_there_is_lost() -> None:
    """One sentence for each."""
    assert judged(told()) == (1, 0, 0)


def test_an_acknowledged_end_that_is_not_stored_is_lost() -> None:
    """Cancelled for its sender, open in the database."""
    assert judged(told(status="CANCELLED"), STORED)[0]


def test_an_order_that_is_there_twice_is_doubled() -> None:
    """Two rows with one client order id; or two ids in answers."""
    assert judged(told(), STORED, stored(id=9))[1] == 1
    ledger = told()
    ledger.pages["x"].acknowledge(ANSWER | {"order_id": "9"})
    assert judged(ledger, STORED)[1] == 1


def test_an_order_that_nobody_sent_is_found() -> None:
    """A row whose client order id isn't in the ledger."""
    assert judged(told(), STORED, stored(id=8, client_order_id="y")) == (0, 0, 1)


def test_a_refusal_that_was_certain_has_to_be_true() -> None:
    """Said not to be executed, and there; after an attempt without an answer it may be."""
    page = Page(BODY, 0.0, attempts=2, refused=2)
    assert judged(Ledger({"x": page}), STORED) == (0, 0, 1)
    page.attempts = 3
    assert judged(Ledger({"x": page}), STORED) == (0, 0, 0)


def test_orders_that_changed_places_are_moved() -> None:
    """Each order that isn't at its price and place counts."""
    findings, expected = Findings(), Queues({("AAA", "bids"): [("1.00", ["1", "2", "3"]), ("0.99", ["4"])]})
    compare_queues(expected, expected, findings)
    assert findings.is_clean
    compare_queues(expected, Queues({("AAA", "bids"): [("1.00", ["2", "1", "3"]), ("0.98", ["4"])]}), findings)
    assert findings.moved == 3


def test_an_order_before_an_older_one_is_moved() -> None:
    """Without the journal: ids are the order of acceptance, but for orders that were changed."""
    findings, queues = Findings(), Queues({("AAA", "bids"): [("1.00", ["3", "1", "4"])]})
    judge_queues(queues, {"3"}, findings)
    assert findings.is_clean
    judge_queues(queues, set(), findings)
    assert findings.moved == 1


def test_a_power_cut_keeps_what_was_flushed_alone() -> None:
    """A write that wasn't flushed may be gone; after a failed flush it is, whatever is flushed later."""
    images = set[bytes]()
    for seed in range(20):
        disk = Disk()
        for record in (
            Record("W", File.WAL, 0, b"a" * 1024),
            Record("S", File.WAL, 0, b""),
            Record("W", File.WAL, 1024, b"b" * 1024),
        ):
            disk.take(record)
        images.add(disk.after_a_cut(random.Random(seed))[File.WAL])
    assert images == {b"a" * 1024, b"a" * 1024 + b"b" * 512, b"a" * 1024 + b"b" * 1024}
    disk.take(Record("F", File.WAL, 0, b""))
    disk.take(Record("S", File.WAL, 0, b""))
    assert disk.after_a_cut(random.Random(1))[File.WAL] == b"a" * 1024


def test_answers_are_read_from_what_left() -> None:
    """Bodies of several answers in one write, of one that stands alone, and none of half an answer."""
    answer = b'HTTP/1.1 201 Created\r\ncontent-length: 17\r\n\r\n{"order_id": "1"}'
    assert list(bodies(answer + answer)) == [{"order_id": "1"}] * 2
    assert list(bodies(b'{"order_id": "2"}')) == [{"order_id": "2"}]
    assert list(bodies(answer[:-3])) == []


def test_an_order_less_far_than_told_is_not_reached() -> None:
    """Version, fills and end."""
    how_far = Told(2, Decimal(3), has_ended=True)
    assert reaches((2, 3, 4), how_far)
    assert not any(reaches(found, how_far) for found in (None, (1, 3, 4), (2, 2, 4), (2, 3, 1)))


def test_the_table_says_what_came_of_it() -> None:
    """A row with a finding FAILED, a canary without one too; a row that was skipped has no numbers."""
    clean, lost = Outcome(injected=2), Outcome(injected=2)
    lost.findings.say("lost", "one")
    good, bad = Row("kill", 1.0, clean), Row("kill", 1.0, lost)
    assert good.is_good
    assert not bad.is_good
    assert "FAILED" in bad.line()
    assert not Row("canary", 1.0, clean, is_canary=True).is_good
    assert Row("canary", 1.0, lost, is_canary=True).is_good
    assert not Row("canary", 1.0, lost, is_canary=True, failure="it broke").is_good
    skipped = Row("clock", skipped="libfaketime")
    assert skipped.is_good
    assert "SKIPPED: libfaketime" in skipped.line()
    assert "0" not in skipped.line()
    assert "FAILED: kill" in total([good, bad, skipped])
    assert "ok, 1 skipped" in total([good, skipped])
