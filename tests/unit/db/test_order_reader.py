"""The second process that reads open orders, in this one: whatever becomes of its job, the last frame says so."""

from __future__ import annotations

import io
import signal
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from msgspec import structs

from ome.db import order_reader
from ome.db.order_reader import HEADER, Job, Verdict

Read = Callable[[Job], tuple[list[int], Verdict]]


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """Five rows to read, by twos, from a database whose head is as expected."""
    file = tmp_path / "orders.db"
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("CREATE TABLE head (shard, position, time, hash)")
        connection.execute("INSERT INTO head VALUES (0, 5, 7, x'00')")
        connection.execute("CREATE TABLE orders (id INTEGER, terms TEXT)")
        connection.executemany("INSERT INTO orders VALUES (?, ?)", [(number, None) for number in range(1, 6)])
    head = "SELECT position, time, hash FROM head WHERE shard = ?"
    orders = "SELECT id, terms FROM orders WHERE id BETWEEN ? AND ? ORDER BY id"
    return Job("sqlite", str(file), head, 0, (5, 7, b"\0"), orders, (1, 5), 2)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Read:
    """The numbers of rows in the frames of a job, and how it ended."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # this process's own handlers stay

    def done(job: Job) -> tuple[list[int], Verdict]:
        out = io.BytesIO()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(msgspec.msgpack.encode(job))))
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out))
        assert order_reader.main() == 0
        counts: list[int] = []
        data = out.getvalue()
        while True:
            count, size = HEADER.unpack(data[: HEADER.size])
            body, data = data[HEADER.size : HEADER.size + size], data[HEADER.size + size :]
            if not count:
                assert not data
                return counts, msgspec.msgpack.decode(body, type=Verdict)
            counts.append(count)

    return done


def test_all_is_read_in_frames(job: Job, read: Read) -> None:
    """As many rows in each as were asked for, and the rest in the last."""
    assert read(job) == ([2, 2, 1], Verdict("complete"))


@pytest.mark.parametrize("change", [{"expected": (6, 7, b"\0")}, {"shard": 1}])
def test_a_database_that_went_on_is_not_read(job: Job, read: Read, change: dict[str, object]) -> None:
    """DUR6: another head than the engine has seen, or none, and no row is given."""
    assert read(structs.replace(job, **change)) == ([], Verdict("fenced"))


@pytest.mark.parametrize(
    ("change", "outcome", "words"),
    [
        ({"orders": "SELECT * FROM nowhere WHERE ? < ?"}, "failed", "nowhere"),
        ({"orders": "SELECT id, '{' FROM orders WHERE id BETWEEN ? AND ?"}, "mismatch", "truncated"),
        ({"kind": "postgres", "target": "postgresql://ome@127.0.0.1:1/ome"}, "away", "127.0.0.1"),
    ],
)
def test_what_stands_against_it_is_said(job: Job, read: Read, change: dict[str, object], outcome: str, words: str) -> None:
    """A question that fails, terms that can't be read, and nobody listening: each in its own kind."""
    counts, verdict = read(structs.replace(job, **change))
    assert (counts, verdict.outcome) == ([], outcome)
    assert words in verdict.reason


def test_nobody_listening_any_more_is_an_exit_status(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that gave up has closed the pipe: there is nobody to tell."""

    def broken(*_: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(order_reader, "write_frame", broken)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(msgspec.msgpack.encode(job))))
    assert order_reader.main() == 1
