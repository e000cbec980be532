"""What is held against each other: what clients were told, what was published, and what the database says.

Some of it is looked at as it happens (`answered`, `published`, `found`: nothing may be told before it is durable), the rest in
the end: the journal is replayed in a fresh engine beside the naive twin and the ledger of invariants (INV1 to INV13), and all
that anybody was told must be what the replay says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec import structs
from sqlalchemy import select

from ome.db import statements
from ome.db.statements import SQLITE
from ome.domain.batch import Batch
from ome.domain.commands import AdvanceTime, Command, Configure, NewOrder, Stamped, decode_commands
from ome.domain.events import UNSTORED_EVENTS, CommandEvents, Event, OrderCancelled
from ome.domain.ids import SHARD_STEP
from ome.domain.ports import Depth, command_of
from ome.engine.engine import Engine
from ome.engine.pending_batch import PendingBatch, Waiting
from properties.ledger import Ledger
from reference.compare import assert_same_state, differences, outcome_of
from reference.twin import Twin
from simulation.database import Landed
from simulation.intents import NOT_EXECUTED, Attempt, Look, Outcome, Reply, key_of
from simulation.service import Recovery, queue_of

if TYPE_CHECKING:
    from simulation.world import World


class Told(NamedTuple):
    """An acknowledgement: the position that it was for, the events it showed, and whether it was an earlier command's (I1)."""

    position: int
    events: Sequence[Event]
    replayed: bool
    attempt: Attempt
    operation: int


class Audit:
    """Takes down what happens in one run, and judges it."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._applied: dict[tuple[int, int], tuple[Attempt, int]] = {}
        self._position_of: dict[tuple[Attempt, int], int] = {}
        self._chunks: dict[Attempt, list[int]] = {}
        self._told: list[Told] = []
        self._not_executed: list[tuple[Attempt, int]] = []
        self._mass_cancels: list[tuple[Attempt, list[int]]] = []
        self._depths: dict[tuple[str, int], list[Depth]] = {}

    @property
    def acknowledged(self) -> int:
        """How many commands clients were told of."""
        return len(self._told) + len(self._mass_cancels)

    # As it happens

    def applied(self, epoch: int, position: int, attempt: Attempt, index: int) -> None:
        """An engine has applied a command of an attempt; whether it becomes durable is open."""
        self._applied[epoch, position] = (attempt, index)
        self._position_of[attempt, index] = position
        if index < 0:
            self._chunks.setdefault(attempt, []).append(position)

    def published(self, position: int) -> None:
        """Something up to a position was published."""
        if position > self._world.database.position:
            self._world.fail("published early", f"position {position} when {self._world.database.position} was durable")

    def found(self, look: Look, order_ids: list[int], taken: list[tuple[Attempt, int]]) -> None:
        """A reader asked what became of a client order id: what was acknowledged is found (DUR4), and what isn't found of those
        that had been taken when it asked will never be there (HOLE4).
        """
        if not order_ids:
            self._not_executed += taken
        if look.order_id is not None and order_ids != [look.order_id]:
            self._world.fail("lost", f"order {look.order_id} was acknowledged; a reader who asks for it finds {order_ids}")

    def answered(self, epoch: int, attempt: Attempt, reply: Reply) -> None:
        """A process has an answer: what it acknowledges must be durable now, and come after what was when it was asked."""
        if reply.depth is not None:
            self._depths.setdefault((reply.depth.symbol, reply.depth.sequence), []).append(reply.depth)
        if reply.cancelled is not None:
            for position in self._chunks.get(attempt, ()):
                self._must_be_durable(epoch, position, attempt)
            self._mass_cancels.append((attempt, reply.cancelled))
        if attempt.request.dry_run:
            return
        for index, outcome in enumerate(reply.outcomes):
            self._answered(epoch, attempt, index, outcome)

    def _answered(self, epoch: int, attempt: Attempt, index: int, outcome: Outcome) -> None:
        answer = outcome.answer
        if outcome.error == NOT_EXECUTED or outcome.is_conflict:
            self._not_executed.append((attempt, index))
        elif answer is not None and answer.replayed:
            position = answer.order_id % SHARD_STEP
            if position > self._world.database.position:
                self._world.fail("answered early", f"order {answer.order_id} was answered again before it was durable")
            self._told.append(Told(position, answer.events, True, attempt, index))
        elif answer is not None:
            found = self._position_of.get((attempt, index))
            if found is None:
                self._world.fail("lost", f"{attempt.request} was acknowledged, and no engine has applied it")
                return
            self._must_be_durable(epoch, found, attempt)
            self._told.append(Told(found, answer.events, False, attempt, index))

    def _must_be_durable(self, epoch: int, position: int, attempt: Attempt) -> None:
        if self._world.database.epoch_at.get(position) != epoch:
            self._world.fail("answered early", f"position {position} of epoch {epoch} is not durable, and was acknowledged")
        if position <= attempt.after:
            self._world.fail("moved", f"position {position} was given to what was sent when {attempt.after} was durable")

    # In the end

    def check(self) -> None:
        """Judge the whole run; the first thing that is wrong goes to `World.fail`."""
        verdict = Verdict(self._world, self._applied, self._depths)
        try:
            verdict.replay(self._world.database.history)
        except Exception as error:  # noqa: BLE001  twin, ledger and engine raise whatever they find
            self._world.fail("wrong", f"{type(error).__name__}: {error}")
            return
        verdict.check_tables()
        for attempt, index in self._not_executed:
            if (attempt, index) in verdict.executed:
                self._world.fail("lied", f"operation {index} of {attempt.request} was said not to be executed; it was")
        for told in self._told:
            verdict.check_told(told)
        for attempt, cancelled in self._mass_cancels:
            verdict.check_mass_cancel(cancelled, self._chunks.get(attempt, []))
        for service in self._world.services:
            if service.recovery is not None:
                verdict.check_published(service.recovery.position, service.published, service.commands)


class Verdict:
    """The journal, replayed: `expected` has the events of each position."""

    def __init__(
        self, world: World, applied: dict[tuple[int, int], tuple[Attempt, int]], depths: dict[tuple[str, int], list[Depth]]
    ) -> None:
        self._world = world
        self._applied = applied
        self._depths = depths
        self._recoveries: dict[int, list[Recovery]] = {}
        for service in world.services:
            if service.recovery is not None:
                self._recoveries.setdefault(service.recovery.position, []).append(service.recovery)
        self.engine, self.twin, self.ledger = Engine(), Twin(), Ledger()
        self.expected: list[list[Event]] = [[]]
        self.commands: list[Command | None] = [None]
        self.executed: Counter[tuple[Attempt, int]] = Counter()
        self._keys: set[tuple[str, str, str]] = set()

    def replay(self, history: Sequence[Landed]) -> None:
        """Every batch that became durable follows the one before it, and is what a fresh engine makes of its commands."""
        self._check_recoveries()
        after = None
        for landed in history:
            change = landed.change
            if after is not None and (change.before.position, change.before.chain_hash) != (after.position, after.chain_hash):
                self._world.fail("doubled", f"{change.before} was committed after {after}")
                return
            if after is not None and change.before.epoch < after.epoch:
                self._world.fail("fence", f"epoch {change.before.epoch} committed after epoch {after.epoch}")
            after = change.after
            pending = PendingBatch()
            for stamped in decode_commands(change.batch.commands):
                pending.add(stamped, self._apply(change.after.epoch, stamped), Waiting(stamped.command))
            replayed, stored = _sorted(pending.seal(self.engine)), _sorted(change.batch)
            if replayed != stored:
                self._world.fail("wrong", f"positions up to {after.position} replayed differ in {_parted(replayed, stored)}")
            self._check_recoveries()
        self.engine.check_invariants()
        assert_same_state(self.twin, self.engine.state())
        self.ledger.assert_levels_are_orders()
        for symbol, sequence in self._depths:
            self._world.fail("published early", f"a depth of {symbol} at {sequence}, which no committed command ended with")

    def _apply(self, epoch: int, stamped: Stamped) -> list[Event]:
        self._check_origin(epoch, stamped)
        events = self.engine.apply(stamped)
        parted = differences(self.twin.apply(stamped), outcome_of(events))
        if parted:
            self._world.fail("wrong", "\n".join([f"{stamped}:", *parted]))
        self.ledger.take(events, stamped.time)
        self.expected.append(events)
        self.commands.append(stamped.command)
        self._check_depths()
        return events

    def _check_origin(self, epoch: int, stamped: Stamped) -> None:
        """Every command was sent by somebody, and is executed once, as it was sent."""
        command = stamped.command
        attempt, index = self._applied.get((epoch, stamped.position), (None, -1))
        if attempt is None:
            if not isinstance(command, AdvanceTime | Configure):
                self._world.fail("phantom", f"nobody has sent {command}")
            return
        if index >= 0:
            self.executed[attempt, index] += 1
            if self.executed[attempt, index] > 1:
                self._world.fail("doubled", f"{command} was executed twice")
        if isinstance(command, NewOrder):
            if command_of(attempt.operations[index]) != command:
                self._world.fail("lost", f"{attempt.operations[index]} was sent, {command} was executed")
            key = key_of(command)
            if key in self._keys:
                self._world.fail("doubled", f"client order id {key} was executed twice")
            if key is not None:
                self._keys.add(key)

    def _check_depths(self) -> None:
        """What was seen of a book at a sequence is what it was after the command that ended there."""
        if not self._depths:
            return
        for book in self.engine.books():
            for seen in self._depths.pop((book.instrument.symbol, book.sequence), ()):
                now = book.depth(0)
                if (seen.bids, seen.asks) != (now.bids, now.asks):
                    self._world.fail("published early", f"{seen} was shown, and {now} is what was committed")

    def _check_recoveries(self) -> None:
        """Whoever started from here had every queue in its order (DUR6)."""
        for recovery in self._recoveries.get(self.engine.position, ()):
            queues = {book.instrument.symbol: queue_of(book) for book in self.engine.books()}
            if recovery.queues != queues:
                self._world.fail("moved", f"recovered at {recovery.position} as {recovery.queues}, which were {queues}")
            if recovery.state_hash != self.engine.state_hash():
                self._world.fail("moved", f"recovered at {recovery.position} with another state hash")

    def check_tables(self) -> None:
        """The database's tables hold exactly the rows that the batches brought."""
        database = self._world.database
        for index, (table, replaced) in enumerate(statements._WRITES):
            names = [column.name for column in table.columns]
            keys = [names.index(column.name) for column in table.primary_key]
            changed = [names.index(name) for name in replaced]
            rows: dict[tuple[Any, ...], list[Any]] = {}
            for landed in database.history:
                for row in statements.rows_of(landed.change)[index]:
                    kept = rows.setdefault(tuple(row[key] for key in keys), list(row))
                    for column in changed:
                        kept[column] = row[column]
            sql = str(select(*table.columns).compile(dialect=SQLITE))
            stored = {tuple(row[key] for key in keys): list(row) for row in database.connection.execute(sql)}
            if stored != rows:
                wrong = [key for key in stored.keys() | rows.keys() if stored.get(key) != rows.get(key)]
                first = min(wrong, key=repr)
                self._world.fail("lost", f"{table.name}: {stored.get(first)} is stored, {rows.get(first)} was committed")

    def check_told(self, told: Told) -> None:
        """An acknowledgement shows exactly what its command led to; a replayed one what its client order id's first did."""
        if told.position >= len(self.expected):
            self._world.fail("lost", f"{told.attempt.request} was acknowledged at {told.position}; it isn't there")
            return
        happened = self.expected[told.position]
        if not told.replayed:
            if told.events != happened:
                self._world.fail("lost", f"position {told.position} was acknowledged as {told.events}, and was {happened}")
            return
        if _private(told.events) != _private(happened):
            self._world.fail("lost", f"position {told.position} was answered again as {told.events}, and was {happened}")
        operation, command = command_of(told.attempt.operations[told.operation]), self.commands[told.position]
        if operation != command:
            self._world.fail("lied", f"{operation} was answered with what became of {command}")

    def check_mass_cancel(self, cancelled: list[int], positions: list[int]) -> None:
        """A mass cancel names what it has cancelled (I2)."""
        events = [event for position in positions for event in self.expected[position]]
        if cancelled != [event.order.id for event in events if isinstance(event, OrderCancelled)]:
            self._world.fail("lied", f"a mass cancel at {positions} names {cancelled}")

    def check_published(self, start: int, published: list[Event], commands: list[CommandEvents]) -> None:
        """INV9: what a process published is a prefix of what was committed after the position that it started from."""
        committed = [event for events in self.expected[start + 1 :] for event in events]
        if published != committed[: len(published)]:
            self._world.fail("published early", f"what was published from {start} on is no prefix of what was committed")
        private = [(position, _private(events)) for position, events in enumerate(self.expected) if position > start]
        owed = [(position, events) for position, events in private if events]
        if [(command.position, command.events) for command in commands] != owed[: len(commands)]:
            self._world.fail("published early", f"the private events told from {start} on are no prefix of what was committed")


def _sorted(batch: Batch) -> Batch:
    """A batch whose rows come in the order of their keys: the order in which they are written means nothing."""
    return structs.replace(
        batch,
        orders=sorted(batch.orders, key=lambda order: order.id),
        instruments=sorted(batch.instruments, key=lambda record: record.symbol),
        touched_order_ids=sorted(batch.touched_order_ids),
    )


def _parted(replayed: Batch, stored: Batch) -> str:
    """The fields in which two batches differ."""
    pairs = ((name, getattr(replayed, name), getattr(stored, name)) for name in replayed.__struct_fields__)
    return "; ".join(f"{name}: {one} replayed, {other} stored" for name, one, other in pairs if one != other)


def _private(events: Sequence[Event]) -> list[Event]:
    return [event for event in events if not isinstance(event, UNSTORED_EVENTS)]
