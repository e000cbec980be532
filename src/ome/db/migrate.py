"""Bringing a database to this version's schema, at start. Revisions travel in the package (`ome.db.migrations`).

The caller holds the connection, its transaction and whatever keeps others from migrating at the same time; nothing is left
half done. A database that a newer version has migrated is refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from ome.domain.errors import StorageUnusable


def migrate(connection: Connection) -> None:
    """Apply every revision that is missing. Raises StorageUnusable for a schema that this version doesn't know."""
    found = MigrationContext.configure(connection).get_current_heads()
    _check_known(found)
    if set(found) != set(_revisions().get_heads()):
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def check_revision(found: Iterable[str]) -> None:
    """Raises StorageUnusable where the revisions found in a database aren't this version's newest."""
    found = tuple(found)
    _check_known(found)
    newest = _revisions().get_heads()
    if set(found) != set(newest):
        raise StorageUnusable(
            f"The database has schema revision {', '.join(found) or 'none'}, this version of OME reads {', '.join(newest)}."
            " Bring it up to date first: ome migrate."
        )


def _check_known(found: Iterable[str]) -> None:
    known = {script.revision for script in _revisions().walk_revisions()}
    for revision in found:
        if revision not in known:
            raise StorageUnusable(
                f"The database has schema revision {revision}, which this version of OME doesn't know:"
                " a newer version has used it. Run that version, or restore a backup from before."
            )


@cache
def _revisions() -> ScriptDirectory:
    """Those of this version: each is a module that has to be loaded, which takes longer than asking a database for its own."""
    return ScriptDirectory.from_config(_config())


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", "ome.db:migrations")
    return config
