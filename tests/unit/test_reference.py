"""The reference is what the code says: each setting, metric, reason, rule, route and command has its line, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from tools import diagrams, reference

from ome import bootstrap, cli, exits
from ome.domain import errors
from ome.domain.reasons import TABLE
from ome.exits import EXIT_STATUSES

ROOT = Path(__file__).resolve().parents[2]


def test_the_pages_are_what_the_code_says() -> None:
    """Each page of docs/reference is stored as `make docs` would write it, and there is no other."""
    stored = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "docs/reference").iterdir()}
    written = reference.pages()
    for name, text in written.items():
        assert stored.get(name) == text, f"docs/reference/{name} is not what the code says: run `make docs`"
    assert set(stored) == set(written)


def test_the_diagrams_are_what_the_code_does() -> None:
    """docs/diagrams.md is stored as `make docs` would write it."""
    assert (ROOT / "docs/diagrams.md").read_text(encoding="utf-8") == diagrams.page(), "run `make docs`"


def test_every_rule_that_a_reason_names_is_in_the_rule_book() -> None:
    """The ids of the closed table have their lines in docs/rules.md."""
    written = set(re.findall(r"^\| ([A-Z]\d+) \|", (ROOT / "docs/rules.md").read_text(), re.MULTILINE))
    assert {info.rule for info in TABLE.values() if info.rule} <= written


def test_every_exit_status_is_in_the_table() -> None:
    """Whatever a module calls EXIT_..., and what each StorageError leaves with."""
    rooms = (bootstrap, cli, exits)
    named = {value for room in rooms for name, value in vars(room).items() if name.startswith("EXIT_") and isinstance(value, int)}
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.StorageError)]
    assert named | {kind.exit_code for kind in kinds} <= set(EXIT_STATUSES)


def test_every_file_that_the_docs_name_exists() -> None:
    """A path in backquotes, or behind a link, in the README and in every page."""
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    named = [
        (page, path)
        for page in pages
        for path in re.findall(r"`((?:docs|src|deploy|examples|loadtests|tests|tools)/[\w./-]+)`", page.read_text())
    ]
    named += [
        (page, str((page.parent / path).relative_to(ROOT)))
        for page in pages
        for path in re.findall(r"\]\(((?![a-z]+:|#)[^)#]+)", page.read_text())
    ]
    assert [f"{page.name}: {path}" for page, path in named if not (ROOT / path).exists()] == []
