"""What `make compiled` compiles."""

from __future__ import annotations

import ast
from pathlib import Path

from tools.compiled import INTERPRETED, OF_DOMAIN, modules

import ome

SOURCE = Path(ome.__file__).parent


def test_what_is_compiled_are_modules_that_can_be() -> None:
    """Each is there, waits for nothing and defines no structure of msgspec's: those are interpreted, and each for that reason."""
    compiled = set(modules(SOURCE))
    assert {Path("ome/engine/engine.py"), Path("ome/domain/numbers.py")} <= compiled
    assert len(compiled) == len(list((SOURCE / "engine").glob("*.py"))) - len(INTERPRETED) + len(OF_DOMAIN)
    for path in (SOURCE / "engine").glob("*.py"):
        wants_interpreter = path.stem == "__init__" or any(map(_is_interpreted, ast.walk(ast.parse(path.read_text()))))
        assert wants_interpreter is (path.stem in INTERPRETED), path
    assert not any(_is_interpreted(node) for name in compiled for node in ast.walk(ast.parse((SOURCE.parent / name).read_text())))


def _is_interpreted(node: ast.AST) -> bool:
    structures = isinstance(node, ast.ClassDef) and any(isinstance(base, ast.Name) and base.id == "Struct" for base in node.bases)
    return structures or isinstance(node, ast.AsyncFunctionDef | ast.Await)
