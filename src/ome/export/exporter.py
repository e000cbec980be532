"""An export: all of one moment, in a file that is there whole or not at all.

The database is read in one transaction that writes nothing; an engine may be running on it. SQLite: the file itself is read, so
that the engine's WAL isn't emptied until the export is done. PostgreSQL: one snapshot.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from msgspec import Struct

from ome.db.history import History, open_history
from ome.export.files import FORMS, Missing, Writer
from ome.export.tables import SOURCES, Wanted

STANDARD_OUTPUT: Final = "-"
Progress = Callable[[int, int], None]
"""Told now and then how many rows are read, of how many."""


class ExportError(Exception):
    """What was asked for can't be done; the message says what would be right."""


class Export(Struct, frozen=True):
    """What to export and where: `what` is trades, orders, candles or events, `form` csv or parquet, `out` a path or "-"."""

    what: str
    out: str
    form: str
    wanted: Wanted


def export(database_url: str, order: Export, progress: Progress | None = None) -> int:
    """Write a file: how many rows it has. Raises ExportError, and StorageUnusable or Unreadable for the database."""
    if order.out == STANDARD_OUTPUT and order.form != "csv":
        raise ExportError(f"{order.form} can't be written to standard output; name a file with --out.")
    source = SOURCES[order.what]
    with open_history(database_url, in_place=True) as history, _file(order.out) as file:
        try:
            writer = FORMS[order.form](file, source.columns)
        except Missing as error:
            raise ExportError(str(error)) from error
        return _copy(history, order, writer, progress)


def _copy(history: History, order: Export, writer: Writer, progress: Progress | None) -> int:
    source = SOURCES[order.what]
    total = history.count(source.table) if progress is not None else 0
    written = done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, total)

    for shard in history.shards():
        for row in source.rows(history, shard, order.wanted, advance):
            writer.write(row)
            written += 1
    writer.close()
    if progress is not None:
        progress(total, total)
    return written


@contextmanager
def _file(out: str) -> Iterator[BinaryIO]:
    """The file to write; it gets its name when all is in it."""
    if out == STANDARD_OUTPUT:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(out)
    unfinished = path.with_name(f"{path.name}.part")
    try:
        with unfinished.open("wb") as file:
            yield file
        unfinished.replace(path)
    except OSError as error:
        raise ExportError(f"{out} can't be written: {error.strerror}.") from error
    finally:
        unfinished.unlink(missing_ok=True)
