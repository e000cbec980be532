"""Bringing a database to this version's schema, at start. Revisions travel in the package (`ome.db.migrations`).

The caller holds the connection, its transaction and whatever keeps others from migrating at the same time; nothing is left
half done. A database that a newer version has migrated is refused.

Alembic is imported where there is something to migrate and nowhere else: loading it, and a module for each revision, takes longer
than all the rest of starting on a database that is up to date. Which revisions there are, the names of their modules say: the
module `v0001_first` is revision 0001, and each follows the one before. A test compares them with what alembic finds.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Collection
from typing import Final

from sqlalchemy import Connection

from ome.db.migrations import versions
from ome.domain.errors import StorageUnusable

REVISIONS: Final = tuple(sorted(each.name[1:].partition("_")[0] for each in pkgutil.iter_modules(versions.__path__)))
"""Those that travel in the package, oldest first."""
FOUND: Final = "SELECT version_num FROM alembic_version"
"""What a database says of itself; one that was never migrated has no such table."""


def migrate(connection: Connection) -> None:
    """Apply every revision that is missing. Raises StorageUnusable for a schema that this version doesn't know."""
    from alembic import command  # noqa: PLC0415  see the module
    from alembic.config import Config  # noqa: PLC0415
    from alembic.runtime.migration import MigrationContext  # noqa: PLC0415

    if not is_newest(MigrationContext.configure(connection).get_current_heads()):
        config = Config()
        config.set_main_option("script_location", "ome.db:migrations")
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def is_newest(found: Collection[str]) -> bool:
    """Whether the revisions found in a database are this version's newest, so that `migrate` would change nothing.

    Raises StorageUnusable for a revision that this version doesn't know.
    """
    for revision in found:
        if revision not in REVISIONS:
            raise StorageUnusable(
                f"The database has schema revision {revision}, which this version of OME doesn't know:"
                " a newer version has used it. Run that version, or restore a backup from before."
            )
    return set(found) == {REVISIONS[-1]}


def check_revision(found: Collection[str]) -> None:
    """Raises StorageUnusable where the revisions found in a database aren't this version's newest."""
    if not is_newest(found):
        raise StorageUnusable(
            f"The database has schema revision {', '.join(found) or 'none'}, this version of OME reads {REVISIONS[-1]}."
            " Bring it up to date first: ome migrate."
        )
