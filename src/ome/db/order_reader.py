"""A process of its own that reads open orders, so that a second processor core does it while the first builds the books.

    python order_reader.py < job > frames

It is started by `order_stream`, as a file and not as a module: that way it imports none of its neighbours, and is there in a
tenth of a second. It reads in one transaction. Where the engine row isn't what the job says, another engine has taken over.

A frame: two unsigned 32-bit integers, little-endian, the count of orders and the bytes that follow; then the orders as one
MessagePack array of records, then as many digests of 8 bytes. The last frame has no orders but a `Verdict`.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import sqlite3
import sys
from collections.abc import Sequence
from struct import Struct as Layout
from typing import Any, BinaryIO, Final, Literal

from msgspec import DecodeError, Struct, json, msgpack

from ome.domain.digests import digest_of_bytes, encode
from ome.domain.records import SpecialTerms

HEADER: Final = Layout("<II")
MAPPED_BYTES: Final = 1 << 40
"""How much of an SQLite file is read as memory, if the library lets it; a read that fails there ends this process alone."""
_ARRAY: Final = Layout(">BI")
"""How MessagePack begins an array of up to 2**32 items: 0xDD, then the count."""
_ARRAY_32: Final = 0xDD

Outcome = Literal["complete", "fenced", "mismatch", "away", "failed"]
"""How a job ends; `away` is a connection that could not be made or was lost."""


class Job(Struct, frozen=True):
    """What to read: `orders` with `ids` as parameters, while `head` with `shard` as parameter gives `expected`; so many rows
    make a frame.
    """

    kind: Literal["sqlite", "postgres"]
    target: str
    head: str
    shard: int
    expected: tuple[int, int, bytes]
    orders: str
    ids: tuple[int, int]
    rows_at_once: int


class Verdict(Struct, frozen=True):
    """How it ended, and why where it isn't complete."""

    outcome: Outcome
    reason: str = ""


def packed(rows: Sequence[Sequence[Any]]) -> tuple[bytes, bytes]:
    """Rows of `stored_orders` as a MessagePack array of records, and their digests. Raises DecodeError for terms that aren't."""
    encoded = [encode(row if row[-1] is None else (*row[:-1], json.decode(row[-1], type=SpecialTerms))) for row in rows]
    return b"".join((_ARRAY.pack(_ARRAY_32, len(encoded)), *encoded)), b"".join(map(digest_of_bytes, encoded))


def write_frame(out: BinaryIO, count: int, *parts: bytes) -> None:
    """A frame with these parts behind its header."""
    out.writelines((HEADER.pack(count, sum(map(len, parts))), *parts))
    out.flush()


def read_sqlite(job: Job, out: BinaryIO) -> Verdict:
    """Read from an SQLite file, whose writer has it open."""
    connection = sqlite3.connect(job.target, isolation_level=None)
    try:
        connection.execute("PRAGMA query_only = ON")
        connection.execute(f"PRAGMA mmap_size = {MAPPED_BYTES}")  # half as long again without: each order is a look-up of its own
        connection.execute("BEGIN")
        if connection.execute(job.head, (job.shard,)).fetchone() != job.expected:
            return Verdict("fenced")
        cursor = connection.execute(job.orders, job.ids)
        while rows := cursor.fetchmany(job.rows_at_once):
            write_frame(out, len(rows), *packed(rows))
    finally:
        connection.close()
    return Verdict("complete")


async def read_postgres(job: Job, out: BinaryIO) -> Verdict:
    """Read from PostgreSQL, in one snapshot."""
    import asyncpg  # noqa: PLC0415  takes a while, and SQLite doesn't need it

    from ome.db.connection import connect  # noqa: PLC0415  likewise

    connection = await connect(job.target)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            row = await connection.fetchrow(job.head, job.shard)
            if row is None or tuple(row) != job.expected:
                return Verdict("fenced")
            cursor = await connection.cursor(job.orders, *job.ids)
            while rows := await cursor.fetch(job.rows_at_once):
                write_frame(out, len(rows), *packed(list(map(tuple, rows))))
    except (asyncpg.PostgresConnectionError, asyncpg.OperatorInterventionError, asyncpg.InternalClientError) as error:
        return Verdict("away", str(error) or type(error).__name__)
    finally:
        connection.terminate()
    return Verdict("complete")


def main() -> int:
    """Do the job on standard input; 0 where the last frame was written, whatever it says."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # at a terminal it goes to both; the engine ends this one
    gc.disable()  # rows refer to nothing that refers back to them
    job, out = msgpack.decode(sys.stdin.buffer.read(), type=Job), sys.stdout.buffer
    try:
        verdict = read_sqlite(job, out) if job.kind == "sqlite" else asyncio.run(read_postgres(job, out))
    except DecodeError as error:
        verdict = Verdict("mismatch", str(error))
    except BrokenPipeError:  # nobody wants it any more
        return 1
    except OSError as error:
        verdict = Verdict("away", str(error) or type(error).__name__)
    except Exception as error:  # noqa: BLE001  whatever it was, the engine is told
        verdict = Verdict("failed", str(error) or type(error).__name__)
    write_frame(out, 0, msgpack.encode(verdict))
    return 0


if __name__ == "__main__":
    sys.exit(main())
