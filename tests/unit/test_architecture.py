"""The rooms import what the design lets them, and nothing is built when a module is imported."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import ome

SOURCE = Path(ome.__file__).parent
ALLOWED = {
    "domain": set[str](),
    "engine": {"domain"},
    "db": {"domain"},
    "marketdata": {"domain"},
    "history": {"domain", "engine", "marketdata"},
    "api": {"domain", "observability"},
    "replay": {"domain", "engine"},
    "verification": {"domain", "engine", "db"},
    "conformance": {"domain"},
    "client": set[str](),
    "terminal": {"client"},
    "demo": {"client", "domain", "replay"},
    "export": {"db", "domain", "marketdata"},
    "observability": {"domain"},
    "telemetry": {"observability"},
    "config": set[str](),
    "exits": set[str](),
    "cluster": {"domain"},
    "processes": set[str](),
    "engine_http": {"observability"},
    "engine_process": {
        "bootstrap",
        "cluster",
        "config",
        "db",
        "domain",
        "engine",
        "engine_http",
        "history",
        "marketdata",
        "observability",
    },
    "gateway": {
        "api",
        "bootstrap",
        "cluster",
        "config",
        "db",
        "demo",
        "domain",
        "gateway_views",
        "history",
        "observability",
        "processes",
    },
    "gateway_views": {"api", "cluster", "domain", "marketdata"},
    "local_cluster": {"bootstrap", "cluster", "config", "db", "domain", "gateway", "observability", "processes"},
    "bootstrap": {"api", "config", "db", "demo", "domain", "engine", "history", "marketdata", "observability", "telemetry"},
}
FREE = {"cli", "cluster_commands", "instrument_commands", "key_commands", "__main__"}
"""The modules that may see all."""


def room_of(path: Path) -> str:
    """The room, or the top-level module, that a file belongs to."""
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    """The rooms that a file imports from, wherever in it."""
    names = set[str]()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names if node.module == "ome"}
    return {name.split(".")[1] for name in names if name.startswith("ome.")}


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_room_imports_only_what_the_design_lets_it(path: Path) -> None:
    """See docs/design.md: domain is below all, the rooms don't see each other, bootstrap wires them."""
    room = room_of(path)
    if room in FREE or room == "__init__":
        return
    assert imported_rooms(path) - {room} <= ALLOWED[room]


def test_modules_and_functions_stay_small() -> None:
    """No module over 800 lines, no function over 70."""
    for path in SOURCE.rglob("*.py"):
        text = path.read_text()
        assert text.count("\n") <= 800, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert (node.end_lineno or 0) - node.lineno < 70, f"{path}:{node.lineno} {node.name}"


def test_importing_builds_nothing() -> None:
    """No application, engine or settings at import: importing everything reads no setting and opens no file or socket, and brings
    in nothing that takes long to load and that most starts never use.
    """
    code = (
        "import sys\n"
        "bad = []\n"
        "sys.addaudithook(lambda name, args: bad.append((name, args)) if name in {'socket.bind', 'sqlite3.connect'} else None)\n"
        "import ome.bootstrap, ome.cli\n"
        "assert not bad, bad\n"
        "unused = {'alembic', 'sqlalchemy.orm', 'httpx'} & sys.modules.keys()\n"
        "assert not unused, unused\n"
        "print('ok')"
    )
    environment = {"PORT": "no number", "PATH": "/usr/bin", "PYTHONPATH": str(SOURCE.parent)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert done.stdout.strip() == "ok", done.stderr
