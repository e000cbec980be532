"""Clients and the network between them and the service.

Requests and answers are delayed, and so overtake each other; they get lost; requests come twice; some clients go away while they
wait. Whoever isn't answered, or is told that the outcome isn't known, sends the same again with the same client order ids.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING

from msgspec import structs

from ome.domain.commands import CancelOrder, CancelOrders, DefineInstrument, ModifyOrder, NewOrder
from ome.domain.events import InstrumentChanged
from ome.domain.numbers import canonical, pack
from ome.domain.ports import Operation, Timely, command_of
from properties.flow import SYMBOLS, Flow
from simulation.intents import ClientKey, Look, Outcome, Reply, Request, attempt_at, is_submit, key_of
from simulation.loop import WORLD, machine_context
from simulation.plan import random_of

if TYPE_CHECKING:
    from simulation.world import World

_PATIENCE_S = (0.1, 0.6, 2.0)
_TRIES = 3
"""How often a request is sent before the client turns to other things; once the faults have ended, as often as it takes."""
_PAUSE_S = 0.2
_VALID_FOR_MS = (1, 20, 500)
_AGAIN = 5
"""How many settled requests each client asks for once more in the end."""


class Network:
    """Carries requests to whichever process it thinks is the service, and answers back."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._random = random_of(world.plan.seed, "network")
        self._context = machine_context(WORLD)

    def send(self, request: Request, answered: asyncio.Future[Reply]) -> None:
        """Send a request; `answered` gets the first answer that comes through, if one does."""
        plan, random = self._world.plan, self._random
        copies = 1 if self._world.peace else (random.random() >= plan.loss) + (random.random() < plan.duplication)
        if copies != 1:
            self._world.count("requests duplicated" if copies else "requests lost")
        after = self._world.database.position
        for _ in range(copies):
            self._later(self._deliver, request, after, answered)

    def _deliver(self, request: Request, after: int, answered: asyncio.Future[Reply]) -> None:
        service = self._world.route(self._random)
        if service is None:
            self._world.count("connections refused")
            return
        attempt = attempt_at(request, after)
        self._world.tell("request", service.machine, request.number)

        def reply(answer: Reply) -> None:
            told = [outcome.told() for outcome in answer.outcomes]
            self._world.tell("answer", service.machine, request.number, told, answer.cancelled)
            if not self._world.peace and self._random.random() < self._world.plan.loss:
                self._world.count("answers lost")
                return
            self._later(_hand_over, answered, answer)

        goes_away = not self._world.peace and self._random.random() < self._world.plan.going_away
        gone_in_s = self._random.choice([0.0, self._world.plan.database_s, self._world.plan.database_s * 4])

        def receive() -> None:
            task = service.receive(attempt, reply)
            if goes_away:
                self._world.count("clients gone away")
                self._world.loop.call_later(gone_in_s, task.cancel)

        self._world.loop.call_soon(receive, context=machine_context(service.machine))

    def _later(self, call: object, *arguments: object) -> None:
        delay_s = self._random.expovariate(1 / self._world.plan.network_s)
        self._world.loop.call_later(delay_s, call, *arguments, context=self._context)  # type: ignore[arg-type]


def _hand_over(answered: asyncio.Future[Reply], answer: Reply) -> None:
    if not answered.done():
        answered.set_result(answer)


class Client:
    """Sends the requests of a seeded flow; remembers what it doesn't know yet, and asks until it does."""

    def __init__(self, world: World, number: int, flow: Flow) -> None:
        self._world = world
        self._number = number
        self._flow = flow
        self._random: Random = random_of(world.plan.seed, f"client {number}")
        self._unsettled: list[Request] = []
        self._settled: list[tuple[Request, Reply]] = []
        self._known: dict[ClientKey, int] = {}
        self._used: list[NewOrder] = []
        self._count = 0

    async def work(self) -> None:
        """Make requests until the world has had enough of them."""
        while self._world.take_step():
            await asyncio.sleep(self._random.expovariate(1 / self._world.plan.think_s))
            request = self._next()
            reply = await self._try(request, _TRIES if request.can_be_retried else 1)
            if reply is not None:
                self._take_in(request, reply)
            elif request.can_be_retried:
                self._unsettled.append(request)

    async def settle(self) -> None:
        """Faults are over: every retry-safe request gets a definite answer, and keeps it."""
        for request in self._unsettled:
            self._take_in(request, await self._until_settled(request))
        for request, first in self._random.sample(self._settled, min(_AGAIN, len(self._settled))):
            again = await self._until_settled(request)
            for before, now, operation in zip(first.outcomes, again.outcomes, request.operations, strict=True):
                self._compare(operation, before, now)

    def _compare(self, operation: Operation, before: Outcome, now: Outcome) -> None:
        """A definite answer stays: the same order, whatever has happened since (I1)."""
        if key_of(operation) is None or before.is_conflict or before.answer is None:
            return
        if now.answer is None or now.answer.order_id != before.answer.order_id:
            self._world.fail("doubled", f"{operation} was answered {before.told()}, and then {now.told()}")

    async def _until_settled(self, request: Request) -> Reply:
        while True:
            reply = await self._try(request, 1)
            if reply is not None:
                return reply
            await asyncio.sleep(_PAUSE_S)

    async def _try(self, request: Request, tries: int) -> Reply | None:
        """Send a request until its answer is definite, or so many times."""
        for _ in range(tries):
            answered: asyncio.Future[Reply] = self._world.loop.create_future()
            self._world.network.send(request, answered)
            try:
                reply = await asyncio.wait_for(answered, self._random.choice(_PATIENCE_S))
            except TimeoutError:
                self._world.count("answers waited for in vain")
                continue
            if all(outcome.is_definite for outcome in reply.outcomes):
                return reply
            for outcome in reply.outcomes:
                if outcome.error is not None:
                    self._world.count(f"told {outcome.error}")
            if tries > 1:
                await asyncio.sleep(_PAUSE_S * self._random.random())
        return None

    def _take_in(self, request: Request, reply: Reply) -> None:
        if request.can_be_retried:
            self._settled.append((request, reply))
        for operation, outcome in zip(request.operations, reply.outcomes, strict=False):
            answer = outcome.answer
            order = command_of(operation)
            if isinstance(order, NewOrder) and answer is not None and not outcome.is_conflict and not request.dry_run:
                self._learn(order, answer.order_id)

    def _learn(self, order: NewOrder, order_id: int) -> None:
        """An id that can be modified and cancelled from now on."""
        self._flow.ids.append(order_id)
        self._flow.symbol_of[order_id] = order.symbol
        self._flow.type_of[order_id] = order.type
        key = key_of(order)
        if key is not None:
            self._known[key] = order_id

    # What to ask for

    def _next(self) -> Request:
        number, draw = self._world.next_number(), self._random.random()
        if draw < 0.1:
            return Request(number, look=self._look())
        if draw < 0.2:
            operations = [self._operation() for _ in range(self._random.randrange(2, 6))]
            return Request(number, _distinct(operations), dry_run=self._random.random() < 0.1)
        while True:
            command = self._flow.next(self._world.database.position, self._world.clock_us())
            if isinstance(command, CancelOrders):
                if command.user_id is not None or command.symbol is not None:
                    return Request(number, cancel_all=command)
            elif isinstance(command, DefineInstrument):
                return Request(number, definition=command)
            elif isinstance(command, NewOrder | ModifyOrder | CancelOrder):
                return Request(number, [self._as_client(command)], alone=True, dry_run=self._random.random() < 0.02)

    def _operation(self) -> Operation:
        """One that a batch can hold."""
        while True:
            command = self._flow.next(self._world.database.position, self._world.clock_us())
            if isinstance(command, NewOrder | ModifyOrder | CancelOrder):
                return self._as_client(command)

    def _as_client(self, command: NewOrder | ModifyOrder | CancelOrder) -> Operation:
        """The operation as a client sends it, now and then with a time limit (DUR9)."""
        asked = self._with_client_id(command) if isinstance(command, NewOrder) else command
        if not isinstance(asked, CancelOrder) and self._random.random() < 0.1:
            return Timely(asked, self._random.choice(_VALID_FOR_MS))
        return asked

    def _with_client_id(self, command: NewOrder) -> NewOrder:
        """A submit gets a client order id, mostly; now and then one that was used before, for the same order or for another."""
        guessed = self._flow.ids.pop()  # the flow takes it to be at its position; clients know ids from answers only
        if guessed not in self._flow.ids:
            self._flow.symbol_of.pop(guessed, None)
            self._flow.type_of.pop(guessed, None)
        draw = self._random.random()
        if draw < 0.05 and self._used:
            first = self._random.choice(self._used)
            other = canonical(pack(self._random.randrange(1, 20), 0))
            return first if draw < 0.025 else structs.replace(first, quantity=other)
        if draw < 0.15:
            return structs.replace(command, client_order_id=None)
        self._count += 1
        order = structs.replace(command, client_order_id=f"{self._number}-{self._count}")
        self._used.append(order)
        self._world.latest_keys.append((order.user_id, order.symbol, f"{self._number}-{self._count}"))
        return order

    def _look(self) -> Look:
        """At an order that it knows of, at one that somebody has just sent, or at a symbol alone."""
        keys = list(self._known) if self._random.random() < 0.5 else list(self._world.latest_keys)
        key = self._random.choice(keys) if keys else None
        return Look(self._random.choice(SYMBOLS) if key is None else key[1], key, None if key is None else self._known.get(key))


def _distinct(operations: list[Operation]) -> list[Operation]:
    """Without a change or a cancel that comes twice: which of two equal ones an answer is about could not be told."""
    return [
        operation
        for index, operation in enumerate(operations)
        if is_submit(operation) or command_of(operation) not in map(command_of, operations[:index])
    ]


async def list_symbols(world: World, commands: Sequence[object]) -> None:
    """Have the flow's symbols listed before anybody trades them, however long it takes."""
    for command in commands:
        if not isinstance(command, DefineInstrument):  # the engine's settings are the service's own
            continue
        while True:
            answered: asyncio.Future[Reply] = world.loop.create_future()
            world.network.send(Request(world.next_number(), definition=command), answered)
            try:
                reply = await asyncio.wait_for(answered, _PATIENCE_S[-1])
            except TimeoutError:
                continue
            answer = reply.outcomes[0].answer
            if answer is not None and any(isinstance(event, InstrumentChanged) for event in answer.events):
                break
