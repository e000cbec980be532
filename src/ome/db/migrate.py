"""Bringing a database to this version's schema, at start. Revisions travel in the package (`ome.db.migrations`).

The caller holds the connection, its transaction and whatever keeps others from migrating at the same time; nothing is left
half done. A database that a newer version has migrated is refused.
"""

from __future__ import annotations

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from ome.domain.errors import StorageUnusable


def migrate(connection: Connection) -> None:
    """Apply every revision that is missing. Raises StorageUnusable for a schema that this version doesn't know."""
    config = Config()
    config.set_main_option("script_location", "ome.db:migrations")
    config.attributes["connection"] = connection
    scripts = ScriptDirectory.from_config(config)
    known = {script.revision for script in scripts.walk_revisions()}
    for found in MigrationContext.configure(connection).get_current_heads():
        if found not in known:
            raise StorageUnusable(
                f"The database has schema revision {found}, which this version of OME doesn't know: a newer version has used it."
                " Run that version, or restore a backup from before."
            )
    command.upgrade(config, "head")
