"""How a command of `ome` ends where it can't go on: a line on standard error, and an exit status."""

from __future__ import annotations

import sys
from typing import Final, NoReturn

import typer

EXIT_REFUSED: Final = 1
"""Where the service, or the engine, refuses."""
EXIT_USAGE: Final = 2
"""Where a setting or an argument is wrong."""


def fail(message: str, status: int = EXIT_USAGE) -> NoReturn:
    """Say what is wrong, and leave."""
    sys.stderr.write(f"ome: {message}\n")
    raise typer.Exit(status)
