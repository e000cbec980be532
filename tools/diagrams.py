"""Diagrams made from the code's own tables: `make docs`, or `python -m tools.diagrams`, writes `docs/diagrams.md`.

The rooms and who imports whom come from the imports themselves, an order's life from what the engine does in the scenarios of
the rule book. A test compares. Needs `tests` on the path.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from unittest.mock import patch

import ome
from ome.conformance.language import read_rule_book
from ome.conformance.venue import needs, play
from ome.domain.commands import Stamped
from ome.domain.events import Event, Traded
from ome.domain.numbers import unpack
from ome.engine.engine import Engine
from scenarios.in_process import EngineBooks, InProcess
from tools.reference import NOTE

SOURCE: Final = Path(ome.__file__).parent
PAGE: Final = Path(__file__).resolve().parents[1] / "docs" / "diagrams.md"
WIRING: Final = frozenset(path.stem for path in SOURCE.glob("*.py")) - {"observability", "telemetry"}
"""What may see all, or is seen by all: left out of the drawing."""


def main() -> int:
    """Write the page; the exit status is 0."""
    PAGE.write_text(page(), encoding="utf-8")
    return 0


def page() -> str:
    """The page as it is to be."""
    return f"""# Diagrams

{NOTE}

## Rooms, and who imports whom

Made from the imports in `src/ome`; `tests/unit/test_architecture.py` says which may be. `bootstrap` and the commands, which wire them, see all and
are left out.

{_mermaid("flowchart TD", rooms())}

## An order's life

Made from what the engine does in the scenarios of the rule book: each arrow is an event that takes an order from one status to another.

{_mermaid("stateDiagram-v2", life())}
"""


def _mermaid(kind: str, lines: Iterator[str]) -> str:
    return "\n".join(["```mermaid", kind, *(f"    {line}" for line in lines), "```"])


def rooms() -> Iterator[str]:
    """An arrow for each room that another imports, sorted; what follows from two others is left out."""
    found: dict[str, set[str]] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        room = path.relative_to(SOURCE).parts[0].removesuffix(".py")
        if room not in WIRING:
            found.setdefault(room, set()).update(_imported(path) - WIRING - {room})
    for room, seen in sorted(found.items()):
        behind = {further for each in seen for further in found.get(each, ())}
        for each in sorted(seen - behind):
            yield f"{room} --> {each}"


def _imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ome."):
            names.add((node.module or "").split(".")[1])
    return names


def life() -> Iterator[str]:
    """An arrow for each step that an order takes from one status to another in any scenario, with the events that take it."""
    steps: dict[tuple[str, str], set[str]] = {}
    status: dict[tuple[Engine, int], str] = {}
    apply = Engine.apply

    def watched(engine: Engine, stamped: Stamped) -> list[Event]:
        events = apply(engine, stamped)
        for event in events:
            if isinstance(event, Traded):
                order_id, now = event.trade.maker_order_id, "PARTIALLY_FILLED" if unpack(event.maker_remaining)[0] else "FILLED"
            elif (order := getattr(event, "order", None)) is not None:
                order_id, now = order.id, order.status.name
            else:
                continue
            before = status.get((engine, order_id), "[*]")
            steps.setdefault((before, now), set()).add(type(event).__name__.removeprefix("Order"))
            status[engine, order_id] = now
        return events

    with patch.object(Engine, "apply", watched):
        for scenario in read_rule_book():
            if needs(scenario) <= InProcess.can:
                play(scenario, InProcess(EngineBooks()))
    for (before, now), events in sorted(steps.items()):
        if before != now:
            yield f"{before} --> {now}: {', '.join(sorted(events))}"
    yield from (
        f"{now} --> [*]" for now in sorted({now for _, now in steps} - {before for before, now in steps if before != now})
    )


if __name__ == "__main__":
    sys.exit(main())
