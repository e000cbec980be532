"""What is waited for where the database gives no answer, and what isn't."""

from __future__ import annotations

import sqlite3

import asyncpg
import pytest

from ome.db.readers import may_pass


def sqlite_error(code: int) -> sqlite3.Error:
    """What SQLite raises with this code."""
    error = sqlite3.OperationalError("it says something")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (sqlite_error(sqlite3.SQLITE_BUSY), True),
        (sqlite_error(sqlite3.SQLITE_IOERR_READ), True),
        (sqlite_error(sqlite3.SQLITE_ERROR), False),
        (sqlite_error(sqlite3.SQLITE_CORRUPT), False),
        (sqlite_error(sqlite3.SQLITE_CORRUPT_INDEX), False),
        (sqlite_error(sqlite3.SQLITE_NOTADB), False),
        (asyncpg.TooManyConnectionsError("full"), True),
        (asyncpg.UndefinedTableError("no such table"), False),
        (asyncpg.DataCorruptedError("a page is damaged"), False),
        (TimeoutError(), True),
    ],
    ids=repr,
)
def test_what_may_pass_is_waited_for(error: Exception, passes: bool) -> None:
    """A database that is busy or away may answer later; a wrong question and a damaged file stay so."""
    assert may_pass(error) is passes
