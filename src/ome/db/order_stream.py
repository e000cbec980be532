"""Open orders read by a second process, `order_reader`, and taken in here while it reads on."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterator
from contextlib import closing, suppress
from subprocess import PIPE, Popen
from typing import IO, Final, Literal

from msgspec import DecodeError, msgpack

from ome.db import order_reader, statements
from ome.db.order_reader import HEADER, Job, Verdict
from ome.db.recovery import shard_ids
from ome.db.statements import POSTGRESQL, SQLITE, Head
from ome.domain.errors import Fenced, StateMismatch, StorageAway, StorageUnusable
from ome.domain.ports import OpenOrders
from ome.domain.records import OrderRecord

ROWS_AT_ONCE: Final = 4_000
"""Orders in a part: enough to spread what a part costs, few enough that both processes always have something to do."""

_decoder: Final = msgpack.Decoder(list[OrderRecord])


def open_orders(kind: Literal["sqlite", "postgres"], target: str, shard: int, expected: Head) -> Iterator[OpenOrders]:
    """All of a shard, which is at the head `expected`, in the database that drivers know as `target`; see `read_orders`."""
    dialect = SQLITE if kind == "sqlite" else POSTGRESQL
    head = (expected.epoch, expected.position, expected.chain_hash)
    sql = statements.loads(dialect).open_orders_by_level
    return read_orders(
        Job(kind, target, statements.head(dialect, locked=False), shard, head, sql, shard_ids(shard), ROWS_AT_ONCE)
    )


def read_orders(job: Job) -> Iterator[OpenOrders]:
    """The orders of a job, part by part, each of which blocks until it is there.

    Raises Fenced where another engine has taken over, StateMismatch for what can't be read as an order, StorageAway where the
    connection can't be made or is lost, StorageUnusable where the database or the process fails otherwise. The process ends with
    the iteration, however that ends.
    """
    try:
        process = Popen(  # noqa: S603  this very Python, and a file of ours
            [sys.executable, "-P", order_reader.__file__], stdin=PIPE, stdout=PIPE
        )
    except OSError as error:
        raise StorageUnusable(f"No second process could be started to read the open orders: {error}.") from error
    assert process.stdin is not None  # noqa: S101  as asked for
    assert process.stdout is not None  # noqa: S101
    try:
        with suppress(BrokenPipeError), process.stdin as job_in:  # one that ended at once has no frames either
            job_in.write(msgpack.encode(job))
        with closing(process.stdout) as frames:
            yield from _parts(frames)
    finally:
        process.kill()
        process.wait()


def _parts(frames: IO[bytes]) -> Iterator[OpenOrders]:
    while True:
        count, size = HEADER.unpack(_exactly(frames, HEADER.size))
        body = memoryview(_exactly(frames, size))
        if not count:
            _raise_unless_complete(msgpack.decode(body, type=Verdict))
            return
        yield _part(count, body)


def _part(count: int, body: memoryview) -> OpenOrders:
    digests = array("Q")
    split = len(body) - count * digests.itemsize
    digests.frombytes(body[split:])
    if sys.byteorder == "little":
        digests.byteswap()
    try:
        return OpenOrders(_decoder.decode(body[:split]), digests)
    except DecodeError as error:
        raise StateMismatch(f"A stored {OrderRecord.__name__} can't be read: {error}. Restore a backup.") from error


def _exactly(frames: IO[bytes], size: int) -> bytes:
    data = frames.read(size)
    if len(data) < size:
        raise StorageUnusable("The process that reads the open orders ended in its middle.")
    return data


def _raise_unless_complete(verdict: Verdict) -> None:
    match verdict.outcome:
        case "fenced":
            raise Fenced("Another engine has taken over while this one was reading the open orders.")
        case "mismatch":
            raise StateMismatch(f"A stored {OrderRecord.__name__} can't be read: {verdict.reason}. Restore a backup.")
        case "away":
            raise StorageAway(f"The database has gone while the open orders were read: {verdict.reason}.")
        case "failed":
            raise StorageUnusable(f"The open orders can't be read: {verdict.reason}.")
        case "complete":
            pass
