"""Exports are the same, to the byte, whatever database holds the history."""

import asyncio
from pathlib import Path

import pytest

from contract.conftest import Templates
from databases import Database
from histories import write_history
from ome.domain.errors import StorageUnusable
from ome.export import Export, Wanted, export

COMMANDS = 400


@pytest.mark.parametrize("what", ["trades", "orders", "candles", "events"])
async def test_every_database_is_exported_alike(database: Database, templates: Templates, tmp_path: Path, what: str) -> None:
    """Of the same history, a part as well as all of it, each database gives the file that SQLite gives."""
    twin = f"sqlite:///{tmp_path}/twin.db"
    for filled in (database, Database("sqlite", twin, f"{tmp_path}/twin.db")):
        await templates.fill(filled, "exported history", lambda url: write_history(url, COMMANDS, seed=3))
    for wanted in (Wanted(), Wanted("BBB", start=1_795_341_600_000_000, end=1_795_341_600_200_000, seconds=1)):
        texts = []
        for number, url in enumerate((database.url, twin)):
            out = tmp_path / f"{number}.csv"
            await asyncio.to_thread(export, url, Export(what, str(out), "csv", wanted))
            texts.append(out.read_bytes())
        assert texts[0] == texts[1]
        assert texts[0].count(b"\r\n") > 1


def test_what_is_no_database_is_said(tmp_path: Path) -> None:
    """A file that isn't there is named, and no file is written."""
    with pytest.raises(StorageUnusable, match=r"no database at .*nothing\.db"):
        export(f"sqlite:///{tmp_path}/nothing.db", Export("trades", str(tmp_path / "a"), "csv", Wanted()))
    assert list(tmp_path.iterdir()) == []
