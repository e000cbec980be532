"""The README tells the truth about targets and versions; `test_documents` types what it shows."""

import importlib.util
import re
import tomllib
from pathlib import Path

from ome.config import Settings

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def test_make_targets_that_the_documents_name_exist() -> None:
    """Every `make X` is a target of make.py, each target says what it is for, and make knows the same ones."""
    spec = importlib.util.spec_from_file_location("make", ROOT / "make.py")
    assert spec is not None
    assert spec.loader is not None
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    texts = [path.read_text() for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"))]
    named = {
        name for text in texts for name in re.findall(r"(?:`|^)make ([a-z][\w-]*)", text.replace("make.py", "make"), re.MULTILINE)
    }
    assert {"run", "test", "bench"} <= named <= set(make.TARGETS)
    assert set(make.ABOUT) == set(make.TARGETS)
    (line,) = [line for line in (ROOT / "Makefile").read_text().splitlines() if line.startswith("TARGETS := ")]
    assert set(line.removeprefix("TARGETS := ").split()) == set(make.TARGETS)


def test_it_names_the_python_that_the_package_needs() -> None:
    """The README's version of Python is the package's lower bound."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"Python {project['requires-python'].removeprefix('>=')} or later" in README


def test_streams_leave_room_for_orders() -> None:
    """However many of them are open, as many as there may be, there are connections left."""
    settings = Settings()
    assert settings.max_connections - settings.max_streams >= 1000
