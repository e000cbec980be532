"""The same commands give the same events and the same state hash: in any batches, any process, across restarts (M6)."""

from __future__ import annotations

import os
import subprocess
import sys
from operator import attrgetter
from pathlib import Path
from random import Random

import pytest

from ome.domain.commands import Stamped, decode_commands, encode_commands
from ome.domain.events import (
    UNSTORED_EVENTS,
    CommandEvents,
    CommandRefused,
    OrderAccepted,
    SelfTradePrevented,
    Traded,
    decode_events,
    decode_events_naming,
    encode_events,
    events_of,
)
from ome.engine.engine import Engine
from properties import replay_journal
from properties.flow import SECOND, Flow
from properties.pair import START
from properties.replay_journal import replay


def journal_of(seed: int, commands: int = 3000) -> list[Stamped]:
    """A flow's commands, stamped."""
    random = Random(seed)
    flow = Flow(random)
    time, journal = START, [Stamped(n, START, command) for n, command in enumerate(flow.listing(), 1)]
    while len(journal) < commands:
        time += random.choice([0, 1, 1000, SECOND // 2, 2 * SECOND])
        position = len(journal) + 1
        journal.append(Stamped(position, time, flow.next(position, time)))
    return journal


JOURNAL = journal_of(6)
by_id = attrgetter("id")


@pytest.mark.parametrize("batch", [7, 1000])
def test_batches_do_not_show(batch: int) -> None:
    """M6: batches of 1, 7 and 1000 commands tell the same and leave the same state hash."""
    assert replay(JOURNAL, batch) == replay(JOURNAL, 1)


@pytest.mark.parametrize(("hash_seed", "batch"), [("0", 1), ("4711", 7)])
def test_another_process_comes_to_the_same(hash_seed: str, batch: int) -> None:
    """M6, INV11: the journal's bytes, replayed in another process with another PYTHONHASHSEED, give byte-equal events."""
    paths = os.pathsep.join(path for path in sys.path if path)
    environment = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": paths}
    program = [sys.executable, str(Path(replay_journal.__file__)), str(batch)]
    answer = subprocess.run(program, input=encode_commands(JOURNAL), env=environment, capture_output=True, check=True, timeout=60)
    digest, state_hash = replay(JOURNAL, 1000)
    assert answer.stdout.decode() == f"{digest} {state_hash:016x}\n"


def test_the_journal_reads_back_as_it_was_written() -> None:
    """Commands survive their bytes exactly, enums and options included."""
    assert decode_commands(encode_commands(JOURNAL)) == JOURNAL


@pytest.fixture(name="stored", scope="module")
def _stored() -> list[CommandEvents]:
    """The events of every command of the journal, as a batch stores them."""
    engine, stored = Engine(), []
    for stamped in JOURNAL:
        events = [event for event in engine.apply(stamped) if not isinstance(event, UNSTORED_EVENTS)]
        stored.append(CommandEvents(stamped.position, stamped.time, events))
    return stored


def test_stored_events_read_back_as_they_were_written(stored: list[CommandEvents]) -> None:
    """Events survive their bytes exactly."""
    assert decode_events(encode_events(stored)) == stored


def concerns(command: CommandEvents, order_id: int) -> bool:
    """Whether an order's own events, or a trade of it, are among a command's."""
    trades = [event.trade for event in command.events if isinstance(event, Traded)]
    own = [event.order.id for event in command.events if not isinstance(event, Traded | SelfTradePrevented | CommandRefused)]
    return order_id in own or any(order_id in {trade.buy_order_id, trade.sell_order_id} for trade in trades)


def test_no_event_of_a_user_or_an_order_is_passed_over(stored: list[CommandEvents]) -> None:
    """Whose commands alone are read out of a batch has all the events that the whole batch has of them, and few others."""
    data = encode_events(stored)
    orders = [event.order for command in stored for event in command.events if isinstance(event, OrderAccepted)][::50]
    assert len(orders) > 3
    for order in orders:
        theirs = decode_events_naming(order.user_id, data)
        assert [events_of(order.user_id, each) for each in theirs] == [
            found for each in stored if (found := events_of(order.user_id, each))
        ]
        named = decode_events_naming(order.id, data)
        assert [each for each in named if concerns(each, order.id)] == [each for each in stored if concerns(each, order.id)]
        assert len(named) < len(stored)
    assert decode_events_naming("nobody", data) == []


@pytest.mark.parametrize("every", [1, 13, 500])
def test_restarts_do_not_show(every: int) -> None:
    """M6, DUR6: an engine restored from its state at any moment goes on exactly as the one that never stopped."""
    steady, restarted = Engine(), Engine()
    for stamped in JOURNAL[:1000]:
        assert restarted.apply(stamped) == steady.apply(stamped)
        if stamped.position % every == 0:
            before = restarted.state_hash()
            restarted = Engine.restore(restarted.state())
            assert restarted.state_hash() == before
    assert restarted.state_hash() == steady.state_hash()
    assert sorted(restarted.state().orders, key=by_id) == sorted(steady.state().orders, key=by_id)


def test_the_state_hash_covers_every_command() -> None:
    """Every command moves the state hash, were it only by its position: no two prefixes of a journal look alike."""
    engine, seen = Engine(), set()
    for stamped in JOURNAL[:500]:
        engine.apply(stamped)
        seen.add(engine.state_hash())
    assert len(seen) == 500
