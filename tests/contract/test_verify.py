"""`verify` finds whatever was changed behind the engine's back, and says where; what is sound it calls sound."""

# ruff: noqa: S608  the SQL is of the schema's own words

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import pytest
from sqlalchemy import LargeBinary, SmallInteger, Table, Text

from contract.conftest import Templates
from databases import Database
from histories import write_history
from ome.db import schema
from ome.db.history import ORDERED_BY
from ome.domain.errors import StorageUnusable
from ome.verification import Difference, Report, verify

COMMANDS = 160

UNKNOWABLE = {("engine", "epoch"), ("engine", "incarnation"), ("journal", "epoch")}
"""The columns of which only the form and the order are known: nothing else in a database says what they should be."""


def edits_of(table: Table) -> Iterator[tuple[str, str]]:
    """(column, SQL expression of a wrong value) for each column: a changed value, and NULL or a value where that is allowed."""
    for column in table.columns:
        name = column.name
        if (table.name, name) in UNKNOWABLE:
            continue
        if isinstance(column.type, Text):
            yield name, f"coalesce({name}, '') || 'x'"
        elif isinstance(column.type, LargeBinary):
            yield name, BLOBS
        else:
            of_key = 10**4 if isinstance(column.type, SmallInteger) else 10**7  # another key that nobody has
            yield name, f"coalesce({name}, 0) + {of_key if column.primary_key and name != 'shard' else 1}"
        if column.nullable:
            yield name, "NULL"


BLOBS = "one byte more"


async def a_history(url: str) -> None:
    """Of a few commands, with rows in every table."""
    await write_history(url, COMMANDS, funded=True, moved=True)


async def checked(url: str) -> Report:
    """The report, from a thread of its own: a test has an event loop."""
    return await asyncio.to_thread(verify, url)


async def first_of(url: str) -> Difference:
    """The first difference there is."""
    found = (await checked(url)).first
    assert found is not None
    return found


async def test_a_history_of_every_kind_of_command_is_what_its_journal_makes(database: Database) -> None:
    """Nothing is reported of an untouched database; the counts and hashes are those of the engine that wrote it."""
    engine = await write_history(database.url, 2000, seed=3, funded=True)
    report = await checked(database.url)
    assert report.problems() == []
    assert report.ok
    assert report.is_complete
    assert (report.positions, report.trades, report.open_orders) == (2000, engine.trade_count, len(engine.state().orders))
    assert report.orders == await database.scalar("SELECT count(*) FROM stored_orders")
    assert [(shard.position, shard.state_hash) for shard in report.shards] == [(2000, f"{engine.state_hash():016x}")]
    assert report.trades > 0
    assert report.open_orders > 0


async def test_a_database_without_history_is_sound(database: Database) -> None:
    """An engine has started on it, nothing more."""
    await write_history(database.url, 0)
    report = await checked(database.url)
    assert report.problems() == []
    assert [(shard.position, shard.epoch) for shard in report.shards] == [(0, 2)]


@pytest.mark.parametrize("table", ORDERED_BY, ids=lambda table: table.name)
async def test_an_edited_cell_is_found_in_every_column(database: Database, templates: Templates, table: Table) -> None:
    """Whichever cell of whichever table is changed, the report names the table and, but for what a row is found by and
    for blobs, the column.
    """
    await templates.fill(database, "history", a_history)
    keys = [column.name for column in table.primary_key]
    places = ", ".join(keys)
    rows = await database.fetch(f"SELECT {places} FROM {table.name} ORDER BY {places}")
    random = Random(table.name)
    for column, wrong in edits_of(table):
        row = random.choice(rows)
        where = " AND ".join(f"{key} = {literal(value)}" for key, value in zip(keys, row, strict=True))
        ((before,),) = await database.fetch(f"SELECT {column} FROM {table.name} WHERE {where}")
        if before is None and wrong == "NULL":
            continue
        after = blob(database, before, random) if wrong == BLOBS else wrong
        moved = where.replace(f"{column} = {literal(before)}", f"{column} = ({after.replace(column, literal(before))})")
        await database.fetch(f"UPDATE {table.name} SET {column} = {after} WHERE {where}")
        report = await checked(database.url)
        said = f"{table.name}.{column} of {where} became {after}: {report.problems()[:3]}"
        assert not report.ok, said
        assert any(table.name in {found.table, *found.text.split()} for found in report.differences), said
        if column not in {*keys, "shard"} and table not in {schema.journal, schema.event_batches} and wrong != BLOBS:
            assert any(found.column == column for found in report.differences), said
        await database.fetch(f"UPDATE {table.name} SET {column} = {literal(before, database.kind)} WHERE {moved}")
    assert (await checked(database.url)).problems() == []


async def test_settings_that_are_none_any_more_are_found(database: Database, templates: Templates) -> None:
    """The engine row's settings, cut short or written over: a difference like any other, and no crash."""
    await templates.fill(database, "history", a_history)
    for broken in (b"", b"\x9f", b"no settings"):
        await database.fetch(f"UPDATE {schema.engine.name} SET settings = {literal(broken, database.kind)}")
        found = await first_of(database.url)
        assert (found.table, found.column) == (schema.engine.name, "settings")


def literal(value: object, kind: str = "sqlite") -> str:
    """A value as SQL has it."""
    match value:
        case None:
            return "NULL"
        case bytes():
            return f"'\\x{value.hex()}'" if kind == "postgresql" else f"X'{value.hex()}'"
        case str():
            return "'" + value.replace("'", "''") + "'"
        case _:
            return str(value)


def blob(database: Database, value: bytes, random: Random) -> str:
    """The bytes with one of them changed."""
    place = random.randrange(len(value))
    return literal(value[:place] + bytes([value[place] ^ 1 << random.randrange(8)]) + value[place + 1 :], database.kind)


@pytest.mark.parametrize("table", [table for table in ORDERED_BY if table is not schema.engine], ids=lambda table: table.name)
async def test_a_lost_row_is_found(database: Database, templates: Templates, table: Table) -> None:
    """A row that has gone is missed, in the middle, at the start and at the end."""
    await templates.fill(database, "history", a_history)
    keys = [column.name for column in table.primary_key]
    rows = await database.fetch(f"SELECT * FROM {table.name} ORDER BY {', '.join(keys)}")
    names = list(table.columns.keys())
    for row in (rows[0], rows[len(rows) // 2], rows[-1]):
        values = dict(zip(names, row, strict=True))
        where = " AND ".join(f"{key} = {literal(values[key])}" for key in keys)
        await database.fetch(f"DELETE FROM {table.name} WHERE {where}")
        report = await checked(database.url)
        assert not report.ok, where
        cells = ", ".join(literal(value, database.kind) for value in row)
        await database.fetch(f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({cells})")
    assert (await checked(database.url)).problems() == []


@pytest.mark.parametrize("seed", range(60))
def test_a_flipped_bit_in_the_file_is_found_or_harmless(history_file: Path, tmp_path: Path, seed: int) -> None:
    """One bit of the SQLite file, anywhere: either it is reported, or everything that can be read is as it was, by table and by
    index, and the file can be written to.
    """
    random, content = Random(seed), bytearray(history_file.read_bytes())
    places = range(100) if seed % 4 == 0 else range(len(content))  # the header, every fourth time
    place = random.choice(places)
    content[place] ^= 1 << random.randrange(8)
    flipped = tmp_path / "flipped.db"
    flipped.write_bytes(content)
    try:
        report = verify(f"sqlite:///{flipped}", in_place=True)
    except StorageUnusable:
        return
    if report.ok:
        assert everything_in(flipped) == everything_in(history_file), place
        with closing(sqlite3.connect(flipped)) as connection:
            connection.execute("CREATE TABLE room_enough AS SELECT randomblob(20000)")


@pytest.fixture(scope="module")
def history_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite database with a history, to copy from."""
    path = tmp_path_factory.mktemp("history") / "history.db"
    asyncio.run(a_history(f"sqlite:///{path}"))
    return path


def everything_in(path: Path) -> dict[str, list[Any]]:
    """The schema and the rows of every table and view."""
    with closing(sqlite3.connect(f"{path.as_uri()}?immutable=1", uri=True)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        made = connection.execute("SELECT type, name, sql FROM sqlite_schema ORDER BY name").fetchall()
        readable = [name for kind, name, _ in made if kind in {"table", "view"}]
        return {"": made} | {
            name: connection.execute(f"SELECT * FROM {name} ORDER BY 1, 2").fetchall()
            for name in readable
            if name != "alembic_version"
        }
