"""`make schemathesis`: every route of the OpenAPI document with all of schemathesis' checks, against a real service.

    python -m fuzz [--examples 1000] [--seconds S] [--seed N] [--phases ...] [--key] [--part 1/8]

A fresh service on a fresh database is made for the run. `--key` sets an operator's key, sends it along, and has schemathesis look
at what happens without. `--part 3/8` takes the third of eight shares of the operations, for who has the time in pieces; scenarios
of several operations (the phase `stateful`) want all of them, so they are a run of their own: `--phases stateful`. What isn't
called a failure, and why, is in `accepted.py`. The exit status is schemathesis' own.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import httpx

from servers import running_server, sqlite_url

HOOKS: Final = "fuzz.accepted"
ENDLESS: Final = "^/ws$|/stream$|^/admin/demo$"
"""Routes that aren't one request and one answer: what speaks WebSocket, an answer that never ends, and traders that go on."""
FIRST_KEY: Final = "|^/keys$"
"""Where there is no key, the first one that is made shuts out whoever has none: that is tried where there is one."""
KEY: Final = "a-key-for-the-fuzzer-and-nobody-else"
METHODS: Final = frozenset({"get", "put", "post", "delete", "patch"})


def run(arguments: list[str], *, key: bool = False, part: tuple[int, int] = (1, 1)) -> int:
    """Run schemathesis with these arguments against a fresh service, its output passed through; its exit status."""
    with tempfile.TemporaryDirectory(prefix="ome-fuzz-") as folder:
        settings = {"LOG_LEVEL": "ERROR"} | ({"API_KEY": KEY} if key else {})
        with running_server(sqlite_url(Path(folder)), **settings) as server:
            command = [sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json", "--checks", "all"]
            command += ["--exclude-path-regex", ENDLESS if key else ENDLESS + FIRST_KEY]
            if part != (1, 1):
                document = httpx.get(f"{server.url}/openapi.json").json()
                command += [f"--include-name={name}" for name in share(operations(document), *part)]
            command += [*arguments, *(("--header", f"X-API-Key: {KEY}") if key else ())]
            path = os.pathsep.join(str(Path(entry).resolve()) for entry in sys.path if entry)
            environment = os.environ | {"SCHEMATHESIS_HOOKS": HOOKS, "PYTHONPATH": path}
            return subprocess.run(command, cwd=folder, env=environment, check=False).returncode


def operations(document: dict[str, Any]) -> list[str]:
    """The operations of an OpenAPI document, as schemathesis names them."""
    return [f"{method.upper()} {path}" for path, item in document["paths"].items() for method in item if method in METHODS]


def share(names: list[str], number: int, of: int) -> list[str]:
    """The `number`th of so many shares, from 1: every name is in one of them."""
    return names[number - 1 :: of]


def a_part(text: str) -> tuple[int, int]:
    """`3/8` as numbers; raises ValueError for what is no part."""
    number, of = map(int, text.split("/"))
    if not 1 <= number <= of:
        raise ValueError(text)
    return number, of


def main() -> int:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--examples", type=int, default=1000, help="of each operation, and as many stateful scenarios")
    parser.add_argument("--seconds", type=int, help="at most; schemathesis fills the time where it is given")
    parser.add_argument("--seed", type=int, help="repeats a run; schemathesis prints the one that it drew")
    parser.add_argument("--phases", default="examples,coverage,fuzzing,stateful")
    parser.add_argument("--key", action="store_true", help="run with an operator's key")
    parser.add_argument("--part", type=a_part, default=(1, 1), metavar="I/N", help="a share of the operations alone")
    options = parser.parse_args()
    arguments = ["--max-examples", str(options.examples), "--phases", options.phases, "--continue-on-failure"]
    arguments += ["--max-time", str(options.seconds)] if options.seconds else []
    arguments += ["--seed", str(options.seed)] if options.seed is not None else []
    return run(arguments, key=options.key, part=options.part)


if __name__ == "__main__":
    sys.exit(main())
