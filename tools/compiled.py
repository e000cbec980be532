"""The engine's core compiled to C by mypyc, which comes with mypy: `make compiled`. Needs a C compiler.

    python -m tools.compiled                     a copy of the package in build/compiled, compiled: put that on PYTHONPATH
    python -m tools.compiled --into FOLDER       the package `ome` that FOLDER has, such as an installed one, where it is

The sources stay what they are, pure Python, and stand beside what is made of them: an extension module for each of `modules`,
which Python takes in place of the module's source, and one library that they share. It fits the version of Python that made it.
Left to the interpreter are modules that define msgspec's structures, which can't be made into C, and those that wait (asyncio).

A copy that was made of these very sources is left as it is.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import shutil
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
SOURCE: Final = ROOT / "src" / "ome"
COMPILED: Final = ROOT / "build" / "compiled"
LIBRARY: Final = "ome.core"
"""The name of the shared library begins with this."""
INTERPRETED: Final = frozenset({"__init__", "changes", "funds_entry", "order_entry", "pending_batch", "runner"})
"""Of the engine: structures, and what waits."""
OF_DOMAIN: Final = ("amounts", "digests", "ids", "instrument", "numbers", "positions")
"""Of the domain: what the engine's arithmetic calls; the rest of it is structures and enums."""

_NOT_SOURCES: Final = shutil.ignore_patterns("__pycache__", "*.so", "*.pyd")


def main() -> int:
    """Compile, say what to do with it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--into", type=Path, help="a folder whose `ome` is compiled as it is")
    options = parser.parse_args()
    if options.into is not None:
        if not (options.into / "ome" / "engine").is_dir():
            parser.error(f"{options.into} has no package `ome`")
        compile_into(options.into.resolve())
    elif not is_current():
        make_copy()
    print(f"{options.into or COMPILED.relative_to(ROOT)}: {len(modules())} modules, compiled for {sys.implementation.cache_tag}")
    return 0


def modules(package: Path = SOURCE) -> list[Path]:
    """The files that are compiled, relative to the folder that has the package."""
    engine = [path for path in sorted((package / "engine").glob("*.py")) if path.stem not in INTERPRETED]
    return [path.relative_to(package.parent) for path in (*engine, *(package / "domain" / f"{name}.py" for name in OF_DOMAIN))]


def is_current() -> bool:
    """Whether the copy is there and was made of the sources as they are, for this Python."""
    stamp = COMPILED / "stamp"
    return stamp.exists() and stamp.read_text() == fingerprint()


def fingerprint() -> str:
    """What a copy is made of: the sources, this tool, and the Python that runs it."""
    known = hashlib.sha256(sys.version.encode())
    for path in (Path(__file__), *sorted(path for path in SOURCE.rglob("*") if path.is_file() and path.suffix != ".pyc")):
        known.update(str(path.name).encode() + path.read_bytes())
    return known.hexdigest()


def make_copy() -> None:
    """Have COMPILED hold the package as it is in the sources, compiled, and nothing else."""
    shutil.rmtree(COMPILED, ignore_errors=True)
    shutil.copytree(SOURCE, COMPILED / "ome", ignore=_NOT_SOURCES)
    compile_into(COMPILED)
    (COMPILED / "stamp").write_text(fingerprint())


def compile_into(folder: Path) -> None:
    """Make extension modules of the package in `folder`, beside its sources. SystemExit where the compiler refuses.

    It is given a copy that stands alone: what is beside an installed package would be in its way.
    """
    setup = import_module("setuptools").setup  # before mypyc, which looks whether it is there
    mypycify = import_module("mypyc.build").mypycify
    with tempfile.TemporaryDirectory(prefix="ome-compiled-") as scratch, contextlib.chdir(scratch):
        shutil.copytree(folder / "ome", "ome", ignore=_NOT_SOURCES)
        paths = map(str, modules(Path("ome")))
        extensions = mypycify(["--config-file=", *paths], debug_level="0", group_name=LIBRARY, target_dir="c")
        build = ["--quiet", "build_ext", "--build-lib", str(folder), "--build-temp", "o"]
        setup(name="ome", packages=[], py_modules=[], ext_modules=extensions, script_args=build)


if __name__ == "__main__":
    sys.exit(main())
