"""Does the suite notice? Each mistake of `mistakes.py` is made in a copy of the source, and the suite's fast part is run on it.

`python -m mutants [WORD ...]`, from the folder `tests`: prints a table of what noticed each mistake, or only of those whose
description has one of the words. The exit status is 1 if one survives, and 2 if the suite fails without any mistake or a mistake
can't be made any more because its text has gone.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from mutants.mistakes import MISTAKES, Mistake

TESTS: Final = Path(__file__).resolve().parent.parent
SOURCE: Final = TESTS.parent / "src"
PATIENCE_S: Final = 60
"""Seconds after which an engine that does not come back counts as noticed."""


def mutated(mistake: Mistake, text: str) -> str:
    """The text with the mistake in it; ValueError where it can't be made, or in more places than one."""
    count = text.count(mistake.old)
    if count != 1 or mistake.old == mistake.new:
        raise ValueError(f"{mistake.what}: its text stands {count} times in {mistake.file}")
    return text.replace(mistake.old, mistake.new)


def noticed_by(mistake: Mistake | None) -> str | None:
    """What noticed a mistake, or the lack of one; None for nothing."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "src")
        shutil.copytree(SOURCE, source, ignore=shutil.ignore_patterns("__pycache__"))
        if mistake is not None:
            file = source / "ome" / mistake.file
            file.write_text(mutated(mistake, file.read_text(encoding="utf-8")), encoding="utf-8")
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(source), str(TESTS)]), "PYTHONDONTWRITEBYTECODE": "1"}
        program = [sys.executable, "-m", "mutants.suite"]
        try:
            done = subprocess.run(
                program, env=environment, cwd=folder, capture_output=True, text=True, check=False, timeout=PATIENCE_S
            )
        except subprocess.TimeoutExpired:
            return f"not coming back within {PATIENCE_S} s"
    if done.stderr:
        raise ValueError(f"{mistake.what if mistake else 'no mistake'}: the suite could not run:\n{done.stderr}")
    return done.stdout.strip() if done.returncode else None


def main(words: list[str]) -> int:
    """Run all, or those whose description has one of the words."""
    chosen = [mistake for mistake in MISTAKES if not words or any(word in mistake.what for word in words)]
    try:
        if (failure := noticed_by(None)) is not None:
            sys.stdout.write(f"without any mistake the suite fails: {failure}\n")
            return 2
        survived = 0
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            for mistake, notice in zip(chosen, pool.map(noticed_by, chosen), strict=True):
                survived += notice is None
                sys.stdout.write(f"{'killed' if notice else 'SURVIVED':<9} {mistake.what:<68} {notice or ''}\n")
                sys.stdout.flush()
    except ValueError as error:
        sys.stdout.write(f"{error}\n")
        return 2
    sys.stdout.write(f"{len(chosen) - survived} of {len(chosen)} mistakes are noticed\n")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
