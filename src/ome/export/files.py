"""The forms of a file: CSV and Parquet. Both take rows one by one and hold no more than a few thousand of them.

CSV (RFC 4180, UTF-8, a line of names first): decimals in plain digits, times RFC 3339 in UTC with microseconds, booleans true and
false, nothing where there is nothing. Parquet: decimal128(38, 9), timestamp[us, UTC], int64, bool and string, compressed by zstd.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from decimal import Decimal
from typing import Any, BinaryIO, Final, Protocol

from ome.domain.clock import format_time
from ome.domain.numbers import MAX_DECIMALS, format_number, value_of
from ome.export.tables import Columns, Kind, Row

ROWS_AT_ONCE: Final = 10_000
"""Rows of a row group, or of a piece of CSV: some megabytes."""
MAX_PRECISION: Final = 38


class Missing(Exception):
    """A library isn't there; the message says how to get it."""


class Writer(Protocol):
    """A file in the making."""

    def write(self, row: Row) -> None:
        """Take a row."""

    def close(self) -> None:
        """Write what is left; the file itself stays open."""


class CsvWriter:
    """See the module."""

    def __init__(self, file: BinaryIO, columns: Columns) -> None:
        self._file = file
        self._shown = [(place, _CSV[kind]) for place, kind in enumerate(columns.values()) if kind in _CSV]
        self._rows: list[list[Any]] = [list(columns)]

    def write(self, row: Row) -> None:
        """See `Writer`."""
        values = list(row)
        for place, shown in self._shown:
            if values[place] is not None:
                values[place] = shown(values[place])
        self._rows.append(values)
        if len(self._rows) >= ROWS_AT_ONCE:
            self._flush()

    def close(self) -> None:
        """See `Writer`."""
        self._flush()

    def _flush(self) -> None:
        text = io.StringIO(newline="")
        csv.writer(text).writerows(self._rows)
        self._file.write(text.getvalue().encode())
        self._rows = []


_CSV: Final[dict[Kind, Callable[[Any], str]]] = {
    Kind.NUMBER: format_number,
    Kind.TIME: format_time,
    Kind.BOOLEAN: lambda value: "true" if value else "false",
}


class ParquetWriter:
    """See the module. Raises Missing without pyarrow."""

    def __init__(self, file: BinaryIO, columns: Columns) -> None:
        try:
            import pyarrow as pa  # noqa: PLC0415  an extra
            from pyarrow import parquet  # noqa: PLC0415  likewise
        except ImportError as error:
            raise Missing("Parquet needs pyarrow: pip install 'ome[parquet]', or use --format csv.") from error
        types: dict[Kind, pa.DataType] = {
            Kind.TEXT: pa.string(),
            Kind.INTEGER: pa.int64(),
            Kind.BOOLEAN: pa.bool_(),
            Kind.NUMBER: pa.decimal128(MAX_PRECISION, MAX_DECIMALS),
            Kind.DECIMAL: pa.decimal128(MAX_PRECISION, MAX_DECIMALS),
            Kind.TIME: pa.timestamp("us", tz="UTC"),
        }
        self._pa = pa
        self._schema = pa.schema([(name, types[kind]) for name, kind in columns.items()])
        self._made = [_PARQUET.get(kind) for kind in columns.values()]
        self._writer = parquet.ParquetWriter(file, self._schema, compression="zstd")
        self._rows: list[Row] = []

    def write(self, row: Row) -> None:
        """See `Writer`."""
        self._rows.append(row)
        if len(self._rows) >= ROWS_AT_ONCE:
            self._flush()

    def close(self) -> None:
        """See `Writer`."""
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if not self._rows:
            return
        arrays = []
        for field, made, values in zip(self._schema, self._made, zip(*self._rows, strict=True), strict=True):
            shown = values if made is None else [None if value is None else made(value) for value in values]
            arrays.append(self._pa.array(shown, type=field.type))
        self._writer.write_table(self._pa.Table.from_arrays(arrays, schema=self._schema))
        self._rows = []


_PARQUET: Final[dict[Kind, Callable[[Any], Any]]] = {Kind.NUMBER: value_of, Kind.DECIMAL: Decimal}
FORMS: Final[dict[str, Callable[[BinaryIO, Columns], Writer]]] = {"csv": CsvWriter, "parquet": ParquetWriter}
