"""The files that venues and vendors sell, read as the rows of a flow: LOBSTER messages, NASDAQ ITCH 5.0 and Databento MBO.

Each module reads one format: `named` is what a file says about itself without being read through, `read` its rows. What a
source says in its own way becomes an `Op`; what it does not say and a price-time engine needs is inferred, and the module says
how. Nothing is compared but what the flow itself tells: an EXECUTE must hit the order that it names.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from enum import StrEnum
from pathlib import Path

from ome.replay.driver import Market
from ome.replay.errors import FlowError
from ome.replay.flow import Row, flow_name, read_rows
from ome.replay.formats import itch, lobster
from ome.replay.formats.source import Named

__all__ = ["FlowFormat", "Named", "format_of", "named", "read"]


class FlowFormat(StrEnum):
    """A format that order flow comes in."""

    CSV = "csv"
    """The project's own: `ome.replay.flow`."""
    LOBSTER = "lobster"
    ITCH = "itch"
    DBN = "dbn"


def format_of(path: Path) -> FlowFormat:
    """The format that a file's name speaks of. FlowError where it speaks of none."""
    name = path.name.lower()
    if name.endswith((".dbn", ".dbn.zst")):
        return FlowFormat.DBN
    if "itch" in name or itch.DAY_FILE.search(name):
        return FlowFormat.ITCH
    if "_message_" in name:
        return FlowFormat.LOBSTER
    if name.endswith((".csv", ".csv.gz")):
        return FlowFormat.CSV
    raise FlowError(f"{path.name} has a name of no known format; say which it is: {', '.join(FlowFormat)}")


def named(path: Path, form: FlowFormat) -> Named:
    """The symbol and the day that a file is of, as far as its name or its first bytes say. FlowError if it can't be read."""
    match form:
        case FlowFormat.CSV:
            return Named(flow_name(path).partition(".")[0], None)
        case FlowFormat.LOBSTER:
            return lobster.named(path)
        case FlowFormat.ITCH:
            return itch.named(path)
        case FlowFormat.DBN:
            from ome.replay.formats import dbn  # noqa: PLC0415  needs a library that is installed only for it

            return dbn.named(path)


def read(path: Path, form: FlowFormat, market: Market, day: date | None) -> Iterator[Row]:
    """The rows of a file, in the market's ticks and lots, one at a time.

    `day` is the trading day in New York, where the file counts its time from midnight there. FlowError where the file is not in
    its format, where its day is missing, and for a price or quantity between two ticks or lots.
    """
    match form:
        case FlowFormat.CSV:
            return read_rows(path)
        case FlowFormat.LOBSTER:
            return lobster.read(path, market, day)
        case FlowFormat.ITCH:
            return itch.read(path, market, day)
        case FlowFormat.DBN:
            from ome.replay.formats import dbn  # noqa: PLC0415  likewise

            return dbn.read(path, market)
