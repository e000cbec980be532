"""What a shard's engines have told, as JetStream keeps it for a while: what a gateway has missed it reads here.

One stream for each shard, on the very subject that gateways hear: nobody waits for JetStream, and where it is away or has lost
everything only those notice who have missed something. It is no truth: what is durable is the database's. So it is bounded by age
and size, its acknowledgements aren't asked for, and it may be deleted at any time.

Each message has an id, `<history>.<epoch>.<first>.<last>.<piece>`: the beginning of the database's incarnation, the epoch of the
engine, the positions of the batch, and which piece of it this is. By it JetStream keeps a batch once that was sent twice, and
readers find the place from which they lack something: positions only grow along a stream, but for what was sent late.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Final, NamedTuple

from ome.cluster.connection import MESSAGE_ID, NatsConnection
from ome.cluster.subjects import Subjects
from ome.cluster.wire import Pieces, Told, WireError, read_told
from ome.domain.errors import OmeError

if TYPE_CHECKING:
    from nats.js.api import RawStreamMsg

MAX_AGE_S: Final = 900.0
"""What is older isn't kept."""
SAME_WITHIN_S: Final = 30.0
"""How long a message's id is remembered: longer than an engine takes to send again what may have got lost."""
AT_ONCE: Final = 128
"""Messages that a reader asks for at the same time."""
HISTORY_DIGITS: Final = 8
_OTHER_CONFIGURATION: Final = 10058


class LogAway(OmeError):
    """There is no such stream, no JetStream in the server, or no answer in time; the message says which."""


class LogTrimmed(OmeError):
    """The stream doesn't have what is asked for any more, or is of another history."""


class BatchId(NamedTuple):
    """Which batch a message tells of."""

    history: str
    epoch: int
    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.history}.{self.epoch}.{self.first}.{self.last}"


def history_of(incarnation: str) -> str:
    """What an id has of a database's incarnation."""
    return incarnation[:HISTORY_DIGITS]


class EventLog:
    """The stream of one shard."""

    def __init__(self, shard: int, nats: NatsConnection, subjects: Subjects) -> None:
        self._nats = nats
        self._name = subjects.stream(shard)
        self._subject = subjects.told(shard)

    async def make(self, max_bytes: int) -> None:
        """Have the stream exist. One that is there with other terms stays as it is: somebody has chosen them. Raises LogAway."""
        from nats.errors import Error  # noqa: PLC0415  an extra
        from nats.js.api import DiscardPolicy, StorageType  # noqa: PLC0415  likewise
        from nats.js.errors import APIError, ServiceUnavailableError  # noqa: PLC0415  likewise

        try:
            await self._nats.jetstream().add_stream(
                name=self._name,
                subjects=[self._subject],
                storage=StorageType.FILE,
                max_bytes=max_bytes,
                max_age=MAX_AGE_S,
                discard=DiscardPolicy.OLD,
                duplicate_window=SAME_WITHIN_S,
                allow_direct=True,
            )
        except ServiceUnavailableError:
            raise LogAway("this NATS server has no JetStream: start it with --jetstream") from None
        except APIError as error:
            if error.err_code != _OTHER_CONFIGURATION:
                raise LogAway(f"JetStream refuses the stream {self._name}: {error.description}") from None
        except (Error, TimeoutError) as error:
            raise LogAway(f"JetStream doesn't answer: {error or type(error).__name__}") from None

    async def purge(self) -> None:
        """Empty the stream. Raises LogAway."""
        from nats.errors import Error  # noqa: PLC0415  as above

        try:
            await self._nats.jetstream().purge_stream(self._name)
        except (Error, TimeoutError) as error:
            raise LogAway(f"the stream {self._name} can't be emptied: {error}") from None

    async def last(self) -> BatchId | None:
        """The newest batch; None where there is none. Raises LogAway."""
        found = await self._message(None)
        return None if found is None else _id_of(found)

    async def after(self, position: int, history: str) -> AsyncGenerator[Told, None]:
        """All batches that end behind a position of a history, as they were kept: some twice, and some behind later ones. Raises
        LogTrimmed where the first one of them has gone, and LogAway.
        """
        newest = await self._message(None)
        if newest is None:
            return
        end = newest.seq or 0
        start = await self._find(position, end)
        pieces = Pieces()
        for low in range(start, end + 1, AT_ONCE):
            sequences = range(low, min(low + AT_ONCE, end + 1))
            for message in await asyncio.gather(*(self._message(sequence) for sequence in sequences)):
                if message is None:
                    raise LogTrimmed(self._name)
                if _id_of(message).history != history:
                    raise LogTrimmed(f"{self._name} is of another history")
                data = pieces.add(message.data or b"")
                if data is not None:
                    yield read_told(data)

    async def _find(self, position: int, end: int) -> int:
        """The sequence of the first message of a batch that ends behind a position; one more than `end` where there is none."""
        low, high, first = 1, end + 1, 0
        is_trimmed = True
        while low < high:
            middle = (low + high) // 2
            found = await self._message(middle)
            batch = None if found is None else _id_of(found)
            if batch is None or batch.last <= position:
                low, is_trimmed = middle + 1, batch is None
            else:
                high, first = middle, batch.first
        if is_trimmed and first > position + 1:
            raise LogTrimmed(self._name)
        return low

    async def _message(self, sequence: int | None) -> RawStreamMsg | None:
        """A message, or the newest one; None where it isn't there."""
        from nats.errors import Error, NoRespondersError  # noqa: PLC0415  as above
        from nats.js.errors import NotFoundError  # noqa: PLC0415  likewise

        jetstream = self._nats.jetstream()
        try:
            if sequence is None:
                return await jetstream.get_last_msg(self._name, self._subject, direct=True)
            return await jetstream.get_msg(self._name, sequence, direct=True)
        except NotFoundError:
            return None
        except NoRespondersError:
            raise LogAway(f"there is no stream {self._name}") from None
        except (Error, TimeoutError) as error:
            raise LogAway(f"JetStream doesn't answer: {error or type(error).__name__}") from None


def _id_of(message: RawStreamMsg) -> BatchId:
    """Raises WireError for a message that no engine has sent."""
    parts = (message.headers or {}).get(MESSAGE_ID, "").split(".")
    try:
        history, epoch, first, last, _piece = parts
        return BatchId(history, int(epoch), int(first), int(last))
    except ValueError:
        raise WireError("A message in JetStream can't be read. Are all processes of one version?") from None
