"""docs/operations.md shows what `verify` says to what was done to a database: every sentence of that table is its own."""

# ruff: noqa: S608  the SQL is of the words below

from __future__ import annotations

import asyncio
import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from histories import write_history
from ome.verification import verify

OPERATIONS = (Path(__file__).resolve().parents[2] / "docs" / "operations.md").read_text()
ENDED = "(SELECT min(id) FROM stored_orders WHERE status = 3)"
RESTING = "(SELECT min(id) FROM stored_orders WHERE status = 0)"
TRADE = "(SELECT max(id) FROM stored_trades)"
BATCH = "(SELECT max(last_position) FROM journal WHERE last_position < 60)"
FLIPPED = "{0} = CAST(substr({0}, 1, 40) || X'2A' || substr({0}, 42) AS BLOB)"
DONE = {
    "a filled order's `filled_quantity` raised": f"UPDATE stored_orders SET filled_quantity = 20 WHERE id = {ENDED}",
    "a resting order moved ahead in its queue": f"UPDATE stored_orders SET priority = 0 WHERE id = {RESTING}",
    "an order given to another user": f"UPDATE stored_orders SET user_id = 'eve' WHERE id = {ENDED}",
    "an order deleted": f"DELETE FROM stored_orders WHERE id = {ENDED}",
    "a trade's price changed": f"UPDATE stored_trades SET price = price + 10 WHERE id = {TRADE}",
    "a trade deleted": f"DELETE FROM stored_trades WHERE id = {TRADE}",
    "a byte of an order's events changed": f"UPDATE event_batches SET {FLIPPED.format('events')} WHERE last_position = {BATCH}",
    "a byte of the journal changed": f"UPDATE journal SET {FLIPPED.format('commands')} WHERE last_position = {BATCH}",
    "a row of the journal deleted": f"DELETE FROM journal WHERE last_position = {BATCH}",
    "the journal's end cut off": f"DELETE FROM journal WHERE last_position > {BATCH}",
    "an index row deleted": "DELETE FROM event_users WHERE last_position = (SELECT max(last_position) FROM event_users)",
    "an instrument's last price changed": "UPDATE stored_instruments SET last_price = last_price + 10 WHERE symbol = 'AAA'",
    "a trigger added": "CREATE TRIGGER more AFTER INSERT ON stored_orders BEGIN DELETE FROM stored_trades; END",
    "a table added": "CREATE TABLE more (id INTEGER)",
    "the engine row's count of trades changed": "UPDATE engine SET trade_count = trade_count - 1",
}


@pytest.fixture(scope="module")
def history_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite database with a history, always the same one."""
    path = tmp_path_factory.mktemp("found") / "history.db"
    asyncio.run(write_history(f"sqlite:///{path}", 120))
    return path


@pytest.mark.parametrize("what", DONE)
def test_the_documented_sentence_is_what_verify_says(history_file: Path, tmp_path: Path, what: str) -> None:
    """The first difference, word by word as the documentation has it."""
    path = tmp_path / "edited.db"
    shutil.copy(history_file, path)
    with closing(sqlite3.connect(path)) as connection, connection:
        assert connection.execute(DONE[what]).rowcount != 0
    first = verify(f"sqlite:///{path}", in_place=True).first
    assert first is not None
    assert f"| {what} | {first.text} |" in OPERATIONS.splitlines()


def test_the_documentation_shows_nothing_else() -> None:
    """Every row of the table is one of those."""
    table = re.findall(r"^\| (an? .*?|the .*?) \| .* \|$", OPERATIONS, re.MULTILINE)
    assert table == list(DONE)
