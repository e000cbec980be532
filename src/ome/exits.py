"""How a command of `ome` ends where it can't go on: a line on standard error, and an exit status."""

from __future__ import annotations

import sys
from typing import Final, NoReturn

import typer

EXIT_REFUSED: Final = 1
"""Where the service, or the engine, refuses."""
EXIT_USAGE: Final = 2
"""Where a setting or an argument is wrong."""

EXIT_STATUSES: Final = {
    0: "done; `ome serve`: stopped by SIGINT or SIGTERM, and everything taken is durable",
    1: "done, and it isn't as it should be: differences were found, or the service or the engine refuses",
    2: "wrong usage: an argument or a setting is wrong, or nobody answers where a service should be;"
    " `ome serve`: there is no key, and others could reach the address",
    3: "another engine is running on this database",
    4: "another engine has taken over",
    5: "what is stored contradicts itself",
    6: "the database can't be used: address, rights, version, durability",
    69: "the address can't be listened on",
    70: "a bug: the engine stopped rather than guess",
    74: "the disk failed to keep what was written: copy the database before anything else",
    75: "stopped before everything taken was durable: what was not is unknown to whoever sent it",
}
"""Every status that a command leaves with, but for those of signals (128 and the signal's number)."""


def fail(message: str, status: int = EXIT_USAGE) -> NoReturn:
    """Say what is wrong, and leave."""
    sys.stderr.write(f"ome: {message}\n")
    raise typer.Exit(status)
