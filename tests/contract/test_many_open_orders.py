"""More open orders than recovery reads itself: a second process reads them, and everything is checked all the same."""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from loadtests.recovery import fill
from msgspec import structs

from databases import Database
from factories import a_batch, a_stop, an_instrument, an_order
from ome.db import order_reader, order_stream, statements
from ome.db.storage import Storage, open_storage
from ome.domain.errors import Fenced, StateMismatch, StorageAway, StorageUnusable
from ome.domain.ports import OpenOrders, Recovered
from ome.engine.engine import Engine


@pytest.fixture(autouse=True)
def _few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statements, "FEW", 1)


async def parts_of(storage: Storage) -> list[OpenOrders]:
    """Start, and what the second process has read."""
    await storage.repository.start()
    recovered = await storage.repository.load()
    assert recovered.state.orders == []
    return await asyncio.to_thread(list, recovered.more)


async def parts(database: Database) -> list[OpenOrders]:
    """The same, and stop again."""
    storage = open_storage(database.url)
    try:
        return await parts_of(storage)
    finally:
        await storage.close()


async def recovered_engine(database: Database) -> Engine:
    """The engine that starts on what is there, checked as a start checks it."""
    storage = open_storage(database.url)
    await storage.repository.start()
    recovered: Recovered = await storage.repository.load()
    engine = await asyncio.to_thread(Engine.restore, recovered.state, recovered.more)
    await storage.close()
    engine.check_invariants()
    assert engine.state_hash() == recovered.state_hash
    return engine


async def test_every_order_comes_back_to_its_place(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """DUR6: read by the second process or by the engine itself, the books are the same, queue by queue."""
    monkeypatch.setattr(order_stream, "ROWS_AT_ONCE", 7)
    made = await fill(database.url, 300)
    by_two = await recovered_engine(database)
    monkeypatch.setattr(statements, "FEW", 1_000)
    alone = await recovered_engine(database)
    assert made.state_hash() == by_two.state_hash() == alone.state_hash()
    assert by_two.open_orders == 300
    for one, other in zip(by_two.books(), alone.books(), strict=True):
        assert [order.record() for order in one.orders()] == [order.record() for order in other.orders()]
        assert [order.id for order in one.stops] == [order.id for order in other.stops]
    assert any(len(book.stops) for book in by_two.books())
    assert by_two.next_deadline() == alone.next_deadline()


TAMPERED = [
    ("UPDATE stored_orders SET priority = 2 WHERE id = 1", "Orders 1 and 2 have the same priority"),
    ("UPDATE stored_orders SET priority = 9 WHERE id = 1", "Order 1 has a priority beyond"),
    ("UPDATE stored_orders SET terms = NULL WHERE id = 3", "Order 3 waits for a price, and its terms are missing"),
    (
        'UPDATE stored_orders SET terms = \'{"stop_price": "low"}\' WHERE id = 3',
        "A stored OrderRecord can't be read: Expected `int",
    ),
    ("UPDATE stored_orders SET terms = 'nonsense' WHERE id = 3", "A stored OrderRecord can't be read"),
    ("UPDATE stored_orders SET id = 99 WHERE id = 2", "Order 99 is newer than the engine row"),
    ("UPDATE stored_orders SET side = 9 WHERE id = 2", "A stored OrderRecord can't be read: Invalid enum value 9"),
]


@pytest.mark.parametrize(("tamper", "sentence"), TAMPERED)
async def test_orders_that_contradict_themselves_are_refused(
    storage: Storage, database: Database, tamper: str, sentence: str
) -> None:
    """What was changed behind the engine's back is named, whoever reads it."""
    orders = [an_order(1), an_order(2), a_stop(3)]
    await storage.repository.commit(a_batch(1, 3, orders=orders, instruments=[an_instrument()]))
    await storage.close()
    assert sum(len(part.records) for part in await parts(database)) == 3
    await database.fetch(tamper)
    with pytest.raises(StateMismatch, match=sentence):
        await parts(database)


async def test_an_engine_overtaken_while_it_reads_is_fenced(storage: Storage, database: Database) -> None:
    """HOLE2: orders of another head than the one that was taken are never built on."""
    await storage.repository.commit(a_batch(1, 2, orders=[an_order(1), an_order(2)], instruments=[an_instrument()]))
    recovered = await storage.repository.load()
    await database.fetch("UPDATE engine SET epoch = epoch + 1")
    with pytest.raises(Fenced, match="Another engine has taken over"):
        await asyncio.to_thread(list, recovered.more)


async def test_a_reader_that_fails_is_said_so(
    storage: Storage, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that can't be started, that ends in its middle, or that the database refuses: a sentence, and no start."""
    await storage.repository.commit(a_batch(1, 2, orders=[an_order(1), an_order(2)], instruments=[an_instrument()]))
    await storage.close()
    broken = lambda *fields: structs.replace(order_reader.Job(*fields), orders="SELECT * FROM nowhere")  # noqa: E731
    monkeypatch.setattr(order_stream, "Job", broken)
    with pytest.raises(StorageUnusable, match=r"The open orders can't be read: .*nowhere"):
        await parts(database)
    ends_at_once = tmp_path / "ends_at_once.py"
    ends_at_once.write_text("")
    monkeypatch.setattr(order_reader, "__file__", str(ends_at_once))
    with pytest.raises(StorageUnusable, match="ended in its middle"):
        await parts(database)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no python"))
    with pytest.raises(StorageUnusable, match="No second process could be started"):
        await parts(database)


async def test_a_database_that_has_gone_is_waited_for() -> None:
    """DUR7: nobody listening where the second process connects to is no reason to end."""
    job = order_reader.Job("postgres", "postgresql://ome@127.0.0.1:1/ome", "", 0, (1, 0, b""), "", (0, 1), 1)
    with pytest.raises(StorageAway, match="The database has gone while the open orders were read"):
        await asyncio.to_thread(list, order_stream.read_orders(job))


async def test_giving_up_in_the_middle_ends_the_reader(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left running by a start that was stopped."""
    await storage.repository.commit(a_batch(1, 2, orders=[an_order(1), an_order(2)], instruments=[an_instrument()]))
    started: list[subprocess.Popen[bytes]] = []

    def popen(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen(*arguments, **options))
        return started[0]

    monkeypatch.setattr(order_stream, "Popen", popen)
    monkeypatch.setattr(order_stream, "ROWS_AT_ONCE", 1)
    recovered = await storage.repository.load()
    more = recovered.more
    assert isinstance(more, Generator)
    assert [order.id for order in (await asyncio.to_thread(next, more)).records] == [1]
    await asyncio.to_thread(more.close)
    assert [process.returncode is not None for process in started] == [True]


async def test_what_the_second_process_reads_is_what_is_stored(
    storage: Storage, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its job done in this process gives the same frames; under another head than it was told, none."""
    orders = [an_order(number) for number in range(1, 8)]
    await storage.repository.commit(a_batch(1, 7, orders=orders, instruments=[an_instrument()]))
    await storage.close()
    jobs: list[order_reader.Job] = []

    def keep(*fields: Any) -> order_reader.Job:
        jobs.append(order_reader.Job(*fields))
        return jobs[-1]

    async def read(job: order_reader.Job) -> tuple[order_reader.Verdict, io.BytesIO]:
        out = io.BytesIO()
        is_file = job.kind == "sqlite"
        return order_reader.read_sqlite(job, out) if is_file else await order_reader.read_postgres(job, out), out

    monkeypatch.setattr(order_stream, "Job", keep)
    monkeypatch.setattr(order_stream, "ROWS_AT_ONCE", 3)
    there = await parts(database)
    verdict, out = await read(jobs[0])
    assert verdict == order_reader.Verdict("complete")
    order_reader.write_frame(out, 0, msgspec.msgpack.encode(verdict))
    out.seek(0)
    here = list(order_stream._parts(out))
    assert [(part.records, part.digests) for part in here] == [(part.records, part.digests) for part in there]
    assert [len(part.records) for part in here] == [3, 3, 1]
    verdict, out = await read(structs.replace(jobs[0], expected=(9, 9, b"")))
    assert (verdict, out.getvalue()) == (order_reader.Verdict("fenced"), b"")


def test_the_second_process_starts_light() -> None:
    """Whoever takes over waits for it: it imports nothing of SQLAlchemy, which takes half a second."""
    code = "import ome.db.connection, ome.domain.records, sys; sys.exit('sqlalchemy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
