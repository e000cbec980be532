"""A gateway's way to one engine: requests out, several in a frame; answers back, to whoever waits.

What is certain and what isn't:
- Refused here (NotAccepting), nothing sent: no engine is known, it isn't running, or NATS is away.
- Nobody heard the frame (NATS says so): NotAccepting, certain.
- No answer by the deadline, or another engine has taken over meanwhile: OutcomeUnknown. Whoever asks again with the same client
  order id gets the first answer.

An answer waits until this gateway has taken in what the engine published before it, so that whoever was answered finds it in the
market data too (DUR4); where that doesn't come, as after a loss, no longer than `CATCH_UP_S`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Any, Final

import structlog

from ome.cluster.connection import NatsConnection
from ome.cluster.subjects import Subjects, frame_of
from ome.cluster.wire import Failed, Frame, Queued, Reply, Request, Result, State, encode, error_of, read_reply
from ome.domain.clock import MICROSECONDS, now_us
from ome.domain.errors import NotAccepting, OmeError, OutcomeUnknown

RUNNING: Final = "RUNNING"
AWAY: Final = "AWAY"
"""The state of an engine that has not been heard."""
HEARTBEAT_S: Final = 0.5
"""Seconds between two signs of life of an engine."""
SILENCE_S: Final = 3.0
"""Seconds without one after which an engine is away."""
CATCH_UP_S: Final = 0.5
"""How long an answer waits for the market data from before it."""
_SWEEP_S: Final = 0.1

Told = Callable[[Result | OmeError], None]
"""Is given, once, what came of a request; must not raise."""

log = structlog.get_logger(__name__)


class _Waiting:
    __slots__ = ("deadline", "frame", "queued", "told")

    def __init__(self, told: Told, deadline: float, queued: Callable[[], None] | None) -> None:
        self.told = told
        self.deadline = deadline
        self.queued = queued
        self.frame = 0


class ShardLink:
    """Lives on the event loop. `seen` is the position up to which the engine's market data has been taken in."""

    def __init__(self, shard: int, gateway: str, nats: NatsConnection, subjects: Subjects, wait_s: float) -> None:
        """`wait_s` is how long an answer may take."""
        self.shard = shard
        self.seen = 0
        self.follows = False
        """Whether market data is followed: then answers wait for it."""
        self.last: State | None = None
        self.name = f"{gateway}-{shard}"
        """What the engine knows this link as."""
        self._nats = nats
        self._subjects = subjects
        self._wait_s = wait_s
        self._heard_at = 0.0
        self._ids = count(1)
        self._frames = count(1)
        self._outbox: list[Request] = []
        self._waiting: dict[int, _Waiting] = {}
        self._early: deque[tuple[float, Reply]] = deque()
        self._sweeper: asyncio.TimerHandle | None = None
        self._answered = asyncio.Event()

    # How the engine is

    @property
    def state(self) -> str:
        """The engine's, or AWAY."""
        if self.last is None or asyncio.get_running_loop().time() - self._heard_at > SILENCE_S:
            return AWAY
        return self.last.state

    @property
    def waiting(self) -> int:
        """How many requests have no answer yet."""
        return len(self._waiting)

    def heard(self, state: State) -> None:
        """The engine, or another one of its shard, has told how it is. One of an older epoch was overtaken, and nobody listens,
        unless the other one is silent: then a database of before may have been put back.
        """
        last = self.last
        if last is not None and state.epoch < last.epoch and self.state != AWAY:
            return
        self.last, self._heard_at = state, asyncio.get_running_loop().time()
        if last is not None and state.epoch != last.epoch:
            log.info("engine_taken_over", shard=self.shard, epoch=state.epoch)
            sent = [number for number, waiting in self._waiting.items() if waiting.frame]
            self._fail(sent, OutcomeUnknown("another engine has taken over"))

    # Out

    def post(
        self,
        make: Callable[[int], Request],
        told: Told,
        queued: Callable[[], None] | None = None,
    ) -> None:
        """Send the request that `make` makes with an id. Raises NotAccepting: then `told` and `queued` aren't called."""
        state = self.state
        if not self._nats.is_connected:
            raise NotAccepting("away")
        if self.last is None or state == AWAY:
            raise NotAccepting("away")
        if state not in {RUNNING, "HALTED"}:
            raise NotAccepting(state.lower())
        number = next(self._ids)
        loop = asyncio.get_running_loop()
        self._waiting[number] = _Waiting(told, loop.time() + self._wait_s, queued)
        if not self._outbox:
            loop.call_soon(self._flush)
        self._outbox.append(make(number))
        if self._sweeper is None:
            self._sweeper = loop.call_later(_SWEEP_S, self._sweep)

    async def ask(self, make: Callable[[int], Request], queued: Callable[[], None] | None = None) -> Result:
        """Send a request, and its answer. Raises what the engine says, NotAccepting or OutcomeUnknown."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()

        def told(result: Result | OmeError) -> None:
            if future.done():
                return
            if isinstance(result, OmeError):
                future.set_exception(result)
            else:
                future.set_result(result)

        self.post(make, told, queued)
        return await future

    def _flush(self) -> None:
        requests, self._outbox = self._outbox, []
        if self.last is None:  # an engine was there when the first of them came, and states are never taken back
            return
        number = next(self._frames)
        deadline = now_us() + int(self._wait_s * MICROSECONDS)
        data = encode(Frame(self.name, number, deadline, requests))
        for request in requests:
            waiting = self._waiting.get(request.id)
            if waiting is not None:
                waiting.frame = number
        reply = self._subjects.reply(self.name, number)
        if not self._nats.send(self._subjects.commands(self.shard, self.last.epoch), data, reply):
            self._fail([request.id for request in requests], NotAccepting("away"))

    # Back

    async def open(self) -> None:
        """Hear answers from now on."""
        await self._nats.hear(self._subjects.replies(self.name), self._hear)

    def _hear(self, subject: str, data: bytes) -> None:
        if data:
            self.take(read_reply(data))
        else:
            self.unheard(frame_of(subject))

    def unheard(self, frame: int) -> None:
        """NATS says that nobody heard a frame: nothing of it was executed."""
        self._fail([number for number, waiting in self._waiting.items() if waiting.frame == frame], NotAccepting("away"))

    def take(self, reply: Reply) -> None:
        """Answers have come."""
        if self.follows and (self._early or reply.position > self.seen):
            self._early.append((asyncio.get_running_loop().time() + CATCH_UP_S, reply))
        else:
            self._tell(reply)

    def catch_up(self, position: int) -> None:
        """Market data has been taken in up to here."""
        self.seen = position
        while self._early and self._early[0][1].position <= position:
            self._tell(self._early.popleft()[1])

    def _tell(self, reply: Reply) -> None:
        for number, result in reply.results:
            if isinstance(result, Queued):
                waiting = self._waiting.get(number)
                if waiting is not None and waiting.queued is not None:
                    waiting.queued()
                continue
            waiting = self._waiting.pop(number, None)
            if waiting is not None:
                waiting.told(error_of(result) if isinstance(result, Failed) else result)
        self._answered.set()

    def _fail(self, numbers: list[int], error: OmeError) -> None:
        for number in numbers:
            waiting = self._waiting.pop(number, None)
            if waiting is not None:
                waiting.told(error)
        self._answered.set()

    def _sweep(self) -> None:
        """Answer those who have waited long enough."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        while self._early and self._early[0][0] <= now:
            self._tell(self._early.popleft()[1])
        late: list[int] = []
        for number, waiting in self._waiting.items():  # in the order in which they came, so in that of their deadlines
            if waiting.deadline > now:
                break
            late.append(number)
        self._fail(late, OutcomeUnknown("the engine has not answered"))
        self._sweeper = loop.call_later(_SWEEP_S, self._sweep) if self._waiting or self._early else None

    async def idle(self) -> None:
        """Wait until every request has its answer."""
        while self._waiting:
            self._answered.clear()
            await self._answered.wait()

    def close(self) -> None:
        """Nothing more will come."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        self._fail(list(self._waiting), OutcomeUnknown("the gateway stopped"))


def unexpected(result: Any) -> OmeError:
    """What to raise for an answer that doesn't fit its request."""
    log.error("unexpected_answer", answer=type(result).__name__)
    return OutcomeUnknown("the engine's answer can't be read")
