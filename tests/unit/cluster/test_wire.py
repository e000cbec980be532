"""What gateways and engines say to each other."""

from __future__ import annotations

import pytest
from msgspec import structs

from factories import a_command
from ome.cluster import wire
from ome.cluster.wire import Carried, Failed, Frame, Operate, OperateAll, Pieces, Reply, Several, Transferred, WireError
from ome.domain.commands import CancelOrder, ModifyOrder
from ome.domain.errors import InvariantBroken, NotAccepting, OmeError, OutcomeUnknown, Overloaded, StorageAway, TooLate
from ome.domain.events import BookChanged, CommandRefused, OrderAccepted
from ome.domain.ports import Answer, TransferAnswer
from ome.domain.reasons import Reason


def test_a_frame_comes_out_as_it_went_in() -> None:
    """Requests of every kind keep their fields and their order."""
    order = structs.replace(a_command(), client_order_id="c-1")
    requests: list[wire.Request] = [
        Operate(1, order, 77),
        OperateAll(2, [(order, None), (ModifyOrder(5, exists=True, quantity=70), 9), (CancelOrder(6, exists=True), None)]),
        wire.CancelAll(3, "alice", None, None),
        wire.AwaitFate(4, "alice", "c-1", "AAPL"),
        wire.AskRisk(5, "alice"),
    ]
    frame = Frame("gateway-1", 3, 123, requests)
    assert wire.read_frame(wire.encode(frame)) == frame


def test_answers_come_out_as_they_went_in() -> None:
    """What is about an order, what failed, what is about many."""
    refused = Carried(7, [CommandRefused(7, Reason.ORDER_NOT_FOUND)], replayed=True)
    reply = Reply(1, 12, [(1, refused), (2, Failed("Overloaded")), (3, Several([refused, Failed("TooLate")]))])
    assert wire.read_reply(wire.encode(reply)) == reply


@pytest.mark.parametrize("error", [Overloaded(), NotAccepting("draining"), TooLate(), OutcomeUnknown("x"), StorageAway("y")])
def test_an_error_is_the_same_on_the_other_side(error: OmeError) -> None:
    """Its class, which decides whether something was executed, and its message."""
    found = wire.error_of(wire.failed(error))
    assert type(found) is type(error)
    assert str(found) == str(error)


@pytest.mark.parametrize("error", [InvariantBroken("a bug"), KeyError("b"), ZeroDivisionError()])
def test_a_bug_is_an_unknown_outcome_on_the_other_side(error: Exception) -> None:
    """Nobody can say what became of the command, and the bug's insides aren't told."""
    found = wire.error_of(wire.failed(error))
    assert type(found) is OutcomeUnknown
    assert str(error) not in str(found) or not str(error)


def test_an_answer_goes_without_the_changes_of_the_book() -> None:
    """Its reader isn't told of them; everything else is there, in order."""
    changed = BookChanged("AAPL", 3, 4, [])
    refused = CommandRefused(1, Reason.ORDER_NOT_OPEN)
    answer = Answer(1, [changed, refused, changed])
    assert wire.answer_of(wire.carried(answer)) == Answer(1, [refused])
    assert not any(isinstance(event, OrderAccepted) for event in wire.carried(answer).events)


def test_a_transfer_is_made_or_refused() -> None:
    """One of both; a message that says neither is none of ours."""
    refused = TransferAnswer(CommandRefused(None, Reason.INSUFFICIENT_FUNDS))
    assert wire.transfer_answer_of(wire.transferred(refused)) == refused
    with pytest.raises(WireError):
        wire.transfer_answer_of(Transferred(None, None, replayed=False))


@pytest.mark.parametrize("size", [0, 1, 999, 1000, 1001, 5000, 123_457])
def test_a_message_of_any_size_arrives_whole(size: int) -> None:
    """It is cut into pieces that NATS takes, and put together again."""
    data = bytes(number % 251 for number in range(size))
    parts = wire.cut(data, 1000, "me")
    assert all(len(part) <= 1000 for part in parts)
    pieces = Pieces()
    assert [pieces.add(part) for part in parts] == [None] * (len(parts) - 1) + [data]


def test_pieces_of_several_senders_do_not_mix() -> None:
    """Two messages whose pieces alternate both arrive."""
    one, two = b"1" * 2500, b"2" * 2500
    parts = zip(wire.cut(one, 1000, "a"), wire.cut(two, 1000, "b"), strict=True)
    pieces = Pieces()
    assert [pieces.add(part) for pair in parts for part in pair][-2:] == [one, two]


def test_a_message_with_a_lost_piece_never_arrives() -> None:
    """And what comes after it does."""
    first, second = wire.cut(b"1" * 2500, 1000, "a"), wire.cut(b"2" * 2500, 1000, "a")
    pieces = Pieces()
    assert [pieces.add(part) for part in [first[0], *first[2:]]] == [None] * (len(first) - 1)
    assert [pieces.add(part) for part in second][-1] == b"2" * 2500


def test_a_message_that_is_sent_again_is_made_of_the_pieces_of_both_times() -> None:
    """What JetStream has of the first time isn't kept twice; and who lost a piece hears it the second time."""
    data = bytes(range(250)) * 10
    first, again = (wire.cut(data, 1000, "7.1-9", 0) for _ in range(2))
    pieces = Pieces()
    assert [pieces.add(part) for part in [*first[:2], *again[2:]]][-1] == data
    assert [pieces.add(part) for part in [*first[:2], *again]][-1] == data


@pytest.mark.parametrize("data", [b"", b"\x07", b"hello", b"\x01\xff"])
def test_what_is_none_of_ours_is_said_so(data: bytes) -> None:
    """Whoever else speaks on our subjects, or a process of another version."""
    with pytest.raises(WireError):
        Pieces().add(data)
    with pytest.raises(WireError):
        wire.read_frame(data)
