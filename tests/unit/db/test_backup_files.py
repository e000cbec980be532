"""How a backup's file comes to be: whole or not at all, over nothing, and without a password where others could read it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ome.db.backup import _rename, dump_postgres
from ome.db.url import parse_url
from ome.domain.errors import StorageUnusable

URL = parse_url("postgresql://ome:s%40cret@127.0.0.1:5432/ome")


def a_pg_dump(folder: Path, monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    """A program of that name, alone on the search path, which does this after keeping what it was told."""
    program = folder / "pg_dump"
    program.write_text("\n".join(["#!/bin/sh", f'echo "$PGPASSWORD" "$@" > {folder}/told', *lines, ""]))
    program.chmod(0o700)
    monkeypatch.setenv("PATH", str(folder))


def test_a_dump_is_told_its_snapshot_and_no_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The password goes by the environment, decoded; arguments are everybody's to read."""
    a_pg_dump(tmp_path, monkeypatch, 'for each in "$@"; do case "$each" in --file=*) echo whole > "${each#--file=}";; esac; done')
    dump_postgres(URL, "00000003-1", tmp_path / "backup")
    assert (tmp_path / "backup").read_text() == "whole\n"
    password, *arguments = (tmp_path / "told").read_text().split()
    assert password == "s@cret"  # noqa: S105  of nobody
    assert "--snapshot=00000003-1" in arguments
    assert "--dbname=postgresql://ome@127.0.0.1:5432/ome" in arguments


def test_a_dump_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What pg_dump says is said, and there is neither a backup nor half of one."""
    a_pg_dump(tmp_path, monkeypatch, "echo server version mismatch >&2", "exit 1")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(StorageUnusable, match="pg_dump failed: server version mismatch"):
        dump_postgres(URL, "00000003-1", tmp_path / "backup")
    assert sorted(tmp_path.iterdir()) == [*before, tmp_path / "told"]


def test_without_pg_dump_there_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What to install, and what else there is."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StorageUnusable, match="takes pg_dump, which isn't here"):
        dump_postgres(URL, "00000003-1", tmp_path / "backup")


def test_a_folder_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is read."""
    a_pg_dump(tmp_path, monkeypatch)
    with pytest.raises(StorageUnusable, match=r"No file can be made in .*nowhere"):
        dump_postgres(URL, "00000003-1", tmp_path / "nowhere" / "backup")
    assert not (tmp_path / "told").exists()


@pytest.mark.parametrize("has_links", [True, False])
def test_a_name_that_was_taken_meanwhile_stays_its_owners(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, has_links: bool
) -> None:
    """Also on a file system without hard links; there a free name is given all the same."""

    def no_links(*_: object) -> None:
        raise OSError("not supported")

    if not has_links:
        monkeypatch.setattr(Path, "hardlink_to", no_links)
    part, taken, free = tmp_path / "part", tmp_path / "taken", tmp_path / "free"
    part.write_text("new")
    taken.write_text("old")
    with pytest.raises(FileExistsError, match="name a new file"):
        _rename(part, taken)
    assert taken.read_text() == "old"
    _rename(part, free)
    assert free.read_text() == "new"
