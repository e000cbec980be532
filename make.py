#!/usr/bin/env python3
"""Everything `make` does, for machines with and without make: `python3 make.py run`, `python3 make.py test`, ...

Needs Python 3.11 or later with its `venv` module and nothing else. The first call makes a virtual environment in
`.venv` and installs hash-locked versions into it; later calls only do so again when a lock file has changed.
`VENV=folder` names another folder, so that several versions of Python can be tried side by side.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
VENV = HERE / os.environ.get("VENV", ".venv")
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
RUNTIME, DEVELOPMENT = HERE / "requirements.lock", HERE / "requirements-dev.lock"
COMPILER = HERE / "requirements-compiled.lock"
COMPILE = ["uv", "pip", "compile", "--universal", "--python-version", "3.11", "--generate-hashes"]
QUIET = ["--no-emit-index-url", "--quiet", "--custom-compile-command", "make lock"]
LOCK = [*COMPILE, *QUIET]
PROJECT = "pyproject.toml"
TESTS = {"PYTHONPATH": "tests"}
COMPILED = {"PYTHONPATH": os.pathsep.join([str(HERE / "build" / "compiled"), "tests"])}
SBOM = HERE / "sbom.json"
SEED = os.environ.get("SEED", "1")
CLUSTER = ("--cluster",) if os.environ.get("CLUSTER") else ()


def main() -> int:
    """Carry out the targets named on the command line, in order; the exit status is that of the first that fails."""
    if sys.version_info < (3, 11):  # noqa: UP036  the message is for those who have an older one
        return fail(f"OME needs Python 3.11 or later; this is {sys.version.split()[0]}. Name another: PYTHON=python3.12 make run")
    names = sys.argv[1:] or ["help"]
    for name in names:
        if name not in TARGETS:
            return fail(f"there is no target {name!r}; there are: {', '.join(TARGETS)}")
        try:
            status = TARGETS[name]()
        except subprocess.CalledProcessError as error:
            return fail(f"{name}: {error}")
        except KeyboardInterrupt:
            return 130
        if status:
            return status
    return 0


def fail(message: str) -> int:
    """Say what went wrong on standard error; the exit status to leave with."""
    sys.stderr.write(f"make: {message}\n")
    return 1


def installed(lock: Path) -> None:
    """Make sure that the virtual environment holds what `lock` says, and the project itself."""
    want = hashlib.sha256(lock.read_bytes() + (HERE / "pyproject.toml").read_bytes() + sys.version.encode()).hexdigest()
    stamp = VENV / f".{lock.stem}"
    if PYTHON.exists() and stamp.exists() and stamp.read_text() == want:
        return
    if not is_usable():
        create()
    print(f"Installing {lock.name} into {VENV.name} (once, about a minute)", flush=True)
    pip = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--require-hashes", "-r", str(lock)], check=True, cwd=HERE)
    subprocess.run([*pip, "--no-deps", "--no-build-isolation", "-e", "."], check=True, cwd=HERE)
    stamp.write_text(want)


def is_usable() -> bool:
    """Whether there is a virtual environment of this very Python, with pip in it, whoever made it."""
    ask = "import sys, pip; sys.stdout.write(sys.version)"
    try:
        return subprocess.run([str(PYTHON), "-c", ask], capture_output=True, text=True, check=True).stdout == sys.version
    except (OSError, subprocess.CalledProcessError):
        return False


def create() -> None:
    """A new virtual environment, or what to do where this Python can't make one."""
    try:
        venv.create(VENV, with_pip=True, clear=True)
    except (subprocess.CalledProcessError, ModuleNotFoundError) as error:
        shutil.rmtree(VENV, ignore_errors=True)
        advice = f"Debian, Ubuntu: apt-get install python3-venv. Or: uv venv --seed --python {sys.executable} {VENV.name}"
        raise SystemExit(fail(f"this Python can't make virtual environments (no ensurepip). {advice}")) from error


def python(*arguments: str, lock: Path = DEVELOPMENT, environment: dict[str, str] | None = None) -> Callable[[], int]:
    """A target that runs the environment's Python with `arguments`, after installing what `lock` holds."""

    def target() -> int:
        installed(lock)
        known = os.environ | (environment or {})
        known.pop("PYTHONDONTWRITEBYTECODE", None)  # the tests start hundreds of processes, which would compile everything anew
        return subprocess.run([str(PYTHON), *arguments], cwd=HERE, env=known, check=False).returncode

    return target


def each(*targets: Callable[[], int]) -> Callable[[], int]:
    """A target that carries out several, up to the first that fails."""
    return lambda: next((status for target in targets if (status := target())), 0)


def lock() -> int:
    """Write the lock files and the SBOM anew (needs uv); no index and no host is named in them."""
    subprocess.run([*LOCK, PROJECT, "--group", "build", "--group", "image", "-o", RUNTIME.name], check=True, cwd=HERE)
    subprocess.run([*LOCK, PROJECT, "--group", "dev", "-c", RUNTIME.name, "-o", DEVELOPMENT.name], check=True, cwd=HERE)
    subprocess.run([*LOCK, "--group", "compiled", "-c", DEVELOPMENT.name, "-o", COMPILER.name], check=True, cwd=HERE)
    return sbom()


def sbom() -> int:
    """Write what the runtime's lock holds as a CycloneDX bill of materials; the same lock gives the same bytes."""
    components: list[dict[str, Any]] = []
    for line in RUNTIME.read_text().splitlines():
        if found := re.match(r"([A-Za-z0-9._-]+)==([^ ;]+)", line):
            purl = f"pkg:pypi/{found[1].lower()}@{found[2]}"
            named = {"name": found[1], "version": found[2], "purl": purl, "bom-ref": purl}
            components.append({"type": "library", **named, "hashes": []})
        elif found := re.search(r"--hash=sha256:([0-9a-f]{64})", line):
            components[-1]["hashes"].append({"alg": "SHA-256", "content": found[1]})
    bom: dict[str, Any] = {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "components": components}
    bom["metadata"] = {"component": {"type": "application", "name": "ome", "bom-ref": "ome"}}
    SBOM.write_text(json.dumps(bom, indent=1, sort_keys=True) + "\n")
    return 0


def audit() -> int:
    """Look the locked versions up among known vulnerabilities: 1 where one has any; 0, and a word, where nobody can be asked."""
    installed(DEVELOPMENT)
    ask = [str(PYTHON), "-m", "pip_audit", "--disable-pip", "--require-hashes", "--progress-spinner", "off"]
    found = subprocess.run([*ask, "-r", RUNTIME.name], cwd=HERE, capture_output=True, text=True, check=False)
    print(found.stdout + found.stderr, end="")
    if found.returncode and "Vulnerabilit" not in found.stdout and "known vulnerabilit" not in found.stderr:
        print("The service that knows of vulnerabilities can't be reached from here: nothing was checked.")
        return 0
    return found.returncode


def usage() -> int:
    """List the targets, and what each is for."""
    width = max(map(len, ABOUT))
    lines = [f"  {name:<{width}}  {about}" for name, about in ABOUT.items()]
    with contextlib.suppress(BrokenPipeError):  # of `make | head`
        print("\n".join(["make TARGET, or python3 make.py TARGET:\n", *lines]), flush=True)
    return 0


ABOUT = {
    "help": "this list",
    "run": "the service at http://127.0.0.1:5000; the first call sets up .venv (about a minute)",
    "test": "the quick suite",
    "compiled": "the engine's core in C, in build/compiled (needs a C compiler, a minute); docs/performance.md",
    "run-compiled": "the service, with that core",
    "test-compiled": "the tests of the engine and its rules, with that core",
    "check": "ruff, mypy and bandit",
    "coverage": "the quick suite with branch coverage of every process; fails under 95 % of engine, db or api; an hour, perhaps",
    "docs": "writes docs/reference and the diagrams anew, from the code",
    "wheels": "builds the wheel, and runs it in empty environments of every Python that is here",
    "audit": "known vulnerabilities of the pinned versions, where they can be asked for",
    "lock": "new lock files and sbom.json (needs uv); see SECURITY.md",
    "sbom": "sbom.json alone",
    "long": "the tests that take minutes: whole days of order flow, longer searches",
    "faults": "every fault on the real service, one printed table; under a quarter of an hour",
    "faults-long": "the same for BUDGET seconds (3600), with SEED (1)",
    "simulation": "200 runs of the service under injected faults, each repeatable from its seed",
    "money": "orders that are paid for, beside their naive twin; for BUDGET seconds (600)",
    "mutants": "mistakes put into the engine, each of which the tests must find",
    "schemathesis": "a thousand examples of every operation of the OpenAPI document",
    "bench": "durable orders a second, beside a route that does nothing; needs wrk",
    "peers": "an environment for the engines that bench compares with",
    "load": "a load scenario with a verdict: SCENARIO=burst, steady, balanced, trades or plain; CLUSTER=1: through a cluster",
    "overload": "twice what the service can do: what is done, what is refused, and how",
    "streams": "what 10,000 idle WebSockets hold, and what 1,000 subscribers add to the latency of orders",
    "soak": "what slow senders and idle clients add to the latency of orders; kills under full load",
    "page-soak": "the page in a browser for ten minutes under a thousand updates a second",
}
"""What each target is for."""


WORKERS = min(4, (os.cpu_count() or 1) + 1)
"""One more than there are cores: a third of the time a test waits, for a disk, a process or a browser."""
TEST = ["-m", "pytest", "--numprocesses", str(WORKERS), "--dist", "worksteal"]
compiled = python("-m", "tools.compiled")
IS_COMPILED = "import sys; from ome.domain.build import CORE; sys.exit(CORE != 'compiled')"
OF_THE_CORE = ["tests/unit/engine", "tests/unit/domain", "tests/scenarios", "tests/properties", "tests/contract"]

TARGETS: dict[str, Callable[[], int]] = {
    "help": usage,
    "run": python("-m", "ome", "serve", lock=RUNTIME),
    "test": python(*TEST),
    "compiled": compiled,
    "run-compiled": each(compiled, python("-m", "ome", "serve", environment=COMPILED)),
    "test-compiled": each(
        compiled, python("-c", IS_COMPILED, environment=COMPILED), python(*TEST, *OF_THE_CORE, environment=COMPILED)
    ),
    "check": each(
        python("-m", "ruff", "check"),
        python("-m", "ruff", "format", "--check"),
        python("-m", "mypy"),
        python("-m", "bandit", "--quiet", "--recursive", "-ll", "--skip", "B608", "src"),  # ruff's S608 has these, with reasons
    ),
    "coverage": each(python(*TEST, "--cov", "--cov-report", "term:skip-covered"), python("-m", "tools.branches")),
    "docs": each(python("-m", "tools.reference"), python("-m", "tools.diagrams", environment=TESTS)),
    "wheels": python("-m", "tools.wheels"),
    "audit": audit,
    "sbom": sbom,
    "bench": python("-m", "loadtests.bench", environment=TESTS),
    "peers": python("-m", "loadtests.peers", "--make"),
    "long": python("-m", "pytest", "-m", "long", "--timeout", "3600"),
    "faults": python("-m", "faults", "--seed", SEED, environment=TESTS),
    "faults-long": python(
        "-m", "faults", "--seed", SEED, "--budget-seconds", os.environ.get("BUDGET", "3600"), environment=TESTS
    ),
    "simulation": each(
        python("-m", "simulation", "--canaries", environment=TESTS),
        python("-m", "simulation", "--seeds", "200", environment=TESTS),
    ),
    "money": python(
        "-m", "properties.money", "--seed", SEED, "--budget-seconds", os.environ.get("BUDGET", "600"), environment=TESTS
    ),
    "mutants": python("-m", "mutants", environment=TESTS),
    "schemathesis": python("-m", "fuzz", environment=TESTS),
    "load": python("-m", "loadtests.load", "--scenario", os.environ.get("SCENARIO", "burst"), *CLUSTER, environment=TESTS),
    "overload": python("-m", "loadtests.overload"),
    "streams": python("-m", "loadtests.streams"),
    "soak": python("-m", "loadtests.soak"),
    "page-soak": python("-m", "loadtests.page_soak"),
    "lock": lock,
}

if __name__ == "__main__":
    sys.exit(main())
