"""A backup of a database while its engine is running.

SQLite: the pages are copied in one read transaction (SQLite's backup), into a file of the owner's alone that gets its name only
when all of it is on the disk: what has the name is whole. The copy is a history of its own from here on, so it gets an
`incarnation` of its own: whoever follows a service by positions sees that they have gone back after a restore (HOLE12). Nothing
else differs.

PostgreSQL: pg_dump (custom format), of the very snapshot that the caller reads; its incarnation is the original's.
"""

from __future__ import annotations

import os
import secrets
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from ome.db.history import FAILURES, copy_sqlite
from ome.db.url import DatabaseUrl
from ome.domain.errors import StorageUnusable


def backup_sqlite(database: Path, file: Path) -> None:
    """Copy a database, as of now, to a new file. Raises FileExistsError, or StorageUnusable for what can't be read or written."""
    with _new_file(file) as part:
        copy_sqlite(database, part)
        with closing(sqlite3.connect(part, isolation_level=None)) as copy:
            copy.execute("PRAGMA journal_mode = MEMORY")  # no file beside it; and a crash leaves no file of this name at all
            copy.execute("UPDATE engine SET incarnation = ?", (secrets.token_hex(16),))


def dump_postgres(url: DatabaseUrl, snapshot: str, file: Path) -> None:
    """Write a snapshot that some connection holds open to a new file. Raises FileExistsError, or StorageUnusable: no pg_dump, an
    older one than the server, or what it says.
    """
    program = shutil.which("pg_dump")
    if program is None:
        raise StorageUnusable(
            "Backing up PostgreSQL takes pg_dump, which isn't here. Install the client of the server's version, or use your"
            " server's own backups; ome verify checks a restored one."
        )
    parts = urlsplit(url.target)
    environment = dict(os.environ)
    if parts.password is not None:  # not as an argument, which everybody on the machine can read
        environment["PGPASSWORD"] = unquote(parts.password)
    user, at, place = parts.netloc.rpartition("@")
    address = urlunsplit(parts._replace(netloc=f"{user.partition(':')[0]}{at}{place}"))
    with _new_file(file) as part:
        command = [program, "--format=custom", f"--snapshot={snapshot}", f"--file={part}", f"--dbname={address}"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603  no shell
        if done.returncode:
            raise StorageUnusable(f"pg_dump failed: {done.stderr.strip() or done.returncode}")


@contextmanager
def _new_file(file: Path) -> Iterator[Path]:
    """An empty file beside `file`, mode 0600, that becomes `file` when all that was written to it is on the disk; nothing is ever
    overwritten, and nothing is left of a failure.
    """
    if file.exists():
        raise FileExistsError(f"{file} exists; name a new file.")
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{file.name}.", suffix=".part", dir=file.parent)
    except OSError as error:
        raise StorageUnusable(f"No file can be made in {file.parent}: {error.strerror}.") from error
    os.close(descriptor)
    part = Path(name)
    try:
        yield part
        _flush(part)
        _rename(part, file)
        _flush(file.parent)
    except FAILURES as error:
        raise StorageUnusable(f"{file} can't be written: {error}.") from error
    except FileExistsError:
        raise
    except OSError as error:
        raise StorageUnusable(f"{file} can't be written: {error.strerror}.") from error
    finally:
        part.unlink(missing_ok=True)


def _rename(part: Path, file: Path) -> None:
    """Give `part` its name, unless somebody has taken it meanwhile."""
    try:
        file.hardlink_to(part)
    except FileExistsError:
        raise FileExistsError(f"{file} exists; name a new file.") from None
    except OSError:  # a file system without hard links
        if file.exists():
            raise FileExistsError(f"{file} exists; name a new file.") from None
        part.rename(file)


def _flush(path: Path) -> None:
    """Wait until a file's content, or a folder's names, are on the disk."""
    if path.is_dir() and os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
