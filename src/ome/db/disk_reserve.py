"""Space kept back on the disk of an SQLite database, so that what reduces risk can still be committed when everything else can't.

Two bounds. Below `low_bytes` of free space no new orders are taken. And a ballast file beside the database, `<file>.reserve`,
really allocated, holds `ballast_bytes` more: it is given back when a commit finds the disk full all the same, because somebody
else filled it. Once there is space for both again, the ballast is made anew and orders are taken. 0 switches either off.

Used by one thread at a time.
"""

from __future__ import annotations

import logging
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Final

_HYSTERESIS: Final = 8
"""An eighth of `low_bytes` more must be free before orders are taken again, so that the state doesn't flicker."""

_log = logging.getLogger(__name__)


class DiskReserve:
    """The free space around one database file; `is_low` as `look` last found it."""

    def __init__(self, database: Path, *, ballast_bytes: int, low_bytes: int) -> None:
        self._folder = database.resolve().parent
        self._ballast = Path(f"{database.resolve()}.reserve")
        self._ballast_bytes = ballast_bytes
        self._low_bytes = low_bytes
        self._is_refused = False
        self.is_low = False

    def look(self) -> int:
        """Look how much is free, in bytes; make the ballast where it is missing and there is room for it and more."""
        free = self._free()
        missing = 0 if self._ballast_is_whole() else self._ballast_bytes
        needed = self._low_bytes + (self._low_bytes // _HYSTERESIS if self.is_low else 0)
        if missing and free >= needed + missing:
            self._make()
            free, missing = self._free(), 0
        self.is_low = free < needed or (self.is_low and missing > 0)
        return free

    def give_back(self) -> bool:
        """Free the ballast, for a commit that found the disk full; whether there was one."""
        self.is_low = True
        try:
            self._ballast.unlink()
        except FileNotFoundError:
            return False
        _log.warning("the disk is full; gave %d bytes back to it for cancels", self._ballast_bytes)
        return True

    def _free(self) -> int:
        return shutil.disk_usage(self._folder).free

    def _ballast_is_whole(self) -> bool:
        if not self._ballast_bytes:
            return True
        try:
            return self._ballast.stat().st_size >= self._ballast_bytes
        except FileNotFoundError:
            return False

    def _make(self) -> None:
        """Allocate the ballast, all of it or none."""
        try:
            descriptor = os.open(self._ballast, os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                _allocate(descriptor, self._ballast_bytes)
            finally:
                os.close(descriptor)
        except OSError as error:
            if not self._is_refused:
                _log.warning("no reserve of %d bytes can be kept beside the database: %s", self._ballast_bytes, error.strerror)
            self._is_refused = True
            with suppress(OSError):
                self._ballast.unlink()
        else:
            self._is_refused = False


def _allocate(descriptor: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:
        os.write(descriptor, bytes(size))
