"""`ome backup`: a backup of a database while its engine is running, and whether it is good."""

from __future__ import annotations

import time
from pathlib import Path

from ome.db.backup import backup_sqlite, dump_postgres
from ome.db.history import open_snapshot
from ome.db.url import parse_url
from ome.verification.report import Report
from ome.verification.verifier import Progress, verify, verify_history


def backup(database_url: str, file: Path, *, is_verified: bool = True, progress: Progress | None = None) -> Report | None:
    """Back a database up to a new file and verify what was written: the report on it, None where it wasn't wanted.

    On SQLite the copy itself is verified; on PostgreSQL the snapshot that the dump was made of. Raises FileExistsError, and
    StorageUnusable for what can't be read or written. A backup with differences stays: it may be the best there is.
    """
    url = parse_url(database_url)
    if url.kind == "sqlite":
        backup_sqlite(Path(url.target), file)
        return verify(f"sqlite:///{file.absolute()}", in_place=True, progress=progress) if is_verified else None
    started = time.perf_counter()
    with open_snapshot(url) as history:
        dump_postgres(url, history.exported(), file)
        return verify_history(history, url.shown, started, progress) if is_verified else None
