"""What of the service is measured: the sources, and beside them the copy whose core `make compiled` has compiled, where it is."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from functools import cache
from typing import Final

from tools.compiled import COMPILED, ROOT, is_current

PYTHON: Final = "python"
CORE: Final = "compiled"
TITLES: Final = {PYTHON: "", CORE: ", core compiled"}


@cache
def builds() -> dict[str, Mapping[str, str]]:
    """The environment that a process of each build needs. A copy of other sources than these is not measured."""
    found = {PYTHON: _environment(str(ROOT / "src"))}
    if is_current():
        found[CORE] = _environment(str(COMPILED))
    elif COMPILED.exists():
        sys.stderr.write("build/compiled is of other sources: it is left out (make compiled)\n")
    return found


def _environment(package: str) -> Mapping[str, str]:
    known = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": os.pathsep.join([package, *([known] if known else [])])}
